// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_LARGE_MEMORY_HPP
#define KEEL_IO_LARGE_MEMORY_HPP

// Memory that is looked into at random: from two megabytes on the machine is asked for large pages, so that it takes one fault and one
// entry of the address cache where there would be hundreds. A machine that has none gives ordinary ones.

#include <sys/mman.h>

#include <cstddef>
#include <memory>
#include <new>

namespace keel::inline v0::io {

inline constexpr std::size_t large_page_bytes = std::size_t{1} << 21;

struct free_large_memory {
    std::size_t bytes = 0;
    void operator()(std::byte* at) const noexcept {
        if (bytes >= large_page_bytes) ::operator delete(at, std::align_val_t{large_page_bytes});
        else ::operator delete(at);
    }
};
using large_memory = std::unique_ptr<std::byte[], free_large_memory>;

/// Not initialised. Throws std::bad_alloc.
[[nodiscard]] inline large_memory allocate_large(std::size_t bytes) {
    if (bytes < large_page_bytes) return {static_cast<std::byte*>(::operator new(bytes)), free_large_memory{bytes}};
    auto* const at = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{large_page_bytes}));
    ::madvise(at, bytes / large_page_bytes * large_page_bytes, MADV_HUGEPAGE); // a wish
    return {at, free_large_memory{bytes}};
}

} // namespace keel::inline v0::io

#endif
