// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_HAND_OVER_HPP
#define KEEL_RECOVERY_HAND_OVER_HPP

// The result of recovery for readers and for the writer: the segment and the index of each counted LSN, the facts that the next header
// holds about the segment before it, and the bytes that the first write must make durable. Pure: touches no file.

#include <keel/format/chunk_index.hpp>
#include <keel/format/index.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/recovery/examine.hpp>
#include <keel/recovery/plan.hpp>
#include <keel/recovery/repair.hpp>
#include <keel/types.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/segment_index.hpp>
#include <keel/wal/writer.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// A segment with records that count, for the engine that serves them.
struct served_segment {
    wal::closed_segment what{};
    /// Number of the sink that received its records. Nothing if no sink did, or if the sink received the records of the replaced file.
    std::optional<std::size_t> scanned{};
    std::uint64_t rebuilt_records = 0; ///< records in a file that this opening wrote, with its index
};

namespace detail {

class hand_over {
public:
    /// `state`: the manifest's state after the repair. `built`: the segments that the repair built.
    hand_over(examination const& e, repair_plan const& plan, format::manifest_state const& state,
              std::vector<built_segment> const& built, wal::layout const& paths)
        : e_{e}, plan_{plan}, state_{state}, paths_{paths}, links_{links_of(e.stock.segments)},
          counted_(e.stock.segments.size()), stand_in_(e.stock.segments.size(), nullptr), built_{built} {
        for (auto const& c : plan.counted) counted_[c.segment].push_back(c.range);
        for (auto const& b : built) stand_in_[b.replaces] = &b;
    }

    /// Sets the facts that the next header holds about the segment before it, and lists the files that may hold
    /// bytes that are not on the disk yet.
    void link_to_newest(wal::writer_start& start) const {
        auto const& stock = e_.stock;
        start.previous = state_.log_base;
        for (std::size_t i = 0; i < stock.segments.size(); ++i) {
            auto const& s = stock.segments[i];
            if (!state_.segments.contains(s.entry.id) || !s.present) continue;
            bool const newest = i + 1 == stock.segments.size();
            bool const has_tail = !s.entry.seal && find_tail(start, i);
            // If no counted record is unproven, the counted records of the newest segment are on the disk already.
            bool const to_sync = !s.entry.seal && !has_tail && (!newest || start.last > start.durable);
            if (to_sync) start.unsynced.push_back(s.path);
            if (!newest) continue;
            if (s.entry.seal) {
                start.previous = format::link_of(*s.entry.seal, format::segment_end::rolled);
                continue;
            }
            start.previous = {.id = s.entry.id,
                              .salt = s.entry.salt,
                              .last = start.last,
                              .end = has_tail || to_sync ? kept_end(i) : proven_end(i),
                              .aggregate = e_.runs[i].aggregate,
                              .chain = s.header ? s.header->previous.chain : 0,
                              .ended = format::segment_end::crashed};
            start.previous_proven = proven_end(i);
            start.voids_needed = true;
        }
        link_to_built(start);
        if (plan_.back_from) start.voids_needed = true;
        // A missing file may come back. Its records must not count behind the records that are written from now on.
        if (!e_.found.unknown.empty()) start.voids_needed = true;
    }

    /// Lists the segment from which each counted LSN is read. A rebuilt segment takes the place of the segment that it replaced.
    void list_parts(wal::writer_start const& start, wal::catalog& parts, std::vector<served_segment>& served) const {
        for (std::size_t i = 0; i < e_.stock.segments.size(); ++i) {
            auto const& s = e_.stock.segments[i];
            auto const* entry = &s.entry;
            wal::catalog_part part{.id = s.entry.id,
                                   .place = s.entry.place,
                                   .path = s.path,
                                   .salt = s.entry.salt,
                                   .first = s.geometry.first,
                                   .begin = s.geometry.begin,
                                   .limit = s.geometry.limit,
                                   .counted = counted_[i]};
            if (stand_in_[i] != nullptr) {
                entry = &state_.segments.at(stand_in_[i]->id);
                part.id = entry->id;
                part.path = paths_.segment(entry->id);
                part.salt = entry->salt;
                part.limit = entry->seal ? entry->seal->data_end : format::frames_limit(entry->size);
            }
            if (!state_.segments.contains(part.id)) continue;
            part.sealed = entry->seal.has_value();
            if (entry->seal) part.link = format::link_of(*entry->seal, format::segment_end::rolled);
            else if (auto const next = links_.find(part.id); next != links_.end()) part.link = next->second;
            else if (part.id == start.previous.id) part.link = start.previous;
            if (!part.counted.empty()) serve(served, i, part, entry->size);
            parts.add(std::move(part));
        }
    }

private:
    void link_to_built(wal::writer_start& start) const {
        for (auto const& b : built_) {
            auto const& entry = state_.segments.at(b.id);
            if (entry.place != e_.stock.segments.back().entry.place || !entry.seal) continue;
            start.previous = {.id = b.id,
                              .salt = entry.salt,
                              .last = start.last,
                              .end = entry.seal->data_end,
                              .aggregate = entry.seal->aggregate,
                              .chain = entry.seal->chain,
                              .ended = format::segment_end::repaired};
            start.voids_needed = true;
        }
    }
    /// Adds segment `i` to `start.tails` if it holds counted records that nothing proves durable and that can be
    /// written again. Returns whether it did.
    [[nodiscard]] bool find_tail(wal::writer_start& start, std::size_t i) const {
        auto const& s = e_.stock.segments[i];
        if (start.last <= start.durable || !plan_.segments.empty()) return false;
        if (start.last.value - start.durable.value > format::mark_unknown / 2) return false; // LSN deltas have 32 bits
        wal::unproven_tail tail{.id = s.entry.id,
                                .path = s.path,
                                .salt = s.entry.salt,
                                .first = s.geometry.first,
                                .proven = std::min(start.durable, e_.found.proven[i]),
                                .begin = s.geometry.begin,
                                .end = kept_end(i)};
        for (auto const& r : counted_[i])
            if (r.last > start.durable) tail.counted.push_back(r);
        if (tail.counted.empty()) return false;
        start.tails.push_back(std::move(tail));
        return true;
    }
    /// Offset behind the last whole batch of segment `i` up to `last`.
    [[nodiscard]] std::uint64_t batches_end(std::size_t i, lsn last) const {
        auto end = e_.stock.segments[i].geometry.begin;
        for (auto const& e : e_.runs[i].extents)
            if (e.range.last <= last) end = std::max(end, e.end);
        return end;
    }
    /// Offset behind the last proven batch of segment `i`. A power loss may still take the bytes behind it, marks included.
    [[nodiscard]] std::uint64_t proven_end(std::size_t i) const {
        return batches_end(i, std::min(plan_.end, e_.found.proven[i]));
    }
    /// Offset behind the last frame of segment `i` that stays: a counted record, or a valid mark if no record was cut.
    [[nodiscard]] std::uint64_t kept_end(std::size_t i) const {
        auto const& run = e_.runs[i];
        auto const end = batches_end(i, plan_.end);
        return run.last <= plan_.end ? std::max(run.data_end, end) : end;
    }

    /// A chunk with an index in the log is served by that index. The rest of the segment is served by the index that sealing or a repair
    /// wrote, or else by the keys that the scan found. `bytes`: size of the file.
    void serve(std::vector<served_segment>& served, std::size_t i, wal::catalog_part part, std::uint64_t bytes) const {
        auto const& s = e_.stock.segments[i];
        if (stand_in_[i] != nullptr) return serve_built(served, *stand_in_[i], part, bytes);
        std::size_t next = 0; // number of the next counted range; ranges and chunks are both in LSN order
        for (auto const& c : s.chunks) {
            auto chunk = part;
            chunk.begin = c.begin;
            chunk.limit = c.end;
            chunk.counted = take_up_to(part.counted, next, s.lsn_of(c.last));
            part.begin = c.end;
            if (!chunk.counted.empty()) served.push_back({.what = chunk_of(chunk, bytes, c)});
        }
        part.counted.erase(part.counted.begin(), part.counted.begin() + static_cast<std::ptrdiff_t>(next));
        if (part.counted.empty()) return;
        served_segment one{.what = closed(part, bytes)};
        if (s.mounted) {
            one.what.records = s.entry.seal->count;
            one.what.index = s.footer->section(static_cast<std::uint32_t>(format::section_type::index));
            one.what.filter = filter_of(s);
        } else {
            one.scanned = i;
        }
        served.push_back(std::move(one));
    }
    static void serve_built(std::vector<served_segment>& served, built_segment const& b, wal::catalog_part const& part,
                            std::uint64_t bytes) {
        served_segment one{.what = closed(part, bytes)};
        if (b.sections.index) {
            one.what.records = b.records;
            one.what.index = b.sections.index;
            one.what.filter = b.sections.filter;
            one.rebuilt_records = b.records;
        }
        served.push_back(std::move(one));
    }
    /// Takes the ranges up to `last`, from number `next` on, and moves `next` behind them. A range that
    /// reaches beyond `last` is cut in two.
    [[nodiscard]] static std::vector<lsn_range> take_up_to(std::vector<lsn_range>& ranges, std::size_t& next,
                                                           lsn last) {
        std::vector<lsn_range> out;
        for (; next < ranges.size() && ranges[next].first <= last; ++next) {
            out.push_back({ranges[next].first, std::min(ranges[next].last, last)});
            if (ranges[next].last <= last) continue;
            ranges[next].first = last.next();
            break;
        }
        return out;
    }
    /// The filter, if it has the shape that this library writes. Without a filter look-ups still work, so another shape is no error.
    [[nodiscard]] static std::optional<format::segment_section> filter_of(found_segment const& s) {
        auto const filter = s.footer->section(static_cast<std::uint32_t>(format::section_type::filter));
        format::filter_shape const shape{format::block_bytes(s.entry.size), s.entry.seal->count};
        bool const usable = filter && filter->length == shape.bytes() && filter->length != 0 && filter->argument != 0 &&
                            filter->argument <= 32 && filter->offset >= s.entry.seal->data_end &&
                            std::uint64_t{filter->offset} + filter->length <= format::footer_offset(s.entry.size);
        return usable ? filter : std::nullopt;
    }
    /// A chunk as a segment of its own, served by the index frame behind it in the log.
    [[nodiscard]] static wal::closed_segment chunk_of(wal::catalog_part const& part, std::uint64_t bytes,
                                                      format::indexed_chunk const& c) {
        auto out = closed(part, bytes);
        out.records = c.records;
        out.index = {
            .type = static_cast<std::uint32_t>(format::section_type::index),
            .offset = c.blocks,
            .length = static_cast<std::uint32_t>(format::index_shape{format::block_bytes(bytes), c.records}.bytes()),
            .check = c.check,
            .argument = c.shared};
        return out;
    }
    [[nodiscard]] static wal::closed_segment closed(wal::catalog_part const& part, std::uint64_t bytes) {
        return {.id = part.id,
                .path = part.path,
                .salt = part.salt,
                .first = part.first,
                .begin = part.begin,
                .end = part.limit,
                .segment_bytes = bytes,
                .counted = part.counted};
    }

    examination const& e_;
    repair_plan const& plan_;
    format::manifest_state const& state_;
    wal::layout const& paths_;
    segment_links links_;
    std::vector<std::vector<lsn_range>> counted_; ///< per segment
    std::vector<built_segment const*> stand_in_;  ///< per segment
    std::vector<built_segment> const& built_;
};

} // namespace detail

} // namespace keel::inline v0::recovery

#endif
