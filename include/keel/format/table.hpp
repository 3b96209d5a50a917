// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_TABLE_HPP
#define KEEL_FORMAT_TABLE_HPP

// A table: records in key order. Its file is written once and never changed.
//   header 512 bytes | frames (format/frame.hpp) from offset 512 | the same header again in the last 512 bytes
// The frames, in this order: blocks of records; filter blocks, all of one size; index blocks; one root, an index over the index blocks.
// A payload has the format of format/block.hpp. The payload of a filter block is lines of 64 bytes (format/index.hpp). The header stands
// twice, because it cannot be rebuilt. Index and filter can be rebuilt from the records. The manifest lists the tables of a store and
// their levels.
//
// A block of records with a payload of at most 1 MiB may be packed. Then its frame has the type `packed` and this payload:
//    0 raw u32 (bytes of the block's own payload, not 0) | 4 compression u8 (not 0) | 5 three zero bytes | 8 that payload, compressed
// All packed blocks of a table have the same compression id, and the manifest names it. 0 there means that no block is packed. A table
// may hold packed blocks and others. As in every frame the check covers the bytes on the disk. So a block that does not verify is never
// unpacked.
//
// Header: 0 magic u64 | 8 format u32 | 12 checksum_id u32 | 16 store_id 16 | 32 id u64 | 40 salt u64 | 48 branch u64
//    56 created u64 (ns since 1970) | 64 size u64 | 72 first_lsn u64 | 80 last_lsn u64 | 88 records u64 | 96 erased u64
//   104 key_bytes u64 | 112 value_bytes u64 (both before they are packed) | 120 blocks u64 | 128 blocks_end u64
//   136 filter: blocks u64, probes u64 | 152 root: offset u32, bytes u32 | 160 index_blocks u64     | 504 check u64 over bytes 0..503

#include <keel/format/block.hpp>
#include <keel/format/endian.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>

#include <array>
#include <cstdint>
#include <optional>

namespace keel::inline v0::format {

inline constexpr std::uint64_t table_magic = 0x0A626174'6C65656BULL; // "keeltab\n"
inline constexpr std::uint64_t table_bytes_max = 2 * GiB;
inline constexpr std::uint64_t table_bytes_min = 2 * header_bytes;
inline constexpr std::uint64_t table_frames_begin = header_bytes;
inline constexpr std::size_t table_filter_lines = 64; ///< in one filter block
inline constexpr std::size_t table_filter_block_bytes = table_filter_lines * filter_line_bytes;

/// The most bytes that key and value of one record may have together. A table with this record alone must be possible: otherwise
/// compaction could never move the record out of the log. The last MiB is for the other parts of the table: headers, a filter block, and
/// the key again in both levels of the index.
inline constexpr std::uint64_t record_bytes_max = table_bytes_max - MiB;
static_assert(2 * header_bytes + frame_bytes(table_filter_block_bytes) +
                  3 * (frame_bytes(key_bytes_max + block_place_bytes + 4 * varint_bytes_max + restart_bytes +
                                   block_tail_bytes)) <=
              MiB);

inline constexpr std::size_t packed_head_bytes = 8;
inline constexpr std::uint64_t packed_raw_bytes_max = MiB; ///< a larger payload is not packed
inline constexpr std::uint8_t compression_id_max = 15;
static_assert(packed_head_bytes == 4 + 1 + 3);

/// The bytes in front of a block's compressed bytes.
struct packed_head {
    std::uint32_t raw_bytes = 0; ///< of the block's payload before it was packed
    std::uint8_t compression = 0;
    bool operator==(packed_head const&) const = default;
};
[[nodiscard]] inline std::array<std::byte, packed_head_bytes> encode(packed_head const& h) noexcept {
    std::array<std::byte, packed_head_bytes> bytes{};
    field_writer out{bytes};
    out.put(h.raw_bytes).put(h.compression);
    return bytes;
}
/// Returns nothing if no writer writes such a head. So raw_bytes is at most packed_raw_bytes_max, and a caller may allocate that much.
[[nodiscard]] inline std::optional<packed_head> decode_packed_head(byte_view payload) noexcept {
    if (payload.size() <= packed_head_bytes) return std::nullopt;
    field_reader in{payload};
    packed_head h;
    h.raw_bytes = in.get<std::uint32_t>();
    h.compression = in.get<std::uint8_t>();
    auto const zeros = in.bytes<3>();
    bool const sane = h.raw_bytes != 0 && h.raw_bytes <= packed_raw_bytes_max && h.compression != 0 &&
                      h.compression <= compression_id_max && zeros == std::array<std::byte, 3>{};
    if (!sane) return std::nullopt;
    return h;
}

/// Names one table of a store. Never used twice; 0 means "none".
struct table_id {
    std::uint64_t value = 0;
    constexpr auto operator<=>(table_id const&) const noexcept = default;
    [[nodiscard]] constexpr explicit operator bool() const noexcept { return value != 0; }
};

struct table_header {
    store_id store{};
    table_id id{};
    std::uint64_t salt = 0;
    std::uint64_t branch = 0;
    std::uint64_t created_ns = 0;
    std::uint64_t size = 0; ///< of the file
    lsn_range lsns{};       ///< of its records; ages count from the first LSN
    std::uint64_t records = 0;
    std::uint64_t erased = 0; ///< how many of these are tombstones
    std::uint64_t key_bytes = 0;
    std::uint64_t value_bytes = 0;
    std::uint64_t blocks = 0;
    std::uint64_t blocks_end = 0; ///< end of the frames of records; the filter begins here
    std::uint64_t filter_blocks = 0;
    std::uint64_t filter_bits = 0; ///< bits that a key sets in its line
    block_place root{};
    std::uint64_t index_blocks = 0;
    bool operator==(table_header const&) const = default;

    [[nodiscard]] std::uint64_t filter_lines() const noexcept { return filter_blocks * table_filter_lines; }
    /// Offset of the frame of a filter block.
    [[nodiscard]] std::uint64_t filter_offset(std::uint64_t block) const noexcept {
        return blocks_end + block * frame_bytes(table_filter_block_bytes);
    }
};

template <checksum_policy C>
[[nodiscard]] header_block encode(table_header const& h) noexcept {
    header_block block{};
    field_writer out{block};
    out.put(table_magic).put(format_number).put(checksum_id{C::id}.value).put(byte_view{h.store});
    out.put(h.id.value).put(h.salt).put(h.branch).put(h.created_ns).put(h.size);
    out.put(h.lsns.first).put(h.lsns.last).put(h.records).put(h.erased).put(h.key_bytes).put(h.value_bytes);
    out.put(h.blocks).put(h.blocks_end).put(h.filter_blocks).put(h.filter_bits);
    out.put(h.root.offset).put(h.root.bytes).put(h.index_blocks);
    detail::seal_block<C>(block);
    return block;
}

/// Returns nothing if the block is not the header of a table, does not verify, or holds impossible values.
template <checksum_policy C>
[[nodiscard]] std::optional<table_header> decode_table_header(byte_view block) noexcept {
    auto const kind = peek_file_kind(block);
    if (!detail::block_verifies<C>(block) || kind.magic != table_magic || kind.format != format_number ||
        kind.checksum != checksum_id{C::id})
        return std::nullopt;
    field_reader in{block.subspan(16)};
    table_header h;
    auto const u64 = [&in] { return in.get<std::uint64_t>(); };
    h.store = in.bytes<16>();
    h.id = {u64()};
    h.salt = u64();
    h.branch = u64();
    h.created_ns = u64();
    h.size = u64();
    h.lsns.first = in.get_lsn();
    h.lsns.last = in.get_lsn();
    h.records = u64();
    h.erased = u64();
    h.key_bytes = u64();
    h.value_bytes = u64();
    h.blocks = u64();
    h.blocks_end = u64();
    h.filter_blocks = u64();
    h.filter_bits = u64();
    h.root.offset = in.get<std::uint32_t>();
    h.root.bytes = in.get<std::uint32_t>();
    h.index_blocks = u64();
    auto const frames_end = h.size - header_bytes; // wraps if the size is too small; the next check refuses that
    bool const sane = h.id && static_cast<std::uint32_t>(h.salt) != 0 && h.size >= table_bytes_min &&
                      h.size <= table_bytes_max && h.size % frame_alignment == 0 && h.lsns.first && !h.lsns.empty() &&
                      h.lsns.last <= lsn_highest && h.records != 0 && h.blocks_end >= table_frames_begin &&
                      h.blocks_end <= frames_end && h.blocks_end % frame_alignment == 0 &&
                      h.filter_blocks <= (frames_end - h.blocks_end) / frame_bytes(table_filter_block_bytes) &&
                      h.filter_bits <= 32 && h.root.offset >= h.filter_offset(h.filter_blocks) &&
                      h.root.bytes >= frame_header_bytes && h.root.offset % frame_alignment == 0 &&
                      std::uint64_t{h.root.offset} + h.root.bytes <= frames_end;
    if (!sane) return std::nullopt;
    return h;
}

} // namespace keel::inline v0::format

#endif
