// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_INVENTORY_HPP
#define KEEL_RECOVERY_INVENTORY_HPP

// The files of a store and the facts in them: manifest, notes, segment headers (take_inventory.hpp reads them).

#include <keel/error.hpp>
#include <keel/format/chunk_index.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/notes.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/manifest.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace keel::inline v0::recovery {

/// One segment of the store, and its file.
struct found_segment {
    format::segment_entry entry{}; ///< the manifest's entry; made from the header if the manifest has none
    bool registered = false;       ///< the manifest has an entry
    bool present = false;          ///< the file exists
    std::string path{};            ///< full path; the expected path if the file is missing
    std::uint64_t file_bytes = 0;
    std::optional<format::segment_header> header{}; ///< the better of its two copies
    std::optional<format::segment_footer> footer{}; ///< of a sealed segment, if it verifies and fits the manifest
    bool mounted = false;                           ///< its seal stands in for its frames: they are not scanned
    std::vector<lsn_range> holds{}; ///< of a mounted segment with losses: the LSNs that it holds; else empty
    std::vector<format::indexed_chunk> chunks{}; ///< of an unsealed segment: the chunks that its indexes stand in for
    segment_geometry geometry{};

    /// The LSN for a `delta` from a frame or an index of this segment.
    [[nodiscard]] lsn lsn_of(std::uint32_t delta) const noexcept { return {geometry.first.value - 1 + delta}; }

    /// Whether it holds or held records. Only a segment that was prepared for later does not.
    [[nodiscard]] bool in_use() const noexcept {
        return entry.seal.has_value() ||
               (header ? header->state != format::segment_state::prepared : present || geometry.first.value != 0);
    }
};

/// A file in the log folder that is no part of the store. A crash between two steps of preparing, retiring or repairing left it.
struct leftover_file {
    std::string path{};
    std::optional<segment_id> removed{};            ///< an interrupted repair has not moved it to quarantine yet
    std::optional<format::segment_entry> retired{}; ///< retired before a crash, and not removed yet
    bool is_ours = false; ///< this store made it, and it was never part of the store: the first write removes it
};

/// A range that the machine could not read. It is read once more before anything is given up for it.
struct refused_read {
    std::string path{};
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

struct inventory {
    explicit inventory(wal::layout where) : paths{std::move(where)} {}
    wal::layout paths;
    bool exists = false; ///< false: the folder holds no store, or one whose creation was interrupted
    format::store_id store{};
    std::uint64_t branch = 0;
    wal::manifest_load manifest{};
    format::manifest_state state{}; ///< the manifest's state, or a state rebuilt from the segments
    std::optional<format::note> note{};
    std::optional<error> notes_refused{};  ///< notes exist, but the machine could not open them
    bool note_is_own = false;              ///< written in this boot, into this file: its accepted LSN counts
    std::vector<found_segment> segments{}; ///< in use, ordered by place
    std::vector<found_segment> spare{};    ///< prepared
    std::vector<leftover_file> leftovers{};
    std::vector<format::table_id> missing_tables{}; ///< the manifest lists them, the folder does not hold them
    std::vector<finding> findings{};
    std::vector<refused_read> refused{};
};

/// For each segment the smallest LSN that the header of a later segment voids. This LSN and all above do not count in the segment. A
/// header voids nothing in later segments.
[[nodiscard]] inline std::vector<lsn> void_from(std::vector<found_segment> const& segments) {
    std::vector<lsn> out(segments.size(), lsn_max);
    auto lowest = lsn_max;
    for (std::size_t i = segments.size(); i-- > 0;) {
        out[i] = lowest;
        auto const& h = segments[i].header;
        if (h && h->void_from) lowest = std::min(lowest, h->void_from);
    }
    return out;
}

/// By segment id: the facts in the header of a later segment about how that segment ended. If several
/// headers name it, the last one counts.
using segment_links = std::map<segment_id, format::segment_link>;
[[nodiscard]] inline segment_links links_of(std::vector<found_segment> const& segments) {
    segment_links out;
    for (auto const& s : segments)
        if (s.header && s.header->previous.id && s.header->previous.id != s.entry.id)
            out.insert_or_assign(s.header->previous.id, s.header->previous);
    return out;
}

} // namespace keel::inline v0::recovery

#endif
