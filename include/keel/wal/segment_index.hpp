// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_SEGMENT_INDEX_HPP
#define KEEL_WAL_SEGMENT_INDEX_HPP

// Builds the sorted index of a segment (format/index.hpp): collect the keys of its records in any order, sort them once, write them. This
// is many times cheaper than keeping the keys in order while records are added.

#include <keel/detail/prefix_sort.hpp>
#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::wal {

/// A segment that takes no more records, as its readers need it.
struct closed_segment {
    segment_id id{};
    std::string path{};
    std::uint64_t salt = 0;
    lsn first{};                                     ///< first LSN of the segment; LSN deltas count from it
    std::uint64_t begin = 0;                         ///< offset of the first frame
    std::uint64_t end = 0;                           ///< offset behind the last frame
    std::uint64_t segment_bytes = 0;                 ///< size of the file
    std::vector<lsn_range> counted{};                ///< LSNs that count, in order
    std::uint64_t records = 0;                       ///< number of records in the index on the disk
    std::optional<format::segment_section> index{};  ///< place of the index; nothing: there is no index
    std::optional<format::segment_section> filter{}; ///< place of the filter; nothing: there is no filter
};

/// The index in memory. It is immutable; any number of threads may read it.
struct sorted_index {
    std::vector<format::index_entry> entries{};
    std::string common{}; ///< the prefix that all keys share
};

/// Collects keys one by one. Memory: the keys, plus 24 bytes per key.
class index_builder {
public:
    void add(std::string_view key, std::uint64_t offset, std::uint32_t lsn_delta) {
        items_.push_back({.key_at = keys_.size(),
                          .offset = static_cast<std::uint32_t>(offset),
                          .lsn_delta = lsn_delta,
                          .key_bytes = static_cast<std::uint32_t>(key.size())});
        keys_.insert(keys_.end(), key.begin(), key.end());
    }
    /// Reserves memory for this many keys.
    void reserve(std::size_t keys) { items_.reserve(keys); }
    /// Reserves memory for more keys, which have `key_bytes` bytes together. Adding them then needs no allocation. Throws std::bad_alloc;
    /// nothing has changed then.
    void reserve_more(std::size_t keys, std::size_t key_bytes) {
        if (items_.capacity() < items_.size() + keys) items_.reserve(std::max(items_.size() + keys, 2 * items_.size()));
        if (keys_.capacity() < keys_.size() + key_bytes)
            keys_.reserve(std::max(keys_.size() + key_bytes, 2 * keys_.size()));
    }
    /// Drops all keys but the first `count`.
    void truncate(std::size_t count) {
        if (count >= items_.size()) return;
        keys_.resize(items_[count].key_at);
        items_.resize(count);
    }
    /// Drops all keys and keeps their memory for other keys.
    void clear() noexcept {
        keys_.clear();
        items_.clear();
    }
    [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }

    /// The filter over all keys. Its blocks have no checks yet. Empty if the segment is too small for a filter.
    [[nodiscard]] std::vector<std::byte> filter(format::filter_shape const& shape) const {
        std::vector<std::byte> out(static_cast<std::size_t>(shape.bytes()));
        if (out.empty()) return out;
        for (auto const& i : items_) {
            auto const hash = format::filter_hash(key_of(i));
            auto const line = format::filter_line(hash, shape.lines());
            auto* const at = out.data() + line / shape.lines_per_block() * shape.block +
                             line % shape.lines_per_block() * format::filter_line_bytes;
            format::add_to_line(at, hash, format::filter_probes);
        }
        return out;
    }

    /// The index of all keys, or of those from number `begin` on.
    [[nodiscard]] sorted_index sorted(std::size_t begin = 0) const {
        sorted_index out;
        if (begin >= items_.size()) return out;
        auto const skip = common_from(begin);
        out.common = std::string{key_of(items_[begin]).substr(0, skip)};
        struct sortable {
            std::uint64_t prefix;
            std::size_t item;
        };
        std::vector<sortable> order;
        order.reserve(items_.size() - begin);
        for (auto i = begin; i < items_.size(); ++i) order.push_back({format::key_prefix(key_of(items_[i]), skip), i});
        keel::detail::sort_by_prefix(order, [&](sortable const& a, sortable const& b) {
            auto const& x = items_[a.item];
            auto const& y = items_[b.item];
            auto const by_key = key_of(x).compare(key_of(y));
            return by_key != 0 ? by_key < 0 : x.lsn_delta > y.lsn_delta;
        });
        out.entries.reserve(order.size());
        for (auto const& o : order) out.entries.push_back({o.prefix, items_[o.item].offset, items_[o.item].lsn_delta});
        return out;
    }

private:
    struct item {
        std::size_t key_at;
        std::uint32_t offset;
        std::uint32_t lsn_delta;
        std::uint32_t key_bytes;
    };
    [[nodiscard]] std::string_view key_of(item const& i) const noexcept {
        return {keys_.data() + i.key_at, i.key_bytes};
    }
    /// The length of the prefix that all keys from number `begin` on share.
    [[nodiscard]] std::size_t common_from(std::size_t begin) const noexcept {
        auto common = key_of(items_[begin]);
        for (auto i = begin + 1; i < items_.size() && !common.empty(); ++i) {
            auto const key = key_of(items_[i]);
            if (!key.starts_with(common))
                common =
                    common.substr(0, static_cast<std::size_t>(std::ranges::mismatch(common, key).in1 - common.begin()));
        }
        return common.size();
    }

    std::vector<char> keys_{};
    std::vector<item> items_{};
};

/// Reads all records of a segment back, verifies each, and adds its key to `into`. Precondition: all records are known to be whole. Errors:
/// corruption, if a record does not verify; those of the machine.
template <checksum_policy C, class File>
[[nodiscard]] result<void> collect_keys(File const& file, closed_segment const& of, index_builder& into) {
    window<File> in{file, of.end};
    into.reserve(static_cast<std::size_t>(std::min(of.records, (of.end - of.begin) / format::frame_header_bytes)));
    for (auto at = of.begin; at + format::frame_header_bytes <= of.end;) {
        format::frame_place const place{of.salt, at};
        auto seen = format::peek_frame(in.at(at, format::frame_header_bytes).data(), place, of.end - at);
        if (seen.state == format::frame_state::intact)
            seen = format::read_frame<C>(in.at(at, static_cast<std::size_t>(seen.bytes())), place);
        if (seen.state != format::frame_state::intact)
            return failure(errc::corruption, "a frame does not verify when it is read back", file.path(), at);
        if (seen.header.type == format::frame_type::put || seen.header.type == format::frame_type::erase)
            into.add(as_text(seen.key()), at, seen.header.lsn_delta);
        at += seen.bytes();
    }
    return {};
}

/// Encodes blocks of the index into `out`. `out` is zeroed and a whole number of blocks long. `number`: the first block to encode.
/// `offset`: the place of that block in the file. The checks of the blocks are added to `sum`.
template <checksum_policy C>
void encode_index_blocks(byte_span out, sorted_index const& index, std::size_t number, std::uint64_t salt,
                         std::uint64_t offset, std::uint64_t block_bytes, C& sum) {
    format::index_shape const shape{block_bytes, index.entries.size()};
    auto const per_block = static_cast<std::size_t>(shape.entries_per_block());
    auto const per_fence = static_cast<std::size_t>(shape.fences_per_block());
    auto const blocks = static_cast<std::size_t>(shape.entry_blocks());
    auto const block = static_cast<std::size_t>(block_bytes);
    for (std::size_t begin = 0; begin < out.size(); begin += block, ++number) {
        auto const bytes = out.subspan(begin, block);
        auto* at = bytes.data();
        if (number < blocks) {
            auto const first = number * per_block;
            for (auto i = first; i < std::min(first + per_block, index.entries.size()); ++i, at += 16) {
                format::store(at, index.entries[i].prefix);
                format::store(at + 8, index.entries[i].offset);
                format::store(at + 12, index.entries[i].lsn_delta);
            }
        } else {
            auto const first = (number - blocks) * per_fence;
            for (auto i = first; i < std::min(first + per_fence, blocks); ++i, at += 8)
                format::store(at, index.entries[i * per_block].prefix);
        }
        format::finish_block<C>(bytes, salt, offset + begin);
        sum.update(bytes.last(format::block_check_bytes));
    }
}

/// Writes the index at `offset` and returns its section for the footer. Does not sync.
template <checksum_policy C, class File>
[[nodiscard]] result<format::segment_section> write_index(File& file, sorted_index const& index, std::uint64_t salt,
                                                          std::uint64_t offset, std::uint64_t segment_bytes) {
    format::index_shape const shape{format::block_bytes(segment_bytes), index.entries.size()};
    auto const all = static_cast<std::size_t>(shape.entry_blocks() + shape.fence_blocks());
    auto const block = static_cast<std::size_t>(shape.block);
    auto const blocks_at_once = std::max<std::size_t>(256 * KiB / block, 1);
    C sum;
    std::vector<std::byte> out;
    for (std::size_t done = 0; done < all;) {
        auto const now = std::min(blocks_at_once, all - done);
        out.assign(now * block, std::byte{0});
        encode_index_blocks(out, index, done, salt, offset + done * block, shape.block, sum);
        KEEL_TRY(file.write(offset + done * block, out));
        done += now;
    }
    return format::segment_section{.type = static_cast<std::uint32_t>(format::section_type::index),
                                   .offset = static_cast<std::uint32_t>(offset),
                                   .length = static_cast<std::uint32_t>(shape.bytes()),
                                   .check = sum.value(),
                                   .argument = static_cast<std::uint32_t>(index.common.size())};
}

/// Writes the filter at `offset` and returns its section for the footer. Does not sync.
template <checksum_policy C, class File>
[[nodiscard]] result<format::segment_section> write_filter(File& file, std::vector<std::byte> bytes, std::uint64_t salt,
                                                           std::uint64_t offset, std::uint64_t block) {
    C sum;
    for (std::size_t at = 0; at < bytes.size(); at += static_cast<std::size_t>(block)) {
        auto const one = byte_span{bytes}.subspan(at, static_cast<std::size_t>(block));
        format::finish_block<C>(one, salt, offset + at);
        sum.update(one.last(format::block_check_bytes));
    }
    KEEL_TRY(file.write(offset, bytes));
    return format::segment_section{.type = static_cast<std::uint32_t>(format::section_type::filter),
                                   .offset = static_cast<std::uint32_t>(offset),
                                   .length = static_cast<std::uint32_t>(bytes.size()),
                                   .check = sum.value(),
                                   .argument = format::filter_probes};
}

/// The sections of a segment that takes no more records.
struct segment_sections {
    std::optional<format::segment_section> index{};
    std::optional<format::segment_section> filter{};
};
/// Writes the index and the filter of a segment's keys behind `end`. `end`: the end of the last frame of this life, whole or torn. Writes
/// neither if a record has no key, or if there is no room for them. Readers then scan the segment. Does not sync.
template <checksum_policy C, class File>
[[nodiscard]] result<segment_sections> write_sections(File& file, index_builder const& keys, std::uint64_t records,
                                                      std::uint64_t salt, std::uint64_t end,
                                                      std::uint64_t segment_bytes) {
    segment_sections out;
    if (keys.size() == 0 || keys.size() != records || !format::index_fits(end, records, segment_bytes)) return out;
    auto at = format::sections_begin(end, segment_bytes);
    auto const block = format::block_bytes(segment_bytes);
    KEEL_TRY_LET(index, write_index<C>(file, keys.sorted(), salt, at, segment_bytes));
    out.index = index;
    at += index.length;
    auto filter = keys.filter({block, records});
    if (filter.empty()) return out;
    KEEL_TRY_LET(written, write_filter<C>(file, std::move(filter), salt, at, block));
    out.filter = written;
    return out;
}

/// The LSNs of all entries of an index, as ranges in order. `first`: the segment's first LSN, from which the entries count. Nothing if a
/// block does not verify or cannot be read, or if an LSN occurs twice. Memory: 4 bytes per entry.
template <checksum_policy C, class File>
[[nodiscard]] std::optional<std::vector<lsn_range>> lsns_in_index(File const& file,
                                                                  format::segment_section const& index,
                                                                  std::uint64_t entries, std::uint64_t salt, lsn first,
                                                                  std::uint64_t segment_bytes) {
    format::index_shape const shape{format::block_bytes(segment_bytes), entries};
    auto const block = static_cast<std::size_t>(shape.block);
    window<File> in{file, format::footer_offset(segment_bytes)};
    std::vector<std::uint32_t> deltas;
    deltas.reserve(static_cast<std::size_t>(entries));
    for (std::uint64_t n = 0; n < shape.entry_blocks(); ++n) {
        auto const at = index.offset + n * shape.block;
        auto const bytes = in.at(at, block);
        if (!format::block_verifies<C>(bytes, salt, at)) return std::nullopt;
        auto const here = std::min(shape.entries_per_block(), entries - n * shape.entries_per_block());
        for (std::uint64_t i = 0; i < here; ++i)
            deltas.push_back(format::read_index_entry(bytes.data() + i * format::index_entry_bytes).lsn_delta);
    }
    if (!in.unreadable().empty()) return std::nullopt;
    std::ranges::sort(deltas);
    std::vector<lsn_range> out;
    for (auto const delta : deltas) {
        lsn const at{first.value - 1 + delta};
        if (delta == 0 || (!out.empty() && out.back().last >= at)) return std::nullopt;
        if (!out.empty() && out.back().last.next() == at) out.back().last = at;
        else out.push_back({at, at});
    }
    return out;
}

/// The blocks in the sections of a sealed segment that do not verify. A bad block is first read again past the page cache. If all blocks of
/// a section verify but its sum does not match, the whole section is returned.
template <checksum_policy C, class File>
[[nodiscard]] std::vector<byte_range> damaged_blocks(File const& file, std::uint64_t salt, std::uint64_t segment_bytes,
                                                     std::span<format::segment_section const> sections) {
    std::vector<byte_range> bad;
    auto const block = static_cast<std::size_t>(format::block_bytes(segment_bytes));
    auto const limit = format::footer_offset(segment_bytes);
    window<File> in{file, limit};
    for (auto const& section : sections) {
        C sum;
        auto const known = bad.size();
        auto const end = std::min(limit, std::uint64_t{section.offset} + section.length);
        for (std::uint64_t at = section.offset; at + block <= end; at += block) {
            auto bytes = in.at(at, block);
            if (!format::block_verifies<C>(bytes, salt, at) && in.reread(at, block)) bytes = in.at(at, block);
            if (!format::block_verifies<C>(bytes, salt, at)) bad.push_back({at, block});
            sum.update(bytes.last(format::block_check_bytes));
        }
        if (bad.size() == known && sum.value() != section.check) bad.push_back({section.offset, section.length});
    }
    return bad;
}

} // namespace keel::inline v0::wal

#endif
