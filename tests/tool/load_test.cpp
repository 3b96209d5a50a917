// SPDX-License-Identifier: BSL-1.0
// What dump prints becomes a store again, whatever the first one has suffered.
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

using namespace keel;
using namespace keel::tests;

// One namespace a file: all of a folder's tests are one translation unit.
namespace load_test {
namespace {

/// Key and value of everything that counts.
std::map<std::string, std::string> content(io::memory const& disk) {
    std::map<std::string, std::string> out;
    for (auto const& line : lines(wal_recovery(disk, {"dump"}).out)) {
        auto const r = format::parse(line);
        REQUIRE(r);
        if (r->type == format::frame_type::erase) out.erase(r->key);
        else out[r->key] = r->value;
    }
    return out;
}

} // namespace

TEST_CASE("load: a dump becomes the same store, from text and from JSON") {
    auto const store = make_store("crc32c");
    auto const wanted = content(store.disk);
    REQUIRE(wanted.size() == store.records.size());
    for (bool const from_json : {false, true}) {
        CAPTURE(from_json);
        std::vector<std::string> words{"dump"};
        if (from_json) words.emplace_back("--json");
        io::memory disk;
        auto const a = load(disk, wal_recovery(store.disk, words).out, true);
        CHECK(a.code == 0);
        CHECK(a.object()["loaded"] == store.records.size());
        CHECK(a.object()["kind"] == "store");
        CHECK(content(disk) == wanted);
        CHECK(wal_recovery(disk, {"validate"}).code == 0);
    }
}

TEST_CASE("load: what verifies of a damaged store is saved, and a healthy store comes of it") {
    auto store = make_store("crc32c");
    auto wanted = content(store.disk);
    damage_record(store, 105);
    wanted.erase(store.records[105].key);
    auto const d = wal_recovery(store.disk, {"dump"});
    CHECK(d.code == 1);
    CHECK(d.err.find("LSN 106") != std::string::npos);
    io::memory disk;
    CHECK(load(disk, d.out).code == 0);
    CHECK(content(disk) == wanted);
    CHECK(wal_recovery(disk, {"validate"}).code == 0);
}

TEST_CASE("load: of versions that stand together the newest counts, and what comes later counts more") {
    io::memory disk;
    auto const a = load(disk, "7 put whole \"a\" \"new\"\n3 put whole \"a\" \"old\"\n4 erase whole \"b\"\n"
                              "2 put whole \"b\" \"gone\"\n9 put begins \"c\" \"1\"\n10 put ends \"a\" \"newest\"\n");
    CHECK(a.code == 0);
    CHECK(a.out == "Loaded 4 records into a new store; 2 older versions left out.\n");
    CHECK(content(disk) == std::map<std::string, std::string>{{"a", "newest"}, {"c", "1"}});
}

TEST_CASE("load: what was ingested stands in tables, and the log's word of it is no record") {
    using store = keel::engine<io::memory, segment_size<16 * KiB>, unpacks>;
    io::memory disk;
    auto db = store::open("db", {.background_thread = false}, disk);
    REQUIRE(db);
    REQUIRE(db->put("a", "1"));
    REQUIRE(db->ingest(std::map<std::string, std::string>{{"a", "2"}, {"b", "3"}}));
    REQUIRE(db->ingest(std::map<std::string, std::string>{{"b", "4"}}));
    REQUIRE(db->put("c", "5"));
    REQUIRE(db->close());
    io::memory copy;
    auto const a = load(copy, wal_recovery(disk, {"dump"}).out);
    CHECK_MESSAGE(a.code == 0, a.err);
    auto const again = store::open("db", {.background_thread = false}, copy);
    REQUIRE(again);
    CHECK(**again->get("b") == "4");
    CHECK(**again->get("c") == "5");
}

TEST_CASE("load: messages make a log") {
    io::memory disk;
    auto const text = "1 message whole \"one\"\n2 message begins \"two\"\n3 message ends \"three\"\n";
    auto const a = load(disk, text);
    CHECK(a.code == 0);
    CHECK(a.out == "Loaded 3 records into a new log.\n");
    CHECK(wal_recovery(disk, {"dump"}).out == text);
}

TEST_CASE("load: what cannot be loaded is refused with the line it stands in, and no store is written over") {
    io::memory disk;
    auto const torn = load(disk, "1 put whole \"a\" \"b\"\n2 put whole \"c\n");
    CHECK(torn.code == 2);
    CHECK(torn.err.find("line 2") != std::string::npos);
    io::memory second;
    auto const mixed = load(second, "1 put whole \"a\" \"b\"\n2 message whole \"c\"\n");
    CHECK(mixed.code == 2);
    io::memory cut;
    CHECK(load(cut, "1 put begins \"a\" \"b\"\n").err.find("inside a batch") != std::string::npos);
    io::memory third;
    CHECK(load(third, "{\"lsn\":1,\"type\":\"put\",\"key_hex\":\"0g\"}\n").code == 2);
    CHECK(load(third, "1 type9 whole \"a\" \"b\"\n").err.find("line 1") != std::string::npos);
    auto const store = make_store("crc32c", 20);
    auto const before = content(store.disk);
    auto const there = load(store.disk, "1 put whole \"a\" \"b\"\n");
    CHECK(there.code == 2);
    CHECK(there.err.find("exists") != std::string::npos);
    CHECK(content(store.disk) == before);
    CHECK(wal_recovery(io::memory{}, {"load", "--input", "/nowhere/at/all"}).code == 2);
}

} // namespace load_test
