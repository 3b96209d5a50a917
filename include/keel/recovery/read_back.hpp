// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_READ_BACK_HPP
#define KEEL_RECOVERY_READ_BACK_HPP

// Reads a segment back from the medium after it was sealed, and compares it with its seal, which the writer made in memory. Reads only.
// So a write that the medium damaged, misplaced or lost is found while the page cache may still have the right bytes.

#include <keel/error.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// A file whose reads all go past the page cache. The file `of` must outlive it.
template <class File>
class uncached_file {
public:
    explicit uncached_file(File const& of) noexcept : of_{&of} {}
    [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
        return of_->read_uncached(offset, out);
    }
    [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
        return of_->read_uncached(offset, out);
    }
    [[nodiscard]] std::string const& path() const noexcept { return of_->path(); }

private:
    File const* of_;
};

/// Compares one segment on the medium with its seal. One thread per object.
template <checksum_policy C, class File>
class segment_read_back {
public:
    segment_read_back(File const& file, wal::closed_segment const& of, format::segment_seal const& seal)
        : file_{file}, medium_{file}, of_{of}, seal_{seal} {}

    /// Returns a finding for each part that is not on the medium as it was written. Throws std::bad_alloc.
    [[nodiscard]] std::vector<finding> run() {
        check_headers();
        check_frames();
        check_sections();
        check_footer();
        return std::move(found_);
    }

private:
    void check_headers() {
        for (auto const at : {std::uint64_t{0}, format::second_header_offset(of_.segment_bytes)}) {
            auto const seen = format::decode_segment_header<C>(block_at(at));
            // The header written when the segment was prepared verifies, too: it means that the later write is missing.
            bool const ours = seen.good() && seen.header.id == of_.id && seen.header.salt == of_.salt &&
                              seen.header.first == of_.first && seen.header.state != format::segment_state::prepared;
            if (!ours) add({.kind = damage::header_damaged, .offset = at, .length = format::header_bytes}, "a header");
        }
    }
    void check_frames() {
        no_sink nobody;
        auto const run = scan_segment<C>(medium_, geometry(), nobody);
        for (auto const& bad : run.bad) add_frames(bad);
        bool const to_its_end = seal_.count == 0 || run.last == seal_.range.last;
        if ((run.aggregate == seal_.aggregate && to_its_end) || !run.bad.empty()) return;
        // No frame is damaged, but some are missing: the medium lost their write, or wrote them to another place.
        bad_bytes rest{.offset = run.data_end, .length = of_.end - std::min(of_.end, run.data_end)};
        rest.lsns = {run.last < seal_.range.first ? seal_.range.first : run.last.next(), seal_.range.last};
        rest.is_data = !rest.lsns.empty();
        if (rest.length == 0) add({.kind = damage::seal_mismatch, .length = of_.end}, "the frames, taken together,");
        else add_frames(rest);
    }
    void check_sections() {
        std::vector<format::segment_section> sections;
        for (auto const& section : {of_.index, of_.filter})
            if (section) sections.push_back(*section);
        for (auto const& bad : wal::damaged_blocks<C>(medium_, of_.salt, of_.segment_bytes, sections))
            add({.kind = damage::damaged_filler, .offset = bad.offset, .length = bad.length}, "the index");
    }
    void check_footer() {
        auto const at = format::footer_offset(of_.segment_bytes);
        auto const seen = format::decode_segment_footer<C>(block_at(at));
        if (seen.good && seen.footer.seal == seal_) return;
        add({.kind = damage::damaged_filler, .offset = at, .length = format::header_bytes}, "the footer");
    }

    [[nodiscard]] segment_geometry geometry() const {
        return {.id = of_.id, .salt = of_.salt, .first = of_.first, .begin = of_.begin, .limit = of_.end};
    }
    /// Returns zeros if the block cannot be read. Zeros are not a valid block.
    [[nodiscard]] format::header_block block_at(std::uint64_t offset) const {
        format::header_block block{};
        for (int tries = 0; tries < 2; ++tries)
            if (auto const got = medium_.read(offset, block); got && *got == block.size()) return block;
        return format::header_block{};
    }
    void add_frames(bad_bytes const& bad) {
        auto const records = bad.is_data ? lsn_range{std::max(bad.lsns.first, seal_.range.first),
                                                     std::min(bad.lsns.last, seal_.range.last)}
                                         : lsn_range{};
        bool const cached = is_in_page_cache(bad);
        add({.kind = records.size() != 0 ? damage::corrupt_record : damage::damaged_filler,
             .offset = bad.offset,
             .length = bad.length,
             .lsns = records.size() != 0 ? records : lsn_range{},
             .expected = bad.expected,
             .found = bad.found,
             .lost = cached ? 0 : records.size()},
            bad.unreadable ? "a frame, which the machine does not read,"
            : cached       ? "a frame, which the page cache still has,"
                           : "a frame");
    }
    /// Whether a cached read still gives these frames as they were written.
    [[nodiscard]] bool is_in_page_cache(bad_bytes const& bad) {
        no_sink nobody;
        if (!cached_) cached_ = scan_segment<C>(file_, geometry(), nobody);
        if (cached_->aggregate == seal_.aggregate) return true;
        auto const touches = [&](bad_bytes const& other) {
            return other.offset < bad.offset + bad.length && bad.offset < other.offset + other.length;
        };
        return cached_->data_end >= bad.offset + bad.length && std::ranges::none_of(cached_->bad, touches);
    }
    void add(finding what, std::string const& which) {
        what.file = of_.path;
        what.detail = which + " does not verify when the segment is read back after its seal";
        found_.push_back(std::move(what));
    }

    File const& file_;
    uncached_file<File> medium_;
    wal::closed_segment const& of_;
    format::segment_seal const& seal_;
    std::optional<segment_run> cached_{};
    std::vector<finding> found_{};
};

} // namespace keel::inline v0::recovery

#endif
