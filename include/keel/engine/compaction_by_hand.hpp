// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_COMPACTION_BY_HAND_HPP
#define KEEL_ENGINE_COMPACTION_BY_HAND_HPP

// Merging when the machine gives no background thread: a writer does one merge between two of its writes. While the log is far ahead of the
// tables, every write of the other writers waits a little for that merge. Without this the log would grow for ever.
//
// Thread rules: one thread at a time calls run(); any number of threads call the other functions. is_behind_ (relaxed) is a hint: while it
// is false, writers take no mutex.

#include <keel/detail/guarded.hpp>
#include <keel/engine/write_delay.hpp>
#include <keel/error.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>

namespace keel::inline v0::detail {

template <class Compactor, class Policy, class Writer>
class compaction_by_hand {
public:
    static constexpr auto retry_after = std::chrono::seconds(1);      ///< after a merge that failed
    static constexpr auto wait_most = std::chrono::milliseconds(100); ///< the longest wait of one write

    /// Carries out the merge that is due, if there is one. While the log is far ahead it goes on with further merges. A failure shows in
    /// state(), and the next attempt is made retry_after later.
    void run(Compactor& work, Writer& writer) noexcept {
        auto const now = std::chrono::steady_clock::now();
        if (now < not_before_) return;
        begin(work);
        auto const stop = stop_.get_token();
        auto const step = [&] { return guarded([&] { return work.step(stop, false); }); };
        auto done = step();
        while (done && *done && is_far_ahead(work) && !stop.stop_requested()) done = step();
        end();
        if (done && *done) writer.end_condition(state_cause::compaction);
        if (done || done.error().code == errc::cancelled) return;
        not_before_ = now + retry_after;
        if_memory_lasts([&] {
            writer.add_condition(state_cause::compaction,
                                 "merging the log into tables failed and is tried again: " + to_string(done.error()));
        });
    }
    /// Called by a writer before it writes. While the log is far ahead it waits for the merge that runs, at most wait_most.
    void wait_for_room() {
        if (!is_behind_.load(std::memory_order_relaxed)) [[likely]]
            return;
        std::unique_lock hold{m_};
        done_.wait_for(hold, wait_most, [this] { return !runs_; });
    }
    /// A background thread merges from here on: writers no longer wait here.
    void leave() noexcept { is_behind_.store(false, std::memory_order_relaxed); }
    /// A running run() ends soon, and no writer waits for it any more.
    void stop() noexcept {
        leave();
        stop_.request_stop();
    }

private:
    void begin(Compactor& work) noexcept {
        static_cast<void>(is_far_ahead(work));
        std::lock_guard const hold{m_};
        runs_ = true;
    }
    void end() noexcept {
        std::lock_guard const hold{m_};
        runs_ = false;
        done_.notify_all();
    }
    /// Whether the log is far ahead. If memory is refused, it returns the last known answer.
    [[nodiscard]] bool is_far_ahead(Compactor& work) noexcept {
        if_memory_lasts([&] { is_behind_.store(work.log_bytes() > log_bytes_max<Policy>, std::memory_order_relaxed); });
        return is_behind_.load(std::memory_order_relaxed);
    }

    std::mutex m_;
    std::condition_variable done_;
    bool runs_ = false;
    std::atomic<bool> is_behind_{false};
    std::stop_source stop_{};
    std::chrono::steady_clock::time_point not_before_{}; ///< of the next attempt; only run() uses it
};

} // namespace keel::inline v0::detail

#endif
