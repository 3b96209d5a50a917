// SPDX-License-Identifier: BSL-1.0
// Repairs that are cut short, gone on with, and taken back.
#include <keel/recovery/undo.hpp>

#include <keel/io/fault.hpp>
#include <keel/log.hpp>

#include "support/counting_fs.hpp"
#include "support/damage_judge.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace repair_test {

namespace {

using namespace keel;
using namespace keel::test;
using small_config = small_engine::config_type;
using small_log = basic_log<small_config>;
using counted_fs = counting<io::faulty<io::memory>>;
using counted_log = basic_log<config<counted_fs, segment_size<4 * KiB>>>;
using recovering = keel::detail::recovering_config<small_config>;

open_options deep(repair_strategy how) {
    auto options = quiet_options(how);
    options.max_recovery_attempts = 0;
    return options;
}
open_options quick(repair_strategy how) {
    auto options = deep(how);
    options.verify = verify_depth::quick;
    return options;
}

std::string text_of(std::uint64_t i) { return "record " + std::to_string(i) + "/" + std::string(600, 'r'); }

/// Turns a bit of each of these records over. LSN i has text_of(i).
void damage_records(io::memory& disk, std::vector<std::uint64_t> const& lsns) {
    std::vector<std::pair<std::string, std::vector<std::byte>>> files;
    for (auto const& path : disk.files())
        if (path.starts_with("db/log/")) files.emplace_back(path, *disk.contents(path));
    for (auto const i : lsns) {
        bool found = false;
        for (auto const& [path, bytes] : files) {
            auto const at = as_text(bytes).find(text_of(i).substr(0, text_of(i).find('/') + 1));
            if (at == std::string_view::npos) continue;
            found = true;
            REQUIRE(disk.corrupt(path, at + 1, std::byte{4}));
        }
        REQUIRE(found);
    }
}

/// A log that was closed in order, three records a segment, and then damaged.
struct damaged_log {
    io::memory disk{};
    std::uint64_t last = 0;
    std::vector<std::uint64_t> bad{};

    /// `which`: the records that are damaged; empty: so many, every fifth.
    explicit damaged_log(std::uint64_t count, std::vector<std::uint64_t> const& which = {}) : bad{which} {
        determined::restart();
        auto log = small_log::open(store_folder, quiet_options(), disk);
        REQUIRE(log);
        while (last < 5 * count) REQUIRE(log->append(text_of(++last)));
        REQUIRE(log->close());
        for (std::uint64_t i = 3; which.empty() && i <= last; i += 5) bad.push_back(i);
        damage_records(disk, bad);
    }
    [[nodiscard]] std::vector<std::string> without_bad() const {
        std::vector<std::string> out;
        for (std::uint64_t i = 1; i <= last; ++i)
            if (std::ranges::find(bad, i) == bad.end()) out.push_back(text_of(i));
        return out;
    }
};

template <class Log>
std::vector<std::string> texts(Log const& log) {
    std::vector<std::string> out;
    auto reader = log.read_from({1});
    for (auto next = reader.next(); next && *next; next = reader.next()) out.emplace_back(as_text((*next)->value));
    return out;
}

/// What an undo gives back. Hints aside, and the name that segments are made under: what stands there is written over.
bool outside_quarantine(std::string_view path) {
    return !path.starts_with("db/quarantine") && path != "db/notes" && path != "db/lock" && path != "db/reserve" &&
           path != "db/log/prepare.tmp";
}
std::string receipt(io::memory const& disk, std::string const& number = "0000000000000001",
                    std::string const& name = "receipt.json") {
    auto const bytes = disk.contents("db/quarantine/" + number + '/' + name);
    return bytes ? std::string{as_text(*bytes)} : std::string{};
}
std::uint64_t count(std::string_view text, std::string_view what) {
    std::uint64_t n = 0;
    for (auto at = text.find(what); at != std::string_view::npos; at = text.find(what, at + what.size())) ++n;
    return n;
}
/// Segments that were replaced by a repair.
std::uint64_t replaced(io::memory disk) {
    auto const load = wal::load_manifest<checksum::crc32c>(disk, wal::layout{store_folder});
    return load.state ? load.state->removed.size() : 0;
}

} // namespace

TEST_CASE(
    "R6.5: a repair of 100 segments that runs out of room, is cancelled, killed or refused a sync repairs the rest "
    "the next time") {
    damaged_log const made{100};
    REQUIRE(made.bad.size() == 100);
    enum class end { killed, cancelled, no_space, no_sync };
    for (auto const how : {end::killed, end::cancelled, end::no_space, end::no_sync}) {
        CAPTURE(static_cast<int>(how));
        auto disk = clone(made.disk);
        io::faulty<io::memory> machine{disk};
        counted_fs fs{machine};
        std::stop_source stop;
        auto options = deep(repair_strategy::skip_corrupted);
        options.cancel = stop.get_token();
        std::optional<io::memory> died;
        disk.on_operation([&](io::operation const&) {
            if (replaced(disk) != 40) return;
            if (how == end::killed && !died) died = disk.after_process_crash();
            if (how == end::cancelled) stop.request_stop();
            if (how == end::no_space)
                machine.set_plan({{{.kind = io::fault_kind::no_space, .at = 1, .count = io::forever}}});
            if (how == end::no_sync)
                machine.set_plan(
                    {{{.kind = io::fault_kind::fail_sync, .on = io::fault_class::sync, .at = 1, .count = 50}}});
            disk.on_operation({});
        });
        auto first = counted_log::open(store_folder, options, fs);
        disk.on_operation({});
        machine.set_plan({});
        if (!died) {
            // What it came to is served, and nothing is written behind the rest.
            REQUIRE(first);
            CHECK(first->state() == engine_state::read_only);
            CHECK(texts(*first) == made.without_bad());
            CHECK(first->recovery().lost_records == 100);
        }
        if (first) first->abandon();
        if (died) disk = *died;
        auto const done = replaced(clone(disk));
        CHECK(done >= 40);
        CHECK(done <= 42);
        CHECK(receipt(disk).empty());

        io::faulty<io::memory> again{disk};
        counted_fs second{again};
        auto log = counted_log::open(store_folder, deep(repair_strategy::skip_corrupted), second);
        REQUIRE(log);
        CHECK(log->recovery().quarantined.size() >= 100 - done);
        CHECK(log->recovery().quarantined.size() <= 101 - done); // the last one's move may have been left
        // So many new files were made, and no more.
        CHECK(second.bytes_written("db/log/prepare.tmp") >= (100 - done) * 4 * KiB);
        CHECK(second.bytes_written("db/log/prepare.tmp") < (101 - done) * 10 * KiB);
        CHECK(log->recovery().lost_records == 0); // all of it was declared with the first step
        CHECK(log->recovery().declared_lost_records == 100);
        CHECK(log->state() == engine_state::degraded);
        CHECK(texts(*log) == made.without_bad());
        log->abandon();
        CHECK(replaced(clone(disk)) == 100);
        auto const text = receipt(disk);
        CHECK(count(text, "\"replaced_by\"") == 100);
        CHECK(count(text, "corrupt_record") == 100);
        CHECK(text.find("\"lost_records\":100,") != std::string::npos);

        // All of it is one repair, which is taken back as a whole.
        auto number = recovery::undo_repair<recovering>(disk, store_folder);
        REQUIRE(number);
        CHECK(*number == 1);
        CHECK(disk.equal(made.disk, outside_quarantine));
        CHECK_FALSE(receipt(disk, "0000000000000001", "receipt.undone.json").empty());
    }
}

TEST_CASE(
    "repair: stopped behind any operation it goes on to the same end, and can be taken back from where it stopped") {
    damaged_log const made{4};
    for (auto const how : {repair_strategy::skip_corrupted, repair_strategy::rollback}) {
        std::vector<std::string> wanted = made.without_bad();
        if (how == repair_strategy::rollback) wanted.resize(made.bad.front() - 1);
        auto disk = clone(made.disk);
        std::vector<io::memory> states;
        std::uint64_t n = 0;
        disk.on_operation([&](io::operation const&) {
            states.push_back(disk.after_process_crash());
            states.push_back(disk.after_power_loss({io::keep::random, ++n}));
        });
        auto whole = small_log::open(store_folder, deep(how), disk);
        disk.on_operation({});
        REQUIRE(whole);
        REQUIRE(texts(*whole) == wanted);
        whole->abandon();
        CHECK(states.size() > 200);
        std::uint64_t taken_back = 0;
        std::uint64_t wrong = 0;
        for (auto const& state : states) {
            auto on = clone(state);
            auto again = small_log::open(store_folder, deep(how), on);
            bool good = again && texts(*again) == wanted && again->state() == engine_state::degraded &&
                        again->recovery().unknown_extents.empty();
            if (again) again->abandon();
            auto quiet = small_log::open(store_folder, deep(repair_strategy::refuse), on);
            good = good && quiet && quiet->recovery().findings.empty() && texts(*quiet) == wanted;
            if (quiet) quiet->abandon();
            good = good && recovery::undo_repair<recovering>(on, store_folder) &&
                   on.equal(made.disk, outside_quarantine);
            // As it was left.
            auto back = clone(state);
            if (recovery::undo_repair<recovering>(back, store_folder)) {
                ++taken_back;
                good = good && back.equal(made.disk, outside_quarantine);
                auto const undone = small_log::open(store_folder, deep(how), back);
                good = good && undone && texts(*undone) == wanted && undone->recovery().lost_records != 0;
            }
            wrong += !good;
        }
        CHECK(taken_back > states.size() / 3);
        CHECK(wrong == 0);
    }
}

TEST_CASE("repair: a segment that takes the name of one that was prepared and never registered stays") {
    damaged_log made{4};
    auto load = wal::load_manifest<checksum::crc32c>(made.disk, wal::layout{store_folder});
    REQUIRE(load.state);
    auto const next = load.state->next_segment;
    format::segment_header prepared{.checksum = {checksum::crc32c::id}, .store = load.header()->store, .id = {next}};
    prepared.salt = format::salt_of(prepared.id, 77);
    prepared.size = small_config::segment_bytes;
    prepared.place = prepared.id;
    auto const path = wal::layout{store_folder}.segment({next});
    {
        auto file = made.disk.open(path, io::access::read_write, io::creation::must_not_exist);
        REQUIRE(file);
        REQUIRE(file->allocate(prepared.size));
        auto const block = format::encode<checksum::crc32c>(prepared);
        REQUIRE(file->write(0, block));
        REQUIRE(file->write(format::second_header_offset(prepared.size), block));
        REQUIRE(file->sync());
        REQUIRE(made.disk.sync_directory(wal::layout{store_folder}.log()));
    }
    for (int opening = 0; opening < 2; ++opening) {
        CAPTURE(opening);
        auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), made.disk);
        REQUIRE(log);
        CHECK(texts(*log) == made.without_bad());
        CHECK(log->recovery().lost_records == (opening == 0 ? made.bad.size() : 0));
        REQUIRE(log->close());
    }
    CHECK(made.disk.contents(path));
}

TEST_CASE("repair: a step without a segment raises the next segment id by two, and preparing a segment by one") {
    auto const next_segment = [](io::memory& disk) {
        auto const load = wal::load_manifest<checksum::crc32c>(disk, wal::layout{store_folder});
        REQUIRE(load.state);
        return load.state->next_segment;
    };
    damaged_log store{2, {1}};
    REQUIRE(store.disk.remove("db/log/" + wal::layout::segment_name({1})));
    auto const before = next_segment(store.disk);
    auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), store.disk);
    REQUIRE(log);
    CHECK(log->recovery().lost_records == 3);
    for (auto const id : {before, before + 1}) // nothing was built anew
        CHECK_FALSE(store.disk.contents("db/log/" + wal::layout::segment_name({id})));
    CHECK(next_segment(store.disk) == before + 2);
    auto const repaired = next_segment(store.disk);
    REQUIRE(log->append("more"));
    CHECK(next_segment(store.disk) == repaired + 1);
    log->abandon();
}

TEST_CASE("repair: segments that were written anew are mounted by their index at the next open") {
    determined::restart();
    io::memory disk;
    auto store = small_engine::open(store_folder, quiet_options(), disk);
    REQUIRE(store);
    history::content expected;
    for (std::uint64_t i = 1; i <= 40; ++i) {
        REQUIRE(store->put("key" + std::to_string(i % 17), text_of(i)));
        if (i % 7 != 3) expected["key" + std::to_string(i % 17)] = text_of(i);
    }
    REQUIRE(store->close());
    std::vector<std::uint64_t> bad;
    for (std::uint64_t i = 3; i <= 40; i += 7) bad.push_back(i);
    damage_records(disk, bad);
    store = small_engine::open(store_folder, deep(repair_strategy::skip_corrupted), disk);
    REQUIRE(store);
    CHECK(store->recovery().lost_records == bad.size());
    CHECK(content_of(*store) == expected);
    store->abandon();
    for (auto const depth : {verify_depth::quick, verify_depth::deep}) {
        auto options = deep(repair_strategy::refuse);
        options.verify = depth;
        auto const again = small_engine::open(store_folder, options, clone(disk));
        REQUIRE(again);
        CHECK(content_of(*again) == expected);
        for (auto const& [key, value] : expected) CHECK(**again->get(key) == value);
        CHECK(again->recovery().records == 40 - bad.size());
        CHECK(again->recovery().findings.empty());
        bool const quick_one = depth == verify_depth::quick;
        CHECK(again->recovery().mounted_segments == (quick_one ? again->recovery().segments : 0));
    }
    // An index that does not verify leads nowhere: the segment is scanned then.
    auto hurt = clone(disk);
    for (auto const& file : map_files(hurt))
        for (auto const& [begin, end] : file.sections) zero(hurt, file.path, begin + 100, 8);
    auto const again = small_engine::open(store_folder, quick(repair_strategy::refuse), hurt);
    REQUIRE(again);
    CHECK(content_of(*again) == expected);
}

TEST_CASE("repair: a record that is missing from a rebuilt segment because another one has it is read from there") {
    determined::restart();
    io::faulty<io::memory> fs;
    io::memory disk;
    fs = io::faulty<io::memory>{disk};
    using faulty_log = basic_log<config<io::faulty<io::memory>, segment_size<4 * KiB>>>;
    {
        auto log = faulty_log::open(store_folder, quiet_options(), fs);
        REQUIRE(log);
        REQUIRE(log->append(text_of(1)));
        REQUIRE(log->append(text_of(2)));
        fs.set_plan({{{.kind = io::fault_kind::fail_sync, .on = io::fault_class::sync, .at = 1}}});
        REQUIRE(log->append(text_of(3))); // with the block that it shares it goes to a fresh segment: copies in both
        fs.set_plan({});
        REQUIRE(log->append(text_of(4)));
        REQUIRE(log->close());
    }
    // The newer copy of a record goes bad, and so does a header: the repair command writes that segment anew, without the copy.
    auto const seen = recovery::examine<small_config>(disk, store_folder, quiet_options());
    REQUIRE(seen);
    auto const& newer = seen->stock.segments.back();
    auto const bytes = *disk.contents(newer.path);
    auto const at = as_text(bytes).find("record 2/");
    REQUIRE(at != std::string_view::npos);
    REQUIRE(disk.corrupt(newer.path, at, std::byte{1}));
    auto exam = recovery::examine<small_config>(disk, store_folder, quiet_options());
    REQUIRE(exam);
    REQUIRE(exam->found.lost.empty());
    auto const plan = recovery::plan_repair(*exam, choice_of(repair_strategy::skip_corrupted),
                                            recovery::repair_scope::everything);
    REQUIRE(plan.segments.size() == 1);
    auto const options = quiet_options();
    auto manifest = recovery::adopted_manifest<recovering>(disk, exam->stock, options, nullptr);
    auto findings = exam->report.findings;
    REQUIRE(recovery::carry_out_repair<recovering>(disk, *exam, plan, options, "skip", manifest, findings).outcome);
    for (auto const depth : {verify_depth::quick, verify_depth::deep}) {
        auto how = quiet_options(repair_strategy::refuse);
        how.verify = depth;
        auto const log = small_log::open(store_folder, how, clone(disk));
        REQUIRE(log);
        CHECK(texts(*log) == std::vector<std::string>{text_of(1), text_of(2), text_of(3), text_of(4)});
        CHECK(log->recovery().findings.empty());
    }
}

TEST_CASE("undo: refused once anything was written, also where the repair was made without manifests") {
    for (bool const manifests : {true, false}) {
        CAPTURE(manifests);
        damaged_log made{3};
        if (!manifests)
            for (int i = 0; i < 2; ++i) REQUIRE(made.disk.remove(wal::layout{store_folder}.manifest(i)));
        auto const before = clone(made.disk);
        auto repaired = clone(made.disk);
        {
            auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), repaired);
            REQUIRE(log);
            CHECK(texts(*log) == made.without_bad());
            log->abandon();
        }
        auto written = clone(repaired);
        {
            auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), written);
            REQUIRE(log->append("after"));
            REQUIRE(log->close());
        }
        auto const as_written = clone(written);
        auto const refused = recovery::undo_repair<recovering>(written, store_folder);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == errc::conflict);
        CHECK(written.equal(as_written));
        auto const log = small_log::open(store_folder, deep(repair_strategy::refuse), written);
        REQUIRE(log);
        CHECK(log->last_lsn().value == made.last + 1);

        REQUIRE(recovery::undo_repair<recovering>(repaired, store_folder));
        CHECK(repaired.equal(before, outside_quarantine));
    }
}

TEST_CASE("undo: refused where what the repair noted of itself is gone or does not verify") {
    damaged_log made{3};
    {
        auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), made.disk);
        REQUIRE(log);
        log->abandon();
    }
    std::string const progress = "db/quarantine/0000000000000001/progress";
    for (bool const gone : {true, false}) {
        auto disk = clone(made.disk);
        if (gone) REQUIRE(disk.remove(progress));
        else REQUIRE(disk.corrupt(progress, 50, std::byte{1}));
        auto const before = clone(disk);
        auto const done = recovery::undo_repair<recovering>(disk, store_folder);
        REQUIRE_FALSE(done);
        CHECK(done.error().code == errc::corruption);
        CHECK(disk.equal(before));
    }
}

TEST_CASE("undo: stopped behind any operation it can be made again, and then all is as it was") {
    damaged_log const made{3};
    auto disk = clone(made.disk);
    {
        auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), disk);
        REQUIRE(log);
        log->abandon();
    }
    std::vector<io::memory> states;
    disk.on_operation([&](io::operation const&) { states.push_back(disk.after_process_crash()); });
    REQUIRE(recovery::undo_repair<recovering>(disk, store_folder));
    disk.on_operation({});
    CHECK(states.size() > 10);
    for (auto& state : states) {
        auto const again = recovery::undo_repair<recovering>(state, store_folder);
        if (again) CHECK(state.equal(made.disk, outside_quarantine));
        else CHECK(again.error().code == errc::not_found); // both manifests are back: it is undone but for leftovers
        auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), state);
        REQUIRE(log);
        CHECK(texts(*log) == made.without_bad());
    }
}

TEST_CASE("repair: evidence of an earlier repair is not written over, also where the manifests that counted repairs "
          "are gone") {
    damaged_log made{4};
    auto& disk = made.disk;
    {
        auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), disk);
        REQUIRE(log->append("more"));
        REQUIRE(log->close());
    }
    auto const first = receipt(disk);
    REQUIRE_FALSE(first.empty());
    for (int i = 0; i < 2; ++i) REQUIRE(disk.remove(wal::layout{store_folder}.manifest(i)));
    damage_records(disk, {7});
    auto log = small_log::open(store_folder, deep(repair_strategy::skip_corrupted), disk);
    REQUIRE(log);
    CHECK(log->recovery().lost_records == 1);
    CHECK(receipt(disk) == first);
    CHECK_FALSE(receipt(disk, "0000000000000002").empty());
    log->abandon();
    REQUIRE(recovery::undo_repair<recovering>(disk, store_folder));
}

TEST_CASE("repair: costs a segment's bytes a fixed number of times, however many of its records are damaged") {
    auto const bytes_for = [](std::vector<std::uint64_t> const& bad) {
        damaged_log const made{6, bad};
        io::faulty<io::memory> machine{made.disk};
        counted_fs fs{machine};
        auto log = counted_log::open(store_folder, deep(repair_strategy::skip_corrupted), fs);
        REQUIRE(log);
        CHECK(log->recovery().lost_records == bad.size());
        log->abandon();
        return fs.bytes_read("db/log/0000000000000002.seg");
    };
    auto const one = bytes_for({5});
    auto const all = bytes_for({4, 5, 6});
    CHECK(one > 4 * KiB);
    CHECK(all < 2 * one);
}

} // namespace repair_test
