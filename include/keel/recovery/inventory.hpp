// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_INVENTORY_HPP
#define KEEL_RECOVERY_INVENTORY_HPP

// Which files there are and what they say they are: manifest, notes, segment headers (take_inventory.hpp finds out).

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

/// One segment that belongs to the store, and where it stands.
struct found_segment {
    format::segment_entry
        entry{}; ///< as the manifest has it; made up from the header where the manifest does not know it
    bool registered = false;
    bool present = false;
    std::string path{}; ///< full; where it should be if it is missing
    std::uint64_t file_bytes = 0;
    std::optional<format::segment_header> header{}; ///< the better of its two copies
    std::optional<format::segment_footer> footer{}; ///< of a sealed one, where it verifies and agrees with the manifest
    bool mounted = false;                           ///< its seal stands for its frames: they were not scanned
    std::vector<lsn_range> holds{};              ///< of one that is mounted: its records, where losses lie between them
    std::vector<format::indexed_chunk> chunks{}; ///< of one without a seal: what indexes inside it stand for
    segment_geometry geometry{};

    /// An LSN as frames and indexes of this segment have it.
    [[nodiscard]] lsn lsn_of(std::uint32_t delta) const noexcept { return {geometry.first.value - 1 + delta}; }

    /// Holds, or held, records: everything but a segment prepared for later.
    [[nodiscard]] bool in_use() const noexcept {
        return entry.seal.has_value() ||
               (header ? header->state != format::segment_state::prepared : present || geometry.first.value != 0);
    }
};

/// A file in the log folder that is no part of the store: left by a crash between two steps of preparing, retiring or repairing.
struct leftover_file {
    std::string path{};
    std::optional<segment_id> removed{};            ///< belongs into quarantine by a repair that was cut short
    std::optional<format::segment_entry> retired{}; ///< given up before a crash, and not removed yet
    bool is_ours = false; ///< made by this store and never a part of it: the first write removes it
};

/// A place the machine refused to read: asked once more before anything is given up over it.
struct refused_read {
    std::string path{};
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

struct inventory {
    explicit inventory(wal::layout where) : paths{std::move(where)} {}
    wal::layout paths;
    bool exists = false; ///< a store stands here; false: an empty or half-made one
    format::store_id store{};
    std::uint64_t branch = 0;
    wal::manifest_load manifest{};
    format::manifest_state state{}; ///< of the manifest, or rebuilt from the segments
    std::optional<format::note> note{};
    std::optional<error> notes_refused{};  ///< there are notes, and the machine does not let them be read
    bool note_is_own = false;              ///< written in this boot, into this very file: its accepted LSN counts
    std::vector<found_segment> segments{}; ///< in use, ordered by place
    std::vector<found_segment> spare{};    ///< prepared
    std::vector<leftover_file> leftovers{};
    std::vector<format::table_id> missing_tables{}; ///< the manifest knows them, the folder does not hold them
    std::vector<finding> findings{};
    std::vector<refused_read> refused{};
};

/// For each segment the smallest LSN that a header behind it voids: there and above nothing of it counts. A header says nothing of what
/// comes behind it.
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

/// What the headers of later segments say of how those before them ended, by id. Of several the last one counts.
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
