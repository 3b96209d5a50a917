// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_FAIL_OVER_HPP
#define KEEL_WAL_FAIL_OVER_HPP

// After a failed write or sync the active segment is abandoned: it is never written, synced or sealed again. All records from the first
// batch that shares a block with durable bytes are encoded again into a fresh segment and synced there. Only then are they acknowledged. If
// that fails too, writing stops until resume(), and waiting callers get outcome_unknown.
//
// On the written path the records are still in memory. On the mapped path that memory is the page cache. A failed sync marks the page cache
// clean and may drop it. So there the records are read back, and only records that verify are used. Accepted LSNs that can no longer be
// read are declared lost in the manifest. The declaration is durable before any later record is acknowledged.
//
// The fail-over may fail as well, for example because memory or descriptors are refused. Then writing has stopped and nothing else has
// changed.

#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/observe/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/activation.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/write_state.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// Frames of a segment that takes no more frames.
struct old_frames {
    segment_id id{};
    lsn first{}; ///< first LSN of the segment; LSN deltas count from it
    frame_group frames{};
};

/// Adds a copy of batch `b`, which is in `from`, to `to`.
inline void append_batch(frame_group& to, frame_group const& from, placed_batch const& b) {
    if (to.empty()) to.offset = b.begin;
    auto const bytes = byte_view{from.bytes}.subspan(static_cast<std::size_t>(b.begin - from.offset),
                                                     static_cast<std::size_t>(b.end - b.begin));
    to.batches.push_back(b);
    to.bytes.insert(to.bytes.end(), bytes.begin(), bytes.end());
}

/// Finds the whole batches in bytes that were read from a segment, and adds them to `in.batches`. A frame that does not verify is skipped,
/// and so is its batch.
template <checksum_policy C>
void find_batches(frame_group& in, std::uint64_t salt, lsn first) {
    std::optional<placed_batch> batch;
    for (std::size_t at = 0; at + format::frame_header_bytes <= in.bytes.size();) {
        auto const offset = in.offset + at;
        auto const seen = format::read_frame<C>(byte_view{in.bytes}.subspan(at), {salt, offset});
        if (seen.state != format::frame_state::intact) {
            batch.reset();
            at += seen.state == format::frame_state::damaged ? static_cast<std::size_t>(seen.bytes())
                                                             : format::frame_alignment;
            continue;
        }
        at += static_cast<std::size_t>(seen.bytes());
        if (!format::takes_lsn(seen.header.type)) continue;
        lsn const here{first.value - 1 + seen.header.lsn_delta};
        if (seen.header.begins()) batch = placed_batch{.begin = offset, .end = 0, .range = {here, here}};
        if (!batch) continue;
        batch->range.last = here;
        batch->end = offset + seen.bytes();
        if (seen.header.ends()) in.batches.push_back(*batch);
    }
}

template <class State>
class fail_over {
public:
    using segment_type = typename State::segment_type;
    using C = typename State::C;
    using leader = typename State::leader;
    static constexpr bool mapped = State::mapped;

    explicit fail_over(State& s) noexcept : s_{s} {}

    /// Abandons the active segment because of `why`. Writes to a fresh segment all records that are not durable, and the records that share
    /// a block with them. Errors: writing has stopped, and no waiting caller can be told that its records are safe.
    result<void> abandon(leader& lead, error const& why) noexcept {
        auto old = std::move(s_.active);
        s_.store_failed.reset();
        s_.events.template push<observe::segment_abandoned>([&] { return observe::segment_abandoned{old->id(), why}; });
        // First of all: if this process dies now, the next opening must not take these bytes for accepted records.
        s_.accepted = s_.durable;
        s_.note();
        std::string lost;
        auto saved = keel::detail::guarded([&] { return write_elsewhere(lead, *old, lost); });
        s_.in_flight.reset(0);
        if (saved) {
            s_.health.add_condition(state_cause::device, s_.health.short_of([&] {
                return "a segment was given up after: " + to_string(why) + lost;
            }));
            return {};
        }
        // The second attempt failed too. Durable records stay, no more records are taken, and the state that resume() needs is kept.
        s_.active = std::move(old);
        s_.pending.reset(0);
        s_.sink.unstage(0);
        ++s_.epoch;
        s_.durable_at_failure = s_.durable;
        s_.next = s_.visible().next();
        s_.health.stop_writing(cause_of(why), s_.health.short_of([&] {
            return to_string(why) +
                   "; then, while its records were written to another segment: " + to_string(saved.error());
        }));
        return saved;
    }

    /// For resume(). Writes all records that readers see and that are not safe yet to a fresh segment. Its header makes all LSNs above them
    /// void. On the written path these are the durable records of the last block. On the mapped path they also include accepted records
    /// that still verify. After an error nothing has changed.
    result<void> restart_after_visible(leader& lead) {
        s_.pending.reset(mapped ? s_.active->end() : 0);
        s_.in_flight.reset(0);
        s_.sink.unstage(0);
        auto const upto = s_.visible();
        auto old = std::move(s_.active);
        std::string lost;
        auto done = keel::detail::guarded([&]() -> result<void> {
            auto part = unsafe_part(*old, upto);
            KEEL_TRY(close_gaps(part, lost));
            return rewrite_abandoned(lead, *old, std::move(part), upto.next());
        });
        if (!done) s_.active = std::move(old);
        return done;
    }

    /// Writes these records to a fresh segment under the same LSNs and acknowledges them there. `link`: the link to the segment before; all
    /// records after `link.last` are in `parts`. `void_from`: this LSN and all above it are taken again; lsn{}: none. `says`: the
    /// `void_from` that the header stores. After an error or an exception nothing has changed.
    result<void> rewrite(leader& lead, format::segment_link const& link, std::vector<old_frames> const& parts,
                         lsn void_from, lsn says) {
        auto const was_durable = s_.durable;
        // Do not ask for room for an index: the reserve may not pay for a larger segment. Without an index the segment is scanned.
        segment_demand wanted{.frames = 2 * segment_type::mark_room};
        for (auto const& part : parts) wanted.frames += part.frames.bytes.size();
        KEEL_TRY_LET(
            next, activation<State>::prepare(s_, lead, link, link.last.next(), says, wanted, space_policy::reserved));
        auto& out = next.group();
        for (auto const& part : parts)
            for_each_record(part.frames.bytes, part.first, [&](lsn at, format::frame_view const& frame) {
                next.segment().reserve_again(out, frame);
                next.segment().encode_again(out, at, frame, was_durable);
                s_.sink.stage(frame.header.type, as_text(frame.key()), as_text(frame.value()));
            });
        if constexpr (!mapped) s_.durable_tail.reserve_more(out.bytes.size(), out.batches.size());
        for (auto const& part : parts) next.listing().trim(part.id, link.last);
        next.listing().close(link.last, link);
        KEEL_TRY(next.write(lead, true));

        // From here on nothing can fail.
        auto const last = std::max(out.last(), was_durable);
        s_.next = void_from ? void_from : std::max(s_.next, last.next());
        next.install(lead, true);
        if constexpr (!mapped) keep_last_block(s_.durable_tail, out, segment_type::block);
        // Apply visible records again, too, so that readers stop using the old segment, whose bytes may not be on the disk.
        for (auto const& b : out.batches) s_.sink.apply(b.range.first, static_cast<std::size_t>(b.range.size()));
        for (auto const& part : parts) s_.sink.moved(part.id, link.last);
        s_.accepted = s_.durable = std::max(last, s_.next.before());
        s_.show(s_.durable);
        s_.note();
        return {};
    }

private:
    result<void> write_elsewhere(leader& lead, segment_type const& old, std::string& lost) {
        auto all = unsafe_part(old, lsn_max);
        KEEL_TRY(close_gaps(all, lost));
        return rewrite_abandoned(lead, old, std::move(all), {});
    }

    /// The frames of an abandoned segment up to LSN `last`, from the first batch that shares a block with durable bytes.
    [[nodiscard]] frame_group unsafe_part(segment_type const& old, lsn last) const {
        frame_group all;
        auto const take = [&](frame_group const& g) {
            for (auto const& b : g.batches)
                if (b.range.last <= last) append_batch(all, g, b);
        };
        // Use the start of the block, not of the first batch: a mark frame before that may not be durable either.
        std::uint64_t from = s_.durable_tail.offset;
        if constexpr (mapped) {
            auto in_file = old.read_back(s_.pending.offset);
            find_batches<C>(in_file, old.salt(), old.first());
            take(in_file);
            from = old.unsafe_from();
        } else {
            take(s_.durable_tail);
            take(s_.in_flight);
        }
        take(s_.pending);
        all.offset = from;
        return all;
    }

    /// Declares lost the accepted LSNs that cannot be read back. Only the mapped path can have such LSNs. `told`: a text about them is
    /// added to it.
    result<void> close_gaps(frame_group const& all, std::string& told) {
        if constexpr (mapped) {
            format::edit_builder edit;
            std::vector<lsn_range> gone;
            auto expected = s_.durable.next();
            auto const miss = [&](lsn from, lsn to) {
                if (to < from) return;
                gone.push_back({from, to});
                edit.loss({from, to});
                told += "; lost: LSN " + std::to_string(from.value) + " to " + std::to_string(to.value);
            };
            for (auto const& b : all.batches) {
                miss(std::max(expected, s_.durable.next()), b.range.first.before());
                expected = b.range.last.next();
            }
            miss(std::max(expected, s_.durable.next()), s_.next.before());
            if (gone.empty()) return {};
            s_.lost.reserve(s_.lost.size() + gone.size());
            KEEL_TRY(s_.pool.commit(edit));
            s_.lost.insert(s_.lost.end(), gone.begin(), gone.end());
            s_.health.add_condition(state_cause::loss, s_.health.short_of([&] {
                return "accepted records were lost when a sync failed" + told +
                       "; accept_loss() says that somebody knows";
            }));
            for (auto const& r : gone)
                s_.events.template push<observe::records_lost>([&] {
                    return observe::records_lost{r, "accepted, not synced, and no longer readable after a failed sync"};
                });
        }
        return {};
    }

    /// Writes again the records of `all`, which come from the segment `old` that was just abandoned. After an error or an exception: as
    /// rewrite().
    result<void> rewrite_abandoned(leader& lead, segment_type const& old, frame_group all, lsn void_from) {
        auto const from = void_from ? void_from : s_.durable.next();
        auto const r = all.batches.empty() ? from : all.batches.front().range.first;
        format::segment_link const link{.id = old.id(),
                                        .salt = old.salt(),
                                        .last = r.before(),
                                        .end = all.offset,
                                        .aggregate = 0,
                                        .chain = old.previous().chain,
                                        .ended = format::segment_end::abandoned};
        std::vector<old_frames> parts(1);
        parts[0] = {.id = old.id(), .first = old.first(), .frames = std::move(all)};
        // If the old header was never synced, a power loss may remove it. So the new header makes the same LSNs void.
        return rewrite(lead, link, parts, void_from, void_from || old.is_synced() ? void_from : old.void_from());
    }

    State& s_;
};

} // namespace keel::inline v0::wal

#endif
