// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_IO_POSIX_FOLDER_HPP
#define KEEL_TESTS_IO_POSIX_FOLDER_HPP

// A folder of its own for one test on the real machine, and a child process to fail in.

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <system_error>

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

namespace keel::tests {

/// A fresh folder, removed with all that is in it.
class posix_folder {
public:
    explicit posix_folder(std::string under = std::filesystem::temp_directory_path().string())
        : path_{std::move(under) + "/keel-XXXXXX"} {
        if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error{"no temporary folder " + path_};
    }
    posix_folder(posix_folder const&) = delete;
    posix_folder& operator=(posix_folder const&) = delete;
    ~posix_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    [[nodiscard]] std::string const& path() const noexcept { return path_; }
    [[nodiscard]] std::string operator/(std::string const& name) const { return path_ + '/' + name; }

private:
    std::string path_;
};

/// The bytes of each file below a folder, by its path; folders have none.
[[nodiscard]] inline std::map<std::string, std::string> bytes_below(std::string const& folder) {
    std::map<std::string, std::string> out;
    for (auto const& entry : std::filesystem::recursive_directory_iterator(folder)) {
        auto& bytes = out[entry.path().string()];
        if (!entry.is_regular_file()) continue;
        bytes.resize(static_cast<std::size_t>(entry.file_size()));
        std::ifstream{entry.path(), std::ios::binary}.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    return out;
}

/// Runs `body` in a child process: what it returned, or the signal that ended it plus 1000; SIGALRM after two minutes.
template <class Body>
int in_child(Body&& body) {
    auto const child = ::fork();
    if (child < 0) throw std::runtime_error{"cannot fork"};
    if (child == 0) {
        ::alarm(120);
        ::_exit(body());
    }
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/// A byte from one process to another.
class signal_pipe {
public:
    signal_pipe() {
        if (::pipe(ends_) != 0) throw std::runtime_error{"no pipe"};
    }
    signal_pipe(signal_pipe const&) = delete;
    signal_pipe& operator=(signal_pipe const&) = delete;
    ~signal_pipe() { ::close(ends_[0]), ::close(ends_[1]); }
    void send(char what = 'x') const { static_cast<void>(!::write(ends_[1], &what, 1)); }
    [[nodiscard]] char wait() const {
        char what = 0;
        return ::read(ends_[0], &what, 1) == 1 ? what : '\0';
    }

private:
    int ends_[2]{};
};

} // namespace keel::tests

#endif
