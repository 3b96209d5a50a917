// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_LARGE_MEMORY_HPP
#define KEEL_IO_LARGE_MEMORY_HPP

// Memory that is read at random places. For pieces of two megabytes and more, the machine is asked for large pages. A large page costs one
// page fault and one entry of the address cache, where small pages cost hundreds. If the machine has no large pages, it gives ordinary
// ones.

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>

namespace keel::inline v0::io {

/// The size of a large page, in bytes.
inline constexpr std::size_t large_page_bytes = std::size_t{1} << 21;

/// Keeps large pages that were given back, for their next use. Reusing a page costs no page fault and no clearing. The machine may take the
/// memory of these pages when it is short of memory. Any thread.
class large_page_pool {
public:
    large_page_pool() = default;
    ~large_page_pool() {
        while (count_ != 0) ::operator delete(pages_[--count_], std::align_val_t{large_page_bytes});
    }
    large_page_pool(large_page_pool const&) = delete;
    large_page_pool& operator=(large_page_pool const&) = delete;

    /// Returns a page of large_page_bytes, uninitialised, or nullptr if the pool is empty.
    [[nodiscard]] std::byte* take() noexcept {
        std::lock_guard const hold{m_};
        return count_ == 0 ? nullptr : pages_[--count_];
    }
    /// Puts a page into the pool. False: the pool is full, and the caller still owns the page.
    [[nodiscard]] bool keep(std::byte* page) noexcept {
        ::madvise(page, large_page_bytes, MADV_FREE); // before another thread can take the page
        std::lock_guard const hold{m_};
        if (count_ == pages_.size()) return false;
        pages_[count_++] = page;
        return true;
    }

private:
    std::mutex m_;
    std::array<std::byte*, 16> pages_{}; ///< as many as the memtable of a segment of the default size needs
    std::size_t count_ = 0;
};

/// Gives the memory back: a single page to its pool, all other memory to the heap.
struct free_large_memory {
    std::size_t bytes = 0;                   ///< the size that was asked for
    std::shared_ptr<large_page_pool> home{}; ///< nothing: the heap
    /// Frees the memory at `at`.
    void operator()(std::byte* at) const noexcept {
        if (home && home->keep(at)) return;
        if (bytes >= large_page_bytes) ::operator delete(at, std::align_val_t{large_page_bytes});
        else ::operator delete(at);
    }
};
/// Memory of allocate_large(). It owns the bytes.
using large_memory = std::unique_ptr<std::byte[], free_large_memory>;

/// Returns `bytes` uninitialised bytes. A piece of exactly one large page comes from the pool `from`, if there is one, and goes back to it.
/// Throws std::bad_alloc.
[[nodiscard]] inline large_memory allocate_large(std::size_t bytes, std::shared_ptr<large_page_pool> const& from) {
    if (bytes < large_page_bytes) return {static_cast<std::byte*>(::operator new(bytes)), free_large_memory{bytes}};
    auto const home = bytes == large_page_bytes ? from : nullptr;
    if (home)
        if (auto* const page = home->take(); page != nullptr) return {page, free_large_memory{bytes, home}};
    auto* const at = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{large_page_bytes}));
    ::madvise(at, bytes / large_page_bytes * large_page_bytes, MADV_HUGEPAGE); // a wish: failure is harmless
    return {at, free_large_memory{bytes, home}};
}

} // namespace keel::inline v0::io

#endif
