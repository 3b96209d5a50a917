// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ERROR_HPP
#define KEEL_ERROR_HPP

// Errors. There are three kinds. A bug of keel or of the caller is an assertion (detail/assert.hpp). A call that the machine refuses
// returns a `result` with an `error`. Damage in the bytes is a finding (policy/repair/finding.hpp). std::bad_alloc is the only exception
// that leaves keel.

#include <keel/types.hpp>

#include <tl/expected.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace keel::inline v0 {

/// The kind of an error. The numbers and names are stable, so a program may branch on them. The text of an error may change.
enum class errc : std::uint8_t {
    io_error,          ///< a read, write or sync failed on the machine
    no_space,          ///< the disk or a quota is full; retry once there is room
    no_permission,     ///< the machine does not permit it to this process
    not_found,         ///< no such file, store or LSN
    exists,            ///< the name is taken
    not_regular,       ///< a symlink, a folder or a device stands where a file should be
    locked,            ///< another process, or another object in this process, holds the store
    not_a_store,       ///< the folder holds other files
    wrong_format,      ///< the store has another version of the format
    wrong_policy,      ///< the store was made with policies that give its bytes another meaning
    corruption,        ///< bytes do not verify, and the repair policy refuses or cannot help
    too_large,         ///< a key, record or batch is over its limit; nothing was written
    invalid_argument,  ///< the call is not valid; nothing was done
    read_only,         ///< the store serves reads only; its state_reason() has the cause
    closed,            ///< the object was closed
    cancelled,         ///< the caller asked to cancel
    conflict,          ///< another transaction committed first
    outcome_unknown,   ///< the write may be there at the next open, or not
    recovery_attempts, ///< recovery was started max_recovery_attempts times in a row without success
    out_of_memory,     ///< memory_limit or the machine refused an allocation
    unsupported,       ///< this build or this machine cannot do it
    crashed,           ///< the simulated machine has stopped (io::faulty, io::memory)
    no_descriptor,     ///< the process or the machine may open no more files; retry once some are closed
};

/// The code's name in JSON and in messages, for example "no_space".
[[nodiscard]] constexpr std::string_view name_of(errc code) noexcept {
    switch (code) {
    case errc::io_error: return "io_error";
    case errc::no_space: return "no_space";
    case errc::no_permission: return "no_permission";
    case errc::not_found: return "not_found";
    case errc::exists: return "exists";
    case errc::not_regular: return "not_regular";
    case errc::locked: return "locked";
    case errc::not_a_store: return "not_a_store";
    case errc::wrong_format: return "wrong_format";
    case errc::wrong_policy: return "wrong_policy";
    case errc::corruption: return "corruption";
    case errc::too_large: return "too_large";
    case errc::invalid_argument: return "invalid_argument";
    case errc::read_only: return "read_only";
    case errc::closed: return "closed";
    case errc::cancelled: return "cancelled";
    case errc::conflict: return "conflict";
    case errc::outcome_unknown: return "outcome_unknown";
    case errc::recovery_attempts: return "recovery_attempts";
    case errc::out_of_memory: return "out_of_memory";
    case errc::unsupported: return "unsupported";
    case errc::crashed: return "crashed";
    case errc::no_descriptor: return "no_descriptor";
    }
    return "unknown";
}

/// Whether the machine was short of memory or descriptors. Such an error says nothing about the bytes. The same call may succeed later.
[[nodiscard]] constexpr bool is_shortage(errc code) noexcept {
    return code == errc::out_of_memory || code == errc::no_descriptor;
}

/// What a person needs to act on an error.
struct error {
    /// The kind of the error. A program branches on it.
    errc code = errc::io_error;
    std::string message;      ///< one or two sentences; the last one says what to do next, if anything can be done
    std::string file{};       ///< the path concerned; empty: no file is concerned
    std::uint64_t offset = 0; ///< bytes into that file
    lsn at{};                 ///< the record concerned; 0: no record is concerned
    int cause = 0;            ///< errno; 0: the machine did not fail
    bool retryable = false;   ///< the same call may succeed later without further action
};

/// A value, or the error that explains why there is none. value() on an error is a bug of the caller.
template <class T>
using result = tl::expected<T, error>;

/// An error, to be returned from a function that returns a result.
[[nodiscard]] inline auto failure(error why) { return tl::unexpected<error>(std::move(why)); }

/// An error from its parts, to be returned from a function that returns a result. `offset`: bytes into `file`.
[[nodiscard]] inline auto failure(errc code, std::string message, std::string file = {}, std::uint64_t offset = 0) {
    return tl::unexpected<error>(
        error{.code = code, .message = std::move(message), .file = std::move(file), .offset = offset});
}

/// One line for a log or a terminal: "no_space: cannot write 4096 bytes (log/00..01.seg, offset 512)".
[[nodiscard]] inline std::string to_string(error const& e) {
    std::string text{name_of(e.code)};
    text += ": ";
    text += e.message;
    if (!e.file.empty()) {
        text += " (";
        text += e.file;
        if (e.offset != 0) text += ", offset " + std::to_string(e.offset);
        if (e.at) text += ", lsn " + std::to_string(e.at.value);
        text += ")";
    } else if (e.at) {
        text += " (lsn " + std::to_string(e.at.value) + ")";
    }
    return text;
}

} // namespace keel::inline v0

// Returns the error of a result<...> from the function. A value is dropped.
#define KEEL_TRY(...)                                                                                                  \
    do {                                                                                                               \
        if (auto&& keel_tried = (__VA_ARGS__); !keel_tried) return ::keel::failure(std::move(keel_tried).error());     \
    } while (false)

#define KEEL_DETAIL_JOIN2(a, b) a##b
#define KEEL_DETAIL_JOIN(a, b) KEEL_DETAIL_JOIN2(a, b)
#define KEEL_DETAIL_TRY_LET(tried, name, ...)                                                                          \
    auto tried = (__VA_ARGS__);                                                                                        \
    if (!tried) return ::keel::failure(std::move(tried).error());                                                      \
    auto name = std::move(*tried)
// `KEEL_TRY_LET(file, fs.open(path))` declares `file` as the value of the result, or returns the error from the function.
#define KEEL_TRY_LET(name, ...) KEEL_DETAIL_TRY_LET(KEEL_DETAIL_JOIN(keel_tried_, __LINE__), name, __VA_ARGS__)

#endif
