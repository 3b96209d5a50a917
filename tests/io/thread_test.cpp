// SPDX-License-Identifier: BSL-1.0
#include <keel/io/thread.hpp>

#include <support/no_threads.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <optional>
#include <thread>

#include <pthread.h>

namespace {

bool is_blocked(int signal) {
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, nullptr, &now);
    return sigismember(&now, signal) == 1;
}

} // namespace

TEST_CASE(
    "thread: one that is started takes no asynchronous signal, its own faults, and the starter goes on as it was") {
    bool blocks_signals = false;
    bool blocks_faults = true;
    std::optional<std::jthread> started;
    auto const done = keel::io::start_thread([&] {
        CHECK(is_blocked(SIGTERM)); // from the new thread's first instruction on
        started.emplace([&] {
            blocks_signals = is_blocked(SIGTERM) && is_blocked(SIGINT) && is_blocked(SIGUSR1) && is_blocked(SIGALRM);
            blocks_faults = is_blocked(SIGBUS) || is_blocked(SIGSEGV);
        });
    });
    CHECK(done);
    started.reset();
    CHECK(blocks_signals);
    CHECK_FALSE(blocks_faults);
    CHECK_FALSE(is_blocked(SIGTERM));
    CHECK_FALSE(is_blocked(SIGUSR1));
}

TEST_CASE("thread: a machine that gives none is an error that may pass, not an exception") {
    std::optional<std::jthread> started;
    auto const start = [&] { started.emplace([] {}); };
    {
        keel::test::no_threads const now;
        auto const refused = keel::io::start_thread(start);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().retryable);
        CHECK(refused.error().cause != 0);
        CHECK(refused.error().message.find("ulimit -u") != std::string::npos);
        CHECK_FALSE(started);
        CHECK_FALSE(is_blocked(SIGTERM));
    }
    CHECK(keel::io::start_thread(start));
}

TEST_CASE("thread: memory that is refused for one is an error, too") {
    auto const refused = keel::io::start_thread([] { throw std::bad_alloc{}; });
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == keel::errc::out_of_memory);
}
