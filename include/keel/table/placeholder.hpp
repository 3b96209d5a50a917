// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_PLACEHOLDER_HPP
#define KEEL_TABLE_PLACEHOLDER_HPP

// A placeholder stands for versions that could not be read when their table or segment was merged away. It is a table of level 0 with one
// block that does not verify. So every reader of the format still answers its keys with an error, as before the merge. The store remembers
// this as long as the manifest names the placeholder, together with the bounds of its keys. A version found with the placeholder's LSN or a
// larger one is newer than the lost versions, and is the answer. An older version does not count, because it may be stale (engine/merge.hpp
// has the rule).
//
// The manifest says that a placeholder has no records (table_entry::is_placeholder); its header says one. A placeholder has the filter of
// the table that it stands for. So keys that the table never had are not affected.

#include <keel/error.hpp>
#include <keel/format/block.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/format/key_text.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/table.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/table/damaged_range.hpp>
#include <keel/table/sstable_builder.hpp>
#include <keel/types.hpp>
#include <keel/wal/whole_file.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

/// The largest key that can be in front of `key`. Precondition: `key` is not empty.
[[nodiscard]] inline std::string key_before(std::string_view key) {
    std::string out{key};
    auto const last = static_cast<unsigned char>(out.back());
    out.pop_back();
    if (last == 0) return out;
    out += static_cast<char>(last - 1);
    out.resize(std::max(out.size(), format::key_bytes_max), '\xFF');
    return out;
}

/// The filter of a table: which keys the table may have. `bits` is how many bits a key sets in its line.
struct filter_lines {
    std::vector<std::byte> lines{}; ///< whole filter blocks; empty: the table may have any key
    std::uint64_t bits = format::filter_probes;

    /// A filter that allows one key.
    [[nodiscard]] static filter_lines of(std::string_view key) {
        filter_lines out;
        out.lines.resize(format::table_filter_block_bytes);
        auto const hash = format::filter_hash(key);
        format::add_to_line(out.lines.data() +
                                format::filter_line(hash, format::table_filter_lines) * format::filter_line_bytes,
                            hash, format::filter_probes);
        return out;
    }
};

/// Writes a placeholder at `path` and syncs it. It replaces a file that an earlier attempt left there. The placeholder says: versions of
/// keys in `range`, with LSNs in `range.lsns`, may be missing. Returns the entry for the manifest.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] result<format::table_entry> write_placeholder(Fs& fs, std::string const& path, table_birth const& birth,
                                                            damaged_range const& range, filter_lines const& filter) {
    std::vector<std::byte> bytes(format::header_bytes + format::frame_header_bytes); // the block is zeros: no frame
    auto const put_frame = [&](format::frame_type type, byte_view payload) {
        auto const at = bytes.size();
        bytes.resize(at + static_cast<std::size_t>(format::frame_bytes(payload.size())));
        std::ranges::copy(payload, bytes.begin() + static_cast<std::ptrdiff_t>(at + format::frame_header_bytes));
        format::finish_frame<C>(
            bytes.data() + at, {birth.salt, at},
            {.payload_bytes = static_cast<std::uint32_t>(payload.size()), .type = type, .flags = format::whole_batch});
        return format::block_place{static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes.size() - at)};
    };
    format::table_header h{.store = birth.store,
                           .id = birth.id,
                           .salt = birth.salt,
                           .branch = birth.branch,
                           .created_ns = birth.created_ns,
                           .lsns = {std::max(range.lsns.first, lsn{1}), range.lsns.last},
                           .records = 1,
                           .blocks = 1,
                           .blocks_end = bytes.size(),
                           .filter_blocks = filter.lines.size() / format::table_filter_block_bytes,
                           .filter_bits = filter.bits,
                           .index_blocks = 1};
    for (std::size_t b = 0; b < h.filter_blocks; ++b)
        put_frame(format::frame_type::filter, byte_view{filter.lines}.subspan(b * format::table_filter_block_bytes,
                                                                              format::table_filter_block_bytes));
    auto const largest = range.to ? key_before(*range.to) : std::string(format::key_bytes_max, '\xFF');
    format::block_builder index;
    index.add(largest, {static_cast<std::uint32_t>(format::table_frames_begin), format::frame_header_bytes});
    auto const leaf = put_frame(format::frame_type::fence, index.finish());
    index.clear();
    index.add(largest, leaf);
    h.root = put_frame(format::frame_type::root, index.finish());
    h.size = bytes.size() + format::header_bytes;
    auto const head = format::encode<C>(h);
    std::ranges::copy(head, bytes.begin());
    bytes.insert(bytes.end(), head.begin(), head.end());

    KEEL_TRY(wal::put_file(fs, path, bytes));
    format::table_entry out{
        .id = h.id, .salt = h.salt, .size = h.size, .lsns = {h.lsns.last, h.lsns.last}, .records = 0, .level = 0};
    out.set_bounds(range.from.value_or(std::string{}), largest);
    return out;
}

/// The finding that reports a placeholder. `file`: the file's name in findings.
[[nodiscard]] inline finding finding_of_placeholder(format::table_entry const& p, std::string file) {
    return {.kind = damage::corrupt_block,
            .file = std::move(file),
            .offset = format::table_frames_begin,
            .length = format::frame_header_bytes,
            .done = outcome::declared_lost,
            .detail = "stands for what could not be read when it was merged: no answer for " + format::text_of_keys(p)};
}

} // namespace keel::inline v0::table

#endif
