// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_ERRNO_HPP
#define KEEL_IO_DETAIL_POSIX_ERRNO_HPP

// The meaning of errno for keel: one table for everything in posix.hpp. A message tells what was tried, what the system answered, and what
// the user can do. Path, offset and errno are separate fields of the error.

#include <keel/error.hpp>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace keel::inline v0::io::detail {

/// One row of the table.
struct errno_meaning {
    errc code = errc::io_error;
    bool retryable = false;
    std::string_view remedy; ///< a whole sentence; empty if nothing can be done
};

[[nodiscard]] inline errno_meaning meaning_of_space(int cause) noexcept {
    switch (cause) {
    case ENOSPC: return {errc::no_space, false, "The disk is full: free some space and try again."};
    case EDQUOT: return {errc::no_space, false, "The quota is used up: free some space or raise it, and try again."};
    case EFBIG: return {errc::no_space, false, "The file may not grow further: raise the file size limit (ulimit -f)."};
    case ENOMEM: return {errc::out_of_memory, true, "Memory is short: free some and try again."};
    case EMFILE:
        return {errc::no_descriptor, true,
                "This process has too many open files: close some or raise the limit (ulimit -n)."};
    case ENFILE:
        return {errc::no_descriptor, true, "The machine has too many open files: close some or raise fs.file-max."};
    default: return {};
    }
}

[[nodiscard]] inline errno_meaning meaning_of_name(int cause) noexcept {
    switch (cause) {
    case ENOENT: return {errc::not_found, false, "Check the path."};
    case ENOTDIR: return {errc::not_found, false, "A part of the path is not a folder: check the path."};
    case EEXIST: return {errc::exists, false, "Choose another name, or remove what is there."};
    case ENOTEMPTY: return {errc::exists, false, "The folder is not empty: remove what is in it first."};
    case ENAMETOOLONG: return {errc::invalid_argument, false, "The name is too long: choose a shorter one."};
    case EXDEV: return {errc::unsupported, false, "The two names lie on different file systems: keep them on one."};
    case EISDIR: return {errc::not_regular, false, "A folder stands where a file should be: move it away."};
    case ELOOP:
        return {errc::not_regular, false, "A symbolic link stands there: links are not followed, name its target."};
    case ENXIO: return {errc::not_regular, false, "A device or a socket stands where a file should be: move it away."};
    default: return {};
    }
}

[[nodiscard]] inline errno_meaning meaning_of_permission(int cause) noexcept {
    switch (cause) {
    case EACCES: return {errc::no_permission, false, "Give this user the right to it."};
    case EPERM:
        return {errc::no_permission, false, "The system forbids it: look for an immutable flag (lsattr) or a sandbox."};
    case EROFS:
        return {errc::no_permission, false, "The file system is mounted read-only: see why (dmesg) and remount it."};
    case ETXTBSY: return {errc::no_permission, false, "It is a program that runs: choose another file."};
    case EBUSY: return {errc::io_error, true, "Something else is using it: try again later."};
    case ENOLCK: return {errc::unsupported, false, "This file system gives no locks: keep the store on a local disk."};
    default: return {};
    }
}

[[nodiscard]] inline errno_meaning meaning_of_call(int cause) noexcept {
    switch (cause) {
    case EIO:
        return {errc::io_error, false,
                "The device failed: see the system log (dmesg) and the health of the disk (smartctl)."};
    case ESTALE: return {errc::io_error, false, "The file server forgot this file: open the store again."};
    case EAGAIN:
    case EINTR: return {errc::io_error, true, "Try again."};
    case EINVAL: return {errc::invalid_argument, false, "The system does not accept these arguments for this file."};
    case ENODEV:
    case ENOSYS:
    case EOPNOTSUPP:
        return {errc::unsupported, false, "This file system cannot do that: keep the store on a local disk."};
    default: return {errc::io_error, false, {}};
    }
}

[[nodiscard]] inline errno_meaning meaning_of(int cause) noexcept {
    for (auto const table : {&meaning_of_space, &meaning_of_name, &meaning_of_permission}) {
        if (auto const found = table(cause); !found.remedy.empty()) return found;
    }
    return meaning_of_call(cause);
}

/// Makes an error: `what` was tried on `file` ("cannot write 512 bytes"), and the system answered with errno `cause`. The caller reads
/// errno before it does anything else, because even a successful allocation may change it.
[[nodiscard]] inline error os_error(int cause, std::string_view what, std::string const& file,
                                    std::uint64_t offset = 0) {
    auto const meaning = meaning_of(cause);
    std::string message{what};
    message += ": ";
    message += std::generic_category().message(cause);
    message += '.';
    if (!meaning.remedy.empty()) (message += ' ') += meaning.remedy;
    return error{.code = meaning.code,
                 .message = std::move(message),
                 .file = file,
                 .offset = offset,
                 .cause = cause,
                 .retryable = meaning.retryable};
}

/// The same as a failure, for a function that returns a result.
[[nodiscard]] inline auto os_failure(int cause, std::string_view what, std::string const& file,
                                     std::uint64_t offset = 0) {
    return failure(os_error(cause, what, file, offset));
}

} // namespace keel::inline v0::io::detail

#endif
