// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_PROCESS_HPP
#define KEEL_EXAMPLES_DRILL_PROCESS_HPP

// This program again, as a process of its own whose standard output is a pipe to the caller.

#include <keel/error.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ; // NOLINT: POSIX leaves its declaration to the program

namespace drill {

class process {
public:
    /// Starts this program with these arguments.
    [[nodiscard]] static keel::result<process> start(std::vector<std::string> arguments) {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) return keel::failure(keel::errc::io_error, "cannot make a pipe");
        arguments.insert(arguments.begin(), "recovery_drill");
        std::vector<char*> words;
        for (auto& word : arguments) words.push_back(word.data());
        words.push_back(nullptr);
        process out;
        ::posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
        auto const failed = ::posix_spawn(&out.id_, "/proc/self/exe", &actions, nullptr, words.data(), environ);
        ::posix_spawn_file_actions_destroy(&actions);
        ::close(ends[1]);
        out.from_ = ends[0];
        if (failed != 0) {
            out.id_ = 0;
            return keel::failure(keel::errc::io_error, "cannot start this program a second time");
        }
        return out;
    }

    process(process&& other) noexcept : id_{std::exchange(other.id_, 0)}, from_{std::exchange(other.from_, -1)} {}
    process& operator=(process&&) = delete;
    ~process() {
        kill();
        static_cast<void>(wait());
        if (from_ >= 0) ::close(from_);
    }

    /// No handler, no destructor, no flush: the process is gone between two instructions.
    void kill() const noexcept {
        if (id_ != 0) ::kill(id_, SIGKILL);
    }
    /// Its exit code, or minus the signal that ended it.
    [[nodiscard]] int wait() noexcept {
        if (id_ == 0) return status_;
        int raw = 0;
        while (::waitpid(id_, &raw, 0) < 0 && errno == EINTR) {}
        id_ = 0;
        return status_ = WIFEXITED(raw) ? WEXITSTATUS(raw) : -WTERMSIG(raw);
    }
    /// Up to `size` bytes of what it wrote; 0 at the end.
    [[nodiscard]] std::size_t read(void* to, std::size_t size) const noexcept {
        for (;;) {
            auto const got = ::read(from_, to, size);
            if (got >= 0) return static_cast<std::size_t>(got);
            if (errno != EINTR) return 0;
        }
    }
    /// All of what is left of its output.
    [[nodiscard]] std::string read_all() const {
        std::string all;
        std::array<char, 65536> part;
        while (auto const got = read(part.data(), part.size())) all.append(part.data(), got);
        return all;
    }

private:
    process() = default;
    ::pid_t id_ = 0;
    int from_ = -1;
    int status_ = 0;
};

/// Writes all of it to standard output, or gives up: then nobody is listening any more.
inline bool write_all(void const* from, std::size_t size) noexcept {
    auto const* at = static_cast<char const*>(from);
    while (size != 0) {
        auto const put = ::write(STDOUT_FILENO, at, size);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        at += put;
        size -= static_cast<std::size_t>(put);
    }
    return true;
}

} // namespace drill

#endif
