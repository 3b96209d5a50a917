// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_PREFETCH_HPP
#define KEEL_DETAIL_PREFETCH_HPP

// Asking for memory before it is needed. A look-up is a few cache misses, each of which tells where the next one is; what does not
// depend on another is asked for at once.

#include <cstddef>

namespace keel::inline v0::detail {

inline constexpr std::size_t cache_line_bytes = 64;

/// A hint: reads nothing, and any address will do.
inline void prefetch(void const* at) noexcept {
#if defined(__GNUC__)
    __builtin_prefetch(at);
    // GCC takes a function that does no more than that for one without effect, and leaves its calls out.
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
