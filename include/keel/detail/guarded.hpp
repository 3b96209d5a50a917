// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_GUARDED_HPP
#define KEEL_DETAIL_GUARDED_HPP

// For code that an exception must not leave: steps that have already changed state, background threads, destructors. std::bad_alloc is
// the only exception that keel lets out. Here it becomes an error that needs no memory itself.

#include <keel/error.hpp>

#include <new>
#include <utility>

namespace keel::inline v0::detail {

/// The error for refused memory. Its text is short enough to need no allocation.
[[nodiscard]] inline error memory_refused() noexcept {
    return {.code = errc::out_of_memory, .message = "memory refused", .retryable = true};
}

/// Returns the result of `work()`, or memory_refused() if it throws std::bad_alloc.
template <class Work>
[[nodiscard]] auto guarded(Work&& work) noexcept -> decltype(work()) {
    try {
        return std::forward<Work>(work)();
    } catch (std::bad_alloc const&) {
        return failure(memory_refused());
    }
}

/// Runs `work()` and ignores std::bad_alloc. Only for work that may be left out.
template <class Work>
void if_memory_lasts(Work&& work) noexcept {
    try {
        std::forward<Work>(work)();
    } catch (std::bad_alloc const&) {}
}

} // namespace keel::inline v0::detail

#endif
