// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/writer.hpp>

#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

// What a writer promises when something fails at the wrong moment. tests/crash goes through all points in time; here each case is one, in plain sight.

namespace {

using keel::KiB;
using faulty = keel::io::faulty<keel::io::memory>;
using failing_buffered = keel::engine<faulty, keel::segment_size<64 * KiB>, keel::durability::os_buffered>;
using failing_commits = keel::engine<faulty, keel::segment_size<64 * KiB>>;
using keel::io::fault_class;
using keel::io::fault_kind;

std::string name_of_key(int i) { return "key" + std::to_string(i); }

} // namespace

TEST_CASE("writer: a store into the mapping that fails while another thread syncs loses nothing that was accepted") {
    keel::io::memory disk;
    faulty fs{disk};
    auto db = failing_buffered::open("db", model::test_options(), fs);
    REQUIRE(db);
    for (int i = 0; i < 20; ++i) REQUIRE(db->put(name_of_key(i), "accepted"));
    std::atomic<bool> in_sync{false};
    std::atomic<bool> go_on{false};
    disk.on_operation([&](keel::io::operation const& op) {
        if (op.kind != keel::io::operation_kind::mapping_sync || in_sync.exchange(true)) return;
        while (!go_on) std::this_thread::yield();
    });
    std::atomic<bool> synced{false};
    std::jthread syncer{[&] { synced = db->sync().has_value(); }};
    while (!in_sync) std::this_thread::yield();
    fs.set_plan({{{.kind = fault_kind::fail, .on = fault_class::store}}});
    std::atomic<bool> put{false};
    std::jthread writer{[&] { put = db->put("late", "accepted").has_value(); }};
    while (fs.fired() == 0) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(20)); // the writer waits for the leadership
    go_on = true;
    syncer.join();
    writer.join();
    disk.on_operation({});
    CHECK(synced);
    CHECK(put);
    CHECK(db->state_reason().find("lost") == std::string::npos);
    for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < 20; ++i) REQUIRE(**db->get(name_of_key(i)) == "accepted");
        CHECK(**db->get("late") == "accepted");
        db->abandon();
        db = failing_buffered::open("db", model::test_options(),
                                    faulty{disk.after_power_loss({.what = keel::io::keep::oldest})});
        REQUIRE(db);
        CHECK(db->recovery().lost_records == 0);
        CHECK(db->recovery().findings.empty());
    }
}

TEST_CASE("writer: a full disk passes by itself, also where a manifest edit was what met it first") {
    // Each operation of preparing a segment in turn is the first to find the disk full.
    bool any_in_manifest = false;
    for (std::uint64_t n = 1; n < 200; ++n) {
        keel::io::memory disk;
        faulty fs{disk};
        auto db = failing_commits::open("db", model::test_options(), fs);
        REQUIRE(db);
        REQUIRE(db->put("a", "1"));
        fs.set_plan({{{.kind = fault_kind::no_space, .on = fault_class::write, .at = n, .count = keel::io::forever}}});
        for (int i = 0; i < 80 && db->put(name_of_key(i), std::string(1000, 'v')); ++i) {}
        if (fs.fired() == 0) break;
        any_in_manifest = any_in_manifest || fs.log().front().path.find("manifest") != std::string::npos;
        for (int i = 0; i < 4; ++i) db->housekeep(true); // looks again, in vain
        CHECK(db->state() == keel::engine_state::read_only);
        CHECK(db->put("b", "2").error().code == keel::errc::no_space);
        fs.refill();
        db->housekeep(true);
        CHECK_MESSAGE(db->state() != keel::engine_state::read_only, db->state_reason());
        REQUIRE(db->put("b", "2"));
        db->abandon();
        auto again = failing_commits::open("db", model::test_options(), faulty{disk.after_process_crash()});
        REQUIRE(again);
        CHECK(**again->get("a") == "1");
        CHECK(**again->get("b") == "2");
        CHECK(again->recovery().findings.empty());
    }
    CHECK(any_in_manifest);
}

TEST_CASE("writer: a failed sync that a full disk keeps from being survived waits for resume()") {
    keel::io::memory disk;
    faulty fs{disk};
    auto db = failing_commits::open("db", model::test_options(), fs);
    REQUIRE(db);
    REQUIRE(db->put("a", "1"));
    fs.set_plan({{{.kind = fault_kind::fail_sync, .on = fault_class::sync},
                  {.kind = fault_kind::no_space, .on = fault_class::write, .at = 2, .count = keel::io::forever}}});
    CHECK(db->put("b", "2").error().code == keel::errc::outcome_unknown);
    CHECK(db->state() == keel::engine_state::read_only);
    CHECK(db->put("c", "3").error().code == keel::errc::read_only);
    fs.set_plan({});
    for (int i = 0; i < 3; ++i) db->housekeep(true);
    CHECK_MESSAGE(db->state() == keel::engine_state::read_only, "the first cause was the failed sync");
    REQUIRE(db->resume());
    CHECK(db->state() == keel::engine_state::healthy);
    REQUIRE(db->put("c", "3"));
    CHECK(**db->get("a") == "1");
    db->abandon();
}

TEST_CASE("writer: a mapped store that the full disk refuses is told as that, and passes by itself") {
    keel::io::memory disk;
    faulty fs{disk};
    auto db = failing_buffered::open("db", model::test_options(), fs);
    REQUIRE(db);
    REQUIRE(db->put("a", "1"));
    REQUIRE(db->sync());
    // What a guarded SIGBUS gives is EIO; the file itself says ENOSPC.
    fs.set_plan({{{.kind = fault_kind::fail, .on = fault_class::store, .count = keel::io::forever},
                  {.kind = fault_kind::no_space, .on = fault_class::any, .count = keel::io::forever}}});
    CHECK_FALSE(db->put("b", "2"));
    CHECK(db->state() == keel::engine_state::read_only);
    CHECK(db->put("b", "2").error().code == keel::errc::no_space);
    fs.set_plan({});
    db->housekeep(true);
    CHECK_MESSAGE(db->state() != keel::engine_state::read_only, db->state_reason());
    REQUIRE(db->put("b", "3"));
    CHECK(**db->get("a") == "1");
    CHECK(**db->get("b") == "3");
    db->abandon();
}

TEST_CASE("writer: close() wakes a reader that waits for the tail") {
    using log_type = keel::log<keel::io::memory, keel::segment_size<64 * KiB>>;
    keel::io::memory disk;
    auto wal = log_type::open("log", model::test_options(), disk);
    REQUIRE(wal);
    REQUIRE(wal->append("one"));
    std::atomic<bool> waits{false};
    std::jthread reader{[&] {
        auto at = wal->read_from({2});
        waits = true;
        static_cast<void>(at.next(std::chrono::hours(1)));
    }};
    while (!waits) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    REQUIRE(wal->close());
    reader.join(); // in an hour, if it was not woken
}

TEST_CASE("writer: proof and what it proves share no block: a lost block takes an idle mark or the records before it") {
    using log_type = keel::log<keel::io::memory, keel::segment_size<64 * KiB>>;
    auto const path = std::string{"log/log/0000000000000001.seg"};
    for (int const records : {1, 3, 30}) {
        keel::io::memory disk;
        auto wal = log_type::open("log", model::test_options(), disk);
        for (int i = 0; i < records; ++i) REQUIRE(wal->append("record " + std::to_string(i)));
        wal->housekeep(true);
        wal->abandon();
        auto const left = disk.after_power_loss({.what = keel::io::keep::oldest});
        auto const size = left.contents(path)->size();
        for (std::uint64_t block = 1; block < size / (4 * KiB); ++block) {
            auto hurt = left.after_process_crash();
            auto bytes = *hurt.contents(path);
            std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(block * 4 * KiB), 4 * KiB, std::byte{0});
            REQUIRE(hurt.replace(path, bytes));
            auto options = model::test_options();
            options.read_only = true;
            auto const again = log_type::open("log", options, hurt);
            REQUIRE(again);
            auto const& report = again->recovery();
            auto const here = report.records + report.lost_records;
            CHECK_MESSAGE(here == static_cast<std::uint64_t>(records),
                          "block " << block << " of " << records << " records: " << report.lost_records << " lost, "
                                   << report.records << " there");
        }
    }
}

TEST_CASE("writer: an idle store that gets a record now and then fills its segments and is read back whole") {
    using log_type = keel::log<keel::io::memory, keel::segment_size<64 * KiB>>;
    keel::io::memory disk;
    auto wal = log_type::open("log", model::test_options(), disk);
    for (int i = 0; i < 200; ++i) {
        REQUIRE(wal->append("record " + std::to_string(i)));
        if (i % 3 != 0) wal->housekeep(true);
    }
    wal->abandon();
    auto again = log_type::open("log", model::test_options(), disk.after_power_loss({.what = keel::io::keep::oldest}));
    REQUIRE(again);
    CHECK(again->recovery().findings.empty());
    CHECK(again->recovery().records == 200);
    auto reader = again->read_from({1});
    for (int i = 0; i < 200; ++i) CHECK(keel::as_text((**reader.next()).value) == "record " + std::to_string(i));
    again->abandon();
}

TEST_CASE("writer: a loss that comes while an earlier one is accepted is told all the same") {
    using buffered_log =
        keel::basic_log<keel::config<faulty, keel::segment_size<64 * KiB>, keel::durability::os_buffered>>;
    keel::io::memory disk;
    faulty fs{disk};
    auto log = buffered_log::open("log", model::test_options(), fs);
    REQUIRE(log);
    auto const lose_one = [&] { // stored wrong, and read back when its sync fails
        fs.set_plan({{{.kind = fault_kind::flip_write, .on = fault_class::store}}});
        auto const at = log->append(std::string(300, 'l'));
        fs.set_plan({{{.kind = fault_kind::fail_sync, .on = fault_class::sync}}});
        static_cast<void>(log->sync());
        fs.set_plan({});
        return at;
    };
    REQUIRE(log->append("kept"));
    REQUIRE(log->sync());
    REQUIRE(lose_one());
    CHECK(log->sync().error().at == keel::lsn{2});
    keel::result<keel::lsn> second;
    disk.on_operation([&](keel::io::operation const& op) {
        if (second || op.path.find("losses") == std::string_view::npos) return;
        second = keel::lsn{1};
        second = lose_one();
    });
    REQUIRE(log->accept_loss());
    disk.on_operation({});
    REQUIRE(second);
    CHECK(log->sync().error().at == *second);
    REQUIRE(log->accept_loss());
    CHECK(log->sync());
    REQUIRE(log->close());
    log = buffered_log::open("log", model::test_options(), fs);
    REQUIRE(log);
    CHECK_MESSAGE(log->state() == keel::engine_state::healthy, log->state_reason());
}

TEST_CASE("writer: the largest batch has room in a fresh segment, also behind the mark of a write that was refused") {
    using settings = keel::config<keel::io::memory, keel::segment_size<64 * KiB>>;
    using core_type = keel::detail::store_core<settings, keel::wal::discard_records>;
    auto const events = std::make_shared<core_type::events_type>(settings::observer{});
    auto const options = model::test_options();
    std::vector<keel::recovery::no_sink> sinks;
    auto opened = keel::recovery::open_store<settings>(keel::io::memory{}, "log", settings::segment_bytes, options,
                                                       *events, sinks);
    REQUIRE(opened);
    keel::wal::discard_records sink;
    core_type core{std::move(*opened), sink, events, options};
    auto& writer = core.writer();
    std::string const largest(keel::wal::record_bytes_max_of(settings::segment_bytes), 'v');
    keel::wal::operation const small{.type = keel::format::frame_type::message, .value = keel::as_bytes("small")};
    keel::wal::operation const large{.type = keel::format::frame_type::message, .value = keel::as_bytes(largest)};
    REQUIRE(writer.write({&small, 1}));
    REQUIRE(writer.roll_over());
    writer.mark_due();
    auto const refuse = [](auto const&) -> keel::result<void> {
        return keel::failure(keel::errc::conflict, "refused");
    };
    CHECK(writer.write_if({&small, 1}, refuse).error().code == keel::errc::conflict);
    CHECK(writer.write({&large, 1}));
    CHECK(writer.write({&large, 1}));
    CHECK(core.close());
}
