// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_IO_POSIX_FOLDER_HPP
#define KEEL_TESTS_IO_POSIX_FOLDER_HPP

// A folder of its own for one test on the real machine, and a child process to fail in.

#include <csignal>
#include <cstdlib>
#include <filesystem>
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

/// Runs `body` in a child process: what it returned, or the signal that ended it plus 1000.
template <class Body>
int in_child(Body&& body) {
    auto const child = ::fork();
    if (child < 0) throw std::runtime_error{"cannot fork"};
    if (child == 0) ::_exit(body());
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

} // namespace keel::tests

#endif
