// SPDX-License-Identifier: BSL-1.0
#include <keel/recovery/read_back.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

// A segment is written to a medium that does not hold what it is given. Every write and store is hit in turn; what the file has in the end is
// compared with what it has where nothing is hit.

namespace {

using namespace keel;

using disk_type = io::faulty<io::memory>;
using reading_store = engine<disk_type, segment_size<8 * KiB>, compaction::by_hand, seal_check::read_back>;
using reading_log = record_log<disk_type, segment_size<8 * KiB>, durability::os_buffered, seal_check::read_back>;
using trusting_log = record_log<disk_type, segment_size<8 * KiB>, durability::os_buffered>;

std::string text(int i) { return std::to_string(100 + i) + std::string(300, static_cast<char>('a' + i % 26)); }

template <class Store>
void write_one(Store& to, int i) {
    if constexpr (requires { to.append("x"); }) static_cast<void>(to.append(text(i)));
    else static_cast<void>(to.put("key" + std::to_string(100 + i), text(i)));
}

struct outcome {
    std::vector<std::byte> bytes{}; ///< of the first segment, once the second one is written to
    std::string reason{};           ///< of not being healthy
    std::string told{};             ///< the corruption log
    std::uint64_t operations = 0;   ///< of the class
};

/// Fills the first segment while this goes wrong, and no more.
template <class Store>
outcome fill_segment(std::optional<io::fault> wrong, io::fault_class counted) {
    model::reset_machine();
    disk_type disk;
    auto db = Store::open("db", model::test_options(), disk);
    REQUIRE(db.has_value());
    io::fault_plan plan;
    if (wrong) plan.faults.push_back(*wrong);
    disk.set_plan(plan);
    outcome out;
    for (int i = 0; i < 30; ++i) write_one(*db, i);
    out.operations = disk.operations(counted);
    out.reason = db->state_reason();
    out.bytes = disk.inner().contents("db/log/0000000000000001.seg").value_or(std::vector<std::byte>{});
    if (auto const log = disk.inner().contents("db/quarantine/corruption.jsonl")) out.told = as_text(*log);
    db->abandon();
    return out;
}

/// Whether there is a difference in what counts: not in the room that was left between the frames and what the seal wrote.
bool differs(std::vector<std::byte> const& a, std::vector<std::byte> const& sound) {
    auto const bytes = sound.size();
    if (a.size() != bytes) return true;
    auto const footer_at = format::footer_offset(bytes);
    auto const footer = format::decode_segment_footer<checksum::crc32c>(
        byte_view{sound}.subspan(static_cast<std::size_t>(footer_at), format::header_bytes));
    REQUIRE(footer.good);
    auto const counts = [&](std::uint64_t at) {
        auto const& f = footer.footer;
        if (at < format::header_bytes || at >= footer_at) return true;
        if (at >= format::frames_begin(bytes) && at < f.seal.data_end) return true;
        return std::any_of(f.sections.begin(), f.sections.begin() + f.section_count, [at](auto const& section) {
            return at >= section.offset && at < std::uint64_t{section.offset} + section.length;
        });
    };
    for (std::size_t i = 0; i < bytes; ++i)
        if (a[i] != sound[i] && counts(i)) return true;
    return false;
}

struct seen {
    int damaged = 0;
    int found = 0;
};

template <class Store>
seen hit_each(io::fault_class on, io::fault_kind how) {
    auto const sound = fill_segment<Store>(std::nullopt, on);
    REQUIRE(sound.reason.empty());
    REQUIRE(sound.operations > 5);
    seen out;
    for (std::uint64_t at = 1; at <= sound.operations; ++at) {
        INFO(std::string{io::name_of(how)} << " at " << at);
        auto const got = fill_segment<Store>(io::fault{.kind = how, .on = on, .at = at, .seed = at}, on);
        bool const is_told = got.reason.find("read back after its seal") != std::string::npos;
        bool const first = got.told.find("0000000000000001.seg") != std::string::npos;
        CHECK(is_told == !got.told.empty());
        bool const damaged = differs(got.bytes, sound.bytes);
        out.damaged += damaged;
        out.found += first;
        if constexpr (Store::config_type::seal_check::reads_sealed_back) CHECK(first == damaged);
        else CHECK(!is_told);
    }
    return out;
}

} // namespace

TEST_CASE("read back: what the medium wrote wrong is found at the seal, and nothing else is taken for damage") {
    for (auto const how : {io::fault_kind::flip_write, io::fault_kind::lose_write, io::fault_kind::misdirect_write}) {
        auto const written = hit_each<reading_store>(io::fault_class::write, how);
        CHECK(written.found > 10);
        auto const stored = hit_each<reading_log>(io::fault_class::store, how);
        CHECK(stored.found > 10);
    }
}

TEST_CASE("read back: a read that fails once is made again, and is no damage") {
    auto const seen = hit_each<reading_store>(io::fault_class::read, io::fault_kind::fail);
    CHECK(seen.damaged == 0);
    CHECK(seen.found == 0);
}

TEST_CASE(
    "read back: the segment that a close seals is read back, too, and the damage is logged before the lock is let go") {
    disk_type disk;
    auto db = reading_log::open("db", model::test_options(), disk);
    REQUIRE(db.has_value());
    for (int i = 0; i < 5; ++i) write_one(*db, i);
    disk.set_plan({{{.kind = io::fault_kind::flip_write, .on = io::fault_class::store, .at = 1}}});
    write_one(*db, 5);
    CHECK(db->state() == engine_state::healthy);
    CHECK(db->close().has_value()); // all that was accepted was synced; what the medium did with it is told beside
    auto const told = disk.inner().contents("db/quarantine/corruption.jsonl");
    REQUIRE(told.has_value());
    CHECK(as_text(*told).find("0000000000000001.seg") != std::string::npos);
}

TEST_CASE("read back: sound segments, full, begun or without a record, are no finding") {
    disk_type disk;
    auto const opened = [&] {
        auto db = reading_store::open("db", model::test_options(), disk);
        REQUIRE(db.has_value());
        return std::move(*db);
    };
    auto db = opened();
    for (int i = 0; i < 100; ++i) write_one(db, i);
    REQUIRE(db.compact().has_value()); // the segment that is written to then has no record
    CHECK(db.state_reason().empty());
    REQUIRE(db.close().has_value());
    db = opened();
    for (int i = 0; i < 3; ++i) write_one(db, i);
    REQUIRE(db.close().has_value());
    CHECK(!disk.inner().contents("db/quarantine/corruption.jsonl").has_value());
    CHECK(opened().state() == engine_state::healthy);
}

TEST_CASE("read back: without the policy damage done while writing is not found at the seal") {
    auto const seen = hit_each<trusting_log>(io::fault_class::store, io::fault_kind::flip_write);
    CHECK(seen.damaged > 10);
    CHECK(seen.found == 0);
}
