// SPDX-License-Identifier: BSL-1.0
#include <keel/engine/ingestion.hpp>

#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "stores.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

// Sorted data that becomes part of a store beside its log: whole or not at all, at one LSN. Random programs with it are in
// version_set_test.cpp and compaction_test.cpp, crashes and faults in it in tests/crash.

namespace {

using ingest_store = engine_tests::by_hand_store;
using ingest_rows = std::map<std::string, std::string>;

ingest_rows many(int count, std::string const& value) {
    ingest_rows all;
    for (int i = 0; i < count; ++i) all["k" + std::to_string(10000 + i)] = value + std::to_string(i);
    return all;
}
template <class Scan>
ingest_rows rows_in(Scan scan) {
    ingest_rows out;
    for (auto&& [k, v] : scan) out.emplace(k, v);
    REQUIRE(scan.status());
    return out;
}
std::size_t tables_of(keel::io::memory const& disk) {
    auto const all = disk.files();
    return static_cast<std::size_t>(
        std::ranges::count_if(all, [](std::string const& f) { return f.starts_with("db/tables/"); }));
}

} // namespace

TEST_CASE("ingest: takes one LSN, the place of what was there, and gives way to what comes") {
    keel::io::memory disk;
    auto db = ingest_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    REQUIRE(db->put("a", "log"));
    REQUIRE(db->put("k10003", "log"));
    REQUIRE(db->erase("k10004"));
    auto const before = db->snapshot();
    auto const at = db->ingest(many(2000, "v"));
    REQUIRE(at);
    CHECK(at->value == 4);
    CHECK(db->last_lsn() == *at);
    CHECK(db->durable_lsn() == *at);
    CHECK(db->storage().levels[0].records == 2000);
    CHECK(db->get("k10003").value() == "v3");
    CHECK(db->get("k10004").value() == "v4");
    CHECK(db->get("k10003", before).value() == "log");
    CHECK(!db->get("k10004", before).value());
    REQUIRE(db->put("k10005", "newer"));
    REQUIRE(db->erase("k10006"));
    auto expected = many(2000, "v");
    expected["a"] = "log";
    expected["k10005"] = "newer";
    expected.erase("k10006");
    auto const check = [&] {
        CHECK(rows_in(db->scan()) == expected);
        CHECK(rows_in(db->scan(keel::range{.reverse = true})) == expected);
        CHECK(db->get("k10005").value() == "newer");
        CHECK(!db->get("k10006").value());
        std::vector<std::string_view> const keys{"k10003", "a", "k10006", "k11999", "k12000"};
        auto const several = db->multi_get(keys);
        REQUIRE(several);
        CHECK(*several == std::vector<std::optional<std::string>>{"v3", "log", std::nullopt, "v1999", std::nullopt});
        CHECK(rows_in(db->scan(keel::range{}, before)) == ingest_rows{{"a", "log"}, {"k10003", "log"}});
        CHECK(db->verify()->findings.empty());
    };
    check();
    REQUIRE(db->compact());
    CHECK(db->storage().levels[0].tables == 0);
    check();
}

TEST_CASE("ingest: is there after a close, a kill and a power loss, whatever the durability policy") {
    using buffered = engine_tests::other_store; // interval<100>
    keel::io::memory disk;
    auto db = buffered::open("db", model::test_options(), disk);
    REQUIRE(db);
    REQUIRE(db->put("first", "1"));
    REQUIRE(db->ingest(many(300, "v")));
    REQUIRE(db->put("behind", "2"));
    auto const left = disk.after_power_loss({.what = keel::io::keep::oldest});
    for (auto const& machine : {left, disk.after_process_crash()}) {
        for (auto const depth : {keel::verify_depth::quick, keel::verify_depth::deep}) {
            auto options = model::test_options();
            options.verify = depth;
            auto again = buffered::open("db", options, machine.after_process_crash());
            REQUIRE(again);
            CHECK(model::verdict_of_crash(again->recovery()) == "");
            auto const found = rows_in(again->scan());
            CHECK(found.size() >= 301);
            CHECK(found.at("first") == "1"); // all before it became durable with it
            CHECK(found.at("k10299") == "v299");
            REQUIRE(again->put("k10299", "newer"));
            REQUIRE(again->compact());
            CHECK(again->get("k10299").value() == "newer");
            again->abandon();
        }
    }
    REQUIRE(db->close());
    CHECK(rows_in(buffered::open("db", model::test_options(), disk)->scan()).size() == 302);
}

TEST_CASE("ingest: what is refused leaves nothing") {
    keel::io::memory disk;
    auto db = ingest_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    using rows = std::vector<std::pair<std::string_view, std::string_view>>;
    std::string const large(70000, 'x');
    for (auto const& [bad, code] :
         std::vector<std::pair<rows, keel::errc>>{{{}, keel::errc::invalid_argument},
                                                  {{{"b", "1"}, {"a", "2"}}, keel::errc::invalid_argument},
                                                  {{{"a", "1"}, {"a", "2"}}, keel::errc::invalid_argument},
                                                  {{{"", "1"}}, keel::errc::invalid_argument},
                                                  {{{"a", "1"}, {"b", large}}, keel::errc::too_large},
                                                  {{{"a", "1"}, {large, "2"}}, keel::errc::too_large}}) {
        auto const done = db->ingest(bad);
        REQUIRE(!done);
        CHECK(done.error().code == code);
        CHECK(!db->get("a").value());
        CHECK(tables_of(disk) == 0);
    }
    CHECK(db->last_lsn().value == 0);
    REQUIRE(db->close());
    CHECK(db->ingest(many(3, "v")).error().code == keel::errc::closed);
    auto options = model::test_options();
    options.read_only = true;
    auto reader = ingest_store::open("db", options, disk);
    REQUIRE(reader);
    CHECK(reader->ingest(many(3, "v")).error().code == keel::errc::read_only);
}

TEST_CASE("ingest: takes whatever range gives keys and values") {
    keel::io::memory disk;
    auto db = ingest_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    REQUIRE(db->ingest(std::vector<std::tuple<char const*, std::string>>{{"a", "1"}}));
    std::array<std::pair<std::string, std::string_view>, 10> numbers;
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = {"n" + std::to_string(i), "vvv"};
    REQUIRE(db->ingest(std::span{numbers}));
    CHECK(rows_in(db->scan()).size() == 11);
    // One store into another, without a copy of it in memory.
    keel::io::memory other_disk;
    auto other = ingest_store::open("other", model::test_options(), other_disk);
    REQUIRE(other);
    REQUIRE(other->ingest(db->scan()));
    CHECK(rows_in(other->scan()) == rows_in(db->scan()));
}

TEST_CASE("ingest: what shares its keys with nothing goes down a level as it is") {
    keel::io::memory disk;
    auto db = ingest_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    REQUIRE(db->put("a", "1"));
    REQUIRE(db->ingest(many(500, "v")));
    REQUIRE(db->compact()); // by hand: all into one level
    CHECK(db->storage().merge_bytes_written > 5000);

    using ingest_store_5 = engine_tests::tiny_store<>;
    keel::io::memory tiny_disk;
    auto tiny = ingest_store_5::open("db", model::test_options(), tiny_disk);
    REQUIRE(tiny);
    REQUIRE(tiny->put("a", "1"));
    auto const log_goes_on = [&] {
        for (int i = 0; i < 20; ++i) {
            REQUIRE(tiny->put("a", std::string(300, 'a')));
            tiny->housekeep();
        }
    };
    REQUIRE(tiny->ingest(many(500, std::string(100, 'v')))); // more than the log may have: due at once
    REQUIRE(tiny->ingest(ingest_rows{{"b", "2"}, {"b2", "2"}}));
    log_goes_on();
    CHECK(tiny->storage().levels[0].tables == 0);
    CHECK(tiny->storage().merge_bytes_written < 30000);
    REQUIRE(tiny->ingest(ingest_rows{{"k10007", "7"}, {"z", "9"}})); // shares a key
    log_goes_on();
    CHECK(tiny->storage().levels[0].tables == 0);
    REQUIRE(tiny->compact());
    auto const report = tiny->storage();
    CHECK(report.merge_bytes_written > 40000); // the tables with its neighbours
    CHECK(report.levels[0].tables == 0);
    CHECK(tiny->state_reason() == "");
    CHECK(tiny->get("k10007").value() == "7");
    CHECK(rows_in(tiny->scan()).size() == 504);
    CHECK(tiny->verify()->findings.empty());
    std::uint64_t tables = 0;
    for (auto const& l : report.levels) tables += l.tables;
    CHECK(tables == tables_of(tiny_disk));
    REQUIRE(tiny->close());
    auto options = model::test_options();
    options.verify = keel::verify_depth::deep;
    auto again = ingest_store_5::open("db", options, tiny_disk);
    REQUIRE(again);
    CHECK(again->recovery().findings.empty());
    CHECK(rows_in(again->scan()).size() == 504);
}

TEST_CASE("ingest: a transaction that read or wrote one of its keys comes second") {
    using ingest_store_6 = keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>, keel::compaction::by_hand,
                                        keel::isolation::serializable>;
    keel::io::memory disk;
    auto db = ingest_store_6::open("db", model::test_options(), disk);
    REQUIRE(db);
    auto writes = db->begin();
    REQUIRE(writes.put("k10001", "mine"));
    auto reads = db->begin();
    REQUIRE(reads.get("k10002"));
    REQUIRE(reads.put("other", "1"));
    auto walks = db->begin();
    CHECK(rows_in(walks.scan(keel::prefix{"k1"})).empty());
    REQUIRE(walks.put("other", "2"));
    auto apart = db->begin();
    CHECK(rows_in(apart.scan(keel::range{.to = "a"})).empty());
    REQUIRE(apart.put("z", "1"));
    auto const at = db->ingest(many(10, "v"));
    REQUIRE(at);
    for (auto* tx : {&writes, &reads, &walks}) {
        auto const done = tx->commit();
        REQUIRE(!done);
        CHECK(done.error().code == keel::errc::conflict);
        CHECK(done.error().at == *at);
    }
    CHECK(apart.commit());
}

TEST_CASE(
    "ingest: damage to the log's word of it loses nothing, and what a roll-back goes behind is kept as evidence") {
    keel::io::memory disk;
    auto db = ingest_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    for (int i = 0; i < 20; ++i) REQUIRE(db->put("key" + std::to_string(i), std::string(200, 'v') + std::to_string(i)));
    auto const at = db->ingest(many(50, "ingested"));
    REQUIRE(at);
    REQUIRE(db->put("last", "behind it"));
    REQUIRE(db->close());
    auto options = model::test_options();
    options.verify = keel::verify_depth::deep;
    auto const place_of_lsn = [&](std::uint64_t lsn) {
        std::pair<std::string, std::uint64_t> found;
        for (auto const& file : disk.files()) {
            if (!file.ends_with(".seg")) continue;
            auto const bytes = *disk.contents(file);
            auto const header = keel::format::decode_segment_header<keel::checksum::crc32c>(
                keel::byte_view{bytes}.first(keel::format::header_bytes));
            auto offset = keel::format::frames_begin(bytes.size());
            while (offset + 32 <= bytes.size()) {
                auto const seen = keel::format::read_frame<keel::checksum::crc32c>(
                    keel::byte_view{bytes}.subspan(static_cast<std::size_t>(offset)), {header.header.salt, offset});
                if (seen.state != keel::format::frame_state::intact) break;
                if (keel::format::takes_lsn(seen.header.type) && seen.header.lsn_delta == lsn) found = {file, offset};
                offset += seen.bytes();
            }
        }
        REQUIRE(!found.first.empty());
        return found;
    };
    {
        auto hurt = disk.after_process_crash();
        auto const [file, offset] = place_of_lsn(at->value);
        REQUIRE(hurt.corrupt(file, offset + 24, std::byte{1}));
        auto again = ingest_store::open("db", options, hurt);
        REQUIRE(again);
        CHECK(again->recovery().lost_records == 0);
        CHECK(!again->recovery().findings.empty());
        CHECK(rows_in(again->scan()).size() == 71);
        REQUIRE(again->compact());
        CHECK(rows_in(again->scan()).size() == 71);
        REQUIRE(again->close());
    }
    auto hurt = disk.after_process_crash();
    auto const [file, offset] = place_of_lsn(10);
    REQUIRE(hurt.corrupt(file, offset + 40, std::byte{1}));
    auto const tables = tables_of(hurt);
    options.repair = keel::repair_strategy::rollback;
    auto again = ingest_store::open("db", options, hurt);
    REQUIRE(again);
    CHECK(rows_in(again->scan()).size() == 9);
    CHECK(again->storage().levels[0].tables == 0);
    auto const kept = again->recovery().quarantined;
    CHECK(std::ranges::count_if(kept, [](auto const& f) { return f.ends_with(".tab"); }) == 1);
    REQUIRE(again->close());
    {
        auto undone = hurt.after_process_crash();
        auto const number = keel::recovery::undo_repair<ingest_store::config_type>(undone, "db");
        REQUIRE_MESSAGE(number, keel::to_string(number.error()));
        CHECK(tables_of(undone) == tables);
        options.repair = keel::repair_strategy::skip_corrupted;
        auto once_more = ingest_store::open("db", options, undone);
        REQUIRE(once_more);
        CHECK(once_more->recovery().lost_records == 1);
        CHECK(rows_in(once_more->scan()).size() == 70);
    }
    auto behind = ingest_store::open("db", model::test_options(), hurt);
    REQUIRE(behind);
    CHECK(behind->recovery().findings.empty());
    REQUIRE(behind->put("k10000", "again"));
    REQUIRE(behind->compact());
    CHECK(rows_in(behind->scan()).size() == 10);
    CHECK(behind->get("k10000").value() == "again");
}

TEST_CASE("ingest: who took its view before has nothing of what comes behind, however late it asks for the moment") {
    keel::io::memory disk;
    keel::detail::version_set<keel::detail::reading_config<ingest_store::config_type>> parts{disk, 64 * keel::KiB};
    parts.begin(keel::segment_id{1});
    auto const before = parts.view();
    parts.add_level0({});
    parts.stage(keel::format::frame_type::put, "k", "v");
    parts.apply(keel::lsn{2}, 1);
    CHECK(!before->find("k", keel::lsn{2}).value());
    CHECK(parts.view()->find("k", keel::lsn{2}).value());
}

TEST_CASE("ingest: readers beside it see all of it or nothing, and nothing that came behind it without it") {
    using ingest_store_9 = keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>,
                                        keel::durability::os_buffered, keel::compaction::leveled<64 * keel::KiB, 4>>;
    keel::io::memory disk;
    auto options = model::test_options();
    options.background_thread = true;
    auto db = ingest_store_9::open("db", options, disk);
    REQUIRE(db);
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::atomic<int> scans{0};
    std::vector<std::jthread> readers;
    for (int r = 0; r < 2; ++r)
        readers.emplace_back([&] {
            while (!stop.load()) {
                std::map<std::string, int, std::less<>> rounds;
                int behind = 0;
                for (auto&& [k, v] : db->scan()) {
                    auto const round = std::stoi(std::string{v});
                    if (k == "behind") behind = round;
                    else ++rounds[std::to_string(round)];
                }
                int const newest = rounds.empty() ? 0 : std::stoi(rounds.rbegin()->first);
                if (rounds.size() > 1 || (!rounds.empty() && rounds.begin()->second != 40)) ++wrong;
                if (behind > newest) ++wrong;
                ++scans;
            }
        });
    for (int round = 100; round < 300; ++round) {
        ingest_rows all;
        for (int i = 0; i < 40; ++i) all["k" + std::to_string(i)] = std::to_string(round);
        REQUIRE(db->ingest(all));
        REQUIRE(db->put("behind", std::to_string(round)));
    }
    stop.store(true);
    readers.clear();
    CHECK(wrong.load() == 0);
    CHECK(scans.load() > 0);
    CHECK(db->state_reason() == "");
}
