// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_GUARDED_HPP
#define KEEL_DETAIL_GUARDED_HPP

// Where an exception must not pass: steps that have changed something already, background threads, destructors. The only exception that
// keel lets out is std::bad_alloc; here it becomes an error that itself needs no memory.

#include <keel/error.hpp>

#include <new>
#include <utility>

namespace keel::inline v0::detail {

/// Memory was refused. The text is short enough to need no allocation.
[[nodiscard]] inline error memory_refused() noexcept {
    return {.code = errc::out_of_memory, .message = "memory refused", .retryable = true};
}

/// What `work()` returns, a result; memory_refused() where it throws std::bad_alloc.
template <class Work>
[[nodiscard]] auto guarded(Work&& work) noexcept -> decltype(work()) {
    try {
        return std::forward<Work>(work)();
    } catch (std::bad_alloc const&) {
        return failure(memory_refused());
    }
}

/// Runs `work()`, whose failure for want of memory costs nothing but what it would have done.
template <class Work>
void if_memory_lasts(Work&& work) noexcept {
    try {
        std::forward<Work>(work)();
    } catch (std::bad_alloc const&) {}
}

} // namespace keel::inline v0::detail

#endif
