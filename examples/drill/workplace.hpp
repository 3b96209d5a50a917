// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_WORKPLACE_HPP
#define KEEL_EXAMPLES_DRILL_WORKPLACE_HPP

// What the drill was asked for, the folder it works in, and what it does with whole folders there.

#include "data_set.hpp"

#include <keel/error.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace drill {

struct request {
    std::string input = unicode_data;
    std::string folder{};
    unsigned threads = 8;
    bool keep = false;
    bool json = false;
    // For the processes that load and open:
    std::size_t records = 0;
    std::string repair{};
    std::string key{};
};

/// The folder everything happens in: what is made there is gone at the end unless it is to be kept.
class workplace {
public:
    [[nodiscard]] static keel::result<workplace> make(request const& wish) {
        std::error_code failed;
        auto folder = wish.folder;
        bool const found = !folder.empty() && std::filesystem::exists(folder, failed);
        if (folder.empty()) {
            folder = (std::filesystem::temp_directory_path(failed) / "keel-drill-XXXXXX").string();
            if (::mkdtemp(folder.data()) == nullptr)
                return keel::failure(keel::errc::io_error, "cannot make a folder; name one with --data-dir", folder);
        } else if (!std::filesystem::create_directories(folder, failed) &&
                   (failed || !std::filesystem::is_empty(folder, failed))) {
            return keel::failure(keel::errc::exists, "is not an empty folder; the drill needs one of its own", folder);
        }
        return workplace{folder, found, wish.keep};
    }
    workplace(workplace&& other) noexcept
        : folder_{std::exchange(other.folder_, {})}, found_{other.found_}, keep_{other.keep_} {}
    workplace& operator=(workplace&&) = delete;
    ~workplace() {
        if (keep_ || folder_.empty()) return;
        std::error_code ignored;
        for (auto const* part : {"/store", "/crashed", "/trial"}) std::filesystem::remove_all(folder_ + part, ignored);
        if (!found_) std::filesystem::remove(folder_, ignored);
    }
    [[nodiscard]] std::string operator/(std::string const& name) const { return folder_ + '/' + name; }
    [[nodiscard]] bool keeps() const noexcept { return keep_; }

private:
    workplace(std::string folder, bool found, bool keep) : folder_{std::move(folder)}, found_{found}, keep_{keep} {}
    std::string folder_;
    bool found_; ///< it was there before: it stays, empty as it was
    bool keep_;
};

/// All bytes of log and manifests, for seeing that nothing was changed.
[[nodiscard]] inline std::vector<std::string> bytes_of(std::string const& folder) {
    std::vector<std::string> all;
    for (auto const& path : files_below(folder)) {
        auto const name = path.lexically_relative(folder).string();
        if (name == "notes" || name == "lock") continue; // hints and the lock are no part of the data
        std::ostringstream bytes;
        bytes << name << '\n' << std::ifstream{path, std::ios::binary}.rdbuf();
        all.push_back(std::move(bytes).str());
    }
    return all;
}

/// What was written below this folder is on the disk afterwards: the times measured next are those of opening, not of copying.
inline void write_out(std::string const& folder) {
    for (auto const& path : files_below(folder)) {
        auto const file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        static_cast<void>(::fsync(file));
        ::close(file);
    }
}

} // namespace drill

#endif
