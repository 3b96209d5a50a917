// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_SEGMENT_GROWTH_HPP
#define KEEL_WAL_SEGMENT_GROWTH_HPP

// How large the next segment of the log is. A store begins with segments of 64 KiB. Each segment that was used for more than its half is
// followed by one twice as large, up to the policy's size; where it was filled so fast that rolling over costs more than writing, by one that
// is sixteen times as large. So a store with one key takes little, and a store under load rolls over twice before 16 MiB. A batch that fits a
// segment of the policy's size is always accepted: the log rolls to a segment that is large enough.
//
// An opening begins with a size that follows from what the store holds, and not from its last segment: a large store grows to the policy's
// size at once, and a small one that is opened for one put a thousand times stays small.

#include <keel/format/index.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>

namespace keel::inline v0::wal {

/// The smallest size of a store's segments. Not less, because smaller segments have smaller blocks, and all segments that one opening makes
/// have the same.
[[nodiscard]] constexpr std::uint64_t smallest_segment(std::uint64_t policy_bytes) noexcept {
    return std::min(policy_bytes, 64 * KiB);
}
/// How many times as large the next segment is, when one was filled for more than its half in so many nanoseconds.
[[nodiscard]] constexpr std::uint64_t growth_factor(std::uint64_t filled_in_ns) noexcept {
    constexpr std::uint64_t fast_ns = 100'000'000;
    return filled_in_ns < fast_ns ? 16 : 2;
}
/// Bytes of frames that a segment of this size takes.
[[nodiscard]] constexpr std::uint64_t frames_room(std::uint64_t segment_bytes) noexcept {
    return format::frames_limit(segment_bytes) - format::frames_begin(segment_bytes);
}

/// What a fresh segment must have room for.
struct segment_demand {
    std::uint64_t frames = 0; ///< bytes, marks among them
    std::uint64_t keyed = 0;  ///< how many of the records are to be in an index; 0: there need not be one

    /// Whether a segment of this size has room for the frames and for an index of them.
    [[nodiscard]] constexpr bool fits(std::uint64_t bytes) const noexcept {
        if (frames > frames_room(bytes)) return false;
        return keyed == 0 || format::index_fits(format::frames_begin(bytes) + frames, keyed, bytes);
    }
    /// The smallest size from `at_least` on, by doubling, that fits; the policy's where none smaller does. That one takes the frames of every
    /// batch that is accepted, if need be without an index.
    [[nodiscard]] constexpr std::uint64_t segment_bytes(std::uint64_t at_least,
                                                        std::uint64_t policy_bytes) const noexcept {
        auto bytes = at_least;
        while (bytes < policy_bytes && !fits(bytes)) bytes *= 2;
        return std::min(bytes, policy_bytes);
    }
};

/// Whole blocks of a sealed segment between its sections and its footer: no reader has a use for them. `length` is 0 where there are none.
[[nodiscard]] constexpr byte_range spare_blocks(format::segment_seal const& seal, std::uint64_t bytes) noexcept {
    constexpr std::uint64_t unit = 4 * KiB; // of file systems
    auto const block = format::block_bytes(bytes);
    auto const sections = format::index_shape{block, seal.count}.bytes() +
                          format::filter_shape{block, seal.count}.bytes();
    auto const begin = format::rounded_up(format::sections_begin(seal.data_end, bytes) + sections, unit);
    auto const end = format::footer_offset(bytes) / unit * unit;
    return begin < end ? byte_range{begin, end - begin} : byte_range{};
}

/// Bytes of records and tables that a store holds; unused room in segments does not count.
[[nodiscard]] inline std::uint64_t bytes_held(format::manifest_state const& state) noexcept {
    std::uint64_t bytes = 0;
    for (auto const& [id, segment] : state.segments)
        if (segment.seal) bytes += segment.seal->data_end - format::frames_begin(segment.size);
    for (auto const& [id, table] : state.tables) bytes += table.size;
    return bytes;
}
/// The size of the first segment of an opening: a sixty-fourth of what the store holds, within bounds.
[[nodiscard]] constexpr std::uint64_t first_segment_bytes(std::uint64_t held, std::uint64_t policy_bytes) noexcept {
    return std::clamp(std::bit_floor(held / 64), smallest_segment(policy_bytes), policy_bytes);
}

} // namespace keel::inline v0::wal

#endif
