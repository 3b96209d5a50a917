// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WRITTEN_PATH_HPP
#define KEEL_WAL_WRITTEN_PATH_HPP

// The write path of every_write and group_commit. A batch is encoded into the pending group under the mutex. One of the waiting callers
// becomes the leader. It takes the group, writes and syncs it without the mutex, then acknowledges all batches in the group.
//
// On the disk when a batch is acknowledged: its frames, by a sync that returned. The header of the segment was written before them in the
// same file, so the same sync covers it.

#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>
#include <keel/types.hpp>
#include <keel/wal/fail_over.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/write_state.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <span>
#include <utility>

namespace keel::inline v0::wal {

template <class State>
class written_path {
public:
    using segment_type = typename State::segment_type;
    using lock_type = typename State::lock_type;
    using leader = typename State::leader;
    using D = typename State::D;

    written_path(State& s, fail_over<State>& over) noexcept : s_{s}, fail_over_{over} {}

    /// Whether a batch may be encoded now. If not, the caller waits for the leader.
    [[nodiscard]] bool may_encode() const noexcept { return D::shares_syncs || !s_.lead.is_taken(); }

    /// Writes a batch for which there is room. Returns its last LSN once the batch survives power loss.
    [[nodiscard]] result<lsn> commit(std::span<operation const> batch, lock_type& hold) {
        s_.reserve(batch);
        auto const mine = s_.encode(batch);
        ++s_.pending.commits;
        if (s_.pending.commits == followers_wanted_) followers_cv_.notify_one();
        return s_.wait_for(mine, s_.epoch, hold, [this](leader& lead) { static_cast<void>(commit_as_leader(lead)); });
    }

    /// Does nothing: marks and indexes are written with the next group.
    result<void> bring_out(leader*) noexcept { return {}; }
    /// These two do nothing: the leader whose write fails handles the failure itself.
    [[nodiscard]] bool may_go_on() const noexcept { return true; }
    result<void> handle_failed_store(leader&) noexcept { return {}; }

    /// Makes all encoded records durable.
    result<void> sync(leader& lead) noexcept { return s_.pending.empty() ? result<void>{} : commit_as_leader(lead); }

    /// Writes, syncs and acknowledges the pending group. Errors: the group could not be written to any segment, and writing has stopped.
    result<void> commit_as_leader(leader& lead) noexcept {
        wait_for_followers(lead);
        auto const group_mark = take_pending();
        auto& segment = *s_.active;
        auto done = lead.without_mutex([&] {
            return keel::detail::guarded([&]() -> result<void> {
                KEEL_TRY(segment.write(s_.in_flight));
                s_.note_in_flight();
                return segment.sync();
            });
        });
        if (!done) return fail_over_.abandon(lead, done.error());
        acknowledge(group_mark);
        return {};
    }
    /// The same, but the mutex stays held, and readers see the records only after acknowledge_held(). Errors: those of the write or the
    /// sync; the caller must handle the failure.
    result<void> write_held(leader&) noexcept {
        held_mark_ = take_pending();
        return keel::detail::guarded([&]() -> result<void> {
            KEEL_TRY(s_.active->write(s_.in_flight));
            s_.note_in_flight();
            return s_.active->sync();
        });
    }
    void acknowledge_held(leader&) noexcept { acknowledge(held_mark_); }

    void wake_all() noexcept { followers_cv_.notify_all(); }

private:
    /// Moves the pending group to in_flight. Returns the largest mark in it.
    lsn take_pending() noexcept {
        std::swap(s_.pending, s_.in_flight);
        s_.pending.reset(s_.in_flight.end());
        last_group_ = s_.in_flight.commits;
        return s_.encoded_mark;
    }
    /// Waits a short time for as many writers as the last group had. One sync for all of them is worth more than an early start.
    void wait_for_followers(leader& lead) {
        if constexpr (D::gather_us != 0) {
            if (last_group_ < 2 || s_.pending.commits == 0) return;
            followers_wanted_ = last_group_;
            followers_cv_.wait_for(lead.lock(), std::chrono::microseconds(D::gather_us),
                                   [&] { return s_.pending.commits >= last_group_; });
            followers_wanted_ = 0;
        }
    }
    void acknowledge(lsn group_mark) noexcept {
        auto& segment = *s_.active;
        segment.note_synced(0);
        if (!s_.in_flight.batches.empty()) s_.accepted = s_.durable = s_.in_flight.last();
        s_.marked = std::max(s_.marked, group_mark);
        segment.is_in_file(s_.in_flight);
        keep_last_block(s_.durable_tail, s_.in_flight, segment_type::block);
        s_.apply(s_.in_flight);
        s_.in_flight.reset(s_.in_flight.end());
        s_.note();
    }

    State& s_;
    fail_over<State>& fail_over_;
    std::condition_variable followers_cv_{}; ///< signals that as many writers have come as the leader waits for
    std::size_t last_group_ = 0;
    std::size_t followers_wanted_ = 0;
    lsn held_mark_{};
};

} // namespace keel::inline v0::wal

#endif
