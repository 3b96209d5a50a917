// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_INDEX_HPP
#define KEEL_FORMAT_INDEX_HPP

// The sorted index of a sealed segment: a section behind its frames, named by the footer. It consists of blocks of 4 KiB (512 bytes in
// segments under 64 KiB). A block ends in its check, so one block can be read and verified without the others.
//   Entry block: entries of 16 bytes, by key, newest first:
//     0 prefix u64 (8 bytes of the key, behind the bytes that all keys share; the first byte is the highest)
//     8 offset u32 (of the frame) | 12 lsn u32 (as in the frame)
//   Fence block: for each entry block the prefix of its first entry, u64. With a single entry block there is no fence block.
//   Both: unused bytes are zero | last 8 bytes: check u64 over salt, offset and the bytes before
// In the footer `argument` of the section is the number of bytes that all keys share. The number of entries is the seal's count.
//
// The filter is a section of its own, in segments of 64 KiB and more. It tells keys that the segment does not hold. It is a Bloom filter
// of lines of 64 bytes. All bits of a key are in one line, so a look-up touches one line (Putze, Sanders and Singler, "Cache-, Hash- and
// Space-Efficient Bloom Filters", 2007). A filter block holds as many lines as fit. `argument` is the number of bits that a key sets. The
// filter has 10 bits for each key, and a key sets 6 of them. Then about one absent key in a hundred costs a look-up in vain. Ribbon and
// xor filters are a third smaller, but they make sealing several times as expensive.
//
// A damaged index costs time only: a record that it leads to has its own key, LSN and check. A forged index with a valid check could hide
// keys. An opening with verify = deep does not use it and builds its own.

#include <keel/format/endian.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/checksum/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace keel::inline v0::format {

/// The type of a section of a sealed segment. The numbers are stored on disk and are never reused.
enum class section_type : std::uint32_t { index = 1, filter = 2 };

/// One entry of an entry block: the prefix of a key, and the frame of one version of it.
struct index_entry {
    std::uint64_t prefix = 0;
    std::uint32_t offset = 0;
    std::uint32_t lsn_delta = 0;
    bool operator==(index_entry const&) const = default;
};
inline constexpr std::size_t index_entry_bytes = 16;
inline constexpr std::size_t block_check_bytes = 8;

/// Eight bytes of a key, from `skip` on, as a number that sorts like these bytes. Bytes behind the end of the key are zeros.
[[nodiscard]] inline std::uint64_t key_prefix(std::string_view key, std::size_t skip = 0) noexcept {
    if (key.size() >= skip + 8) {
        auto const word = load<std::uint64_t>(reinterpret_cast<std::byte const*>(key.data() + skip));
        return __builtin_bswap64(word);
    }
    std::uint64_t out = 0;
    for (std::size_t i = skip; i < skip + 8; ++i)
        out = out << 8 | (i < key.size() ? static_cast<unsigned char>(key[i]) : 0U);
    return out;
}

/// The layout of an index with `entries` entries, in blocks of `block` bytes.
struct index_shape {
    std::uint64_t block = 0; ///< bytes
    std::uint64_t entries = 0;

    [[nodiscard]] constexpr std::uint64_t entries_per_block() const noexcept {
        return (block - block_check_bytes) / index_entry_bytes;
    }
    [[nodiscard]] constexpr std::uint64_t fences_per_block() const noexcept { return (block - block_check_bytes) / 8; }
    [[nodiscard]] constexpr std::uint64_t entry_blocks() const noexcept {
        return (entries + entries_per_block() - 1) / entries_per_block();
    }
    [[nodiscard]] constexpr std::uint64_t fence_blocks() const noexcept {
        return entry_blocks() < 2 ? 0 : (entry_blocks() + fences_per_block() - 1) / fences_per_block();
    }
    [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return (entry_blocks() + fence_blocks()) * block; }
};

inline constexpr std::uint32_t filter_probes = 6;
inline constexpr std::size_t filter_line_bytes = 64;

/// The layout of a filter for `keys` keys, in blocks of `block` bytes. Segments under 64 KiB have no filter.
struct filter_shape {
    std::uint64_t block = 0; ///< bytes
    std::uint64_t keys = 0;

    [[nodiscard]] constexpr std::uint64_t lines_per_block() const noexcept {
        return (block - block_check_bytes) / filter_line_bytes;
    }
    [[nodiscard]] constexpr std::uint64_t blocks() const noexcept {
        constexpr std::uint64_t keys_per_line = filter_line_bytes * 8 / 10;
        auto const keys_per_block = lines_per_block() * keys_per_line;
        return block < 4 * KiB ? 0 : (keys + keys_per_block - 1) / keys_per_block;
    }
    [[nodiscard]] constexpr std::uint64_t lines() const noexcept { return blocks() * lines_per_block(); }
    [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return blocks() * block; }
};

/// The hash that selects a key's line and bits in a filter. It is part of the format: it never changes.
[[nodiscard]] inline std::uint64_t filter_hash(std::string_view key) noexcept {
    auto const stir = [](std::uint64_t h) {
        h ^= h >> 32;
        h *= 0xD6E8FEB86659FD93ULL;
        return h ^ (h >> 32);
    };
    auto h = stir(key.size() ^ 0x9E3779B97F4A7C15ULL);
    std::size_t at = 0;
    for (; at + 8 <= key.size(); at += 8)
        h = stir(h + load<std::uint64_t>(reinterpret_cast<std::byte const*>(key.data() + at)));
    std::uint64_t rest = 0;
    for (; at < key.size(); ++at) rest = rest << 8 | static_cast<unsigned char>(key[at]);
    return stir(h + rest);
}
/// The number of the key's line among `lines` lines.
[[nodiscard]] constexpr std::uint64_t filter_line(std::uint64_t hash, std::uint64_t lines) noexcept {
    return (hash >> 32) * lines >> 32;
}
namespace detail {
/// Calls visit(byte in the line, mask) for each bit of a key, until visit returns false. Returns true if visit never did.
template <class Visit>
constexpr bool each_filter_bit(std::uint64_t hash, std::uint32_t probes, Visit const& visit) {
    auto bits = static_cast<std::uint32_t>(hash);
    for (std::uint32_t i = 0; i < probes; ++i, bits *= 0x9E3779B9U) {
        auto const bit = bits >> 23;
        if (!visit(bit / 8, static_cast<std::byte>(1U << bit % 8))) return false;
    }
    return true;
}
} // namespace detail
/// Adds a key to its line.
inline void add_to_line(std::byte* line, std::uint64_t hash, std::uint32_t probes) noexcept {
    detail::each_filter_bit(hash, probes, [line](std::size_t byte, std::byte mask) {
        line[byte] |= mask;
        return true;
    });
}
/// False: the key was not added to its line. True: it may have been added.
[[nodiscard]] inline bool line_allows(std::byte const* line, std::uint64_t hash, std::uint32_t probes) noexcept {
    return detail::each_filter_bit(
        hash, probes, [line](std::size_t byte, std::byte mask) { return (line[byte] & mask) != std::byte{0}; });
}

/// Offset of the first section behind frames that end at `data_end`.
[[nodiscard]] constexpr std::uint64_t sections_begin(std::uint64_t data_end, std::uint64_t segment_bytes) noexcept {
    return rounded_up(data_end, block_bytes(segment_bytes));
}
/// Whether frames that end at `data_end` leave room for the index and the filter of `entries` entries.
[[nodiscard]] constexpr bool index_fits(std::uint64_t data_end, std::uint64_t entries,
                                        std::uint64_t segment_bytes) noexcept {
    auto const block = block_bytes(segment_bytes);
    auto const needed = index_shape{block, entries}.bytes() + filter_shape{block, entries}.bytes();
    return sections_begin(data_end, segment_bytes) + needed <= footer_offset(segment_bytes);
}

/// Writes the check at the end of a block. `offset`: the place of the block in the file.
template <checksum_policy C>
void finish_block(byte_span block, std::uint64_t salt, std::uint64_t offset) noexcept {
    std::array<std::byte, 16> place;
    store(place.data(), salt);
    store(place.data() + 8, offset);
    auto const body = block.first(block.size() - block_check_bytes);
    store(block.data() + body.size(), checksum::over<C>(place, byte_view{body}));
}
template <checksum_policy C>
[[nodiscard]] bool block_verifies(byte_view block, std::uint64_t salt, std::uint64_t offset) noexcept {
    std::array<std::byte, 16> place;
    store(place.data(), salt);
    store(place.data() + 8, offset);
    auto const body = block.first(block.size() - block_check_bytes);
    return load<std::uint64_t>(block.data() + body.size()) == checksum::over<C>(place, body);
}

[[nodiscard]] inline index_entry read_index_entry(std::byte const* at) noexcept {
    return {load<std::uint64_t>(at), load<std::uint32_t>(at + 8), load<std::uint32_t>(at + 12)};
}

} // namespace keel::inline v0::format

#endif
