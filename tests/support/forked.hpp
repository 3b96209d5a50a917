// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_FORKED_HPP
#define KEEL_TESTS_SUPPORT_FORKED_HPP

// Runs something in a child process, so that its death is a result and not the end of the tests; and a piece of memory that both see.

#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <new>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace keel::test {

/// A T that children of this process see, too.
template <class T>
class shared_with_children {
public:
    shared_with_children()
        : at_{static_cast<T*>(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))} {
        if (at_ == MAP_FAILED) throw std::bad_alloc{};
        ::new (static_cast<void*>(at_)) T{};
    }
    shared_with_children(shared_with_children const&) = delete;
    shared_with_children& operator=(shared_with_children const&) = delete;
    ~shared_with_children() { ::munmap(at_, sizeof(T)); }

    [[nodiscard]] T& operator*() const noexcept { return *at_; }
    [[nodiscard]] T* operator->() const noexcept { return at_; }

private:
    T* at_;
};

/// How a child ended; empty: by returning from `f`. What it writes to the standard error goes nowhere.
template <class F>
[[nodiscard]] std::string ending_of_child(F const& f) {
    std::fflush(nullptr);
    auto const child = ::fork();
    if (child < 0) return "no process could be started";
    if (child == 0) {
        for (int const one : {SIGABRT, SIGSEGV, SIGFPE, SIGILL, SIGTERM, SIGINT})
            ::signal(one, SIG_DFL); // not doctest's
        if (auto const nowhere = ::open("/dev/null", O_WRONLY); nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
        ::alarm(120);              // one that hangs is a failure with its place, and not the end of the tests
        [&]() noexcept { f(); }(); // an exception must not reach the tests around this one
        std::fflush(nullptr);
        ::_exit(0);
    }
    int how = 0;
    while (::waitpid(child, &how, 0) < 0) {}
    if (WIFSIGNALED(how)) return std::string{"signal "} + ::strsignal(WTERMSIG(how));
    if (WEXITSTATUS(how) != 0) return "exit code " + std::to_string(WEXITSTATUS(how));
    return {};
}

} // namespace keel::test

#endif
