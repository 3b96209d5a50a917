// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_INDEX_COLLECTOR_HPP
#define KEEL_RECOVERY_INDEX_COLLECTOR_HPP

// Builds the index of a segment from its scan: the place of every version of every key. The records stay in the file.

#include <keel/format/frame.hpp>
#include <keel/recovery/opening.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/wal/segment_index.hpp>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// A scan_sink for one segment.
class index_collector {
public:
    static constexpr bool needs_index = true;

    void record(lsn, format::frame_view const& frame, std::uint64_t offset) {
        if (frame.header.type == format::frame_type::put || frame.header.type == format::frame_type::erase)
            keys_.add(as_text(frame.key()), offset, frame.header.lsn_delta);
    }
    void batch_end(bool whole) {
        if (!whole) keys_.truncate(whole_);
        whole_ = keys_.size();
    }
    [[nodiscard]] std::size_t size() const noexcept { return keys_.size(); }
    [[nodiscard]] std::shared_ptr<wal::sorted_index const> finish() const {
        return std::make_shared<wal::sorted_index const>(keys_.sorted());
    }

private:
    wal::index_builder keys_{};
    std::size_t whole_ = 0;
};

/// The segments that an engine serves. A segment without an index on the disk gets one in memory. `records` is set to the number of
/// records that this opening scanned or rebuilt. Errors: the machine's, if a segment that a repair built cannot be read back.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] result<std::vector<std::pair<wal::closed_segment, std::shared_ptr<wal::sorted_index const>>>>
indexed_segments(Fs& fs, std::vector<served_segment> served, std::vector<index_collector> collected,
                 std::uint64_t& records) {
    std::vector<std::pair<wal::closed_segment, std::shared_ptr<wal::sorted_index const>>> out;
    records = 0;
    for (auto& s : served) {
        std::shared_ptr<wal::sorted_index const> index;
        records += s.rebuilt_records;
        if (!s.what.index) {
            index_collector fresh;
            auto* keys = s.scanned ? &collected[*s.scanned] : &fresh;
            if (!s.scanned) {
                KEEL_TRY_LET(file, fs.open(s.what.path, io::access::read_only, io::creation::must_exist));
                segment_geometry const where{.id = s.what.id,
                                             .salt = s.what.salt,
                                             .first = s.what.first,
                                             .begin = s.what.begin,
                                             .limit = s.what.end};
                static_cast<void>(scan_segment<C>(file, where, fresh));
            }
            records += keys->size();
            index = keys->finish();
            *keys = {}; // so the keys of only one segment are in memory twice
        }
        out.emplace_back(std::move(s.what), std::move(index));
    }
    return out;
}

} // namespace keel::inline v0::recovery

#endif
