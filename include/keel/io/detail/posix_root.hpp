// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_ROOT_HPP
#define KEEL_IO_DETAIL_POSIX_ROOT_HPP

// A folder that is held open, and the names below it. A path that begins with the folder's own path is looked up in the held folder. That
// is so even if the folder was renamed or replaced, another file system was mounted above it, or the path is relative and the working
// directory changed. For the same reason the folders in it are opened when they are first needed and held from then on. Below the held
// folder no symbolic link is followed, and no name leads out of it.
//
// Thread rules: any number of threads. m_ guards below_ and close_one_. It is held while a folder is opened.

#include <keel/io/detail/posix_descriptor.hpp>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::io::detail {

class posix_root {
public:
    using held_folder = std::shared_ptr<descriptor const>;

    /// `path`: the path of the folder, with which every path below it begins.
    posix_root(std::string path, descriptor folder)
        : path_{std::move(path)}, folder_{std::make_shared<descriptor const>(std::move(folder))} {}

    /// The names in `path` below the folder; std::nullopt: the path does not lead below it.
    [[nodiscard]] std::optional<std::vector<std::string>> names_below(std::string_view path) const {
        if (!path.starts_with(path_)) return std::nullopt;
        auto rest = path.substr(path_.size());
        if (!rest.empty() && rest.front() != '/' && !path_.ends_with('/')) return std::nullopt;
        std::vector<std::string> names;
        while (!rest.empty()) {
            auto const name = rest.substr(0, rest.find('/'));
            rest.remove_prefix(std::min(name.size() + 1, rest.size()));
            if (!name.empty() && name != ".") names.emplace_back(name);
        }
        return names;
    }

    /// The folder in which the last of `names` is looked up. `path` is for the error.
    [[nodiscard]] result<posix_place> place_of(std::vector<std::string> const& names, std::string const& path) {
        if (names.empty()) return posix_place{folder_, "."};
        if (names.size() == 1) return posix_place{folder_, names.front()}; // sync_directory may use ".."
        for (auto const& name : names)
            if (name == "..")
                return failure(errc::invalid_argument, "a path below a store does not lead out of it", path);
        KEEL_TRY_LET(above, folder_below(names.front(), path));
        for (std::size_t i = 1; i + 1 < names.size(); ++i) {
            KEEL_TRY_LET(next, open_folder({above, names[i]}, path));
            above = std::make_shared<descriptor const>(std::move(next));
        }
        return posix_place{std::move(above), names.back()};
    }
    /// The folder that these names lead to, if it is a held folder; else null.
    [[nodiscard]] result<held_folder> held(std::vector<std::string> const& names, std::string const& path) {
        if (names.empty()) return folder_;
        if (names.size() == 1 && names.front() != "..") return folder_below(names.front(), path);
        return held_folder{};
    }
    /// Sets the function that closes a file which can be opened again. It returns false if there is no such file.
    void make_room_with(std::function<bool()> close_one) {
        auto const made = std::make_shared<std::function<bool()> const>(std::move(close_one));
        std::lock_guard const hold{m_};
        close_one_ = made;
    }
    /// Closes a file to free a descriptor. Returns whether one was closed.
    [[nodiscard]] bool make_room() const {
        std::unique_lock hold{m_};
        auto const close_one = close_one_;
        hold.unlock();
        return close_one && *close_one && (*close_one)();
    }
    /// Called after a name was created, renamed or removed: the folder that is held for this path is not the right one any more.
    void forget(std::string_view path) noexcept {
        if (!path.starts_with(path_)) return;
        path.remove_prefix(path_.size());
        path.remove_prefix(std::min(path.find_first_not_of('/'), path.size()));
        std::lock_guard const hold{m_};
        if (auto const there = below_.find(path); there != below_.end()) below_.erase(there);
    }

private:
    [[nodiscard]] result<held_folder> folder_below(std::string const& name, std::string const& path) {
        std::lock_guard const hold{m_};
        if (auto const there = below_.find(name); there != below_.end()) return there->second;
        KEEL_TRY_LET(opened, open_folder({folder_, name}, path));
        auto held = std::make_shared<descriptor const>(std::move(opened));
        below_.emplace(name, held);
        return held;
    }

    std::string path_;
    held_folder folder_;
    mutable std::mutex m_;
    std::map<std::string, held_folder, std::less<>> below_{};
    std::shared_ptr<std::function<bool()> const> close_one_{};
};

/// Finds the folder in which a name is looked up: names are used as they are, or below a held folder.
class posix_names {
public:
    posix_names() = default;
    explicit posix_names(std::shared_ptr<posix_root> root) : root_{std::move(root)} {}

    /// The folder in which the last name of `path` is looked up, and that name.
    [[nodiscard]] result<posix_place> place_of(std::string const& path) const {
        KEEL_TRY(check_text(path));
        auto const names = below(path);
        if (!names) return posix_place{{}, path};
        if (names->size() == 1 && names->front() == "..")
            return failure(errc::invalid_argument, "a path below a store does not lead out of it", path);
        return root_->place_of(*names, path);
    }
    /// The same for a folder that is to be opened. A held folder is opened again through its own descriptor.
    [[nodiscard]] result<posix_place> folder_place_of(std::string const& path) const {
        KEEL_TRY(check_text(path));
        auto const names = below(path);
        if (!names) return posix_place{{}, path};
        KEEL_TRY_LET(held, root_->held(*names, path));
        if (held) return posix_place{std::move(held), "."};
        return root_->place_of(*names, path);
    }
    void forget(std::string const& path) const noexcept {
        if (root_) root_->forget(path);
    }
    void make_room_with(std::function<bool()> close_one) const {
        if (root_) root_->make_room_with(std::move(close_one));
    }
    [[nodiscard]] bool make_room() const { return root_ && root_->make_room(); }

private:
    [[nodiscard]] std::optional<std::vector<std::string>> below(std::string const& path) const {
        return root_ ? root_->names_below(path) : std::nullopt;
    }
    /// Refuses a zero byte in a path. The system would read the path only up to that byte, and use another file.
    [[nodiscard]] static result<void> check_text(std::string const& path) {
        if (path.find('\0') == std::string::npos) return {};
        return failure(errc::invalid_argument, "a path has no zero byte in it: choose another one", path);
    }

    std::shared_ptr<posix_root> root_{};
};

/// Opens a folder that will be held. A symbolic link at its end is followed, only this once.
[[nodiscard]] inline result<descriptor> open_root(posix_place const& place, std::string const& path) {
    auto opened = open_descriptor(place.at(), place.c_str(), O_RDONLY | O_DIRECTORY);
    auto const cause = errno;
    if (!opened) return os_failure(cause, "cannot open the folder", path);
    return opened;
}

} // namespace keel::inline v0::io::detail

#endif
