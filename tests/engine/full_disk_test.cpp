// SPDX-License-Identifier: BSL-1.0
// What a store does on a full disk: what frees space goes on, out of the reserve, and writes resume by themselves.
#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "stores.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace full_disk_test {

namespace {

/// The same kind as in load_test.cpp.
using store_type =
    keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>, keel::compaction::leveled<64 * keel::KiB, 2>>;

std::string key_of(std::uint64_t i) { return "key" + std::to_string(10'000 + i); }
std::string value_of(std::uint64_t i) { return std::to_string(i) + std::string(400, 'v'); }

keel::io::memory small_disk(std::uint64_t bytes) {
    keel::io::memory disk;
    disk.set_versions_max(1);
    disk.set_capacity(bytes);
    return disk;
}
/// Puts of keys in turn, of so many, until one is refused; what is there then. Without a thread nothing is merged meanwhile.
struct filled {
    std::map<std::string, std::string> content{};
    std::uint64_t puts = 0;
    keel::error why{};
};
filled fill(store_type& db, std::uint64_t keys) {
    filled out;
    for (; out.puts < 100'000; ++out.puts) {
        auto const key = key_of(out.puts % keys);
        auto const done = db.put(key, value_of(out.puts));
        if (!done) {
            out.why = done.error();
            return out;
        }
        out.content[key] = value_of(out.puts);
    }
    FAIL("the disk was never full");
    return out;
}
void check_content(store_type& db, std::map<std::string, std::string> const& expected) {
    std::map<std::string, std::string> found;
    auto all = db.scan();
    for (auto&& [key, value] : all) found.emplace(key, value);
    CHECK(all.status());
    CHECK(found == expected);
}

} // namespace

TEST_CASE("full disk: what was overwritten is merged away out of the reserve, and writes resume by themselves") {
    for (std::uint64_t const size : {1 * keel::MiB, 3 * keel::MiB}) {
        CAPTURE(size);
        auto disk = small_disk(size);
        auto db = store_type::open("db", model::test_options(), disk);
        REQUIRE(db);
        auto there = fill(*db, 200);
        CHECK(there.why.code == keel::errc::no_space);
        CHECK(db->state() == keel::engine_state::read_only);
        check_content(*db, there.content);
        for (int i = 0; i < 400 && db->state() == keel::engine_state::read_only; ++i) db->housekeep(false);
        CHECK(db->state_reason() == "");
        REQUIRE(db->put("more", "of it"));
        there.content["more"] = "of it";
        check_content(*db, there.content);
        for (int i = 0; i < 100; ++i) db->housekeep(false);
        CHECK(db->storage().log_bytes < size / 2);
        REQUIRE(db->close());
        auto again = store_type::open("db", model::test_options(), disk);
        REQUIRE(again);
        CHECK(again->recovery().findings.empty());
        check_content(*again, there.content);
    }
}

TEST_CASE("full disk: compact() and resume() free space, each alone, also after reopening") {
    for (bool const reopened : {false, true})
        for (bool const compacts : {false, true}) {
            CAPTURE(reopened);
            CAPTURE(compacts);
            auto disk = small_disk(2 * keel::MiB);
            auto db = store_type::open("db", model::test_options(), disk);
            REQUIRE(db);
            auto const there = fill(*db, 200);
            if (reopened) {
                db->abandon();
                db = store_type::open("db", model::test_options(), disk);
                REQUIRE(db);
                if (auto done = db->put("key10000", there.content.at("key10000")); !done)
                    CHECK(done.error().code == keel::errc::no_space);
            }
            if (compacts) REQUIRE(db->compact());
            REQUIRE(db->resume());
            CHECK(db->put("key10000", there.content.at("key10000")));
            check_content(*db, there.content);
        }
}

TEST_CASE("full disk: of live data only erasing frees some, and it is taken when puts are not") {
    auto disk = small_disk(3 * keel::MiB);
    auto db = store_type::open("db", model::test_options(), disk);
    REQUIRE(db);
    auto there = fill(*db, 100'000);
    for (int i = 0; i < 400; ++i) db->housekeep(false); // the log's tables take nearly as much
    for (int i = 0; i < 20; ++i) {
        auto more = fill(*db, 100'000);
        for (auto& [key, value] : more.content) there.content[key] = value;
        for (int k = 0; k < 400; ++k) db->housekeep(false);
        if (db->state() == keel::engine_state::read_only) break;
    }
    REQUIRE(db->state() == keel::engine_state::read_only);
    check_content(*db, there.content);
    // A put is refused, and one beside an erasure, too.
    keel::write_batch both;
    both.erase("key10000");
    both.put("other", "value");
    auto const refused = db->write(both);
    REQUIRE(!refused);
    CHECK(refused.error().code == keel::errc::no_space);
    for (std::uint64_t i = 0; i < 1500; ++i) {
        auto const gone = db->erase(key_of(i));
        REQUIRE(gone);
        there.content.erase(key_of(i));
        if (i == 0) {
            CHECK(db->state() == keel::engine_state::degraded);
            CHECK(db->state_reason().find("erases") != std::string::npos);
            auto const put = db->put("other", "value");
            REQUIRE(!put);
            CHECK(put.error().code == keel::errc::no_space);
            auto const ingested = db->ingest(std::map<std::string, std::string>{{"other", "value"}});
            REQUIRE(!ingested);
            CHECK(ingested.error().code == keel::errc::no_space);
        }
    }
    check_content(*db, there.content);
    for (int i = 0; i < 400 && !db->state_reason().empty(); ++i) db->housekeep(false);
    CHECK(db->state_reason() == "");
    REQUIRE(db->put("other", "value"));
    there.content["other"] = "value";
    check_content(*db, there.content);
    REQUIRE(db->close());
    auto again = store_type::open("db", model::test_options(), disk);
    REQUIRE(again);
    CHECK(again->recovery().findings.empty());
    check_content(*again, there.content);
}

TEST_CASE("full disk: killed while it gets out of it, nothing is lost") {
    for (int steps = 0; steps < 60; steps += 3) {
        CAPTURE(steps);
        auto disk = small_disk(1 * keel::MiB);
        auto db = store_type::open("db", model::test_options(), disk);
        REQUIRE(db);
        auto const there = fill(*db, 200);
        for (int i = 0; i < steps; ++i) db->housekeep(false);
        db->abandon();
        auto again = store_type::open("db", model::test_options(), disk);
        REQUIRE(again);
        CHECK(again->recovery().findings.empty());
        check_content(*again, there.content);
        for (int i = 0; i < 400 && db->state() == keel::engine_state::read_only; ++i) again->housekeep(false);
        check_content(*again, there.content);
    }
}

TEST_CASE("full disk: room that another program gives back is taken up without a word, however little was free") {
    auto disk = small_disk(16 * keel::MiB);
    auto db = store_type::open("db", model::test_options(), disk);
    REQUIRE(db);
    auto there = fill(*db, 200); // the log is far ahead of the tables
    for (int i = 0; i < 2000 && db->state() == keel::engine_state::read_only; ++i) db->housekeep(false);
    REQUIRE(db->put("a", "b"));
    there.content["a"] = "b";
    check_content(*db, there.content);
}

} // namespace full_disk_test
