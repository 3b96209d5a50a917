// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/segment_growth.hpp>

#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

// A small store takes little: its segments grow with what is written, and an orderly end gives back what was not used.

namespace segment_growth_test {

namespace {

using namespace keel;
constexpr std::uint64_t policy_bytes = 256 * KiB;
using machine = io::faulty<io::memory>;
using written_log = keel::log<machine, segment_size<policy_bytes>>;
using mapped_log = keel::log<machine, segment_size<policy_bytes>, durability::os_buffered>;
constexpr std::string_view folder = "log/log/";

/// The sizes of the log's segments, in KiB, the oldest first.
std::vector<std::uint64_t> sizes(io::memory const& disk) {
    std::vector<std::uint64_t> all;
    for (auto const& path : disk.files())
        if (path.starts_with(folder)) all.push_back(disk.status(path)->size / KiB);
    return all;
}
template <class Log>
result<Log> open(io::memory disk) {
    return Log::open("log", model::test_options(), machine{disk});
}
template <class Log>
std::vector<std::string> read(Log const& log, lsn from = {1}) {
    std::vector<std::string> all;
    auto at = log.read_from(from);
    for (;;) {
        auto record = at.next();
        REQUIRE(record);
        if (!*record) return all;
        all.emplace_back(as_text((*record)->value));
    }
}
/// Record number `n`.
std::string record(int n, std::size_t bytes) {
    auto text = std::to_string(n) + ' ';
    text.resize(std::max(bytes, text.size()), static_cast<char>('a' + n % 26));
    return text;
}

/// Each look at it is a second later.
std::uint64_t slow_clock_ns() {
    static std::uint64_t now = 0;
    return now += 1'000'000'000;
}
std::uint64_t frozen_clock_ns() { return 1'000'000'000; }

template <class Log>
void jumps() {
    io::memory disk;
    auto options = model::test_options();
    options.clock_ns = frozen_clock_ns;
    auto log = Log::open("log", options, machine{disk});
    REQUIRE(log);
    for (int i = 0; i < 200; ++i) REQUIRE(log->append(record(i, 1000)));
    CHECK(sizes(disk) == std::vector<std::uint64_t>{64, 256});
}

template <class Log>
void doubles() {
    io::memory disk;
    auto options = model::test_options();
    options.clock_ns = slow_clock_ns;
    auto log = Log::open("log", options, machine{disk});
    REQUIRE(log);
    REQUIRE(log->append("x"));
    CHECK(sizes(disk) == std::vector<std::uint64_t>{64});
    log->housekeep();
    CHECK(sizes(disk) == std::vector<std::uint64_t>{64}); // none is prepared ahead
    for (int i = 0; i < 40; ++i) REQUIRE(log->append(record(i, 1000)));
    log->housekeep();
    CHECK(sizes(disk) == std::vector<std::uint64_t>{64, 128}); // now the next one is near
    for (int i = 0; i < 1000; ++i) REQUIRE(log->append(record(i, 1000)));
    auto const all = sizes(disk);
    REQUIRE(all.size() > 4);
    CHECK(std::vector(all.begin(), all.begin() + 4) == std::vector<std::uint64_t>{64, 128, 256, 256});
    CHECK(std::all_of(all.begin() + 2, all.end(), [](auto size) { return size == 256; }));
    CHECK(read(*log).size() == 1041);
    REQUIRE(log->close());
    auto again = open<Log>(disk);
    REQUIRE(again);
    CHECK(again->recovery().findings.empty());
    CHECK(read(*again).size() == 1041);
}

/// A record of the policy's size comes when there are so many small ones before it, with a segment prepared ahead or without.
template <class Log>
void takes_the_largest() {
    auto const largest = std::string(Log::record_bytes_max, 'L');
    for (int const before : {0, 1, 30, 60, 100, 200})
        for (bool const prepared : {false, true}) {
            CAPTURE(before);
            CAPTURE(prepared);
            io::memory disk;
            auto log = open<Log>(disk);
            REQUIRE(log);
            std::vector<std::string> all;
            auto const append = [&](std::string const& text) {
                auto const done = log->append(text);
                REQUIRE_MESSAGE(done, to_string(done.error()));
                all.push_back(text);
            };
            for (int i = 0; i < before; ++i) append(record(i, 1000));
            if (prepared) log->housekeep();
            append(largest);
            append(largest);
            append("small");
            CHECK(log->append(largest + 'x').error().code == errc::too_large);
            CHECK(log->state() == engine_state::healthy);
            CHECK(read(*log) == all);
            log->abandon();
            log = open<Log>(disk.after_process_crash());
            REQUIRE(log);
            CHECK(log->recovery().findings.empty());
            CHECK(read(*log) == all);
            append(largest);
            REQUIRE(log->close());
        }
}

/// Every file in the log's folder is a segment that the manifest knows.
void nothing_is_left_over(io::memory const& disk) {
    machine fs{disk};
    auto const known = wal::load_manifest<checksum::crc32c>(fs, wal::layout{"log"}).state;
    REQUIRE(known);
    CHECK(sizes(disk).size() == known->segments.size());
}
/// And every one of them was used, and ended in order.
void all_are_sealed(io::memory const& disk) {
    nothing_is_left_over(disk);
    machine fs{disk};
    auto const known = wal::load_manifest<checksum::crc32c>(fs, wal::layout{"log"}).state;
    for (auto const& [id, entry] : known->segments) CHECK(entry.seal.has_value());
}

template <class Log>
void gives_back() {
    io::memory disk;
    auto log = open<Log>(disk);
    REQUIRE(log);
    int n = 0;
    for (int i = 0; i < 300; ++i) REQUIRE(log->append(record(n++, 1000)));
    log->housekeep();
    auto const used = disk.used();
    REQUIRE(log->close());
    all_are_sealed(disk);
    CHECK(disk.used() + policy_bytes / 4 < used);
    // Then little by little: each opening takes a few blocks.
    auto const before = disk.used();
    constexpr std::uint64_t openings = 50;
    for (std::uint64_t i = 0; i < openings; ++i) {
        log = open<Log>(disk);
        REQUIRE(log);
        CHECK(log->recovery().findings.empty());
        REQUIRE(log->append(record(n++, 100)));
        log->housekeep();
        REQUIRE(log->close());
    }
    CHECK(disk.used() <= before + openings * 24 * KiB + 64 * KiB); // and the manifests, which name more segments
    all_are_sealed(disk);
    log = open<Log>(disk);
    REQUIRE(log);
    auto const all = read(*log);
    REQUIRE(all.size() == static_cast<std::size_t>(n));
    for (int i = 0; i < n; ++i) CHECK(all[static_cast<std::size_t>(i)] == record(i, i < 300 ? 1000 : 100));
}

/// Stops a run of the log after every operation of its disk, and looks at what a crash leaves of it.
template <class Log>
class crashes {
public:
    void run() {
        io::memory disk;
        disk.on_operation([&](io::operation const& op) {
            closing_holes_ += op.kind == io::operation_kind::punch_hole;
            look(disk);
        });
        write(disk);
        disk.on_operation({});
        look(disk);
        CHECK(closing_holes_ > 1);
        CHECK(states_ > 250);
    }

private:
    void write(io::memory const& disk) {
        auto log = open<Log>(disk);
        REQUIRE(log);
        for (auto const bytes : {40'000, 10, 50'000, 10, 200'000, 10, 10})
            append(*log, static_cast<std::size_t>(bytes));
        REQUIRE(log->close());
        log = open<Log>(disk);
        REQUIRE(log);
        append(*log, 50'000);
        log->housekeep();      // one is prepared ahead
        append(*log, 150'000); // too large for it
        REQUIRE(log->truncate_before({5}));
        log->housekeep();
        REQUIRE(log->close());
    }
    void append(Log& log, std::size_t bytes) {
        begun_ = record(static_cast<int>(done_.size()), bytes);
        REQUIRE(log.append(begun_));
        if constexpr (std::is_same_v<Log, mapped_log>) REQUIRE(log.sync());
        done_.push_back(begun_);
    }
    void look(io::memory const& disk) {
        if (++moment_ % 3 == 0) judge(disk.after_process_crash());
        if (moment_ % 3 == 1) judge(disk.after_power_loss({.what = io::keep::oldest}));
        if (moment_ % 3 == 2) judge(disk.after_power_loss({.what = io::keep::random, .seed = moment_}));
    }
    void judge(io::memory disk) {
        ++states_;
        CAPTURE(moment_);
        auto log = open<Log>(disk);
        if (!log && done_.empty()) return; // the store was not made yet
        REQUIRE_MESSAGE(log, to_string(log.error()));
        CHECK(model::verdict_of_crash(log->recovery()) == "");
        check_records(*log);
        REQUIRE(log->append("after the crash"));
        REQUIRE(log->close());
        nothing_is_left_over(disk);
        log = open<Log>(disk);
        REQUIRE(log);
        CHECK(log->recovery().findings.empty());
        CHECK(read(*log, log->first_lsn()).back() == "after the crash");
    }
    void check_records(Log const& log) {
        auto const first = log.first_lsn().value;
        auto const all = first == 0 ? std::vector<std::string>{} : read(log, {first});
        auto const last = first == 0 ? 0 : first - 1 + all.size();
        REQUIRE(last >= done_.size());
        REQUIRE(last <= done_.size() + 1);
        for (std::size_t i = 0; i < all.size(); ++i) {
            auto const n = static_cast<std::size_t>(first) - 1 + i;
            CHECK(all[i] == (n < done_.size() ? done_[n] : begun_));
        }
    }

    std::vector<std::string> done_{};
    std::string begun_{};
    std::uint64_t moment_ = 0;
    std::uint64_t states_ = 0;
    std::uint64_t closing_holes_ = 0;
};

} // namespace

TEST_CASE("growth: a first segment follows from what the store holds, within 64 KiB and the policy's size") {
    using wal::first_segment_bytes;
    CHECK(first_segment_bytes(0, 16 * MiB) == 64 * KiB);
    CHECK(first_segment_bytes(5 * MiB, 16 * MiB) == 64 * KiB);
    CHECK(first_segment_bytes(100 * MiB, 16 * MiB) == MiB);
    CHECK(first_segment_bytes(2 * GiB, 16 * MiB) == 16 * MiB);
    CHECK(first_segment_bytes(0, 4 * KiB) == 4 * KiB);
    CHECK(first_segment_bytes(2 * GiB, 4 * KiB) == 4 * KiB);
    CHECK(first_segment_bytes(2 * GiB, 100 * KiB) == 100 * KiB);
}

TEST_CASE("growth: what is wanted gets the smallest size that has room for it and its index, the policy's at most") {
    wal::segment_demand wanted{};
    CHECK(wanted.segment_bytes(64 * KiB, 16 * MiB) == 64 * KiB);
    CHECK(wanted.segment_bytes(MiB, 16 * MiB) == MiB);
    wanted.frames = wal::frames_room(64 * KiB);
    CHECK(wanted.segment_bytes(64 * KiB, 16 * MiB) == 64 * KiB);
    wanted.keyed = 1; // its index has no room beside them
    CHECK(wanted.segment_bytes(64 * KiB, 16 * MiB) == 128 * KiB);
    wanted.frames = wal::frames_room(16 * MiB);
    CHECK(wanted.segment_bytes(64 * KiB, 16 * MiB) == 16 * MiB);
    CHECK(wanted.segment_bytes(64 * KiB, 100 * KiB) == 100 * KiB);
}

TEST_CASE("growth: only what no reader looks at is spare, in whole blocks of a file system") {
    for (auto const bytes : {64 * KiB, 256 * KiB, 16 * MiB})
        for (auto const end : {4 * KiB, 5 * KiB, 30 * KiB, 60 * KiB, 61 * KiB})
            for (std::uint64_t const records : {0U, 1U, 40U, 1000U}) {
                format::segment_seal const seal{.count = records, .data_end = end};
                auto const spare = wal::spare_blocks(seal, bytes);
                auto const block = format::block_bytes(bytes);
                auto const sections = format::index_shape{block, records}.bytes() +
                                      format::filter_shape{block, records}.bytes();
                if (spare.length == 0) continue;
                CHECK(spare.offset >= format::sections_begin(end, bytes) + sections);
                CHECK(spare.offset + spare.length <= format::footer_offset(bytes));
                CHECK(spare.offset % (4 * KiB) == 0);
                CHECK(spare.length % (4 * KiB) == 0);
            }
    CHECK(wal::spare_blocks({.count = 1, .data_end = 5 * KiB}, 64 * KiB).length == 44 * KiB);
    CHECK(wal::spare_blocks({.count = 1, .data_end = 60 * KiB}, 64 * KiB).length == 0);
}

TEST_CASE(
    "growth: a log begins with 64 KiB, doubles as it fills, and prepares the next segment when its turn is near") {
    doubles<written_log>();
    doubles<mapped_log>();
}

TEST_CASE("growth: a segment that is filled in no time is followed by one that is sixteen times as large") {
    jumps<written_log>();
    jumps<mapped_log>();
    CHECK(wal::growth_factor(99'000'000) == 16);
    CHECK(wal::growth_factor(101'000'000) == 2);
}

TEST_CASE("growth: a record of the policy's size is accepted at any time") {
    takes_the_largest<written_log>();
    takes_the_largest<mapped_log>();
}

TEST_CASE("growth: an orderly end gives back what was prepared and the blocks that were not used") {
    gives_back<written_log>();
    gives_back<mapped_log>();
}

TEST_CASE("growth: a segment without a record is followed by one that takes the largest") {
    machine fs;
    auto log = written_log::open("log", model::test_options(), fs);
    REQUIRE(log);
    fs.set_plan({{{.kind = io::fault_kind::fail, .on = io::fault_class::sync, .at = 1, .count = io::forever}}});
    CHECK_FALSE(log->append("x"));
    CHECK(log->state() == engine_state::read_only);
    fs.set_plan({});
    REQUIRE(log->resume());
    auto const largest = std::string(written_log::record_bytes_max, 'L');
    REQUIRE(log->append(largest));
    REQUIRE(log->close());
    log = written_log::open("log", model::test_options(), fs);
    REQUIRE(log);
    CHECK(log->recovery().findings.empty());
    CHECK(read(*log).back() == largest);
}

TEST_CASE("growth: a segment that is given up while the disk is full is written again, however far the log has grown") {
    for (int const records : {5, 50, 150, 400}) {
        CAPTURE(records);
        machine fs;
        auto log = written_log::open("log", model::test_options(), fs);
        REQUIRE(log);
        for (int i = 0; i < records; ++i) REQUIRE(log->append(record(i, 1000)));
        log->housekeep();
        fs.inner().set_capacity(fs.inner().used());
        fs.set_plan({{{.kind = io::fault_kind::fail_sync, .on = io::fault_class::sync, .at = 1}}});
        REQUIRE(log->append("saved"));
        CHECK(fs.log().size() == 1);
        CHECK(read(*log).size() == static_cast<std::size_t>(records) + 1);
    }
}

TEST_CASE("growth: whenever a log that grows, and gives back, is stopped, what it acknowledged is there and nothing is "
          "left over") {
    crashes<written_log>{}.run();
    crashes<mapped_log>{}.run();
}

TEST_CASE("growth: no block that an earlier opening gave back is written to again") {
    io::memory disk;
    auto log = open<written_log>(disk);
    REQUIRE(log);
    for (int i = 0; i < 150; ++i) REQUIRE(log->append(record(i, 1000)));
    REQUIRE(log->close()); // a segment of the policy's size, more than half of it a hole
    log = open<written_log>(disk);
    REQUIRE(log);
    for (int i = 0; i < 600; ++i) REQUIRE(log->append(record(i, 1000)));
    REQUIRE(log->truncate_before({301}));
    // Whatever is recycled owns its blocks: a full disk shows when a segment is made, not when it is written.
    log->housekeep();
    auto const last = log->last_lsn();
    disk.set_capacity(disk.used());
    while (log->append(record(1, 1000))) {}
    CHECK(log->state() == engine_state::read_only);
    CHECK(log->state_reason().find("no segment could be made ready") != std::string::npos);
    CHECK(log->last_lsn() > last);
    CHECK_MESSAGE(disk.status("log/reserve"), "no segment had to be given up");
}

} // namespace segment_growth_test
