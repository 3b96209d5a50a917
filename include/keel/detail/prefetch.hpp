// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_PREFETCH_HPP
#define KEEL_DETAIL_PREFETCH_HPP

// Prefetches of memory. A lookup is a chain of a few cache misses, and each one gives the address of the next. Loads that do not depend on
// another are therefore started together.

#include <cstddef>

namespace keel::inline v0::detail {

inline constexpr std::size_t cache_line_bytes = 64;

/// A hint. It reads nothing, and any address is allowed.
inline void prefetch(void const* at) noexcept {
#if defined(__GNUC__)
    __builtin_prefetch(at);
    // Without this, GCC treats a function that only prefetches as one without effect, and removes the calls.
    asm volatile("");
#else
    static_cast<void>(at);
#endif
}
inline void prefetch(void const* at, std::size_t bytes) noexcept {
    auto const* const begin = static_cast<char const*>(at);
    for (std::size_t i = 0; i < bytes; i += cache_line_bytes) prefetch(begin + i);
}

} // namespace keel::inline v0::detail

#endif
