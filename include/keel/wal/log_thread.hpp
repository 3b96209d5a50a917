// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_LOG_THREAD_HPP
#define KEEL_WAL_LOG_THREAD_HPP

// The one background thread of a log. It writes idle marks after 20 ms of quiet, syncs at intervals, marks the time once a second, prepares
// a segment in advance, and delivers events to the observer. store_core::housekeep() does all of this work; this class only decides when.
// If memory is refused, the next turn tries again. Asynchronous signals go only to the threads of the host program.

#include <keel/detail/guarded.hpp>
#include <keel/policy/durability/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

namespace keel::inline v0::wal {

template <class Core, durability_policy D>
class log_thread {
public:
    static constexpr auto quiet_after = std::chrono::milliseconds(20);
    /// Time between two checks whether a full disk has room again.
    static constexpr auto resource_step = std::chrono::milliseconds(250);

    /// Throws if the system gives no thread, so it is constructed inside io::start_thread().
    explicit log_thread(Core& core) : thread_{[this, &core](std::stop_token stop) { run(core, stop); }} {}

private:
    void run(Core& core, std::stop_token const& stop) noexcept {
        constexpr auto step = D::sync_interval_ms == 0
                                  ? quiet_after
                                  : std::min(quiet_after, std::chrono::milliseconds(D::sync_interval_ms));
        auto& writer = core.writer();
        auto seen = writer.visible();
        auto last_change = std::chrono::steady_clock::now();
        auto last_mark = last_change;
        auto last_prepared = last_change;
        for (std::unique_lock hold{m_}; !stop.stop_requested();) {
            cv_.wait_for(hold, stop, writer.waits_for_resources() ? resource_step : step, [] { return false; });
            auto const now = std::chrono::steady_clock::now();
            auto const visible = writer.visible();
            if (visible != seen) last_change = now;
            seen = visible;
            if (now - last_mark >= std::chrono::seconds(1)) {
                writer.mark_due();
                last_mark = now;
            }
            // On a full disk, do not ask for the same space in every turn.
            bool const prepares = !writer.lacks_room() || now - last_prepared >= resource_step;
            if (prepares) last_prepared = now;
            keel::detail::if_memory_lasts([&] { core.housekeep(now - last_change >= quiet_after, prepares); });
        }
    }

    std::mutex m_;
    std::condition_variable_any cv_;
    std::jthread thread_;
};

} // namespace keel::inline v0::wal

#endif
