// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_MEMORY_BOUND_HPP
#define KEEL_IO_DETAIL_MEMORY_BOUND_HPP

// A held folder of a simulated disk, and the names below it: bind_folder() of io/concept.hpp. As on a real machine, folders in it are
// looked up when they are first needed, and held from then on.
//
// Thread rules: any number of threads. m_ guards below_. It is held while the disk is called.

#include <keel/io/concept.hpp>
#include <keel/io/detail/memory_disk.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace keel::inline v0::io::detail {

class memory_bound {
public:
    /// `folder`: an inode opened for this object, which releases it.
    memory_bound(std::shared_ptr<memory_disk> disk, std::uint64_t folder, std::string path)
        : disk_{std::move(disk)}, path_{std::move(path)}, folder_{folder} {}
    memory_bound(memory_bound const&) = delete;
    memory_bound& operator=(memory_bound const&) = delete;
    ~memory_bound() {
        disk_->release(folder_);
        for (auto const& [name, inode] : below_) disk_->release(inode);
    }

    /// Where the last name of `path` is looked up; std::nullopt: the path does not lead below the folder.
    [[nodiscard]] std::optional<result<memory_path>> place_of(std::string const& path) {
        auto const rest = names_below(path);
        if (!rest) return std::nullopt;
        if (leads_out(*rest))
            return failure(errc::invalid_argument, "a path below a store does not lead out of it", path);
        auto const first = rest->substr(0, rest->find('/'));
        if (first.size() == rest->size()) return memory_path{path, folder_, *rest};
        auto const inode = held(path, first);
        if (!inode) return failure(inode.error());
        return memory_path{path, *inode, rest->substr(first.size())};
    }
    /// The same for a folder that is to be opened. `above`: the path may also lead to the folder above the held one.
    [[nodiscard]] std::optional<result<memory_path>> folder_place_of(std::string const& path, bool above = false) {
        auto const rest = names_below(path);
        if (!rest) return std::nullopt;
        if (above && *rest == "..") return memory_path{path, folder_, *rest};
        auto const name = rest->substr(0, rest->find_last_not_of('/') + 1);
        if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos)
            return place_of(path);
        auto const inode = held(path, name);
        if (!inode) return failure(inode.error());
        return memory_path{path, *inode, {}};
    }
    /// Called after a name was created, renamed or removed: the folder that is held for this path is not the right one any more.
    void forget(std::string const& path) noexcept {
        auto const name = names_below(path);
        if (!name) return;
        std::lock_guard const hold{m_};
        auto const there = below_.find(*name);
        if (there == below_.end()) return;
        disk_->release(there->second);
        below_.erase(there);
    }

private:
    [[nodiscard]] std::optional<std::string_view> names_below(std::string_view path) const noexcept {
        if (!path.starts_with(path_)) return std::nullopt;
        path.remove_prefix(path_.size());
        if (!path.empty() && path.front() != '/' && !path_.empty() && !path_.ends_with('/')) return std::nullopt;
        for (;;) { // skip repeated slashes and "./"
            path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
            if (!path.starts_with("./")) return path;
            path.remove_prefix(2);
        }
    }
    [[nodiscard]] static bool leads_out(std::string_view rest) noexcept {
        while (!rest.empty()) {
            auto const name = rest.substr(0, rest.find('/'));
            if (name == "..") return true;
            rest.remove_prefix(std::min(name.size() + 1, rest.size()));
        }
        return false;
    }
    [[nodiscard]] result<std::uint64_t> held(std::string const& path, std::string_view name) {
        std::lock_guard const hold{m_};
        if (auto const there = below_.find(name); there != below_.end()) return there->second;
        KEEL_TRY_LET(inode, disk_->open_folder({path, folder_, name}));
        below_.emplace(name, inode);
        return inode;
    }

    std::shared_ptr<memory_disk> disk_;
    std::string path_;
    std::uint64_t folder_;
    std::mutex m_;
    std::map<std::string, std::uint64_t, std::less<>> below_{};
};

} // namespace keel::inline v0::io::detail

#endif
