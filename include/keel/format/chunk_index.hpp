// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_CHUNK_INDEX_HPP
#define KEEL_FORMAT_CHUNK_INDEX_HPP

// The payload of an index frame: a sorted index over one chunk of a segment that is still being written. The index is part of the log.
// After a process was killed, the next opening serves its segment through these indexes. It scans only the part behind the newest index.
//     0 chunks u32, 4 zero | 8 chunks, 40 bytes each, from the segment's first chunk on; the last one is the chunk of this frame
//       0 begin u32 | 4 end u32 (offsets of the frames it covers) | 8 first u32 | 12 last u32 (LSNs as in the frames)
//      16 records u32 | 20 shared u32 (bytes that all its keys begin with) | 24 blocks u32 (offset) | 28 zero u32 | 32 check u64
//   then the index blocks of this chunk, built like the index blocks of a sealed segment (format/index.hpp)
// `blocks` is the offset of the index blocks in the file. `check` is the checksum policy over the checks of these blocks.
// Each index frame repeats the chunk entries of the frames before it, so the newest frame alone locates all indexes. Chunks follow each
// other without a gap. A chunk holds whole batches only, and every record in it has a key.
// An index stands in for its records only if all of them are known to have been accepted: then a crash has torn none of them.

#include <keel/format/endian.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

namespace keel::inline v0::format {

/// A chunk of a segment that has an index.
struct indexed_chunk {
    std::uint32_t begin = 0; ///< offset of its first frame
    std::uint32_t end = 0;   ///< offset behind its last frame
    std::uint32_t first = 0; ///< LSN minus (first LSN of the segment minus 1)
    std::uint32_t last = 0;
    std::uint32_t records = 0;
    std::uint32_t shared = 0; ///< bytes that all keys begin with
    std::uint32_t blocks = 0; ///< offset of the index blocks in the file
    std::uint64_t check = 0;  ///< the policy over the checks of the blocks
    bool operator==(indexed_chunk const&) const = default;
};
inline constexpr std::size_t indexed_chunk_bytes = 40;

/// An index covers at least this many bytes of frames. Small segments have small chunks: a quarter of the segment, or half of it if its
/// index blocks have 4 KiB.
[[nodiscard]] constexpr std::uint64_t index_chunk_bytes(std::uint64_t segment_bytes) noexcept {
    return std::min<std::uint64_t>(256 * KiB, segment_bytes / (block_bytes(segment_bytes) < 4 * KiB ? 4 : 2));
}
/// Offset of the index blocks in the payload of an index frame that lists `chunks` chunks.
[[nodiscard]] constexpr std::uint64_t chunk_blocks_offset(std::size_t chunks) noexcept {
    return 8 + indexed_chunk_bytes * chunks;
}

/// The part of the payload in front of the index blocks.
[[nodiscard]] inline std::vector<std::byte> encode_chunks(std::span<indexed_chunk const> chunks) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(chunk_blocks_offset(chunks.size())));
    field_writer out{bytes};
    out.put(static_cast<std::uint32_t>(chunks.size())).put(std::uint32_t{0});
    for (auto const& c : chunks) {
        out.put(c.begin).put(c.end).put(c.first).put(c.last);
        out.put(c.records).put(c.shared).put(c.blocks).put(std::uint32_t{0}).put(c.check);
    }
    return bytes;
}

/// Decodes the chunk list of an index frame at `offset` in a segment of `segment_bytes` bytes. Returns nothing if no writer writes such a
/// list.
[[nodiscard]] inline std::optional<std::vector<indexed_chunk>> decode_chunks(byte_view payload, std::uint64_t offset,
                                                                             std::uint64_t segment_bytes) {
    field_reader in{payload};
    auto const count = in.get<std::uint32_t>();
    static_cast<void>(in.view(4));
    if (!in.ok() || count == 0 || count > in.left() / indexed_chunk_bytes) return std::nullopt;
    std::vector<indexed_chunk> chunks;
    chunks.reserve(count);
    indexed_chunk before{.end = static_cast<std::uint32_t>(frames_begin(segment_bytes))};
    for (std::uint32_t i = 0; i < count; ++i) {
        indexed_chunk c;
        c.begin = in.get<std::uint32_t>();
        c.end = in.get<std::uint32_t>();
        c.first = in.get<std::uint32_t>();
        c.last = in.get<std::uint32_t>();
        c.records = in.get<std::uint32_t>();
        c.shared = in.get<std::uint32_t>();
        c.blocks = in.get<std::uint32_t>();
        static_cast<void>(in.view(4));
        c.check = in.get<std::uint64_t>();
        index_shape const shape{block_bytes(segment_bytes), c.records};
        bool const follows = c.begin == before.end && c.end > c.begin && c.end <= offset && c.first == before.last + 1;
        bool const counted = c.last >= c.first && c.records == c.last - c.first + 1 &&
                             c.records <= (c.end - c.begin) / frame_header_bytes;
        bool const placed = c.blocks >= c.end && c.blocks % frame_alignment == 0 && c.shared <= key_bytes_max &&
                            c.blocks + shape.bytes() <= frames_limit(segment_bytes);
        if (!follows || !counted || !placed) return std::nullopt;
        chunks.push_back(before = c);
    }
    auto const& own = chunks.back();
    auto const blocks = chunk_blocks_offset(chunks.size());
    bool const is_own = own.blocks == offset + frame_header_bytes + blocks &&
                        payload.size() == blocks + index_shape{block_bytes(segment_bytes), own.records}.bytes();
    return is_own ? std::optional{std::move(chunks)} : std::nullopt;
}

} // namespace keel::inline v0::format

#endif
