// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WRITER_HPP
#define KEEL_WAL_WRITER_HPP

// The write path: batches in, acknowledged LSNs out.
//
// Written path (every_write, group_commit): a batch is encoded into the filling group under the mutex; one of the waiting callers
// becomes the leader, takes the group, writes and syncs it without the mutex, then acknowledges everybody in it.
// Mapped path (interval, os_buffered): a batch is stored into the mapping under the mutex, or, if it is large, written to the file that
// is mapped; its first tag last; and accepted at once.
//
// What is on the disk when something is acknowledged: the frames, by a sync that returned, in a segment whose header was written
// before them in the same file (so the same sync covers it), whose name and registration were durable before it was activated; and
// every frame before them, because segments are synced before the next one is used. The mark in a frame is the durable LSN at the
// time of encoding, so it only ever speaks of syncs that had returned.
//
// After a failed write or sync the segment is given up: never written, synced or sealed again. Everything from the first batch that
// shares a block with durable bytes is encoded anew into a fresh segment, synced there, and only then acknowledged. If that fails
// too the writer is read-only until resume(), and waiting callers are told outcome_unknown.
//
// Concurrency: m_ guards everything here but what is atomic, and is held during the I/O of activation, roll-over and rescue, when
// nobody could write anyway, and of write_beside(), when nobody may; readers never take it.
// leading_ says that somebody works on a group without holding m_.
// visible_ (release) is what readers may see (acquire): all records up to it were given to the sink before.

#include <keel/detail/assert.hpp>
#include <keel/error.hpp>
#include <keel/observe/concept.hpp>
#include <keel/policy/durability/concept.hpp>
#include <keel/recovery/options.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/chunk_indexer.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/notes_file.hpp>
#include <keel/wal/segment_index.hpp>
#include <keel/wal/segments.hpp>
#include <keel/wal/window.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace keel::inline v0 {

/// What a store can do right now.
enum class engine_state : std::uint8_t {
    healthy,   ///< everything
    degraded,  ///< everything, but something failed and was survived, or damage was found; state_reason() says what
    read_only, ///< reads only; resume() may help
    failed,    ///< nothing: the store must be opened again
    closed,
};

[[nodiscard]] constexpr std::string_view name_of(engine_state state) noexcept {
    switch (state) {
    case engine_state::healthy: return "healthy";
    case engine_state::degraded: return "degraded";
    case engine_state::read_only: return "read_only";
    case engine_state::failed: return "failed";
    case engine_state::closed: return "closed";
    }
    return "unknown";
}

} // namespace keel::inline v0

namespace keel::inline v0::wal {

/// Given what is acknowledged, in LSN order, by one thread at a time, before it becomes visible.
///   s.begin(segment)     void   what is applied from here on lies in this segment
///   s.expect(frame)      void   may be left out: a hint that it will be applied next, or soon
///   s.apply(lsn, frame)  void   the frame's views are gone afterwards; a record that was written anew is given once more
///   s.sealed(segment)    void   takes no more records, and all of them are on the disk (a closed_segment)
///   s.moved(old, last)   void   the records of segment `old` behind `last` were all applied again since begin()
template <class S>
concept record_sink = requires(S s, lsn at, format::frame_view const& frame, segment_id id, closed_segment what) {
    s.begin(id);
    s.apply(at, frame);
    s.sealed(std::move(what));
    s.moved(id, at);
};

struct discard_records {
    void begin(segment_id) noexcept {}
    void apply(lsn, format::frame_view const&) noexcept {}
    void sealed(closed_segment const&) noexcept {}
    void moved(segment_id, lsn) noexcept {}
};

/// A segment's records that count and that nothing proves durable. The process that wrote them may have seen its sync fail: then they
/// are in the page cache only, which looks clean, and a sync of ours would prove nothing. They are written again.
struct unproven_tail {
    segment_id id{};
    std::string path{};
    std::uint64_t salt = 0;
    lsn first{};                      ///< LSN deltas count from here
    lsn proven{};                     ///< up to it, the bytes in this file are known to be on the disk
    std::vector<lsn_range> counted{}; ///< in LSN order
    std::uint64_t begin = 0;
    std::uint64_t end = 0; ///< offset behind the last frame that counts
};

/// Where a writer begins: what recovery leaves behind.
struct writer_start {
    lsn last{};                          ///< the last LSN of the log, declared losses included
    lsn durable{};                       ///< known durable already
    bool cut_needed = false;             ///< a crash left an open end: the next header voids what lies behind `last`
    std::vector<std::string> unsynced{}; ///< files whose counted bytes may not be on the disk yet
    std::vector<unproven_tail> tails{};  ///< all records behind `durable`
    format::segment_link previous{};     ///< what the next header says of the segment before,
    std::uint64_t previous_proven =
        0; ///< where that segment ends in it if the tails, none of them there, are written again
    std::vector<format::segment_entry> spares{};  ///< prepared segments that were found
    std::vector<format::segment_entry> retired{}; ///< segments given up whose files a crash left
    std::string reason{};                         ///< why the state is not healthy; empty: it is
    bool read_only = false;
};

template <class Config, record_sink Sink>
class writer {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;
    using D = typename Config::durability;
    using file_type = typename fs_type::file;
    using mapping_type = typename fs_type::mapping;
    using keeper_type = segment_keeper<C, fs_type>;
    using notes_type = notes_file<C, fs_type>;
    static constexpr bool mapped = D::path == write_path::mapped;

    writer(keeper_type& keeper, catalog& parts, Sink& sink, typename Config::observer& observer,
           std::optional<notes_type> notes, writer_start start, open_options const& options)
        : keeper_{keeper}, catalog_{parts}, sink_{sink}, observer_{observer}, notes_{std::move(notes)},
          start_{std::move(start)}, clock_ns_{options.clock_ns}, next_{start_.last.next()}, accepted_{start_.last},
          durable_{start_.durable}, visible_{start_.last.value} {
        if (start_.read_only) state_ = engine_state::read_only;
        else if (!start_.reason.empty()) state_ = engine_state::degraded;
        reason_ = start_.reason;
        if constexpr (mapped) keeper_.leave_unfilled();
    }
    writer(writer const&) = delete;
    writer& operator=(writer const&) = delete;

    /// The most bytes of frames that one batch may take.
    static constexpr std::uint64_t batch_bytes_max = format::frames_limit(Config::segment_bytes) -
                                                     format::frames_begin(Config::segment_bytes) -
                                                     2 * format::frame_bytes(format::mark_bytes);

    /// Writes a batch, whole or not at all. Returns the LSN of its last record, once that is as safe as the durability policy says.
    [[nodiscard]] result<lsn> write(std::span<operation const> batch) {
        return write_if(batch, [](auto const&) { return result<void>{}; });
    }
    /// Writes the batch if `allowed` finds nothing against it at the moment the batch takes its LSNs: all lower ones are applied to
    /// the sink by then, or are told by `each_pending(visit)` as visit(lsn, key). Called with the mutex held.
    template <class Allowed>
    [[nodiscard]] result<lsn> write_if(std::span<operation const> batch, Allowed const& allowed) {
        auto const bytes = frame_bytes_of(batch);
        if (bytes > batch_bytes_max)
            return failure(errc::too_large,
                           "the batch takes " + std::to_string(bytes) + " bytes of log, a segment has room for " +
                               std::to_string(batch_bytes_max) + ": split it, or choose a larger segment_size");
        std::unique_lock hold{m_};
        if (next_.value + batch.size() > lsn_highest.value)
            return failure(errc::too_large, "the log has used up its LSNs; copy the live data into a new store");
        KEEL_TRY(ready_for(bytes, keyed_in(batch), hold));
        KEEL_TRY(allowed([this](auto const& visit) { this->each_pending(visit); }));
        if constexpr (mapped) return write_mapped(batch);
        else return write_through(batch, hold);
    }

    /// Gives an LSN to something that stands beside the log and becomes part of the store at that moment, through `take_effect(lsn)`. In
    /// the log stands an erase of the empty key, which no key is equal to: what a reader of the log makes of it is nothing. When
    /// `take_effect` is called it is durable, as is all before it; nobody sees that LSN or a later one yet, and nobody writes.
    /// Errors: those of a write; outcome_unknown, where `take_effect` failed: the store is read-only then. Else nothing has happened.
    template <class TakeEffect>
    [[nodiscard]] result<lsn> write_beside(TakeEffect const& take_effect) {
        operation const nothing{.type = format::frame_type::erase};
        std::unique_lock hold{m_};
        for (int turn = 0;; ++turn) {
            KEEL_TRY(make_all_durable(frame_bytes_of(std::span{&nothing, 1}), hold));
            if (next_ >= lsn_highest)
                return failure(errc::too_large, "the log has used up its LSNs; copy the live data into a new store");
            auto const at = encode(std::span{&nothing, 1});
            leading_ = true;
            auto written = make_filling_durable();
            auto const effect = written ? take_effect(at) : result<void>{};
            auto saved = written ? result<void>{}
                                 : rescue(written.error()); // a fresh segment has it, and it means nothing
            if (written) show_written();
            leading_ = false;
            cv_.notify_all();
            if (!effect) {
                stop_writing("the manifest could not be written: ", effect.error());
                return failure(unknown_outcome());
            }
            if (written) return at;
            KEEL_TRY(saved);
            if (turn == turns_max) return failure(std::move(written).error());
        }
    }

    /// All records accepted before the call survive power loss once it returns.
    [[nodiscard]] result<void> sync() {
        std::unique_lock hold{m_};
        if (state_ == engine_state::closed) return failure(errc::closed, "the store is closed");
        if (!writable() && !start_.read_only) return refuse(); // what was accepted may not be on the disk
        if (durable_ >= accepted_ && !leading_) return {};
        if (!writable()) return refuse();
        if (!active_ && !leading_)
            KEEL_TRY(activate_first()); // what a dead process left accepted is proven by writing it again
        auto const wanted = accepted_;
        return sync_until(wanted, hold);
    }

    /// What a background thread does, or a program without one now and then: idle marks, interval syncs, a segment in reserve.
    /// `quiet`: nothing was written for a while. Failures show in state().
    void housekeep(bool quiet) {
        std::unique_lock hold{m_};
        if (starved_ && state_ == engine_state::read_only && !leading_) static_cast<void>(resume_locked());
        if (!active_ || leading_ || !writable()) return;
        if constexpr (mapped && D::sync_interval_ms != 0)
            if (durable_ < accepted_) static_cast<void>(sync_until(accepted_, hold));
        if (quiet && active_ && !leading_ && writable() && durable_ >= accepted_ && marked_ < durable_)
            static_cast<void>(put_mark(format::mark_kind::idle, hold));
        if (!writable()) return;
        hold.unlock();
        // Not having a segment ready, or the reserve, is no failure yet: roll-over tries again, and says so.
        if (keeper_.make_ready()) static_cast<void>(keeper_.keep_reserve());
    }
    /// Read-only for want of space, and writable again by itself once there is some: housekeep() tries.
    [[nodiscard]] bool starved() const {
        std::lock_guard const hold{m_};
        return starved_;
    }
    /// The next write puts a mark with the time first: called once a second.
    void mark_due() noexcept { mark_due_.store(true, std::memory_order_relaxed); }

    /// After a failure: tries to become writable again. What was never acknowledged is given up; its LSNs are taken anew.
    [[nodiscard]] result<void> resume() {
        std::unique_lock hold{m_};
        cv_.wait(hold, [&] { return !leading_; });
        if (state_ == engine_state::closed) return failure(errc::closed, "the store is closed");
        if (state_ != engine_state::read_only || start_.read_only) {
            if (start_.read_only) return refuse();
            return {};
        }
        return resume_locked();
    }

    /// Syncs, marks the orderly end and seals. Safe to call twice.
    [[nodiscard]] result<void> close() {
        std::unique_lock hold{m_};
        cv_.wait(hold, [&] { return !leading_; });
        if (state_ == engine_state::closed) return {};
        result<void> done;
        if (state_ == engine_state::read_only && !start_.read_only)
            done = refuse(); // what was accepted may not be on the disk
        if (!active_ && writable() && durable_ < accepted_) done = activate_first();
        if (active_ && writable()) {
            if (durable_ < accepted_) done = sync_until(accepted_, hold);
            if (done && writable()) done = put_mark(format::mark_kind::close, hold);
            if (done && active_ && writable()) done = seal_active();
        }
        if (notes_ && !start_.read_only) note();
        state_ = engine_state::closed;
        cv_.notify_all();
        return done;
    }

    /// Gives up the object without touching the disk: what a killed process does. For tests and for destructors of failed opens.
    void abandon() noexcept {
        std::lock_guard const hold{m_};
        state_ = engine_state::closed;
    }

    /// Ends the segment that is written to, so that everything written so far is in segments that take no more records.
    [[nodiscard]] result<void> roll_over() {
        std::unique_lock hold{m_};
        for (;;) {
            cv_.wait(hold, [&] { return !leading_; });
            if (!writable()) return refuse();
            if (!active_ || active_->count == 0) return {};
            if (filling_.empty()) return roll();
            static_cast<void>(lead(hold));
        }
    }
    /// How much of the segment that is written to holds records; 0: there is none, or it is fresh.
    [[nodiscard]] std::uint64_t bytes_in_active() const {
        std::lock_guard const hold{m_};
        return active_ && active_->count != 0 ? active_->at - format::frames_begin(segment_bytes) : 0;
    }
    /// Errors: those that a write would have now, for want of a store that takes any.
    [[nodiscard]] result<void> takes_writes() const {
        std::lock_guard const hold{m_};
        if (!writable()) return refuse();
        return {};
    }
    /// Whether this opening has written: all that was found is durable then, or was written anew.
    [[nodiscard]] bool has_written() const {
        std::lock_guard const hold{m_};
        return active_ != nullptr;
    }
    /// Something beside the log failed and was survived.
    void degrade(std::string reason) {
        std::lock_guard const hold{m_};
        if (state_ == engine_state::healthy) set_state(engine_state::degraded, std::move(reason));
    }
    /// That is over.
    void no_longer(std::string const& reason) {
        std::lock_guard const hold{m_};
        if (state_ == engine_state::degraded && reason_ == reason) set_state(engine_state::healthy, {});
    }
    /// A manifest edit of somebody else failed: it may be there at the next open or not, so nothing is written behind it.
    void manifest_failed(error const& why) {
        std::lock_guard const hold{m_};
        if (writable()) stop_writing("the manifest could not be written: ", why);
    }
    void tell(observe::event const& what) {
        std::lock_guard const hold{m_};
        observer_.on(what);
    }

    /// Damage that a reader came upon.
    void tell(std::vector<finding> const& found) {
        std::lock_guard const hold{m_};
        for (auto const& f : found) observer_.on(observe::damage_found{f});
        if (state_ == engine_state::healthy)
            set_state(engine_state::degraded, "damage was found while reading: " + found.front().file + " at " +
                                                  std::to_string(found.front().offset) + "; see the corruption log");
    }

    [[nodiscard]] lsn visible() const noexcept { return {visible_.load(std::memory_order_acquire)}; }
    [[nodiscard]] lsn durable() const {
        std::lock_guard const hold{m_};
        return durable_;
    }
    /// Without the mutex: readers ask, and it is held during I/O.
    [[nodiscard]] engine_state state() const noexcept { return state_.load(std::memory_order_acquire); }
    [[nodiscard]] std::string state_reason() const {
        std::lock_guard const hold{m_};
        return reason_;
    }
    /// Waits until records behind `seen` are visible or the time is up; gives what is visible then.
    [[nodiscard]] lsn wait_visible(lsn seen, std::chrono::nanoseconds patience) const {
        std::unique_lock hold{m_};
        visible_cv_.wait_for(hold, patience, [&] { return visible() > seen || state_ == engine_state::closed; });
        return visible();
    }
    /// The segment records are written to, if any: retention leaves it alone.
    [[nodiscard]] segment_id active_segment() const {
        std::lock_guard const hold{m_};
        return active_ ? active_->id : segment_id{};
    }

private:
    struct active_segment_state {
        segment_id id{};
        std::shared_ptr<file_type> file{};
        std::shared_ptr<mapping_type> mapping{};
        frame_encoder<C> encoder{};
        chunk_indexer<C> chunks{};
        format::segment_link previous{};
        lsn first{};
        lsn cut{};
        bool synced = false;           ///< a sync of it returned: its header is on the disk
        std::uint64_t at = 0;          ///< offset behind the last frame encoded
        std::uint64_t handed_over = 0; ///< mapped path: the disk has been asked to write up to here
        std::uint64_t count = 0;
        std::uint64_t keyed = 0; ///< of those, records that an index has
        std::uint64_t first_time_ns = 0;
        std::uint64_t last_time_ns = 0;
    };
    using lock_type = std::unique_lock<std::mutex>;

    static constexpr std::uint64_t segment_bytes = Config::segment_bytes;
    static constexpr std::uint64_t limit = format::frames_limit(segment_bytes);
    static constexpr std::uint64_t block = format::block_bytes(segment_bytes);
    static constexpr std::uint64_t hand_over_bytes = 2 * MiB;
    /// Mapped path: from so many bytes on one system call costs less than a page fault for each page. Both write the same page cache.
    static constexpr std::uint64_t written_from = std::min(8 * KiB, segment_bytes / 8);
    static constexpr std::uint64_t mark_room = format::frame_bytes(format::mark_bytes);

    /// The records that have an LSN and are not visible: those that gather, and those a leader is writing, which he only reads too.
    template <class Visit>
    void each_pending(Visit const& visit) const {
        auto const tell = [&](lsn at, format::frame_view const& frame) { visit(at, as_text(frame.key())); };
        if (leading_) for_each_record(flight_.bytes, active_->first, tell);
        for_each_record(filling_.bytes, active_->first, tell);
    }

    [[nodiscard]] bool writable() const noexcept {
        return state_ == engine_state::healthy || state_ == engine_state::degraded;
    }

    [[nodiscard]] tl::unexpected<error> refuse() const {
        if (state_ == engine_state::closed) return failure(errc::closed, "the store is closed");
        if (starved_)
            return failure(error{.code = errc::no_space,
                                 .message = "nothing was written: " + reason_ +
                                            "; reads go on, and writes resume by "
                                            "themselves soon after there is room again, or at once with resume()",
                                 .retryable = true});
        return failure(errc::read_only, "the store serves reads only: " + reason_ +
                                            "; free what is in the way, then call resume() or open again");
    }

    void set_state(engine_state to, std::string reason) {
        state_ = to;
        reason_ = std::move(reason);
        if (to != engine_state::read_only) starved_ = sound_ = false;
        observer_.on(observe::state_changed{name_of(to), reason_});
    }
    /// Reads only from here on, because of this. A full disk is a state that passes by itself.
    void stop_writing(std::string what, error const& why) {
        starved_ = why.code == errc::no_space;
        set_state(engine_state::read_only, std::move(what) + to_string(why));
    }

    /// Called with m_ held and nobody leading, in the read-only state.
    result<void> resume_locked() {
        keeper_.retry();
        // What an edit that failed has left must not be there behind what is written from here on.
        KEEL_TRY(keeper_.settle());
        if (starved_) {
            KEEL_TRY(keeper_.make_ready());
            KEEL_TRY(keeper_.keep_reserve());
        }
        auto done = active_ && !sound_ ? restart_behind_visible() : result<void>{};
        if (!done) return done;
        set_state(engine_state::healthy, {});
        return {};
    }

    // ---- getting a place to write -------------------------------------------------------------------------------------------

    /// An active segment with room for `bytes` and a mark, the leader's place free where the policy wants one write at a time.
    result<void> ready_for(std::uint64_t bytes, std::uint64_t keyed, lock_type& hold) {
        for (;;) {
            if (!writable()) return refuse();
            if (!active_) {
                if (leading_) {
                    cv_.wait(hold);
                    continue;
                }
                KEEL_TRY(activate_first());
                continue;
            }
            // A mark may be due in front of it, and an idle mark comes behind it.
            bool const fits = has_room(bytes + 2 * mark_room, keyed);
            if (fits && (D::shares_syncs || mapped || !leading_)) break;
            if (leading_) {
                cv_.wait(hold);
                continue;
            }
            if (!filling_.empty()) {
                static_cast<void>(lead(hold));
                continue;
            }
            KEEL_TRY(roll());
        }
        put_due_mark();
        put_due_index(bytes, keyed);
        return {};
    }

    /// Whether so many more bytes leave room for a closing mark and for what sealing needs. A segment's first batch may take the room of
    /// the index: without one it is found by a scan.
    [[nodiscard]] bool has_room(std::uint64_t bytes, std::uint64_t keyed) const noexcept {
        auto const end = active_->at + bytes;
        if (active_->count == 0) return end - mark_room <= limit;
        return end + mark_room <= limit && format::index_fits(end + mark_room, active_->keyed + keyed, segment_bytes);
    }
    [[nodiscard]] static std::uint64_t keyed_in(std::span<operation const> batch) noexcept {
        return static_cast<std::uint64_t>(
            std::ranges::count_if(batch, [](operation const& op) { return op.type != format::frame_type::message; }));
    }

    /// The first write after opening. Nothing behind the old tail is acknowledged before all of that is proven durable.
    result<void> activate_first() {
        for (auto const& path : start_.unsynced) {
            auto synced = sync_old(path);
            if (!synced) {
                stop_writing("the log's old end could not be synced: ", synced.error());
                return synced;
            }
        }
        start_.unsynced.clear();
        if (auto done = keeper_.adopt(std::exchange(start_.spares, {}), std::exchange(start_.retired, {}), next_);
            !done) {
            stop_writing("the manifest could not be written: ", done.error());
            return done;
        }
        if (!start_.tails.empty()) {
            auto end = start_.previous_proven;
            auto parts = read_tails(end);
            if (!parts) {
                stop_writing("the log's old end could not be read again: ", parts.error());
                return failure(std::move(parts).error());
            }
            if (!parts->empty()) return activate_with_tails(*parts, end);
            start_.tails.clear();
        }
        durable_ = std::max(durable_, start_.last);
        return activate_and_list(start_.previous, next_, start_.cut_needed ? next_ : lsn{});
    }

    /// Frames of a segment that is written no more.
    struct old_frames {
        segment_id id{};
        lsn first{};
        frame_group frames{};
    };

    /// The unproven records go to the fresh segment first, under their LSNs, and are durable there before anything else is.
    /// `end`: of the newest of the old segments.
    result<void> activate_with_tails(std::vector<old_frames> const& parts, std::uint64_t end) {
        auto link = start_.previous;
        link.last = parts.front().frames.batches.front().range.first.before();
        link.end = end; // of what lies behind, nothing says that it will stay
        link.aggregate = 0;
        link.ended = format::segment_end::abandoned;
        auto done = rewrite(link, parts, next_, next_);
        if (!done) stop_writing("the log's old end could not be written again: ", done.error());
        else start_.tails.clear();
        return done;
    }

    /// In LSN order; `end` is moved to where the newest segment's proven bytes end, if it is one of them. Where a fresh segment has no
    /// room for all of them there are none: then the files they are in are synced, which is all that can be done.
    result<std::vector<old_frames>> read_tails(std::uint64_t& end) {
        struct found_batch {
            std::size_t tail;
            placed_batch what;
        };
        std::vector<frame_group> files;
        std::vector<found_batch> all;
        std::uint64_t bytes = 0;
        for (auto const& tail : start_.tails) {
            KEEL_TRY_LET(file, keeper_.fs().open(tail.path, io::access::read_only, io::creation::must_exist));
            auto& in = files.emplace_back();
            in.reset(tail.begin);
            in.bytes.resize(static_cast<std::size_t>(tail.end - tail.begin));
            KEEL_TRY_LET(got, file.read(tail.begin, in.bytes));
            in.bytes.resize(got);
            find_batches(in, tail.salt, tail.first);
            if (tail.id == start_.previous.id) end = tail.begin;
            for (auto const& b : in.batches) {
                if (tail.id == start_.previous.id && b.range.last <= tail.proven) end = b.end;
                auto const holds = [&](lsn_range const& r) { return r.contains(b.range.first); };
                bool const counts = std::ranges::any_of(tail.counted, holds);
                if (!counts || b.range.last <= durable_ || b.range.last >= next_) continue;
                all.push_back({files.size() - 1, b});
                bytes += b.end - b.begin;
            }
        }
        if (bytes > batch_bytes_max) {
            for (auto const& tail : start_.tails) KEEL_TRY(sync_old(tail.path));
            return std::vector<old_frames>{};
        }
        std::ranges::sort(all, {}, [](found_batch const& f) { return f.what.range.first; });
        std::vector<old_frames> out;
        for (auto const& [n, b] : all) {
            auto const& tail = start_.tails[n];
            if (out.empty() || out.back().id != tail.id) out.push_back({.id = tail.id, .first = tail.first});
            append_batch(out.back().frames, files[n], b);
        }
        return out;
    }
    static void append_batch(frame_group& to, frame_group const& from, placed_batch const& b) {
        if (to.empty()) to.offset = b.begin;
        auto const bytes = byte_view{from.bytes}.subspan(static_cast<std::size_t>(b.begin - from.offset),
                                                         static_cast<std::size_t>(b.end - b.begin));
        to.batches.push_back(b);
        to.bytes.insert(to.bytes.end(), bytes.begin(), bytes.end());
    }
    result<void> sync_old(std::string const& path) {
        KEEL_TRY_LET(file, keeper_.fs().open(path, io::access::read_write, io::creation::must_exist));
        return file.sync();
    }

    /// Makes a prepared segment the active one. Its header is synced with its first group.
    result<void> activate(format::segment_link const& previous, lsn first, lsn cut, room from = room::ordinary) {
        KEEL_TRY_LET(next, keeper_.take(from));
        KEEL_TRY_LET(opened, keeper_.fs().open(keeper_.paths().segment(next.id), io::access::read_write,
                                               io::creation::must_exist));
        auto const now = clock_ns_();
        format::segment_header header{
            .checksum = checksum_id{C::id}, .store = keeper_.store(), .id = next.id, .salt = next.salt};
        header.branch = keeper_.branch();
        header.created_ns = now;
        header.size = segment_bytes;
        header.first = first;
        header.durable_mark = durable_;
        header.durable_edit = keeper_.durable_edit();
        header.cut = cut;
        header.place = next.id;
        header.state = format::segment_state::active;
        header.previous = previous;
        auto const bytes = format::encode<C>(header);
        KEEL_TRY(opened.write(0, bytes));
        KEEL_TRY(opened.write(format::second_header_offset(segment_bytes), bytes));

        auto fresh = std::make_unique<active_segment_state>();
        if constexpr (mapped) {
            KEEL_TRY_LET(mapping, opened.map(io::access::read_write));
            fresh->mapping = std::make_shared<mapping_type>(std::move(mapping));
        }
        fresh->id = next.id;
        fresh->file = std::make_shared<file_type>(std::move(opened));
        fresh->encoder = {next.salt, first};
        fresh->chunks = {segment_bytes, next.salt, active_ ? active_->chunks.give_memory() : index_builder{}};
        fresh->previous = previous;
        fresh->first = first;
        fresh->cut = cut;
        fresh->at = format::frames_begin(segment_bytes);
        fresh->first_time_ns = fresh->last_time_ns = now;
        active_ = std::move(fresh);
        sink_.begin(active_->id);
        chunk_ = active_->at / format::aggregate_builder<C>::chunk_bytes;
        newest_index_ = 0;
        newest_block_ = 0;
        newest_block_batch_ = durable_block_batch_ = active_->at;
        kept_.reset(active_->at);
        filling_.reset(active_->at);
        encode_mark(filling_, format::mark_kind::start);
        if constexpr (mapped) KEEL_TRY(store_filling());
        observer_.on(observe::segment_activated{next.id, first});
        return {};
    }
    /// Readers may look for records in the active segment from here on.
    void list_active() {
        catalog_.add({.id = active_->id,
                      .place = active_->id,
                      .path = active_->file->path(),
                      .salt = active_->encoder.salt(),
                      .first = active_->first,
                      .begin = format::frames_begin(segment_bytes),
                      .limit = limit,
                      .open = true,
                      .counted = {{active_->first, lsn_max}}});
    }
    result<void> activate_and_list(format::segment_link const& previous, lsn first, lsn cut) {
        auto done = activate(previous, first, cut);
        if (done) list_active();
        else stop_writing("no segment could be made ready: ", done.error());
        return done;
    }

    // ---- marks --------------------------------------------------------------------------------------------------------------

    void encode_mark(frame_group& to, format::mark_kind kind) {
        auto const at = next_.before();
        format::mark const m{.at = at,
                             .durable = std::min(durable_, at),
                             .clock_ns = clock_ns_(),
                             .segment = active_->id,
                             .first = active_->first,
                             .salt = active_->encoder.salt(),
                             .branch = keeper_.branch(),
                             .kind = kind};
        active_->encoder.put(to, {.type = format::frame_type::mark, .flags = format::whole_batch}, at, m.durable, {},
                             format::encode(m));
        active_->at = to.end();
        active_->last_time_ns = m.clock_ns;
        encoded_mark_ = m.durable;
    }

    /// A mark is due once a second and at the start of each chunk, so that every chunk can be read without the header.
    void put_due_mark() {
        auto const chunk = active_->at / format::aggregate_builder<C>::chunk_bytes;
        bool const new_chunk = chunk != chunk_;
        if (!new_chunk && !mark_due_.load(std::memory_order_relaxed)) return;
        mark_due_.store(false, std::memory_order_relaxed);
        chunk_ = chunk;
        encode_mark(filling_, format::mark_kind::periodic);
        if constexpr (mapped) static_cast<void>(store_filling());
    }

    /// A chunk that is full gets its index, if that leaves room for what comes next and for what sealing needs.
    void put_due_index(std::uint64_t bytes, std::uint64_t keyed) {
        auto& chunks = active_->chunks;
        if (!chunks.due(active_->at)) [[likely]]
            return;
        if (!has_room(chunks.frame_bytes() + bytes + 2 * mark_room, keyed)) return chunks.stop();
        auto const offset = filling_.end();
        auto const payload = chunks.take(offset);
        active_->encoder.put(filling_, {.type = format::frame_type::index, .flags = format::whole_batch},
                             next_.before(), durable_, {}, payload);
        active_->at = filling_.end();
        encoded_mark_ = durable_;
        filling_.index_at = offset;
        if constexpr (mapped) static_cast<void>(store_filling());
    }

    /// A mark of its own, durable when it returns.
    result<void> put_mark(format::mark_kind kind, lock_type& hold) {
        bool const room = kind == format::mark_kind::close ? active_->at + mark_room <= limit : has_room(mark_room, 0);
        if (!room) return {};
        encode_mark(filling_, kind);
        if constexpr (mapped) {
            KEEL_TRY(store_filling());
            return sync_until(accepted_, hold, true);
        } else {
            return lead(hold);
        }
    }

    // ---- written path -------------------------------------------------------------------------------------------------------

    result<lsn> write_through(std::span<operation const> batch, lock_type& hold) {
        auto const mine = encode(batch);
        ++filling_.commits;
        if (filling_.commits == gather_target_) gather_cv_.notify_one();
        auto const epoch = epoch_;
        while (visible() < mine) {
            if (epoch != epoch_) return failure(unknown_outcome());
            if (!leading_) static_cast<void>(lead(hold));
            else cv_.wait(hold);
        }
        // Numbers of a failed epoch are taken anew after resume(): being visible is only ours within the same epoch.
        if (epoch != epoch_ && mine > durable_at_failure_) return failure(unknown_outcome());
        return mine;
    }

    lsn encode(std::span<operation const> batch) {
        active_->chunks.add(filling_.end(), active_->encoder.delta_of(next_), batch);
        active_->encoder.put_batch(filling_, batch, next_, durable_);
        active_->at = filling_.end();
        active_->count += batch.size();
        active_->keyed += keyed_in(batch);
        encoded_mark_ = durable_;
        next_ = filling_.last().next();
        return filling_.last();
    }

    [[nodiscard]] error unknown_outcome() const {
        error e{.code = errc::outcome_unknown,
                .message = "the write and its rewrite both failed: it may or may not be there at the next open (" +
                           reason_ + ")"};
        return e;
    }

    /// Writes and syncs what has gathered, and acknowledges it. Called with m_ held and nobody leading.
    result<void> lead(lock_type& hold) {
        leading_ = true;
        gather(hold);
        std::swap(filling_, flight_);
        filling_.reset(flight_.end());
        last_group_ = flight_.commits;
        auto const group_mark = encoded_mark_;
        auto const file = active_->file;
        hold.unlock();

        auto done = file->write(flight_.offset, flight_.bytes);
        if (done) {
            note_accepted(flight_.last());
            done = file->sync();
        }
        if (done) apply(flight_, active_->first);

        hold.lock();
        if (done) acknowledge(group_mark);
        else done = rescue(std::move(done).error());
        leading_ = false;
        cv_.notify_all();
        return done;
    }

    /// Waits a little for as many writers as the last group had: one sync for all of them is worth more than an early start.
    void gather(lock_type& hold) {
        if constexpr (D::gather_us != 0) {
            if (last_group_ < 2 || filling_.commits == 0) return;
            gather_target_ = last_group_;
            gather_cv_.wait_for(hold, std::chrono::microseconds(D::gather_us),
                                [&] { return filling_.commits >= last_group_; });
            gather_target_ = 0;
        }
    }

    void apply(frame_group const& group, lsn first) {
        if constexpr (requires(format::frame_view const& frame) { sink_.expect(frame); })
            if (group.batches.size() > 1 || (!group.batches.empty() && group.batches.front().range.size() > 1))
                for_each_record(group.bytes, first, [&](lsn, format::frame_view const& frame) { sink_.expect(frame); });
        for_each_record(group.bytes, first, [&](lsn at, format::frame_view const& frame) { sink_.apply(at, frame); });
    }

    void acknowledge(lsn group_mark) {
        active_->synced = true;
        if (!flight_.batches.empty()) accepted_ = durable_ = flight_.last();
        marked_ = std::max(marked_, group_mark);
        newest_index_ = newest_index_in(flight_);
        keep_last_block(kept_, flight_, block);
        flight_.reset(flight_.end());
        show(durable_);
        note();
    }

    void show(lsn upto) {
        if (upto.value <= visible_.load(std::memory_order_relaxed)) return;
        visible_.store(upto.value, std::memory_order_release);
        visible_cv_.notify_all();
    }

    // ---- beside the log -----------------------------------------------------------------------------------------------------

    static constexpr int turns_max = 2; ///< segments given up for one call of write_beside()

    /// An active segment with room for `bytes`, nobody leading, nothing gathering, all that was accepted durable.
    result<void> make_all_durable(std::uint64_t bytes, lock_type& hold) {
        for (;;) {
            KEEL_TRY(ready_for(bytes, 1, hold));
            if (leading_) {
                cv_.wait(hold);
            } else if constexpr (mapped) {
                if (durable_ >= accepted_) return {};
                KEEL_TRY(sync_until(accepted_, hold));
            } else {
                if (filling_.batches.empty()) return {};
                KEEL_TRY(lead(hold));
            }
        }
    }
    /// Writes and syncs what was encoded, with the mutex held, and shows it to nobody.
    result<void> make_filling_durable() {
        if constexpr (mapped) {
            KEEL_TRY(store_bytes());
            KEEL_TRY(active_->mapping->sync());
        } else {
            std::swap(filling_, flight_);
            filling_.reset(flight_.end());
            KEEL_TRY(active_->file->write(flight_.offset, flight_.bytes));
            note_accepted(flight_.last());
            KEEL_TRY(active_->file->sync());
        }
        return {};
    }
    void show_written() {
        if constexpr (mapped) {
            active_->synced = true;
            durable_ = filling_.last();
            marked_ = std::max(marked_, encoded_mark_);
            accept_filling();
            durable_block_batch_ = newest_block_batch_;
        } else {
            apply(flight_, active_->first);
            acknowledge(encoded_mark_);
        }
    }

    // ---- mapped path --------------------------------------------------------------------------------------------------------

    result<lsn> write_mapped(std::span<operation const> batch) {
        auto const mine = encode(batch);
        if (auto stored = store_filling(); !stored) {
            // The mapping refused a store (a full copy-on-write disk, a file cut short): the segment is given up like after a failed sync.
            if (auto saved = rescue(std::move(stored).error()); !saved) return failure(unknown_outcome());
        }
        return mine;
    }

    result<void> store_filling() {
        if (filling_.bytes.empty()) return {};
        KEEL_TRY(store_bytes());
        accept_filling();
        return {};
    }
    /// Stores what was encoded, the first tag last: a killed process leaves all of a batch's frames reachable or none.
    result<void> store_bytes() {
        auto const bytes = byte_view{filling_.bytes};
        auto& map = *active_->mapping;
        auto const rest = bytes.subspan(4);
        if (bytes.size() >= written_from) KEEL_TRY(active_->file->write(filling_.offset + 4, rest));
        else KEEL_TRY(map.store(filling_.offset + 4, rest));
        return map.publish(filling_.offset, format::load<std::uint32_t>(bytes.data()));
    }
    void accept_filling() {
        newest_index_ = newest_index_in(filling_);
        if (!filling_.batches.empty()) {
            accepted_ = filling_.last();
            follow_block(filling_);
            apply(filling_, active_->first);
            show(accepted_);
            note();
        }
        filling_.reset(active_->at);
        begin_sync();
    }
    /// What was stored is handed to the disk by and by, where the file system can, so that ending the segment waits for its last part only.
    void begin_sync() {
        auto& now = *active_;
        if constexpr (requires { now.file->begin_sync(*now.mapping, now.at, now.at); }) {
            if (now.at - now.handed_over < hand_over_bytes) [[likely]]
                return;
            auto const end = now.at / block * block;
            now.file->begin_sync(*now.mapping, now.handed_over, end - now.handed_over);
            now.handed_over = end;
        }
    }

    /// Where the first batch begins that touches the block in which the newest one ends: from there on a failed sync may cost bytes.
    void follow_block(frame_group const& group) noexcept {
        for (auto const& b : group.batches) {
            auto const last_block = (b.end - 1) / block;
            if (last_block == newest_block_) continue;
            newest_block_ = last_block;
            newest_block_batch_ = b.begin;
        }
    }

    /// Makes everything up to `wanted` durable. Written path: waits for, or leads, the group. Mapped path: syncs the mapping.
    result<void> sync_until(lsn wanted, lock_type& hold, bool even_if_durable = false) {
        for (;;) {
            if (!even_if_durable && durable_ >= wanted) return {};
            if (!writable()) return refuse();
            if (!leading_) break;
            cv_.wait(hold);
        }
        if constexpr (!mapped) return filling_.empty() ? result<void>{} : lead(hold);
        leading_ = true;
        auto const upto = accepted_;
        auto const group_mark = encoded_mark_;
        auto const block_batch = newest_block_batch_;
        auto const map = active_ ? active_->mapping : nullptr;
        hold.unlock();
        auto done = map ? map->sync() : result<void>{};
        hold.lock();
        if (done) {
            if (map) active_->synced = true;
            durable_ = std::max(durable_, upto);
            marked_ = std::max(marked_, group_mark);
            durable_block_batch_ = block_batch;
            note();
        } else {
            done = rescue(std::move(done).error());
        }
        leading_ = false;
        cv_.notify_all();
        return done;
    }

    // ---- roll-over ----------------------------------------------------------------------------------------------------------

    /// Seals the active segment and activates the next. Called with m_ held, nobody leading, nothing filling.
    result<void> roll() {
        leading_ = true;
        auto done = roll_led();
        leading_ = false;
        cv_.notify_all();
        return done;
    }
    result<void> roll_led() {
        if (active_->first == next_) return failure(errc::too_large, "a fresh segment has no room for the batch");
        // A full disk shows here, before anything is changed: the write is refused, and the active segment stays as it is.
        if (auto ready = keeper_.make_ready(); !ready) {
            stop_writing("no segment could be made ready: ", ready.error());
            sound_ = true;
            return ready;
        }
        if (auto synced = make_active_durable(); !synced) return rescue(std::move(synced).error());
        auto const link = link_to_active(format::segment_end::rolled);
        if (auto sealed = seal_active(); !sealed) {
            if (!writable()) return sealed;
            return rescue(std::move(sealed).error());
        }
        return activate_and_list(link, next_, {});
    }
    result<void> make_active_durable() {
        if constexpr (mapped) {
            KEEL_TRY(active_->mapping->sync());
            active_->synced = true;
            durable_ = accepted_;
            durable_block_batch_ = newest_block_batch_;
        }
        return {};
    }

    [[nodiscard]] format::segment_seal seal_of_active() const {
        format::segment_seal s{.id = active_->id,
                               .salt = active_->encoder.salt(),
                               .range = {active_->first, next_.before()},
                               .count = active_->count,
                               .data_end = active_->at,
                               .first_time_ns = active_->first_time_ns,
                               .last_time_ns = active_->last_time_ns,
                               .aggregate = active_->encoder.aggregate()};
        s.chain = format::chain_value<C>(active_->previous.chain, s);
        return s;
    }
    [[nodiscard]] format::segment_link link_to_active(format::segment_end how) const {
        return format::link_of(seal_of_active(), how);
    }
    /// Index and footer, sync, and the manifest's word of it. All frames are durable already. After this nothing is written to the file.
    result<void> seal_active() {
        auto const seal = seal_of_active();
        closed_segment closed{.id = seal.id,
                              .path = active_->file->path(),
                              .salt = seal.salt,
                              .first = active_->first,
                              .begin = format::frames_begin(segment_bytes),
                              .end = seal.data_end,
                              .segment_bytes = segment_bytes,
                              .counted = {seal.range},
                              .records = seal.count};
        format::segment_footer footer{.seal = seal};
        KEEL_TRY(write_index_of(closed));
        for (auto const& section : {closed.index, closed.filter})
            if (section) footer.sections[footer.section_count++] = *section;
        KEEL_TRY(active_->file->write(format::footer_offset(segment_bytes), format::encode<C>(footer)));
        KEEL_TRY(active_->file->sync());
        format::edit_builder edit;
        edit.sealed(seal);
        if (auto done = keeper_.commit(edit); !done) {
            stop_writing("the manifest could not be written: ", done.error());
            return done;
        }
        catalog_.close(seal.range.last, format::link_of(seal, format::segment_end::rolled));
        sink_.sealed(std::move(closed));
        observer_.on(observe::segment_sealed{seal.id, seal.range});
        return {};
    }
    /// Index and filter are made of the keys as they were encoded: whoever follows them verifies what he finds.
    result<void> write_index_of(closed_segment& what) {
        auto const& keys = active_->chunks.keys();
        if (keys.size() == 0 || keys.size() != what.records ||
            !format::index_fits(what.end, what.records, segment_bytes))
            return {};
        auto at = format::sections_begin(what.end, segment_bytes);
        auto filter = keys.filter({block, what.records});
        KEEL_TRY_LET(index, write_index<C>(*active_->file, keys.sorted(), what.salt, at, segment_bytes));
        what.index = index;
        at += index.length;
        if (filter.empty()) return {};
        KEEL_TRY_LET(written, write_filter<C>(*active_->file, std::move(filter), what.salt, at, block));
        what.filter = written;
        return {};
    }

    // ---- when the machine says no ---------------------------------------------------------------------------------------------

    /// Gives the active segment up and writes what it had not made durable, and what shares a block with that, to a fresh one.
    /// Called with m_ held by whoever leads.
    result<void> rescue(error why) {
        auto old = std::move(active_);
        auto const kept_before = kept_;
        observer_.on(observe::segment_abandoned{old->id, why});
        accepted_ = durable_; // first of all: should this process die now, nobody may take these bytes for accepted
        active_.reset();
        note();
        std::string lost;
        auto all = unsafe_part(*old, lsn_max);
        auto saved = close_gaps(all, lost);
        if (saved) saved = rewrite_abandoned(*old, std::move(all), {});
        if (saved) {
            flight_.reset(0);
            set_state(engine_state::degraded, "a segment was given up after: " + to_string(why) + lost);
            return {};
        }
        // Twice: what is durable stays, nothing more is taken. What resume() needs is kept.
        active_ = std::move(old);
        kept_ = kept_before;
        flight_.reset(0);
        filling_.reset(0);
        ++epoch_;
        durable_at_failure_ = durable_;
        next_ = visible().next();
        stop_writing(to_string(why) + "; then ", saved.error());
        return failure(std::move(saved).error());
    }

    /// Frames of a given-up segment from the first batch that shares a block with durable bytes, up to `last`. Written path: from
    /// memory. Mapped path: the memory was the page cache, so they are read back, and only what still verifies is taken.
    frame_group unsafe_part(active_segment_state const& old, lsn last) {
        frame_group all;
        auto const take = [&](frame_group const& g) {
            for (auto const& b : g.batches)
                if (b.range.last <= last) append_batch(all, g, b);
        };
        if constexpr (mapped) {
            take(read_back(old));
        } else {
            take(kept_);
            take(flight_);
        }
        take(filling_);
        // Not where the first batch begins: a mark before it may be as little on the disk as the batch is.
        all.offset = mapped ? unsafe_from() : kept_.offset;
        return all;
    }

    /// Mapped path: where the first batch begins that shares a block with what was last synced.
    [[nodiscard]] std::uint64_t unsafe_from() const noexcept {
        return std::max(durable_block_batch_, format::frames_begin(segment_bytes));
    }

    frame_group read_back(active_segment_state const& old) {
        frame_group all;
        all.reset(unsafe_from());
        all.bytes.resize(static_cast<std::size_t>(filling_.offset > all.offset ? filling_.offset - all.offset : 0));
        if (all.bytes.empty() || !old.mapping->copy_out(all.offset, all.bytes)) all.bytes.clear();
        else find_batches(all, old.encoder.salt(), old.first);
        return all;
    }

    /// Finds the whole batches among bytes that were read from a segment; what does not verify is passed over.
    static void find_batches(frame_group& in, std::uint64_t salt, lsn first) {
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

    /// LSNs that were accepted and can no longer be read back are declared lost, durably, before anything behind them is
    /// acknowledged. Only the mapped path has any.
    result<void> close_gaps(frame_group const& all, std::string& told) {
        if constexpr (mapped) {
            format::edit_builder edit;
            auto expected = durable_.next();
            auto const miss = [&](lsn from, lsn to) {
                if (to < from) return;
                edit.loss({from, to});
                told += "; lost: LSN " + std::to_string(from.value) + " to " + std::to_string(to.value);
            };
            for (auto const& b : all.batches) {
                miss(std::max(expected, durable_.next()), b.range.first.before());
                expected = b.range.last.next();
            }
            miss(std::max(expected, durable_.next()), next_.before());
            if (!edit.empty()) return keeper_.commit(edit);
        }
        return {};
    }

    /// Writes the records of `all`, of the segment just given up, anew. As rewrite().
    result<void> rewrite_abandoned(active_segment_state const& old, frame_group all, lsn cut) {
        auto const from = cut ? cut : durable_.next();
        auto const r = all.batches.empty() ? from : all.batches.front().range.first;
        format::segment_link const link{.id = old.id,
                                        .salt = old.encoder.salt(),
                                        .last = r.before(),
                                        .end = all.offset,
                                        .aggregate = 0,
                                        .chain = old.previous.chain,
                                        .ended = format::segment_end::abandoned};
        std::vector<old_frames> parts(1);
        parts[0] = {.id = old.id, .first = old.first, .frames = std::move(all)};
        // A header that was never synced may be gone after a power loss: what it voids, the next one voids.
        return rewrite(link, parts, cut, cut || old.synced ? cut : old.cut);
    }
    /// Writes these records to a fresh segment under their LSNs and acknowledges them there; all behind `link`'s last one are among them.
    /// `cut`: LSNs from there on are taken anew; none: no such. `says`: the cut in its header. On failure nothing is changed but
    /// active_, which is then empty.
    result<void> rewrite(format::segment_link const& link, std::vector<old_frames> const& parts, lsn cut, lsn says) {
        auto const r = link.last.next();
        auto const was_durable = durable_;
        auto const next_before = std::exchange(next_, r);
        auto const waiting = std::exchange(filling_, frame_group{});
        auto done = activate(link, r, says, room::reserved);
        frame_group out = std::exchange(filling_, frame_group{});
        if (done) {
            for (auto const& part : parts)
                for_each_record(part.frames.bytes, part.first, [&](lsn at, format::frame_view const& frame) {
                    encode_again(out, at, frame, was_durable);
                });
            active_->at = out.end();
            done = active_->file->write(out.offset, out.bytes);
        }
        if (done) done = active_->file->sync();
        if (done) active_->synced = true;
        if (!done) {
            active_.reset();
            filling_ = waiting;
            next_ = next_before;
            return done;
        }
        auto const last = std::max(out.last(), was_durable);
        next_ = std::max(next_before, last.next());
        if (cut) next_ = cut;
        // Those that readers see already, too: where the old segment's copies were never proven, nobody is sent there any more.
        for_each_record(out.bytes, active_->first,
                        [&](lsn at, format::frame_view const& frame) { sink_.apply(at, frame); });
        list_active();
        for (auto const& part : parts) {
            sink_.moved(part.id, link.last);
            catalog_.trim(part.id, link.last);
        }
        catalog_.close(link.last, link);
        accepted_ = durable_ = std::max(last, next_.before());
        kept_.reset(format::frames_begin(segment_bytes));
        keep_last_block(kept_, out, block);
        newest_block_ = 0;
        follow_block(out);
        durable_block_batch_ = newest_block_batch_;
        filling_.reset(active_->at);
        show(durable_);
        note();
        return {};
    }
    void encode_again(frame_group& out, lsn at, format::frame_view const& frame, lsn mark) {
        if (frame.header.begins()) out.batches.push_back({.begin = out.end(), .end = 0, .range = {at, at}});
        active_->chunks.add(out.end(), active_->encoder.delta_of(at), frame.header.type, frame.key());
        active_->encoder.put(out, {.type = frame.header.type, .flags = frame.header.flags}, at, mark, frame.key(),
                             frame.value());
        out.batches.back().end = out.end();
        out.batches.back().range.last = at;
        ++active_->count;
        active_->keyed += frame.header.type != format::frame_type::message;
    }

    /// resume(): what readers see and is not safe yet goes to a fresh segment, whose header voids all above it. On the written
    /// path that is the durable part of the last block; on the mapped path also what was accepted, as far as it still verifies.
    result<void> restart_behind_visible() {
        auto old = std::move(active_);
        auto const kept_before = kept_;
        filling_.reset(mapped ? old->at : 0);
        flight_.reset(0);
        auto part = unsafe_part(*old, visible());
        std::string lost;
        auto done = close_gaps(part, lost);
        if (done) done = rewrite_abandoned(*old, std::move(part), visible().next());
        if (!done) {
            active_ = std::move(old);
            kept_ = kept_before;
        }
        return done;
    }

    // ---- notes --------------------------------------------------------------------------------------------------------------

    void note() {
        if (!notes_) return;
        notes_->write({.store = keeper_.store(),
                       .branch = keeper_.branch(),
                       .segment = active_ ? active_->id : segment_id{},
                       .accepted = accepted_,
                       .durable = durable_,
                       .end = active_ ? (mapped ? active_->at : filling_.offset) : 0,
                       .newest_index = active_ ? newest_index_ : 0});
    }
    /// The leader's note, without m_: the bytes are in the file, so a killed process leaves them behind.
    void note_accepted(lsn upto) {
        if (!notes_ || !upto) return;
        notes_->write({.store = keeper_.store(),
                       .branch = keeper_.branch(),
                       .segment = active_->id,
                       .accepted = upto,
                       .durable = durable_,
                       .end = flight_.end(),
                       .newest_index = newest_index_in(flight_)});
    }
    /// Once the group is in the file.
    [[nodiscard]] std::uint64_t newest_index_in(frame_group const& group) const noexcept {
        return group.index_at != 0 ? group.index_at : newest_index_;
    }

    keeper_type& keeper_;
    catalog& catalog_;
    Sink& sink_;
    typename Config::observer& observer_;
    std::optional<notes_type> notes_;
    writer_start start_;
    std::uint64_t (*clock_ns_)();

    mutable std::mutex m_;
    std::condition_variable cv_;                 ///< a leader is done, or the state changed
    std::condition_variable gather_cv_;          ///< enough writers have come
    mutable std::condition_variable visible_cv_; ///< visible_ grew
    std::atomic<engine_state> state_{
        engine_state::healthy}; // changed with m_ held; release: who asks without sees what led to it
    std::string reason_{};
    std::unique_ptr<active_segment_state> active_{};
    frame_group filling_{}; ///< encoded, not yet taken by a leader
    frame_group flight_{};  ///< being written; the leader's alone while leading_
    frame_group kept_{};    ///< durable, but shares its last block with what comes next
    lsn next_{};
    lsn accepted_{};
    lsn durable_{};
    lsn marked_{}; ///< the largest mark that is itself durable
    lsn encoded_mark_{};
    lsn durable_at_failure_{};
    std::uint64_t epoch_ = 0; ///< grows when waiting writers are told outcome_unknown
    std::uint64_t chunk_ = 0;
    std::uint64_t newest_index_ = 0;        ///< offset of the newest index frame in the active segment's file; 0: none
    std::uint64_t newest_block_ = 0;        ///< mapped path: the block in which the newest batch ends,
    std::uint64_t newest_block_batch_ = 0;  ///< the first batch that touches it,
    std::uint64_t durable_block_batch_ = 0; ///< and the same as of the last good sync
    std::size_t last_group_ = 0;
    std::size_t gather_target_ = 0;
    bool leading_ = false;
    bool starved_ = false; ///< read-only because the disk is full
    bool sound_ = false;   ///< read-only, and nothing has happened to the active segment: it goes on being written to
    std::atomic<bool> mark_due_{false}; // relaxed: a hint
    std::atomic<std::uint64_t> visible_;
};

} // namespace keel::inline v0::wal

#endif
