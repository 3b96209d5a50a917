// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <support/sum8.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

using namespace keel;
using namespace keel::tests;

namespace {

/// A manifest or segment header changed by `how` and sealed anew where `sealed` says so.
template <class F>
void edit_header(io::memory& disk, std::string const& file, bool sealed, F how) {
    auto bytes = disk.contents(file);
    REQUIRE(bytes.has_value());
    auto const head = byte_span{*bytes}.first(format::header_bytes);
    how(head.data());
    if (sealed) format::store(head.data() + 504, checksum::over<checksum::crc32c>(byte_view{head}.first(504)));
    REQUIRE(disk.replace(file, *bytes));
}

void check_fields(json const& o) {
    for (auto const* name : {"segments", "records", "corrupted_segments", "corrupted_records", "torn_tail_bytes",
                             "first_lsn", "last_lsn"}) {
        CAPTURE(name);
        REQUIRE(o.contains(name));
        CHECK(o[name].is_number_unsigned());
    }
    CHECK(o.at("status").is_string());
    REQUIRE(o.at("findings").is_array());
    for (auto const& f : o["findings"]) {
        for (auto const* name : {"file", "kind", "detail"}) CHECK(f.at(name).is_string());
        for (auto const* name : {"offset", "length", "lsn"}) CHECK(f.at(name).is_number_unsigned());
    }
}

} // namespace

TEST_CASE("validate: a healthy store of every shipped checksum gives 0, without being told which") {
    for (auto const& name : shipped_checksums) {
        CAPTURE(name);
        auto const store = make_store(name);
        auto const before = store.disk.after_process_crash();
        auto const a = wal_recovery(store.disk, {"validate", "--json"});
        CHECK(a.code == 0);
        CHECK(a.err.empty());
        auto const o = a.object();
        check_fields(o);
        CHECK(o["status"] == "healthy");
        CHECK(o["checksum"] == name);
        CHECK(o["records"] == 400);
        CHECK(o["segments"].get<int>() > 2);
        CHECK(o["first_lsn"] == 1);
        CHECK(o["last_lsn"] == 400);
        CHECK(o["findings"].empty());
        CHECK(store.disk.equal(before));
    }
}

TEST_CASE("validate: a flipped bit in an acknowledged record gives 1 and the record's file, offset and LSN") {
    for (auto const& name : shipped_checksums) {
        CAPTURE(name);
        auto store = make_store(name);
        auto const at = damage_record(store, 233);
        auto const a = wal_recovery(store.disk, {"validate", "--json"});
        CHECK(a.code == 1);
        auto const o = a.object();
        check_fields(o);
        CHECK(o["status"] == "damaged");
        CHECK(o["corrupted_records"] == 1);
        CHECK(o["corrupted_segments"] == 1);
        REQUIRE(o["findings"].size() == 1);
        auto const& f = o["findings"][0];
        CHECK(f["file"] == at.file);
        CHECK(f["offset"] == at.frame);
        CHECK(f["lsn"] == 234);
        CHECK(f["kind"] == "corrupt_record");
        CHECK(f["length"].get<std::uint64_t>() >= format::frame_header_bytes + store.records[233].value.size());
    }
}

TEST_CASE("validate: a torn tail is counted and is no damage") {
    for (auto const& name : shipped_checksums) {
        CAPTURE(name);
        auto store = make_store_and_die(name, 30);
        // Behind the last frame stands the beginning of another one that never became whole.
        auto const last = find_value(store, 29);
        auto const bytes = store.disk.contents("db/" + last.file);
        REQUIRE(bytes.has_value());
        auto const& [key, value] = store.records[29];
        auto const end = last.frame + format::frame_bytes(key.size() + value.size());
        REQUIRE(store.disk.corrupt("db/" + last.file, end, byte_view{*bytes}.subspan(last.frame, 24)));
        auto const a = wal_recovery(store.disk, {"validate", "--json"});
        CHECK(a.code == 0);
        auto const o = a.object();
        check_fields(o);
        CHECK(o["status"] == "healthy");
        CHECK(o["records"] == 30);
        CHECK(o["torn_tail_bytes"].get<std::uint64_t>() >= 24);
        REQUIRE(o["findings"].size() == 1);
        CHECK(o["findings"][0]["kind"] == "torn_tail");
        CHECK(o["findings"][0]["offset"] == end);
        CHECK(wal_recovery(store.disk, {"validate"}).out.find("~") != std::string::npos);
    }
}

TEST_CASE("validate: a folder without a store, or one of other files, is unreadable and gives 2") {
    io::memory empty;
    CHECK(wal_recovery(empty, {"validate"}).code == 2);
    CHECK(wal_recovery(empty, {"validate"}).err.find("not_found") != std::string::npos);
    REQUIRE(empty.make_directory("db"));
    CHECK(wal_recovery(empty, {"validate", "--json"}).object()["error"]["code"] == "not_found");
    check_fields(wal_recovery(empty, {"validate", "--json"}).object());
    REQUIRE(empty.replace("db/letter.txt", as_bytes("dear")));
    auto const a = wal_recovery(empty, {"repair", "--strategy", "skip", "--json"});
    CHECK(a.code == 2);
    CHECK(a.object()["error"]["code"] == "not_a_store");
    CHECK(empty.files() == std::vector<std::string>{"db/letter.txt"});
}

TEST_CASE("validate: a copy without a lock file is read, and none is made") {
    auto store = make_store("crc32c", 50);
    REQUIRE(store.disk.remove("db/lock"));
    auto const before = store.disk.files();
    for (auto const* word : {"validate", "inspect", "dump"}) CHECK(wal_recovery(store.disk, {word}).code == 0);
    CHECK(store.disk.files() == before);
}

TEST_CASE("validate: another format gives 2 and a message that names both") {
    for (bool const sealed : {true, false}) {
        CAPTURE(sealed);
        auto store = make_store("crc32c", 50);
        for (auto const* file : {"db/manifest.0", "db/manifest.1"})
            edit_header(store.disk, file, sealed, [](std::byte* at) { format::store(at + 8, std::uint32_t{7}); });
        if (!sealed)
            for (auto const& file : store.disk.files())
                if (file.starts_with("db/log/")) {
                    auto bytes = *store.disk.contents(file);
                    format::store(bytes.data() + 8, std::uint32_t{7});
                    format::store(bytes.data() + bytes.size() - 504, std::uint32_t{7});
                    REQUIRE(store.disk.replace(file, bytes));
                }
        for (auto const& words :
             {std::vector<std::string>{"validate", "--json"}, {"repair", "--strategy", "skip", "--json"}}) {
            auto const before = store.disk.after_process_crash();
            auto const a = wal_recovery(store.disk, words);
            CHECK(a.code == 2);
            auto const why = a.object()["error"];
            CHECK(why["code"] == "wrong_format");
            CHECK(why["message"].get<std::string>().find("format 7") != std::string::npos);
            CHECK(why["message"].get<std::string>().find("format 1") != std::string::npos);
            CHECK(store.disk.equal(before));
        }
    }
}

TEST_CASE("validate: a checksum nobody here knows gives 2 and names it") {
    using config = keel::config<test::sum8, io::memory, segment_size<32 * KiB>>;
    io::memory disk;
    {
        auto log = basic_log<config>::open("db", {.background_thread = false}, disk);
        REQUIRE(log.has_value());
        REQUIRE(log->append("a").has_value());
        REQUIRE(log->close().has_value());
    }
    auto const a = wal_recovery(disk, {"validate", "--json"});
    CHECK(a.code == 2);
    CHECK(a.object()["error"]["code"] == "wrong_policy");
    CHECK(a.object()["error"]["message"].get<std::string>().find(tool::detail::letters_of(test::sum8::id)) !=
          std::string::npos);

    // A tool that was built for that engine knows it, and everything that is shipped beside.
    CHECK(*tool::detail::checksum_search<config>{disk, "db"}.run() == 0);
    CHECK(tool::detail::known_checksums<config>::names[0] == test::sum8::name);
    auto shipped = make_store("xxh3_64", 10);
    auto const found = tool::detail::checksum_search<config>{shipped.disk, "db"}.run();
    REQUIRE(found.has_value());
    CHECK(tool::detail::known_checksums<config>::names[*found] == "xxh3_64");
}

TEST_CASE("validate: damaged headers do not mislead the search for the checksum") {
    auto const lie = [](std::byte* at) { format::store(at + 12, checksum_id::of("xxh3").value); };
    auto store = make_store("crc32c");
    edit_header(store.disk, "db/manifest.0", false, lie);
    auto a = wal_recovery(store.disk, {"validate", "--json"});
    CHECK(a.code == 1);
    CHECK(a.object()["checksum"] == "crc32c");
    CHECK(a.object()["findings"][0]["kind"] == "manifest_damaged");
    CHECK(a.object()["lost_records"] == 0);

    edit_header(store.disk, "db/manifest.1", false, lie);
    a = wal_recovery(store.disk, {"validate", "--json"});
    CHECK(a.code == 1);
    CHECK(a.object()["checksum"] == "crc32c");
    CHECK(a.object()["records"] == 400);
}

TEST_CASE("validate: where not one header is left the frames themselves tell the checksum") {
    for (auto const& name : shipped_checksums) {
        CAPTURE(name);
        auto store = make_store(name);
        for (auto const& file : store.disk.files()) {
            if (file.starts_with("db/manifest")) REQUIRE(store.disk.corrupt(file, 100, std::byte{1}));
            if (!file.starts_with("db/log/")) continue;
            auto const size = store.disk.contents(file)->size();
            for (auto const at : {std::size_t{100}, size - 400}) REQUIRE(store.disk.corrupt(file, at, std::byte{1}));
        }
        auto const a = wal_recovery(store.disk, {"validate", "--json"});
        CHECK(a.code == 1);
        CHECK(a.object()["checksum"] == name);
        CHECK(a.object()["records"] == 400);
    }
}

TEST_CASE("validate: the map marks damage, in colour where the terminal has it") {
    auto store = make_store("crc32c");
    auto const at = damage_record(store, 233);
    auto const plain = wal_recovery(store.disk, {"validate"});
    CHECK(plain.code == 1);
    CHECK(plain.out.find('\x1b') == std::string::npos);
    auto const name = at.file.substr(4);
    auto const rows = lines(plain.out);
    auto const row = std::ranges::find_if(rows, [&](auto const& l) { return l.starts_with("  " + name); });
    REQUIRE(row != rows.end());
    auto const picture = row->substr(2 + name.size() + 2, 32);
    CHECK(std::ranges::count(picture, 'X') == 1);
    CHECK(picture.find('X') == at.frame / 512);
    CHECK(picture[0] == 'h');
    CHECK(plain.out.find("wal-recovery repair --data-dir db") != std::string::npos);

    auto const colourful = wal_recovery(store.disk, {"validate"}, {.colour = true});
    CHECK(colourful.out.find("\x1b[1;31mX\x1b[0m") != std::string::npos);
    CHECK(colourful.out.find("\x1b[1;31mDAMAGED") != std::string::npos);
}

TEST_CASE("validate: a long list of findings is cut in text and whole in JSON") {
    auto store = make_store("crc32c");
    for (std::size_t i = 100; i < 225; ++i)
        if (i % 10 != 0 && i % 2 == 0) damage_record(store, i); // not those of a batch, which is lost as a whole
    auto const a = wal_recovery(store.disk, {"validate", "--json"});
    CHECK(a.object()["findings"].size() == 50);
    auto const text = wal_recovery(store.disk, {"validate"});
    CHECK(text.out.find("and 10 more: --json has them all") != std::string::npos);
}

TEST_CASE("wrong usage gives 2, a request for help 0") {
    io::memory disk;
    auto const code = [&](std::vector<std::string> words) {
        std::ostringstream out;
        std::ostringstream err;
        auto const c = wal_recovery_into(out, err, disk, words);
        if (c == 0) CHECK(!out.str().empty());
        else CHECK(!err.str().empty());
        return c;
    };
    CHECK(code({}) == 2);
    CHECK(code({"frobnicate"}) == 2);
    CHECK(code({"validate"}) == 2);
    CHECK(code({"validate", "--data-dir"}) == 2);
    CHECK(code({"repair", "--data-dir", "db"}) == 2);
    CHECK(code({"repair", "--data-dir", "db", "--strategy", "pray"}) == 2);
    CHECK(code({"repair", "--data-dir", "db", "--undo", "--strategy", "skip"}) == 2);
    CHECK(code({"dump", "--data-dir", "db", "--from-lsn", "x"}) == 2);
    CHECK(code({"--help"}) == 0);
    CHECK(code({"--version"}) == 0);
    for (auto const* word : {"validate", "repair", "undo", "inspect", "dump", "accept-loss"})
        CHECK(code({word, "--help"}) == 0);
}
