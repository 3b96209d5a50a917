// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_MOUNT_HPP
#define KEEL_RECOVERY_MOUNT_HPP

// Decides which sealed segments are mounted, and which LSNs each of them holds. The seal of a mounted segment stands in for its records:
// the segment is not scanned. So an opening makes a few reads for such a segment, however long the log is. Manifest and footer must have
// the same seal, and no header of a later segment may void any of its LSNs. Headers of earlier segments have no effect on it. So an old
// crash costs no time once the log has gone on.
//
// A segment that a repair built may lack LSNs. If the engine needs the index, the index tells which LSNs are there. Otherwise the
// missing LSNs must be exactly the declared losses, and no neighbour may hold an LSN of the same range: one of the missing LSNs
// might be in the neighbour instead.

#include <keel/error.hpp>
#include <keel/format/index.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/io/concept.hpp>
#include <keel/recovery/inventory.hpp>
#include <keel/types.hpp>
#include <keel/wal/lsn_set.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

namespace keel::inline v0::recovery::detail {

/// Whether manifest, footer and header agree on the content of the segment, and no header voids any of it.
[[nodiscard]] inline bool seal_stands(found_segment const& s, lsn void_from) noexcept {
    if (!s.present || !s.registered || !s.footer || !s.header || !s.entry.seal) return false;
    auto const& seal = *s.entry.seal;
    return seal.count != 0 && seal.count <= seal.range.size() && seal.range.first == s.geometry.first &&
           s.file_bytes == s.entry.size && s.header->size == s.entry.size && seal.data_end >= s.geometry.begin &&
           seal.data_end == s.geometry.limit && seal.range.last < void_from;
}
/// The index section, if it has the shape that this library writes.
[[nodiscard]] inline std::optional<format::segment_section> usable_index(found_segment const& s) noexcept {
    auto const& seal = *s.entry.seal;
    auto const index = s.footer->section(static_cast<std::uint32_t>(format::section_type::index));
    format::index_shape const shape{format::block_bytes(s.entry.size), seal.count};
    bool const usable = index && index->length == shape.bytes() && index->offset >= seal.data_end &&
                        index->offset % format::frame_alignment == 0 && index->argument <= format::key_bytes_max &&
                        std::uint64_t{index->offset} + index->length <= format::footer_offset(s.entry.size);
    return usable ? index : std::nullopt;
}

/// Decides for all segments of one inventory.
template <checksum_policy C, io::file_system Fs>
class mounter {
public:
    /// `with_index`: a segment is mounted only if it also has a usable index.
    mounter(Fs& fs, inventory& stock, bool with_index)
        : fs_{fs}, stock_{stock}, with_index_{with_index}, void_from_{void_from(stock.segments)} {}

    void run() {
        for (std::size_t i = 0; i < stock_.segments.size(); ++i) {
            auto& s = stock_.segments[i];
            s.mounted = seal_stands(s, void_from_[i]) && (!with_index_ || usable_index(s));
            bool const whole = s.mounted && s.entry.seal->count == s.entry.seal->range.size();
            if (s.mounted && !whole) s.mounted = find_holes(i);
        }
    }

private:
    [[nodiscard]] bool find_holes(std::size_t i) {
        auto& s = stock_.segments[i];
        if (with_index_) {
            auto const file = fs_.open(s.path, io::access::read_only, io::creation::must_exist);
            auto held = file ? wal::lsns_in_index<C>(*file, *usable_index(s), s.entry.seal->count, s.entry.salt,
                                                     s.geometry.first, s.entry.size)
                             : std::nullopt;
            if (!held || held->back().last > s.entry.seal->range.last) return false;
            s.holds = std::move(*held);
            return true;
        }
        auto left = declared().gaps_in(s.entry.seal->range);
        std::uint64_t count = 0;
        for (auto const& r : left) count += r.size();
        if (count != s.entry.seal->count || !stands_alone(i)) return false;
        s.holds = std::move(left);
        return true;
    }
    [[nodiscard]] bool stands_alone(std::size_t i) const {
        auto const range = stock_.segments[i].entry.seal->range;
        if (i != 0) {
            auto const& before = stock_.segments[i - 1];
            if (!before.entry.seal || before.entry.seal->range.last >= range.first) return false;
        }
        if (i + 1 == stock_.segments.size()) return true;
        auto const& behind = stock_.segments[i + 1].geometry.first;
        return behind && behind > range.last;
    }
    [[nodiscard]] wal::lsn_set const& declared() {
        if (!declared_) {
            declared_.emplace();
            for (auto const& r : stock_.state.losses) declared_->add(r);
        }
        return *declared_;
    }

    Fs& fs_;
    inventory& stock_;
    bool with_index_;
    std::vector<lsn> void_from_;
    std::optional<wal::lsn_set> declared_{}; ///< the losses in the manifest; made on first use
};

} // namespace keel::inline v0::recovery::detail

#endif
