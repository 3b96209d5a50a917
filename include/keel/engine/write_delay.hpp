// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_WRITE_DELAY_HPP
#define KEEL_ENGINE_WRITE_DELAY_HPP

// Slows writers down while merging is behind. Once half of the limit of unmerged log is reached, writers may write at about the rate at
// which merges have released log lately: a little faster while the limit is far, slower when it is near. So the log settles below the
// limit, and each write waits a little; without this all writers would wait for a whole merge.
//
// Thread rules: any number of writers call wait(), any thread calls report(), one thread calls the other functions. rate_ and line_ are
// relaxed: a writer that reads an old rate waits as long as was right a moment ago.

#include <keel/types.hpp>
#include <keel/wal/group.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>

namespace keel::inline v0::detail {

/// The limit of log that waits to be merged, in bytes. Writers are slowed down from half of it on.
template <class Policy>
inline constexpr std::uint64_t log_bytes_max = 8 * Policy::log_bytes;

class write_delay {
public:
    using clock = std::chrono::steady_clock;

    static constexpr auto wait_most = std::chrono::milliseconds(100); ///< the longest wait of one write
    /// A write whose turn is no further away than this does not wait: so short a sleep would take longer than requested.
    static constexpr auto slack = std::chrono::microseconds(500);
    static constexpr std::uint64_t rate_least = 256 * KiB; ///< the lowest rate, in bytes a second

    /// `limit`: the unmerged log should settle below so many bytes.
    explicit write_delay(std::uint64_t limit) noexcept : half_{std::max<std::uint64_t>(limit / 2, 1)} {}

    /// Called by a writer before it writes `batch`. Waits until its turn, at most wait_most.
    void wait(std::span<wal::operation const> batch) {
        if (rate_.load(std::memory_order_relaxed) != 0) [[unlikely]]
            wait(wal::frame_bytes_of(batch));
    }
    /// The same for a write of so many bytes.
    void wait(std::uint64_t bytes) {
        auto const rate = rate_.load(std::memory_order_relaxed);
        if (rate == 0) return;
        auto const now = clock::now().time_since_epoch();
        auto const cost = std::chrono::nanoseconds(
            static_cast<std::int64_t>(1e9 * static_cast<double>(bytes) / static_cast<double>(rate)));
        auto last = line_.load(std::memory_order_relaxed);
        std::chrono::nanoseconds turn{};
        do turn = std::max<std::chrono::nanoseconds>(std::chrono::nanoseconds(last), now) + cost;
        while (!line_.compare_exchange_weak(last, turn.count(), std::memory_order_relaxed));
        if (turn - now <= slack) return;
        std::unique_lock hold{m_};
        room_.wait_until(hold, clock::time_point(now + std::min<std::chrono::nanoseconds>(turn - now, wait_most)),
                         [this] { return rate_.load(std::memory_order_relaxed) == 0; });
        ++waits_;
        waited_ += clock::now().time_since_epoch() - now;
    }

    /// Sets the rate, when so many bytes of log wait to be merged.
    void look(std::uint64_t waiting) noexcept {
        if (waiting <= half_) return set(0);
        auto const over = static_cast<double>(waiting - half_) / static_cast<double>(half_);
        auto const share = over < 1 ? 1.6 - 0.9 * over : 0.7 / (over * over);
        set(std::max(static_cast<std::uint64_t>(given_back_ * share), rate_least));
    }
    /// Notes that so many bytes of log were released. `took`: the time of that merge and of the other merges that had to come before it.
    void gave_back(std::uint64_t bytes, clock::duration took) noexcept {
        auto const seconds = std::max(std::chrono::duration<double>(took).count(), 1e-3);
        // A moving average over about the last `window` seconds.
        auto const weight = std::min(seconds / window, 1.0);
        given_back_ += (static_cast<double>(bytes) / seconds - given_back_) * weight;
    }
    /// Merging has ended or failed: writers no longer wait for it.
    void off() noexcept { set(0); }

    struct report_type {
        std::uint64_t rate = 0;            ///< bytes a second that may be written; 0: no limit
        std::uint64_t waits = 0;           ///< writes that waited
        std::chrono::nanoseconds waited{}; ///< the sum of their waits
    };
    [[nodiscard]] report_type report() const {
        std::lock_guard const hold{m_};
        return {rate_.load(std::memory_order_relaxed), waits_, waited_};
    }

private:
    static constexpr double window = 10; ///< seconds
    static constexpr double first_guess = 64.0 * MiB;

    void set(std::uint64_t rate) noexcept {
        std::lock_guard const hold{m_};
        rate_.store(rate, std::memory_order_relaxed);
        if (rate == 0) room_.notify_all();
    }

    std::uint64_t half_;
    double given_back_ = first_guess; ///< bytes of log released per second; used only by the thread that calls look()
    std::atomic<std::uint64_t> rate_{0};
    /// The turn of the last writer that called wait(): when it may write, in nanoseconds of the clock.
    std::atomic<std::int64_t> line_{0};
    mutable std::mutex m_;
    std::condition_variable room_;
    std::uint64_t waits_ = 0;
    std::chrono::nanoseconds waited_{};
};

} // namespace keel::inline v0::detail

#endif
