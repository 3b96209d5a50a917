// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_THREAD_HPP
#define KEEL_IO_THREAD_HPP

// Starts all threads of keel. If the machine gives no thread, that is an error, never an exception, and the caller does without the thread.
// A thread of keel takes no signals that are meant for the host.

#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>

#include <csignal>
#include <initializer_list>
#include <new>
#include <string>
#include <system_error>

namespace keel::inline v0::io {

namespace detail {

/// All asynchronous signals. Signals for a fault of the thread itself (SIGBUS and the like) still arrive.
[[nodiscard]] inline sigset_t asynchronous_signals() noexcept {
    sigset_t all;
    sigfillset(&all);
    for (int const own : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&all, own);
    return all;
}

/// Blocks asynchronous signals on the calling thread as long as it lives. A thread that is started in that time inherits the blocking and
/// never takes one.
class signals_blocked {
public:
    signals_blocked() noexcept {
        auto const all = asynchronous_signals();
        pthread_sigmask(SIG_BLOCK, &all, &before_);
    }
    signals_blocked(signals_blocked const&) = delete;
    signals_blocked& operator=(signals_blocked const&) = delete;
    ~signals_blocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
    sigset_t before_{};
};

} // namespace detail

/// Blocks all asynchronous signals on the calling thread.
inline void block_asynchronous_signals() noexcept {
    auto const all = detail::asynchronous_signals();
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

/// Runs `start()`, which must create a std::thread or a std::jthread. That thread never takes an asynchronous signal. Errors: the machine
/// gives no thread (a limit of processes, or no memory for its stack), or there is no memory. No thread was started then.
template <class Start>
[[nodiscard]] result<void> start_thread(Start const& start) {
    try {
        detail::signals_blocked const while_it_starts;
        start();
        return {};
    } catch (std::system_error const& refused) {
        return failure(error{.code = errc::io_error,
                             .message = std::string{"the machine gives no thread: "} + refused.what() +
                                        ". Raise the limits of processes (ulimit -u) and of memory (ulimit -v).",
                             .cause = refused.code().value(),
                             .retryable = true});
    } catch (std::bad_alloc const&) {
        return failure(keel::detail::memory_refused());
    }
}

} // namespace keel::inline v0::io

#endif
