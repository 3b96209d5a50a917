// SPDX-License-Identifier: BSL-1.0
// What crashes left unsealed is sealed once, not scanned for ever; and what one crash cut is no reason to scan what came later.
#include <keel/recovery/seal_proven.hpp>

#include <keel/io/fault.hpp>
#include <keel/log.hpp>
#include <keel/policy/compaction/by_hand.hpp>

#include "support/counting_fs.hpp"
#include "support/damage_tools.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace seal_test {

namespace {

using namespace keel;
using namespace keel::test;
using small_log = basic_log<small_engine::config_type>;
using merging_by_hand = engine<io::memory, segment_size<4 * KiB>, compaction::by_hand>;
using counted_fs = counting<io::faulty<io::memory>>;
using counted_log = basic_log<config<counted_fs, segment_size<4 * KiB>>>;

open_options quick(std::optional<repair_strategy> repair = {}) {
    auto options = quiet_options(repair);
    options.verify = verify_depth::quick;
    options.max_recovery_attempts = 0;
    return options;
}

result<lsn> add(small_log& log, std::string const& text) { return log.append(text); }
result<lsn> add(merging_by_hand& store, std::string const& text) {
    return store.put("key" + std::to_string(store.last_lsn().value), text);
}

/// A log whose process was killed so often, each time with some records in a segment of its own. Opened by a policy that refuses, which
/// changes nothing: so no crash's segment was sealed yet.
template <class Store>
io::memory killed_often(int crashes, int each = 3) {
    determined::restart();
    io::memory disk;
    for (int i = 0; i < crashes; ++i) {
        auto store = Store::open(store_folder, quick(repair_strategy::refuse), disk);
        REQUIRE(store);
        for (int n = 0; n < each; ++n) REQUIRE(add(*store, std::string(200, static_cast<char>('a' + i % 26))));
        store->abandon();
        disk = disk.after_process_crash();
    }
    return disk;
}

std::uint64_t unsealed(io::memory disk) {
    auto const seen = recovery::take_inventory<small_engine::config_type>(disk, store_folder);
    REQUIRE(seen);
    return static_cast<std::uint64_t>(
        std::ranges::count_if(seen->segments, [](auto const& s) { return !s.entry.seal; }));
}

template <class Log>
std::vector<std::string> texts(Log const& log) {
    std::vector<std::string> out;
    auto reader = log.read_from({1});
    for (auto next = reader.next(); next && *next; next = reader.next()) out.emplace_back(as_text((*next)->value));
    return out;
}

} // namespace

TEST_CASE_TEMPLATE("mount: one crash voids what stood before it, and no segment that was sealed since", Store,
                   small_log, merging_by_hand) {
    auto disk = killed_often<Store>(1);
    auto store = Store::open(store_folder, quick(), disk);
    REQUIRE(store);
    while (store->last_lsn().value < 3 + 20 * 12) REQUIRE(add(*store, std::string(250, 'x')));
    REQUIRE(store->close());
    auto const wanted = store->last_lsn().value;
    for (auto const how : {repair_strategy::refuse, repair_strategy::skip_corrupted}) {
        auto again = Store::open(store_folder, quick(how), clone(disk));
        REQUIRE(again);
        auto const& r = again->recovery();
        CHECK(r.records == wanted);
        CHECK(r.segments >= 21);
        // The one that the crash left, too, unless nothing may be changed.
        CHECK(r.mounted_segments == (how == repair_strategy::refuse ? r.segments - 1 : r.segments));
        CHECK(r.sealed_segments == (how == repair_strategy::refuse ? 0U : 1U));
    }
}

TEST_CASE_TEMPLATE("seal: what many crashes left is sealed by one opening, and mounted by those behind it", Store,
                   small_log, merging_by_hand) {
    auto disk = killed_often<Store>(20);
    CHECK(unsealed(disk) == 20);
    auto first = Store::open(store_folder, quick(), disk);
    REQUIRE(first);
    CHECK(first->recovery().records == 60);
    CHECK(first->recovery().sealed_segments == 19); // all but the newest one
    CHECK(first->recovery().mounted_segments == 19);
    CHECK(first->state() == engine_state::healthy);
    first->abandon();
    disk = disk.after_power_loss({io::keep::oldest});
    auto second = Store::open(store_folder, quick(), disk);
    REQUIRE(second);
    CHECK(second->recovery().records == 60);
    CHECK(second->recovery().mounted_segments == 19);
    CHECK(second->recovery().sealed_segments == 0);
    CHECK(second->recovery().findings.empty());
    // Deep: every frame of them adds up to its seal.
    auto const deep = Store::open(store_folder, quiet_options(repair_strategy::refuse), clone(disk));
    REQUIRE(deep);
    CHECK(deep->recovery().records == 60);
    CHECK(deep->recovery().findings.empty());
}

TEST_CASE("seal: after a crash or a few nothing is written by opening, unless the log was closed since") {
    for (int crashes = 1; crashes <= static_cast<int>(recovery::unsealed_max) + 1; ++crashes) {
        CAPTURE(crashes);
        auto disk = killed_often<small_log>(crashes);
        auto log = small_log::open(store_folder, quick(), disk);
        REQUIRE(log);
        bool const many = crashes > static_cast<int>(recovery::unsealed_max);
        CHECK(log->recovery().sealed_segments == (many ? recovery::unsealed_max : 0));
        log->abandon();
        auto closed = killed_often<small_log>(crashes);
        log = small_log::open(store_folder, quick(repair_strategy::refuse), closed);
        REQUIRE(log->append("more"));
        REQUIRE(log->close());
        log = small_log::open(store_folder, quick(), closed);
        REQUIRE(log);
        CHECK(log->recovery().sealed_segments == static_cast<std::uint64_t>(crashes));
        CHECK(unsealed(closed) == 0);
    }
}

TEST_CASE("seal: never read-only, nor where the policy changes nothing") {
    auto disk = killed_often<small_log>(10);
    auto const before = clone(disk);
    auto options = quick(repair_strategy::skip_corrupted);
    options.read_only = true;
    auto const looked = small_log::open(store_folder, options, disk);
    REQUIRE(looked);
    CHECK(looked->recovery().records == 30);
    auto refusing = small_log::open(store_folder, quick(repair_strategy::refuse), disk);
    REQUIRE(refusing);
    CHECK(refusing->recovery().records == 30);
    refusing->abandon();
    CHECK(disk.equal(before, [](std::string_view path) { return path != "db/notes" && path != "db/lock"; }));
}

TEST_CASE("seal: torn bytes behind the end stay as they are, and records behind the cut do not come back") {
    determined::restart();
    io::memory disk;
    // Each crash is a power loss that keeps some of what was written and never acknowledged.
    for (int i = 0; i < 12; ++i) {
        auto log = small_log::open(store_folder, quick(repair_strategy::refuse), disk);
        REQUIRE(log);
        REQUIRE(log->append("kept " + std::to_string(i)));
        log->housekeep(true);
        std::optional<io::memory> stopped;
        disk.on_operation([&](io::operation const&) {
            if (!stopped) stopped = disk.after_power_loss({io::keep::newest, static_cast<std::uint64_t>(i)});
        });
        static_cast<void>(log->append(std::string(400, 'u')));
        disk.on_operation({});
        log->abandon();
        disk = *stopped;
    }
    std::vector<std::pair<std::string, std::uint64_t>> torn;
    {
        auto const seen = recovery::examine<small_engine::config_type>(disk, store_folder, quick());
        REQUIRE(seen);
        auto const links = recovery::links_of(seen->stock.segments);
        std::uint64_t behind_the_end = 0;
        for (std::size_t i = 0; i + 1 < seen->runs.size(); ++i) {
            torn.emplace_back(seen->stock.segments[i].path, seen->runs[i].tag_end);
            behind_the_end += seen->runs[i].tag_end > links.at(seen->stock.segments[i].entry.id).end;
        }
        CHECK(behind_the_end > 0);
    }
    auto const before = clone(disk);
    auto log = small_log::open(store_folder, quick(), disk);
    REQUIRE(log);
    CHECK(log->recovery().sealed_segments > 0);
    auto const kept = texts(*log);
    auto const wanted = texts(*small_log::open(store_folder, quick(repair_strategy::refuse), clone(before)));
    CHECK(kept == wanted);
    log->abandon();
    for (auto const& [path, end] : torn) {
        auto const now = *disk.contents(path);
        auto const then = *before.contents(path);
        CHECK(std::equal(now.begin(), now.begin() + static_cast<std::ptrdiff_t>(end), then.begin()));
    }
}

TEST_CASE("seal: an abandoned segment keeps the copies that stand behind its end") {
    determined::restart();
    io::faulty<io::memory> fs;
    using faulty_log = basic_log<config<io::faulty<io::memory>, segment_size<4 * KiB>>>;
    auto log = faulty_log::open(store_folder, quick(), fs);
    REQUIRE(log);
    REQUIRE(log->append("one"));
    fs.set_plan({{{.kind = io::fault_kind::fail_sync, .on = io::fault_class::sync, .at = 1}}});
    REQUIRE(log->append("two")); // written to a fresh segment; the first one is given up
    fs.set_plan({});
    REQUIRE(log->close());
    log = faulty_log::open(store_folder, quick(), fs);
    REQUIRE(log);
    CHECK(log->recovery().sealed_segments == 0);
    CHECK(log->recovery().records == 2);
    CHECK(log->recovery().segments == 2);
    CHECK(log->recovery().mounted_segments == 1);
}

TEST_CASE(
    "R6.5: a recovery that is killed, cancelled, out of room or out of luck at any moment goes on where it stopped") {
    constexpr int crashes = 100;
    auto const left = killed_often<small_log>(crashes);
    constexpr std::uint64_t scanned = 3 * 200; // of a segment: more than its headers and its footer
    auto const files_scanned = [](counted_fs const& fs) {
        auto all = fs.files_read(3 * format::header_bytes + scanned);
        std::erase_if(all, [](std::string const& path) { return !path.ends_with(".seg"); });
        return all.size();
    };
    enum class end { killed, cancelled, no_space, no_sync };
    for (auto const how : {end::killed, end::cancelled, end::no_space, end::no_sync}) {
        CAPTURE(static_cast<int>(how));
        auto disk_now = clone(left);
        io::faulty<io::memory> machine{disk_now};
        counted_fs fs{machine};
        std::stop_source stop;
        auto options = quick();
        options.cancel = stop.get_token();
        std::uint64_t syncs = 0;
        std::optional<io::memory> died;
        // About half of them are sealed by then: each takes some syncs.
        disk_now.on_operation([&](io::operation const& op) {
            if (op.kind != io::operation_kind::sync || ++syncs != 150) return;
            if (how == end::killed) died = disk_now.after_process_crash();
            if (how == end::cancelled) stop.request_stop();
        });
        if (how == end::no_space)
            machine.set_plan({{{.kind = io::fault_kind::no_space, .at = 900, .count = io::forever}}});
        if (how == end::no_sync)
            machine.set_plan(
                {{{.kind = io::fault_kind::fail_sync, .on = io::fault_class::sync, .at = 150, .count = 10}}});
        auto first = counted_log::open(store_folder, options, fs);
        disk_now.on_operation({});
        machine.set_plan({});
        if (how == end::cancelled) {
            REQUIRE_FALSE(first);
            CHECK(first.error().code == errc::cancelled);
        } else if (first) {
            CHECK(first->recovery().records == 3 * crashes);
            first->abandon();
        }
        if (died) disk_now = *died;
        auto const rest = unsealed(clone(disk_now));
        CHECK(rest > 5);
        CHECK(rest < crashes - 5);
        machine = io::faulty<io::memory>{disk_now};
        counted_fs second{machine};
        auto log = counted_log::open(store_folder, quick(), second);
        REQUIRE(log);
        CHECK(log->recovery().sealed_segments == rest - 1);
        CHECK(files_scanned(second) == rest);
        CHECK(log->recovery().records == 3 * crashes);
        CHECK(log->recovery().findings.empty());
        log->abandon();
        counted_fs third{machine};
        log = counted_log::open(store_folder, quick(), third);
        REQUIRE(log);
        CHECK(files_scanned(third) == 1);
        CHECK(log->recovery().mounted_segments == crashes - 1);
    }
}

TEST_CASE("seal: stopped behind any operation, by a kill or a power loss, it leaves a log with every record") {
    auto const left = killed_often<small_log>(6);
    auto const wanted = texts(*small_log::open(store_folder, quick(repair_strategy::refuse), clone(left)));
    REQUIRE(wanted.size() == 18);
    auto disk = clone(left);
    std::vector<io::memory> states;
    std::uint64_t n = 0;
    disk.on_operation([&](io::operation const&) {
        ++n;
        states.push_back(disk.after_process_crash());
        states.push_back(disk.after_power_loss({io::keep::oldest}));
        states.push_back(disk.after_power_loss({io::keep::random, n}));
    });
    auto log = small_log::open(store_folder, quick(), disk);
    REQUIRE(log);
    REQUIRE(log->recovery().sealed_segments == 5);
    disk.on_operation({});
    log->abandon();
    CHECK(states.size() > 100);
    std::uint64_t wrong = 0;
    for (auto& state : states)
        for (bool const deep : {false, true}) {
            auto const again = small_log::open(store_folder, deep ? quiet_options(repair_strategy::refuse) : quick(),
                                               clone(state));
            if (!again || again->state() != engine_state::healthy || texts(*again) != wanted ||
                !again->recovery().findings.empty())
                ++wrong;
        }
    CHECK(wrong == 0);
}

} // namespace seal_test
