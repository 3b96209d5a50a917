// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_BACKOFF_HPP
#define KEEL_ENGINE_BACKOFF_HPP

// The pause before a transaction runs again after a conflict (engine/transact.hpp).

#include <keel/engine/transact.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <thread>

namespace keel::inline v0::detail {

/// Sleeps for a random part of a maximum. The maximum doubles with each run, from backoff_min up to backoff_max. `runs`: how many runs
/// there were. `conflict`: the LSN that the last run conflicted with. The thread's id is in the seed, so that threads with the same
/// conflict pause for different times.
inline void pause_before_run(transact_options const& how, unsigned runs, lsn conflict) {
    auto longest = how.backoff_min;
    for (; runs > 1 && longest < how.backoff_max; --runs) longest *= 2;
    longest = std::max(std::min(longest, how.backoff_max), std::chrono::microseconds{0});
    auto const thread = std::hash<std::thread::id>{}(std::this_thread::get_id());
    std::minstd_rand chance{static_cast<std::minstd_rand::result_type>(thread ^ (thread >> 32) ^ conflict.value)};
    chance.discard(1);
    std::uniform_int_distribution<std::chrono::microseconds::rep> some{0, longest.count()};
    std::this_thread::sleep_for(std::chrono::microseconds{some(chance)});
}

} // namespace keel::inline v0::detail

#endif
