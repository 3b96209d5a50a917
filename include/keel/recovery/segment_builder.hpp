// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_SEGMENT_BUILDER_HPP
#define KEEL_RECOVERY_SEGMENT_BUILDER_HPP

// Builds a new segment from the records of a damaged segment that verify in a scan (repair.hpp). It also writes the index and the filter
// that sealing writes. So the next opening mounts the new segment like any other.

#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/mark.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/checksum/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery::detail {

/// A scan_sink. It takes the counted records of one damaged segment and writes them as frames of a new life, through a buffer. finish()
/// returns the error of the first failed write. Memory: the buffer and the keys.
template <checksum_policy C, class File>
class segment_builder {
public:
    /// `keep`: the LSNs that count, in order.
    segment_builder(File& file, format::segment_header const& header, std::vector<lsn_range> keep)
        : file_{file}, header_{header}, keep_{std::move(keep)}, at_{format::frames_begin(header.size)}, written_{at_},
          mark_{header.first.before()} {}

    void start(std::uint64_t clock_ns, lsn durable) {
        mark_ = std::min(durable, header_.first.before());
        format::mark const m{.at = header_.first.before(),
                             .durable = mark_,
                             .clock_ns = clock_ns,
                             .segment = header_.id,
                             .first = header_.first,
                             .salt = header_.salt,
                             .branch = header_.branch,
                             .kind = format::mark_kind::start};
        append({.type = format::frame_type::mark, .flags = format::whole_batch}, m.at, format::encode(m));
    }
    void record(lsn at, format::frame_view const& frame, std::uint64_t) {
        // A scan gives records in LSN order, so each range is passed once.
        while (next_kept_ < keep_.size() && keep_[next_kept_].last < at) ++next_kept_;
        if (next_kept_ == keep_.size() || !keep_[next_kept_].contains(at)) return;
        bool const has_key = frame.header.type == format::frame_type::put ||
                             frame.header.type == format::frame_type::erase;
        if (has_key)
            keys_.add(as_text(frame.key()), at_, static_cast<std::uint32_t>(at.value - header_.first.value + 1));
        append(frame.header, at, frame.payload);
        last_ = at;
        ++count_;
    }
    void batch_end(bool) noexcept {}

    void losses(std::vector<lsn_range> const& declared) {
        auto const payload = format::encode_losses(declared);
        // The manifest has the losses, too. If the segment is full, this copy is left out.
        if (at_ + format::frame_bytes(payload.size()) > format::frames_limit(header_.size)) return;
        append({.type = format::frame_type::loss, .flags = format::whole_batch}, last(), payload);
    }
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

    [[nodiscard]] format::segment_seal seal() const {
        format::segment_seal s{
            .id = header_.id, .salt = header_.salt, .range = {header_.first, last()}, .count = count_, .data_end = at_};
        s.aggregate = aggregate_.value();
        s.chain = format::chain_value<C>(header_.previous.chain, s);
        return s;
    }
    /// Writes the buffered frames, zeros up to the footer, index and filter, the footer and both headers. Then it syncs.
    [[nodiscard]] result<void> finish() {
        auto const head = format::encode<C>(header_);
        put(0, head);
        flush();
        buffer_.assign(flush_bytes, std::byte{0});
        auto const end = format::footer_offset(header_.size);
        for (auto at = written_; at < end; at += flush_bytes)
            put(at, byte_view{buffer_}.first(static_cast<std::size_t>(std::min<std::uint64_t>(flush_bytes, end - at))));
        KEEL_TRY(status_);
        KEEL_TRY_LET(made, wal::write_sections<C>(file_, keys_, count_, header_.salt, at_, header_.size));
        sections_ = made;
        format::segment_footer foot{.seal = seal()};
        for (auto const& section : {made.index, made.filter})
            if (section) foot.sections[foot.section_count++] = *section;
        put(end, format::encode<C>(foot));
        put(format::second_header_offset(header_.size), head);
        KEEL_TRY(status_);
        return file_.sync();
    }
    /// Valid after finish().
    [[nodiscard]] wal::segment_sections const& sections() const noexcept { return sections_; }

private:
    static constexpr std::size_t flush_bytes = 256 * KiB;

    [[nodiscard]] lsn last() const noexcept { return last_ ? last_ : header_.first.before(); }
    void put(std::uint64_t offset, byte_view bytes) {
        if (status_ && !bytes.empty()) status_ = file_.write(offset, bytes);
    }
    void flush() {
        put(written_, buffer_);
        written_ += buffer_.size();
        buffer_.clear();
    }
    void append(format::frame_header h, lsn at, byte_view payload) {
        h.payload_bytes = static_cast<std::uint32_t>(payload.size());
        h.lsn_delta = static_cast<std::uint32_t>(at.value - header_.first.value + 1);
        h.mark_delta = at.value - mark_.value < format::mark_unknown
                           ? static_cast<std::uint32_t>(at.value - mark_.value)
                           : format::mark_unknown;
        auto const size = static_cast<std::size_t>(format::frame_bytes(payload.size()));
        auto const begin = buffer_.size();
        buffer_.resize(begin + size);
        auto* const frame = buffer_.data() + begin;
        std::ranges::copy(payload, frame + format::frame_header_bytes);
        format::finish_frame<C>(frame, {header_.salt, at_}, h);
        aggregate_.add(at_, format::load<std::uint64_t>(frame + 24));
        at_ += size;
        if (buffer_.size() >= flush_bytes) flush();
    }

    File& file_;
    format::segment_header header_;
    std::vector<lsn_range> keep_;
    std::size_t next_kept_ = 0;
    wal::index_builder keys_{};
    wal::segment_sections sections_{};
    std::uint64_t at_;
    std::uint64_t written_;
    lsn mark_;
    lsn last_{};
    std::uint64_t count_ = 0;
    std::vector<std::byte> buffer_{};
    result<void> status_{};
    format::aggregate_builder<C> aggregate_{};
};

} // namespace keel::inline v0::recovery::detail

#endif
