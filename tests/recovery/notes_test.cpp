// SPDX-License-Identifier: BSL-1.0
// What the notes of an earlier boot are still good for.
#include <keel/wal/notes_file.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/log.hpp>

#include "support/damage_tools.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace notes_test {

namespace {

using namespace keel;
using namespace keel::test;
using C = checksum::crc32c;
using noted_log = basic_log<small_engine::config_type>;

open_options quick_options() {
    auto options = quiet_options(repair_strategy::skip_corrupted);
    options.verify = verify_depth::quick;
    return options;
}

std::string text_of(int i) { return "record " + std::to_string(i) + std::string(20, '.'); }

/// Zeros over the frame header of a record: what follows it can only be found by a search.
void lose_header(io::memory& disk, int record) {
    for (auto const& path : disk.files()) {
        if (!path.ends_with(".seg")) continue;
        auto const at = as_text(*disk.contents(path)).find(text_of(record));
        if (at == std::string_view::npos) continue;
        zero(disk, path, at - format::frame_header_bytes, format::frame_header_bytes);
        return;
    }
    FAIL("the record is nowhere");
}

format::note newest(io::memory const& disk) { return *format::newest_note<C>(*disk.contents("db/notes")); }

/// A log of 30 records whose machine lost power. All of it was synced; the notes, never synced, stand as they did after ten.
io::memory log_with_old_notes() {
    determined::restart();
    io::memory disk;
    auto log = noted_log::open(store_folder, quick_options(), disk);
    REQUIRE(log);
    for (int i = 0; i < 10; ++i) REQUIRE(log->append(text_of(i)));
    auto const notes = *disk.contents("db/notes");
    for (int i = 10; i < 30; ++i) REQUIRE(log->append(text_of(i)));
    log->abandon();
    auto left = disk.after_power_loss({io::keep::newest, 1});
    overwrite(left, "db/notes", 0, notes);
    return left;
}

} // namespace

TEST_CASE("notes: of a note from before a power cut only the durable LSN is carried into this boot") {
    auto disk = log_with_old_notes();
    auto const before = newest(disk);
    REQUIRE(before.end != 0);
    REQUIRE(before.segment);
    // The process dies in the middle of its recovery: what it has noted by then is what the next one finds.
    std::optional<io::memory> died;
    auto options = quick_options();
    options.on_progress = [&](recovery_progress const&) {
        if (!died) died = disk.after_process_crash();
    };
    REQUIRE(noted_log::open(store_folder, options, disk));
    REQUIRE(died);
    auto const after = newest(*died);
    CHECK(after.boot != before.boot);
    CHECK(after.attempts == 1);
    CHECK(after.durable == before.durable);
    CHECK(after.accepted == before.durable);
    CHECK(after.end == 0);
    CHECK_FALSE(after.segment);
    CHECK(after.newest_index == 0);
}

TEST_CASE("notes: records acknowledged behind an old note are found behind damage, however often recovery was begun") {
    for (int attempts = 0; attempts < 3; ++attempts) {
        CAPTURE(attempts);
        auto disk = log_with_old_notes();
        for (int i = 0; i < attempts; ++i) {
            std::optional<io::memory> died;
            auto options = quick_options();
            options.on_progress = [&](recovery_progress const&) {
                if (!died) died = disk.after_process_crash();
            };
            REQUIRE(noted_log::open(store_folder, options, disk));
            disk = *died;
        }
        lose_header(disk, 15);
        auto const log = noted_log::open(store_folder, quick_options(), disk);
        REQUIRE(log);
        CHECK(log->recovery().lost_lsn_ranges == std::vector<lsn_range>{{{16}, {16}}});
        CHECK(log->recovery().records == 29);
        CHECK(log->last_lsn() == lsn{30});
        CHECK(log->state() == engine_state::degraded);
    }
}

TEST_CASE("notes: an opening that only looks, and one that ends in order, sign nothing of an earlier boot either") {
    auto disk = log_with_old_notes();
    for (int i = 0; i < 2; ++i) {
        auto log = noted_log::open(store_folder, quick_options(), disk);
        REQUIRE(log);
        log->abandon();
        auto const now = newest(disk);
        CHECK(now.attempts == 0);
        CHECK(now.end == 0);
        CHECK_FALSE(now.segment);
    }
}

TEST_CASE("notes: those of a store that stood there before say nothing of a new one") {
    auto disk = log_with_old_notes();
    io::memory fresh;
    REQUIRE(fresh.make_directory(store_folder));
    REQUIRE(fresh.replace("db/notes", *disk.contents("db/notes")));
    auto log = noted_log::open(store_folder, quick_options(), fresh);
    REQUIRE(log);
    auto const now = newest(fresh);
    CHECK(now.accepted == lsn{});
    CHECK(now.durable == lsn{});
    CHECK(now.end == 0);
    CHECK_FALSE(now.segment);
    CHECK(log->last_lsn() == lsn{});
}

TEST_CASE(
    "notes: where none can be written, those of an earlier run do not stay to speak for what is written without") {
    using faulty_log = basic_log<config<io::faulty<io::memory>, segment_size<4 * KiB>>>;
    auto const disk = log_with_old_notes();
    int opened = 0;
    for (std::uint64_t at = 1;; ++at) { // whichever call finds no descriptor
        CAPTURE(at);
        auto left = clone(disk);
        io::faulty<io::memory> fs{left};
        fs.set_plan({{{.kind = io::fault_kind::fail, .on = io::fault_class::open, .at = at}}});
        auto log = faulty_log::open(store_folder, quick_options(), fs);
        if (fs.log().empty()) break;
        if (!log) continue;
        ++opened;
        REQUIRE(log->append("more"));
        log->abandon();
        auto const again = noted_log::open(store_folder, quick_options(), left.after_process_crash());
        REQUIRE(again);
        CHECK(again->last_lsn() == lsn{31});
    }
    CHECK(opened > 0);
}

} // namespace notes_test
