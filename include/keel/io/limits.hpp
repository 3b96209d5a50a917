// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_LIMITS_HPP
#define KEEL_IO_LIMITS_HPP

// The limits that the system sets for this process, as they are now. The host may change them while a store is open.

#include <cstdint>
#include <limits>

#include <sys/resource.h>

namespace keel::inline v0::io {

namespace detail {

/// The limit; the largest number if there is no limit or the system does not tell.
template <class Resource>
[[nodiscard]] std::uint64_t limit_of(Resource what) noexcept {
    rlimit now{};
    if (::getrlimit(what, &now) != 0 || now.rlim_cur == RLIM_INFINITY) return std::numeric_limits<std::uint64_t>::max();
    return now.rlim_cur;
}

} // namespace detail

/// How many files this process may have open (ulimit -n).
[[nodiscard]] inline std::uint64_t open_files_allowed() noexcept { return detail::limit_of(RLIMIT_NOFILE); }
/// How many bytes of address space it may use (ulimit -v).
[[nodiscard]] inline std::uint64_t address_space_allowed() noexcept { return detail::limit_of(RLIMIT_AS); }

} // namespace keel::inline v0::io

#endif
