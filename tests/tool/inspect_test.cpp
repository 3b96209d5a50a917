// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace keel;
using namespace keel::tests;

TEST_CASE("inspect: shows store, segments, spares and notes") {
    for (auto const& name : shipped_checksums) {
        CAPTURE(name);
        auto const store = make_store(name);
        auto const a = wal_recovery(store.disk, {"inspect", "--json"});
        CHECK(a.code == 0);
        auto const o = a.object();
        CHECK(o["checksum"] == name);
        CHECK(o["format"] == 1);
        CHECK(o["branch"] == 1);
        CHECK(o["store_id"].get<std::string>().size() == 32);
        CHECK(o["edit"].get<int>() > 1);
        CHECK(o["horizon"] == 400);
        CHECK(o["notes"]["accepted_lsn"] == 400);
        CHECK(o["quarantine"].empty());
        std::uint64_t records = 0;
        std::uint64_t next = 1;
        for (auto const& s : o["segments"]) {
            CHECK(s["chain_ok"] == true);
            CHECK(s["bytes"] == 16 * KiB);
            if (s["spare"] == true) continue;
            CHECK(s["first_lsn"] == next);
            CHECK(s["bytes_used"].get<std::uint64_t>() > 0);
            next = s["last_lsn"].get<std::uint64_t>() + 1;
            records += s["records"].get<std::uint64_t>();
        }
        CHECK(records == 400);
        CHECK(next == 401);
    }
}

TEST_CASE("inspect: shows declared losses and what repairs put into quarantine") {
    auto store = make_store("crc32c");
    auto const at = damage_record(store, 233);
    CHECK(wal_recovery(store.disk, {"repair", "--strategy", "skip"}).code == 1);
    auto o = wal_recovery(store.disk, {"inspect", "--json"}).object();
    CHECK(o["declared_lost_lsn_ranges"] == json::parse("[[234,234]]"));
    REQUIRE(o["quarantine"].size() == 1);
    auto const& q = o["quarantine"][0];
    CHECK(q["strategy"] == "skip_corrupted");
    CHECK(q["lost_records"] == 1);
    CHECK(q["undone"] == false);
    auto const files = q["files"].get<std::vector<std::string>>();
    CHECK(std::ranges::find(files, at.file.substr(4)) != files.end());
    auto const text = wal_recovery(store.disk, {"inspect"});
    CHECK(text.out.find("rebuilt") != std::string::npos);
    CHECK(text.out.find("skip_corrupted") != std::string::npos);

    CHECK(wal_recovery(store.disk, {"undo"}).code == 0);
    o = wal_recovery(store.disk, {"inspect", "--json"}).object();
    CHECK(o["quarantine"][0]["undone"] == true);
    CHECK(o["declared_lost_lsn_ranges"].empty());
}

TEST_CASE("inspect: names a segment that does not follow the one before it") {
    auto store = make_store("crc32c");
    auto const gone = find_value(store, 150).file;
    REQUIRE(store.disk.remove("db/" + gone));
    auto const o = wal_recovery(store.disk, {"inspect", "--json"}).object();
    CHECK(o["status"] == "damaged");
    bool missing = false;
    for (auto const& s : o["segments"]) missing = missing || (s["file"] == gone && s["state"] == "missing");
    CHECK(missing);
    CHECK(wal_recovery(store.disk, {"inspect"}).out.find("missing") != std::string::npos);
}
