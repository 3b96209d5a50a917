// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_COUNTED_RECORDS_HPP
#define KEEL_TOOL_DETAIL_COUNTED_RECORDS_HPP

// Reads the records of a log that count, in LSN order, and verifies them again. Memory: one window for each segment whose LSNs overlap
// others.

#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/text.hpp>
#include <keel/io/concept.hpp>
#include <keel/recovery/examine.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

namespace keel::inline v0::tool::detail {

/// Reads one segment forward by the rules of the scan: it steps over a record whose header is believed, and LSNs only increase.
template <checksum_policy C, class File>
class segment_walk {
public:
    segment_walk(File file, recovery::segment_geometry const& geometry, std::uint64_t from)
        : file_{std::make_unique<File>(std::move(file))}, geo_{geometry}, in_{*file_, geometry.limit}, offset_{from} {}

    /// The record with this LSN. Precondition: the LSN is larger than that of every earlier call. The views are valid until the next call.
    [[nodiscard]] result<format::record_view> next(lsn at) {
        while (offset_ + format::frame_header_bytes <= geo_.limit) {
            auto const seen = look();
            if (seen.state == format::frame_state::absent || seen.state == format::frame_state::broken) {
                offset_ = wal::find_tag(in_, static_cast<std::uint32_t>(geo_.salt), offset_ + format::frame_alignment,
                                        geo_.limit);
                continue;
            }
            auto const here = lsn{geo_.first.value - 1 + seen.header.lsn_delta};
            bool const ours = seen.state == format::frame_state::intact && format::takes_lsn(seen.header.type);
            if (ours && here > at) break;
            offset_ += seen.bytes();
            if (ours && here == at)
                return format::record_view{at, seen.header.type, seen.header.flags, seen.key(), seen.value()};
        }
        error why{.code = errc::corruption,
                  .message = "the record did verify and does not any more; validate the store",
                  .file = file_->path()};
        why.offset = offset_;
        why.at = at;
        return failure(std::move(why));
    }

private:
    [[nodiscard]] format::frame_view look() {
        format::frame_place const place{geo_.salt, offset_};
        auto const head = in_.at(offset_, format::frame_header_bytes);
        auto const peek = format::peek_frame(head.data(), place, geo_.limit - offset_);
        if (peek.state != format::frame_state::intact) return peek;
        return format::read_frame<C>(in_.at(offset_, static_cast<std::size_t>(peek.bytes())), place);
    }

    std::unique_ptr<File> file_; // in_ refers to it
    recovery::segment_geometry geo_;
    wal::window<File> in_;
    std::uint64_t offset_;
};

/// The records that count, in LSN order.
template <checksum_policy C, class Fs>
class counted_records {
public:
    counted_records(Fs fs, recovery::examination const& exam, lsn from) : fs_{std::move(fs)}, exam_{exam}, from_{from} {
        for (auto const& c : exam.found.counted) {
            auto& last = last_of_[c.segment];
            last = std::max(last, c.range.last);
        }
    }

    /// Calls to(record) for each record until it returns false.
    template <class F>
    [[nodiscard]] result<void> each(F const& to) {
        for (auto const& c : exam_.found.counted) {
            if (c.range.last < from_) continue;
            for (auto at = std::max(c.range.first, from_); at <= c.range.last; at = at.next()) {
                KEEL_TRY_LET(walk, walk_in(c.segment, at));
                KEEL_TRY_LET(found, walk->next(at));
                if (!to(found)) return {};
            }
            if (c.range.last == last_of_[c.segment]) walks_.erase(c.segment);
        }
        return {};
    }

private:
    using walk_type = segment_walk<C, typename Fs::file>;

    result<walk_type*> walk_in(std::size_t segment, lsn at) {
        if (auto const known = walks_.find(segment); known != walks_.end()) return &known->second;
        auto const& s = exam_.stock.segments[segment];
        KEEL_TRY_LET(file, fs_.open(s.path, io::access::read_only, io::creation::must_exist));
        auto const& extents = exam_.runs[segment].extents;
        auto const extent = std::ranges::lower_bound(extents, at, {},
                                                     [](recovery::extent const& e) { return e.range.last; });
        auto const begin = extent == extents.end() ? s.geometry.begin : extent->begin;
        return &walks_.emplace(segment, walk_type{std::move(file), s.geometry, begin}).first->second;
    }

    Fs fs_;
    recovery::examination const& exam_;
    lsn from_;
    std::map<std::size_t, lsn> last_of_{};
    std::map<std::size_t, walk_type> walks_{};
};

} // namespace keel::inline v0::tool::detail

#endif
