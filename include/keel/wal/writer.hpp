// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WRITER_HPP
#define KEEL_WAL_WRITER_HPP

// The writer: batches in, acknowledged LSNs out. This file is its public face and says who may do what when; the work is done by its parts:
//   write_state.hpp       what the parts share              leadership.hpp       the right to change the log
//   written_path.hpp      every_write, group_commit         mapped_path.hpp      interval, os_buffered
//   active_segment.hpp    the segment that is written to    activation.hpp       making a prepared segment the active one
//   first_activation.hpp  the first write after opening     fail_over.hpp        after a failed write or sync
//   sealing.hpp           ending a segment                  health.hpp           what the store can do, and why
//
// What is on the disk when something is acknowledged: its frames, by a sync that returned, in a segment whose name and registration were
// durable before it was activated; and every frame before them, because a segment is synced before the next one is used. The mark in a frame
// is the durable LSN at the time of encoding, so it only ever speaks of syncs that had returned.
//
// Exceptions: std::bad_alloc leaves a call only before anything has changed. Once a batch is encoded its caller gets a result.
//
// Thread rules: any number of threads call; close(), abandon() and the destructor run alone. The mutex is held during the I/O of activation,
// roll-over and fail-over, when nobody could write anyway; readers never take it. Lock order: detail/lock_order.hpp.

#include <keel/detail/guarded.hpp>
#include <keel/detail/lock_order.hpp>
#include <keel/error.hpp>
#include <keel/observe/concept.hpp>
#include <keel/policy/durability/concept.hpp>
#include <keel/recovery/options.hpp>
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
    /// The most bytes of frames that one batch may take.
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

    /// Writes a batch, whole or not at all. Returns the LSN of its last record, once that is as safe as the durability policy says.
    [[nodiscard]] result<lsn> write(std::span<operation const> batch) {
        return write_if(batch, [](auto const&) { return result<void>{}; });
    }
    /// Writes the batch if `allowed` finds nothing against it at the moment the batch takes its LSNs: all lower ones are applied to
    /// the sink by then, or are told by `each_pending(visit)` as visit(lsn, key). Called with the mutex held.
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
            if (written && syncs_writes_.load(std::memory_order_relaxed)) [[unlikely]] // what fails shows in state()
                static_cast<void>(keel::detail::guarded([&] { return sync_up_to(*written, hold); }));
        if constexpr (reads_sealed_back) {
            bool const some = sealing_.has_unread();
            hold.unlock();
            if (some && after_seal_) after_seal_();
        }
        return written;
    }
    /// Whether nothing but the writes themselves can keep the interval between two syncs: then each one syncs.
    void sync_writes(bool yes) noexcept { syncs_writes_.store(yes, std::memory_order_relaxed); }
    /// Everything up to `at`, which a write returned, survives power loss once this returns.
    [[nodiscard]] result<void> make_durable(lsn at) {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        KEEL_TRY(sync_up_to(at, hold));
        return s_.nothing_lost({at, at});
    }

    /// Gives an LSN to something that stands beside the log and becomes part of the store at that moment, through `take_effect(lsn)`. In
    /// the log stands an erase of the empty key, which no key is equal to, so readers of the log see nothing. When `take_effect` is called
    /// that record is durable, as is all before it; nobody sees that LSN or a later one yet, and nobody writes.
    /// Errors: those of a write; outcome_unknown, where `take_effect` failed: the store is read-only then. Else nothing has happened.
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
                // A fresh segment has the record, where it means nothing.
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

    /// All records accepted before the call survive power loss once it returns. Errors: those of the sync; io_error, where accepted records
    /// were lost before, until accept_losses().
    [[nodiscard]] result<void> sync() {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        if (s_.closing) return s_.refuse();
        // What was accepted may not be on the disk.
        if (!s_.health.is_writable() && !never_writes_) return s_.refuse();
        if (s_.durable >= s_.accepted && !s_.lead.is_taken()) return s_.nothing_lost();
        if (!s_.health.is_writable()) return s_.refuse();
        // What a dead process left accepted is proven by writing it again.
        if (!s_.active && !s_.lead.is_taken()) {
            auto lead = s_.lead.take(hold);
            KEEL_TRY(first_.run(lead, {}));
        }
        KEEL_TRY(sync_up_to(s_.accepted, hold));
        return s_.nothing_lost();
    }
    /// Somebody knows of these losses, which the manifest has declared.
    void accept_losses(std::vector<lsn_range> const& known) noexcept {
        std::lock_guard const hold{s_.m};
        s_.accept_losses(known);
        if (s_.lost.empty()) s_.health.end_condition(state_cause::loss);
    }
    /// Ends the segment that is written to, so that everything written so far is in segments that take no more records.
    [[nodiscard]] result<void> roll_over() {
        auto const done = roll_over_now();
        if constexpr (reads_sealed_back)
            if (after_seal_) after_seal_();
        return done;
    }

    /// The same without beginning another one, which the next write does: that takes no room on a full disk.
    [[nodiscard]] result<void> seal() {
        auto const done = seal_now();
        if constexpr (reads_sealed_back)
            if (after_seal_) after_seal_();
        return done;
    }

    // ---- segments that are read back --------------------------------------------------------------------------------------------

    /// `call` is made without the mutex, by a thread that sealed a segment, when what it wrote is acknowledged. It takes the segment by
    /// take_sealed(). Set before the first write.
    void after_seal(std::function<void()> call) { after_seal_ = std::move(call); }
    /// One that was sealed, and that nobody has taken; empty where there is none. It is not recycled while it is held.
    [[nodiscard]] sealed_list take_sealed() noexcept {
        std::lock_guard const hold{s_.m};
        return sealing_.take_unread();
    }
    /// It could not be read back for want of memory: the next one who asks gets it again.
    void give_back_sealed(sealed_list one) noexcept {
        std::lock_guard const hold{s_.m};
        sealing_.give_back_unread(std::move(one));
    }

    // ---- now and then ---------------------------------------------------------------------------------------------------------

    /// What a background thread does, or a program without one now and then: sealing, idle marks, interval syncs, a segment in reserve.
    /// `quiet`: nothing was written for a while. Failures show in state(). Throws std::bad_alloc; the next call goes on.
    /// `prepares`: a segment and the reserve are made ready, too, where they are wanted; lacks_room() says whether that failed.
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
        // Not having a segment ready, or the reserve, is no failure yet: roll-over tries again, and says so.
        bool const reserved = s_.pool.keep_reserve().has_value();
        lacks_room_.store(!reserved || (prepares && !s_.pool.make_ready()), std::memory_order_relaxed);
    }
    /// What housekeep() prepares could not be had last time: whoever calls it often lets some time pass.
    [[nodiscard]] bool lacks_room() const noexcept { return lacks_room_.load(std::memory_order_relaxed); }
    /// Writing has stopped for a cause that passes by itself: housekeep() looks whether it has.
    [[nodiscard]] bool waits_for_resources() const noexcept { return s_.health.heals_itself(); }
    /// Want of space has stopped writing, or all of it but erasing.
    [[nodiscard]] bool lacks_space() const {
        std::lock_guard const hold{s_.m};
        return s_.lacks_space();
    }
    /// The next write puts a mark with the time first: called once a second.
    void mark_due() noexcept { mark_due_.store(true, std::memory_order_relaxed); }

    /// After a failure: tries to become writable again. What was never acknowledged is given up; its LSNs are taken anew.
    [[nodiscard]] result<void> resume() {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        auto lead = s_.lead.take(hold);
        if (s_.closing || never_writes_) return s_.refuse();
        if (s_.health.state() != engine_state::read_only && !s_.only_erases) return {};
        return resume_as_leader(lead);
    }

    /// Writes what is pending, syncs, marks the orderly end and seals. A second call does nothing. Never throws.
    [[nodiscard]] result<void> close() noexcept {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        result<void> done;
        {
            auto lead = s_.lead.take(hold);
            if (s_.health.is_closed()) return {};
            s_.closing = true; // who waits for room is refused, who waits for the leader is served
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
    /// Gives up the object without touching the disk: what a killed process does. For tests and for destructors of failed opens.
    void abandon() noexcept {
        {
            std::lock_guard const hold{s_.m};
            s_.closing = true;
            s_.health.close();
        }
        wake_all();
    }

    // ---- what others say --------------------------------------------------------------------------------------------------------

    /// Something beside the log failed and was survived, or damage was found.
    void add_condition(state_cause what, std::string why) noexcept { s_.health.add_condition(what, std::move(why)); }
    /// That is over.
    void end_condition(state_cause what) noexcept { s_.health.end_condition(what); }
    /// A manifest edit of somebody else failed: it may be there at the next open or not, so nothing is written after it.
    void manifest_failed(error const& why) {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        auto const lead = s_.lead.take(hold); // a group on its way was begun before
        if (writable()) s_.health.stop_writing("the manifest could not be written: ", why);
    }

    // ---- what there is ----------------------------------------------------------------------------------------------------------

    [[nodiscard]] lsn visible() const noexcept { return s_.visible(); }
    [[nodiscard]] lsn durable() const {
        std::lock_guard const hold{s_.m};
        return s_.durable;
    }
    /// Without the mutex: readers ask, and it is held during I/O.
    [[nodiscard]] engine_state state() const noexcept { return s_.health.state(); }
    [[nodiscard]] std::string state_reason() const { return s_.health.reason(); }
    [[nodiscard]] state_cause cause() const noexcept { return s_.health.cause(); }
    /// Waits until records after `seen` are visible, the store is closed or the time is up; gives what is visible then.
    [[nodiscard]] lsn wait_visible(lsn seen, std::chrono::nanoseconds patience) const {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        s_.visible_cv.wait_for(hold, patience, [&] { return visible() > seen || s_.closing; });
        return visible();
    }
    /// A commit was refused because of the record with this LSN, which may not be visible yet.
    void note_conflict(lsn at) noexcept {
        auto newest = conflict_.load(std::memory_order_relaxed);
        while (newest < at.value && !conflict_.compare_exchange_weak(newest, at.value, std::memory_order_relaxed)) {}
    }
    /// Waits until the newest record that a commit was refused for is visible, or will not be: writing it failed, or the store is closed.
    /// Where no other thread brings it out this one does. Where there is none: two loads.
    void wait_for_conflict() {
        auto const at = conflict_.load(std::memory_order_relaxed);
        if (visible().value >= at) [[likely]]
            return;
        wait_settled({at});
        // A failed write gave the LSN back: later calls do not ask for the mutex because of it.
        auto settled = at;
        conflict_.compare_exchange_strong(settled, 0, std::memory_order_relaxed);
    }
    /// The segment records are written to, if any: retention leaves it alone.
    [[nodiscard]] segment_id active_segment() const {
        std::lock_guard const hold{s_.m};
        return s_.active ? s_.active->id() : segment_id{};
    }
    /// How much of the segment that is written to holds records; 0: there is none, or it is fresh.
    [[nodiscard]] std::uint64_t bytes_in_active() const {
        std::lock_guard const hold{s_.m};
        return s_.active && s_.active->records() != 0 ? s_.active->end() - segment_type::frames_begin : 0;
    }
    /// Errors: those that a write would have now, for want of a store that takes any.
    [[nodiscard]] result<void> takes_writes() const {
        std::lock_guard const hold{s_.m};
        if (!writable() || s_.only_erases) return s_.refuse();
        return {};
    }
    /// Whether this opening has written: all that was found is durable then, or was written anew.
    [[nodiscard]] bool has_written() const {
        std::lock_guard const hold{s_.m};
        return s_.has_written;
    }

private:
    static constexpr int segments_per_call = 2; ///< given up for one call of commit_external()

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
        // Where a fresh segment was refused for want of space nothing has happened to the one that is written to.
        bool const is_sound = writable() || (s_.lacks_space() && s_.segment_usable);
        if (s_.closing || never_writes_ || !is_sound) return s_.refuse();
        if (!s_.active || s_.active->records() == 0) return {};
        s_.segment_usable = false; // where sealing fails the file may be half sealed
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
    /// The records that have an LSN and are not visible: those that are pending, and those a leader is writing, which it only reads too.
    template <class Visit>
    void each_pending(Visit const& visit) const {
        if (!s_.active) return;
        auto const tell = [&](lsn at, format::frame_view const& frame) { visit(at, as_text(frame.key())); };
        for_each_record(s_.in_flight.bytes, s_.active->first(), tell);
        for_each_record(s_.pending.bytes, s_.active->first(), tell);
    }

    // ---- a full disk ------------------------------------------------------------------------------------------------------------

    /// Writes go on for what only erases, with a small segment out of the reserve if need be. Errors: it does more, or not even that can be
    /// had.
    result<void> write_on_full_disk(std::span<operation const> batch, lock_type& hold) {
        auto const erases = [](operation const& op) { return op.type == format::frame_type::erase && !op.key.empty(); };
        if (s_.closing || never_writes_ || !std::ranges::all_of(batch, erases)) return s_.refuse();
        if (s_.only_erases && writable()) return {};
        auto lead = s_.lead.take(hold);
        if (s_.closing) return s_.refuse();
        if (!s_.lacks_space() || writable()) return {}; // somebody else has seen to it
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
    /// There is room again, or not even for erasing.
    void end_only_erases() noexcept {
        if (!std::exchange(s_.only_erases, false)) return;
        s_.health.end_condition(state_cause::no_space);
    }

    // ---- room -----------------------------------------------------------------------------------------------------------------

    /// An active segment with room for `bytes` and a mark, at a moment when a batch may be encoded.
    result<void> ready_for(std::uint64_t bytes, std::uint64_t keyed, lock_type& hold) {
        for (;;) {
            if (!writable()) return s_.refuse();
            // A mark may be due before it, and an idle mark comes after it.
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
    /// Written path: marks alone, or a group whose callers have not got the leadership yet. They are told what became of it.
    void bring_out_pending(leader& lead) noexcept {
        if constexpr (!mapped)
            while (s_.active && !s_.pending.empty()) static_cast<void>(path_.commit_as_leader(lead));
    }
    /// Waits until `at` is visible, or nothing is on its way that has it.
    void wait_settled(lsn at) {
        KEEL_TAKES(writer, &s_.pool);
        lock_type hold{s_.m};
        // An LSN that was given back after a failed write may be taken anew: that record is waited for like the first.
        while (visible() < at && at < s_.next && !s_.closing) {
            if (s_.lead.is_taken()) {
                s_.lead.wait(hold);
                continue;
            }
            auto lead = s_.lead.take(hold);
            if (!commit_pending(lead)) return;
        }
    }
    /// False: no record waits for a leader.
    bool commit_pending(leader& lead) noexcept {
        if (!s_.active || s_.pending.batches.empty() || (mapped && path_.may_go_on())) return false;
        static_cast<void>(mapped ? path_.handle_failed_store(lead) : path_.sync(lead));
        return true;
    }
    /// An active segment with room for `bytes`, nothing pending, all that was accepted durable; and the leadership.
    result<leader> all_durable(std::uint64_t bytes, lock_type& hold) {
        for (;;) {
            KEEL_TRY(ready_for(bytes, 1, hold));
            auto lead = s_.lead.take(hold);
            if (!writable()) return s_.refuse();
            if (mapped ? s_.durable < s_.accepted : !s_.pending.batches.empty()) KEEL_TRY(path_.sync(lead));
            // Waiting for the leadership, or the sync, may have let others in.
            bool const fits = s_.active && s_.active->has_room(bytes + segment_type::mark_room, 1);
            bool const quiet = mapped ? s_.durable >= s_.accepted : s_.pending.batches.empty();
            if (fits && quiet && writable()) return lead;
        }
    }

    // ---- marks ------------------------------------------------------------------------------------------------------------------

    /// A mark is due once a second and at the start of each chunk.
    void put_due_mark() {
        if (!s_.active->enters_new_chunk() && !mark_due_.load(std::memory_order_relaxed)) return;
        if (s_.active->has_spare_mark()) return; // a third one would take the room of the largest batch
        s_.encode_mark(format::mark_kind::periodic);
        mark_due_.store(false, std::memory_order_relaxed);
        s_.active->chunk_is_marked();
        static_cast<void>(path_.bring_out(nullptr));
    }
    /// A chunk that is full gets its index, if that leaves room for what comes next and for what sealing needs. Where memory is short it
    /// gets none: its records are found by a scan.
    void put_due_index(std::uint64_t bytes, std::uint64_t keyed) {
        if (!s_.active->index_is_due()) [[likely]]
            return;
        if (!s_.active->has_room(s_.active->index_bytes() + bytes + 2 * segment_type::mark_room, keyed))
            return s_.active->index_no_more_chunks();
        keel::detail::if_memory_lasts([&] { s_.encode_index(); });
        static_cast<void>(path_.bring_out(nullptr));
    }
    /// Once the log is quiet: a mark, durable when this returns, that proves the records before it. It begins a block of its own, so that no
    /// damage to one block takes both the records and their proof.
    result<void> put_idle_mark(leader& lead) {
        if (s_.active->records() == 0) return bring_out_mark(lead); // the mark it began with proves all there is
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

    /// Waits for a leader whose sync covers `wanted`, or leads.
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

    /// A segment is prepared ahead once its turn is near: the active one is half full, or the log has grown and rolls over. So a store that
    /// gets little has no more than the segment it writes to.
    [[nodiscard]] bool is_busy() const noexcept {
        return s_.active->is_half_full() || (has_rolled_ && s_.active->bytes() >= segment_type::bytes_max);
    }
    void follow_growth() noexcept {
        if (!s_.active->is_half_full()) return;
        // A clock that was set back says a huge time, and so that it was slow.
        s_.pool.grow_to(growth_factor(s_.clock_ns() - s_.active->created_ns()) * s_.active->bytes());
    }
    enum class seals : std::uint8_t { at_once, behind };

    /// Ends the active segment and activates the next, with room for what is wanted. Nothing is pending, and no segment was left.
    result<void> roll(leader& lead, segment_demand const& wanted, seals when) {
        if (s_.active->first() == s_.next && s_.active->bytes() >= segment_type::bytes_max)
            return failure(errc::too_large, "a fresh segment has no room for it");
        follow_growth();
        // A full disk shows here, before anything is changed: the write is refused, and the active segment stays as it is.
        // Before the disk can be full there is a reserve for what frees space then.
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
        if (s_.active) return {}; // it was abandoned instead, and another one is active already
        return first_.run(lead, wanted);
    }
    /// Errors: writing has stopped.
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

    // ---- stopping and going on -----------------------------------------------------------------------------------------------------

    result<void> resume_as_leader(leader& lead) {
        s_.pool.retry();
        // What an edit that failed has left must not be there after what is written from here on.
        KEEL_TRY(s_.pool.make_durable());
        KEEL_TRY(sealing_.finish(lead));
        if (s_.health.heals_itself() || s_.only_erases) {
            KEEL_TRY(s_.pool.keep_reserve()); // first: what frees space is worth more than what takes some
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
        if (!s_.pending.batches.empty()) bring_out_pending(lead); // a mark alone goes with the closing one
        if (!s_.health.is_writable()) return refuse_to_close();   // what was accepted may not be on the disk
        if (!s_.active && s_.durable < s_.accepted) KEEL_TRY(first_.run(lead, {}));
        if (!s_.active) return {};
        if (s_.durable < s_.accepted) KEEL_TRY(path_.sync(lead));
        return put_closing_mark(lead);
    }
    /// Seals the active segment, and gives up what was prepared and is not used: one edit says both.
    result<void> seal_last(leader& lead) {
        format::edit_builder edit;
        s_.pool.add_retire_unused(edit);
        if (s_.active) KEEL_TRY(seal_active(lead, std::move(edit), at_seal::log_ends));
        else if (!edit.empty() && !s_.pool.commit(edit)) return {}; // they stay prepared
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
    std::function<void()> after_seal_{};    ///< only where the policy has segments read back
    bool never_writes_;                     ///< opened read-only, or a repair failed: no segment is ever activated
    std::atomic<bool> mark_due_{false};     // relaxed: a hint
    std::atomic<bool> lacks_room_{false};   // relaxed: a hint
    std::atomic<bool> syncs_writes_{false}; // relaxed: set before the write that needs it
    std::atomic<std::uint64_t> conflict_{
        0};                   // relaxed: whoever was told of a conflict has seen the store that came before
    bool has_rolled_ = false; ///< one segment was not enough for this opening
};

} // namespace keel::inline v0::wal

#endif
