// SPDX-License-Identifier: BSL-1.0
#include <keel/recovery/examine.hpp>

#include <support/no_threads.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <new>
#include <vector>

#include <pthread.h>

// The threads that scan segments side by side, and a machine that gives none.

namespace {

using keel::recovery::detail::in_parallel;

bool takes_signals() {
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, nullptr, &now);
    return sigismember(&now, SIGTERM) == 0;
}

} // namespace

TEST_CASE("recovery threads: each takes its share, and none takes a signal that is meant for the host") {
    std::vector<std::atomic<int>> done(100);
    std::atomic<int> disturbed{0};
    in_parallel(
        done.size(), 4,
        [&](std::size_t i) {
            ++done[i];
            disturbed += takes_signals();
        },
        [] {});
    for (auto const& d : done) CHECK(d == 1);
    CHECK(disturbed == 0);
    CHECK(takes_signals()); // this thread goes on as it was
}

TEST_CASE("recovery threads: where the machine gives none, the thread that opens does all") {
    keel::test::no_threads const none;
    std::vector<int> done(100);
    in_parallel(
        done.size(), 4, [&](std::size_t i) { ++done[i]; }, [] {});
    for (auto const d : done) CHECK(d == 1);
    CHECK_THROWS_AS(in_parallel(
                        3, 2, [](std::size_t) { throw std::bad_alloc{}; }, [] {}),
                    std::bad_alloc);
}
