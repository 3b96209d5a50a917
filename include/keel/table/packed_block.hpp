// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_PACKED_BLOCK_HPP
#define KEEL_TABLE_PACKED_BLOCK_HPP

// Blocks of records on their way to the disk and back: packed where the compression policy does so and it pays, else as they are. What
// a packed one looks like says format/table.hpp.

#include <keel/format/frame.hpp>
#include <keel/format/table.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/types.hpp>

#include <cstdint>
#include <vector>

namespace keel::inline v0::table {

static_assert(compression::id_max == format::compression_id_max);

/// Whether frames of this type hold records under this policy.
template <compression_policy P>
[[nodiscard]] constexpr bool holds_records(format::frame_type type) noexcept {
    return type == format::frame_type::block || (compression::unpacks_any<P>() && type == format::frame_type::packed);
}

/// The compressed bytes of a block's payload in `out`; false where it is to be written as it is.
template <compression_policy P>
[[nodiscard]] bool pack(byte_view payload, std::vector<std::byte>& out) {
    static_assert(P::id != 0);
    return payload.size() <= format::packed_raw_bytes_max && P::compress(payload, out);
}

/// Unpacks the payload of a packed frame that verifies, of a table with this compression, into what room(bytes) gives. False where it
/// is none of its blocks; then there is nothing of use in the room.
template <compression_policy P, class Room>
[[nodiscard]] bool unpack(byte_view payload, std::uint8_t compression, Room const& room) {
    auto const head = format::decode_packed_head(payload);
    return head && head->compression == compression &&
           P::decompress(compression, payload.subspan(format::packed_head_bytes), room(std::size_t{head->raw_bytes}));
}

} // namespace keel::inline v0::table

#endif
