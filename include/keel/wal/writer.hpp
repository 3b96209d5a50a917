// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WRITER_HPP
#define KEEL_WAL_WRITER_HPP

// The writer: takes batches and returns acknowledged LSNs. This file is its public face and decides which thread may do which step when.
// The parts do the work:
//   write_state.hpp       state that the parts share        leadership.hpp       the right to change the log
//   written_path.hpp      every_write, group_commit         mapped_path.hpp      interval, os_buffered
//   active_segment.hpp    the segment that is written to    activation.hpp       makes a prepared segment the active one
//   first_activation.hpp  before the first write            fail_over.hpp        after a failed write or sync
//   sealing.hpp           how a segment is sealed           health.hpp           the state of the store, and its causes
//
// On the disk when a record is acknowledged: its frames, by a sync that returned. The name and the registration of their segment were
// durable before the segment was activated. Every earlier frame is on the disk too, because a segment is synced before the next one is
// used. The mark in a frame is the durable LSN at the time of encoding. So a mark only names LSNs whose syncs had returned.
//
// Exceptions: std::bad_alloc leaves a call only before anything has changed. After a batch is encoded, its caller gets a result.
//
// Thread rules: any number of threads may call. close(), abandon() and the destructor run alone. The mutex is held during the I/O of
// activation, roll-over and fail-over, when no thread could write anyway. Readers never take it. Lock order: detail/lock_order.hpp.

#include <keel/detail/guarded.hpp>
#include <keel/detail/lock_order.hpp>
#include <keel/error.hpp>
#include <keel/observe/concept.hpp>
#include <keel/options.hpp>
#include <keel/policy/durability/concept.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>
#include <keel/wal/fail_over.hpp>
#include <keel/wal/first_activation.hpp>
#include <keel/wal/mapped_path.hpp>
#include <keel/wal/sealing.hpp>
#include <keel/wal/segment_growth.hpp>
#include <keel/wal/write_state.hpp>
#include <keel/wal/writer_start.hpp>
#include <keel/wal/written_path.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

template <class Config, record_sink Sink>
class writer {
    using state_type = write_state<Config, Sink>;
    using path_type = std::conditional_t<state_type::mapped, mapped_path<state_type>, written_path<state_type>>;
    using segment_type = typename state_type::segment_type;
    using lock_type = typename state_type::lock_type;
    using leader = typename state_type::leader;

public:
    using fs_type = typename Config::file_system;
    using D = typename Config::durability;
    using pool_type = typename state_type::pool_type;
    using notes_type = typename state_type::notes_type;
    using events_type = typename state_type::events_type;
    static constexpr bool mapped = state_type::mapped;
    static constexpr bool reads_sealed_back = Config::seal_check::reads_sealed_back;
    using sealing_type = sealing<state_type, reads_sealed_back>;
    using sealed_list = typename sealing_type::sealed_list;
    /// The largest batch, in bytes of frames.
    static constexpr std::uint64_t batch_bytes_max = segment_type::batch_bytes_max;

    writer(pool_type& pool, catalog& parts, Sink& sink, events_type& events, std::optional<notes_type> notes,
           writer_start start, open_options const& options)
        : start_{std::move(start)},
          s_{pool, parts, sink, events, std::move(notes), start_.last, start_.durable, options.clock_ns},
          fail_over_{s_}, sealing_{s_}, first_{s_, fail_over_, start_}, path_{s_, fail_over_},
          never_writes_{start_.read_only} {
        if (start_.read_only) s_.health.stop_writing(start_.cause, start_.reason);
        for (auto const& c : start_.conditions) s_.health.add_condition(c.what, c.why);
        if constexpr (mapped) pool.leave_unfilled();
    }
    writer(writer const&) = delete;
    writer& operator=(writer const&) = delete;

    // ---- writing --------------------------------------------------------------------------------------------------------------

    /// Writes a batch, whole or not at all. Returns the LSN of its last record, once the batch is as safe as the durability policy says.
    /// Errors: too_large; those of write_state::refuse(); outcome_unknown; those of the machine, if no segment could be made ready. Throws
    /// std::bad_alloc; nothing has changed then.
    [[nodiscard]] result<lsn> write(std::span<operation const> batch) {
        return write_if(batch, [](auto const&) { return result<void>{}; });
    }
    /// Writes the batch if `allowed` returns no error at the moment when the batch takes its LSNs. At that moment each lower LSN is applied
    /// to the sink, or `each_pending(visit)` reports it as visit(lsn, key). `allowed` is called with the mutex held.
    template <class Allowed>
    [[nodiscard]] result<lsn> write_if(std::span<operation const> batch, Allowed const& allowed) {
        auto const bytes = frame_bytes_of(batch);
        if (bytes > batch_bytes_max) return too_large(batch.size(), bytes);
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        KEEL_TRY(lsns_are_left(batch.size()));
        if (s_.lacks_space()) [[unlikely]]
            KEEL_TRY(write_on_full_disk(batch, hold));
        KEEL_TRY(ready_for(bytes, keyed_in(batch), hold));
        KEEL_TRY(allowed([&](auto const& visit) { each_pending(visit); }));
        auto written = path_.commit(batch, hold);
        if constexpr (mapped && D::sync_interval_ms != 0)
            if (written && syncs_writes_.load(std::memory_order_relaxed)) [[unlikely]] // failures show in state()
                static_cast<void>(keel::detail::guarded([&] { return sync_up_to(*written, hold); }));
        if constexpr (reads_sealed_back) {
            bool const some = sealing_.has_unread();
            hold.unlock();
            if (some && after_seal_) after_seal_();
        }
        return written;
    }
    /// `yes`: no thread keeps the interval between two syncs, so each write syncs.
    void sync_writes(bool yes) noexcept { syncs_writes_.store(yes, std::memory_order_relaxed); }
    /// After this returns, all records up to `at` survive power loss. `at`: an LSN that a write returned. Errors: those of the sync;
    /// io_error, if the record `at` was lost before.
    [[nodiscard]] result<void> make_durable(lsn at) {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        KEEL_TRY(sync_up_to(at, hold));
        return s_.nothing_lost({at, at});
    }

    /// Gives an LSN to a change beside the log. The change becomes part of the store at that moment, through `take_effect(lsn)`. For that
    /// LSN the log has an erase of the empty key. No key equals the empty key, so readers of the log see nothing. When `take_effect` is
    /// called, that record and all records before it are durable. Nobody sees that LSN or a later one yet, and nobody writes. Errors: those
    /// of a write; outcome_unknown, if `take_effect` failed, and then the store is read-only. After any other error nothing has happened.
    template <class TakeEffect>
    [[nodiscard]] result<lsn> commit_external(TakeEffect const& take_effect) {
        operation const nothing{.type = format::frame_type::erase};
        std::span const batch{&nothing, 1};
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        for (int turn = 0;; ++turn) {
            KEEL_TRY(lsns_are_left(1));
            auto lead = all_durable(frame_bytes_of(batch), hold);
            if (!lead) return failure(std::move(lead).error());
            s_.reserve(batch);
            auto const at = s_.encode(batch);
            if (auto written = path_.write_held(*lead); !written) {
                // The record is in a fresh segment now. It has no effect there.
                KEEL_TRY(fail_over_.abandon(*lead, written.error()));
                if (turn == segments_per_call) return failure(std::move(written).error());
                continue;
            }
            auto const effect = keel::detail::guarded([&] { return take_effect(at); });
            path_.acknowledge_held(*lead);
            if (effect) return at;
            s_.health.stop_writing("the manifest could not be written: ", effect.error());
            return failure(s_.unknown_outcome());
        }
    }

    /// After this returns, all records that were accepted before the call survive power loss. Errors: those of the sync; io_error, if
    /// accepted records were lost before, until accept_losses().
    [[nodiscard]] result<void> sync() {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        if (s_.closing) return s_.refuse();
        // Refuse, because accepted records may not be on the disk.
        if (!s_.health.is_writable() && !never_writes_) return s_.refuse();
        if (s_.durable >= s_.accepted && !s_.lead.is_taken()) return s_.nothing_lost();
        if (!s_.health.is_writable()) return s_.refuse();
        // A killed process may have left accepted records. Writing them again proves them durable.
        if (!s_.active && !s_.lead.is_taken()) {
            auto lead = s_.lead.take(hold);
            KEEL_TRY(first_.run(lead, {}));
        }
        KEEL_TRY(sync_up_to(s_.accepted, hold));
        return s_.nothing_lost();
    }
    /// The caller knows of these losses, which the manifest has declared. sync() no longer reports them.
    void accept_losses(std::vector<lsn_range> const& known) noexcept {
        std::lock_guard const hold{s_.m};
        s_.accept_losses(known);
        if (s_.lost.empty()) s_.health.end_condition(state_cause::loss);
    }
    /// Ends the active segment and begins a new one. All records so far are then in segments that take no more records.
    [[nodiscard]] result<void> roll_over() {
        auto const done = roll_over_now();
        if constexpr (reads_sealed_back)
            if (after_seal_) after_seal_();
        return done;
    }

    /// The same, but the next write begins the new segment. So this call needs no space on a full disk.
    [[nodiscard]] result<void> seal() {
        auto const done = seal_now();
        if constexpr (reads_sealed_back)
            if (after_seal_) after_seal_();
        return done;
    }

    // ---- segments that are read back --------------------------------------------------------------------------------------------

    /// Sets a callback for sealed segments. write(), roll_over() and seal() call it at their end, without the mutex. It takes the segments
    /// with take_sealed(); there may be none. Set it before the first write.
    void after_seal(std::function<void()> call) { after_seal_ = std::move(call); }
    /// Returns one sealed segment that nobody has taken, or an empty list. The segment is not recycled while the caller holds it.
    [[nodiscard]] sealed_list take_sealed() noexcept {
        std::lock_guard const hold{s_.m};
        return sealing_.take_unread();
    }
    /// Puts back a segment that could not be read because memory was refused. The next call of take_sealed() gets it again.
    void give_back_sealed(sealed_list one) noexcept {
        std::lock_guard const hold{s_.m};
        sealing_.give_back_unread(std::move(one));
    }

    // ---- housekeeping ---------------------------------------------------------------------------------------------------------

    /// The work of the background thread. A program without that thread calls it from time to time. It seals, writes idle marks, syncs at
    /// intervals and prepares a segment in advance. `quiet`: nothing was written for a while. `prepares`: also make a segment and the
    /// reserve ready, if they are wanted; lacks_room() tells whether that failed. Failures show in state(). Throws std::bad_alloc; the next
    /// call continues.
    void housekeep(bool quiet, bool prepares = true) {
        {
            KEEL_TAKES(writer, &s_.pool);
            lock_type hold{s_.m};
            if (writable()) sealing_.help(hold);
            if (s_.closing || s_.lead.is_taken()) return;
            auto lead = s_.lead.take(hold);
            bool const waits = s_.health.is_writable() ? s_.only_erases : s_.health.heals_itself();
            if (prepares && waits && !resume_as_leader(lead)) lacks_room_.store(true, std::memory_order_relaxed);
            if (!s_.active || !writable()) return;
            if constexpr (mapped && D::sync_interval_ms != 0)
                if (s_.durable < s_.accepted) static_cast<void>(path_.sync(lead));
            bool const marks = quiet && s_.active && writable() && s_.durable >= s_.accepted && s_.marked < s_.durable;
            if (marks) static_cast<void>(put_idle_mark(lead));
            if (!writable()) return;
            if (!prepares || s_.only_erases) return;
            if (is_busy()) follow_growth();
            else prepares = false;
        }
        if (quiet) s_.pool.rest();
        // No ready segment, or no reserve, is not a failure yet. Roll-over tries again and reports the failure.
        bool const reserved = s_.pool.keep_reserve().has_value();
        lacks_room_.store(!reserved || (prepares && !s_.pool.make_ready()), std::memory_order_relaxed);
    }
    /// The last housekeep() could not get the space for its preparations. A caller that calls it often should let some time pass.
    [[nodiscard]] bool lacks_room() const noexcept { return lacks_room_.load(std::memory_order_relaxed); }
    /// Writing has stopped for a cause that can pass by itself. housekeep() checks whether it has passed.
    [[nodiscard]] bool waits_for_resources() const noexcept { return s_.health.heals_itself(); }
    /// Lack of space has stopped all writes, or all writes but erases.
    [[nodiscard]] bool lacks_space() const {
        std::lock_guard const hold{s_.m};
        return s_.lacks_space();
    }
    /// The next write first writes a mark with the time. Called once a second.
    void mark_due() noexcept { mark_due_.store(true, std::memory_order_relaxed); }

    /// After a failure: tries to make the store writable again. Records that were never acknowledged are given up, and their LSNs are taken
    /// again.
    [[nodiscard]] result<void> resume() {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        auto lead = s_.lead.take(hold);
        if (s_.closing || never_writes_) return s_.refuse();
        if (s_.health.state() != engine_state::read_only && !s_.only_erases) return {};
        return resume_as_leader(lead);
    }

    /// Writes pending records, syncs, writes the closing mark and seals. A second call does nothing. Never throws.
    [[nodiscard]] result<void> close() noexcept {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        result<void> done;
        {
            auto lead = s_.lead.take(hold);
            if (s_.health.is_closed()) return {};
            s_.closing = true; // refuse writers that wait for room, but serve those that wait for the leader
            done = keel::detail::guarded([&] { return end_in_order(lead); });
            if (!never_writes_) s_.note();
            if (done && !never_writes_ && s_.health.is_writable())
                done = keel::detail::guarded([&] { return seal_last(lead); });
            if (done) done = keel::detail::guarded([&] { return s_.nothing_lost(); });
            s_.health.close();
        }
        wake_all();
        return done;
    }
    /// Ends the object without touching the disk, as a killed process does. For tests, and for the destructors of failed opens.
    void abandon() noexcept {
        {
            std::lock_guard const hold{s_.m};
            s_.closing = true;
            s_.health.close();
        }
        wake_all();
    }

    // ---- reports from other parts -----------------------------------------------------------------------------------------------

    /// Adds a condition: a part beside the log survived a failure, or damage was found.
    void add_condition(state_cause what, std::string why) noexcept { s_.health.add_condition(what, std::move(why)); }
    /// Removes the condition with this cause.
    void end_condition(state_cause what) noexcept { s_.health.end_condition(what); }
    /// A manifest edit of another part failed. The next open may or may not find that edit, so nothing is written after it.
    void manifest_failed(error const& why) {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        auto const lead = s_.lead.take(hold); // a group in flight was begun before the failure
        if (writable()) s_.health.stop_writing("the manifest could not be written: ", why);
    }

    // ---- queries ----------------------------------------------------------------------------------------------------------------

    /// Readers see all records up to this LSN. Takes no mutex.
    [[nodiscard]] lsn visible() const noexcept { return s_.visible(); }
    /// All records up to this LSN survive power loss.
    [[nodiscard]] lsn durable() const {
        std::lock_guard const hold{s_.m};
        return s_.durable;
    }
    /// Takes no mutex, because readers call it and the mutex is held during I/O.
    [[nodiscard]] engine_state state() const noexcept { return s_.health.state(); }
    [[nodiscard]] std::string state_reason() const { return s_.health.reason(); }
    [[nodiscard]] state_cause cause() const noexcept { return s_.health.cause(); }
    /// Waits until records after `seen` are visible, the store is closed, or `patience` is over. Returns the visible LSN at that time.
    [[nodiscard]] lsn wait_visible(lsn seen, std::chrono::nanoseconds patience) const {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        s_.visible_cv.wait_for(hold, patience, [&] { return visible() > seen || s_.closing; });
        return visible();
    }
    /// A commit was refused because of the record with this LSN. The record may not be visible yet.
    void note_conflict(lsn at) noexcept {
        auto newest = conflict_.load(std::memory_order_relaxed);
        while (newest < at.value && !conflict_.compare_exchange_weak(newest, at.value, std::memory_order_relaxed)) {}
    }
    /// Waits until the newest record for which a commit was refused is visible, or until it is certain that it never will be: its write
    /// failed, or the store is closed. If no other thread writes that record out, this thread does. Without such a record the call costs
    /// two loads.
    void wait_for_conflict() {
        auto const at = conflict_.load(std::memory_order_relaxed);
        if (visible().value >= at) [[likely]]
            return;
        wait_settled({at});
        // After a failed write the LSN is free again. Reset it, so that later calls do not take the mutex because of it.
        auto settled = at;
        conflict_.compare_exchange_strong(settled, 0, std::memory_order_relaxed);
    }
    /// The id of the active segment; 0 if there is none. Retention does not touch this segment.
    [[nodiscard]] segment_id active_segment() const {
        std::lock_guard const hold{s_.m};
        return s_.active ? s_.active->id() : segment_id{};
    }
    /// How many bytes of the active segment hold frames; 0 if there is no active segment or it has no record.
    [[nodiscard]] std::uint64_t bytes_in_active() const {
        std::lock_guard const hold{s_.m};
        return s_.active && s_.active->records() != 0 ? s_.active->end() - segment_type::frames_begin : 0;
    }
    /// Errors: the error that a write would get now because the store takes no writes.
    [[nodiscard]] result<void> takes_writes() const {
        std::lock_guard const hold{s_.m};
        if (!writable() || s_.only_erases) return s_.refuse();
        return {};
    }
    /// Whether this opening has written. If it has, all records that it found are durable, or were written again.
    [[nodiscard]] bool has_written() const {
        std::lock_guard const hold{s_.m};
        return s_.has_written;
    }

private:
    static constexpr int segments_per_call = 2; ///< how many segments one commit_external() may abandon

    [[nodiscard]] bool writable() const noexcept { return !s_.closing && s_.health.is_writable(); }
    [[nodiscard]] result<void> roll_over_now() {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        auto lead = s_.lead.take(hold);
        if (writable()) KEEL_TRY(sealing_.finish(lead));
        bring_out_pending(lead);
        if (!writable()) return s_.refuse();
        if (!s_.active || s_.active->records() == 0) return {};
        return roll(lead, {}, seals::at_once);
    }
    [[nodiscard]] result<void> seal_now() {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        auto lead = s_.lead.take(hold);
        if (!s_.closing) KEEL_TRY(sealing_.finish(lead));
        bring_out_pending(lead);
        // If a new segment was refused for lack of space, nothing has happened to the active one.
        bool const is_sound = writable() || (s_.lacks_space() && s_.segment_usable);
        if (s_.closing || never_writes_ || !is_sound) return s_.refuse();
        if (!s_.active || s_.active->records() == 0) return {};
        s_.segment_usable = false; // if sealing fails, the file may be half sealed
        return sync_and_seal(lead, seals::at_once);
    }
    void wake_all() noexcept {
        s_.lead.wake_all();
        s_.visible_cv.notify_all();
        path_.wake_all();
    }

    [[nodiscard]] static tl::unexpected<error> too_large(std::size_t operations, std::uint64_t bytes) {
        auto const of_log = std::to_string(bytes) + " bytes of log, a segment has room for " +
                            std::to_string(batch_bytes_max);
        if (operations == 1)
            return failure(errc::too_large, "key and value take " + of_log + ": choose a larger segment_size");
        return failure(errc::too_large, "the batch takes " + of_log + ": split it, or choose a larger segment_size");
    }
    [[nodiscard]] result<void> lsns_are_left(std::size_t wanted) const {
        if (s_.next.value + wanted <= lsn_highest.value) return {};
        return failure(errc::too_large, "the log has used up its LSNs; copy the live data into a new store");
    }
    /// Visits the records that have an LSN but are not visible: pending records, and records that a leader is writing. The leader only
    /// reads the latter, too.
    template <class Visit>
    void each_pending(Visit const& visit) const {
        if (!s_.active) return;
        auto const tell = [&](lsn at, format::frame_view const& frame) { visit(at, as_text(frame.key())); };
        for_each_record(s_.in_flight.bytes, s_.active->first(), tell);
        for_each_record(s_.pending.bytes, s_.active->first(), tell);
    }

    // ---- a full disk ------------------------------------------------------------------------------------------------------------

    /// Lets a batch that only erases through on a full disk, with a small segment from the reserve if needed. Errors: the batch does more
    /// than erase, or not even the reserve is enough.
    result<void> write_on_full_disk(std::span<operation const> batch, lock_type& hold) {
        auto const erases = [](operation const& op) { return op.type == format::frame_type::erase && !op.key.empty(); };
        if (s_.closing || never_writes_ || !std::ranges::all_of(batch, erases)) return s_.refuse();
        if (s_.only_erases && writable()) return {};
        auto lead = s_.lead.take(hold);
        if (s_.closing) return s_.refuse();
        if (!s_.lacks_space() || writable()) return {}; // another thread has done it
        auto why = s_.health.short_of(
            [&] { return s_.health.reason() + "; what only erases is written, out of the reserve"; });
        s_.pool.retry();
        KEEL_TRY(s_.pool.make_durable());
        if (s_.active && !s_.segment_usable) KEEL_TRY(fail_over_.restart_after_visible(lead));
        s_.segment_usable = false;
        s_.only_erases = true;
        s_.health.add_condition(state_cause::no_space, std::move(why));
        s_.health.resume_writing();
        return {};
    }
    /// Ends the mode that takes only erases: there is room again, or not even room for erases.
    void end_only_erases() noexcept {
        if (!std::exchange(s_.only_erases, false)) return;
        s_.health.end_condition(state_cause::no_space);
    }

    // ---- room -----------------------------------------------------------------------------------------------------------------

    /// Returns when there is an active segment with room for `bytes` and its marks, and a batch may be encoded.
    result<void> ready_for(std::uint64_t bytes, std::uint64_t keyed, lock_type& hold) {
        for (;;) {
            if (!writable()) return s_.refuse();
            // A mark may be due before the batch, and an idle mark comes after it.
            auto const marks = s_.active && s_.active->has_spare_mark() ? 1U : 2U;
            bool const fits = s_.active && s_.active->has_room(bytes + marks * segment_type::mark_room, keyed);
            if (fits && path_.may_encode()) {
                put_due_mark();
                put_due_index(bytes, keyed);
                if (path_.may_encode()) [[likely]]
                    return {};
            } else if (s_.lead.is_taken()) {
                s_.lead.wait(hold);
            } else {
                auto lead = s_.lead.take(hold);
                KEEL_TRY(make_room({bytes + 2 * segment_type::mark_room, keyed}, lead));
            }
        }
    }
    /// One step towards room for a batch. Errors: writing has stopped, or nothing has changed.
    result<void> make_room(segment_demand const& wanted, leader& lead) {
        if (!path_.may_go_on()) static_cast<void>(path_.handle_failed_store(lead));
        else if (!s_.active) return first_.run(lead, wanted);
        else if (!s_.pending.empty()) bring_out_pending(lead);
        else if (sealing_.has_left()) return sealing_.finish(lead);
        else return roll(lead, wanted, sealing_.may_leave() ? seals::behind : seals::at_once);
        return {};
    }
    /// Written path: writes out pending marks, or a group whose callers have not got the leadership yet. These callers get the result.
    void bring_out_pending(leader& lead) noexcept {
        if constexpr (!mapped)
            while (s_.active && !s_.pending.empty()) static_cast<void>(path_.commit_as_leader(lead));
    }
    /// Waits until `at` is visible, or until no record with this LSN is on its way.
    void wait_settled(lsn at) {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        // After a failed write, another record may take the same LSN. Then wait for that record as well.
        while (visible() < at && at < s_.next && !s_.closing) {
            if (s_.lead.is_taken()) {
                s_.lead.wait(hold);
                continue;
            }
            auto lead = s_.lead.take(hold);
            if (!commit_pending(lead)) return;
        }
    }
    /// Writes out the pending records. False: no record waits for a leader.
    bool commit_pending(leader& lead) noexcept {
        if (!s_.active || s_.pending.batches.empty() || (mapped && path_.may_go_on())) return false;
        static_cast<void>(mapped ? path_.handle_failed_store(lead) : path_.sync(lead));
        return true;
    }
    /// Takes the leadership at a moment when there is an active segment with room for `bytes`, no record is pending, and all accepted
    /// records are durable.
    result<leader> all_durable(std::uint64_t bytes, lock_type& hold) {
        for (;;) {
            KEEL_TRY(ready_for(bytes, 1, hold));
            auto lead = s_.lead.take(hold);
            if (!writable()) return s_.refuse();
            if (mapped ? s_.durable < s_.accepted : !s_.pending.batches.empty()) KEEL_TRY(path_.sync(lead));
            // Other threads may have written while this one waited for the leadership or for the sync.
            bool const fits = s_.active && s_.active->has_room(bytes + segment_type::mark_room, 1);
            bool const quiet = mapped ? s_.durable >= s_.accepted : s_.pending.batches.empty();
            if (fits && quiet && writable()) return lead;
        }
    }

    // ---- marks ------------------------------------------------------------------------------------------------------------------

    /// Writes a mark if one is due: once a second, and at the start of each chunk.
    void put_due_mark() {
        if (!s_.active->enters_new_chunk() && !mark_due_.load(std::memory_order_relaxed)) return;
        if (s_.active->has_spare_mark()) return; // a third mark would take the room of the largest batch
        s_.encode_mark(format::mark_kind::periodic);
        mark_due_.store(false, std::memory_order_relaxed);
        s_.active->chunk_is_marked();
        static_cast<void>(path_.bring_out(nullptr));
    }
    /// Gives a full chunk its index, if there is room left for the next batch and for sealing. If memory is short, the chunk gets no index,
    /// and its records are found by a scan.
    void put_due_index(std::uint64_t bytes, std::uint64_t keyed) {
        if (!s_.active->index_is_due()) [[likely]]
            return;
        if (!s_.active->has_room(s_.active->index_bytes() + bytes + 2 * segment_type::mark_room, keyed))
            return s_.active->index_no_more_chunks();
        keel::detail::if_memory_lasts([&] { s_.encode_index(); });
        static_cast<void>(path_.bring_out(nullptr));
    }
    /// When the log is quiet: writes a mark that proves the records before it. The mark is durable when this returns. It begins in a new
    /// block, so that damage to one block cannot destroy both the records and their proof.
    result<void> put_idle_mark(leader& lead) {
        if (s_.active->records() == 0) return bring_out_mark(lead); // its start mark proves all earlier records
        auto const bytes = s_.active->bytes_to_next_block() + segment_type::mark_room;
        if (!s_.active->has_room(bytes, 0)) return {};
        s_.encode_filler();
        s_.encode_mark(format::mark_kind::idle);
        return bring_out_mark(lead);
    }
    result<void> put_closing_mark(leader& lead) {
        if (!s_.active->has_room_to_close()) return {};
        s_.encode_mark(format::mark_kind::close);
        return bring_out_mark(lead);
    }
    result<void> bring_out_mark(leader& lead) {
        KEEL_TRY(path_.bring_out(&lead));
        return s_.active && s_.health.is_writable() ? path_.sync(lead) : result<void>{};
    }

    // ---- syncing ----------------------------------------------------------------------------------------------------------------

    /// Waits for a leader whose sync covers `wanted`, or becomes the leader and syncs.
    result<void> sync_up_to(lsn wanted, lock_type& hold) {
        for (;;) {
            if (s_.durable >= wanted) return {};
            if (!writable()) return s_.refuse();
            if (s_.lead.is_taken()) {
                s_.lead.wait(hold);
                continue;
            }
            auto lead = s_.lead.take(hold);
            KEEL_TRY(path_.sync(lead));
        }
    }

    // ---- roll-over --------------------------------------------------------------------------------------------------------------

    /// Whether a segment should be prepared in advance: the active one is half full, or the log rolls over with segments of full size. So a
    /// store with few writes has only the segment that it writes to.
    [[nodiscard]] bool is_busy() const noexcept {
        return s_.active->is_half_full() || (has_rolled_ && s_.active->bytes() >= segment_type::bytes_max);
    }
    void follow_growth() noexcept {
        if (!s_.active->is_half_full()) return;
        // If the clock was set back, the time is huge, and the segment counts as filled slowly.
        s_.pool.grow_to(growth_factor(s_.clock_ns() - s_.active->created_ns()) * s_.active->bytes());
    }
    enum class seals : std::uint8_t { at_once, behind };

    /// Ends the active segment and activates the next one, with room for `wanted`. Precondition: nothing is pending, and no segment that
    /// was left is unsealed.
    result<void> roll(leader& lead, segment_demand const& wanted, seals when) {
        if (s_.active->first() == s_.next && s_.active->bytes() >= segment_type::bytes_max)
            return failure(errc::too_large, "a fresh segment has no room for it");
        follow_growth();
        // A full disk shows here, before anything has changed: the write is refused, and the active segment stays as it is. The reserve is
        // claimed first, because calls that free space need it once the disk is full.
        auto ready = s_.only_erases ? s_.pool.first_ready(wanted, space_policy::reserved)
                                    : s_.pool.claim_reserve().and_then(
                                          [&] { return s_.pool.first_ready(wanted, space_policy::ordinary); });
        if (!ready) {
            end_only_erases();
            s_.health.stop_writing("no segment could be made ready: ", ready.error());
            s_.segment_usable = true;
            return failure(std::move(ready).error());
        }
        has_rolled_ = true;
        KEEL_TRY(sync_and_seal(lead, when));
        if (s_.active) return {}; // it was abandoned, and another segment is active already
        return first_.run(lead, wanted);
    }
    /// Mapped path: syncs the active segment. Then seals it, or leaves it to be sealed later. Errors: writing has stopped.
    result<void> sync_and_seal(leader& lead, seals when) noexcept {
        if constexpr (mapped) {
            auto const synced = keel::detail::guarded([&] { return s_.active->sync(); });
            if (!synced) return fail_over_.abandon(lead, synced.error());
            s_.active->note_synced(s_.active->newest_block_batch());
            s_.durable = s_.accepted;
        }
        auto sealed = keel::detail::guarded([&]() -> result<void> {
            if (when == seals::at_once) return seal_active(lead, {}, at_seal::log_goes_on);
            first_.ended(sealing_.leave(lead));
            return {};
        });
        if (sealed || !s_.health.is_writable()) return sealed;
        return fail_over_.abandon(lead, sealed.error());
    }
    result<void> seal_active(leader& lead, format::edit_builder edit, at_seal then) {
        KEEL_TRY_LET(link, sealing_.seal(lead, std::move(edit), then));
        first_.ended(link);
        return {};
    }

    // ---- stopping and resuming -----------------------------------------------------------------------------------------------------

    result<void> resume_as_leader(leader& lead) {
        s_.pool.retry();
        // A failed edit may have left a part on the disk. Remove that part before anything is written after it.
        KEEL_TRY(s_.pool.make_durable());
        KEEL_TRY(sealing_.finish(lead));
        if (s_.health.heals_itself() || s_.only_erases) {
            KEEL_TRY(s_.pool.keep_reserve()); // first: calls that free space need the reserve
            KEEL_TRY(s_.pool.make_ready());
        }
        end_only_erases();
        if (s_.health.is_writable()) return {};
        if (s_.active && !s_.segment_usable) KEEL_TRY(fail_over_.restart_after_visible(lead));
        s_.segment_usable = false;
        s_.health.end_condition(state_cause::device);
        s_.health.resume_writing();
        return {};
    }
    result<void> end_in_order(leader& lead) {
        if (never_writes_) return {};
        if (s_.health.is_writable()) KEEL_TRY(sealing_.finish(lead));
        if (!s_.pending.batches.empty()) bring_out_pending(lead); // marks alone are written with the closing mark
        if (!s_.health.is_writable()) return refuse_to_close();   // accepted records may not be on the disk
        if (!s_.active && s_.durable < s_.accepted) KEEL_TRY(first_.run(lead, {}));
        if (!s_.active) return {};
        if (s_.durable < s_.accepted) KEEL_TRY(path_.sync(lead));
        return put_closing_mark(lead);
    }
    /// Seals the active segment and retires prepared but unused segments. One edit does both.
    result<void> seal_last(leader& lead) {
        format::edit_builder edit;
        s_.pool.add_retire_unused(edit);
        if (s_.active) KEEL_TRY(seal_active(lead, std::move(edit), at_seal::log_ends));
        else if (!edit.empty() && !s_.pool.commit(edit)) return {}; // the unused segments stay prepared
        keel::detail::if_memory_lasts([&] { s_.pool.remove_unused(); });
        return {};
    }
    [[nodiscard]] tl::unexpected<error> refuse_to_close() {
        s_.closing = false;
        auto why = s_.refuse();
        s_.closing = true;
        return why;
    }

    writer_start start_;
    state_type s_;
    fail_over<state_type> fail_over_;
    sealing_type sealing_;
    first_activation<state_type> first_;
    path_type path_;
    std::function<void()> after_seal_{};    ///< set only if the policy reads sealed segments back
    bool never_writes_;                     ///< opened read-only, or a repair failed: no segment is ever activated
    std::atomic<bool> mark_due_{false};     // relaxed: a hint
    std::atomic<bool> lacks_room_{false};   // relaxed: a hint
    std::atomic<bool> syncs_writes_{false}; // relaxed: set before the write that needs it
    // Relaxed: a thread that was told of a conflict has seen the store to this value, because the store came first.
    std::atomic<std::uint64_t> conflict_{0};
    bool has_rolled_ = false; ///< this opening has rolled over at least once
};

} // namespace keel::inline v0::wal

#endif
