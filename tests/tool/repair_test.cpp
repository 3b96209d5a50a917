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

bool outside_quarantine(std::string_view path) { return !path.starts_with("db/quarantine"); }

answer repair_by(io::memory const& disk, std::string const& strategy, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"repair", "--strategy", strategy});
    return wal_recovery(disk, std::move(more));
}

/// LSNs of the dump's lines.
std::vector<std::uint64_t> dumped(io::memory const& disk) {
    std::vector<std::uint64_t> out;
    for (auto const& line : lines(wal_recovery(disk, {"dump"}).out))
        out.push_back(format::parse(line).value().at.value);
    return out;
}

} // namespace

TEST_CASE("repair: skip and partial drop the damaged record and keep all others, for every shipped checksum") {
    for (auto const& name : shipped_checksums)
        for (std::string const strategy : {"skip", "partial"}) {
            CAPTURE(name);
            CAPTURE(strategy);
            auto store = make_store(name);
            auto const at = damage_record(store, 233);
            auto const a = repair_by(store.disk, strategy, {"--json"});
            CHECK(a.code == 1); // one acknowledged record is gone
            auto const o = a.object();
            CHECK(o["status"] == "healthy");
            CHECK(o["repaired"] == true);
            CHECK(o["records"] == 399);
            CHECK(o["healed_records"] == 0);
            CHECK(o["lost_records"] == 1);
            CHECK(o["lost_lsn_ranges"] == json::parse("[[234,234]]"));
            CHECK(o["quarantined"].size() == 1);
            CHECK(o["quarantined"][0].get<std::string>().ends_with(at.file.substr(4)));
            CHECK(o["findings"][0]["action"] == "declared_lost");

            auto const now = wal_recovery(store.disk, {"validate", "--json"});
            CHECK(now.code == 0);
            CHECK(now.object()["declared_lost_lsn_ranges"] == json::parse("[[234,234]]"));
            auto const left = dumped(store.disk);
            CHECK(left.size() == 399);
            CHECK(std::ranges::find(left, 234) == left.end());
        }
}

TEST_CASE("repair: rollback keeps what came before the first lost record") {
    auto store = make_store("crc32c");
    damage_record(store, 233);
    auto const a = repair_by(store.disk, "rollback", {"--json"});
    CHECK(a.code == 1);
    CHECK(a.object()["status"] == "healthy");
    CHECK(a.object()["lost_lsn_ranges"] == json::parse("[[234,400]]"));
    CHECK(a.object()["lost_records"] == 400 - 233);
    auto const left = dumped(store.disk);
    REQUIRE(left.size() == 233);
    CHECK(left.back() == 233);
    CHECK(wal_recovery(store.disk, {"validate"}).code == 0);
}

TEST_CASE("repair: a damaged header costs nothing and is healed, exit code 0") {
    auto store = make_store("crc32c");
    auto const at = find_value(store, 233);
    REQUIRE(store.disk.corrupt("db/" + at.file, 40, std::byte{1}));
    CHECK(wal_recovery(store.disk, {"validate"}).code == 1);
    auto const a = repair_by(store.disk, "skip", {"--json"});
    CHECK(a.code == 0);
    CHECK(a.object()["status"] == "healthy");
    CHECK(a.object()["lost_records"] == 0);
    CHECK(a.object()["records"] == 400);
    CHECK(wal_recovery(store.disk, {"validate"}).code == 0);
    CHECK(dumped(store.disk).size() == 400);
}

TEST_CASE("repair: a damaged manifest is written anew") {
    auto store = make_store("crc32c");
    REQUIRE(store.disk.corrupt("db/manifest.1", 600, std::byte{1}));
    CHECK(wal_recovery(store.disk, {"validate"}).code == 1);
    auto const a = repair_by(store.disk, "partial", {"--json"});
    CHECK(a.code == 0);
    CHECK(a.object()["plan"]["rewrite_manifest"] == true);
    CHECK(wal_recovery(store.disk, {"validate"}).code == 0);
}

TEST_CASE("repair: a dry run says what would be done and changes no byte") {
    auto store = make_store("crc32c");
    auto const at = damage_record(store, 233);
    auto const before = store.disk.after_process_crash();
    auto const a = repair_by(store.disk, "skip", {"--dry-run", "--json"});
    CHECK(a.code == 1);
    auto const o = a.object();
    CHECK(o["status"] == "damaged");
    CHECK(o["dry_run"] == true);
    CHECK(o["repaired"] == false);
    CHECK(o["plan"]["rebuild"] == json::array({at.file}));
    CHECK(o["plan"]["declare_lost"] == json::parse("[[234,234]]"));
    CHECK(o["quarantined"].empty());
    auto const text = repair_by(store.disk, "rollback", {"--dry-run"});
    CHECK(text.out.find("declares lost: 167 records, LSN 234-400") != std::string::npos);
    CHECK(text.out.find("Nothing was changed") != std::string::npos);
    CHECK(store.disk.equal(before));
}

TEST_CASE("repair: a healthy store is not changed") {
    auto store = make_store("crc32c");
    auto const before = store.disk.after_process_crash();
    for (std::string const strategy : {"skip", "partial", "rollback"}) {
        auto const a = repair_by(store.disk, strategy);
        CHECK(a.code == 0);
        CHECK(a.out.find("Nothing to repair") != std::string::npos);
    }
    CHECK(store.disk.equal(before));
}

TEST_CASE("undo: every file is byte for byte as it was before the repair") {
    for (auto const& name : shipped_checksums)
        for (std::string const strategy : {"skip", "rollback"}) {
            CAPTURE(name);
            CAPTURE(strategy);
            auto store = make_store(name);
            damage_record(store, 233);
            auto const before = store.disk.after_process_crash();
            CHECK(repair_by(store.disk, strategy).code == 1);
            CHECK_FALSE(store.disk.equal(before, outside_quarantine));
            auto const a = strategy == "skip" ? wal_recovery(store.disk, {"undo", "--json"})
                                              : wal_recovery(store.disk, {"repair", "--undo", "--json"});
            CHECK(a.code == 0);
            CHECK(a.object()["undone"] == 1);
            CHECK(a.object()["status"] == "damaged");
            CHECK(store.disk.equal(before, outside_quarantine));
            // There is no second step back, and the repair can be made again.
            CHECK(wal_recovery(store.disk, {"undo"}).code == 2);
            CHECK(repair_by(store.disk, strategy).code == 1);
            CHECK(wal_recovery(store.disk, {"validate"}).code == 0);
        }
}

TEST_CASE("undo: refused once something was written after the repair") {
    auto store = make_store("crc32c");
    damage_record(store, 233);
    CHECK(repair_by(store.disk, "skip").code == 1);
    put_one_more(store);
    auto const before = store.disk.after_process_crash();
    auto const a = wal_recovery(store.disk, {"undo", "--json"});
    CHECK(a.code == 2);
    CHECK(a.object()["error"]["code"] == "conflict");
    CHECK(store.disk.equal(before));
    CHECK(wal_recovery(store.disk, {"validate"}).code == 0);
}

TEST_CASE("undo: without a repair there is nothing to undo") {
    auto store = make_store("crc32c", 20);
    auto const a = wal_recovery(store.disk, {"undo", "--json"});
    CHECK(a.code == 2);
    CHECK(a.object()["error"]["code"] == "not_found");
}

TEST_CASE("repair: the findings are appended to the corruption log") {
    auto store = make_store("crc32c");
    damage_record(store, 233);
    repair_by(store.disk, "skip");
    auto const log = store.disk.contents("db/quarantine/corruption.jsonl");
    REQUIRE(log.has_value());
    auto const events = lines(std::string{as_text(*log)});
    REQUIRE(events.size() == 1);
    CHECK(json::parse(events[0])["first_lsn"] == 234);
}
