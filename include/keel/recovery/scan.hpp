// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_SCAN_HPP
#define KEEL_RECOVERY_SCAN_HPP

// Bytes -> run. A scan reads one segment file once, front to back. Its result is a run: the extents of whole batches, the bytes that do
// not verify, the largest durable mark. A scan uses no other segment, so segments are scanned in parallel. classify.hpp decides
// afterwards which LSNs of a run count.
//
// After a bad frame the scan continues at the next place with the tag of this life and a header that verifies. So one bad
// length field hides nothing behind it. The work is linear on any input: the scan steps over a frame whose header verifies,
// and searches all other bytes once.

#include <keel/format/frame.hpp>
#include <keel/format/mark.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <limits>
#include <optional>
#include <stop_token>
#include <vector>

namespace keel::inline v0::recovery {

/// Whole batches whose LSNs follow each other without a gap.
struct extent {
    lsn_range range{};
    std::uint64_t begin = 0; ///< offset of the first frame
    std::uint64_t end = 0;   ///< offset behind the last frame
};

/// The facts that a scan needs before the first frame. They come from a header, the manifest or a mark frame.
struct segment_geometry {
    segment_id id{};
    std::uint64_t salt = 0;
    lsn first{};
    std::uint64_t begin = 0; ///< offset of the first frame
    std::uint64_t limit = 0; ///< frames end here at the latest
    /// From this boot's notes: no acknowledged frame lies behind it.
    std::uint64_t known_end = std::numeric_limits<std::uint64_t>::max();
    std::optional<extent> indexed{}; ///< batches that indexes in the log stand in for: they are not read
};

/// Bytes that are not as they were written.
struct bad_bytes {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    /// Exact if the header verifies. Otherwise the gap between the neighbouring records; if none follows, the last LSN is lsn_max.
    lsn_range lsns{};
    lsn after{};                ///< the last LSN taken before these bytes
    bool exact = false;         ///< the frame's own header gave the LSN
    bool is_data = true;        ///< false: a header that verifies says that the frame takes no LSN (a mark, ...)
    bool unreadable = false;    ///< the machine could not read some of the bytes
    std::uint64_t expected = 0; ///< if `exact`: the check in the header
    std::uint64_t found = 0;    ///< if `exact`: the check of the bytes
};

struct segment_run {
    std::vector<extent> extents{};
    std::vector<bad_bytes> bad{};
    std::vector<extent> broken_batches{};        ///< valid records whose batch is not whole
    std::vector<wal::byte_range> unreadable{};   ///< the machine could not read these
    std::vector<lsn_range> losses{};             ///< declared by loss frames
    std::vector<wal::byte_range> bad_sections{}; ///< blocks of index or filter that do not verify (verify = deep only)
    lsn marked{};                                ///< the largest durable mark in any valid frame
    lsn last{};                                  ///< LSN of the last valid data frame, whole batch or not
    std::uint64_t records = 0;                   ///< in whole batches
    std::uint64_t frames = 0;                    ///< valid frames of any type
    std::uint64_t bytes = 0;                     ///< of valid frames
    std::uint64_t data_end = 0;                  ///< behind the last valid frame
    std::uint64_t tag_end = 0;                   ///< behind the last tag or frame of this life
    std::uint64_t aggregate = 0;                 ///< over all valid frames; 0: unknown, an index stands in for some
    std::uint64_t first_time_ns = 0;
    std::uint64_t last_time_ns = 0;
    std::uint64_t transient = 0; ///< mismatches that were gone in a second read
    bool closed = false;         ///< the last valid frame is the mark of an orderly close
    bool cancelled = false;
};

/// Receives the verified records of one segment.
///   s.record(at, frame, offset)  for each data frame that verifies, in LSN order. `offset`: of the frame in the file.
///                                The views in `frame` are valid during the call only
///   s.batch_end(whole)           behind the last record of a batch. False: the batch is not whole, and the records since
///                                the last batch_end() do not count
/// One thread per object. A scan lets exceptions of the sink pass. Smallest model: no_sink.
template <class S>
concept scan_sink = requires(S s, lsn at, format::frame_view const& frame, std::uint64_t offset, bool whole) {
    s.record(at, frame, offset);
    s.batch_end(whole);
};

struct no_sink {
    void record(lsn, format::frame_view const&, std::uint64_t) noexcept {}
    void batch_end(bool) noexcept {}
};

namespace detail {

/// The state of one scan. run() is the loop, the other functions are its steps.
template <checksum_policy C, class File, scan_sink Sink>
class segment_scan {
public:
    segment_scan(File const& file, segment_geometry const& geometry, Sink& sink, std::stop_token cancel,
                 std::atomic<std::uint64_t>* bytes_done)
        : in_{file, geometry.limit, window_for(geometry)}, geo_{geometry}, sink_{sink}, cancel_{std::move(cancel)},
          bytes_done_{bytes_done} {}

    [[nodiscard]] segment_run run() {
        std::uint64_t offset = geo_.begin;
        if (geo_.indexed) offset = stand_in(*geo_.indexed);
        out_.data_end = out_.tag_end = offset;
        std::uint64_t reported = offset;
        while (offset + format::frame_header_bytes <= geo_.limit) {
            offset = step(offset);
            if (offset - reported >= progress_step) {
                if (bytes_done_ != nullptr) bytes_done_->fetch_add(offset - reported, std::memory_order_relaxed);
                reported = offset;
                if (cancel_.stop_requested()) {
                    out_.cancelled = true;
                    break;
                }
            }
        }
        close_batch(false);
        close_gap(lsn_max);
        note_unreadable();
        out_.aggregate = geo_.indexed ? 0 : aggregate_.value();
        return std::move(out_);
    }

private:
    static constexpr std::uint64_t progress_step = 1 * MiB;
    static constexpr unsigned rereads_max = 64;

    /// If only a few bytes are left to read, the window is small: memory for a large one would cost as much time as reading.
    [[nodiscard]] static std::size_t window_for(segment_geometry const& g) noexcept {
        constexpr std::uint64_t least = 16 * KiB;
        constexpr std::uint64_t most = wal::window<File>::default_bytes;
        auto const begin = g.indexed ? g.indexed->end : g.begin;
        if (g.known_end > g.limit || g.known_end <= begin) return most;
        return static_cast<std::size_t>(std::clamp(g.known_end - begin + format::frame_header_bytes, least, most));
    }

    [[nodiscard]] format::frame_place place(std::uint64_t offset) const noexcept { return {geo_.salt, offset}; }
    [[nodiscard]] lsn lsn_of(format::frame_header const& h) const noexcept {
        return {geo_.first.value - 1 + h.lsn_delta};
    }

    /// Takes the batches that an index stands in for, without reading them. Returns the offset at which to continue.
    std::uint64_t stand_in(extent const& known) {
        out_.extents.push_back(known);
        out_.records += known.range.size();
        out_.last = known.range.last;
        return known.end;
    }

    /// Handles the bytes at `offset`. Returns the offset at which to continue; the limit ends the scan.
    std::uint64_t step(std::uint64_t offset) {
        auto seen = look(offset);
        if (seen.state == format::frame_state::damaged || seen.state == format::frame_state::broken)
            seen = reread_uncached(seen, offset);
        switch (seen.state) {
        case format::frame_state::intact:
            if (!accept(seen, offset)) break;
            return offset + seen.bytes();
        case format::frame_state::damaged: note_damaged(seen, offset); return offset + seen.bytes();
        case format::frame_state::broken: trace(offset + format::frame_header_bytes); break;
        case format::frame_state::absent: break;
        }
        return skip_to_next(offset);
    }

    [[nodiscard]] format::frame_view look(std::uint64_t offset) {
        auto const room = geo_.limit - offset;
        auto const head = in_.at(offset, format::frame_header_bytes);
        auto const peek = format::peek_frame(head.data(), place(offset), room);
        if (peek.state != format::frame_state::intact) return peek;
        return format::read_frame<C>(in_.at(offset, static_cast<std::size_t>(peek.bytes())), place(offset));
    }

    // A mismatch is read again, past the page cache, before it is believed. The number of rereads is limited, for
    // a medium that is bad everywhere.
    [[nodiscard]] format::frame_view reread_uncached(format::frame_view const& seen, std::uint64_t offset) {
        if (rereads_ == rereads_max) return seen;
        ++rereads_;
        bool const header_holds = seen.state == format::frame_state::damaged;
        auto const length = header_holds ? seen.bytes() : format::frame_header_bytes;
        if (!in_.reread(offset, static_cast<std::size_t>(length))) return seen;
        auto const again = look(offset);
        if (again.state == format::frame_state::intact) ++out_.transient;
        return again;
    }

    /// Searches the next header that verifies and notes the bytes before it as bad. If there is none, the run ends here.
    std::uint64_t skip_to_next(std::uint64_t offset) {
        auto const search_end = geo_.known_end < geo_.limit ? std::max(geo_.known_end, offset) : geo_.limit;
        for (auto next = offset + format::frame_alignment;; next += format::frame_alignment) {
            next = wal::find_tag(in_, static_cast<std::uint32_t>(geo_.salt), next, search_end);
            if (next + format::frame_header_bytes > search_end) {
                if (next < search_end) trace(next + 8);
                if (out_.tag_end > offset) note_bad(offset, out_.tag_end - offset);
                return geo_.limit;
            }
            auto const head = in_.at(next, format::frame_header_bytes);
            auto const peek = format::peek_frame(head.data(), place(next), geo_.limit - next);
            if (peek.state == format::frame_state::intact && plausible(peek.header)) {
                auto const again = reread_uncached({}, offset);
                if (again.state == format::frame_state::intact && plausible(again.header)) return offset;
                note_bad(offset, next - offset);
                return next;
            }
            trace(next + 8);
        }
    }

    // Behind damage a header must also fit the LSN order. Otherwise it is not believed.
    [[nodiscard]] bool plausible(format::frame_header const& h) const noexcept {
        if (!format::takes_lsn(h.type)) return true;
        return lsn_of(h) > out_.last && h.lsn_delta != 0 && lsn_of(h) <= lsn_highest;
    }

    void trace(std::uint64_t end) noexcept { out_.tag_end = std::max(out_.tag_end, std::min(end, geo_.limit)); }

    bool accept(format::frame_view const& seen, std::uint64_t offset) {
        if (!plausible(seen.header)) return false;
        ++out_.frames;
        out_.bytes += seen.bytes();
        out_.data_end = offset + seen.bytes();
        trace(out_.data_end);
        aggregate_.add(offset, seen.check);
        out_.closed = false;
        auto const at = lsn_of(seen.header);
        if (seen.header.mark_delta != format::mark_unknown && seen.header.mark_delta <= at.value)
            raise_mark({at.value - seen.header.mark_delta});
        if (format::takes_lsn(seen.header.type)) accept_record(seen, at, offset);
        else accept_other(seen);
        return true;
    }

    void raise_mark(lsn to) noexcept { out_.marked = std::max(out_.marked, to); }

    void accept_record(format::frame_view const& seen, lsn at, std::uint64_t offset) {
        close_gap(at);
        bool const follows = in_batch_ && at == batch_.range.last.next() && !seen.header.begins();
        if (!follows) {
            close_batch(false);
            if (!seen.header.begins()) broken_ = true; // the begin of the batch is lost, so the batch is not whole
            else broken_ = false;
            in_batch_ = true;
            batch_ = {.range = {at, at}, .begin = offset, .end = offset};
        }
        batch_.range.last = at;
        batch_.end = offset + seen.bytes();
        out_.last = at;
        sink_.record(at, seen, offset);
        if (seen.header.ends()) close_batch(!broken_);
    }

    void close_batch(bool whole) {
        if (!in_batch_) return;
        in_batch_ = broken_ = false;
        sink_.batch_end(whole);
        if (!whole) {
            out_.broken_batches.push_back(batch_);
            return;
        }
        out_.records += batch_.range.size();
        if (!out_.extents.empty() && out_.extents.back().range.last.next() == batch_.range.first) {
            out_.extents.back().range.last = batch_.range.last;
            out_.extents.back().end = batch_.end;
        } else {
            out_.extents.push_back(batch_);
        }
    }

    void accept_other(format::frame_view const& seen) {
        if (seen.header.type == format::frame_type::mark) {
            auto const m = format::decode_mark(seen.payload);
            if (!m || m->salt != geo_.salt) return;
            raise_mark(m->durable);
            if (out_.first_time_ns == 0) out_.first_time_ns = m->clock_ns;
            out_.last_time_ns = m->clock_ns;
            out_.closed = m->kind == format::mark_kind::close;
        } else if (seen.header.type == format::frame_type::loss) {
            if (auto const losses = format::decode_losses(seen.payload))
                out_.losses.insert(out_.losses.end(), losses->begin(), losses->end());
        }
    }

    void note_damaged(format::frame_view const& seen, std::uint64_t offset) {
        trace(offset + seen.bytes());
        bool const data = format::takes_lsn(seen.header.type);
        auto const at = lsn_of(seen.header);
        if (data && plausible(seen.header)) {
            close_batch(false);
            close_gap(at);
        }
        auto const padded = static_cast<std::size_t>(seen.bytes() - format::frame_header_bytes);
        auto const bytes = in_.at(offset, static_cast<std::size_t>(seen.bytes()));
        out_.bad.push_back({.offset = offset,
                            .length = seen.bytes(),
                            .lsns = data ? lsn_range{at, at} : lsn_range{},
                            .after = data ? out_.last : at,
                            .exact = true,
                            .is_data = data,
                            .expected = seen.check,
                            .found = format::frame_check<C>(place(offset), bytes.data(), padded)});
        if (data) out_.last = std::max(out_.last, at);
    }

    // The LSNs of such bytes are the gap between the records before and behind them. They are known once the next record is found.
    void note_bad(std::uint64_t offset, std::uint64_t length) {
        close_batch(false);
        auto const after = out_.last.value == 0 ? geo_.first.before() : out_.last;
        out_.bad.push_back({.offset = offset, .length = length, .lsns = {after.next(), lsn_max}, .after = after});
        gap_open_ = true;
    }
    void close_gap(lsn next) {
        if (!gap_open_) return;
        gap_open_ = false;
        for (auto b = out_.bad.rbegin(); b != out_.bad.rend() && !b->exact && b->lsns.last == lsn_max; ++b)
            b->lsns.last = next == lsn_max ? lsn_max : next.before();
    }
    /// Marks the bad bytes that could not be read. Both lists are in file order and without overlaps, so one pass over both is enough.
    void note_unreadable() {
        out_.unreadable = in_.unreadable();
        auto next = out_.unreadable.cbegin();
        for (auto& b : out_.bad) {
            while (next != out_.unreadable.cend() && next->offset + next->length <= b.offset) ++next;
            if (next == out_.unreadable.cend()) return;
            b.unreadable = next->offset < b.offset + b.length;
        }
    }

    wal::window<File> in_;
    segment_geometry geo_;
    Sink& sink_;
    std::stop_token cancel_;
    std::atomic<std::uint64_t>* bytes_done_;
    segment_run out_{};
    format::aggregate_builder<C> aggregate_{};
    extent batch_{};
    bool in_batch_ = false;
    bool broken_ = false;
    bool gap_open_ = false;
    unsigned rereads_ = 0;
};

} // namespace detail

/// Scans the frames of one segment. `bytes_done` (optional) is raised while the scan runs. After a stop request the run is
/// incomplete and has `cancelled` set.
template <checksum_policy C, class File, scan_sink Sink>
[[nodiscard]] segment_run scan_segment(File const& file, segment_geometry const& geometry, Sink& sink,
                                       std::stop_token cancel = {}, std::atomic<std::uint64_t>* bytes_done = nullptr) {
    return detail::segment_scan<C, File, Sink>{file, geometry, sink, std::move(cancel), bytes_done}.run();
}

} // namespace keel::inline v0::recovery

#endif
