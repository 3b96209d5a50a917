// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

using namespace keel;
using namespace keel::tests;

namespace {

bool not_in_quarantine(std::string_view path) { return !path.starts_with("db/quarantine"); }
bool has_text(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

/// A store whose process died, and whose newest segment and notes are gone: as a partial copy leaves it.
io::memory without_its_end() {
    auto store = make_store_and_die("crc32c", 200);
    std::string newest;
    for (std::size_t i = 0; i < store.records.size(); ++i) newest = std::max(newest, find_value(store, i).file);
    REQUIRE(store.disk.remove("db/" + newest));
    REQUIRE(store.disk.remove("db/notes"));
    return store.disk;
}

} // namespace

TEST_CASE(
    "unknown: validate and repair have a status and an exit code of their own where nobody knows how much is lost") {
    auto const disk = without_its_end();
    for (auto const& words : std::vector<std::vector<std::string>>{{"validate"}, {"validate", "--deep"}}) {
        auto json_words = words;
        json_words.emplace_back("--json");
        auto const a = wal_recovery(disk, json_words);
        CHECK(a.code == 3);
        auto const o = a.object();
        CHECK(o["status"] == "unknown");
        REQUIRE(o["unknown_extents"].size() == 1);
        CHECK(o["unknown_extents"][0]["after_lsn"] == o["last_lsn"]);
        CHECK(o["lost_records"] == 0);
        auto const text = wal_recovery(disk, words);
        CHECK(text.code == 3);
        CHECK(has_text(text.out, "UNKNOWN"));
        CHECK(has_text(text.out, "accept-loss"));
        CHECK_FALSE(has_text(text.out, "Nothing needs to be done"));
    }
    auto const inspected = wal_recovery(disk, {"inspect", "--json"});
    CHECK(inspected.code == 0);
    CHECK(inspected.object()["status"] == "unknown");

    auto const before = disk.after_process_crash();
    auto const dry = wal_recovery(disk, {"repair", "--strategy", "skip", "--dry-run"});
    CHECK(dry.code == 3);
    CHECK(disk.equal(before));
    auto const repaired = wal_recovery(disk, {"repair", "--strategy", "skip", "--json"});
    CHECK(repaired.code == 3);
    CHECK(repaired.object()["status"] == "unknown");
    CHECK(wal_recovery(disk, {"validate"}).code == 3);
}

TEST_CASE("accept-loss: ends what is unknown, and the store is healthy from then on") {
    auto const disk = without_its_end();
    auto const last = wal_recovery(disk, {"validate", "--json"}).object()["last_lsn"];
    auto const a = wal_recovery(disk, {"accept-loss", "--json"});
    CHECK(a.code == 0);
    CHECK(a.object()["status"] == "healthy");
    REQUIRE(a.object()["accepted_unknown"].size() == 1);
    auto const now = wal_recovery(disk, {"validate", "--json"});
    CHECK(now.code == 0);
    CHECK(now.object()["unknown_extents"].empty());
    CHECK(now.object()["last_lsn"] == last);
    auto const again = wal_recovery(disk, {"accept-loss"});
    CHECK(again.code == 0);
    CHECK(has_text(again.out, "no open loss"));
}

TEST_CASE("accept-loss: a declared loss is shown as open until then, and as accepted from then on") {
    auto store = make_store("crc32c");
    damage_record(store, 233);
    CHECK(wal_recovery(store.disk, {"repair", "--strategy", "skip"}).code == 1);
    auto o = wal_recovery(store.disk, {"validate", "--json"}).object();
    CHECK(o["status"] == "healthy"); // nothing is damaged any more
    CHECK(o["declared_lost_lsn_ranges"] == json::parse("[[234,234]]"));
    CHECK(o["accepted_lost_lsn_ranges"].empty());
    CHECK(has_text(wal_recovery(store.disk, {"validate"}).out, "'accept-loss' ends this line"));

    auto const a = wal_recovery(store.disk, {"accept-loss", "--json"});
    CHECK(a.code == 0);
    CHECK(a.object()["accepted"] == json::parse("[[234,234]]"));
    for (auto const* command : {"validate", "inspect"}) {
        o = wal_recovery(store.disk, {command, "--json"}).object();
        CHECK(o["declared_lost_lsn_ranges"] == json::parse("[[234,234]]"));
        CHECK(o["accepted_lost_lsn_ranges"] == json::parse("[[234,234]]"));
        auto const text = wal_recovery(store.disk, {command}).out;
        CHECK(has_text(text, "accepted"));
        CHECK_FALSE(has_text(text, "'accept-loss' ends this line"));
    }
    // What was accepted is no write that the repair could not be taken back behind.
    CHECK(wal_recovery(store.disk, {"undo"}).code == 0);
}

TEST_CASE("accept-loss: changes nothing in a healthy store, and says where there is none") {
    auto const store = make_store("crc32c", 20);
    auto const before = store.disk.after_process_crash();
    CHECK(wal_recovery(store.disk, {"accept-loss"}).code == 0);
    CHECK(store.disk.equal(before));
    CHECK(wal_recovery(io::memory{}, {"accept-loss", "--json"}).code == 2);
}

TEST_CASE("undo: of a repair that was made without manifests it is refused once anything was written, and not before") {
    for (bool const written : {false, true}) {
        auto store = make_store("crc32c");
        damage_record(store, 233);
        for (auto const* path : {"db/manifest.0", "db/manifest.1"}) REQUIRE(store.disk.remove(path));
        auto const before = store.disk.after_process_crash();
        CHECK(wal_recovery(store.disk, {"repair", "--strategy", "skip"}).code == 1);
        if (written) put_one_more(store);
        auto const then = store.disk.after_process_crash();
        auto const a = wal_recovery(store.disk, {"undo", "--json"});
        CHECK(a.code == (written ? 2 : 0));
        if (written) CHECK(a.object()["error"]["code"] == "conflict");
        CHECK(store.disk.equal(written ? then : before, not_in_quarantine));
    }
}
