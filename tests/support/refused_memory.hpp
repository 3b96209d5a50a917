// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_REFUSED_MEMORY_HPP
#define KEEL_TESTS_SUPPORT_REFUSED_MEMORY_HPP

// An operator new that says no. refused_memory.cpp replaces all forms of it for the whole program: they are malloc, unless a plan is set and
// the calling thread is counted. Counted is what runs in a `counted` scope and in no `uncounted` one within it, and all of a thread that a
// thread of a run started (turns.hpp), but for what it does in an `uncounted` scope. So the tests' own allocations, and those of a simulated
// disk, are never refused.
//
// One thread at a time may allocate while a plan is set: the threads of a run take turns.

#include <cstdint>

namespace keel::test::refused_memory {

/// From now on allocations are counted anew from 1, and those from `at` on are refused, `count` of them. 0: none.
void plan(std::uint64_t at, std::uint64_t count) noexcept;
/// Nothing is counted any more.
void no_plan() noexcept;
/// Whether the places of refused allocations are printed.
void tell(bool yes) noexcept;
/// How many were counted since,
[[nodiscard]] std::uint64_t asked() noexcept;
/// and how many of them were refused.
[[nodiscard]] std::uint64_t refused() noexcept;

class counted {
public:
    counted() noexcept;
    counted(counted const&) = delete;
    counted& operator=(counted const&) = delete;
    ~counted();
};
/// For what begins and ends in two places.
void begin_uncounted() noexcept;
void end_uncounted() noexcept;

} // namespace keel::test::refused_memory

#endif
