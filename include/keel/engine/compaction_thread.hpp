// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_COMPACTION_THREAD_HPP
#define KEEL_ENGINE_COMPACTION_THREAD_HPP

// The background thread that merges. It also tells write_delay how far merging is behind. The work is done by compactor::step(); this class
// only decides when to call it. The thread blocks asynchronous signals, so that the host's threads handle them.
//
// Thread rules: writers share only the write_delay with the thread (engine/write_delay.hpp).

#include <keel/detail/guarded.hpp>
#include <keel/engine/write_delay.hpp>
#include <keel/error.hpp>
#include <keel/io/thread.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

namespace keel::inline v0::detail {

template <class Compactor, class Policy, class Writer>
class compaction_thread {
public:
    static constexpr auto step_every = std::chrono::milliseconds(20);
    static constexpr auto look_every = std::chrono::milliseconds(5); ///< between two checks of the log during a merge
    static constexpr auto quiet_after =
        std::chrono::seconds(1); ///< without a write: then the rest of the log is merged
    /// Between two attempts on a full disk. No event says when space becomes free.
    static constexpr auto room_every = std::chrono::milliseconds(500);
    static constexpr auto retry_after = std::chrono::seconds(1); ///< after a failed merge; doubles with each failure
    /// The longest pause after a failed merge: each attempt reads the damaged parts again in vain.
    static constexpr auto retry_most = std::chrono::seconds(64);

    /// `delay`: is told how far merging is behind. All three must outlive this object.
    compaction_thread(Compactor& work, Writer& writer, write_delay& delay)
        : delay_{delay}, thread_{[this, &work, &writer](std::stop_token stop) {
              io::block_asynchronous_signals();
              run(work, writer, stop);
          }} {}

private:
    using clock = std::chrono::steady_clock;

    void run(Compactor& work, Writer& writer, std::stop_token const& stop) noexcept {
        bool failed = false;
        std::chrono::milliseconds patience = retry_after;
        auto newest = writer.visible();
        auto written = clock::now(); // when `newest` was first seen
        while (!stop.stop_requested()) {
            if (!failed) look(work);
            auto const now = clock::now();
            if (auto const seen = writer.visible(); std::exchange(newest, seen) != seen) written = now;
            auto const done =
                guarded([&] { return work.step(stop, now - written >= quiet_after, [&] { check_again(work); }); });
            if (done) note_given_back(work);
            else delay_.off();
            if (done && *done && std::exchange(failed, false)) {
                writer.end_condition(state_cause::compaction);
                patience = retry_after;
            }
            if (done && *done) continue; // another merge may be due
            busy_since_ = {};
            if (!done && done.error().code != errc::cancelled) {
                failed = true;
                if_memory_lasts([&] {
                    writer.add_condition(state_cause::compaction,
                                         "merging the log into tables failed and is tried again: " +
                                             to_string(done.error()));
                });
            }
            std::unique_lock hold{m_};
            auto const pause = done ? std::chrono::milliseconds(step_every) : patience;
            wake_.wait_for(hold, stop, pause, [] { return false; });
            if (!done)
                patience = done.error().code == errc::no_space
                               ? room_every
                               : std::min<std::chrono::milliseconds>(2 * patience, retry_most);
        }
        delay_.off();
    }
    /// Between two merges: notes how many bytes of the log could be merged.
    void look(Compactor& work) noexcept {
        if_memory_lasts([&] {
            waiting_ = work.log_bytes();
            in_log_ = work.bytes_in_log();
        });
        delay_.look(waiting_);
        looked_ = clock::now();
        if (busy_since_ == clock::time_point{}) busy_since_ = looked_;
    }
    /// During a merge: adds the bytes that the log has grown by since.
    void check_again(Compactor& work) noexcept {
        auto const now = clock::now();
        if (now - looked_ < look_every) return;
        looked_ = now;
        auto const in_log = work.bytes_in_log();
        delay_.look(waiting_ + (in_log > in_log_ ? in_log - in_log_ : 0));
    }
    void note_given_back(Compactor& work) noexcept {
        auto const all = work.bytes_given_back();
        auto const bytes = all - std::exchange(given_back_, all);
        if (bytes == 0) return;
        auto const now = clock::now();
        delay_.gave_back(bytes, now - std::exchange(busy_since_, now));
    }

    write_delay& delay_;
    // Only the thread uses these.
    std::uint64_t waiting_ = 0;    ///< bytes of log that could be merged, at the last look() between two merges
    std::uint64_t in_log_ = 0;     ///< bytes of the whole log at that time
    std::uint64_t given_back_ = 0; ///< bytes of log that merges have released so far
    clock::time_point looked_{};
    /// Since when it has merged without a pause and without releasing log; zero: it does not merge.
    clock::time_point busy_since_{};
    std::mutex m_;
    std::condition_variable_any wake_;
    std::jthread thread_; // last: the thread uses all members above
};

} // namespace keel::inline v0::detail

#endif
