// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_THREAD_HPP
#define KEEL_IO_THREAD_HPP

// What a thread that keel starts owes its host: it takes no signals meant for others.

#include <csignal>
#include <initializer_list>

namespace keel::inline v0::io {

/// Blocks all asynchronous signals on the calling thread. Faults of its own (SIGBUS and the like) still arrive.
inline void block_asynchronous_signals() noexcept {
    sigset_t all;
    sigfillset(&all);
    for (int const own : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&all, own);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

} // namespace keel::inline v0::io

#endif
