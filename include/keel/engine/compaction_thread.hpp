// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_COMPACTION_THREAD_HPP
#define KEEL_ENGINE_COMPACTION_THREAD_HPP

// The background thread that merges, and what writers wait for when it falls behind. All of the work is in compactor::step(); this only
// decides when. Asynchronous signals stay with the host's threads.
//
// Thread rules: any number of writers call wait_for_room(); behind_ (relaxed) is a hint that spares them the mutex.

#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>
#include <keel/io/thread.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <atomic>
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
    static constexpr auto quiet_after = std::chrono::seconds(1); ///< without a write: what is left of the log is merged
    static constexpr auto retry_after = std::chrono::seconds(1); ///< a merge that failed; twice as long each time,
    static constexpr auto retry_most =
        std::chrono::seconds(64); ///< up to this: what is damaged is read for nothing each time
    static constexpr auto stall_most = std::chrono::milliseconds(100); ///< one write
    /// So much log may wait to be merged before writers wait, too.
    static constexpr std::uint64_t log_bytes_max = 8 * Policy::log_bytes;

    compaction_thread(Compactor& work, Writer& writer)
        : thread_{[this, &work, &writer](std::stop_token stop) {
              io::block_asynchronous_signals();
              run(work, writer, stop);
          }} {}

    /// Called by a writer before it writes: waits a little where the log has grown too far ahead of the tables.
    void wait_for_room() {
        if (!behind_.load(std::memory_order_relaxed)) [[likely]]
            return;
        auto const started = std::chrono::steady_clock::now();
        std::unique_lock hold{m_};
        room_.wait_for(hold, stall_most, [&] { return !behind_.load(std::memory_order_relaxed); });
        ++stalls_;
        stalled_ += std::chrono::steady_clock::now() - started;
    }
    struct stalls {
        std::uint64_t count = 0;
        std::chrono::nanoseconds time{};
    };
    [[nodiscard]] stalls stalled() const {
        std::lock_guard const hold{m_};
        return {stalls_, stalled_};
    }

private:
    void run(Compactor& work, Writer& writer, std::stop_token const& stop) noexcept {
        bool failed = false;
        std::chrono::milliseconds patience = retry_after;
        auto newest = writer.visible();
        auto written = std::chrono::steady_clock::now(); // when that was seen first
        while (!stop.stop_requested()) {
            if (!failed) look_behind(work);
            auto const now = std::chrono::steady_clock::now();
            if (auto const seen = writer.visible(); std::exchange(newest, seen) != seen) written = now;
            auto const done = guarded([&] { return work.step(stop, now - written >= quiet_after); });
            if (done) look_behind(work);
            else set_behind(false);
            if (done && *done && std::exchange(failed, false)) {
                writer.end_condition(state_cause::compaction);
                patience = retry_after;
            }
            if (done && *done) continue; // there may be more
            if (!done && done.error().code != errc::cancelled) {
                failed = true;
                if_memory_lasts([&] {
                    writer.add_condition(state_cause::compaction,
                                         "merging the log into tables failed and is tried again: " +
                                             to_string(done.error()));
                });
            }
            std::unique_lock hold{m_};
            wake_.wait_for(hold, stop, done ? std::chrono::milliseconds(step_every) : patience, [] { return false; });
            if (!done) patience = std::min<std::chrono::milliseconds>(2 * patience, retry_most);
        }
        set_behind(false);
    }
    void look_behind(Compactor& work) noexcept {
        if_memory_lasts([&] { set_behind(work.log_bytes() > log_bytes_max); });
    }
    void set_behind(bool now) noexcept {
        std::lock_guard const hold{m_};
        behind_.store(now, std::memory_order_relaxed);
        if (!now) room_.notify_all();
    }

    mutable std::mutex m_;
    std::condition_variable_any wake_;
    std::condition_variable room_;
    std::atomic<bool> behind_{false};
    std::uint64_t stalls_ = 0;
    std::chrono::nanoseconds stalled_{};
    std::jthread thread_; // last: it uses all of the above
};

} // namespace keel::inline v0::detail

#endif
