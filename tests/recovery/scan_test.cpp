// SPDX-License-Identifier: BSL-1.0
#include <keel/recovery/scan.hpp>

#include "support/damage_tools.hpp"
#include "support/segment_image.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace keel;
using namespace keel::test;
using recovery::segment_run;

std::vector<lsn_range> ranges_of(std::vector<recovery::extent> const& extents) {
    std::vector<lsn_range> out;
    for (auto const& e : extents) out.push_back(e.range);
    return out;
}
std::vector<std::uint64_t> lsns_of(collected_records const& seen) {
    std::vector<std::uint64_t> out;
    for (auto const& r : seen.whole) out.push_back(r.at.value);
    return out;
}
using ranges = std::vector<lsn_range>;
using numbers = std::vector<std::uint64_t>;

/// Holds for any bytes whatever.
void check_sound(segment_run const& run, collected_records const& seen, recovery::segment_geometry const& geo) {
    lsn last{};
    std::uint64_t records = 0;
    for (auto const& e : run.extents) {
        RC_ASSERT(!e.range.empty());
        RC_ASSERT(e.range.first > last);
        RC_ASSERT(geo.begin <= e.begin && e.begin < e.end && e.end <= geo.limit);
        last = e.range.last;
        records += e.range.size();
    }
    RC_ASSERT(records == run.records);
    RC_ASSERT(seen.whole.size() == run.records);
    RC_ASSERT(seen.open.empty());
    RC_ASSERT(run.data_end <= geo.limit && run.tag_end <= geo.limit && run.data_end <= run.tag_end);
    std::uint64_t behind = 0;
    for (auto const& bad : run.bad) {
        RC_ASSERT(bad.offset >= behind && bad.length != 0 && bad.offset + bad.length <= geo.limit);
        behind = bad.offset + bad.length;
    }
    RC_ASSERT(std::ranges::is_sorted(seen.whole, {}, &collected_records::one::at));
}

/// A segment of `count` records of up to `size` bytes with a mark every ten; remembers the offsets of the records.
struct built {
    segment_image image;
    std::vector<std::uint64_t> offsets{};
    std::vector<std::string> payloads{};
};
built build(std::uint64_t bytes, std::uint64_t count, std::uint64_t size, std::uint64_t seed) {
    built b{segment_image{bytes, 512}};
    io::detail::seeded random{seed};
    for (std::uint64_t n = 1; n <= count; ++n) {
        if (n % 10 == 1) b.image.mark(n - 1, n - 1);
        b.payloads.emplace_back(static_cast<std::size_t>(random.below(size + 1)), static_cast<char>('a' + n % 26));
        b.offsets.push_back(b.image.record(n, b.payloads.back()));
    }
    return b;
}

} // namespace

TEST_CASE("P12: a whole segment is one extent with all records, in order, at their offsets") {
    auto const b = build(64 * KiB, 300, 100, 1);
    auto const [run, seen] = b.image.scan();
    CHECK(ranges_of(run.extents) == ranges{{{1}, {300}}});
    CHECK(run.records == 300);
    CHECK(run.frames == 330);
    CHECK(run.bad.empty());
    CHECK(run.broken_batches.empty());
    CHECK(run.data_end == b.image.end());
    CHECK(run.tag_end == b.image.end());
    CHECK(run.last == lsn{300});
    CHECK(run.marked == lsn{290});
    REQUIRE(seen.whole.size() == 300);
    for (std::size_t i = 0; i < 300; ++i)
        CHECK(seen.whole[i] == collected_records::one{{i + 1}, b.payloads[i], b.offsets[i]});
}

TEST_CASE("an empty segment is an empty run") {
    auto const [run, seen] = segment_image{}.scan();
    CHECK(run.extents.empty());
    CHECK(run.bad.empty());
    CHECK(run.data_end == 512);
    CHECK(run.tag_end == 512);
    CHECK(seen.whole.empty());
}

TEST_CASE("a damaged payload costs its own record, which is named exactly") {
    segment_image image;
    image.record(1);
    auto const at = image.record(2, "twelve bytes");
    image.record(3);
    image[at + 40] ^= std::byte{1};
    auto const [run, seen] = image.scan();
    CHECK(lsns_of(seen) == numbers{1, 3});
    REQUIRE(run.bad.size() == 1);
    CHECK(run.bad[0].exact);
    CHECK(run.bad[0].is_data);
    CHECK(run.bad[0].lsns == lsn_range{{2}, {2}});
    CHECK(run.bad[0].offset == at);
    CHECK(run.bad[0].length == format::frame_bytes(12));
    CHECK(run.bad[0].expected != run.bad[0].found);
}

TEST_CASE("a broken header hides nothing behind it; the LSNs between its neighbours are named") {
    for (std::uint64_t const field : {0U, 4U, 8U, 11U, 16U}) { // tag, mix, length, its highest byte, LSN
        CAPTURE(field);
        segment_image image;
        image.record(1);
        auto const at = image.record(2);
        auto const next = image.record(3);
        image[at + field] ^= std::byte{0x40};
        auto const [run, seen] = image.scan();
        CHECK(lsns_of(seen) == numbers{1, 3});
        REQUIRE(run.bad.size() == 1);
        CHECK_FALSE(run.bad[0].exact);
        CHECK(run.bad[0].lsns == lsn_range{{2}, {2}});
        CHECK(run.bad[0].offset == at);
        CHECK(run.bad[0].offset + run.bad[0].length == next);
    }
}

TEST_CASE("a hole of zeros over several records is one gap") {
    auto b = build(16 * KiB, 40, 60, 2);
    for (auto at = b.offsets[10]; at < b.offsets[20]; ++at) b.image[at] = {};
    auto const [run, seen] = b.image.scan();
    CHECK(ranges_of(run.extents) == ranges{{{1}, {10}}, {{21}, {40}}});
    REQUIRE(run.bad.size() == 1);
    CHECK(run.bad[0].lsns == lsn_range{{11}, {20}});
    CHECK(run.bad[0].offset == b.offsets[10]);
}

TEST_CASE("zeros up to the end are no damage that the bytes alone could show") {
    auto b = build(16 * KiB, 40, 60, 2);
    for (auto at = b.offsets[30]; at < b.image.end(); ++at) b.image[at] = {};
    auto const [run, seen] = b.image.scan();
    CHECK(ranges_of(run.extents) == ranges{{{1}, {30}}});
    CHECK(run.bad.size() <= 1); // the mark in front of record 31 stands or not; nothing is known behind it
    CHECK(run.tag_end == run.data_end);
}

TEST_CASE("R9.1: a batch counts as a whole or not at all, whichever of its records is damaged") {
    for (int damaged = 0; damaged < 4; ++damaged) {
        CAPTURE(damaged);
        segment_image image;
        image.record(1);
        std::vector<std::uint64_t> at;
        at.push_back(image.record(2, "first", format::begins_batch));
        at.push_back(image.record(3, "second", 0));
        at.push_back(image.record(4, "third", 0));
        at.push_back(image.record(5, "last", format::ends_batch));
        image.record(6);
        image[at[static_cast<std::size_t>(damaged)] + 33] ^= std::byte{8};
        auto const [run, seen] = image.scan();
        CHECK(lsns_of(seen) == numbers{1, 6});
        CHECK(ranges_of(run.extents) == ranges{{{1}, {1}}, {{6}, {6}}});
        std::uint64_t broken = 0;
        for (auto const& r : run.broken_batches) broken += r.range.size();
        CHECK(broken == 3);
    }
}

TEST_CASE("a batch without its end, or without its beginning, is broken") {
    segment_image image;
    image.record(1, "a", format::begins_batch);
    image.record(2, "b", 0);
    image.record(3, "c"); // a batch of its own begins: the one before never ended
    image.record(4, "d", format::ends_batch);
    image.record(5, "e", format::begins_batch);
    auto const [run, seen] = image.scan();
    CHECK(lsns_of(seen) == numbers{3});
    CHECK(ranges_of(run.broken_batches) == ranges{{{1}, {2}}, {{4}, {4}}, {{5}, {5}}});
}

TEST_CASE("a batch whose LSNs do not follow each other is broken") {
    segment_image image;
    image.record(1, "a", format::begins_batch);
    image.record(3, "b", format::ends_batch);
    image.record(4);
    auto const [run, seen] = image.scan();
    CHECK(lsns_of(seen) == numbers{4});
}

TEST_CASE("records whose LSN goes back, repeats or is 0 are not believed") {
    segment_image image{4096, 512, {100}};
    image.record(103);
    image.record(102, "older");
    image.record(103, "again");
    image.record(99, "delta 0");
    image.record(104);
    auto const [run, seen] = image.scan();
    CHECK(lsns_of(seen) == numbers{103, 104});
    CHECK_FALSE(run.bad.empty());
}

TEST_CASE("frames of a former life and of another place are not there") {
    segment_image image;
    image.record(1);
    auto const from = image.record(2, "moved");
    image.record(3);
    segment_image moved;
    moved.record(1);
    moved.skip(64);
    std::ranges::copy(byte_view{image.bytes()}.subspan(static_cast<std::size_t>(from), 48),
                      moved.bytes().begin() + static_cast<std::ptrdiff_t>(moved.end()));
    auto const [run, seen] = moved.scan();
    CHECK(lsns_of(seen) == numbers{1});
    CHECK(run.tag_end > run.data_end); // a trace of this life, though not a frame

    auto other = image.geometry();
    other.salt ^= 1;
    auto const [nothing, none] = image.scan(other);
    CHECK(nothing.frames == 0);
    CHECK(none.whole.empty());
}

TEST_CASE("an orderly close is the last word only if nothing follows it") {
    segment_image image;
    image.record(1);
    image.mark(1, 1, format::mark_kind::close);
    CHECK(image.scan().first.closed);
    image.record(2);
    CHECK_FALSE(image.scan().first.closed);
}

TEST_CASE("loss frames and marks are taken only where they verify") {
    segment_image image;
    image.record(1);
    auto const losses = format::encode_losses({{{2}, {4}}});
    auto const loss = image.add({.type = format::frame_type::loss, .flags = format::whole_batch}, {1}, as_text(losses));
    auto const mark = image.mark(1, 1);
    auto const [run, seen] = image.scan();
    CHECK(run.losses == ranges{{{2}, {4}}});
    CHECK(run.marked == lsn{1});
    image[loss + 40] ^= std::byte{1};
    image[mark + 40] ^= std::byte{1};
    auto const [less, same] = image.scan();
    CHECK(less.losses.empty());
    CHECK(less.marked == lsn{});
    CHECK(less.bad.size() == 2);
    CHECK(std::ranges::none_of(less.bad, &recovery::bad_bytes::is_data));
    CHECK(lsns_of(same) == numbers{1});
}

TEST_CASE("a sector that cannot be read costs the records in it and is told apart") {
    auto b = build(16 * KiB, 100, 60, 3);
    io::memory disk;
    REQUIRE(disk.replace("segment", b.image.bytes()));
    REQUIRE(disk.fail_reads("segment", 4096, 512));
    auto const [run, seen] = segment_image::scan_file(disk, "segment", b.image.geometry());
    std::set<std::uint64_t> expected;
    for (std::uint64_t n = 1; n <= 100; ++n) {
        auto const begin = b.offsets[n - 1];
        auto const end = begin + format::frame_bytes(b.payloads[n - 1].size());
        if (end <= 4096 || begin >= 4608) expected.insert(n);
    }
    auto const got = lsns_of(seen);
    CHECK(std::set<std::uint64_t>(got.begin(), got.end()) == expected);
    CHECK(expected.size() < 100);
    CHECK(std::ranges::any_of(run.bad, &recovery::bad_bytes::unreadable));
    CHECK(std::ranges::all_of(run.bad, [](auto const& bad) {
        return !bad.unreadable || (bad.offset < 4608 && bad.offset + bad.length > 4096);
    }));
}

TEST_CASE("a file cut short anywhere gives the records in front of the cut and reads nothing behind it") {
    auto const b = build(8 * KiB, 60, 60, 4);
    for (std::uint64_t length = 512; length < b.image.end(); length += 13) {
        auto bytes = b.image;
        bytes.bytes().resize(static_cast<std::size_t>(length));
        auto const [run, seen] = bytes.scan(b.image.geometry()); // the geometry still speaks of the whole file
        std::uint64_t whole = 0;
        while (whole < 60 && b.offsets[whole] + format::frame_bytes(b.payloads[whole].size()) <= length) ++whole;
        // Padding that was cut off is zeros again: such a record is whole after all.
        CHECK(run.records >= whole);
        CHECK(run.records <= whole + 1);
    }
}

TEST_CASE("frames across the borders of the 256 KiB window, and one longer than it, are read like any other") {
    segment_image image{2 * MiB, 4096};
    std::vector<std::string> payloads;
    auto const add = [&](std::size_t size) {
        payloads.emplace_back(size, static_cast<char>('a' + payloads.size() % 26));
        image.record(payloads.size(), payloads.back());
    };
    while (image.end() < 255 * KiB) add(1000);
    add(4000); // across the first border
    while (image.end() < 512 * KiB - 40) add(8);
    add(100);       // header in one window, payload in the next
    add(300 * KiB); // longer than a window
    add(700 * KiB);
    while (image.end() < 1800 * KiB) add(777);
    auto const [run, seen] = image.scan();
    CHECK(run.bad.empty());
    CHECK(run.records == payloads.size());
    bool same = seen.whole.size() == payloads.size();
    for (std::size_t i = 0; same && i < payloads.size(); ++i) same = seen.whole[i].payload == payloads[i];
    CHECK(same);
}

TEST_CASE("P18: damage at any offset around a window's border costs only the records it touches") {
    segment_image image{600 * KiB, 4096};
    std::vector<std::uint64_t> offsets;
    for (std::uint64_t n = 1; image.end() < 598 * KiB; ++n)
        offsets.push_back(image.record(n, std::string(static_cast<std::size_t>(n * 37 % 500), 'x')));
    auto const border = 4096 + 256 * KiB; // the first window begins with the first frame
    for (auto offset = border - 200; offset < border + 200; offset += sanitized ? 31 : 5) {
        auto copy = image;
        copy[offset] ^= std::byte{0x10};
        auto const [run, seen] = copy.scan();
        auto const hit = static_cast<std::uint64_t>(std::ranges::upper_bound(offsets, offset) -
                                                    offsets.begin()); // LSN of the record there
        CHECK(run.records == offsets.size() - 1);
        CHECK(std::ranges::none_of(seen.whole, [&](auto const& r) { return r.at.value == hit; }));
    }
}

TEST_CASE("a search for the next frame ends where the notes of this boot say the log ends") {
    auto b = build(16 * KiB, 40, 60, 5);
    auto geometry = b.image.geometry();
    geometry.known_end = b.offsets[20];
    b.image[b.offsets[20]] ^= std::byte{1}; // the tag of the first record behind it
    auto const [run, seen] = b.image.scan(geometry);
    CHECK(lsns_of(seen).back() == 20);
    CHECK(run.bad.empty());
}

TEST_CASE("P17: any bytes are scanned to a sound run in linear time") {
    CHECK(rc::check("chance behind tags that fit", [] {
        auto const seed = *rc::gen::arbitrary<std::uint64_t>();
        io::detail::seeded random{seed};
        segment_image image{4096 * (1 + random.below(8)), 512, {1 + random.below(1000)}};
        for (auto& b : image.bytes())
            b = random.below(3) == 0 ? std::byte{0} : static_cast<std::byte>(random.below(256));
        for (std::size_t at = 512; at + 32 <= image.bytes().size(); at += 8) {
            if (random.below(3) != 0) continue;
            auto* const frame = image.bytes().data() + at;
            format::frame_place const place{segment_image::salt, at};
            format::store(frame, place.tag());
            format::store(frame + 8,
                          static_cast<std::uint32_t>(random.below(random.below(4) == 0 ? 0x100000000U : 120U)));
            format::store(frame + 12, static_cast<std::uint16_t>(random.below(8)));
            frame[14] = static_cast<std::byte>(random.below(3) == 0 ? random.below(256) : 1 + random.below(3));
            frame[15] = static_cast<std::byte>(random.below(4));
            format::store(frame + 16,
                          static_cast<std::uint32_t>(random.below(random.below(4) == 0 ? 0x100000000U : 40U)));
            if (random.below(2) == 0) format::store(frame + 4, format::frame_mix(place, frame + 8));
            auto const bytes = format::frame_bytes(format::load<std::uint32_t>(frame + 8));
            if (random.below(2) == 0 && at + bytes <= image.bytes().size())
                format::store(frame + 24, format::frame_check<segment_image::C>(place, frame,
                                                                                static_cast<std::size_t>(bytes - 32)));
        }
        auto const [run, seen] = image.scan();
        check_sound(run, seen, image.geometry());
    }));
}

TEST_CASE(
    "P2 P18: whatever is overwritten in a segment, what is served was written, and all that is untouched is served") {
    CHECK(rc::check("ranges of chance", [] {
        auto b = build(16 * KiB, 100, 80, *rc::gen::arbitrary<std::uint64_t>());
        auto const from = *rc::gen::inRange<std::uint64_t>(512, b.image.end());
        auto const length = *rc::gen::inRange<std::uint64_t>(1, 900);
        auto const raw = *rc::gen::container<std::vector<std::uint8_t>>(static_cast<std::size_t>(length),
                                                                        rc::gen::arbitrary<std::uint8_t>());
        auto const end = std::min<std::uint64_t>(from + length, b.image.bytes().size());
        for (auto at = from; at < end; ++at)
            b.image[at] = static_cast<std::byte>(raw[static_cast<std::size_t>(at - from)]);
        auto const [run, seen] = b.image.scan();
        check_sound(run, seen, b.image.geometry());
        std::set<std::uint64_t> got;
        for (auto const& r : seen.whole) {
            RC_ASSERT(r.payload == b.payloads.at(static_cast<std::size_t>(r.at.value - 1)));
            got.insert(r.at.value);
        }
        for (std::uint64_t n = 1; n <= 100; ++n) {
            auto const begin = b.offsets[n - 1];
            bool const touched = begin < end && from < begin + format::frame_bytes(b.payloads[n - 1].size());
            if (!touched) RC_ASSERT(got.contains(n));
        }
    }));
}

TEST_CASE("a stop request ends a scan early and says so") {
    auto const b = build(4 * MiB, 40'000, 40, 6);
    io::memory disk;
    REQUIRE(disk.replace("segment", byte_view{built{b}.image.bytes()}));
    auto const file = disk.open("segment", io::access::read_only, io::creation::must_exist);
    std::stop_source stop;
    stop.request_stop();
    recovery::no_sink sink;
    std::atomic<std::uint64_t> done{0};
    auto const run = recovery::scan_segment<segment_image::C>(*file, b.image.geometry(), sink, stop.get_token(), &done);
    CHECK(run.cancelled);
    CHECK(run.records < 40'000);
    CHECK(done.load() > 0);
}
