// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_DAMAGE_HPP
#define KEEL_EXAMPLES_DRILL_DAMAGE_HPP

// Where each record of a store lies on the disk, and three ways to damage it. Each says what it costs before anybody looks.

#include "loader.hpp"

#include <keel/format/frame.hpp>
#include <keel/recovery/examine.hpp>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace drill {

/// One record, its place on the disk, and the batch it stands or falls with.
struct place {
    keel::lsn at{};
    std::string key{};
    std::size_t segment = 0;
    std::uint64_t offset = 0;
    std::uint64_t end = 0;
    keel::lsn_range batch{};
};

/// Where a segment's frames are, for adding to it.
struct segment_file {
    std::string name{}; ///< inside the store: "log/0000000000000001.seg"
    std::uint64_t salt = 0;
    keel::lsn first{};
    std::uint64_t used_end = 0;
    std::uint64_t limit = 0;
};

/// What lies where in a store that nothing happened to but a crash.
struct store_map {
    std::vector<place> places{}; ///< in LSN order
    std::vector<segment_file> segments{};
    keel::lsn horizon{}; ///< known durable from the store itself
};

/// Told by the scan of one segment what it verifies.
struct place_sink {
    void record(keel::lsn at, keel::format::frame_view const& frame, std::uint64_t offset) {
        batch.push_back({.at = at,
                         .key = std::string{keel::as_text(frame.key())},
                         .offset = offset,
                         .end = offset + frame.bytes()});
    }
    void batch_end(bool is_whole) {
        for (auto& p : batch) p.batch = {batch.front().at, batch.back().at};
        if (is_whole) whole.insert(whole.end(), batch.begin(), batch.end());
        batch.clear();
    }
    std::vector<place> whole{};
    std::vector<place> batch{};
};

/// Reads the store, writes nothing.
[[nodiscard]] inline keel::result<store_map> map_of(std::string const& folder) {
    using config = store::config_type;
    config::file_system fs;
    std::vector<place_sink> sinks;
    auto const look_only = [](keel::recovery::inventory const&) -> keel::result<std::uint64_t> { return 0; };
    keel::open_options const every_byte{.verify = keel::verify_depth::deep};
    KEEL_TRY_LET(seen, keel::recovery::examine<config>(fs, folder, every_byte, sinks, look_only));
    store_map out{.horizon = seen.report.horizon};
    for (std::size_t i = 0; i < seen.stock.segments.size(); ++i) {
        auto const& s = seen.stock.segments[i];
        auto const used = std::max(seen.runs[i].tag_end, seen.runs[i].data_end);
        out.segments.push_back(
            {seen.stock.paths.inside(s.path), s.geometry.salt, s.geometry.first, used, s.geometry.limit});
        for (auto& p : sinks[i].whole) {
            auto const counts = [&](auto const& c) { return c.segment == i && c.range.contains(p.at); };
            if (std::ranges::none_of(seen.found.counted, counts)) continue;
            p.segment = i;
            out.places.push_back(std::move(p));
        }
    }
    std::ranges::sort(out.places, {}, &place::at);
    return out;
}

/// Bytes to be overwritten, and what that must cost.
struct damage {
    std::string name{};
    std::string what{}; ///< a sentence for the reader of the table
    std::string file{};
    std::uint64_t offset = 0;
    std::string bytes{};       ///< put there
    bool flips = false;        ///< xor instead of overwrite
    bool torn = false;         ///< the trace of a crash: nobody was told that these bytes are safe
    std::vector<place> lost{}; ///< acknowledged records that no policy can bring back
};

/// The damage done to the store in this folder.
[[nodiscard]] inline bool inflict(damage const& what, std::string const& folder) {
    std::fstream file{folder + '/' + what.file, std::ios::binary | std::ios::in | std::ios::out};
    std::string bytes = what.bytes;
    if (what.flips) {
        file.seekg(static_cast<std::streamoff>(what.offset));
        file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(bytes[i] ^ what.bytes[i]);
    }
    file.seekp(static_cast<std::streamoff>(what.offset));
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return static_cast<bool>(file.flush());
}

/// Half a record behind everything that is known to be safe, in the segment that ends the log; the rest never reached the disk.
[[nodiscard]] inline keel::result<damage> half_a_record(segment_file const& segment, keel::lsn at) {
    std::string const payload = "U+TORN: the power went away while this was written";
    std::string frame(keel::format::frame_bytes(payload.size()), '\0');
    if (segment.used_end + frame.size() > segment.limit)
        return keel::failure(keel::errc::no_space,
                             "the crash hit the very end of a segment, where nothing can be torn; run the drill again",
                             segment.name);
    std::ranges::copy(payload, frame.begin() + keel::format::frame_header_bytes);
    keel::format::finish_frame<store::config_type::checksum>(
        reinterpret_cast<std::byte*>(frame.data()), {segment.salt, segment.used_end},
        {.payload_bytes = static_cast<std::uint32_t>(payload.size()),
         .key_bytes = 6,
         .type = keel::format::frame_type::put,
         .flags = keel::format::whole_batch,
         .lsn_delta = static_cast<std::uint32_t>(at.value - segment.first.value + 1)});
    frame.resize(keel::format::frame_header_bytes + payload.size() / 2);
    return damage{.what = "half of a record, LSN " + std::to_string(at.value) + ", appended behind the last one",
                  .file = segment.name,
                  .offset = segment.used_end,
                  .bytes = frame};
}

/// The crash left records that nobody was told of: the first of them is cut in half, those behind it never reached the disk.
/// Where the crash left none, half a record is put there.
[[nodiscard]] inline keel::result<damage> torn_tail(store_map const& map, keel::lsn acknowledged) {
    auto const safe = std::max(map.horizon, acknowledged);
    auto const tail = std::ranges::find_if(map.places, [&](place const& p) { return p.at > safe; });
    damage out;
    if (tail == map.places.end()) {
        KEEL_TRY_LET(half, half_a_record(map.segments.back(), map.places.back().at.next()));
        out = std::move(half);
    } else {
        auto const& segment = map.segments[tail->segment];
        auto const from = (tail->offset + tail->end) / 2;
        out.what = "LSN " + std::to_string(tail->at.value) + ", never acknowledged, ends in its middle; the " +
                   std::to_string(segment.used_end - from) + " bytes from there on are zeros";
        out.file = segment.name;
        out.offset = from;
        out.bytes.assign(segment.used_end - from, '\0');
    }
    out.name = "torn tail";
    out.torn = true;
    return out;
}

/// A record in the middle of those that were acknowledged, written on its own.
[[nodiscard]] inline damage flipped_bit(store_map const& map, keel::lsn acknowledged) {
    auto const middle = std::ranges::lower_bound(map.places, keel::lsn{acknowledged.value / 2}, {}, &place::at);
    auto const single = [](place const& p) { return p.batch.size() == 1; };
    auto hit = std::find_if(middle, map.places.end(), single);
    if (hit == map.places.end()) hit = std::find_if(map.places.begin(), map.places.end(), single);
    auto const offset = hit->offset + keel::format::frame_header_bytes + hit->key.size() + 1;
    return {.name = "flipped bit",
            .what = "one bit in the value of LSN " + std::to_string(hit->at.value),
            .file = map.segments[hit->segment].name,
            .offset = offset,
            .bytes = std::string(1, '\x10'),
            .flips = true,
            .lost = {*hit}};
}

/// 512 bytes of zeros over a record in the middle, and over whatever shares the sector with it. A batch falls as a whole.
[[nodiscard]] inline damage lost_sector(store_map const& map, keel::lsn acknowledged) {
    auto const middle = std::ranges::lower_bound(map.places, keel::lsn{acknowledged.value / 2}, {}, &place::at);
    constexpr std::uint64_t sector_bytes = 512;
    auto const sector = middle->offset / sector_bytes * sector_bytes;
    auto const overlaps = [&](place const& p) {
        return p.segment == middle->segment && p.offset < sector + sector_bytes && p.end > sector;
    };
    std::set<keel::lsn> batches;
    for (auto const& p : map.places)
        if (overlaps(p)) batches.insert(p.batch.first);
    damage out{.name = "lost sector",
               .file = map.segments[middle->segment].name,
               .offset = sector,
               .bytes = std::string(sector_bytes, '\0')};
    for (auto const& p : map.places)
        if (batches.contains(p.batch.first)) out.lost.push_back(p);
    auto const hit = std::ranges::count_if(map.places, overlaps);
    out.what = "512 bytes of zeros over " + std::to_string(hit) + " records; with their batches, " +
               std::to_string(out.lost.size());
    return out;
}

} // namespace drill

#endif
