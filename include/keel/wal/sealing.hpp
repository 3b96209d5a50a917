// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_SEALING_HPP
#define KEEL_WAL_SEALING_HPP

// How a segment is sealed: index, filter and footer are written behind its frames, the file is synced, and a manifest edit records the
// seal. There are two ways.
//
//   seal()     the thread that ends the segment seals it before the next segment is active
//   leave()    the next segment is activated first; afterwards a thread that does housekeeping seals the old one. No put waits for it
//
// Why leave() is safe: all frames of the segment survive power loss before either way begins. The header of the next segment stores where
// those frames end, and their digests. A crash in between leaves a segment without a seal, which a later header names as rolled. Every
// opening reads such a segment, and recovery/seal_proven.hpp seals it. Before the manifest has the seal, a footer has no meaning.
//
// Only one segment at a time is left. Its records stay in memory until it is sealed. A segment is left only if housekeeping has run since
// the last segment was left. A program without a background thread may never call housekeeping, and then no thread would seal the segment.
//
// Thread rules: every call needs the writer's mutex. help() and finish() release it for I/O and take it again; seal() keeps it. The thread
// that has set is_busy_ works on left_ without the mutex. No other thread touches left_ meanwhile.

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

/// Whether the log continues behind a segment that is sealed.
enum class at_seal : std::uint8_t {
    log_goes_on,
    log_ends, ///< the unused space of the segment goes back to the disk
};

/// `ReadsBack`: sealed segments are kept until a caller takes them to read them back.
template <class State, bool ReadsBack>
class sealing {
    using lock_type = typename State::lock_type;
    using leader = typename State::leader;
    using segment_type = typename State::segment_type;

public:
    using sealed_list = std::list<sealed_segment<typename State::fs_type::file>>;

    explicit sealing(State& s) noexcept : s_{s} {}

    /// Seals the active segment. No segment is active afterwards. Precondition: all its frames survive power loss. `edit`: further
    /// operations for the same manifest edit. Returns the link that the next header stores. Errors: those of the file, which is not written
    /// to again; those of the manifest, and then writing has stopped.
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

    /// Whether the active segment may be left, to be sealed behind the next one.
    [[nodiscard]] bool may_leave() const noexcept { return helped_ && !left_; }
    /// A segment was left and is not sealed yet. finish() must be called before another segment is ended.
    [[nodiscard]] bool has_left() const noexcept { return left_ != nullptr; }

    /// Leaves the active segment without a seal. No segment is active afterwards. Precondition: all its frames survive power loss. Returns
    /// the link that the next header stores. Throws std::bad_alloc; nothing has changed then.
    [[nodiscard]] format::segment_link leave(leader&) {
        auto left = std::make_unique<left_segment>();
        left->seal = s_.active->seal(s_.next.before());
        left->segment = std::move(s_.active);
        left_ = std::move(left);
        helped_ = false;
        return left_->link();
    }

    /// Called for housekeeping. Seals the segment that was left, and does its I/O without the leadership.
    void help(lock_type& hold) noexcept {
        helped_ = true;
        if (!left_ || is_busy_) return;
        if (left_->is_open()) work(hold);
        auto lead = s_.lead.take(hold);
        static_cast<void>(conclude(lead, on_failure::later));
    }
    /// When this returns without an error, the segment that was left is sealed, or it will certainly not be sealed in this opening. Errors:
    /// the manifest could not be written, and then writing has stopped and the next call tries again; or memory was refused, and then
    /// nothing has changed.
    [[nodiscard]] result<void> finish(leader& lead) noexcept {
        auto& hold = lead.lock();
        done_cv_.wait(hold, [this] { return !is_busy_; });
        if (!left_) return {};
        if (left_->is_open()) work(hold);
        return conclude(lead, on_failure::now);
    }

    // ---- segments that are read back ------------------------------------------------------------------------------------------------

    [[nodiscard]] bool has_unread() const noexcept { return !unread_.empty(); }
    /// Returns one sealed segment that nobody has taken, or an empty list. The segment is not recycled while the caller holds it.
    [[nodiscard]] sealed_list take_unread() noexcept {
        sealed_list out;
        if (!unread_.empty()) out.splice(out.end(), unread_, unread_.begin());
        return out;
    }
    void give_back_unread(sealed_list one) noexcept { unread_.splice(unread_.begin(), one); }

private:
    static constexpr char const* no_manifest = "the manifest could not be written: ";
    enum class on_failure : std::uint8_t {
        later, ///< if memory was refused, the next call tries again
        now,
    };

    struct left_segment {
        std::unique_ptr<segment_type> segment{};
        format::segment_seal seal{};
        std::optional<closed_segment> closed{}; ///< set once its seal is in the file
        bool is_told = false;                   ///< the manifest has the seal
        std::optional<error> failed{};          ///< why the file or the manifest does not have it

        [[nodiscard]] bool is_open() const noexcept { return !is_told && !failed; }
        [[nodiscard]] format::segment_link link() const noexcept {
            return format::link_of(seal, format::segment_end::rolled);
        }
    };

    /// Writes the seal to the file and the edit to the manifest, without the mutex.
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
    /// Acts on the result of work(). Called with the leadership.
    result<void> conclude(leader& lead, on_failure when) noexcept {
        if (!left_ || is_busy_ || left_->is_open()) return {}; // another thread does it, or has done it
        if (left_->is_told) return keel::detail::guarded([&] { return install(lead); });
        if (left_->closed) return manifest_failed();
        if (left_->failed->code != errc::out_of_memory || when == on_failure::now)
            return keel::detail::guarded([&] { return give_up(lead); });
        left_->failed.reset();
        return {};
    }
    /// Updates the catalog and the sink for the sealed segment. Throws std::bad_alloc; nothing has changed then.
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
    /// Stops writing. The seal is in the file, but the manifest does not have it. The active segment is not affected. The manifest edit is
    /// tried again before anything else.
    result<void> manifest_failed() noexcept {
        auto why = std::move(*left_->failed);
        left_->failed.reset();
        if (s_.health.is_writable()) {
            s_.health.stop_writing(no_manifest, why);
            s_.segment_usable = s_.active != nullptr;
        }
        return failure(std::move(why));
    }
    /// Gives up the seal: after a failed write or sync the file is not written to again. All its records were durable before. They stay in
    /// memory until compaction merges them, and the next opening reads the segment. Throws std::bad_alloc; nothing has changed then.
    result<void> give_up(leader&) {
        catalog::update listing{s_.parts};
        listing.close(left_->seal.range.last, left_->link(), catalog::without_seal);
        listing.commit();
        s_.health.add_condition(state_cause::device, s_.health.short_of([&] {
            return "a segment could not be sealed, and keeps its records in memory: " + to_string(*left_->failed);
        }));
        left_.reset();
        return {};
    }

    /// Allocates the list entry in advance, because nothing may fail once the manifest has the seal.
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
    bool helped_ = false;               ///< housekeeping has run since a segment was left
    std::condition_variable done_cv_{}; ///< signals that is_busy_ is false again
    sealed_list unread_{};
};

} // namespace keel::inline v0::wal

#endif
