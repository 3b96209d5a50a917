// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_POSIX_HPP
#define KEEL_IO_POSIX_HPP

// The file-system model for the real machine: POSIX systems, Linux first. It keeps the promises of io/concept.hpp by these means:
//   read, write        pread and pwrite, whole transfers                 sync            fdatasync
//   read_uncached      O_DIRECT, else dropped pages        (posix_uncached.hpp)
//   allocate           fallocate, else written zeros       (posix_allocate.hpp)
//   punch_hole         fallocate, else nothing             (posix_allocate.hpp)
//   lock, lock_folder  open-file-description locks, flock  (posix_lock.hpp)
//   bind_folder        openat and similar calls            (posix_root.hpp)
//   map                Boost.Interprocess, under a guard   (posix_mapping.hpp, posix_guard.hpp)
// New files have mode 0644 and new folders 0755, less the umask. The host may limit the size of its files (ulimit -f). A write beyond that
// limit is refused before the system is called, because the system answers with a signal (SIGXFSZ).

#include <keel/detail/hex.hpp>
#include <keel/io/concept.hpp>
#include <keel/io/detail/posix_allocate.hpp>
#include <keel/io/detail/posix_descriptor.hpp>
#include <keel/io/detail/posix_errno.hpp>
#include <keel/io/detail/posix_lock.hpp>
#include <keel/io/detail/posix_mapping.hpp>
#include <keel/io/detail/posix_root.hpp>
#include <keel/io/detail/posix_uncached.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <dirent.h>

namespace keel::inline v0::io {

namespace detail {

/// A lower bound of a file's size. Movable; any thread.
class known_size {
public:
    explicit known_size(std::uint64_t bytes) noexcept : bytes_{bytes} {}
    known_size(known_size&& other) noexcept : bytes_{other.get()} {}
    known_size& operator=(known_size&& other) noexcept {
        bytes_.store(other.get(), std::memory_order_relaxed);
        return *this;
    }
    [[nodiscard]] std::uint64_t get() const noexcept { return bytes_.load(std::memory_order_relaxed); }
    void reaches(std::uint64_t bytes) noexcept {
        auto before = get();
        while (before < bytes && !bytes_.compare_exchange_weak(before, bytes, std::memory_order_relaxed)) {}
    }

private:
    std::atomic<std::uint64_t> bytes_; // relaxed: a thread that reads an older value asks the system once more
};

class posix_file {
public:
    [[nodiscard]] static result<posix_file> open(posix_place const& place, std::string const& path, access how,
                                                 creation make) {
        KEEL_TRY_LET(opened, open_regular(place, path, how, make));
        return posix_file{std::move(opened.file), path, how, opened.status.size};
    }

    [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
        return read_at(file_, path_, offset, out);
    }
    [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
        return read_past_cache(file_, path_, offset, out);
    }
    [[nodiscard]] result<void> write(std::uint64_t offset, byte_view in) {
        KEEL_TRY(check_writable(offset));
        // Check the limit also if the file does not grow: the limit may be lower than when the file grew.
        KEEL_TRY(write_growing(file_, path_, offset, in));
        if (!in.empty()) size_.reaches(offset + in.size());
        return {};
    }
    [[nodiscard]] result<void> sync() { return sync_data(file_, path_); }
    /// A hint: these bytes of a mapping of this file no longer change. Writing them to the disk begins, so that a later sync waits for
    /// less. That sync reports the errors.
    void begin_sync(posix_mapping const& map, std::uint64_t offset, std::uint64_t bytes) const noexcept {
        map.release_pages(offset, bytes);
        static_cast<void>(::sync_file_range(file_.get(), static_cast<off64_t>(offset), static_cast<off64_t>(bytes),
                                            SYNC_FILE_RANGE_WRITE));
    }
    /// As begin_sync(), for written bytes. It also waits until as many bytes in front of them, which the last call handed over, are
    /// written. So a caller that writes much has only little on its way to the disk at a time, and a sync of another file does not wait
    /// behind all of it.
    /// Linux tells a failed write back once for each open file, to whichever call asks first. This call waits, and so it asks: its error
    /// must not be dropped, because sync() does not return it again.
    [[nodiscard]] result<void> write_back(std::uint64_t offset, std::uint64_t bytes) {
        auto const from = static_cast<off64_t>(offset);
        auto const length = static_cast<off64_t>(bytes);
        KEEL_TRY(range_call(from, length, SYNC_FILE_RANGE_WRITE));
        return from < length ? result<void>{} : range_call(from - length, length, SYNC_FILE_RANGE_WAIT_BEFORE);
    }
    [[nodiscard]] result<void> allocate(std::uint64_t bytes) {
        KEEL_TRY(check_writable(0));
        if (bytes == 0) return {};
        KEEL_TRY(allocate_blocks(file_, path_, bytes));
        size_.reaches(bytes);
        return {};
    }
    void punch_hole(std::uint64_t offset, std::uint64_t bytes) noexcept {
        if (writable_ && bytes != 0) detail::punch_hole(file_, offset, bytes);
    }
    [[nodiscard]] result<file_status> status() const { return status_of(file_, path_); }
    [[nodiscard]] result<posix_mapping> map(access how) const {
        if (how == access::read_write) KEEL_TRY(check_writable(0));
        return posix_mapping::make(file_, path_, how);
    }
    [[nodiscard]] std::string const& path() const noexcept { return path_; }

private:
    /// A file system that does not know the call has not waited, and sync() tells everything.
    [[nodiscard]] result<void> range_call(off64_t from, off64_t length, unsigned what) {
        if (uninterrupted([&] { return ::sync_file_range(file_.get(), from, length, what); }) == 0) return {};
        auto const cause = errno;
        if (cause == ENOSYS || cause == EINVAL || cause == ESPIPE || cause == EOPNOTSUPP) return {};
        return os_failure(cause, "cannot write the file back", path_, static_cast<std::uint64_t>(from));
    }

    posix_file(descriptor file, std::string path, access how, std::uint64_t bytes) noexcept
        : file_{std::move(file)}, writable_{how == access::read_write}, path_{std::move(path)}, size_{bytes} {}

    [[nodiscard]] result<void> check_writable(std::uint64_t offset) const {
        if (writable_) return {};
        return failure(errc::no_permission, "the file was opened to be read only. Open it for reading and writing.",
                       path_, offset);
    }

    descriptor file_;
    bool writable_;
    std::string path_;
    known_size size_;
};

/// Parses 32 hexadecimal digits. Dashes between them are ignored. Any other text gives all zeros.
[[nodiscard]] inline boot_id parse_boot_id(std::string_view text) noexcept {
    boot_id id;
    std::size_t digits = 0;
    for (auto const c : text) {
        if (c == '-' || c == '\n') continue;
        auto const digit = keel::detail::hex_value(c);
        if (digit > 15 || digits == 2 * id.bytes.size()) return {};
        auto& byte = id.bytes[digits++ / 2];
        byte = byte << 4 | static_cast<std::byte>(digit);
    }
    return digits == 2 * id.bytes.size() ? id : boot_id{};
}

[[nodiscard]] inline boot_id read_boot_id() {
    auto const source = open_descriptor("/proc/sys/kernel/random/boot_id", O_RDONLY);
    char text[64];
    auto const got = source ? uninterrupted([&] { return ::read(source.get(), text, sizeof text); }) : -1;
    return got > 0 ? parse_boot_id({text, static_cast<std::size_t>(got)}) : boot_id{};
}

struct close_folder {
    void operator()(DIR* folder) const noexcept { ::closedir(folder); }
};

[[nodiscard]] inline file_kind kind_of(DIR* folder, dirent const& entry) noexcept {
#if defined(DT_UNKNOWN)
    switch (entry.d_type) {
    case DT_REG: return file_kind::regular;
    case DT_DIR: return file_kind::directory;
    case DT_LNK: return file_kind::symlink;
    case DT_UNKNOWN: break; // the file system does not tell: ask with fstatat
    default: return file_kind::other;
    }
#endif
    struct stat raw {};
    return ::fstatat(::dirfd(folder), entry.d_name, &raw, AT_SYMLINK_NOFOLLOW) == 0 ? kind_of(raw.st_mode)
                                                                                    : file_kind::other;
}

/// Lists a folder through a new descriptor. fdopendir takes it over, and reading moves its position, so a held descriptor must not be used.
[[nodiscard]] inline result<std::vector<directory_entry>> list_folder(posix_place const& place,
                                                                      std::string const& path) {
    KEEL_TRY_LET(opened, open_folder(place, path));
    std::unique_ptr<DIR, close_folder> const folder{::fdopendir(opened.get())};
    auto const refused = errno;
    if (!folder) return os_failure(refused, "cannot list the folder", path);
    static_cast<void>(opened.release());
    std::vector<directory_entry> entries;
    for (;;) {
        errno = 0;
        auto const* const entry = ::readdir(folder.get());
        auto const cause = errno;
        if (entry == nullptr && cause == EINTR) continue;
        if (entry == nullptr && cause != 0) return os_failure(cause, "cannot list the folder", path);
        if (entry == nullptr) break;
        std::string_view const name = entry->d_name;
        if (name != "." && name != "..") entries.push_back({std::string{name}, kind_of(folder.get(), *entry)});
    }
    std::sort(entries.begin(), entries.end());
    return entries;
}

[[nodiscard]] inline result<void> remove_name(posix_place const& place, std::string const& path) {
    if (::unlinkat(place.at(), place.c_str(), 0) == 0) return {};
    auto const cause = errno;
    // For a folder Linux gives EISDIR and POSIX gives EPERM. EPERM can also mean that the file must not be removed.
    if (cause != EISDIR && cause != EPERM) return os_failure(cause, "cannot remove the file", path);
    if (::unlinkat(place.at(), place.c_str(), AT_REMOVEDIR) == 0) return {};
    auto const second = errno;
    return os_failure(second == ENOTDIR ? cause : second, "cannot remove it", path);
}

/// Syncs a folder. If the folder is held open already, its descriptor is used and no other is opened.
[[nodiscard]] inline result<void> sync_folder(posix_place const& place, std::string const& path) {
    descriptor opened;
    auto number = place.at();
    if (place.name != "." || number == AT_FDCWD) {
        KEEL_TRY_LET(folder, open_folder(place, path));
        number = folder.get();
        opened = std::move(folder);
    }
    if (uninterrupted([&] { return ::fsync(number); }) == 0) return {};
    auto const cause = errno;
    // EINVAL: this file system cannot sync a folder. Then it cannot promise that a name survives, so report `unsupported`.
    return os_failure(cause == EINVAL ? EOPNOTSUPP : cause, "cannot sync the folder", path);
}

/// Reads the boot id once. Two threads may read it at the same time, because both get the same id.
[[nodiscard]] inline boot_id const& boot_id_of_machine() {
    static constinit std::atomic<boot_id const*> known{nullptr};
    auto const* there = known.load(std::memory_order_acquire);
    if (there != nullptr) return *there;
    auto fresh = std::make_unique<boot_id const>(read_boot_id());
    if (known.compare_exchange_strong(there, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
    return *there;
}

} // namespace detail

/// The real machine. All objects are equal, except those from bind_folder().
class posix {
public:
    /// An open file.
    using file = detail::posix_file;
    /// A mapping of a file.
    using mapping = detail::posix_mapping;
    /// A lock on a file or a folder.
    using lock_type = detail::posix_lock;

    /// The machine's file system; paths are looked up anew in each call.
    posix() = default;

    /// Returns a handle that holds the folder which is at `path` now: see io/concept.hpp. A symbolic link at the end of `path` is followed,
    /// in this call only.
    [[nodiscard]] result<posix> bind_folder(std::string const& path) const {
        KEEL_TRY_LET(place, names_.folder_place_of(path));
        KEEL_TRY_LET(folder, detail::open_root(place, path));
        return posix{detail::posix_names{std::make_shared<detail::posix_root>(path, std::move(folder))}};
    }

    /// For this handle and its copies, if it came from bind_folder(): see io/concept.hpp. Otherwise does nothing.
    void make_room_with(std::function<bool()> close_one) const { names_.make_room_with(std::move(close_one)); }

    /// A call that io/concept.hpp describes.
    /// @{
    [[nodiscard]] result<file> open(std::string const& path, access how, creation make) const {
        return with_room([&]() -> result<file> {
            KEEL_TRY_LET(place, names_.place_of(path));
            return file::open(place, path, how, make);
        });
    }
    [[nodiscard]] result<lock_type> lock(std::string const& path, lock_mode mode) const {
        return with_room([&]() -> result<lock_type> {
            KEEL_TRY_LET(place, names_.place_of(path));
            return lock_type::take(place, path, mode);
        });
    }
    [[nodiscard]] result<lock_type> lock_folder(std::string const& path, lock_mode mode) const {
        return with_room([&]() -> result<lock_type> {
            KEEL_TRY_LET(place, names_.folder_place_of(path));
            return lock_type::take_folder(place, path, mode);
        });
    }
    [[nodiscard]] result<std::vector<directory_entry>> list(std::string const& path) const {
        return with_room([&]() -> result<std::vector<directory_entry>> {
            KEEL_TRY_LET(place, names_.folder_place_of(path));
            return detail::list_folder(place, path);
        });
    }
    [[nodiscard]] result<file_status> status(std::string const& path) const {
        KEEL_TRY_LET(place, names_.place_of(path));
        return detail::status_at(place, path);
    }

    [[nodiscard]] result<void> make_directory(std::string const& path) const {
        KEEL_TRY_LET(place, names_.place_of(path));
        if (::mkdirat(place.at(), place.c_str(), mode_t{0755}) != 0) {
            auto const cause = errno;
            return detail::os_failure(cause, "cannot make the folder", path);
        }
        names_.forget(path);
        return {};
    }
    [[nodiscard]] result<void> rename(std::string const& from, std::string const& to) const {
        KEEL_TRY_LET(old_place, names_.place_of(from));
        KEEL_TRY_LET(new_place, names_.place_of(to));
        if (::renameat(old_place.at(), old_place.c_str(), new_place.at(), new_place.c_str()) != 0) {
            auto const cause = errno;
            return detail::os_failure(cause, "cannot rename it to " + to, from);
        }
        names_.forget(from);
        names_.forget(to);
        return {};
    }
    [[nodiscard]] result<void> remove(std::string const& path) const {
        KEEL_TRY_LET(place, names_.place_of(path));
        KEEL_TRY(detail::remove_name(place, path));
        names_.forget(path);
        return {};
    }

    [[nodiscard]] result<void> sync_directory(std::string const& path) const {
        return with_room([&]() -> result<void> {
            KEEL_TRY_LET(place, names_.folder_place_of(path));
            return detail::sync_folder(place, path);
        });
    }

    [[nodiscard]] boot_id boot() const { return detail::boot_id_of_machine(); }
    /// @}

private:
    explicit posix(detail::posix_names names) : names_{std::move(names)} {}

    /// Repeats the call as long as it finds no descriptor and a file can be closed to free one.
    template <class Call>
    [[nodiscard]] std::invoke_result_t<Call const&> with_room(Call const& call) const {
        auto done = call();
        while (!done && done.error().code == errc::no_descriptor && names_.make_room()) done = call();
        return done;
    }

    detail::posix_names names_{};
};

static_assert(file_system<posix> && binds_folders<posix> && locks_folders<posix>);

} // namespace keel::inline v0::io

#endif
