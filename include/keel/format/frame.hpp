// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_FRAME_HPP
#define KEEL_FORMAT_FRAME_HPP

// Segments, manifests and tables consist of frames. A frame has a header of 32 bytes and a payload, padded with zeros to a multiple of 8
// bytes. It starts at a multiple of 8.
//    0 tag u32        low word of the salt of this life of the file, never 0. In a mapped segment the first tag of a group is stored
//                     last: a killed process leaves all frames of the group reachable, or none
//    4 frame u32      mix of salt, offset and bytes 8-23. If it holds, LSN and length are believed even if the payload is damaged
//    8 payload u32 | 12 key u16 (bytes of the payload that are the key) | 14 type u8 | 15 flags u8
//   16 lsn u32        LSN minus (first LSN of the file minus 1); frames that take no LSN repeat the last one
//   20 mark u32       LSN minus durable mark; all ones: unknown
//   24 check u64      checksum policy over salt, offset, bytes 0-23, payload and padding
// Salt and offset enter both sums. So a frame of a former life does not verify, nor does a frame that was written to the wrong place.

#include <keel/format/endian.hpp>
#include <keel/format/frame_type.hpp>
#include <keel/policy/checksum/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace keel::inline v0::format {

inline constexpr std::size_t frame_header_bytes = 32;
inline constexpr std::size_t frame_alignment = 8;
inline constexpr std::size_t key_bytes_max = 65535;
inline constexpr std::uint32_t mark_unknown = 0xFFFFFFFF;
static_assert(frame_header_bytes == 4 + 4 + 4 + 2 + 1 + 1 + 4 + 4 + 8);

[[nodiscard]] constexpr bool takes_lsn(frame_type type) noexcept { return static_cast<std::uint8_t>(type) < 64; }

/// The place of a record in its batch. A batch of one record both begins and ends in it.
enum frame_flags : std::uint8_t { begins_batch = 1, ends_batch = 2, whole_batch = 3 };

/// The place of a frame on disk: the life of a file, as its salt, and the offset in the file. It enters both sums of the frame.
struct frame_place {
    std::uint64_t salt = 0;
    std::uint64_t offset = 0;
    [[nodiscard]] constexpr std::uint32_t tag() const noexcept { return static_cast<std::uint32_t>(salt); }
};

struct frame_header {
    std::uint32_t payload_bytes = 0;
    std::uint16_t key_bytes = 0;
    frame_type type = frame_type::message;
    std::uint8_t flags = 0;
    std::uint32_t lsn_delta = 0;             ///< LSN minus (first LSN of the file minus 1)
    std::uint32_t mark_delta = mark_unknown; ///< LSN minus durable mark

    [[nodiscard]] constexpr bool begins() const noexcept { return (flags & begins_batch) != 0; }
    [[nodiscard]] constexpr bool ends() const noexcept { return (flags & ends_batch) != 0; }
};

/// Bytes that a frame with this payload takes in the file.
[[nodiscard]] constexpr std::uint64_t frame_bytes(std::uint64_t payload_bytes) noexcept {
    return frame_header_bytes + rounded_up(payload_bytes, frame_alignment);
}

/// The value of the field `frame`. It tells a header from random bytes. It is the same under every checksum policy.
[[nodiscard]] inline std::uint32_t frame_mix(frame_place place, std::byte const* bytes8_to_23) noexcept {
    auto const stir = [](std::uint64_t h) {
        h ^= h >> 32;
        h *= 0xD6E8FEB86659FD93ULL;
        return h ^ (h >> 29);
    };
    std::uint64_t h = stir(place.salt ^ std::rotl(place.offset, 40) ^ 0x9E3779B97F4A7C15ULL);
    h = stir(h ^ load<std::uint64_t>(bytes8_to_23));
    h = stir(h + load<std::uint64_t>(bytes8_to_23 + 8));
    return static_cast<std::uint32_t>(h ^ (h >> 32));
}

/// The check of a frame whose first 24 bytes and padded payload lie at `frame`.
template <checksum_policy C>
[[nodiscard]] std::uint64_t frame_check(frame_place place, std::byte const* frame,
                                        std::size_t padded_payload) noexcept {
    std::array<std::byte, 40> head;
    store(head.data(), place.salt);
    store(head.data() + 8, place.offset);
    std::memcpy(head.data() + 16, frame, 24);
    return checksum::over<C>(head, byte_view{frame + frame_header_bytes, padded_payload});
}

/// Completes the frame at `out`: header, padding and both sums. `out` has frame_bytes(payload) bytes and already holds the payload behind
/// the place of the header.
template <checksum_policy C>
void finish_frame(std::byte* out, frame_place place, frame_header const& header) noexcept {
    auto const padded = rounded_up(header.payload_bytes, frame_alignment);
    std::memset(out + frame_header_bytes + header.payload_bytes, 0, padded - header.payload_bytes);
    store(out, place.tag());
    store(out + 8, header.payload_bytes);
    store(out + 12, header.key_bytes);
    store(out + 14, static_cast<std::uint8_t>(header.type));
    store(out + 15, header.flags);
    store(out + 16, header.lsn_delta);
    store(out + 20, header.mark_delta);
    store(out + 4, frame_mix(place, out + 8));
    store(out + 24, frame_check<C>(place, out, padded));
}

enum class frame_state : std::uint8_t {
    absent,  ///< no tag of this life here
    broken,  ///< the tag is there, the header does not verify
    damaged, ///< the header verifies, the payload does not
    intact,
};

/// A frame that was read from a span. `payload` points into that span and is valid as long as its bytes. It is set only if the whole
/// frame was read.
struct frame_view {
    frame_state state = frame_state::absent;
    frame_header header{};
    std::uint64_t check = 0; ///< as it is in the header
    byte_view payload{};

    [[nodiscard]] std::uint64_t bytes() const noexcept { return frame_bytes(header.payload_bytes); }
    [[nodiscard]] byte_view key() const noexcept { return payload.first(header.key_bytes); }
    [[nodiscard]] byte_view value() const noexcept { return payload.subspan(header.key_bytes); }
};

/// The header fields of the frame at `at`, which has at least 32 bytes. Nothing is verified.
[[nodiscard]] inline frame_header read_frame_header(std::byte const* at) noexcept {
    return {.payload_bytes = load<std::uint32_t>(at + 8),
            .key_bytes = load<std::uint16_t>(at + 12),
            .type = static_cast<frame_type>(load<std::uint8_t>(at + 14)),
            .flags = load<std::uint8_t>(at + 15),
            .lsn_delta = load<std::uint32_t>(at + 16),
            .mark_delta = load<std::uint32_t>(at + 20)};
}

/// Reads the header alone: 32 bytes at `at`. `room`: bytes from here to the end of the frames of this file. The state is absent, broken,
/// or intact. Here intact means that the header verifies; the payload is not read.
[[nodiscard]] inline frame_view peek_frame(std::byte const* at, frame_place place, std::uint64_t room) noexcept {
    frame_view seen;
    if (room < frame_header_bytes || load<std::uint32_t>(at) != place.tag()) return seen;
    seen.header = read_frame_header(at);
    bool const believed = load<std::uint32_t>(at + 4) == frame_mix(place, at + 8) && seen.bytes() <= room &&
                          seen.header.key_bytes <= seen.header.payload_bytes;
    seen.state = believed ? frame_state::intact : frame_state::broken;
    seen.check = load<std::uint64_t>(at + 24);
    return seen;
}

/// Reads and verifies the whole frame. The span starts at the frame and holds at least peek_frame(...).bytes() bytes.
template <checksum_policy C>
[[nodiscard]] frame_view read_frame(byte_view span, frame_place place) noexcept {
    frame_view seen = peek_frame(span.data(), place, span.size());
    if (seen.state != frame_state::intact) return seen;
    auto const padded = rounded_up(seen.header.payload_bytes, frame_alignment);
    seen.payload = span.subspan(frame_header_bytes, seen.header.payload_bytes);
    if (frame_check<C>(place, span.data(), padded) != seen.check) seen.state = frame_state::damaged;
    return seen;
}

} // namespace keel::inline v0::format

#endif
