// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ERROR_HPP
#define KEEL_ERROR_HPP

// How keel says no. Three kinds, three treatments: a bug of ours is an assertion (detail/assert.hpp), the machine's no is a
// `result` with an `error`, damage in the bytes is a finding (recovery/finding.hpp). Only std::bad_alloc leaves keel as an exception.

#include <keel/types.hpp>

#include <tl/expected.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace keel::inline v0 {

/// What kind of no. Stable: programs branch on it; the text beside it is for people.
enum class errc : std::uint8_t {
    io_error,          ///< the machine failed a read, write or sync
    no_space,          ///< the disk (or a quota) is full; retry once there is room
    no_permission,     ///< the machine does not let this process do it
    not_found,         ///< no such file, store or LSN
    exists,            ///< it is already there
    not_regular,       ///< a symlink, a folder or a device stands where a file should be
    locked,            ///< another process, or another object in this one, holds the store
    not_a_store,       ///< the directory holds something else
    wrong_format,      ///< made by another version of the format
    wrong_policy,      ///< made with policies that give the bytes another meaning
    corruption,        ///< bytes are not what was written, and the repair policy refuses or cannot help
    too_large,         ///< a key, record or batch over its limit; nothing was written
    invalid_argument,  ///< the call itself makes no sense; nothing was done
    read_only,         ///< the store serves reads only; its state_reason() says why
    closed,            ///< the object was closed
    cancelled,         ///< the caller's cancel request was seen
    conflict,          ///< another transaction committed first
    outcome_unknown,   ///< the write may or may not be there at the next open
    recovery_attempts, ///< recovery was started max_recovery_attempts times without success
    out_of_memory,     ///< memory_limit, or the machine, refused an allocation
    unsupported,       ///< this build or this machine cannot do that
    crashed,           ///< the simulated machine has stopped (io::faulty, io::memory)
    no_descriptor,     ///< this process, or the machine, may open no more files; retry once some are closed
};

/// The code's name as it stands in JSON and in messages, e.g. "no_space".
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

/// The machine had no more to give at that moment. It says nothing about bytes, and the same call may succeed later.
[[nodiscard]] constexpr bool is_shortage(errc code) noexcept {
    return code == errc::out_of_memory || code == errc::no_descriptor;
}

/// Everything a person needs to act: what, where, why, and what to do next (at the end of `message`).
struct error {
    errc code = errc::io_error;
    std::string message;      ///< one or two sentences; the last says what to do next where something can be done
    std::string file{};       ///< the path concerned; empty where there is none
    std::uint64_t offset = 0; ///< bytes into that file
    lsn at{};                 ///< the record concerned; 0 where there is none
    int cause = 0;            ///< errno; 0 where the machine had no part in it
    bool retryable = false;   ///< the same call may succeed later without anything else being done
};

/// A value, or why there is none. Never throws by itself; value() on an error is the caller's bug.
template <class T>
using result = tl::expected<T, error>;

[[nodiscard]] inline auto failure(error why) { return tl::unexpected<error>(std::move(why)); }

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

// Leaves the function with the error of a result<...>; the value, if any, is dropped.
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
// `KEEL_TRY_LET(file, fs.open(path))`: names the value of a result<...>, or leaves the function with its error.
#define KEEL_TRY_LET(name, ...) KEEL_DETAIL_TRY_LET(KEEL_DETAIL_JOIN(keel_tried_, __LINE__), name, __VA_ARGS__)

#endif
