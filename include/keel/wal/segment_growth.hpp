// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_SEGMENT_GROWTH_HPP
#define KEEL_WAL_SEGMENT_GROWTH_HPP

// The size of the next segment of the log. A store begins with segments of 64 KiB. If more than half of a segment was used, the next one is
// twice as large, up to the policy's size. If it was filled so fast that rolling over costs more than writing, the next one is sixteen
// times as large. So a store with one key needs little space, and a store under load rolls over twice before 16 MiB. A batch that fits a
// segment of the policy's size is always accepted: the log rolls over to a segment that is large enough.
//
// The first size of an opening depends on the data that the store holds, not on its last segment. So a large store has large segments at
// once. A small store stays small, even if it is opened a thousand times for one put each.

#include <keel/format/index.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>

namespace keel::inline v0::wal {

/// The smallest size of a store's segments. Even smaller segments would have smaller blocks, but all segments of one opening need the same
/// block size.
[[nodiscard]] constexpr std::uint64_t smallest_segment(std::uint64_t policy_bytes) noexcept {
    return std::min(policy_bytes, 64 * KiB);
}
/// The factor for the size of the next segment, if more than half of the last one was filled in this many nanoseconds.
[[nodiscard]] constexpr std::uint64_t growth_factor(std::uint64_t filled_in_ns) noexcept {
    constexpr std::uint64_t fast_ns = 100'000'000;
    return filled_in_ns < fast_ns ? 16 : 2;
}
/// The bytes of frames for which a segment of this size has room.
[[nodiscard]] constexpr std::uint64_t frames_room(std::uint64_t segment_bytes) noexcept {
    return format::frames_limit(segment_bytes) - format::frames_begin(segment_bytes);
}

/// The room that a fresh segment must have.
struct segment_demand {
    std::uint64_t frames = 0; ///< bytes of frames, marks included
    std::uint64_t keyed = 0;  ///< number of records that need an entry in an index; 0: no index is needed

    /// Whether a segment of this size has room for the frames and for an index of them.
    [[nodiscard]] constexpr bool fits(std::uint64_t bytes) const noexcept {
        if (frames > frames_room(bytes)) return false;
        return keyed == 0 || format::index_fits(format::frames_begin(bytes) + frames, keyed, bytes);
    }
    /// The smallest size that fits, found by doubling `at_least`. If no smaller size fits, the policy's size. A segment of the policy's
    /// size has room for the frames of every accepted batch, but perhaps not for their index.
    [[nodiscard]] constexpr std::uint64_t segment_bytes(std::uint64_t at_least,
                                                        std::uint64_t policy_bytes) const noexcept {
        auto bytes = at_least;
        while (bytes < policy_bytes && !fits(bytes)) bytes *= 2;
        return std::min(bytes, policy_bytes);
    }
};

/// The whole blocks of a sealed segment between its sections and its footer. No reader uses them. `length` is 0 if there are none.
[[nodiscard]] constexpr byte_range spare_blocks(format::segment_seal const& seal, std::uint64_t bytes) noexcept {
    constexpr std::uint64_t unit = 4 * KiB; // block size of common file systems
    auto const block = format::block_bytes(bytes);
    auto const sections = format::index_shape{block, seal.count}.bytes() +
                          format::filter_shape{block, seal.count}.bytes();
    auto const begin = format::rounded_up(format::sections_begin(seal.data_end, bytes) + sections, unit);
    auto const end = format::footer_offset(bytes) / unit * unit;
    return begin < end ? byte_range{begin, end - begin} : byte_range{};
}

/// The bytes of records and tables in a store. Unused room in segments does not count.
[[nodiscard]] inline std::uint64_t bytes_held(format::manifest_state const& state) noexcept {
    std::uint64_t bytes = 0;
    for (auto const& [id, segment] : state.segments)
        if (segment.seal) bytes += segment.seal->data_end - format::frames_begin(segment.size);
    for (auto const& [id, table] : state.tables) bytes += table.size;
    return bytes;
}
/// The size of the first segment of an opening: a sixty-fourth of the bytes that the store holds, within the allowed sizes.
[[nodiscard]] constexpr std::uint64_t first_segment_bytes(std::uint64_t held, std::uint64_t policy_bytes) noexcept {
    return std::clamp(std::bit_floor(held / 64), smallest_segment(policy_bytes), policy_bytes);
}

} // namespace keel::inline v0::wal

#endif
