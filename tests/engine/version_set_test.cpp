// SPDX-License-Identifier: BSL-1.0
#include <keel/engine/version_set.hpp>

#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "stores.hpp"
#include "versions.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <optional>
#include <ranges>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// The log as level zero: sealed segments are mounted, not read, and serve from where they lie.

namespace {

using level_store = engine_tests::by_hand_store;
template <class... Policies>
using tiny_segments = engine_tests::tiny_store<Policies...>;

static_assert(std::ranges::input_range<level_store::key_scan>);

std::string level_key(int i) { return "user/" + std::to_string(100000 + i * 7919 % 100000); }
std::string level_value(int i) { return std::string(100, static_cast<char>('a' + i % 26)) + std::to_string(i); }

/// A closed store of `count` keys over several segments.
keel::io::memory filled(int count) {
    keel::io::memory disk;
    auto db = level_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    for (int i = 0; i < count; ++i) REQUIRE(db->put(level_key(i), level_value(i)));
    REQUIRE(db->close());
    return disk;
}

/// Where the record of this key lies.
std::pair<std::string, std::uint64_t> place_of(keel::io::memory const& disk, std::string const& text) {
    for (auto const& file : disk.files()) {
        auto const bytes = *disk.contents(file);
        if (auto const at = keel::as_text(bytes).find(text); at != std::string_view::npos) return {file, at};
    }
    FAIL("the text is nowhere");
    return {};
}

keel::open_options depth(keel::verify_depth how) {
    auto o = model::test_options();
    o.verify = how;
    return o;
}

template <class Store>
std::vector<std::pair<std::string, std::string>> scanned(Store const& db, keel::range which, keel::snapshot const& at) {
    std::vector<std::pair<std::string, std::string>> out;
    auto scan = db.scan(std::move(which), at);
    for (auto&& [k, v] : scan) out.emplace_back(k, v);
    RC_ASSERT(scan.status().has_value());
    return out;
}

/// Random programs of all operations against a map with versions: in between the store is closed, killed or left idle and opened again,
/// and its segments are so small that every program seals several.
template <class Store>
void agrees_with_versions() {
    keel::io::memory disk;
    model::reset_machine();
    auto db = std::make_unique<Store>(*Store::open("db", model::test_options(), disk));
    engine_tests::versions all;
    std::uint64_t last = 0;
    std::vector<keel::snapshot> held;
    // Keys that the eight bytes of an index entry tell apart, and keys that they do not.
    auto const key =
        rc::gen::oneOf(rc::gen::map(rc::gen::inRange(0, 20), [](int i) { return "k" + std::to_string(i); }),
                       rc::gen::map(rc::gen::inRange(0, 8),
                                    [](int i) { return "k1-the same eight bytes and more " + std::to_string(i); }),
                       rc::gen::element<std::string>("k", "k1-", std::string("k1-\0", 4),
                                                     std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "a"));
    auto const put = [&](keel::write_batch& batch) {
        auto const k = *key;
        ++last;
        if (*rc::gen::inRange(0, 4) == 0) {
            batch.erase(k);
            all.note(k, last, std::nullopt);
        } else {
            auto const v = std::to_string(last) + std::string(static_cast<std::size_t>(*rc::gen::inRange(0, 300)), 'v');
            batch.put(k, v);
            all.note(k, last, v);
        }
    };
    auto const check_at = [&](keel::snapshot const& at) {
        auto const now = at.at().value;
        auto const k = *key;
        auto const got = db->get(k, at);
        RC_ASSERT(got.has_value());
        RC_ASSERT(*got == all.value_at(k, now));
        auto expected = all.all_at(now);
        RC_ASSERT(scanned(*db, {}, at) == expected);
        std::ranges::reverse(expected);
        RC_ASSERT(scanned(*db, {.reverse = true}, at) == expected);
        auto const from = *key;
        auto const to = *key;
        std::erase_if(expected, [&](auto const& e) { return e.first < from || e.first >= to; });
        RC_ASSERT(scanned(*db, {.from = from, .to = to, .reverse = true}, at) == expected);
        std::ranges::reverse(expected);
        RC_ASSERT(scanned(*db, {.from = from, .to = to}, at) == expected);
    };
    auto const steps = *rc::gen::inRange(5, 60);
    for (int s = 0; s < steps; ++s) {
        auto const what = *rc::gen::inRange(0, 22);
        if (what > 19) {
            ++last;
            std::map<std::string, std::string> sorted;
            for (int n = *rc::gen::inRange(1, 6); n > 0; --n) sorted[*key] = std::to_string(last);
            for (auto const& [k, v] : sorted) all.note(k, last, v);
            auto const done = db->ingest(sorted);
            RC_ASSERT(done.has_value());
            RC_ASSERT(done->value == last);
        } else if (what < 12) {
            keel::write_batch batch;
            auto const n = *rc::gen::inRange(1, 5);
            for (int i = 0; i < n; ++i) put(batch);
            auto const done = db->write(batch);
            RC_ASSERT(done.has_value());
            RC_ASSERT(done->value == last);
        } else if (what == 12) {
            held.push_back(db->snapshot());
        } else if (what == 13) {
            db->housekeep();
        } else if (what < 16) {
            held.clear();
            if (what == 14) RC_ASSERT(db->close().has_value());
            else db->abandon();
            db.reset();
            if (what == 15) disk = disk.after_process_crash();
            auto again = Store::open("db", model::test_options(), disk);
            RC_ASSERT(again.has_value());
            db = std::make_unique<Store>(std::move(*again));
            RC_ASSERT(db->last_lsn().value == last);
        } else {
            check_at(held.empty() || what == 16
                         ? db->snapshot()
                         : held[static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(held.size())))]);
        }
    }
    check_at(db->snapshot());
}

} // namespace

TEST_CASE("P19: random programs with snapshots, rollovers, closes and kills agree with a map of versions") {
    CHECK(rc::check("written through", agrees_with_versions<tiny_segments<>>));
    CHECK(rc::check("mapped", agrees_with_versions<tiny_segments<keel::durability::os_buffered>>));
    CHECK(rc::check("another checksum, larger segments", agrees_with_versions<engine_tests::other_store>));
}

TEST_CASE("levels: a store that was closed is opened without reading a record, and has all of them") {
    auto disk = filled(3000);
    auto db = level_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    auto const& report = db->recovery();
    CHECK(report.segments > 5);
    CHECK(report.mounted_segments == report.segments);
    CHECK(report.replayed_records == 0);
    CHECK(report.records == 3000);
    CHECK(report.clean_close);
    for (int i = 0; i < 3000; ++i) REQUIRE(**db->get(level_key(i)) == level_value(i));
    CHECK(!*db->get("user/"));
    CHECK(!*db->get("zzz"));
    CHECK(!*db->get(level_key(1) + "x"));
}

TEST_CASE("levels: what a kill left open is scanned, and only that") {
    keel::io::memory disk;
    {
        auto db = level_store::open("db", model::test_options(), disk);
        for (int i = 0; i < 3000; ++i) REQUIRE(db->put(level_key(i), level_value(i)));
        db->abandon();
    }
    auto db = level_store::open("db", model::test_options(), disk.after_process_crash());
    REQUIRE(db);
    auto const& report = db->recovery();
    CHECK(report.mounted_segments + 1 == report.segments);
    CHECK(report.replayed_records < 500);
    CHECK(report.replayed_records > 0);
    for (int i = 0; i < 3000; ++i) REQUIRE(**db->get(level_key(i)) == level_value(i));
}

TEST_CASE("levels: a sealed segment that rolled over is served from the disk, and memory lets it go") {
    keel::io::memory disk;
    auto db = level_store::open("db", model::test_options(), disk);
    auto const before = db->snapshot();
    for (int round = 0; round < 3; ++round)
        for (int i = 0; i < 1000; ++i) REQUIRE(db->put(level_key(i), level_value(i + round)));
    for (int i = 0; i < 1000; ++i) {
        REQUIRE(**db->get(level_key(i)) == level_value(i + 2));
        REQUIRE(!*db->get(level_key(i), before));
    }
    // The bytes in the file are what is served: turned over, they are no data any more.
    auto const [file, at] = place_of(disk, level_value(17));
    REQUIRE(disk.corrupt(file, at, std::byte{1}));
    auto const other = level_store::open("other", model::test_options(), disk);
    auto const old = db->get(level_key(17), other->snapshot());
    CHECK(old.error().code == keel::errc::invalid_argument); // no snapshot of this store
    CHECK(**db->get(level_key(17)) == level_value(19));
}

TEST_CASE(
    "R1.3: a record damaged in a sealed segment is an error with its place, an event, and no other key's trouble") {
    auto disk = filled(3000);
    auto const [file, at] = place_of(disk, level_value(40));
    REQUIRE(disk.corrupt(file, at + 3, std::byte{0x10}));
    auto db = level_store::open("db", depth(keel::verify_depth::quick), disk);
    REQUIRE(db);
    CHECK(db->state() == keel::engine_state::healthy); // nobody has looked yet
    auto const got = db->get(level_key(40));
    REQUIRE(!got);
    CHECK(got.error().code == keel::errc::corruption);
    CHECK(got.error().file == file);
    CHECK(got.error().offset < at);
    CHECK(got.error().at.value == 41);
    CHECK(db->state() == keel::engine_state::degraded);
    CHECK(keel::as_text(*disk.contents("db/quarantine/corruption.jsonl")).find("corrupt_record") !=
          std::string_view::npos);
    for (int i = 0; i < 3000; ++i)
        if (i != 40) REQUIRE(**db->get(level_key(i)) == level_value(i));
    auto scan = db->scan();
    CHECK(std::ranges::distance(scan) < 3000);
    CHECK(scan.status().error().code == keel::errc::corruption);
    REQUIRE(db->close());
    db = level_store::open("db", depth(keel::verify_depth::deep), disk);
    REQUIRE(db);
    CHECK(db->recovery().lost_records == 1);
    CHECK(!*db->get(level_key(40)));
    CHECK(**db->get(level_key(41)) == level_value(41));
    auto whole = db->scan();
    CHECK(std::ranges::distance(whole) == 2999);
    CHECK(whole.status());
    REQUIRE(db->close());
    CHECK(level_store::open("db", depth(keel::verify_depth::deep), disk)->recovery().lost_records == 0);
}

TEST_CASE("levels: verify() finds what nobody has read yet, and says so") {
    auto disk = filled(3000);
    auto db = level_store::open("db", model::test_options(), disk);
    auto const sound = db->verify(keel::verify_depth::deep);
    REQUIRE(sound);
    CHECK(sound->records == 3000);
    CHECK(sound->findings.empty());
    auto const [file, at] = place_of(disk, level_value(77));
    REQUIRE(disk.corrupt(file, at, std::byte{2}));
    auto const quick = db->verify(keel::verify_depth::quick);
    REQUIRE(quick);
    CHECK(quick->findings.empty());
    auto const hurt = db->verify();
    REQUIRE(hurt);
    REQUIRE(hurt->findings.size() == 1);
    CHECK(hurt->corrupted_records == 1);
    CHECK(hurt->findings[0].lsns.first.value == 78);
    CHECK(db->state() == keel::engine_state::degraded);
    CHECK(db->state_reason().find(".seg") != std::string::npos);
}

TEST_CASE("levels: verify() misses a file that was removed under the store, though what is open can still be read") {
    auto disk = filled(3000);
    auto db = level_store::open("db", model::test_options(), disk);
    REQUIRE(db->verify()); // opens every file
    auto const [file, at] = place_of(disk, level_value(77));
    REQUIRE(disk.remove(file));
    CHECK(db->get(level_key(77)).value() == level_value(77));
    for (auto const how : {keel::verify_depth::quick, keel::verify_depth::deep}) {
        auto const seen = db->verify(how);
        REQUIRE(!seen);
        CHECK(seen.error().code == keel::errc::not_found);
        CHECK(seen.error().file == file);
    }
}

TEST_CASE("levels: several keys at once are of one moment and in the order asked for") {
    auto disk = filled(300);
    auto db = level_store::open("db", model::test_options(), disk);
    REQUIRE(db->erase(level_key(5)));
    std::string const a = level_key(7);
    std::string const b = level_key(5);
    std::vector<std::string_view> const keys{a, b, "never", a};
    auto const got = db->multi_get(keys);
    REQUIRE(got);
    CHECK(*got == std::vector<std::optional<std::string>>{level_value(7), std::nullopt, std::nullopt, level_value(7)});
    CHECK(db->multi_get({})->empty());
    REQUIRE(db->close());
    CHECK(db->multi_get(keys).error().code == keel::errc::closed);
}

TEST_CASE("levels: a damaged index costs time, not data") {
    auto const disk = filled(3000);
    auto const shape = disk.files();
    int damaged = 0;
    for (auto const& file : shape) {
        if (!file.ends_with(".seg")) continue;
        auto const bytes = *disk.contents(file);
        auto const footer = keel::format::decode_segment_footer<keel::checksum::crc32c>(
            keel::byte_view{bytes}.subspan(keel::format::footer_offset(bytes.size()), 512));
        if (!footer.good || footer.footer.section_count == 0) continue;
        auto const index = footer.footer.sections[0];
        for (auto offset = index.offset; offset < index.offset + index.length; offset += 4096) {
            auto hurt = disk.after_process_crash();
            REQUIRE(hurt.corrupt(file, offset + 100, std::byte{0x40}));
            auto db = level_store::open("db", model::test_options(), hurt);
            REQUIRE(db);
            for (int i = 0; i < 3000; i += 7) REQUIRE(**db->get(level_key(i)) == level_value(i));
            auto scan = db->scan();
            CHECK(std::ranges::distance(scan) == 3000);
            CHECK(scan.status());
            ++damaged;
        }
    }
    CHECK(damaged > 10);
}

TEST_CASE("levels: with every index gone all is scanned, and nothing is missing") {
    auto disk = filled(3000);
    for (auto const& file : disk.files()) {
        if (!file.ends_with(".seg")) continue;
        auto const size = disk.contents(file)->size();
        REQUIRE(disk.corrupt(file, keel::format::footer_offset(size) + 20, std::byte{1}));
    }
    auto db = level_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    CHECK(db->recovery().mounted_segments == 0);
    CHECK(db->recovery().lost_records == 0);
    for (int i = 0; i < 3000; ++i) REQUIRE(**db->get(level_key(i)) == level_value(i));
}

TEST_CASE("levels: no read waits for the disk that a write, a seal or a merge waits for") {
    keel::io::memory disk;
    auto db = level_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    for (int i = 0; i < 2000; ++i) REQUIRE(db->put(level_key(i), level_value(i)));
    std::atomic<bool> wanted{false};
    std::atomic<int> reads{0};
    std::atomic<bool> enough{false};
    std::thread reader{[&] {
        while (!enough) {
            if (!wanted) continue;
            bool const found = db->get(level_key(7)).value().has_value();
            auto all = db->scan(keel::prefix{"user/1"});
            reads += found && all.begin() != all.end();
            wanted = false;
        }
    }};
    int waited = 0;
    int stuck = 0;
    disk.on_operation([&](keel::io::operation const& now) {
        if (stuck != 0 || now.index % 13 != 0 || now.at != keel::io::operation::phase::done) return;
        ++waited;
        wanted = true;
        auto const patience = std::chrono::steady_clock::now() + std::chrono::seconds{20};
        while (wanted && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
        stuck += wanted;
    });
    for (int i = 0; i < 700; ++i) CHECK(db->put(level_key(i), level_value(i + 1)).has_value());
    CHECK(db->compact().has_value());
    disk.on_operation({});
    enough = true;
    reader.join();
    CHECK(stuck == 0);
    CHECK(waited > 100);
    CHECK(reads == waited);
}

TEST_CASE("levels: readers beside a writer that rolls over see each key's newest value or one before it") {
    keel::io::memory disk;
    disk.set_versions_max(1);
    auto db = level_store::open("db", model::test_options(), disk);
    constexpr int keys = 50;
    std::atomic<int> done{-1};
    std::atomic<bool> wrong{false};
    for (int i = 0; i < keys; ++i) REQUIRE(db->put(level_key(i), "0"));
    std::vector<std::jthread> readers;
    for (int t = 0; t < 2; ++t)
        readers.emplace_back([&](std::stop_token stop) {
            for (int i = 0; !stop.stop_requested(); i = (i + 1) % keys) {
                auto const floor = done.load();
                auto const got = db->get(level_key(i));
                if (!got || !*got || std::stoi(**got) < floor) wrong = true;
                auto scan = db->scan();
                if (std::ranges::distance(scan) != keys || !scan.status()) wrong = true;
            }
        });
    for (int round = 1; round <= 60; ++round) {
        for (int i = 0; i < keys; ++i) REQUIRE(db->put(level_key(i), std::to_string(round) + std::string(200, ' ')));
        done = round;
    }
    readers.clear();
    CHECK(!wrong);
    CHECK(db->last_lsn().value == keys * 61);
}

TEST_CASE(
    "levels: a segment keeps room for the mark that falls due when the log is quiet, and for the one that closes it") {
    using unmerged = engine_tests::by_hand_store; // else what a quiet log is left with would be merged
    constexpr auto room = [](std::uint64_t segment) {
        return keel::format::footer_offset(segment) - keel::format::frames_begin(segment);
    };
    constexpr auto all_but_some = static_cast<std::size_t>(room(64 * keel::KiB) - room(4 * keel::KiB));
    for (int extra = 0; extra < 40; ++extra) {
        keel::io::memory disk;
        auto db = unmerged::open("db", model::test_options(), disk);
        REQUIRE(db->put("large", std::string(all_but_some, 'v')));
        for (int i = 0; i < 12; ++i)
            REQUIRE(db->put("key" + std::to_string(i), std::string(40 + static_cast<std::size_t>(extra) * 2, 'v')));
        db->housekeep(true);
        auto const left = disk.after_power_loss({.what = keel::io::keep::oldest});
        // The idle mark proves the last put: without its bytes it is corruption, not a torn tail.
        auto hurt = left;
        auto const [file, at] = place_of(hurt, "key11");
        REQUIRE(hurt.corrupt(file, at, std::byte{1}));
        auto const again = unmerged::open("db", model::test_options(), hurt);
        REQUIRE(again);
        CHECK(again->recovery().lost_records == 1);
        REQUIRE(db->close());
        CHECK(unmerged::open("db", model::test_options(), disk)->recovery().clean_close);
    }
}
