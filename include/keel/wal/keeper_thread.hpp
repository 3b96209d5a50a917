// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_KEEPER_THREAD_HPP
#define KEEL_WAL_KEEPER_THREAD_HPP

// The one background thread of a log: idle marks after 20 ms of quiet, interval syncs, a mark with the time once a second, a
// segment in reserve. All of it is in writer::housekeep(); this only decides when. Asynchronous signals stay with the host's threads.

#include <keel/io/thread.hpp>
#include <keel/policy/durability/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stop_token>
#include <thread>

namespace keel::inline v0::wal {

template <class Writer, durability_policy D>
class keeper_thread {
public:
    static constexpr auto quiet_after = std::chrono::milliseconds(20);
    static constexpr auto starved_step = std::chrono::milliseconds(500); ///< between two looks at a full disk

    explicit keeper_thread(Writer& writer)
        : thread_{[this, &writer](std::stop_token stop) {
              io::block_asynchronous_signals();
              run(writer, stop);
          }} {}

private:
    void run(Writer& writer, std::stop_token const& stop) {
        constexpr auto step = D::sync_interval_ms == 0
                                  ? quiet_after
                                  : std::min(quiet_after, std::chrono::milliseconds(D::sync_interval_ms));
        auto seen = writer.visible();
        auto last_change = std::chrono::steady_clock::now();
        auto last_mark = last_change;
        for (std::unique_lock hold{m_}; !stop.stop_requested();) {
            cv_.wait_for(hold, stop, writer.starved() ? starved_step : step, [] { return false; });
            auto const now = std::chrono::steady_clock::now();
            auto const visible = writer.visible();
            if (visible != seen) last_change = now;
            seen = visible;
            if (now - last_mark >= std::chrono::seconds(1)) {
                writer.mark_due();
                last_mark = now;
            }
            writer.housekeep(now - last_change >= quiet_after);
        }
    }

    std::mutex m_;
    std::condition_variable_any cv_;
    std::jthread thread_;
};

} // namespace keel::inline v0::wal

#endif
