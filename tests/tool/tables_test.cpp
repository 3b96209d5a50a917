// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <support/fix_checks.hpp>
#include <support/run_lengths.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

// The tool over a store whose records are in tables.

using namespace keel;
using namespace keel::tests;

namespace {

/// As make_store, merged, with one record and one erased key in the log behind.
template <class Compression = unpacks>
made_store merged_tool_store() {
    auto store = make_store("crc32c");
    auto db = engine<io::memory, segment_size<16 * KiB>, Compression>::open("db", {.background_thread = false},
                                                                            store.disk);
    REQUIRE(db);
    REQUIRE(db->compact());
    REQUIRE(db->put("one more", "value"));
    REQUIRE(db->erase(store.records.front().key));
    REQUIRE(db->close());
    return store;
}

} // namespace

TEST_CASE("tables: validate verifies them, inspect lists them") {
    auto const store = merged_tool_store();
    auto const a = wal_recovery(store.disk, {"validate", "--json"});
    CHECK(a.code == 0);
    auto const o = a.object();
    CHECK(o["status"] == "healthy");
    CHECK(o["tables"].get<int>() >= 1);
    CHECK(o["table_records"].get<int>() > 100);
    CHECK(o["records"] == 2);
    CHECK(o["last_lsn"] == 402);
    CHECK(wal_recovery(store.disk, {"validate"}).out.find("tables") != std::string::npos);
    auto const i = wal_recovery(store.disk, {"inspect", "--json"}).object();
    REQUIRE(i["tables"].size() == o["tables"].get<std::size_t>());
    CHECK(i["tables"][0]["file"].get<std::string>().starts_with("tables/"));
    CHECK(i["tables"][0]["level"].get<int>() >= 1);
    CHECK(i["tables"][0]["compression"] == "none");
    CHECK(i["floor"] == 400);
    CHECK(wal_recovery(store.disk, {"inspect"}).out.find("smallest key") != std::string::npos);
}

TEST_CASE("tables: dump gives their records, too, in text that parses back") {
    auto const store = merged_tool_store();
    auto const a = wal_recovery(store.disk, {"dump"});
    CHECK(a.code == 0);
    std::istringstream lines{a.out};
    std::set<std::string> keys;
    std::uint64_t last = 0;
    for (std::string line; std::getline(lines, line);) {
        auto const r = format::parse(line);
        REQUIRE_MESSAGE(r, line);
        keys.insert(r->key);
        last = r->at.value;
    }
    for (auto const& r : store.records) CHECK(keys.contains(r.key));
    CHECK(keys.contains("one more"));
    CHECK(last == 402);
    auto const late = wal_recovery(store.disk, {"dump", "--from-lsn", "402"}).out;
    CHECK(std::count(late.begin(), late.end(), '\n') == 1);
}

/// The findings' kinds, once a bit of the newest table was turned over and the store repaired.
json findings_once_repaired(made_store& store, std::int64_t at) {
    std::string table;
    for (auto const& f : store.disk.files())
        if (f.ends_with(".tab")) table = f;
    auto const size = static_cast<std::int64_t>(store.disk.status(table)->size);
    REQUIRE(store.disk.corrupt(table, static_cast<std::uint64_t>(at < 0 ? size + at : at), std::byte{1}));
    auto const damaged = *store.disk.contents(table);
    auto const advice = wal_recovery(store.disk, {"validate"});
    CHECK(advice.code == 1);
    CHECK(advice.out.find("wal-recovery repair") != std::string::npos);
    auto const dry = wal_recovery(store.disk, {"repair", "--strategy", "partial", "--dry-run", "--json"});
    CHECK(dry.object()["plan"]["rewrite_tables"] == json{table.substr(3)});
    CHECK(*store.disk.contents(table) == damaged);
    auto const done = wal_recovery(store.disk, {"repair", "--strategy", "partial"});
    CHECK(done.out.find("can do nothing") == std::string::npos);
    CHECK(done.out.find("quarantine/merged") != std::string::npos);
    CHECK(*store.disk.contents("db/quarantine/merged" + table.substr(table.rfind('/'))) == damaged);
    auto const after = wal_recovery(store.disk, {"validate", "--json"});
    CHECK(after.code == done.code);
    return after.object()["findings"];
}

TEST_CASE("tables: a repair writes anew what is damaged without a loss, and keeps the damaged file") {
    auto const sound = wal_recovery(merged_tool_store().disk, {"dump"}).out;
    for (auto const at : {100, -100, -540}) {
        CAPTURE(at);
        auto store = merged_tool_store();
        CHECK(findings_once_repaired(store, at).empty());
        CHECK(wal_recovery(store.disk, {"dump"}).out == sound);
        CHECK(wal_recovery(store.disk, {"repair", "--strategy", "partial"}).out.find("nothing was changed") !=
              std::string::npos);
    }
}

TEST_CASE("tables: a repair of one with a damaged block keeps all other keys, and names those it cost") {
    auto store = merged_tool_store();
    auto const before = lines(wal_recovery(store.disk, {"dump"}).out);
    auto const findings = findings_once_repaired(store, 800);
    REQUIRE(findings.size() == 1);
    CHECK(findings[0]["action"] == "declared_lost");
    CHECK(findings[0]["detail"].get<std::string>().find("no answer for key") != std::string::npos);
    auto const after = lines(wal_recovery(store.disk, {"dump"}).out);
    CHECK(after.size() < before.size());
    CHECK(after.size() > before.size() / 2);
    auto const advice = wal_recovery(store.disk, {"validate"}).out;
    CHECK(advice.find("quarantine/merged") != std::string::npos);
    CHECK(advice.find("wal-recovery repair") == std::string::npos);
}

TEST_CASE("tables: damage in one is told by validate and dump, with the keys it costs") {
    auto store = merged_tool_store();
    std::string table;
    for (auto const& f : store.disk.files())
        if (f.ends_with(".tab")) table = f;
    REQUIRE(store.disk.corrupt(table, 800, std::byte{1}));
    auto const a = wal_recovery(store.disk, {"validate", "--json"});
    CHECK(a.code == 1);
    auto const o = a.object();
    CHECK(o["status"] == "damaged");
    REQUIRE(o["findings"].size() == 1);
    CHECK(o["findings"][0]["kind"] == "corrupt_block");
    CHECK(o["findings"][0]["file"] == table.substr(3));
    CHECK(o["findings"][0]["detail"].get<std::string>().find("keys from \"") != std::string::npos);
    auto const d = wal_recovery(store.disk, {"dump"});
    CHECK(d.code == 1);
    CHECK(d.err.find(table.substr(3)) != std::string::npos);
    CHECK(d.err.find("keys from \"") != std::string::npos);
    REQUIRE(store.disk.remove(table));
    CHECK(wal_recovery(store.disk, {"validate", "--json"}).object()["findings"][0]["kind"] == "missing_table");
    CHECK(wal_recovery(store.disk, {"repair", "--strategy", "partial"}).out.find("can do nothing") !=
          std::string::npos);
}

/// What a store has, once it was dumped and the dump loaded; and the dump's own answer.
std::map<std::string, std::string> salvaged(io::memory const& disk, answer& dump) {
    dump = wal_recovery(disk, {"dump"});
    io::memory empty;
    auto const loaded = load(empty, dump.out);
    REQUIRE_MESSAGE(loaded.code == 0, loaded.err);
    std::map<std::string, std::string> all;
    auto db = engine<io::memory, unpacks>::open("db", {.background_thread = false}, empty);
    REQUIRE(db);
    auto scan = db->scan();
    for (auto&& [k, v] : scan) all.emplace(k, v);
    REQUIRE(scan.status());
    return all;
}

TEST_CASE(
    "tables: without manifests a dump has the newest version that verifies of each key, and load makes a store of it") {
    auto store = merged_tool_store();
    std::map<std::string, std::string> expected;
    {
        // Another table above the first, with newer versions and an erased key, and newer ones still in the log.
        auto db = engine<io::memory, segment_size<16 * KiB>, unpacks, compaction::leveled<16 * KiB, 2>>::open(
            "db", {.background_thread = false}, store.disk);
        REQUIRE(db);
        for (int i = 0; i < 200; ++i) REQUIRE(db->put("again" + std::to_string(i), std::string(200, 'a')));
        for (int i = 50; i < 90; ++i) REQUIRE(db->put(store.records[static_cast<std::size_t>(i)].key, "newer"));
        REQUIRE(db->erase(store.records[95].key));
        for (int i = 0; i < 200; ++i) REQUIRE(db->put("again" + std::to_string(i), std::string(200, 'b')));
        for (int i = 0; i < 20; ++i) db->housekeep(true);
        REQUIRE(db->put(store.records[60].key, "newest"));
        REQUIRE(db->put("again7", "newest"));
        REQUIRE(db->erase("again8"));
        auto scan = db->scan();
        for (auto&& [k, v] : scan) expected.emplace(k, v);
        REQUIRE(scan.status());
        REQUIRE(db->close());
    }
    std::vector<std::string> tables;
    for (auto const& f : store.disk.files())
        if (f.ends_with(".tab")) tables.push_back(f);
    REQUIRE(tables.size() >= 2);
    answer dump;
    for (auto const* manifest : {"db/manifest.0", "db/manifest.1"}) {
        auto const bytes = *store.disk.contents(manifest);
        for (std::uint64_t at = 0; at < bytes.size(); at += 100)
            REQUIRE(store.disk.corrupt(manifest, at, std::byte{255}));
    }
    CHECK(wal_recovery(store.disk, {"validate"}).err.find("wal-recovery dump") != std::string::npos);
    CHECK(salvaged(store.disk, dump) == expected);
    CHECK(dump.code == 3);
    CHECK(dump.err.find("neither manifest is left") != std::string::npos);
    CHECK_MESSAGE(dump.err.find("LSN") == std::string::npos, dump.err); // what tables hold is not missing from the log
    for (auto const* manifest : {"db/manifest.0", "db/manifest.1"}) REQUIRE(store.disk.remove(manifest));
    CHECK(salvaged(store.disk, dump) == expected);

    // A block that does not verify costs its own keys, or gives what is older of them, and is named.
    REQUIRE(store.disk.corrupt(tables.front(), 800, std::byte{1}));
    auto const rest = salvaged(store.disk, dump);
    CHECK(dump.err.find(tables.front().substr(3) + " holds at 512: ") != std::string::npos);
    CHECK(rest.size() > expected.size() / 2);
    for (auto const& [k, v] : rest) CHECK(expected.contains(k));

    // So does a table that was cut short.
    auto const shorter = tables.at(tables.size() / 2);
    auto cut = store.disk.after_process_crash();
    REQUIRE(cut.cut(shorter, 2000));
    auto const left = salvaged(cut, dump);
    CHECK_MESSAGE(dump.err.find(shorter.substr(3) + " holds at ") != std::string::npos, dump.err);
    CHECK(left.size() <= rest.size());
    CHECK(left.size() > expected.size() / 2);
    for (auto const& [k, v] : left) CHECK(expected.contains(k));

    // Only tables are left.
    for (auto const& f : store.disk.files())
        if (f.ends_with(".seg") || f == "db/notes") REQUIRE(store.disk.remove(f));
    auto const tabled = salvaged(store.disk, dump);
    CHECK(dump.code == 3);
    CHECK(tabled.size() > expected.size() / 2);
}

TEST_CASE("tables: packed ones are verified, listed and dumped, and damage in them is told") {
    auto store = merged_tool_store<keel::test::run_lengths>();
    CHECK(wal_recovery(store.disk, {"validate"}).code == 0);
    auto const i = wal_recovery(store.disk, {"inspect", "--json"}).object();
    CHECK(i["tables"][0]["compression"] == "compression 8");
    CHECK(wal_recovery(store.disk, {"inspect"}).out.find("compression 8") != std::string::npos);
    CHECK(wal_recovery(store.disk, {"dump"}).out == wal_recovery(merged_tool_store().disk, {"dump"}).out);
    std::string table;
    for (auto const& f : store.disk.files())
        if (f.ends_with(".tab")) table = f;
    REQUIRE(store.disk.corrupt(table, 600, std::byte{1}));
    auto const a = wal_recovery(store.disk, {"validate", "--json"});
    CHECK(a.code == 1);
    CHECK(a.object()["findings"][0]["offset"] == 512);
    CHECK(wal_recovery(store.disk, {"dump"}).code == 1);
}

TEST_CASE("tables: what the tool cannot unpack it does not judge") {
    auto store = merged_tool_store<keel::test::run_lengths>();
    for (auto const* path : {"db/manifest.0", "db/manifest.1"}) {
        auto bytes = *store.disk.contents(path);
        auto const smallest = as_text(bytes).rfind("batch\n1");
        REQUIRE(smallest != std::string_view::npos);
        REQUIRE(bytes[smallest - 1] == std::byte{8});
        bytes[smallest - 1] = std::byte{1};
        keel::test::fix_manifest<checksum::crc32c>(bytes);
        REQUIRE(store.disk.replace(path, bytes));
    }
    for (auto const* command : {"validate", "inspect", "dump"}) {
        auto const a = wal_recovery(store.disk, {command});
        CHECK(a.code == 2);
        CHECK(a.err.find("packed with zstd") != std::string::npos);
    }
    auto const a = wal_recovery(store.disk, {"repair", "--strategy", "partial", "--json"});
    CHECK(a.code == 2);
    CHECK(a.object()["error"]["code"] == "wrong_policy");
}
