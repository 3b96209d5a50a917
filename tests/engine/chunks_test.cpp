// SPDX-License-Identifier: BSL-1.0
#include <keel/format/notes.hpp>
#include <keel/io/memory.hpp>
#include <keel/keel.hpp>
#include <keel/wal/layout.hpp>

#include "../support/model.hpp"
#include "stores.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Indexes inside the segment that is being written to: what a killed process left is served by them, and only what lies behind the newest
// one is scanned.

namespace {

using chunk_store = engine_tests::other_store;
using chunk_checksum = chunk_store::config_type::checksum;

std::string chunk_key(int i) { return "item" + std::to_string(1000 + i * 37 % 1000); }
std::string chunk_value(int i) { return std::to_string(i) + ":" + std::string(80, static_cast<char>('a' + i % 26)); }

keel::open_options looking(keel::verify_depth how) {
    auto o = model::test_options();
    o.verify = how;
    return o;
}

struct killed {
    keel::io::memory disk{};
    std::map<std::string, std::string> values{};
    keel::format::note note{}; ///< what the process had noted last
    std::string segment{};     ///< the file it was writing to
};

[[nodiscard]] keel::format::note note_of(keel::io::memory const& disk) {
    return *keel::format::newest_note<chunk_checksum>(*disk.contents("db/notes"));
}

constexpr int behind_index = 3;
/// A process was killed that had filled a segment or more, and put some records behind the second index of the next one.
killed killed_behind_two_chunks() {
    killed out;
    keel::io::memory disk;
    auto db = chunk_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    std::uint64_t newest = 0;
    int indexes = 0;
    int behind = 0;
    for (int i = 0; behind < behind_index; ++i) {
        REQUIRE(i < 1000);
        REQUIRE(db->put(chunk_key(i), chunk_value(i)));
        out.values[chunk_key(i)] = chunk_value(i);
        auto const note = note_of(disk);
        if (std::exchange(newest, note.newest_index) != note.newest_index)
            indexes = note.newest_index == 0 ? 0 : indexes + 1;
        behind += indexes >= 2 && note.segment.value > 1;
    }
    db->abandon();
    out.disk = disk.after_process_crash();
    out.note = note_of(out.disk);
    out.segment = "db/log/" + keel::wal::layout::segment_name(out.note.segment);
    return out;
}

void check_all(chunk_store const& db, std::map<std::string, std::string> const& values) {
    for (auto const& [key, value] : values) REQUIRE(db.get(key).value() == value);
    REQUIRE(!*db.get("item"));
    std::map<std::string, std::string> forward;
    auto scan = db.scan();
    for (auto&& [key, value] : scan) forward.emplace(key, value);
    REQUIRE(scan.status());
    REQUIRE(forward == values);
    auto backward = db.scan(keel::range{.reverse = true});
    REQUIRE(std::ranges::distance(backward) == static_cast<std::ptrdiff_t>(values.size()));
}

/// How many records an opening scans: sealed segments are mounted in any case.
std::uint64_t replayed(keel::io::memory disk) {
    auto db = chunk_store::open("db", looking(keel::verify_depth::quick), disk);
    REQUIRE(db);
    auto const records = db->recovery().replayed_records;
    db->abandon();
    return records;
}

/// Where the bytes of this text lie in a file.
std::uint64_t offset_of(killed const& in, std::string_view text) {
    auto const bytes = *in.disk.contents(in.segment);
    auto const at = keel::as_text(bytes).find(text);
    REQUIRE(at != std::string_view::npos);
    return at;
}

/// The chunks that the newest index frame speaks of.
std::vector<keel::format::indexed_chunk> chunks_of(killed const& in) {
    auto const bytes = *in.disk.contents(in.segment);
    auto const at = in.note.newest_index;
    auto const frame = keel::byte_view{bytes}.subspan(static_cast<std::size_t>(at));
    auto const payload = frame.subspan(keel::format::frame_header_bytes,
                                       keel::format::read_frame_header(frame.data()).payload_bytes);
    auto const chunks = keel::format::decode_chunks(payload, at, bytes.size());
    REQUIRE(chunks);
    return *chunks;
}

} // namespace

TEST_CASE("chunks: after a kill only what lies behind the newest index is scanned, and everything is there") {
    auto const left = killed_behind_two_chunks();
    REQUIRE(chunks_of(left).size() >= 2);
    CHECK(replayed(left.disk) == behind_index);
    auto disk = left.disk;
    auto db = chunk_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    CHECK(db->state() == keel::engine_state::healthy);
    CHECK(db->recovery().records == left.values.size());
    check_all(*db, left.values);
    auto const seen = db->verify();
    REQUIRE(seen);
    CHECK(seen->findings.empty());
    CHECK(seen->records == left.values.size());
    CHECK(seen->segments == db->recovery().segments);

    auto values = left.values;
    for (int i = 0; i < 150; ++i) REQUIRE(db->put(chunk_key(i), values[chunk_key(i)] = "again"));
    check_all(*db, values);
    REQUIRE(db->compact());
    check_all(*db, values);
    REQUIRE(db->close());
    db = chunk_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    check_all(*db, values);
}

TEST_CASE("chunks: snapshots see the versions of their moment, in whichever chunk they lie") {
    keel::io::memory disk;
    auto db = chunk_store::open("db", model::test_options(), disk);
    for (int round = 0; round < 40; ++round)
        for (int k = 0; k < 4; ++k) REQUIRE(db->put("k" + std::to_string(k), std::to_string(round)));
    REQUIRE(db->erase("k3"));
    db->abandon();
    disk = disk.after_process_crash();
    db = chunk_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    for (int k = 0; k < 3; ++k) CHECK(db->get("k" + std::to_string(k)).value() == "39");
    CHECK(!*db->get("k3"));
    auto scan = db->scan();
    CHECK(std::ranges::distance(scan) == 3);
}

TEST_CASE("chunks: after a power loss, and in a copy, every record is looked at") {
    auto const left = killed_behind_two_chunks();
    REQUIRE(left.note.newest_index != 0);
    auto const all = chunks_of(left).back().last + behind_index;
    auto const lost_power = left.disk.after_power_loss({.what = keel::io::keep::newest});
    CHECK(replayed(lost_power) == all);
    auto other_file = left.disk; // the notes' own number no longer fits
    auto const notes = *other_file.contents("db/notes");
    REQUIRE(other_file.remove("db/notes"));
    {
        auto file = other_file.open("db/notes", keel::io::access::read_write, keel::io::creation::must_not_exist);
        REQUIRE(file);
        REQUIRE(file->write(0, notes));
    }
    CHECK(replayed(other_file) == all);
}

TEST_CASE("chunks: where the newest index does not verify all is scanned, and it is said") {
    auto left = killed_behind_two_chunks();
    auto const all = chunks_of(left).back().last + behind_index;
    REQUIRE(left.disk.corrupt(left.segment, left.note.newest_index + 60, std::byte{1}));
    CHECK(replayed(left.disk) == all);
    auto db = chunk_store::open("db", model::test_options(), left.disk);
    REQUIRE(db);
    REQUIRE(db->recovery().findings.size() == 1);
    CHECK(db->recovery().findings[0].kind == keel::damage::damaged_filler);
    CHECK(db->recovery().lost_records == 0);
    check_all(*db, left.values);
}

TEST_CASE("chunks: an index that is damaged is made anew from the chunk's records when it is asked") {
    auto left = killed_behind_two_chunks();
    auto const first = chunks_of(left).front();
    REQUIRE(left.disk.corrupt(left.segment, first.blocks + 24, std::byte{0x40}));
    auto db = chunk_store::open("db", model::test_options(), left.disk);
    REQUIRE(db);
    CHECK(db->state() == keel::engine_state::healthy); // nobody has looked yet
    check_all(*db, left.values);
    auto const seen = db->verify();
    REQUIRE(seen);
    CHECK(seen->findings.size() == 2); // the block, and the frame it lies in
    for (auto const& f : seen->findings) CHECK(f.kind == keel::damage::damaged_filler);
    CHECK(seen->corrupted_records == 0);
}

TEST_CASE("chunks: a record damaged under an index is an error when it is read, and is repaired when all is verified") {
    auto left = killed_behind_two_chunks();
    auto const first = chunks_of(left).front();
    auto const behind = static_cast<int>(chunks_of(left).back().last - first.first) + 1;
    auto const victim = static_cast<int>(left.note.accepted.value) - 1 - behind; // in the first chunk
    REQUIRE(left.disk.corrupt(left.segment, offset_of(left, chunk_value(victim)), std::byte{2}));
    {
        auto disk = left.disk.after_process_crash();
        auto db = chunk_store::open("db", model::test_options(), disk);
        REQUIRE(db);
        CHECK(db->state() == keel::engine_state::healthy);
        auto const got = db->get(chunk_key(victim));
        REQUIRE(!got);
        CHECK(got.error().code == keel::errc::corruption);
        CHECK(got.error().file == left.segment);
        CHECK(db->state() == keel::engine_state::degraded);
        db->abandon();
    }
    auto db = chunk_store::open("db", looking(keel::verify_depth::deep), left.disk);
    REQUIRE(db);
    CHECK(db->recovery().lost_records == 1);
    left.values.erase(chunk_key(victim));
    check_all(*db, left.values);
}

TEST_CASE("chunks: a repair behind an index copies the records, not the index's word of them") {
    auto left = killed_behind_two_chunks();
    auto const behind = static_cast<int>(left.note.accepted.value) - 2; // index of a record that is scanned
    REQUIRE(left.disk.corrupt(left.segment, offset_of(left, chunk_value(behind)), std::byte{2}));
    auto disk = left.disk.after_process_crash();                    // a machine of its own
    auto db = chunk_store::open("db", model::test_options(), disk); // quick: the chunks in front are not looked at
    REQUIRE(db);
    CHECK(db->recovery().lost_records == 1);
    auto values = left.values;
    values.erase(chunk_key(behind));
    check_all(*db, values);
    REQUIRE(db->close());
    db = chunk_store::open("db", looking(keel::verify_depth::deep), disk);
    REQUIRE(db);
    check_all(*db, values);

    // A second damage, which nothing has looked at: the repair finds that it cannot keep what it was to keep, and changes nothing.
    auto const first = chunks_of(left).front();
    REQUIRE(left.disk.corrupt(left.segment, first.begin + 40 + keel::format::frame_bytes(keel::format::mark_bytes),
                              std::byte{4}));
    db = chunk_store::open("db", model::test_options(), left.disk);
    REQUIRE(db);
    CHECK(db->state() == keel::engine_state::read_only);
    CHECK(db->state_reason().find("deep") != std::string::npos);
    db->abandon();
    db = chunk_store::open("db", looking(keel::verify_depth::deep), left.disk);
    REQUIRE(db);
    CHECK(db->recovery().lost_records == 2);
    CHECK(db->state() == keel::engine_state::degraded);
}
