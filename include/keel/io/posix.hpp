// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_POSIX_HPP
#define KEEL_IO_POSIX_HPP

// The real machine: the file-system model for POSIX systems, Linux first. What io/concept.hpp promises, by these means:
//   read, write        pread and pwrite, whole transfers                 sync            fdatasync
//   read_uncached      O_DIRECT, else dropped pages        (posix_uncached.hpp)
//   allocate           fallocate, else written zeros       (posix_allocate.hpp)
//   lock               open-file-description locks         (posix_lock.hpp)
//   map                Boost.Interprocess, under a guard   (posix_mapping.hpp, posix_guard.hpp)
// New files have mode 0644 and new folders 0755, less the umask. A host that limits its file size (ulimit -f) has to
// ignore SIGXFSZ, as every program that wants an error instead of a signal does.

#include <keel/io/concept.hpp>
#include <keel/io/detail/posix_allocate.hpp>
#include <keel/io/detail/posix_descriptor.hpp>
#include <keel/io/detail/posix_errno.hpp>
#include <keel/io/detail/posix_lock.hpp>
#include <keel/io/detail/posix_mapping.hpp>
#include <keel/io/detail/posix_uncached.hpp>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <dirent.h>

namespace keel::inline v0::io {

namespace detail {

class posix_file {
public:
    [[nodiscard]] static result<posix_file> open(std::string const& path, access how, creation make) {
        KEEL_TRY_LET(opened, open_regular(path, how, make));
        return posix_file{std::move(opened), path, how};
    }

    [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
        return read_at(file_, path_, offset, out);
    }
    [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
        return read_past_cache(file_, path_, offset, out);
    }
    [[nodiscard]] result<void> write(std::uint64_t offset, byte_view in) {
        KEEL_TRY(check_writable(offset));
        return write_at(file_, path_, offset, in);
    }
    [[nodiscard]] result<void> sync() { return sync_data(file_, path_); }
    /// A hint: these bytes of a mapping of this file change no more. They begin to be written, so that a sync waits for less; what goes
    /// wrong is that sync's to tell.
    void begin_sync(posix_mapping const& map, std::uint64_t offset, std::uint64_t bytes) const noexcept {
        map.release_pages(offset, bytes);
        static_cast<void>(::sync_file_range(file_.get(), static_cast<off64_t>(offset), static_cast<off64_t>(bytes),
                                            SYNC_FILE_RANGE_WRITE));
    }
    [[nodiscard]] result<void> allocate(std::uint64_t bytes) {
        KEEL_TRY(check_writable(0));
        return bytes == 0 ? result<void>{} : allocate_blocks(file_, path_, bytes);
    }
    [[nodiscard]] result<file_status> status() const { return status_of(file_, path_); }
    [[nodiscard]] result<posix_mapping> map(access how) const {
        if (how == access::read_write) KEEL_TRY(check_writable(0));
        return posix_mapping::make(file_, path_, how);
    }
    [[nodiscard]] std::string const& path() const noexcept { return path_; }

private:
    posix_file(descriptor file, std::string path, access how) noexcept
        : file_{std::move(file)}, writable_{how == access::read_write}, path_{std::move(path)} {}

    [[nodiscard]] result<void> check_writable(std::uint64_t offset) const {
        if (writable_) return {};
        return failure(errc::no_permission, "the file was opened to be read only. Open it for reading and writing.",
                       path_, offset);
    }

    descriptor file_;
    bool writable_;
    std::string path_;
};

/// 32 hexadecimal digits, dashes between them ignored; all zeros for anything else.
[[nodiscard]] inline boot_id parse_boot_id(std::string_view text) noexcept {
    boot_id id;
    std::size_t digits = 0;
    for (auto const c : text) {
        if (c == '-' || c == '\n') continue;
        auto const digit = std::string_view{"0123456789abcdef"}.find(c);
        if (digit == std::string_view::npos || digits == 2 * id.bytes.size()) return {};
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
    case DT_UNKNOWN: break; // a file system that does not say: ask
    default: return file_kind::other;
    }
#endif
    struct stat raw {};
    return ::fstatat(::dirfd(folder), entry.d_name, &raw, AT_SYMLINK_NOFOLLOW) == 0 ? kind_of(raw.st_mode)
                                                                                    : file_kind::other;
}

[[nodiscard]] inline result<std::vector<directory_entry>> list_folder(std::string const& path) {
    KEEL_TRY_LET(opened, open_folder(path));
    // fdopendir takes the descriptor over where it succeeds, so it gets one of its own.
    auto const number = ::fcntl(opened.get(), F_DUPFD_CLOEXEC, 3);
    std::unique_ptr<DIR, close_folder> const folder{number < 0 ? nullptr : ::fdopendir(number)};
    if (!folder) {
        auto const cause = errno;
        descriptor const not_taken{number};
        return os_failure(cause, "cannot list the folder", path);
    }
    std::vector<directory_entry> entries;
    for (;;) {
        errno = 0;
        auto const* const entry = ::readdir(folder.get());
        if (entry == nullptr && errno != 0) return os_failure(errno, "cannot list the folder", path);
        if (entry == nullptr) break;
        std::string_view const name{entry->d_name};
        if (name != "." && name != "..") entries.push_back({std::string{name}, kind_of(folder.get(), *entry)});
    }
    std::sort(entries.begin(), entries.end());
    return entries;
}

[[nodiscard]] inline result<void> remove_name(std::string const& path) {
    if (::unlink(path.c_str()) == 0) return {};
    auto const cause = errno;
    // Linux says EISDIR for a folder, POSIX EPERM, which can also mean that the file must not be removed.
    if (cause != EISDIR && cause != EPERM) return os_failure(cause, "cannot remove the file", path);
    if (::rmdir(path.c_str()) == 0) return {};
    return os_failure(errno == ENOTDIR ? cause : errno, "cannot remove it", path);
}

} // namespace detail

/// The machine itself. Stateless; every object is the same.
class posix {
public:
    using file = detail::posix_file;
    using mapping = detail::posix_mapping;
    using lock_type = detail::posix_lock;

    [[nodiscard]] result<file> open(std::string const& path, access how, creation make) const {
        return file::open(path, how, make);
    }
    [[nodiscard]] result<lock_type> lock(std::string const& path, lock_mode mode) const {
        return lock_type::take(path, mode);
    }
    [[nodiscard]] result<std::vector<directory_entry>> list(std::string const& path) const {
        return detail::list_folder(path);
    }
    [[nodiscard]] result<file_status> status(std::string const& path) const { return detail::status_at(path); }

    [[nodiscard]] result<void> make_directory(std::string const& path) const {
        if (::mkdir(path.c_str(), mode_t{0755}) == 0) return {};
        return detail::os_failure(errno, "cannot make the folder", path);
    }
    [[nodiscard]] result<void> rename(std::string const& from, std::string const& to) const {
        if (std::rename(from.c_str(), to.c_str()) == 0) return {};
        return detail::os_failure(errno, "cannot rename it to " + to, from);
    }
    [[nodiscard]] result<void> remove(std::string const& path) const { return detail::remove_name(path); }

    [[nodiscard]] result<void> sync_directory(std::string const& path) const {
        KEEL_TRY_LET(folder, detail::open_folder(path));
        if (detail::uninterrupted([&] { return ::fsync(folder.get()); }) == 0) return {};
        // A file system that cannot sync a folder cannot promise that a name survives: it says EINVAL.
        return detail::os_failure(errno == EINVAL ? EOPNOTSUPP : errno, "cannot sync the folder", path);
    }

    [[nodiscard]] boot_id boot() const {
        static boot_id const id = detail::read_boot_id();
        return id;
    }
};

static_assert(file_system<posix>);

} // namespace keel::inline v0::io

#endif
