// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_DESCRIPTOR_HPP
#define KEEL_IO_DETAIL_POSIX_DESCRIPTOR_HPP

// File descriptors, and whole transfers through them. A descriptor is opened without following a link at the last name, and without waiting
// for the other end of a pipe. It is closed on exec and is never 0, 1 or 2. Transfers repeat calls that were interrupted or did only a
// part. An error at offset n means that everything in front of n was done. errno is read directly after the call that sets it.

#include <keel/io/concept.hpp>
#include <keel/io/detail/posix_errno.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

namespace keel::inline v0::io::detail {

/// Owns one descriptor and closes it. The result of close() is ignored: a caller that needs the bytes has synced them.
class descriptor {
public:
    descriptor() = default;
    explicit descriptor(int number) noexcept : number_{number} {}
    descriptor(descriptor&& other) noexcept : number_{std::exchange(other.number_, -1)} {}
    descriptor& operator=(descriptor&& other) noexcept {
        descriptor{std::move(other)}.swap(*this);
        return *this;
    }
    ~descriptor() {
        // Never repeat close() after EINTR: the number is free by then, and another thread may already use it.
        if (number_ >= 0) ::close(number_);
    }
    void swap(descriptor& other) noexcept { std::swap(number_, other.number_); }
    [[nodiscard]] int get() const noexcept { return number_; }
    [[nodiscard]] explicit operator bool() const noexcept { return number_ >= 0; }
    /// Gives the descriptor to the caller, who closes it.
    [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }

private:
    int number_ = -1;
};

/// Repeats `call` as long as a signal interrupts it.
template <class Call>
auto uninterrupted(Call&& call) {
    for (;;) {
        auto const got = call();
        if (got != -1 || errno != EINTR) return got;
    }
}

/// A name for a system call: in a folder that is held open, or as it is (from the root, or from the working directory).
struct posix_place {
    std::shared_ptr<descriptor const> folder{}; ///< null: `name` is used as it is
    std::string name{};

    [[nodiscard]] int at() const noexcept { return folder ? folder->get() : AT_FDCWD; }
    [[nodiscard]] char const* c_str() const noexcept { return name.c_str(); }
};

/// open(2) with the flags that keel always needs. If it fails, the descriptor is empty and errno has the reason.
[[nodiscard]] inline descriptor open_descriptor(int at, char const* name, int flags) noexcept {
    // O_NONBLOCK: a pipe with this name must be refused, and open() must not wait for it. The flag has no effect on regular files.
    auto const all = flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    descriptor opened{uninterrupted([&] { return ::openat(at, name, all, mode_t{0644}); })};
    if (!opened || opened.get() > 2) return opened;
    // The host has closed a standard stream, so this number is 0, 1 or 2. Move away from it: a printf of the host must not write into a
    // segment.
    auto const number = ::fcntl(opened.get(), F_DUPFD_CLOEXEC, 3);
    auto const cause = errno; // closing the first descriptor may change errno
    opened = descriptor{number};
    errno = cause;
    return opened;
}
[[nodiscard]] inline descriptor open_descriptor(char const* path, int flags) noexcept {
    return open_descriptor(AT_FDCWD, path, flags);
}

[[nodiscard]] inline file_kind kind_of(mode_t mode) noexcept {
    if (S_ISREG(mode)) return file_kind::regular;
    if (S_ISDIR(mode)) return file_kind::directory;
    if (S_ISLNK(mode)) return file_kind::symlink;
    return file_kind::other;
}

[[nodiscard]] inline file_status status_from(struct stat const& raw) noexcept {
    return {.kind = kind_of(raw.st_mode),
            .size = static_cast<std::uint64_t>(raw.st_size),
            .link_count = static_cast<std::uint64_t>(raw.st_nlink),
            .identity = {.device = static_cast<std::uint64_t>(raw.st_dev),
                         .inode = static_cast<std::uint64_t>(raw.st_ino)}};
}

[[nodiscard]] inline result<file_status> status_of(descriptor const& file, std::string const& path) {
    struct stat raw {};
    if (uninterrupted([&] { return ::fstat(file.get(), &raw); }) == 0) return status_from(raw);
    auto const cause = errno;
    return os_failure(cause, "cannot read the status of the file", path);
}

/// The status of the name itself: a symbolic link is reported as a symbolic link.
[[nodiscard]] inline result<file_status> status_at(posix_place const& place, std::string const& path) {
    struct stat raw {};
    auto const ask = [&] { return ::fstatat(place.at(), place.c_str(), &raw, AT_SYMLINK_NOFOLLOW); };
    if (uninterrupted(ask) == 0) return status_from(raw);
    auto const cause = errno;
    return os_failure(cause, "cannot read the status of the name", path);
}

[[nodiscard]] inline auto not_regular(file_kind found, std::string const& path) {
    auto const name = found == file_kind::directory ? "a folder"
                      : found == file_kind::symlink ? "a symbolic link"
                                                    : "a device, pipe or socket";
    return failure(errc::not_regular,
                   std::string{name} + " stands where a regular file should be. Move it away or name another file.",
                   path);
}

struct opened_file {
    descriptor file{};
    file_status status{};
};

/// Opens a regular file. Anything else is errc::not_regular.
[[nodiscard]] inline result<opened_file> open_regular(posix_place const& place, std::string const& path, access how,
                                                      creation make) {
    int flags = (how == access::read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW;
    if (make != creation::must_exist) flags |= O_CREAT;
    if (make == creation::must_not_exist) flags |= O_EXCL;
    auto opened = open_descriptor(place.at(), place.c_str(), flags);
    auto const cause = errno;
    if (!opened) return os_failure(cause, "cannot open the file", path);
    KEEL_TRY_LET(status, status_of(opened, path));
    if (status.kind != file_kind::regular) return not_regular(status.kind, path);
    return opened_file{std::move(opened), status};
}

/// Opens a folder. If the last name is a symbolic link, it is not followed.
[[nodiscard]] inline result<descriptor> open_folder(posix_place const& place, std::string const& path) {
    auto opened = open_descriptor(place.at(), place.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    auto cause = errno;
    if (opened) return opened;
    // For a symbolic link some systems answer "not a folder". That message would mislead the user.
    bool const may_be_link = cause == ENOTDIR || cause == ELOOP || cause == EMLINK;
    if (auto const status = may_be_link ? status_at(place, path) : result<file_status>{};
        status && status->kind == file_kind::symlink)
        cause = ELOOP;
    return os_failure(cause, "cannot open the folder", path);
}

/// Success if the system can address `length` bytes at `offset`.
[[nodiscard]] inline result<void> check_range(std::uint64_t offset, std::uint64_t length, std::string const& path) {
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
    if (offset <= most && length <= most - offset) return {};
    return failure(errc::invalid_argument, "offset and length go past what a file can hold", path, offset);
}

/// How many bytes of a transfer were moved, and the errno that ended it early; 0: no error.
struct transferred {
    std::size_t bytes = 0;
    int cause = 0;
};

/// Moves `wanted` bytes with `move(done)`. That function moves some of the bytes from `done` on and answers like pread(2). The transfer
/// ends early at an error, or if nothing was moved (the end of the file).
template <class Move>
[[nodiscard]] transferred transfer(std::size_t wanted, Move&& move) {
    std::size_t done = 0;
    while (done < wanted) {
        ssize_t const moved = move(done);
        auto const cause = errno;
        if (moved > 0) {
            done += static_cast<std::size_t>(moved);
        } else if (moved == 0) {
            break;
        } else if (cause != EINTR) {
            return {done, cause};
        }
    }
    return {done, 0};
}

[[nodiscard]] inline std::string bytes_text(std::string_view verb, std::uint64_t bytes) {
    return std::string{verb} + ' ' + std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
}

[[nodiscard]] inline result<std::size_t> read_at(descriptor const& file, std::string const& path, std::uint64_t offset,
                                                 byte_span out) {
    KEEL_TRY(check_range(offset, out.size(), path));
    auto const got = transfer(out.size(), [&](std::size_t done) {
        return ::pread(file.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    });
    if (got.cause != 0)
        return os_failure(got.cause, bytes_text("cannot read", out.size() - got.bytes), path, offset + got.bytes);
    return got.bytes;
}

/// The file size that this process may reach (ulimit -f), in bytes. It is checked before a file grows, because the system would answer with
/// a signal, SIGXFSZ.
[[nodiscard]] inline std::uint64_t file_bytes_allowed() noexcept {
    rlimit now{};
    if (::getrlimit(RLIMIT_FSIZE, &now) != 0 || now.rlim_cur == RLIM_INFINITY)
        return std::numeric_limits<std::uint64_t>::max();
    return now.rlim_cur;
}

[[nodiscard]] inline result<void> write_at(descriptor const& file, std::string const& path, std::uint64_t offset,
                                           byte_view in) {
    KEEL_TRY(check_range(offset, in.size(), path));
    auto const put = transfer(in.size(), [&](std::size_t done) {
        return ::pwrite(file.get(), in.data() + done, in.size() - done, static_cast<off_t>(offset + done));
    });
    if (put.bytes == in.size()) return {};
    // A device that writes nothing and gives no reason counts as failed.
    auto const cause = put.cause != 0 ? put.cause : EIO;
    return os_failure(cause, bytes_text("cannot write", in.size() - put.bytes), path, offset + put.bytes);
}

/// The same for a write that may make the file grow. Bytes beyond the limit are refused; bytes in front of it are written.
[[nodiscard]] inline result<void> write_growing(descriptor const& file, std::string const& path, std::uint64_t offset,
                                                byte_view in) {
    KEEL_TRY(check_range(offset, in.size(), path));
    auto const allowed = file_bytes_allowed();
    if (offset + in.size() <= allowed) return write_at(file, path, offset, in);
    auto const fits = static_cast<std::size_t>(allowed - std::min(allowed, offset));
    if (fits != 0) KEEL_TRY(write_at(file, path, offset, in.first(fits)));
    return os_failure(EFBIG, bytes_text("cannot write", in.size() - fits), path, offset + fits);
}

/// Syncs bytes and size to the medium. EINTR means that the attempt was not finished, so it may be repeated. Any other error may have
/// marked pages clean that were never written, so it is reported once and the sync is not repeated.
[[nodiscard]] inline result<void> sync_data(descriptor const& file, std::string const& path) {
#if defined(F_FULLFSYNC)
    auto const synced = uninterrupted([&] { return ::fcntl(file.get(), F_FULLFSYNC); });
#elif defined(_POSIX_SYNCHRONIZED_IO) && _POSIX_SYNCHRONIZED_IO > 0
    auto const synced = uninterrupted([&] { return ::fdatasync(file.get()); });
#else
    auto const synced = uninterrupted([&] { return ::fsync(file.get()); });
#endif
    auto const cause = errno;
    if (synced != 0) return os_failure(cause, "cannot sync the file", path);
    return {};
}

} // namespace keel::inline v0::io::detail

#endif
