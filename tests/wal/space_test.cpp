// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/reserve.hpp>

#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>

#include <string>

// A full disk is a state that passes: reads go on, writes are refused with a clear error, and go on once there is room (R6.5, P15).

namespace {

using store = keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>>;
using buffered = keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>, keel::durability::os_buffered>;
using tight_log = keel::log<keel::io::memory, keel::segment_size<64 * keel::KiB>>;
constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();

std::string key_of(int i) { return "key" + std::to_string(i); }

/// Puts until the disk is full; how many were taken.
template <class Store>
int fill(Store& db, int first = 0) {
    for (int i = first; i < first + 10'000; ++i)
        if (auto const done = db.put(key_of(i), std::string(1000, 'v')); !done) {
            CHECK(done.error().code == keel::errc::no_space);
            return i;
        }
    FAIL("the disk was never full");
    return 0;
}

template <class Store>
void full_disk_passes() {
    keel::io::memory disk;
    auto db = Store::open("db", model::test_options(), disk);
    REQUIRE(db);
    REQUIRE(db->put("first", "1"));
    db->housekeep(); // the reserve is made here
    REQUIRE(disk.status("db/reserve"));
    disk.set_capacity(600 * keel::KiB);

    auto const taken = fill(*db);
    CHECK(db->state() == keel::engine_state::read_only);
    CHECK(db->state_reason().find("full") != std::string::npos);
    CHECK_MESSAGE(disk.status("db/reserve"), "ordinary writes leave the reserve alone");
    for (int i = 0; i < taken; ++i) REQUIRE(**db->get(key_of(i)) == std::string(1000, 'v'));
    CHECK(!*db->get(key_of(taken)));
    db->housekeep();
    CHECK_MESSAGE(db->state() == keel::engine_state::read_only, "there is still no room");
    CHECK(db->put("first", "2").error().code == keel::errc::no_space);

    disk.set_capacity(unlimited);
    db->housekeep();
    CHECK(db->state() == keel::engine_state::healthy);
    for (int i = taken; i < taken + 200; ++i) REQUIRE(db->put(key_of(i), std::string(1000, 'v')));
    db->abandon();
    auto again = Store::open("db", model::test_options(), disk.after_process_crash());
    REQUIRE(again);
    CHECK(again->recovery().findings.empty());
    for (int i = 0; i < taken + 200; ++i) REQUIRE(**again->get(key_of(i)) == std::string(1000, 'v'));
}

} // namespace

TEST_CASE("space: on a full disk reads go on and writes are refused until there is room, without a restart") {
    full_disk_passes<store>();
    full_disk_passes<buffered>();
}

TEST_CASE("space: a store opened on a full disk serves reads, and writes once there is room") {
    keel::io::memory disk;
    {
        auto db = store::open("db", model::test_options(), disk);
        REQUIRE(db->put("k", "v"));
        db->abandon();
    }
    disk.set_capacity(1);
    auto db = store::open("db", model::test_options(), disk);
    REQUIRE(db);
    CHECK(**db->get("k") == "v");
    CHECK(db->put("l", "w").error().code == keel::errc::no_space);
    CHECK(db->put("l", "w").error().code == keel::errc::no_space);
    CHECK(**db->get("k") == "v");
    disk.set_capacity(unlimited);
    REQUIRE(db->resume());
    CHECK(db->put("l", "w"));
    CHECK(**db->get("l") == "w");
}

TEST_CASE("space: retention gives room back on a full disk, drawing on the reserve, and writing goes on") {
    keel::io::memory disk;
    auto wal = tight_log::open("log", model::test_options(), disk);
    REQUIRE(wal);
    REQUIRE(wal->append("x"));
    int spent = 0;
    keel::lsn last{};
    // At some of the rounds the manifest must be written anew while it is full; only the reserve has the room for that.
    for (int round = 0; round < 40; ++round) {
        wal->housekeep();
        REQUIRE(disk.status("log/reserve"));
        for (int i = 0; i < 200 + 37 * round; ++i) {
            auto const done = wal->append(std::string(1000, 'r'));
            REQUIRE(done);
            last = *done;
        }
        disk.set_capacity(disk.used()); // not a block more than what is there
        while (wal->append(std::string(1000, 'r'))) last = wal->last_lsn();
        REQUIRE(wal->state() == keel::engine_state::read_only);
        for (auto upto = wal->first_lsn(); upto <= last; upto.value += 20) {
            auto const gave_up = wal->truncate_before(upto);
            REQUIRE_MESSAGE(gave_up, keel::to_string(gave_up.error()));
        }
        spent += !disk.status("log/reserve");
        disk.set_capacity(unlimited);
        wal->housekeep();
        REQUIRE(wal->state() == keel::engine_state::healthy);
    }
    CHECK(spent > 0);
    REQUIRE(wal->close());
    auto again = tight_log::open("log", model::test_options(), disk);
    REQUIRE(again);
    CHECK(again->last_lsn() == last);
    CHECK(again->recovery().findings.empty());
}

TEST_CASE("space: half a reserve is written anew, and a file of another kind in its place costs no write") {
    keel::io::memory disk;
    auto const small = keel::io::access::read_write;
    {
        auto db = store::open("db", model::test_options(), disk);
        REQUIRE(db->put("k", "v"));
    }
    REQUIRE(disk.open("db/reserve", small, keel::io::creation::if_missing));
    auto db = store::open("db", model::test_options(), disk);
    REQUIRE(db->put("k", "w"));
    db->housekeep();
    CHECK(disk.status("db/reserve")->size >= 64 * keel::KiB);
    REQUIRE(db->close());
    REQUIRE(disk.remove("db/reserve"));
    REQUIRE(disk.make_directory("db/reserve"));
    db = store::open("db", model::test_options(), disk);
    REQUIRE(db->put("k", "x"));
    db->housekeep();
    CHECK(db->state() == keel::engine_state::healthy);
    CHECK(db->put("k", "y"));
}
