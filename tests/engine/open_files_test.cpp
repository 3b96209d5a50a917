// SPDX-License-Identifier: BSL-1.0
#include <keel/engine/storage_report.hpp>

#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "stores.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

// A store with more files than it may have open.

namespace {

using bounded_store = engine_tests::tiny_store<>;
constexpr int bounded_keys = 400;

keel::open_options with_files(std::uint64_t most) {
    auto o = model::test_options();
    o.open_files = most;
    return o;
}
std::string bounded_key(int i) { return "key" + std::to_string(1000 + i); }
std::string bounded_value(int i, int round) {
    return std::to_string(round) + "/" + std::to_string(i) + std::string(80, 'v');
}

void put_round(bounded_store& db, int round) {
    for (int i = 0; i < bounded_keys; ++i) REQUIRE(db.put(bounded_key(i), bounded_value(i, round)));
}
/// A store of many tables, closed.
keel::io::memory disk_of_many_tables() {
    keel::io::memory disk;
    auto db = bounded_store::open("db", with_files(2), disk);
    REQUIRE(db);
    put_round(*db, 1);
    REQUIRE(db->compact());
    REQUIRE(db->close());
    return disk;
}
std::uint64_t tables_of(bounded_store const& db) {
    std::uint64_t n = 0;
    for (auto const& l : db.storage().levels) n += l.tables;
    return n;
}

} // namespace

TEST_CASE("open files: a store with more tables than it may have open serves all of them, and tells what is open") {
    auto const disk = disk_of_many_tables();
    auto db = bounded_store::open("db", with_files(3), disk);
    REQUIRE(db);
    REQUIRE(tables_of(*db) > 8);
    CHECK(db->storage().open_files == 0);
    CHECK(db->storage().open_files_max == 3);
    for (int turn = 0; turn < 3; ++turn) {
        for (int i = 0; i < bounded_keys; ++i) {
            REQUIRE(db->get(bounded_key(i)).value() == bounded_value(i, 1));
            CHECK(db->storage().open_files <= 3);
        }
        auto all = db->scan();
        CHECK(std::ranges::distance(all.begin(), std::default_sentinel) == bounded_keys);
        CHECK(all.status());
    }
    auto const told = db->storage();
    CHECK(told.open_files == 3);
    CHECK(to_string(told).find("3 of 3 files open") != std::string::npos);
    CHECK(db->verify().value().findings.empty());
    put_round(*db, 2);
    REQUIRE(db->compact());
    for (int i = 0; i < bounded_keys; ++i) CHECK(db->get(bounded_key(i)).value() == bounded_value(i, 2));
    CHECK(db->storage().open_files <= 3);
    CHECK(db->close());
}

TEST_CASE(
    "open files: what a merge has taken the place of stays readable for who has an older view, though it was closed") {
    auto const disk = disk_of_many_tables();
    auto db = bounded_store::open("db", with_files(2), disk);
    REQUIRE(db);
    auto const before = db->snapshot();
    auto old = db->scan({}, before);
    auto at = old.begin(); // it holds the tables, and has opened the first
    REQUIRE(at != old.end());
    for (int round = 2; round < 5; ++round) {
        put_round(*db, round);
        REQUIRE(db->compact());
    }
    int seen = 0;
    for (; at != old.end(); ++at, ++seen) CHECK((*at).second == bounded_value(seen, 1));
    CHECK(seen == bounded_keys);
    CHECK(old.status());
    CHECK(db->close());
}

TEST_CASE("open files: readers and merges that open and close the same files all go on") {
    auto const disk = disk_of_many_tables();
    auto options = with_files(2);
    options.background_thread = true;
    auto db = bounded_store::open("db", options, disk);
    REQUIRE(db);
    std::atomic<bool> enough{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> readers;
    for (int t = 0; t < 3; ++t)
        readers.emplace_back([&, t] {
            for (int n = 0; !enough; ++n) {
                auto const i = (n * 37 + t * 11) % bounded_keys;
                auto const got = db->get(bounded_key(i));
                wrong += !got || !*got || (*got)->find("/" + std::to_string(i) + "v") == std::string::npos;
                if (n % 50 != 0) continue;
                auto all = db->keys();
                wrong += std::ranges::distance(all.begin(), std::default_sentinel) != bounded_keys || !all.status();
            }
        });
    for (int round = 2; round < 8; ++round) {
        put_round(*db, round);
        REQUIRE(db->compact());
    }
    enough = true;
    for (auto& r : readers) r.join();
    CHECK(wrong == 0);
    CHECK(db->state() == keel::engine_state::healthy);
    CHECK(db->close());
}

TEST_CASE("open files: an opening that only reads, and could not keep all files open, says so") {
    auto const disk = disk_of_many_tables();
    auto options = with_files(4);
    options.read_only = true;
    auto const refused = bounded_store::open("db", options, disk);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == keel::errc::no_descriptor);
    CHECK(refused.error().message.find("ulimit -n") != std::string::npos);
    CHECK(refused.error().message.find("open_options::open_files") != std::string::npos);
    options.open_files = 500;
    auto const db = bounded_store::open("db", options, disk);
    REQUIRE(db);
    auto const told = db->storage();
    CHECK(told.open_files == tables_of(*db));
    CHECK(told.open_files_max == 500);
}

TEST_CASE("open files: where one file is missing, an opening that only reads keeps all others open") {
    auto disk = disk_of_many_tables();
    auto names = disk.list("db/tables").value();
    REQUIRE(names.size() > 8);
    REQUIRE(disk.remove("db/tables/" + names[1].name));
    auto options = with_files(500);
    options.read_only = true;
    auto const db = bounded_store::open("db", options, disk);
    REQUIRE(db);
    CHECK(db->recovery().damaged());
    for (std::size_t i = 0; i < names.size(); ++i)
        if (i != 1) REQUIRE(disk.remove("db/tables/" + names[i].name)); // as a merge beside it does
    int there = 0;
    int refused = 0;
    for (int i = 0; i < bounded_keys; ++i) {
        auto const got = db->get(bounded_key(i));
        refused += !got;
        there += got && *got == bounded_value(i, 1);
    }
    CHECK(refused > 0);
    CHECK(there == bounded_keys - refused);
    CHECK(there > bounded_keys / 2);
}
