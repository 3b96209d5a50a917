// SPDX-License-Identifier: BSL-1.0
#include "../support/turns.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <functional>
#include <mutex>
#include <semaphore>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {

using namespace keel::test;
using namespace std::chrono_literals;

/// A call that does nothing: a place to switch at.
void call() { turns::reached({.call = keel::io::io_call::read, .path = "f"}); }

/// In which order threads made their calls.
std::string run_two(keel::io::schedule const& order, std::function<void()> first, std::function<void()> second) {
    std::string trace;
    auto const seen = turns::run({{"first", std::move(first)}, {"second", std::move(second)}}, order,
                                 [&](turns::step const& s) { trace += std::to_string(s.thread); });
    CHECK_MESSAGE(seen.how == turns::ending::finished, seen.report);
    return trace;
}
void three_calls() {
    for (int i = 0; i < 3; ++i) call();
}

} // namespace

TEST_CASE("turns: threads run one after the other, and change over where the schedule says so") {
    CHECK(run_two({}, three_calls, three_calls) == "000111");
    CHECK(run_two({.switches = {{2, 1}}}, three_calls, three_calls) == "011100");
    CHECK(run_two({.switches = {{2, 1}, {4, 0}}}, three_calls, three_calls) == "010011");
    CHECK(run_two({.switches = {{1, 1}, {2, 0}, {3, 1}}}, three_calls, three_calls) == "011100");
}

TEST_CASE("turns: who waits for a mutex is passed over, and gets it when it is free") {
    std::mutex m;
    auto const locked = [&] {
        call();
        std::lock_guard const hold{m};
        call();
        call();
    };
    CHECK(run_two({}, locked, locked) == "000111");
    CHECK(run_two({.switches = {{3, 1}}}, locked, locked) == "001011");
}

TEST_CASE("turns: a condition variable wakes who waits for it") {
    std::mutex m;
    std::condition_variable cv;
    bool ready = false;
    auto const waits = [&] {
        std::unique_lock hold{m};
        cv.wait(hold, [&] { return ready; });
        call();
    };
    auto const tells = [&] {
        call();
        {
            std::lock_guard const hold{m};
            ready = true;
        }
        cv.notify_one();
        call();
    };
    CHECK(run_two({}, waits, tells) == "110");
}

TEST_CASE("turns: a wait with a timeout takes no time, and times out only where nobody else can run or the schedule "
          "says so") {
    std::mutex m;
    std::condition_variable cv;
    bool timed_out = false;
    std::chrono::nanoseconds waited{};
    auto const waits = [&] {
        auto const begun = std::chrono::steady_clock::now();
        std::unique_lock hold{m};
        timed_out = !cv.wait_for(hold, 1h, [] { return false; });
        waited = std::chrono::steady_clock::now() - begun;
        call();
    };
    CHECK(run_two({}, waits, three_calls) == "1110");
    CHECK(timed_out);
    CHECK(waited >= 1h);
    CHECK(waited < 61min);
    CHECK(run_two({.switches = {{2, 0}}}, waits, three_calls) == "1011");
    auto const sleeps = [] {
        std::this_thread::sleep_for(5s);
        call();
    };
    CHECK(run_two({}, sleeps, three_calls) == "1110");
}

TEST_CASE("turns: threads that a thread starts take part, and stopping and joining them ends") {
    auto const starts = [] {
        std::mutex m;
        std::condition_variable_any cv;
        int woken = 0;
        std::jthread worker{[&](std::stop_token stop) {
            std::unique_lock hold{m};
            while (!stop.stop_requested()) {
                cv.wait_for(hold, stop, 20ms, [] { return false; });
                ++woken;
                call();
            }
        }};
        call();
        std::this_thread::sleep_for(100ms);
        call();
    };
    CHECK(run_two({}, starts, [] {}) == "022220" + std::string("2"));
}

TEST_CASE("turns: a thread that is refused is an error where it is started, and those that run go on") {
    std::string seen;
    turns::refuse_threads(2, 1);
    auto const starts = [&] {
        for (int i = 0; i < 3; ++i) try {
                std::jthread const one{call};
                seen += '.';
            } catch (std::system_error const&) {
                seen += 'x';
            }
    };
    CHECK(run_two({}, starts, [] {}) == "23");
    CHECK(seen == ".x.");
    CHECK(turns::refused_threads() == 1);
    turns::refuse_threads(0, 0);
}

TEST_CASE("turns: semaphores and static locals wait in turn, too") {
    std::binary_semaphore s{0};
    auto const takes = [&] {
        s.acquire();
        call();
    };
    auto const gives = [&] {
        call();
        s.release();
    };
    CHECK(run_two({}, takes, gives) == "10");
    static int made = 0;
    made = 0;
    auto const uses = [] {
        struct slow {
            slow() {
                call();
                ++made;
            }
        };
        static slow const one;
        static_cast<void>(one);
        call();
    };
    CHECK(run_two({.switches = {{1, 1}}}, uses, uses) == "001");
    CHECK(made == 1);
}

TEST_CASE("turns: a deadlock is told, with who waits where, and other runs go on") {
    auto* const a = new std::mutex; // they stay locked
    auto* const b = new std::mutex;
    auto const both = [](std::mutex& first, std::mutex& second) {
        turns::doing("taking both");
        std::lock_guard const hold{first};
        call();
        std::lock_guard const hold_too{second};
    };
    auto const seen = turns::run({{"ab", [=] { both(*a, *b); }}, {"ba", [=] { both(*b, *a); }}},
                                 {.switches = {{1, 1}}});
    CHECK(seen.how == turns::ending::deadlock);
    CHECK_MESSAGE(seen.report.find("thread 0 (ab), taking both, waits for a mutex of thread 1") != std::string::npos,
                  seen.report);
    CHECK_MESSAGE(seen.report.find("thread 1 (ba), taking both, waits for a mutex of thread 0") != std::string::npos,
                  seen.report);
    CHECK(turns::run({{"alone", three_calls}}, {}).how == turns::ending::finished);
    std::mutex* const once = new std::mutex;
    CHECK(turns::run({{"twice",
                       [=] {
                           once->lock();
                           once->lock();
                       }}},
                     {})
              .how == turns::ending::deadlock);
}
