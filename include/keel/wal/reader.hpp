// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_READER_HPP
#define KEEL_WAL_READER_HPP

// Reads the log record by record in LSN order, across segments, while a writer runs. Every record is verified before it is returned. One
// thread per reader. The reader pins the segment that it reads, so retention cannot recycle that file.

#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/log_record.hpp>
#include <keel/wal/window.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace keel::inline v0::wal {

template <checksum_policy C, class Fs>
class reader {
public:
    reader(Fs fs, catalog const& parts, lsn from)
        : fs_{std::move(fs)}, catalog_{&parts}, next_{from.value == 0 ? lsn{1} : from} {}

    /// Returns the next record at or below `visible`, or nothing if there is none yet. Declared losses are skipped. Errors: corruption
    /// (with file and offset); io_error; not_found, if retention has given up the records.
    [[nodiscard]] result<std::optional<log_record>> next(lsn visible) {
        if (next_ > visible) return std::optional<log_record>{};
        auto const target = catalog_->next_counted(next_);
        if (!target || target > visible) return std::optional<log_record>{};
        next_ = target;
        KEEL_TRY(stand_at(next_));
        KEEL_TRY_LET(found, walk_to(next_));
        next_ = next_.next();
        return std::optional<log_record>{found};
    }
    /// The LSN that the next call of next() looks for.
    [[nodiscard]] lsn position() const noexcept { return next_; }

private:
    /// Moves to the part that has this LSN: to its first frame, or, in the same part, to the old position.
    result<void> stand_at(lsn at) {
        auto part = catalog_->find(at);
        if (!part) return failure(errc::not_found, "LSN " + std::to_string(at.value) + " is no longer in the log");
        if (part_ && part_->id == part->id && at > last_) {
            part_ = std::move(part);
            return {};
        }
        auto file = fs_.open(part->path, io::access::read_only, io::creation::must_exist);
        if (!file) return failure(std::move(file).error());
        window_.reset();
        file_ = std::make_unique<typename Fs::file>(std::move(*file));
        part_ = std::move(part);
        KEEL_TRY_LET(status, file_->status());
        end_ = std::min(format::frames_limit(status.size), status.size);
        window_.emplace(*file_, end_);
        offset_ = part_->begin;
        last_ = {};
        return {};
    }

    result<log_record> walk_to(lsn at) {
        while (offset_ + format::frame_header_bytes <= end_) {
            auto seen = look();
            if (seen.state != format::frame_state::intact) {
                window_->forget(); // the window may hold bytes from before the writer wrote here
                seen = look();
            }
            if (seen.state != format::frame_state::intact) {
                // Damage that recovery has already judged may lie between records that count. Go on at the next tag.
                auto const next = find_tag(*window_, static_cast<std::uint32_t>(part_->salt),
                                           offset_ + format::frame_alignment, end_);
                if (next >= end_) break;
                offset_ = next;
                continue;
            }
            auto const frame_at = offset_;
            offset_ += seen.bytes();
            if (!format::takes_lsn(seen.header.type)) continue;
            last_ = lsn{part_->first.value - 1 + seen.header.lsn_delta};
            if (last_ < at) continue;
            if (last_ > at) return missing(at, frame_at);
            return log_record{.at = at,
                              .type = seen.header.type,
                              .begins_batch = seen.header.begins(),
                              .ends_batch = seen.header.ends(),
                              .key = seen.key(),
                              .value = seen.value()};
        }
        return missing(at, offset_);
    }

    [[nodiscard]] format::frame_view look() {
        format::frame_place const place{part_->salt, offset_};
        auto const room = end_ - offset_;
        auto const head = window_->at(offset_, format::frame_header_bytes);
        auto const peek = format::peek_frame(head.data(), place, room);
        if (peek.state != format::frame_state::intact) return peek;
        return format::read_frame<C>(window_->at(offset_, static_cast<std::size_t>(peek.bytes())), place);
    }

    result<log_record> missing(lsn at, std::uint64_t offset) {
        error e{.code = errc::corruption,
                .message = "the record does not verify any more; open the store again, or run wal-recovery validate",
                .file = part_->path,
                .offset = offset,
                .at = at};
        part_.reset();
        return failure(std::move(e));
    }

    Fs fs_;
    catalog const* catalog_;
    lsn next_;
    lsn last_{}; ///< LSN of the last record that was passed in this part
    std::shared_ptr<catalog_part const> part_{};
    std::unique_ptr<typename Fs::file> file_{};
    std::optional<window<typename Fs::file>> window_{};
    std::uint64_t offset_ = 0;
    std::uint64_t end_ = 0;
};

} // namespace keel::inline v0::wal

#endif
