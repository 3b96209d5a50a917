// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_DESCRIPTOR_HPP
#define KEEL_IO_DETAIL_POSIX_DESCRIPTOR_HPP

// File descriptors: opened without following the last name, without waiting for the other end of a pipe, closed on
// exec, never 0, 1 or 2; and whole transfers over calls that may be interrupted or do a part only. An error at offset n
// says that everything before n was done. errno is read right behind the call that sets it.

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

/// Owns one descriptor; closes it. close() is not asked how it went: whoever cares about the bytes has synced them.
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
        // Never repeated after EINTR: the number is free by then, and may already be somebody else's.
        if (number_ >= 0) ::close(number_);
    }
    void swap(descriptor& other) noexcept { std::swap(number_, other.number_); }
    [[nodiscard]] int get() const noexcept { return number_; }
    [[nodiscard]] explicit operator bool() const noexcept { return number_ >= 0; }
    /// Is not closed here any more.
    [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }

private:
    int number_ = -1;
};

/// Calls `call` until it is not interrupted by a signal.
template <class Call>
auto uninterrupted(Call&& call) {
    for (;;) {
        auto const got = call();
        if (got != -1 || errno != EINTR) return got;
    }
}

/// A name as the system is asked for it: in a folder that is held open, or as it stands (from the root, or from the working directory).
struct posix_place {
    std::shared_ptr<descriptor const> folder{}; ///< nothing: as it stands
    std::string name{};

    [[nodiscard]] int at() const noexcept { return folder ? folder->get() : AT_FDCWD; }
    [[nodiscard]] char const* c_str() const noexcept { return name.c_str(); }
};

/// open(2) with what keel always wants. Where it fails, the descriptor is empty and errno says why.
[[nodiscard]] inline descriptor open_descriptor(int at, char const* name, int flags) noexcept {
    // O_NONBLOCK: a pipe under the name must be refused, not waited for. It has no meaning for regular files.
    auto const all = flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    descriptor opened{uninterrupted([&] { return ::openat(at, name, all, mode_t{0644}); })};
    if (!opened || opened.get() > 2) return opened;
    // The host runs with a standard stream closed. A stray printf must not end up inside a segment.
    auto const number = ::fcntl(opened.get(), F_DUPFD_CLOEXEC, 3);
    auto const cause = errno; // closing the first one may change it
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

/// Of the name itself: a symbolic link is a symbolic link.
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

/// Opens a regular file, or refuses.
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

/// Opens a folder; the last name is not followed either.
[[nodiscard]] inline result<descriptor> open_folder(posix_place const& place, std::string const& path) {
    auto opened = open_descriptor(place.at(), place.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    auto cause = errno;
    if (opened) return opened;
    // A link makes some systems say "not a folder", which would send people looking in the wrong place.
    bool const may_be_link = cause == ENOTDIR || cause == ELOOP || cause == EMLINK;
    if (auto const status = may_be_link ? status_at(place, path) : result<file_status>{};
        status && status->kind == file_kind::symlink)
        cause = ELOOP;
    return os_failure(cause, "cannot open the folder", path);
}

/// Nothing where `length` bytes at `offset` can be named to the system at all.
[[nodiscard]] inline result<void> check_range(std::uint64_t offset, std::uint64_t length, std::string const& path) {
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
    if (offset <= most && length <= most - offset) return {};
    return failure(errc::invalid_argument, "offset and length go past what a file can hold", path, offset);
}

/// How much of a transfer was done, and the errno that ended it early; 0 where nothing did.
struct transferred {
    std::size_t bytes = 0;
    int cause = 0;
};

/// Moves `wanted` bytes with `move(done)`, which moves some of what is left from `done` on and answers like pread(2).
/// Ends early at an error, or where nothing moves (the end of the file).
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

/// How large this process may make a file (ulimit -f); asked before a file grows, because the system's answer is a signal, SIGXFSZ.
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
    // A device that takes nothing and gives no reason is treated as one that failed.
    auto const cause = put.cause != 0 ? put.cause : EIO;
    return os_failure(cause, bytes_text("cannot write", in.size() - put.bytes), path, offset + put.bytes);
}

/// The same where the file grows: what goes past the limit is refused, what is in front of it is written.
[[nodiscard]] inline result<void> write_growing(descriptor const& file, std::string const& path, std::uint64_t offset,
                                                byte_view in) {
    KEEL_TRY(check_range(offset, in.size(), path));
    auto const allowed = file_bytes_allowed();
    if (offset + in.size() <= allowed) return write_at(file, path, offset, in);
    auto const fits = static_cast<std::size_t>(allowed - std::min(allowed, offset));
    if (fits != 0) KEEL_TRY(write_at(file, path, offset, in.first(fits)));
    return os_failure(EFBIG, bytes_text("cannot write", in.size() - fits), path, offset + fits);
}

/// Bytes and size are on the medium. EINTR says that nothing was tried to the end, so it may be repeated; any other
/// error may have marked pages clean that were never written, and is reported once.
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
