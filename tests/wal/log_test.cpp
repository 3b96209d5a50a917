// SPDX-License-Identifier: BSL-1.0
#include <keel/log.hpp>

#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <string>
#include <thread>
#include <vector>

namespace {

using small_log = keel::log<keel::io::memory, keel::segment_size<4 * keel::KiB>>;
using mapped_log = keel::log<keel::io::memory, keel::segment_size<4 * keel::KiB>, keel::durability::os_buffered>;

template <class Log>
std::vector<std::pair<std::uint64_t, std::string>> read(Log const& wal, std::uint64_t from = 1) {
    std::vector<std::pair<std::uint64_t, std::string>> all;
    auto reader = wal.read_from({from});
    for (;;) {
        auto record = reader.next();
        REQUIRE_MESSAGE(record, keel::to_string(record.error()));
        if (!*record) return all;
        all.emplace_back((*record)->at.value, std::string{keel::as_text((*record)->value)});
    }
}

} // namespace

TEST_CASE_TEMPLATE("log: P4: LSNs are dense over any number of segments, and every record is read back under its own",
                   Log, small_log, mapped_log) {
    CHECK(rc::check("append, read back, reopen, read back", [] {
        auto const sizes = *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 900));
        keel::io::memory disk;
        std::vector<std::pair<std::uint64_t, std::string>> expected;
        {
            auto wal = Log::open("log", model::test_options(), disk);
            for (auto const size : sizes) {
                auto const text = std::string(static_cast<std::size_t>(size), 'x') + std::to_string(expected.size());
                auto const at = wal->append(text);
                RC_ASSERT(at.has_value());
                RC_ASSERT(at->value == expected.size() + 1);
                expected.emplace_back(at->value, text);
            }
            RC_ASSERT(read(*wal) == expected);
        }
        auto wal = Log::open("log", model::test_options(), disk);
        RC_ASSERT(wal.has_value());
        RC_ASSERT(read(*wal) == expected);
        RC_ASSERT(wal->recovery().records == expected.size());
        if (!expected.empty()) RC_ASSERT(read(*wal, expected.size()).size() == 1U);
    }));
}

TEST_CASE("log: a batch takes consecutive LSNs in one segment") {
    auto wal = small_log::open("log", model::test_options());
    std::string const text(300, 'b');
    std::vector<keel::byte_view> const batch(5, keel::as_bytes(text));
    for (int i = 0; i < 4; ++i) CHECK(wal->append_batch(batch)->value == static_cast<std::uint64_t>(5 * (i + 1)));
    CHECK(read(*wal).size() == 20);
    CHECK(wal->append_batch({}).error().code == keel::errc::invalid_argument);
    std::vector<keel::byte_view> const huge(10, keel::as_bytes(text));
    CHECK(wal->append_batch(huge).error().code == keel::errc::too_large);
    CHECK(wal->last_lsn().value == 20);
}

TEST_CASE(
    "log: retention gives up whole segments, recycles their files, and keeps the rest readable across reopening") {
    keel::io::memory disk;
    auto wal = small_log::open("log", model::test_options(), disk);
    std::string const text(400, 'r');
    for (int i = 0; i < 60; ++i) REQUIRE(wal->append(text + std::to_string(i)));
    auto const files_before = disk.files().size();
    REQUIRE(wal->truncate_before({40}));
    CHECK(wal->first_lsn().value > 30);
    CHECK(wal->first_lsn().value <= 40);
    auto const first = wal->first_lsn().value;
    for (int i = 60; i < 80; ++i) REQUIRE(wal->append(text + std::to_string(i)));
    CHECK(read(*wal, first).size() == 80 - first + 1);
    CHECK(disk.files().size() < files_before);
    REQUIRE(wal->close());
    wal = small_log::open("log", model::test_options(), disk);
    REQUIRE(wal);
    CHECK(wal->recovery().findings.empty());
    CHECK(wal->first_lsn().value == first);
    CHECK(read(*wal, first).size() == 80 - first + 1);
    CHECK(wal->append("next")->value == 81);
}

TEST_CASE("log: retention that fails at any operation gives nothing up here, and all of it when it works again") {
    using faulty_log = keel::log<keel::io::faulty<keel::io::memory>, keel::segment_size<4 * keel::KiB>>;
    std::string const text(400, 'r');
    std::uint64_t failed = 0;
    for (std::uint64_t at = 1; at < 60; ++at) {
        CAPTURE(at);
        keel::io::faulty<keel::io::memory> fs;
        auto wal = faulty_log::open("log", model::test_options(), fs);
        REQUIRE(wal);
        for (int i = 0; i < 40; ++i) REQUIRE(wal->append(text + std::to_string(i)));
        fs.set_plan({{{.kind = keel::io::fault_kind::fail, .at = at, .count = keel::io::forever}}});
        auto const done = wal->truncate_before({30});
        bool const hit = !fs.log().empty();
        fs.set_plan({});
        if (!hit) break;
        auto const first = wal->first_lsn().value;
        failed += !done.has_value();
        if (first == 1) CHECK(read(*wal).size() == 40); // nothing is given up: all of it is readable
        else CHECK(read(*wal, first).size() == 40 - first + 1);
        CHECK((first == 1 || done || done.error().message.find("manifest") == std::string::npos));
        // The next one finds the manifest usable, and whoever opens the log afterwards finds nothing amiss.
        REQUIRE(wal->truncate_before({36}));
        CHECK(wal->first_lsn().value > 30);
        for (int i = 40; i < 60; ++i) REQUIRE(wal->append(text + std::to_string(i)));
        REQUIRE(wal->close());
        wal = faulty_log::open("log", model::test_options(), fs);
        REQUIRE(wal);
        CHECK(wal->recovery().findings.empty());
        CHECK(wal->state() == keel::engine_state::healthy);
        CHECK(read(*wal, wal->first_lsn().value).size() == 60 - wal->first_lsn().value + 1);
    }
    CHECK(failed > 5);
}

TEST_CASE_TEMPLATE("log: a segment that a crash left without a seal is given up like the others", Log, small_log,
                   mapped_log) {
    for (bool const power : {false, true}) {
        CAPTURE(power);
        keel::io::memory disk;
        std::string const text(400, 'c');
        auto wal = Log::open("log", model::test_options(), disk);
        for (int i = 0; i < 20; ++i) REQUIRE(wal->append(text));
        REQUIRE(wal->sync());
        wal->abandon();
        disk = power ? disk.after_power_loss({.what = keel::io::keep::oldest}) : disk.after_process_crash();
        wal = Log::open("log", model::test_options(), disk);
        REQUIRE(wal);
        auto const crashed_at = wal->last_lsn();
        REQUIRE(crashed_at.value >= 20);
        // Nothing that was found is given up before it is known to be durable.
        REQUIRE(wal->truncate_before(crashed_at.next()));
        CHECK(wal->last_lsn() == crashed_at);
        while (wal->last_lsn().value < crashed_at.value + 40) REQUIRE(wal->append(text));
        auto const upto = wal->last_lsn().value - 10;
        REQUIRE(wal->truncate_before({upto}));
        CHECK(wal->first_lsn().value > crashed_at.value + 10);
        CHECK(read(*wal, wal->first_lsn().value).size() == wal->last_lsn().value - wal->first_lsn().value + 1);
        auto const first = wal->first_lsn();
        auto const last = wal->last_lsn();
        wal->abandon();
        disk = disk.after_process_crash();
        wal = Log::open("log", model::test_options(), disk);
        REQUIRE(wal);
        CHECK(wal->recovery().findings.empty());
        CHECK(wal->first_lsn() == first);
        CHECK(wal->last_lsn() == last);
    }
}

TEST_CASE("log: a reader follows the tail while another thread appends") {
    auto options = model::test_options();
    options.background_thread = true;
    auto wal = small_log::open("log", options);
    std::thread writer{[&] {
        for (int i = 0; i < 500; ++i)
            if (!wal->append("record " + std::to_string(i))) std::abort();
    }};
    auto reader = wal->read_from({1});
    for (int i = 0; i < 500;) {
        auto const record = reader.next(std::chrono::seconds(10));
        REQUIRE_MESSAGE(record, keel::to_string(record.error()));
        REQUIRE(*record);
        CHECK(keel::as_text((*record)->value) == "record " + std::to_string(i));
        ++i;
    }
    writer.join();
}

TEST_CASE("log: an idle mark makes the last record provable: damage to it is corruption, not a torn tail") {
    for (bool const idle : {false, true}) {
        keel::io::memory disk;
        auto wal = small_log::open("log", model::test_options(), disk);
        REQUIRE(wal->append("first"));
        REQUIRE(wal->append("last one"));
        if (idle) wal->housekeep(true);
        wal->abandon();
        // A power loss, which also takes the notes' word for what was accepted; then the last record goes bad.
        auto left = disk.after_power_loss({.what = keel::io::keep::oldest});
        auto const path = std::string{"log/log/0000000000000001.seg"};
        auto const bytes = *left.contents(path);
        auto const text = keel::as_text(bytes);
        auto const at = text.find("last one");
        REQUIRE(at != std::string::npos);
        REQUIRE(left.corrupt(path, at, std::byte{1}));
        auto options = model::test_options();
        options.read_only = true;
        auto const again = small_log::open("log", options, left);
        REQUIRE(again);
        CHECK(again->recovery().lost_records == (idle ? 1U : 0U));
        CHECK((again->recovery().torn_tail_bytes != 0) == !idle);
    }
}

TEST_CASE("log: a mismatch that a second read past the page cache makes good is counted as transient, not as damage") {
    using faulty_log = keel::log<keel::io::faulty<keel::io::memory>, keel::segment_size<4 * keel::KiB>>;
    std::uint64_t transient = 0;
    for (std::uint64_t n = 1; n < 40; ++n) {
        keel::io::faulty<keel::io::memory> fs;
        {
            auto wal = faulty_log::open("log", model::test_options(), fs);
            for (int i = 0; i < 20; ++i) REQUIRE(wal->append(std::string(100, 't')));
            wal->abandon();
        }
        fs.set_plan(
            {{{.kind = keel::io::fault_kind::flip_read, .on = keel::io::fault_class::read, .at = n, .seed = n}}});
        auto options = model::test_options();
        options.read_only = true;
        options.verify = keel::verify_depth::deep;
        auto const wal = faulty_log::open("log", options, keel::io::faulty<keel::io::memory>{fs});
        REQUIRE(wal);
        CHECK(wal->recovery().lost_records == 0);
        CHECK(wal->recovery().records == 20);
        transient += wal->recovery().transient_mismatches;
    }
    CHECK(transient > 0);
}
