// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_SEALING_HPP
#define KEEL_WAL_SEALING_HPP

// How a segment is ended: index, filter and footer behind its frames, a sync, and the manifest's word of it. There are two ways.
//
//   seal()     by the thread that ends the segment, before the next one is active
//   leave()    the next one is activated first, and a thread that comes for housekeeping seals this one behind it. No put waits for it
//
// Why the second is safe: all frames of a segment survive power loss before either begins, and the header behind it says where they end, with
// their digests. So a crash in between leaves a segment without a seal that a later header names as rolled, which every opening reads, and
// recovery/seal_proven.hpp seals. Until the manifest knows of the seal, a footer means nothing.
//
// One segment at a time is left; its records stay in memory until it is sealed. A segment is left only where somebody has come for
// housekeeping since the last one was: in a program without a background thread that keeps no house, nobody would seal it.
//
// Thread rules: every call is made with the writer's mutex held; a call that is given the lock, or the leadership with it, lets go of it for
// I/O and takes it again. The thread that has set is_busy_ works on left_ without the mutex, and nobody else touches that meanwhile.

#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/observe/concept.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/write_state.hpp>

#include <condition_variable>
#include <list>
#include <memory>
#include <optional>
#include <utility>

namespace keel::inline v0::wal {

/// What comes behind a segment that is sealed.
enum class at_seal : std::uint8_t {
    log_goes_on,
    log_ends, ///< the room that the segment has left goes back to the disk
};

/// `ReadsBack`: segments are kept for somebody who reads them back.
template <class State, bool ReadsBack>
class sealing {
    using lock_type = typename State::lock_type;
    using leader = typename State::leader;
    using segment_type = typename State::segment_type;

public:
    using sealed_list = std::list<sealed_segment<typename State::fs_type::file>>;

    explicit sealing(State& s) noexcept : s_{s} {}

    /// Seals the segment that is written to; no segment is active then. All of its frames survive power loss already. `edit`: what the
    /// manifest learns with it. Gives what the next header says of it. Errors: of the file, which is not written to again; of the manifest,
    /// and then writing has stopped.
    [[nodiscard]] result<format::segment_link> seal(leader&, format::edit_builder edit, at_seal then) {
        auto const seal = s_.active->seal(s_.next.before());
        auto const link = format::link_of(seal, format::segment_end::rolled);
        catalog::update listing{s_.parts};
        listing.close(seal.range.last, link);
        KEEL_TRY_LET(closed, s_.active->write_seal(seal));
        auto unread = place_for(closed, seal);
        edit.sealed(seal);
        if (auto done = keel::detail::guarded([&] { return s_.pool.commit(edit); }); !done) {
            s_.health.stop_writing(no_manifest, done.error());
            return failure(std::move(done).error());
        }
        listing.commit();
        if (then == at_seal::log_ends) keel::detail::if_memory_lasts([&] { s_.active->give_back_spare(seal); });
        served(*s_.active, seal, std::move(closed), std::move(unread));
        s_.active.reset();
        return link;
    }

    // ---- behind the next segment --------------------------------------------------------------------------------------------------

    /// Whether the segment that is written to may be left to somebody who seals it behind the next one.
    [[nodiscard]] bool may_leave() const noexcept { return helped_ && !left_; }
    /// One that was left is not sealed yet: before another one is ended, finish() is called.
    [[nodiscard]] bool has_left() const noexcept { return left_ != nullptr; }

    /// Leaves it; no segment is active then. All of its frames survive power loss already. Gives what the next header says of it. Throws
    /// std::bad_alloc, and nothing has changed.
    [[nodiscard]] format::segment_link leave(leader&) {
        auto left = std::make_unique<left_segment>();
        left->seal = s_.active->seal(s_.next.before());
        left->segment = std::move(s_.active);
        left_ = std::move(left);
        helped_ = false;
        return left_->link();
    }

    /// Somebody has come for housekeeping: seals what was left, without the leadership while that takes I/O.
    void help(lock_type& hold) noexcept {
        helped_ = true;
        if (!left_ || is_busy_) return;
        if (left_->is_open()) work(hold);
        auto lead = s_.lead.take(hold);
        static_cast<void>(conclude(lead, on_failure::later));
    }
    /// What was left is sealed when this returns, or it is certain that it will not be in this opening. Errors: the manifest could not be
    /// written, and then writing has stopped, and the next call tries again; or memory was refused, and nothing has changed.
    [[nodiscard]] result<void> finish(leader& lead) noexcept {
        auto& hold = lead.lock();
        done_cv_.wait(hold, [this] { return !is_busy_; });
        if (!left_) return {};
        if (left_->is_open()) work(hold);
        return conclude(lead, on_failure::now);
    }

    // ---- segments that are read back ------------------------------------------------------------------------------------------------

    [[nodiscard]] bool has_unread() const noexcept { return !unread_.empty(); }
    /// One that was sealed, and that nobody has taken; empty where there is none. It is not recycled while it is held.
    [[nodiscard]] sealed_list take_unread() noexcept {
        sealed_list out;
        if (!unread_.empty()) out.splice(out.end(), unread_, unread_.begin());
        return out;
    }
    void give_back_unread(sealed_list one) noexcept { unread_.splice(unread_.begin(), one); }

private:
    static constexpr char const* no_manifest = "the manifest could not be written: ";
    enum class on_failure : std::uint8_t {
        later, ///< where memory was refused the next call tries again
        now,
    };

    struct left_segment {
        std::unique_ptr<segment_type> segment{};
        format::segment_seal seal{};
        std::optional<closed_segment> closed{}; ///< its seal is in the file
        bool is_told = false;                   ///< and the manifest has it
        std::optional<error> failed{};          ///< why either is not so

        [[nodiscard]] bool is_open() const noexcept { return !is_told && !failed; }
        [[nodiscard]] format::segment_link link() const noexcept {
            return format::link_of(seal, format::segment_end::rolled);
        }
    };

    /// The I/O, without the mutex.
    void work(lock_type& hold) noexcept {
        is_busy_ = true;
        hold.unlock();
        auto& left = *left_;
        auto done = keel::detail::guarded([&]() -> result<void> {
            if (!left.closed) {
                KEEL_TRY_LET(closed, left.segment->write_seal(left.seal));
                left.closed = std::move(closed);
            }
            format::edit_builder edit;
            edit.sealed(left.seal);
            return s_.pool.commit(edit);
        });
        hold.lock();
        left.is_told = done.has_value();
        if (!done) left.failed = std::move(done).error();
        is_busy_ = false;
        done_cv_.notify_all();
    }
    /// What follows from it, by whoever has the leadership.
    result<void> conclude(leader& lead, on_failure when) noexcept {
        if (!left_ || is_busy_ || left_->is_open()) return {}; // somebody else was quicker
        if (left_->is_told) return keel::detail::guarded([&] { return install(lead); });
        auto const why = *std::exchange(left_->failed, std::nullopt);
        if (left_->closed) return manifest_failed(why);
        if (why.code == errc::out_of_memory && when == on_failure::later) return {};
        return keel::detail::guarded([&] { return give_up(lead, why); });
    }
    /// Throws std::bad_alloc, and nothing has changed.
    result<void> install(leader&) {
        auto const& seal = left_->seal;
        catalog::update listing{s_.parts};
        listing.close(seal.range.last, left_->link());
        auto unread = place_for(*left_->closed, seal);
        listing.commit();
        served(*left_->segment, seal, std::move(*left_->closed), std::move(unread));
        left_.reset();
        return {};
    }
    /// Nothing has happened to the segment that is written to. The seal is in the file; the manifest is tried again before anything else.
    result<void> manifest_failed(error const& why) noexcept {
        if (s_.health.is_writable()) {
            s_.health.stop_writing(no_manifest, why);
            s_.segment_usable = s_.active != nullptr;
        }
        return failure(why);
    }
    /// After a failed write or sync nobody writes to the file again. What counts of it was safe before, and stays in memory until it is
    /// merged; the next opening reads it. Throws std::bad_alloc, and nothing has changed.
    result<void> give_up(leader&, error const& why) {
        catalog::update listing{s_.parts};
        listing.close(left_->seal.range.last, left_->link(), catalog::without_seal);
        listing.commit();
        s_.health.add_condition(state_cause::device, s_.health.short_of([&] {
            return "a segment could not be sealed, and keeps its records in memory: " + to_string(why);
        }));
        left_.reset();
        return {};
    }

    /// Memory for what follows a seal that the manifest has.
    [[nodiscard]] static sealed_list place_for(closed_segment const& what, format::segment_seal const& seal) {
        sealed_list out;
        if constexpr (ReadsBack) out.push_back({.what = what, .seal = seal});
        return out;
    }
    void served(segment_type& segment, format::segment_seal const& seal, closed_segment closed,
                sealed_list unread) noexcept {
        s_.sink.sealed(std::move(closed));
        s_.index_memory = segment.give_memory();
        if constexpr (ReadsBack) {
            if (auto const part = s_.parts.find(seal.range.first)) unread.front().pinned = part->pin;
            unread.front().file.emplace(segment.give_file());
            unread_.splice(unread_.end(), unread);
        }
        s_.events.push(observe::segment_sealed{seal.id, seal.range});
    }

    State& s_;
    std::unique_ptr<left_segment> left_{};
    bool is_busy_ = false;              ///< a thread works on left_ without the mutex
    bool helped_ = false;               ///< somebody has come for housekeeping since a segment was left
    std::condition_variable done_cv_{}; ///< is_busy_ has ended
    sealed_list unread_{};
};

} // namespace keel::inline v0::wal

#endif
