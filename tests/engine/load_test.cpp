// SPDX-License-Identifier: BSL-1.0
// What a store does while more is written than merged: slices of the log, runs that move down, writers that are slowed.
#include <keel/engine/write_delay.hpp>

#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "stores.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace load_test {

namespace {

using store_type = engine_tests::tiny_store<>;
using compaction = store_type::config_type::compaction;
/// Tables may be small beside those that merges make.
using roomy_store =
    keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>, keel::compaction::leveled<64 * keel::KiB, 2>>;

std::string number(std::uint64_t i) { return std::to_string(100'000 + i); }
std::string spread_key(std::uint64_t i) { return "key" + number(i * 7919 % 100'000); }
std::string some_value(std::uint64_t i) { return number(i) + std::string(90, static_cast<char>('a' + i % 26)); }

std::size_t levels_in_use(keel::storage_report const& r) {
    return static_cast<std::size_t>(std::ranges::count_if(r.levels, [](auto const& l) { return l.tables != 0; }));
}
std::uint64_t tables(keel::storage_report const& r) {
    std::uint64_t n = 0;
    for (auto const& l : r.levels) n += l.tables;
    return n;
}
/// Writes keys from `next` on until so much log waits.
void write_ahead(store_type& db, std::uint64_t& next, std::uint64_t bytes) {
    while (db.storage().log_waiting < bytes) {
        REQUIRE(db.put(spread_key(next), some_value(next)));
        ++next;
    }
}
void check_all(store_type& db, std::uint64_t count) {
    std::map<std::string, std::string> expected;
    for (std::uint64_t i = 0; i < count; ++i) expected[spread_key(i)] = some_value(i);
    auto all = db.scan();
    auto at = expected.begin();
    for (auto&& [key, value] : all) {
        REQUIRE(at != expected.end());
        CHECK(key == at->first);
        CHECK(value == at->second);
        ++at;
    }
    CHECK(all.status());
    CHECK(at == expected.end());
}

} // namespace

TEST_CASE("load: a long log is merged a slice at a time, and each slice is given back by itself") {
    keel::io::memory disk;
    auto db = store_type::open("db", model::test_options(), disk);
    REQUIRE(db);
    std::uint64_t next = 0;
    write_ahead(*db, next, 10 * compaction::log_bytes);
    auto waiting = db->storage().log_waiting;
    int slices = 0;
    for (int steps = 0; db->storage().log_waiting >= compaction::log_bytes; ++steps) {
        REQUIRE(steps < 200);
        db->housekeep(false);
        auto const now = db->storage().log_waiting;
        REQUIRE(now <= waiting);
        CHECK(waiting - now <= 2 * compaction::log_bytes + store_type::config_type::segment_bytes);
        slices += now < waiting;
        waiting = now;
    }
    CHECK(slices >= 5);
    check_all(*db, next);
    CHECK(db->state() == keel::engine_state::healthy);
}

TEST_CASE("load: while the log is due runs move down as they are, and a byte is written again a few times only") {
    keel::io::memory disk;
    auto db = store_type::open("db", model::test_options(), disk);
    REQUIRE(db);
    std::uint64_t next = 0;
    std::size_t most_levels = 0;
    constexpr std::uint64_t slices = 40;
    std::uint64_t given = 0;
    // The log never gets short enough for the levels to be put in proportion.
    for (std::uint64_t i = 0; i < slices; ++i) {
        write_ahead(*db, next, 5 * compaction::log_bytes);
        auto const before = db->storage().log_waiting;
        for (int steps = 0; db->storage().log_waiting >= before; ++steps) {
            REQUIRE(steps < 400);
            db->housekeep(false);
        }
        given += before - db->storage().log_waiting;
        most_levels = std::max(most_levels, levels_in_use(db->storage()));
    }
    auto const loaded = db->storage();
    CHECK(most_levels > 3);
    // Merged into the first level each time it would be half the number of slices: 20.
    CHECK(loaded.merge_bytes_written < 8 * given);
    check_all(*db, next);
    // Once nobody writes, no two levels of like size are left above each other.
    for (int i = 0; i < 500; ++i) db->housekeep(true);
    auto const quiet = db->storage();
    for (std::size_t n = 1; n + 1 < quiet.levels.size(); ++n) {
        CAPTURE(n);
        if (quiet.levels[n].tables == 0 || quiet.levels[n + 1].tables == 0) continue;
        CHECK(quiet.levels[n + 1].bytes > 2 * quiet.levels[n].bytes);
    }
    check_all(*db, next);
}

TEST_CASE("load: many small ingestions become few tables") {
    keel::io::memory disk;
    auto db = roomy_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    constexpr std::uint64_t count = 1200;
    for (std::uint64_t i = 0; i < count; ++i) {
        REQUIRE(db->ingest(std::map<std::string, std::string>{{"in" + number(i), "value"}}));
        db->housekeep(false);
    }
    for (int i = 0; i < 200; ++i) db->housekeep(true);
    CHECK(tables(db->storage()) < 30);
    std::uint64_t seen = 0;
    auto all = db->scan();
    for (auto&& [key, value] : all) CHECK(key == "in" + number(seen++));
    CHECK(all.status());
    CHECK(seen == count);
    // Each was written once, and again a few times: for each class of sizes.
    CHECK(db->storage().merge_bytes_written < 60 * count * 100);
}

TEST_CASE("load: many openings that write a little each leave few tables") {
    keel::io::memory disk;
    constexpr std::uint64_t count = 300;
    for (std::uint64_t i = 0; i < count; ++i) {
        auto db = roomy_store::open("db", model::test_options(), disk);
        REQUIRE(db);
        REQUIRE(db->put("at" + number(i), std::string(200, 'v')));
        db->housekeep(false);
        REQUIRE(db->close());
    }
    auto db = roomy_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    CHECK(tables(db->storage()) < 150);
    for (std::uint64_t i = 0; i < count; ++i) CHECK(**db->get("at" + number(i)) == std::string(200, 'v'));
}

TEST_CASE("delay: none up to half the limit, then slower the nearer the limit is, and never for ever") {
    using namespace std::chrono_literals;
    keel::detail::write_delay delay{1000 * keel::MiB};
    auto const rate_at = [&](std::uint64_t waiting) {
        delay.look(waiting * keel::MiB);
        return delay.report().rate;
    };
    for (int i = 0; i < 100; ++i) delay.gave_back(50 * keel::MiB, 1s);
    CHECK(rate_at(0) == 0);
    CHECK(rate_at(500) == 0);
    auto last = rate_at(501);
    CHECK(last > 50 * keel::MiB); // the log may still grow
    for (std::uint64_t waiting = 510; waiting < 3000; waiting += 10) {
        auto const now = rate_at(waiting);
        CHECK(now <= last);
        CHECK(now != 0);
        last = now;
    }
    CHECK(rate_at(1000) < 50 * keel::MiB); // here it gets shorter
    CHECK(rate_at(1'000'000) == keel::detail::write_delay::rate_least);
    delay.off();
    CHECK(delay.report().rate == 0);
    delay.wait(1'000'000'000);
    CHECK(delay.report().waits == 0);
}

TEST_CASE("delay: follows what merges give back, however uneven") {
    using namespace std::chrono_literals;
    keel::detail::write_delay delay{1000 * keel::MiB};
    auto const rate = [&] {
        delay.look(800 * keel::MiB);
        return static_cast<double>(delay.report().rate);
    };
    for (int i = 0; i < 100; ++i) delay.gave_back(100 * keel::MiB, 1s);
    auto const steady = rate();
    delay.gave_back(100 * keel::MiB, 3s); // a slow one
    CHECK(rate() < steady);
    CHECK(rate() > steady / 2);
    for (int i = 0; i < 100; ++i) delay.gave_back(100 * keel::MiB, 10s);
    CHECK(rate() < steady / 8);
    CHECK(rate() > steady / 12);
}

TEST_CASE("delay: a write that is far ahead of its turn waits, one that is not goes") {
    keel::detail::write_delay delay{2};
    delay.look(2);
    auto const rate = delay.report().rate;
    REQUIRE(rate != 0);
    delay.wait(1);
    CHECK(delay.report().waits == 0);
    delay.wait(rate / 100); // a hundredth of a second's bytes
    CHECK(delay.report().waits == 1);
    CHECK(delay.report().waited.count() > 0);
}

} // namespace load_test
