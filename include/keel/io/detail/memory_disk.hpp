// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_MEMORY_DISK_HPP
#define KEEL_IO_DETAIL_MEMORY_DISK_HPP

// One simulated disk and the machine around it, for the handles of io::memory. memory_image is the part that a clone copies (names, bytes,
// unsynced versions, settings). memory_disk adds the state of one running machine: the mutex, open handles, locks, the hook. mutex_ guards
// every member and covers every call, mapped stores and copies included. It is never held while the hook runs, so the hook may use or clone
// the disk. An operation that is announced in two parts releases the mutex between them, so other threads may act in between, as on a real
// machine.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/io/detail/memory_choice.hpp>
#include <keel/io/detail/memory_content.hpp>
#include <keel/io/detail/memory_names.hpp>
#include <keel/io/detail/memory_operation.hpp>
#include <keel/types.hpp>

#include <cerrno>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::io::detail {

/// The part of a disk that a clone copies.
struct memory_image {
    memory_names names;
    boot_id boot;
    std::uint64_t device = 1;
    std::uint64_t capacity = std::numeric_limits<std::uint64_t>::max();
    std::size_t versions_max = 64;
};

/// The boot id of the next start of the machine. It differs from the one before, and is always the same for the same history.
[[nodiscard]] inline boot_id boot_after(boot_id before, std::uint64_t salt) noexcept {
    std::uint64_t mix = mixed(salt + 1);
    boot_id after;
    for (std::size_t i = 0; i < after.bytes.size(); ++i) {
        mix = mixed(mix ^ std::to_integer<std::uint64_t>(before.bytes[i]));
        after.bytes[i] = static_cast<std::byte>(mix);
    }
    after.bytes[0] |= std::byte{1}; // never all zeros, which would mean "not known"
    return after != before ? after : boot_after(after, salt);
}

class memory_disk {
public:
    using hook = std::function<void(operation const&)>;

    explicit memory_disk(memory_image image) : image_{std::move(image)} {}

    /// A copy of the disk. A clone has no handles, so files without a name are left out.
    [[nodiscard]] memory_image image() const {
        auto const guard = std::lock_guard{mutex_};
        auto copy = image_;
        copy.names.collect([](std::uint64_t) { return false; });
        return copy;
    }

    template <class F>
    auto with_image(F&& f) {
        auto const guard = std::lock_guard{mutex_};
        return f(image_);
    }

    void set_hook(hook f) {
        auto made = f ? std::make_shared<hook const>(std::move(f)) : nullptr;
        auto const guard = std::lock_guard{mutex_};
        hook_.swap(made);
    }
    void stop() {
        auto const guard = std::lock_guard{mutex_};
        stopped_ = true;
    }
    [[nodiscard]] std::uint64_t operations() const {
        auto const guard = std::lock_guard{mutex_};
        return operations_;
    }
    [[nodiscard]] std::uint64_t used() const {
        auto const guard = std::lock_guard{mutex_};
        return used_pages() * memory_page_bytes;
    }

    // Names

    /// Opens a file. Returns its inode, which stays until release().
    [[nodiscard]] result<std::uint64_t> open(memory_path const& path, creation how) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(path.text));
        KEEL_TRY_LET(place, image_.names.resolve(path));
        if (place.inode != 0 && how == creation::must_not_exist)
            return failure(errc::exists, "the name is taken", path.text);
        if (image_.names.is_folder(place.inode)) return failure(errc::not_regular, "a folder stands here", path.text);
        if (place.inode == 0 && how == creation::must_exist) return failure(errc::not_found, "no such file", path.text);
        bool const is_new = place.inode == 0;
        if (is_new) KEEL_TRY(takes_names(place, path.text));
        if (is_new) place.inode = image_.names.create(place, false).inode;
        ++handles_[place.inode];
        if (is_new) finish(guard, operation_kind::create, path.text);
        return place.inode;
    }

    /// Opens a folder. Returns its inode, which stays until release().
    [[nodiscard]] result<std::uint64_t> open_folder(memory_path const& path) {
        auto const guard = std::lock_guard{mutex_};
        KEEL_TRY(alive(path.text));
        KEEL_TRY_LET(inode, folder_at(path));
        ++handles_[inode];
        return inode;
    }

    /// Locks a file. Returns its inode, which stays until unlock().
    [[nodiscard]] result<std::uint64_t> lock(memory_path const& path, lock_mode mode) {
        auto const how = mode == lock_mode::exclusive ? creation::if_missing : creation::must_exist;
        KEEL_TRY_LET(inode, open(path, how));
        return lock_opened(inode, path, mode);
    }
    [[nodiscard]] result<std::uint64_t> lock_folder(memory_path const& path, lock_mode mode) {
        KEEL_TRY_LET(inode, open_folder(path));
        return lock_opened(inode, path, mode);
    }
    void unlock(std::uint64_t inode, lock_mode mode) noexcept {
        auto const guard = std::lock_guard{mutex_};
        if (auto const held = locks_.find(inode); held != locks_.end()) {
            if (mode == lock_mode::exclusive) held->second.exclusive = false;
            else --held->second.shared;
            if (held->second.shared == 0 && !held->second.exclusive) locks_.erase(held);
        }
        release_locked(inode);
    }

    void hold(std::uint64_t inode) {
        auto const guard = std::lock_guard{mutex_};
        ++handles_[inode];
    }
    void release(std::uint64_t inode) noexcept {
        auto const guard = std::lock_guard{mutex_};
        release_locked(inode);
    }

    [[nodiscard]] result<std::vector<directory_entry>> list(memory_path const& path) const {
        auto const guard = std::lock_guard{mutex_};
        KEEL_TRY(alive(path.text));
        KEEL_TRY_LET(inode, folder_at(path));
        std::vector<directory_entry> entries;
        for (auto const& [name, entry] : image_.names.at(inode).folder->now)
            entries.push_back({name, image_.names.is_folder(entry) ? file_kind::directory : file_kind::regular});
        return entries;
    }

    [[nodiscard]] result<file_status> status(memory_path const& path) const {
        auto const guard = std::lock_guard{mutex_};
        KEEL_TRY(alive(path.text));
        KEEL_TRY_LET(place, image_.names.resolve(path));
        if (place.inode == 0) return failure(errc::not_found, "no such file or folder", path.text);
        return status_of(place.inode);
    }
    [[nodiscard]] result<file_status> status(std::uint64_t inode, std::string const& path) const {
        auto const guard = std::lock_guard{mutex_};
        KEEL_TRY(alive(path));
        return status_of(inode);
    }

    [[nodiscard]] result<void> make_directory(memory_path const& path) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(path.text));
        KEEL_TRY_LET(place, image_.names.resolve(path));
        if (place.inode != 0) return failure(errc::exists, "the name is taken", path.text);
        KEEL_TRY(takes_names(place, path.text));
        image_.names.create(place, true);
        finish(guard, operation_kind::make_directory, path.text);
        return {};
    }

    [[nodiscard]] result<void> rename(memory_path const& from, memory_path const& to) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(from.text));
        auto& names = image_.names;
        KEEL_TRY_LET(old_place, names.resolve(from));
        KEEL_TRY_LET(new_place, names.resolve(to));
        if (old_place.inode == 0) return failure(errc::not_found, "there is nothing to rename", from.text);
        if (old_place.inode == new_place.inode) return {};
        if (names.is_above(old_place.inode, new_place.folder)) {
            return failure(errc::invalid_argument, "a folder cannot move into itself", from.text);
        }
        if (new_place.inode != 0) KEEL_TRY(replaceable(old_place.inode, new_place.inode, to.text));
        else KEEL_TRY(takes_names(new_place, to.text));
        names.rename(old_place, new_place);
        finish(guard, operation_kind::rename, from.text);
        return {};
    }

    [[nodiscard]] result<void> remove(memory_path const& path) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(path.text));
        KEEL_TRY_LET(place, image_.names.resolve(path));
        if (place.inode == 0) return failure(errc::not_found, "no such file or folder", path.text);
        if (place.folder == 0) return failure(errc::invalid_argument, "the root cannot be removed", path.text);
        KEEL_TRY(empty_if_folder(place.inode, path.text));
        image_.names.remove(place);
        finish(guard, operation_kind::remove, path.text);
        return {};
    }

    [[nodiscard]] result<void> sync_directory(memory_path const& path) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(path.text));
        KEEL_TRY_LET(inode, folder_at(path));
        image_.names.sync(inode);
        image_.names.collect([this](std::uint64_t held) { return handles_.contains(held); });
        finish(guard, operation_kind::sync_directory, path.text);
        return {};
    }

    // Bytes

    [[nodiscard]] result<std::size_t> read(std::uint64_t inode, std::string const& path, std::uint64_t offset,
                                           byte_span out) const {
        auto const guard = std::lock_guard{mutex_};
        KEEL_TRY(alive(path));
        auto const& content = content_of(inode);
        if (offset >= content.size()) return std::size_t{0};
        auto const length = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), content.size() - offset));
        KEEL_TRY(readable(content, path, offset, length));
        content.copy_out(offset, out.first(length));
        return length;
    }

    /// Calls f(view) for bytes of a mapping. f must not call the disk: the mutex is held.
    template <class F>
    [[nodiscard]] result<void> each_piece(std::uint64_t inode, std::string const& path, std::uint64_t offset,
                                          std::uint64_t length, F&& f) const {
        auto const guard = std::lock_guard{mutex_};
        KEEL_TRY(alive(path));
        auto const& content = content_of(inode);
        KEEL_TRY(still_there(content, path, offset, length));
        KEEL_TRY(readable(content, path, offset, length));
        content.each_piece(offset, length, f);
        return {};
    }

    [[nodiscard]] result<void> write(std::uint64_t inode, std::string const& path, std::uint64_t offset,
                                     byte_view bytes) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(path));
        KEEL_TRY(fits_a_file(path, offset, bytes.size()));
        if (bytes.empty()) return {};
        auto const index = ++operations_;
        auto const done = operation{operation_kind::write, {}, offset, bytes.size(), operation::phase::done, index};
        auto const cut = tear(offset, bytes.size(), memory_sector_bytes, index);
        if (cut > 0) {
            KEEL_TRY(put(inode, path, offset, bytes.first(cut)));
            KEEL_TRY(announce_part(guard, done, path));
        }
        KEEL_TRY(put(inode, path, offset + cut, bytes.subspan(cut)));
        announce(guard, done, path);
        return {};
    }

    /// A store into a mapping. It is made in two parts: the machine may write the page back between them, so both states are versions.
    [[nodiscard]] result<void> store(std::uint64_t inode, std::string const& path, std::uint64_t offset,
                                     byte_view bytes, operation_kind kind) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(path));
        if (bytes.empty()) return {};
        KEEL_TRY(storable(content_of(inode), path, offset, bytes.size()));
        auto const index = ++operations_;
        auto const done = operation{kind, {}, offset, bytes.size(), operation::phase::done, index};
        auto const cut = tear(offset, bytes.size(), sizeof(std::uint64_t), index);
        if (cut > 0) {
            KEEL_TRY(put(inode, path, offset, bytes.first(cut)));
            KEEL_TRY(announce_part(guard, done, path));
            KEEL_TRY(storable(content_of(inode), path, offset + cut, bytes.size() - cut));
        }
        KEEL_TRY(put(inode, path, offset + cut, bytes.subspan(cut)));
        announce(guard, done, path);
        return {};
    }

    [[nodiscard]] result<void> sync(std::uint64_t inode, std::string const& path, operation_kind kind) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(path));
        if (content_of(inode).has_past()) edit(inode).sync();
        finish(guard, kind, path);
        return {};
    }

    void fail_sync(std::uint64_t inode) {
        auto const guard = std::lock_guard{mutex_};
        if (!stopped_ && content_of(inode).has_past()) edit(inode).fail_sync();
    }

    [[nodiscard]] result<void> allocate(std::uint64_t inode, std::string const& path, std::uint64_t bytes) {
        auto guard = std::unique_lock{mutex_};
        KEEL_TRY(alive(path));
        KEEL_TRY(fits_a_file(path, 0, bytes));
        if (content_of(inode).pages_to_reserve(bytes) > free_pages()) return full(path, 0);
        auto& content = edit(inode);
        content.reserve(bytes);
        content.grow(bytes, image_.versions_max);
        auto const done = operation{operation_kind::allocate, {}, 0, bytes, operation::phase::done, ++operations_};
        announce(guard, done, path);
        return {};
    }

    void punch_hole(std::uint64_t inode, std::string const& path, std::uint64_t offset, std::uint64_t length) {
        auto guard = std::unique_lock{mutex_};
        if (stopped_ || length == 0) return;
        edit(inode).punch_hole(offset, length, image_.versions_max);
        auto const done = operation{operation_kind::punch_hole, {},           offset, length,
                                    operation::phase::done,     ++operations_};
        announce(guard, done, path);
    }

private:
    struct lock_state {
        std::uint64_t shared = 0;
        bool exclusive = false;
    };

    [[nodiscard]] result<void> alive(std::string const& path) const {
        if (stopped_) return failure(errc::crashed, "the simulated machine has stopped", path);
        return {};
    }

    [[nodiscard]] memory_content const& content_of(std::uint64_t inode) const noexcept {
        return *image_.names.at(inode).content;
    }
    [[nodiscard]] memory_content& edit(std::uint64_t inode) { return image_.names.at(inode).content.edit(); }

    [[nodiscard]] result<std::uint64_t> lock_opened(std::uint64_t inode, memory_path const& path, lock_mode mode) {
        auto const guard = std::lock_guard{mutex_};
        auto& held = locks_[inode];
        if (held.exclusive || (mode == lock_mode::exclusive && held.shared > 0)) {
            release_locked(inode);
            return failure(error{.code = errc::locked,
                                 .message = "somebody holds the lock; close the other one first",
                                 .file = path.text,
                                 .cause = EAGAIN,
                                 .retryable = true});
        }
        if (mode == lock_mode::exclusive) held.exclusive = true;
        else ++held.shared;
        return inode;
    }

    [[nodiscard]] result<std::uint64_t> folder_at(memory_path const& path) const {
        KEEL_TRY_LET(place, image_.names.resolve(path));
        if (place.inode == 0) return failure(errc::not_found, "no such folder", path.text);
        if (!image_.names.is_folder(place.inode))
            return failure(errc::not_regular, "a file stands where a folder should", path.text);
        return place.inode;
    }

    [[nodiscard]] file_status status_of(std::uint64_t inode) const noexcept {
        auto const& node = image_.names.at(inode);
        return {node.folder ? file_kind::directory : file_kind::regular,
                node.folder ? 0 : node.content->size(),
                node.links,
                {image_.device, inode}};
    }

    /// Refuses new names in a folder that was removed and is still held by a handle.
    [[nodiscard]] result<void> takes_names(memory_place const& place, std::string const& path) const {
        auto const* const folder = image_.names.find(place.folder);
        if (folder != nullptr && folder->links != 0) return {};
        return failure(errc::not_found, "the folder was removed", path);
    }

    [[nodiscard]] result<void> empty_if_folder(std::uint64_t inode, std::string const& path) const {
        if (!image_.names.is_folder(inode) || image_.names.at(inode).folder->now.empty()) return {};
        return failure(errc::exists, "the folder is not empty", path);
    }

    [[nodiscard]] result<void> replaceable(std::uint64_t inode, std::uint64_t by, std::string const& to) const {
        if (image_.names.is_folder(inode) != image_.names.is_folder(by)) {
            return failure(errc::not_regular, "a file cannot replace a folder, nor a folder a file", to);
        }
        return empty_if_folder(by, to);
    }

    [[nodiscard]] static result<void> fits_a_file(std::string const& path, std::uint64_t offset, std::uint64_t length) {
        if (offset <= memory_file_bytes_max && length <= memory_file_bytes_max - offset) return {};
        return failure(errc::invalid_argument, "the file would be longer than this file system allows", path, offset);
    }

    [[nodiscard]] static result<void> readable(memory_content const& content, std::string const& path,
                                               std::uint64_t offset, std::uint64_t length) {
        if (auto const bad = content.first_unreadable(offset, length)) return unreadable(path, *bad);
        return {};
    }

    /// A mapping keeps its length when its file is cut. Access to the lost bytes is an error, where a real machine sends SIGBUS.
    [[nodiscard]] static result<void> still_there(memory_content const& content, std::string const& path,
                                                  std::uint64_t offset, std::uint64_t length) {
        if (length == 0 || offset + length <= content.size()) return {};
        return failure(errc::io_error, "the file was cut short under its mapping", path,
                       std::max(offset, content.size()));
    }

    /// A store needs the page to be read first. So one bad sector in the stored range stops it.
    [[nodiscard]] static result<void> storable(memory_content const& content, std::string const& path,
                                               std::uint64_t offset, std::uint64_t length) {
        KEEL_TRY(still_there(content, path, offset, length));
        return readable(content, path, offset, length);
    }

    [[nodiscard]] static tl::unexpected<error> unreadable(std::string const& path, std::uint64_t offset) {
        return failure(error{.code = errc::io_error,
                             .message = "a sector cannot be read",
                             .file = path,
                             .offset = offset,
                             .cause = EIO});
    }
    [[nodiscard]] static tl::unexpected<error> full(std::string const& path, std::uint64_t offset) {
        return failure(error{.code = errc::no_space,
                             .message = "the disk is full; free some space and try again",
                             .file = path,
                             .offset = offset,
                             .cause = ENOSPC,
                             .retryable = true});
    }

    [[nodiscard]] std::uint64_t used_pages() const {
        std::uint64_t pages = 0;
        for (auto const& node : image_.names.nodes())
            if (node.content && (node.links > 0 || handles_.contains(node.inode))) pages += node.content->pages_owned();
        return pages;
    }
    [[nodiscard]] std::uint64_t free_pages() const {
        if (image_.capacity == std::numeric_limits<std::uint64_t>::max()) return image_.capacity;
        auto const all = image_.capacity / memory_page_bytes;
        return all - std::min(all, used_pages());
    }

    [[nodiscard]] result<void> put(std::uint64_t inode, std::string const& path, std::uint64_t offset,
                                   byte_view bytes) {
        auto& content = edit(inode);
        if (auto const bad = content.first_unwritable(offset, bytes.size())) return unreadable(path, *bad);
        auto const pages = free_pages();
        auto const room = pages == std::numeric_limits<std::uint64_t>::max()
                              ? bytes.size()
                              : static_cast<std::size_t>(content.affordable(offset, bytes.size(), pages));
        if (room > 0) content.write(offset, bytes.first(room), image_.versions_max);
        if (room < bytes.size()) return full(path, offset + room);
        return {};
    }

    /// How many bytes of a change are made when its first part is announced. The part ends at a multiple of `unit` in the file. 0: the
    /// change cannot be divided.
    [[nodiscard]] static std::size_t tear(std::uint64_t offset, std::size_t length, std::size_t unit,
                                          std::uint64_t index) noexcept {
        auto const first = unit - static_cast<std::size_t>(offset % unit);
        if (first >= length) return 0;
        auto const places = (length - first - 1) / unit + 1;
        return first + unit * static_cast<std::size_t>(mixed(index) % places);
    }

    void finish(std::unique_lock<std::mutex>& guard, operation_kind kind, std::string const& path) {
        announce(guard, operation{kind, {}, 0, 0, operation::phase::done, ++operations_}, path);
    }

    /// Calls the hook. If there is a hook, the mutex is unlocked afterwards, so this must be the last step of an operation.
    void announce(std::unique_lock<std::mutex>& guard, operation const& what, std::string const& path) {
        if (!hook_) return;
        auto const told = hook_;
        guard.unlock();
        auto named = what;
        named.path = path;
        (*told)(named);
    }

    [[nodiscard]] result<void> announce_part(std::unique_lock<std::mutex>& guard, operation what,
                                             std::string const& path) {
        if (!hook_) return {};
        what.at = operation::phase::partly;
        announce(guard, what, path);
        guard.lock();
        return alive(path);
    }

    void release_locked(std::uint64_t inode) noexcept {
        if (auto const held = handles_.find(inode); held != handles_.end() && --held->second == 0) handles_.erase(held);
    }

    mutable std::mutex mutex_;
    memory_image image_;
    std::map<std::uint64_t, std::uint64_t> handles_;
    std::map<std::uint64_t, lock_state> locks_;
    std::shared_ptr<hook const> hook_;
    std::uint64_t operations_ = 0;
    bool stopped_ = false;
};

} // namespace keel::inline v0::io::detail

#endif
