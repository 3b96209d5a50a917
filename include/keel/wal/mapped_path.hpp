// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_MAPPED_PATH_HPP
#define KEEL_WAL_MAPPED_PATH_HPP

// The write path of interval and os_buffered. A batch is put into the mapped segment under the mutex: it is stored into the mapping, or, if
// it is large, written to the mapped file. Its first tag is stored last. The batch is accepted at once. A sync runs beside the stores,
// because the leader releases the mutex for it.
//
// So a store may fail while a leader is inside its sync. Then the segment takes no more stores, and that leader fails over when its sync is
// done. No other thread may fail over. The record of the failed store is still pending in memory and is written to the new segment as well.

#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>
#include <keel/types.hpp>
#include <keel/wal/fail_over.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/write_state.hpp>

#include <algorithm>
#include <span>
#include <utility>

namespace keel::inline v0::wal {

template <class State>
class mapped_path {
public:
    using segment_type = typename State::segment_type;
    using lock_type = typename State::lock_type;
    using leader = typename State::leader;

    mapped_path(State& s, fail_over<State>& over) noexcept : s_{s}, fail_over_{over} {}

    /// Whether a batch may be encoded now. If not, the caller waits for the leader.
    [[nodiscard]] bool may_encode() const noexcept { return may_go_on(); }
    /// False after a failed store: handle_failed_store() must be called.
    [[nodiscard]] bool may_go_on() const noexcept { return !s_.store_failed; }
    /// Fails over after a failed store. Does nothing if another leader has already done so.
    result<void> handle_failed_store(leader& lead) noexcept {
        if (!s_.store_failed) return {};
        auto const why = std::move(*s_.store_failed);
        return fail_over_.abandon(lead, why);
    }

    /// Stores a batch for which there is room, and returns its last LSN. From then on the batch survives a killed process.
    [[nodiscard]] result<lsn> commit(std::span<operation const> batch, lock_type& hold) {
        s_.reserve(batch);
        auto const mine = s_.encode(batch);
        if (store_pending()) [[likely]]
            return mine;
        return s_.wait_for(mine, s_.epoch, hold,
                           [this](leader& lead) { static_cast<void>(handle_failed_store(lead)); });
    }

    /// Stores the marks and indexes that were encoded. `lead`: null if the caller does not have the leadership.
    result<void> bring_out(leader* lead) noexcept {
        if (store_pending()) return {};
        return lead != nullptr ? handle_failed_store(*lead) : result<void>{};
    }

    /// Makes all accepted records durable. Precondition: there is an active segment.
    result<void> sync(leader& lead) noexcept {
        auto const upto = s_.accepted;
        auto const group_mark = s_.encoded_mark;
        auto& segment = *s_.active;
        auto const block_batch = segment.newest_block_batch();
        auto done = lead.without_mutex([&] { return keel::detail::guarded([&] { return segment.sync(); }); });
        if (done) {
            segment.note_synced(block_batch);
            s_.durable = std::max(s_.durable, upto);
            s_.marked = std::max(s_.marked, group_mark);
            s_.note();
            return s_.store_failed ? handle_failed_store(lead) : result<void>{};
        }
        return fail_over_.abandon(lead, done.error());
    }

    /// Stores and syncs the pending group while the mutex stays held. Readers see it only after acknowledge_held(). Errors: those of the
    /// store or the sync; the caller must handle the failure.
    result<void> write_held(leader&) noexcept {
        return keel::detail::guarded([&]() -> result<void> {
            KEEL_TRY(s_.active->store(s_.pending));
            return s_.active->sync();
        });
    }
    void acknowledge_held(leader&) noexcept {
        s_.durable = s_.pending.last();
        s_.marked = std::max(s_.marked, s_.encoded_mark);
        accept_pending();
        s_.active->note_synced(s_.active->newest_block_batch());
    }

    void wake_all() noexcept {}

private:
    /// False: the store failed, and `store_failed` has the cause.
    [[nodiscard]] bool store_pending() noexcept {
        if (s_.pending.empty()) return true;
        auto const stored = keel::detail::guarded([&] { return s_.active->store(s_.pending); });
        if (!stored) {
            s_.store_failed = why_it_failed(stored.error());
            return false;
        }
        accept_pending();
        return true;
    }
    [[nodiscard]] error why_it_failed(error const& seen) noexcept {
        try {
            return s_.active->why_store_failed(s_.pending, seen);
        } catch (std::bad_alloc const&) {
            return keel::detail::memory_refused();
        }
    }
    void accept_pending() noexcept {
        auto& segment = *s_.active;
        segment.is_in_file(s_.pending);
        if (!s_.pending.batches.empty()) {
            s_.accepted = s_.pending.last();
            s_.apply(s_.pending);
            s_.note();
        }
        s_.pending.reset(segment.end());
        segment.begin_sync();
    }

    State& s_;
    fail_over<State>& fail_over_;
};

} // namespace keel::inline v0::wal

#endif
