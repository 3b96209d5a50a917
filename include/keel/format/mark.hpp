// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_MARK_HPP
#define KEEL_FORMAT_MARK_HPP

// Payloads of mark frames and loss frames.
// Mark, 80 bytes: 0 lsn u64 (the last LSN taken) | 8 durable u64 | 16 clock u64 (raw, ns since 1970) | 24 segment_id u64
//   32 first_lsn u64 | 40 salt u64 | 48 branch u64 | 56 history digest 16 (zeros: not kept) | 72 kind u8, 7 zero
//   A mark is written first in a segment and in a chunk, once a second while writing, when the log is idle, and at close.
//   If both headers of a segment are gone, one mark is enough to read the segment.
//   An idle mark begins a block. It proves the records before it, so one damaged block must not destroy both. The rest of the block
//   before it is filled with a filler: a mark frame whose payload is zeros. Readers skip it.
// Loss: pairs { first u64, last u64 }. A repair declared these LSNs lost. Recovery does not report them as missing any more.

#include <keel/format/endian.hpp>
#include <keel/types.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace keel::inline v0::format {

inline constexpr std::size_t mark_bytes = 80;

enum class mark_kind : std::uint8_t { start = 0, periodic = 1, idle = 2, close = 3 };

struct mark {
    lsn at{};                   ///< the last LSN taken
    lsn durable{};              ///< this LSN and all before it are durable
    std::uint64_t clock_ns = 0; ///< raw, since 1970
    segment_id segment{};
    lsn first{}; ///< first LSN of the segment
    std::uint64_t salt = 0;
    std::uint64_t branch = 0;
    mark_kind kind = mark_kind::periodic;
    bool operator==(mark const&) const = default;
};

[[nodiscard]] inline std::array<std::byte, mark_bytes> encode(mark const& m) noexcept {
    std::array<std::byte, mark_bytes> bytes{};
    field_writer out{bytes};
    out.put(m.at).put(m.durable).put(m.clock_ns).put(m.segment).put(m.first).put(m.salt).put(m.branch);
    out.put(std::uint64_t{0}).put(std::uint64_t{0}).put(static_cast<std::uint8_t>(m.kind));
    return bytes;
}

/// Returns nothing if the payload is a filler, or if no writer writes such a mark.
[[nodiscard]] inline std::optional<mark> decode_mark(byte_view payload) noexcept {
    field_reader in{payload};
    mark m;
    m.at = in.get_lsn();
    m.durable = in.get_lsn();
    m.clock_ns = in.get<std::uint64_t>();
    m.segment = in.get_segment();
    m.first = in.get_lsn();
    m.salt = in.get<std::uint64_t>();
    m.branch = in.get<std::uint64_t>();
    static_cast<void>(in.view(16));
    m.kind = static_cast<mark_kind>(in.get<std::uint8_t>());
    if (!in.ok() || payload.size() != mark_bytes || m.kind > mark_kind::close || m.durable > m.at ||
        m.at > lsn_highest || !m.first || m.first > m.at.next())
        return std::nullopt;
    return m;
}

[[nodiscard]] inline std::vector<std::byte> encode_losses(std::vector<lsn_range> const& ranges) {
    std::vector<std::byte> bytes(ranges.size() * 16);
    field_writer out{bytes};
    for (auto const& r : ranges) out.put(r.first).put(r.last);
    return bytes;
}

/// Returns nothing if the payload is not a whole number of ranges, or if a range is empty or not valid.
[[nodiscard]] inline std::optional<std::vector<lsn_range>> decode_losses(byte_view payload) {
    if (payload.size() % 16 != 0) return std::nullopt;
    std::vector<lsn_range> ranges;
    ranges.reserve(payload.size() / 16);
    for (field_reader in{payload}; in.left() != 0;) {
        auto const first = in.get_lsn();
        auto const last = in.get_lsn();
        if (!first || last < first || last > lsn_highest) return std::nullopt;
        ranges.push_back({first, last});
    }
    return ranges;
}

} // namespace keel::inline v0::format

#endif
