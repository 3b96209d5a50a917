// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>

#include <ostream>
#include <sstream>
#include <string>
#include <vector>

using namespace keel;
using namespace keel::tests;

TEST_CASE("dump: the text parses back to what was put, in LSN order, for every shipped checksum") {
    for (auto const& name : shipped_checksums) {
        CAPTURE(name);
        auto const store = make_store(name);
        auto const a = wal_recovery(store.disk, {"dump"});
        CHECK(a.code == 0);
        CHECK(a.err.empty());
        auto const text = lines(a.out);
        REQUIRE(text.size() == store.records.size());
        for (std::size_t i = 0; i < text.size(); ++i) {
            auto const r = format::parse(text[i]);
            REQUIRE(r.has_value());
            CHECK(r->at == lsn{i + 1});
            CHECK(r->type == format::frame_type::put);
            CHECK(put_record{r->key, r->value} == store.records[i]);
            bool const batch = i % 10 < 2;
            CHECK(r->flags == (batch ? i % 10 == 0 ? format::begins_batch : format::ends_batch : format::whole_batch));
        }
    }
}

TEST_CASE("dump: JSON has text where the bytes are UTF-8 and hexadecimal digits where they are not") {
    auto const store = make_store("crc32c", 20);
    auto const a = wal_recovery(store.disk, {"dump", "--json"});
    CHECK(a.code == 0);
    auto const text = lines(a.out);
    REQUIRE(text.size() == 20);
    auto const first = json::parse(text[0]);
    CHECK(first["lsn"] == 1);
    CHECK(first["type"] == "put");
    CHECK(first["key"] == "key0");
    CHECK(first["value"] == store.records[0].value);
    CHECK(first["begins_batch"] == true);
    CHECK(first["ends_batch"] == false);
    auto const second = json::parse(text[1]);
    CHECK(second["key"] == "batch\n1");
    CHECK_FALSE(second.contains("value"));
    CHECK(second["value_hex"] == "ff00225c31");
}

TEST_CASE("dump: begins where it is told to") {
    auto const store = make_store("crc32c");
    auto const from = [&](std::string const& n) {
        return lines(wal_recovery(store.disk, {"dump", "--from-lsn", n}).out);
    };
    REQUIRE(from("251").size() == 150);
    CHECK(from("251")[0].starts_with("251 "));
    CHECK(from("0").size() == 400);
    CHECK(from("400").size() == 1);
    CHECK(from("401").empty());
    CHECK(from("18446744073709551615").empty());
}

TEST_CASE("dump: what does not verify is not in it, and the exit code and a message say so") {
    auto store = make_store("crc32c");
    damage_record(store, 233);
    auto const a = wal_recovery(store.disk, {"dump"});
    CHECK(a.code == 1);
    CHECK(a.err.find("LSN 234") != std::string::npos);
    auto const text = lines(a.out);
    CHECK(text.size() == 399);
    for (auto const& line : text) {
        auto const r = format::parse(line);
        REQUIRE(r.has_value());
        CHECK(r->at != lsn{234});
        CHECK(put_record{r->key, r->value} == store.records[r->at.value - 1]);
    }
}

TEST_CASE("dump: output that cannot be written gives 2") {
    auto const store = make_store("crc32c", 20);
    std::ostream nowhere{nullptr};
    std::ostringstream err;
    CHECK(wal_recovery_into(nowhere, err, store.disk, {"dump", "--data-dir", "db"}) == 2);
    CHECK(err.str().find("could not be written") != std::string::npos);
}

TEST_CASE("text is UTF-8 without overlong forms, surrogates and what is past the last character") {
    using keel::tool::detail::is_utf8;
    for (auto const* good :
         {"", "a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"})
        CHECK(is_utf8(good));
    for (auto const* bad : {"\x80", "\xc3", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                            "\xf4\x90\x80\x80", "\xff", "a\xc3z"})
        CHECK_FALSE(is_utf8(bad));
}
