// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_HEAP_HPP
#define KEEL_EXAMPLES_DRILL_HEAP_HPP

// How much memory this process took: the peak of what operator new gave out, and the peak of what the machine counts.
// Replaces the global operator new, so exactly one source file of a program may include it.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <new>
#include <string>

#include <malloc.h>

namespace drill::heap {

// Relaxed throughout: figures, read when the threads are gone.
inline std::atomic<std::uint64_t> now{0};
inline std::atomic<std::uint64_t> peak{0};

inline void* count(void* given) {
    if (given == nullptr) throw std::bad_alloc{};
    auto const bytes = ::malloc_usable_size(given);
    auto const total = now.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    auto seen = peak.load(std::memory_order_relaxed);
    while (seen < total && !peak.compare_exchange_weak(seen, total, std::memory_order_relaxed)) {}
    return given;
}
inline void give_back(void* given) noexcept {
    if (given == nullptr) return;
    now.fetch_sub(::malloc_usable_size(given), std::memory_order_relaxed);
    std::free(given);
}

/// Largest resident size so far, as the machine counts it: heap, stacks, program, and file pages that are mapped.
[[nodiscard]] inline std::uint64_t resident_peak() {
    std::ifstream status{"/proc/self/status"};
    for (std::string word; status >> word;)
        if (std::uint64_t kib = 0; word == "VmHWM:" && status >> kib) return kib * 1024;
    return 0;
}

} // namespace drill::heap

// Not inlined: a compiler that sees malloc in one and free in the other takes them for a mistake.
// NOLINTBEGIN: replacements have these signatures
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    return drill::heap::count(std::malloc(bytes != 0 ? bytes : 1));
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t to) {
    auto const unit = static_cast<std::size_t>(to);
    return drill::heap::count(std::aligned_alloc(unit, (bytes + unit - 1) / unit * unit));
}
[[gnu::noinline]] void operator delete(void* given) noexcept { drill::heap::give_back(given); }
[[gnu::noinline]] void operator delete(void* given, std::size_t) noexcept { drill::heap::give_back(given); }
[[gnu::noinline]] void operator delete(void* given, std::align_val_t) noexcept { drill::heap::give_back(given); }
[[gnu::noinline]] void operator delete(void* given, std::size_t, std::align_val_t) noexcept {
    drill::heap::give_back(given);
}
// NOLINTEND

#endif
