// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_LARGE_MEMORY_HPP
#define KEEL_IO_LARGE_MEMORY_HPP

// Memory that is looked into at random: from two megabytes on the machine is asked for large pages, so that it takes one fault and one
// entry of the address cache where there would be hundreds. A machine that has none gives ordinary ones.

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>

namespace keel::inline v0::io {

inline constexpr std::size_t large_page_bytes = std::size_t{1} << 21;

/// Large pages that were given back and will be wanted again: memory that is there already costs no fault, and no clearing. What lies
/// here is the machine's to take when it is short of memory. Any thread.
class large_page_pool {
public:
    large_page_pool() = default;
    ~large_page_pool() {
        while (count_ != 0) ::operator delete(pages_[--count_], std::align_val_t{large_page_bytes});
    }
    large_page_pool(large_page_pool const&) = delete;
    large_page_pool& operator=(large_page_pool const&) = delete;

    /// A page, or null.
    [[nodiscard]] std::byte* take() noexcept {
        std::lock_guard const hold{m_};
        return count_ == 0 ? nullptr : pages_[--count_];
    }
    /// False: there are enough.
    [[nodiscard]] bool keep(std::byte* page) noexcept {
        ::madvise(page, large_page_bytes, MADV_FREE); // before anybody can have it again
        std::lock_guard const hold{m_};
        if (count_ == pages_.size()) return false;
        pages_[count_++] = page;
        return true;
    }

private:
    std::mutex m_;
    std::array<std::byte*, 16> pages_{}; ///< what a segment of the default size takes in memory
    std::size_t count_ = 0;
};

struct free_large_memory {
    std::size_t bytes = 0;
    std::shared_ptr<large_page_pool> home{}; ///< nothing: the heap
    void operator()(std::byte* at) const noexcept {
        if (home && home->keep(at)) return;
        if (bytes >= large_page_bytes) ::operator delete(at, std::align_val_t{large_page_bytes});
        else ::operator delete(at);
    }
};
using large_memory = std::unique_ptr<std::byte[], free_large_memory>;

/// Not initialised; single pages come from the pool, where there is one, and go back there. Throws std::bad_alloc.
[[nodiscard]] inline large_memory allocate_large(std::size_t bytes, std::shared_ptr<large_page_pool> const& from) {
    if (bytes < large_page_bytes) return {static_cast<std::byte*>(::operator new(bytes)), free_large_memory{bytes}};
    auto const home = bytes == large_page_bytes ? from : nullptr;
    if (home)
        if (auto* const page = home->take(); page != nullptr) return {page, free_large_memory{bytes, home}};
    auto* const at = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{large_page_bytes}));
    ::madvise(at, bytes / large_page_bytes * large_page_bytes, MADV_HUGEPAGE); // a wish
    return {at, free_large_memory{bytes, home}};
}

} // namespace keel::inline v0::io

#endif
