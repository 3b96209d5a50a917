// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_COMPACTION_BY_HAND_HPP
#define KEEL_ENGINE_COMPACTION_BY_HAND_HPP

// Merging where the machine gives no thread for it: a writer does one merge at a time, between two of its writes. While the log is far
// ahead of the tables the other writers wait for that one, each write a little: so the log does not grow for ever.
//
// Thread rules: run() by one thread at a time; any number of threads call the others. is_behind_ (relaxed) is a hint that spares writers
// the mutex.

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
    static constexpr auto retry_after = std::chrono::seconds(1);      ///< a merge that failed
    static constexpr auto wait_most = std::chrono::milliseconds(100); ///< one write

    /// Does the merge that is due, if there is one; more of them while the log is far ahead. Failures show in state().
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
    /// Called by a writer before it writes.
    void wait_for_room() {
        if (!is_behind_.load(std::memory_order_relaxed)) [[likely]]
            return;
        std::unique_lock hold{m_};
        done_.wait_for(hold, wait_most, [this] { return !runs_; });
    }
    /// A thread does it from here on.
    void leave() noexcept { is_behind_.store(false, std::memory_order_relaxed); }
    /// Whoever runs it ends soon, and nobody waits for it.
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
    /// The log; as it was last seen where memory is refused.
    [[nodiscard]] bool is_far_ahead(Compactor& work) noexcept {
        if_memory_lasts([&] { is_behind_.store(work.log_bytes() > log_bytes_max<Policy>, std::memory_order_relaxed); });
        return is_behind_.load(std::memory_order_relaxed);
    }

    std::mutex m_;
    std::condition_variable done_;
    bool runs_ = false;
    std::atomic<bool> is_behind_{false};
    std::stop_source stop_{};
    std::chrono::steady_clock::time_point not_before_{}; ///< of who runs it
};

} // namespace keel::inline v0::detail

#endif
