// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WRITE_STATE_HPP
#define KEEL_WAL_WRITE_STATE_HPP

// What the parts of the writer share: the segment that is written to, the groups of frames on their way to it, which LSNs are taken, visible
// and durable, and the store's health.
//
// Thread rules: m guards everything here but what is atomic. Which thread may change what is said by leadership (wal/leadership.hpp): without
// it a thread encodes into `pending`, and on the mapped path stores that group at once; everything else needs it. `in_flight` is the
// leader's alone while it has let go of the mutex. Readers take neither: visible_ (release) is what they may see (acquire), and all records
// up to it were applied to the sink before.

#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>
#include <keel/format/notes.hpp>
#include <keel/observe/concept.hpp>
#include <keel/observe/event_queue.hpp>
#include <keel/recovery/options.hpp>
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
    bool closing = false; ///< no new write is taken; what gathers is still written

    std::unique_ptr<segment_type> active{}; ///< nothing before the first write, and between two segments
    std::optional<error>
        store_failed{}; ///< mapped path: a store into the active segment failed, and a leader was busy: it fails over
    bool segment_usable =
        false; ///< read-only, and nothing has happened to the active segment: it goes on being written to
    bool only_erases =
        false; ///< the disk is full, and what is written comes out of the reserve: nothing is taken but what frees space
    index_builder index_memory{}; ///< of a segment that needs it no more, for the next one
    bool has_written = false;     ///< a segment was activated: all that opening found is durable, or was written anew
    frame_group pending{};        ///< encoded, not yet taken by a leader
    frame_group in_flight{};      ///< being written by the leader
    frame_group durable_tail{};   ///< written path: durable, but shares its last block with what comes next
    lsn next;                     ///< taken by the next record
    lsn accepted;                 ///< written path: the same as durable
    lsn durable;                  ///< all up to here survives power loss
    lsn marked{};                 ///< the largest mark that is itself durable
    lsn encoded_mark{};           ///< the largest mark that was encoded
    lsn durable_at_failure{};
    std::vector<lsn_range> lost{}; ///< accepted records that a failed sync took, until somebody says that they know
    std::uint64_t epoch = 0;       ///< grows when waiting writers are told outcome_unknown

    // ---- health -------------------------------------------------------------------------------------------------------------

    /// Want of space has stopped writing, for all or for what takes some.
    [[nodiscard]] bool lacks_space() const noexcept {
        return health.is_writable() ? only_erases : health.cause() == state_cause::no_space;
    }
    /// Why a write, or a sync, is refused now.
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
    /// Errors: io_error, where an accepted record of `of` was lost: nobody may take it for safe.
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
    /// Somebody knows of these: what was lost since is still told.
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

    /// All memory that a batch needs until it is visible. Throws std::bad_alloc, and nothing has changed.
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
    /// Gives the batch its LSNs and encodes it into `pending`; the last LSN. Its memory was reserved.
    [[nodiscard]] lsn encode(std::span<operation const> batch) noexcept {
        active->encode(pending, batch, next, durable);
        encoded_mark = durable;
        next = pending.last().next();
        return pending.last();
    }
    /// Encodes a mark into `pending`. Throws std::bad_alloc, and nothing has changed.
    void encode_mark(format::mark_kind kind) {
        reserve_tail(segment_type::mark_room, 0);
        encoded_mark = active->encode_mark(pending, kind, next.before(), durable, clock_ns());
    }
    /// What comes next in `pending` shares no block with what stands before it. Throws std::bad_alloc, and nothing has changed.
    void encode_filler() {
        reserve_tail(active->bytes_to_next_block(), 0);
        active->encode_filler(pending, next.before(), durable);
    }
    /// Encodes the index of the chunk that is full into `pending`. Throws std::bad_alloc, and nothing has changed.
    void encode_index() {
        reserve_tail(active->index_bytes(), 0);
        active->encode_index(pending, next.before(), durable);
        encoded_mark = durable;
    }

    // ---- acknowledging --------------------------------------------------------------------------------------------------------

    /// Makes the records of a group visible. They were staged in the same order.
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
    mutable std::condition_variable visible_cv{}; ///< visible() grew, or the store was closed

    /// Waits until the records up to `mine` are visible, or it is certain that this call cannot tell. `work(leader)` is done by whichever
    /// waiting thread gets the leadership. `epoch_then`: the epoch when they were encoded.
    template <class Work>
    [[nodiscard]] result<lsn> wait_for(lsn mine, std::uint64_t epoch_then, lock_type& hold, Work const& work) {
        // LSNs of a failed epoch are taken anew after resume(): being visible is only ours within the same epoch.
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

    /// Where the log stands, for the opening behind a killed process. A hint: what fails here fails nothing.
    void note() noexcept {
        write_note({.segment = active ? active->id() : segment_id{},
                    .accepted = accepted,
                    .durable = durable,
                    .end = active ? (mapped ? active->end() : pending.offset) : 0,
                    .newest_index = active ? active->newest_index() : 0});
    }
    /// By the leader without the mutex: its group is in the file, so a killed process leaves it behind.
    void note_in_flight() noexcept {
        if (!in_flight.last()) return;
        write_note({.segment = active->id(),
                    .accepted = in_flight.last(),
                    .durable = durable,
                    .end = in_flight.end(),
                    .newest_index = in_flight.index_at != 0 ? in_flight.index_at : active->newest_index()});
    }

private:
    /// Memory to keep what is pending, and so much more, once it is durable.
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
