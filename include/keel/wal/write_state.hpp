// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WRITE_STATE_HPP
#define KEEL_WAL_WRITE_STATE_HPP

// The state that the parts of the writer share: the active segment, the groups of frames on their way to it, which LSNs are taken, visible
// and durable, and the store's health.
//
// Thread rules: m protects everything here except atomics. Leadership (wal/leadership.hpp) decides which thread may change the log. Without
// leadership a thread may only encode into `pending`, and, on the mapped path, store that group at once. Every other change of the log
// needs leadership. While the leader has released the mutex, `in_flight` belongs to the leader alone. Readers take neither the mutex nor
// leadership. They load visible_ (acquire). It is stored (release) after all records up to it were applied to the sink.

#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>
#include <keel/format/notes.hpp>
#include <keel/observe/concept.hpp>
#include <keel/observe/event_queue.hpp>
#include <keel/options.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>
#include <keel/wal/active_segment.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/health.hpp>
#include <keel/wal/leadership.hpp>
#include <keel/wal/notes_file.hpp>
#include <keel/wal/record_sink.hpp>
#include <keel/wal/segment_pool.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

template <class Config, record_sink Sink>
class write_state {
public:
    using C = typename Config::checksum;
    using D = typename Config::durability;
    using fs_type = typename Config::file_system;
    using segment_type = active_segment<Config>;
    using pool_type = segment_pool<C, fs_type>;
    using notes_type = notes_file<C, fs_type>;
    using events_type = observe::event_queue<typename Config::observer>;
    using lock_type = leadership::lock_type;
    using leader = leadership::holder;
    static constexpr bool mapped = segment_type::mapped;

    write_state(pool_type& pool_of, catalog& parts_of, Sink& sink_of, events_type& events_of,
                std::optional<notes_type> notes, lsn last, lsn durable_before, std::uint64_t (*clock)())
        : pool{pool_of}, parts{parts_of}, sink{sink_of}, events{events_of}, clock_ns{clock}, health{events_of},
          next{last.next()}, accepted{last}, durable{durable_before}, notes_{std::move(notes)}, visible_{last.value} {}
    write_state(write_state const&) = delete;
    write_state& operator=(write_state const&) = delete;

    pool_type& pool;
    catalog& parts;
    Sink& sink;
    events_type& events;
    std::uint64_t (*const clock_ns)();

    mutable std::mutex m{};
    leadership lead{};
    wal::health<events_type> health;
    bool closing = false; ///< no new write is taken; pending writes are still written

    std::unique_ptr<segment_type> active{}; ///< null before the first write, and between two segments
    /// Mapped path: the error of a failed store into the active segment. The present leader, or the next one, fails over.
    std::optional<error> store_failed{};
    /// The store is read-only, but nothing has happened to the active segment. It may be written to again.
    bool segment_usable = false;
    /// The disk is full, and writes take their space from the reserve. Only writes that free space are taken: erases.
    bool only_erases = false;
    index_builder index_memory{}; ///< from a segment that no longer needs it, for the next one
    /// A segment was activated. So all records that the opening found are durable, or were written again.
    bool has_written = false;
    frame_group pending{};         ///< encoded, and not yet taken by a leader
    frame_group in_flight{};       ///< being written by the leader
    frame_group durable_tail{};    ///< written path: durable frames; later frames share their last block
    lsn next;                      ///< LSN of the next record
    lsn accepted;                  ///< the newest accepted LSN; written path: the same as durable
    lsn durable;                   ///< this LSN and all before it survive power loss
    lsn marked{};                  ///< the largest mark that is itself durable
    lsn encoded_mark{};            ///< the largest mark that was encoded
    lsn durable_at_failure{};      ///< `durable` at the last failed fail-over
    std::vector<lsn_range> lost{}; ///< accepted records that a failed sync lost, until accept_losses()
    std::uint64_t epoch = 0;       ///< incremented when waiting writers get outcome_unknown

    // ---- health -------------------------------------------------------------------------------------------------------------

    /// Lack of space has stopped all writes, or all writes but erases.
    [[nodiscard]] bool lacks_space() const noexcept {
        return health.is_writable() ? only_erases : health.cause() == state_cause::no_space;
    }
    /// The error for a write or a sync that is refused now.
    [[nodiscard]] tl::unexpected<error> refuse() const {
        if (closing || health.is_closed()) return failure(errc::closed, "the store is closed");
        switch (only_erases && health.is_writable() ? state_cause::no_space : health.cause()) {
        case state_cause::opened_read_only:
            return failure(errc::read_only, "the store was opened read-only: open it without read_only to write to it");
        case state_cause::no_space:
            return failure(error{.code = errc::no_space,
                                 .message = "nothing was written: " + health.reason() +
                                            "; reads go on, and writes resume by themselves soon after there is room "
                                            "again, or at once with resume()",
                                 .retryable = true});
        case state_cause::resources:
            return failure(error{.code = errc::io_error,
                                 .message = "nothing was written: " + health.reason() +
                                            "; reads go on, and writes resume by themselves soon after the machine "
                                            "gives it again, or at once with resume()",
                                 .retryable = true});
        case state_cause::repair:
            return failure(errc::read_only, "the store serves reads only: " + health.reason() +
                                                "; remove the cause, then open the store again");
        default:
            return failure(errc::read_only, "the store serves reads only: " + health.reason() +
                                                "; remove the cause, then call resume() or open the store again");
        }
    }
    /// Errors: io_error, if an accepted record in `of` was lost. Nobody may then believe that it is safe.
    [[nodiscard]] result<void> nothing_lost(lsn_range of = {{1}, lsn_max}) const {
        auto const hit =
            std::ranges::find_if(lost, [&](lsn_range const& r) { return r.first <= of.last && of.first <= r.last; });
        if (hit == lost.end()) [[likely]]
            return {};
        return failure(error{.code = errc::io_error,
                             .message = "LSN " + std::to_string(hit->first.value) + " to " +
                                        std::to_string(hit->last.value) +
                                        " were accepted, and lost when a sync failed; all else that was accepted "
                                        "survives power loss; accept_loss() says that somebody knows",
                             .at = hit->first});
    }
    /// The caller knows of these losses, so they are no longer reported. Losses that happened since are still reported.
    void accept_losses(std::vector<lsn_range> const& known) noexcept {
        std::erase_if(lost, [&](lsn_range const& r) {
            return std::ranges::any_of(known,
                                       [&](lsn_range const& k) { return k.first <= r.first && r.last <= k.last; });
        });
    }
    [[nodiscard]] error unknown_outcome() const noexcept {
        error e{.code = errc::outcome_unknown, .message = {}};
        keel::detail::if_memory_lasts([&] {
            e.message = "the write failed, and so did writing it to another segment: it may or may not be there at the "
                        "next open (" +
                        health.reason() + ")";
        });
        return e;
    }

    // ---- encoding -----------------------------------------------------------------------------------------------------------

    /// Reserves all memory that a batch needs until it is visible. Throws std::bad_alloc; nothing has changed then.
    void reserve(std::span<operation const> batch) {
        active->reserve(pending, batch);
        reserve_tail(frame_bytes_of(batch), 1);
        auto const staged = sink.staged();
        try {
            for (auto const& op : batch) sink.stage(op.type, as_text(op.key), as_text(op.value));
        } catch (...) {
            sink.unstage(staged);
            throw;
        }
    }
    /// Gives the batch its LSNs, encodes it into `pending`, and returns its last LSN. Precondition: reserve().
    [[nodiscard]] lsn encode(std::span<operation const> batch) noexcept {
        active->encode(pending, batch, next, durable);
        encoded_mark = durable;
        next = pending.last().next();
        return pending.last();
    }
    /// Encodes a mark into `pending`. Throws std::bad_alloc; nothing has changed then.
    void encode_mark(format::mark_kind kind) {
        reserve_tail(segment_type::mark_room, 0);
        encoded_mark = active->encode_mark(pending, kind, next.before(), durable, clock_ns());
    }
    /// Encodes a filler into `pending`. The next frame then shares no block with the frames before it. Throws std::bad_alloc; nothing has
    /// changed then.
    void encode_filler() {
        reserve_tail(active->bytes_to_next_block(), 0);
        active->encode_filler(pending, next.before(), durable);
    }
    /// Encodes the index of the chunk that is full into `pending`. Throws std::bad_alloc; nothing has changed then.
    void encode_index() {
        reserve_tail(active->index_bytes(), 0);
        active->encode_index(pending, next.before(), durable);
        encoded_mark = durable;
    }

    // ---- acknowledging --------------------------------------------------------------------------------------------------------

    /// Makes the records of a group visible. Precondition: they were staged in the same order.
    void apply(frame_group const& group) noexcept {
        for (auto const& b : group.batches) sink.apply(b.range.first, static_cast<std::size_t>(b.range.size()));
        if (!group.batches.empty()) show(group.last());
    }
    void show(lsn upto) noexcept {
        if (upto.value <= visible_.load(std::memory_order_relaxed)) return;
        visible_.store(upto.value, std::memory_order_release);
        visible_cv.notify_all();
    }
    [[nodiscard]] lsn visible() const noexcept { return {visible_.load(std::memory_order_acquire)}; }
    mutable std::condition_variable visible_cv{}; ///< visible() has grown, or the store was closed

    /// Waits until the records up to `mine` are visible, or until it is certain that this call cannot know their outcome. `work(leader)` is
    /// called by each waiting thread that gets the leadership. `epoch_then`: the epoch when the records were encoded.
    template <class Work>
    [[nodiscard]] result<lsn> wait_for(lsn mine, std::uint64_t epoch_then, lock_type& hold, Work const& work) {
        // LSNs of a failed epoch are taken again after resume(). So a visible LSN means this call's record only within the same epoch.
        while (epoch_then == epoch && visible() < mine) {
            if (lead.is_taken()) {
                lead.wait(hold);
            } else {
                auto turn = lead.take(hold);
                work(turn);
            }
        }
        if (epoch_then != epoch && mine > durable_at_failure) return failure(unknown_outcome());
        return mine;
    }

    // ---- notes ----------------------------------------------------------------------------------------------------------------

    /// Writes the position of the log to the notes, for the next opening after a killed process. The notes are a hint: a failure here is no
    /// error.
    void note() noexcept {
        write_note({.segment = active ? active->id() : segment_id{},
                    .accepted = accepted,
                    .durable = durable,
                    .end = active ? (mapped ? active->end() : pending.offset) : 0,
                    .newest_index = active ? active->newest_index() : 0});
    }
    /// Called by the leader without the mutex. Its group is in the file, so the group survives a killed process.
    void note_in_flight() noexcept {
        if (!in_flight.last()) return;
        write_note({.segment = active->id(),
                    .accepted = in_flight.last(),
                    .durable = durable,
                    .end = in_flight.end(),
                    .newest_index = in_flight.index_at != 0 ? in_flight.index_at : active->newest_index()});
    }

private:
    /// Reserves memory to keep the pending frames, and this much more, after they are durable.
    void reserve_tail(std::uint64_t bytes, std::size_t batches) {
        if constexpr (!mapped)
            durable_tail.reserve_more(in_flight.bytes.size() + pending.bytes.size() + bytes,
                                      in_flight.batches.size() + pending.batches.size() + batches);
    }
    void write_note(format::note n) noexcept {
        if (!notes_) return;
        n.store = pool.store();
        n.branch = pool.branch();
        keel::detail::if_memory_lasts([&] { notes_->write(n); });
    }

    std::optional<notes_type> notes_;
    std::atomic<std::uint64_t> visible_;
};

} // namespace keel::inline v0::wal

#endif
