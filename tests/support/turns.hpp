// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_TURNS_HPP
#define KEEL_TESTS_SUPPORT_TURNS_HPP

// Runs functions as threads of which exactly one runs at a time. Which one goes on is decided by a schedule (io/schedule.hpp) at each
// place: an I/O call, and the unlocking of a mutex that another thread waits for. Where the running thread has to wait, for a mutex, a
// condition variable, a thread's end or a time, one fixed rule decides. So the same schedule gives the same run.
//
// That a thread waits is noticed because this program brings its own pthread_mutex_lock, pthread_cond_wait and the like (turns.cpp). The
// other way is to watch /proc/self/task/<tid>/stat for threads that sleep. It needs no functions of our own, but it polls: a thread that
// is about to sleep and one that runs look alike for some time, so each hand-over costs a pause and may still be wrong; and a wait with a
// timeout takes that time. Here a hand-over is two semaphore calls, deadlocks are known at once, and time is a number: a wait with a
// timeout times out when nobody else can run, or when the schedule switches to who waits.
//
// Taking part: the functions given to run(), and every thread that such a thread starts. All other threads of the program (doctest's main)
// use mutexes and clocks as ever. A mutex or condition variable that takes part must not be used by others at the same time.
//
// A run that cannot end (a deadlock, or endless waiting) is reported, and its threads stay where they are for ever: what they use must
// not be destroyed. Linux with glibc; not for ThreadSanitizer, which brings functions of the same names.

#include <keel/io/schedule.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace keel::test::turns {

/// Threads of one run, those that its threads start among them.
inline constexpr std::size_t threads_max = 16;

struct task {
    std::string name{};
    std::function<void()> run{}; ///< must not throw
};

/// A call that is made now: after everybody who was to run before has run.
struct step {
    std::uint64_t number = 0; ///< as the schedule counts: the place in the order of arrival
    std::uint64_t made = 0;   ///< the place in the order in which calls are made, from 1
    std::uint32_t thread = 0;
    io::switch_point what{};
};

enum class ending : std::uint8_t {
    finished,
    deadlock, ///< nobody can run, nobody waits for a time
    endless,  ///< more calls or waits than any program here makes
};

struct outcome {
    ending how = ending::finished;
    std::string report{}; ///< who waits where; empty where all ended
    std::vector<std::uint32_t>
        places{};             ///< at which another thread could go on, and who came there: the first has number 1
    std::uint64_t calls = 0;  ///< made
    std::uint64_t waits = 0;  ///< how often a thread had to wait
    std::uint64_t unused = 0; ///< switches to a thread that could not run, or that ran already
};

/// Runs the tasks, numbered from 0 in their order; number 0 goes first, or the one that a switch at place 0 names. Threads started meanwhile get the next numbers. `before_call` is
/// told of each call by the thread that makes it; what it does itself is told to nobody. Called by a thread that takes no part.
[[nodiscard]] outcome run(std::vector<task> tasks, io::schedule const& order,
                          std::function<void(step const&)> before_call = {});

/// The hook for io::scheduled: the other threads may run here.
void reached(io::switch_point const& point);

/// From now on threads that threads of a run start are counted from 1, and those from `at` on cannot be started, `count` of them. 0: none.
void refuse_threads(std::uint64_t at, std::uint64_t count) noexcept;
/// How many could not since.
[[nodiscard]] std::uint64_t refused_threads() noexcept;

/// Whether the calling thread takes part.
[[nodiscard]] bool taking_part() noexcept;
/// Whether it does because a thread of the run started it.
[[nodiscard]] bool started_by_another() noexcept;
/// Whether it is in here, for the run, and not in the program under test.
[[nodiscard]] bool keeping_books() noexcept;
/// The number of the calling thread, which takes part.
[[nodiscard]] std::uint32_t number();
/// The time as threads that take part see it, since the run began.
[[nodiscard]] std::chrono::nanoseconds now();
/// The command that tells where in this program the calling thread stands.
[[nodiscard]] std::string place_in_program();
/// What the calling thread is doing, for reports; `what` must stay valid.
void doing(char const* what);

} // namespace keel::test::turns

#endif
