// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_PACKED_BLOCK_HPP
#define KEEL_TABLE_PACKED_BLOCK_HPP

// Packs blocks of records before they are written, and unpacks them after they are read. A block is packed where the compression policy
// does so and it pays; else it is written as it is. format/table.hpp describes packed blocks.

#include <keel/format/frame.hpp>
#include <keel/format/table.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/types.hpp>

#include <cstdint>
#include <vector>

namespace keel::inline v0::table {

static_assert(compression::id_max == format::compression_id_max);

/// Whether frames of this type hold records under this compression policy.
template <compression_policy P>
[[nodiscard]] constexpr bool holds_records(format::frame_type type) noexcept {
    return type == format::frame_type::block || (compression::unpacks_any<P>() && type == format::frame_type::packed);
}

/// Compresses the payload of a block into `out`. False: the block is to be written as it is.
template <compression_policy P>
[[nodiscard]] bool pack(byte_view payload, std::vector<std::byte>& out) {
    static_assert(P::id != 0);
    return payload.size() <= format::packed_raw_bytes_max && P::compress(payload, out);
}

/// Unpacks the payload of a packed frame that verifies. `compression`: the compression id of the table. `room(bytes)` returns the memory
/// for the result. False: the payload is no packed block of this table; the memory then has nothing of use.
template <compression_policy P, class Room>
[[nodiscard]] bool unpack(byte_view payload, std::uint8_t compression, Room const& room) {
    auto const head = format::decode_packed_head(payload);
    return head && head->compression == compression &&
           P::decompress(compression, payload.subspan(format::packed_head_bytes), room(std::size_t{head->raw_bytes}));
}

} // namespace keel::inline v0::table

#endif
