// SPDX-License-Identifier: BSL-1.0
// Opening as a whole: what recovery promises whatever the store, its damage and the machine.
#include <keel/recovery/opening.hpp>

#include <keel/io/fault.hpp>
#include <keel/log.hpp>

#include "support/damage_judge.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <string>
#include <vector>

namespace {

using namespace keel;
using namespace keel::test;
using small_config = small_engine::config_type;
using faulty_engine = engine<io::faulty<io::memory>, segment_size<4 * KiB>>;

ending any_ending() { return *rc::gen::element(ending::closed, ending::process_crash, ending::power_loss); }
repair_strategy any_strategy() {
    return *rc::gen::elementOf(std::vector(all_strategies.begin(), all_strategies.end()));
}
std::uint64_t any_seed() { return *rc::gen::inRange<std::uint64_t>(1, 100'000); }

/// A few places of the disk overwritten, segments and manifests alike.
void damage_at_random(small_store& store, std::uint64_t seed) {
    io::detail::seeded random{seed};
    for (auto n = random.below(4); n > 0; --n) {
        auto const& f = store.files[static_cast<std::size_t>(random.below(store.files.size()))];
        if (f.bytes == 0 || (f.path.find("manifest") != std::string::npos && f.path.ends_with("1"))) continue;
        auto const at = random.below(f.bytes);
        std::vector<std::byte> bytes(
            static_cast<std::size_t>(1 + random.below(std::min<std::uint64_t>(f.bytes - at, 200))));
        for (auto& b : bytes) b = static_cast<std::byte>(random.below(256));
        overwrite(store.disk, f.path, at, bytes);
    }
}

bool same_ranges(std::vector<recovery::counted_range> const& a, std::vector<recovery::counted_range> const& b) {
    return std::ranges::equal(
        a, b, [](auto const& x, auto const& y) { return x.range == y.range && x.segment == y.segment; });
}

} // namespace

TEST_CASE("P4: segments follow each other without a gap, none is overfull, and each record lies in one of them") {
    CHECK(rc::check("stores of any size", [] {
        auto const store = make_store(any_ending(), *rc::gen::inRange<std::uint64_t>(1, 200), any_seed());
        lsn next{1};
        for (auto const& f : store.files) {
            if (!f.segment || f.lsns.empty()) continue;
            RC_ASSERT(f.bytes == 4 * KiB);
            RC_ASSERT(f.lsns.first == next);
            RC_ASSERT(f.data_end <= format::frames_limit(f.bytes));
            next = f.lsns.last.next();
            for (auto n = f.lsns.first; n <= f.lsns.last; n = n.next()) // a batch never spans two segments
                RC_ASSERT(f.lsns.contains(store.past.at(n).batch_first) &&
                          f.lsns.contains(store.past.at(n).batch_last));
        }
        RC_ASSERT(next == store.past.last().next());
    }));
}

TEST_CASE("P5: recovery by any number of threads gives the same verdict, report and content") {
    CHECK(rc::check("damaged stores", [] {
        auto store = make_store(any_ending(), 120, any_seed());
        damage_at_random(store, any_seed());
        auto const serial = recovery::examine<small_config>(store.disk, store_folder, quiet_options());
        RC_ASSERT(serial.has_value());
        auto const strategy = any_strategy();
        std::string text;
        history::content content;
        for (unsigned threads = 1; threads <= 4; ++threads) {
            auto options = quiet_options(strategy);
            options.recovery_threads = threads;
            auto const parallel = recovery::examine<small_config>(store.disk, store_folder, options);
            RC_ASSERT(parallel.has_value());
            RC_ASSERT(same_ranges(parallel->found.counted, serial->found.counted));
            RC_ASSERT(parallel->found.lost == serial->found.lost);
            RC_ASSERT(describe(parallel->report) == describe(serial->report));
            auto disk = clone(store.disk);
            determined::restart(5);
            auto const opened = small_engine::open(store_folder, options, disk);
            auto const told = opened ? describe(opened->recovery()) : to_string(opened.error());
            auto const seen = opened ? content_of(*opened) : history::content{};
            if (threads == 1) {
                text = told;
                content = seen;
            }
            RC_ASSERT(told == text);
            RC_ASSERT(seen == content);
        }
    }));
}

TEST_CASE("P10: nothing that does not verify is served, and it is told before the first read can be made") {
    CHECK(rc::check("damaged stores", [] {
        auto store = make_store(any_ending(), 80, any_seed());
        damage_at_random(store, any_seed());
        auto const opened = small_engine::open(store_folder, quiet_options(any_strategy()), store.disk);
        if (!opened) {
            RC_ASSERT(opened.error().code == errc::corruption);
            return;
        }
        auto const& r = opened->recovery();
        RC_ASSERT(content_of(*opened) == store.past.without(r.lost_lsn_ranges, r.last_lsn));
        RC_ASSERT((opened->state() == engine_state::healthy) == !r.damaged());
        RC_ASSERT(opened->state() == engine_state::healthy || !opened->state_reason().empty());
    }));
}

TEST_CASE(
    "P11: each corruption that cost records is written to the corruption log, before the store can be written to") {
    auto store = make_store(ending::closed, 60, 2);
    flip_bit(store.disk, "db/log/0000000000000001.seg", 700 * 8);
    auto const opened = small_engine::open(store_folder, quiet_options(repair_strategy::skip_corrupted), store.disk);
    REQUIRE(opened.has_value());
    auto const log = store.disk.contents("db/quarantine/corruption.jsonl");
    REQUIRE(log.has_value());
    auto const text = as_text(*log);
    CHECK(text.find("corrupt_record") != std::string_view::npos);
    CHECK(text.find("log/0000000000000001.seg") != std::string_view::npos);
    CHECK(std::ranges::count(text, '\n') ==
          std::ranges::count_if(opened->recovery().findings, &finding::is_corruption));
}

TEST_CASE("P11: damage that cost nothing is written to the corruption log once, however often the store is opened") {
    auto store = make_store(ending::closed, 60, 2);
    flip_bit(store.disk, "db/log/0000000000000001.seg", 8 * 8); // the first header; the second one serves
    std::string first;
    for (int i = 0; i < 3; ++i) {
        auto opened = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), store.disk);
        REQUIRE(opened.has_value());
        CHECK(opened->recovery().lost_records == 0);
        CHECK(opened->state() == engine_state::degraded);
        auto const log = store.disk.contents("db/quarantine/corruption.jsonl");
        REQUIRE(log.has_value());
        if (i == 0) first = as_text(*log);
        CHECK(as_text(*log) == first);
        opened->abandon();
    }
    CHECK(first.find("header_damaged") != std::string::npos);
    CHECK(first.find("healed") != std::string::npos);
}

TEST_CASE("P12: recovery counts what is there: records, replayed, skipped and lost add up") {
    CHECK(rc::check("damaged stores", [] {
        auto store = make_store(any_ending(), 80, any_seed());
        damage_at_random(store, any_seed());
        auto const opened = small_engine::open(store_folder, quiet_options(repair_strategy::skip_corrupted),
                                               store.disk);
        RC_ASSERT(opened.has_value());
        auto const& r = opened->recovery();
        std::uint64_t lost = 0;
        for (auto const& l : r.lost_lsn_ranges) lost += l.size();
        RC_ASSERT(r.lost_records == lost);
        RC_ASSERT(r.replayed_records == r.records);
        RC_ASSERT(r.records + lost <= store.past.last().value);
        RC_ASSERT(r.corrupted_records == r.healed_records + r.lost_records);
        std::uint64_t torn = 0;
        for (auto const& f : r.findings) torn += f.kind == damage::torn_tail ? f.length : 0;
        RC_ASSERT(torn == r.torn_tail_bytes);
        RC_ASSERT(r.records + lost == store.past.last().value || r.torn_tail_bytes != 0 ||
                  r.last_lsn < store.past.last());
        RC_ASSERT(r.attempts == 1U);
    }));
}

TEST_CASE("P12: an undamaged store is recovered in full and without a word") {
    CHECK(rc::check("any ending", [] {
        auto const how = any_ending();
        auto const store = make_store(how, *rc::gen::inRange<std::uint64_t>(1, 150), any_seed());
        auto const opened = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), store.disk);
        RC_ASSERT(opened.has_value());
        auto const& r = opened->recovery();
        RC_ASSERT(r.records == store.past.last().value);
        RC_ASSERT(r.findings.empty());
        RC_ASSERT(r.clean_close == (how == ending::closed));
        RC_ASSERT(content_of(*opened) == store.past.now());
        RC_ASSERT(opened->state() == engine_state::healthy);
    }));
}

TEST_CASE("P13: an open that is refused says the same again and again, and changes nothing") {
    CHECK(rc::check("damaged stores", [] {
        auto store = make_store(any_ending(), 80, any_seed());
        damage_at_random(store, any_seed());
        auto const before = clone(store.disk);
        std::string first;
        for (int i = 0; i < 3; ++i) {
            auto const opened = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), store.disk);
            if (opened) return;
            if (i == 0) first = to_string(opened.error());
            RC_ASSERT(to_string(opened.error()) == first);
            RC_ASSERT(opened.error().message.find("repair") != std::string::npos);
            RC_ASSERT(!opened.error().file.empty());
            RC_ASSERT(store.disk.equal(before));
        }
        RC_ASSERT(
            small_engine::open(store_folder, quiet_options(repair_strategy::skip_corrupted), store.disk).has_value());
    }));
}

TEST_CASE("P13: recovery that dies again and again is stopped after max_recovery_attempts, across restarts") {
    auto store = make_store(ending::process_crash, 60, 4);
    auto options = quiet_options();
    options.max_recovery_attempts = 3;
    // Each time the process dies in the middle of the scan: a clone taken there is what the next one finds.
    auto disk = store.disk;
    for (int attempt = 1; attempt <= 3; ++attempt) {
        CAPTURE(attempt);
        std::optional<io::memory> died;
        options.on_progress = [&](recovery_progress const& p) {
            if (p.phase == recovery_phase::scan && !died) died = disk.after_process_crash();
        };
        auto const opened = small_engine::open(store_folder, options, disk);
        REQUIRE(opened.has_value());
        CHECK(opened->recovery().attempts == static_cast<unsigned>(attempt));
        REQUIRE(died.has_value());
        disk = *died;
    }
    options.on_progress = {};
    auto const before = clone(disk);
    auto const refused = small_engine::open(store_folder, options, disk);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == errc::recovery_attempts);
    CHECK(refused.error().message.find("max_recovery_attempts") != std::string::npos);
    CHECK(disk.equal(before));

    options.max_recovery_attempts = 4;
    auto fourth = small_engine::open(store_folder, options, disk);
    REQUIRE(fourth.has_value());
    CHECK(content_of(*fourth) == store.past.now());
    fourth->abandon();
    options.max_recovery_attempts = 1; // one that succeeded sets the count back
    CHECK(small_engine::open(store_folder, options, disk).has_value());
}

TEST_CASE("P13: max_attempts says after how many attempts open refuses, where the options do not") {
    using impatient = record_log<io::memory, segment_size<4 * KiB>, max_attempts<2>>;
    io::memory disk;
    auto options = quiet_options();
    options.max_recovery_attempts = {};
    {
        auto wal = impatient::open(store_folder, options, disk);
        REQUIRE(wal.has_value());
        REQUIRE(wal->append("record").has_value());
        wal->abandon();
    }
    for (int attempt = 1; attempt <= 2; ++attempt) {
        std::optional<io::memory> died;
        options.on_progress = [&](recovery_progress const& p) {
            if (p.phase == recovery_phase::scan && !died) died = disk.after_process_crash();
        };
        REQUIRE(impatient::open(store_folder, options, disk).has_value());
        REQUIRE(died.has_value());
        disk = *died;
    }
    options.on_progress = {};
    auto const refused = impatient::open(store_folder, options, clone(disk));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == errc::recovery_attempts);
    for (unsigned const more : {3U, 0U}) { // 0: no limit
        options.max_recovery_attempts = more;
        CHECK(impatient::open(store_folder, options, clone(disk)).has_value());
    }
    using patient = record_log<io::memory, segment_size<4 * KiB>>;
    options.max_recovery_attempts = {};
    CHECK(patient::open(store_folder, options, clone(disk)).has_value());
}

TEST_CASE("P13: an attempt counts where something is to be mended, though nothing is scanned") {
    auto store = make_store(ending::closed, 60, 4);
    auto options = quiet_options();
    options.verify = verify_depth::quick;
    options.max_recovery_attempts = 1;
    auto const die_in_scan = [&](io::memory& disk) {
        std::optional<io::memory> died;
        options.on_progress = [&](recovery_progress const& p) {
            if (p.phase == recovery_phase::scan && !died) died = disk.after_process_crash();
        };
        if (auto opened = small_engine::open(store_folder, options, disk); opened) opened->abandon();
        options.on_progress = {};
        return *died;
    };
    auto whole = die_in_scan(store.disk);
    CHECK(small_engine::open(store_folder, options, whole).has_value());

    REQUIRE(store.disk.corrupt(std::string{store_folder} + "/manifest.1", 20, std::byte{1}));
    auto hurt = die_in_scan(store.disk);
    auto const again = small_engine::open(store_folder, options, hurt);
    REQUIRE_FALSE(again.has_value());
    CHECK(again.error().code == errc::recovery_attempts);
}

TEST_CASE("a cancelled recovery changes nothing and can be begun again") {
    auto store = make_store(ending::process_crash, 60, 4);
    std::stop_source stop;
    stop.request_stop();
    auto options = quiet_options();
    options.cancel = stop.get_token();
    auto const before = clone(store.disk);
    for (int i = 0; i < 40; ++i) { // more often than attempts are allowed: an orderly end is none
        auto const opened = small_engine::open(store_folder, options, store.disk);
        REQUIRE_FALSE(opened.has_value());
        CHECK(opened.error().code == errc::cancelled);
    }
    CHECK(store.disk.equal(before));
    auto const opened = small_engine::open(store_folder, quiet_options(), store.disk);
    REQUIRE(opened.has_value());
    CHECK(content_of(*opened) == store.past.now());
}

TEST_CASE("P15: a full disk at any moment of a recovery loses nothing; once there is room it comes to its end") {
    CHECK(rc::check("damage, then ENOSPC from the n-th write on", [] {
        auto store = make_store(any_ending(), 60, any_seed());
        damage_at_random(store, any_seed());
        auto const strategy = *rc::gen::element(repair_strategy::skip_corrupted, repair_strategy::rollback);
        auto undisturbed = clone(store.disk);
        determined::restart(9);
        auto const wanted = small_engine::open(store_folder, quiet_options(strategy), undisturbed);
        RC_ASSERT(wanted.has_value());
        auto const expected = content_of(*wanted);

        io::faulty<io::memory> machine{store.disk};
        machine.set_plan({{io::fault{
            .kind = io::fault_kind::no_space, .at = *rc::gen::inRange<std::uint64_t>(1, 120), .count = io::forever}}});
        {
            auto const tight = faulty_engine::open(store_folder, quiet_options(strategy), machine);
            if (tight) RC_ASSERT(content_of(*tight) == expected);
            else RC_ASSERT(tight.error().code == errc::no_space);
        }
        machine.set_plan({});
        auto const after = faulty_engine::open(store_folder, quiet_options(strategy), machine);
        RC_ASSERT(after.has_value());
        RC_ASSERT(content_of(*after) == expected);
    }));
}

TEST_CASE("P15: however little memory recovery may hold, it recovers all, with fewer threads") {
    auto store = make_store(ending::process_crash, 150, 6);
    for (std::uint64_t const limit : {std::uint64_t{1}, 4 * KiB, 1 * MiB}) {
        auto options = quiet_options();
        options.recovery_threads = 4;
        options.memory_limit = limit;
        auto disk = clone(store.disk);
        auto const opened = small_engine::open(store_folder, options, disk);
        REQUIRE(opened.has_value());
        CHECK(content_of(*opened) == store.past.now());
        CHECK(opened->recovery().threads <= (limit < MiB ? 1U : 2U));
    }
}

TEST_CASE("P15: a loss that was declared stays declared, though both manifests go and its segment is repaired again") {
    auto disk = io::memory{};
    auto const options = quiet_options(repair_strategy::skip_corrupted);
    auto const damage_value = [&](std::string const& value) {
        for (auto const& path : disk.files())
            if (path.ends_with(".seg") && path.starts_with("db/log/"))
                if (auto const at = as_text(*disk.contents(path)).find(value); at != std::string_view::npos)
                    REQUIRE(disk.corrupt(path, at, std::byte{1}));
    };
    auto store = small_engine::open(store_folder, options, disk);
    for (int i = 0; i < 10; ++i) REQUIRE(store->put("key" + std::to_string(i), "value " + std::to_string(i)));
    REQUIRE(store->close());
    damage_value("value 3");
    store = small_engine::open(store_folder, options, disk);
    REQUIRE(store.has_value());
    REQUIRE(store->recovery().lost_records == 1);
    REQUIRE(store->close());

    REQUIRE(disk.remove("db/manifest.0"));
    REQUIRE(disk.remove("db/manifest.1"));
    damage_value("value 6");
    store = small_engine::open(store_folder, options, disk);
    REQUIRE(store.has_value());
    CHECK(store->recovery().lost_records == 1); // the other one is an old story
    REQUIRE(store->put("after", "both"));
    auto const expected = content_of(*store);
    CHECK(expected.size() == 9);
    REQUIRE(store->close());

    store = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
    REQUIRE(store.has_value());
    CHECK(store->recovery().lost_records == 0);
    CHECK(content_of(*store) == expected);
}

TEST_CASE("P15: LSNs behind the end of the log are taken anew, though they were declared lost") {
    auto disk = io::memory{};
    auto store = small_engine::open(store_folder, quiet_options(), disk);
    for (int i = 0; i < 5; ++i) REQUIRE(store->put("key" + std::to_string(i), "value"));
    REQUIRE(store->close());
    {
        // What is left when power is lost between the word of a loss and the sync of what stood around it.
        wal::layout const paths{store_folder};
        auto const load = wal::load_manifest<checksum::crc32c>(disk, paths);
        auto const* header = load.header();
        wal::manifest_store<checksum::crc32c, io::memory> manifest{
            disk, paths, header->store, header->branch, determined::entropy, determined::clock_ns};
        manifest.adopt(*load.state, load);
        format::edit_builder edit;
        edit.loss({{8}, {9}});
        REQUIRE(manifest.commit(edit));
    }
    store = small_engine::open(store_folder, quiet_options(), disk);
    REQUIRE(store.has_value());
    CHECK(store->last_lsn().value == 5);
    for (int i = 0; i < 10; ++i) REQUIRE(store->put("new" + std::to_string(i), "value"));
    auto const expected = content_of(*store);
    CHECK(expected.size() == 15);
    store->abandon();
    disk = disk.after_process_crash();
    store = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
    REQUIRE(store.has_value());
    CHECK(store->recovery().lost_records == 0);
    CHECK(content_of(*store) == expected);
}

TEST_CASE("P18: with any one segment made unreadable, all records of the others are served") {
    CHECK(rc::check("one segment lost", [] {
        auto store = make_store(any_ending(), 120, any_seed());
        std::vector<file_map> segments;
        std::ranges::copy_if(store.files, std::back_inserter(segments),
                             [](auto const& f) { return f.segment && !f.lsns.empty(); });
        auto const& hit = segments[static_cast<std::size_t>(*rc::gen::inRange<std::size_t>(0, segments.size()))];
        if (*rc::gen::arbitrary<bool>()) RC_ASSERT(store.disk.fail_reads(hit.path, 0, hit.bytes).has_value());
        else zero(store.disk, hit.path, 0, hit.bytes);
        auto const opened = small_engine::open(store_folder, quiet_options(repair_strategy::skip_corrupted),
                                               store.disk);
        RC_ASSERT(opened.has_value());
        auto const& r = opened->recovery();
        for (auto const& l : r.lost_lsn_ranges) RC_ASSERT(hit.lsns.contains(l.first) && hit.lsns.contains(l.last));
        RC_ASSERT(r.records + hit.lsns.size() >= store.past.last().value);
        RC_ASSERT(content_of(*opened) == store.past.without({hit.lsns}, store.past.last()));
        RC_ASSERT(r.damaged());
    }));
}

TEST_CASE("P5: a log and an engine over the same damaged files come to the same verdict") {
    CHECK(rc::check("damaged stores", [] {
        auto store = make_store(any_ending(), 60, any_seed());
        damage_at_random(store, any_seed());
        auto const strategy = any_strategy();
        auto const engine = small_engine::open(store_folder, quiet_options(strategy), clone(store.disk));
        auto const log = basic_log<small_config>::open(store_folder, quiet_options(strategy), clone(store.disk));
        RC_ASSERT(engine.has_value() == log.has_value());
        if (!engine) return;
        RC_ASSERT(log->recovery().lost_lsn_ranges == engine->recovery().lost_lsn_ranges);
        RC_ASSERT(log->last_lsn() == engine->last_lsn());
        auto reader = log->read_from({1});
        std::uint64_t read = 0;
        for (auto next = reader.next(); next && *next; next = reader.next()) ++read;
        RC_ASSERT(read == engine->recovery().records);
    }));
}
