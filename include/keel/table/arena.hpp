// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_ARENA_HPP
#define KEEL_TABLE_ARENA_HPP

// The storage of a memtable: memory that only grows. All of it is freed together with the arena.
//
// Thread rules: one thread allocates. Any number of threads may read the memory that was handed out.

#include <keel/io/large_memory.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

class arena {
public:
    explicit arena(std::shared_ptr<io::large_page_pool> pages) : pages_{std::move(pages)} {}

    /// Returns `bytes` of uninitialised memory, aligned to 8 bytes. It stays valid as long as the arena. Throws std::bad_alloc.
    [[nodiscard]] std::byte* allocate(std::size_t bytes) {
        bytes = (bytes + 7) / 8 * 8;
        if (bytes > left_) grow(bytes);
        auto* const out = at_;
        at_ += bytes;
        left_ -= bytes;
        used_ += bytes;
        return out;
    }
    /// Bytes handed out so far, each allocation rounded up to a multiple of 8.
    [[nodiscard]] std::size_t used_bytes() const noexcept { return used_; }

private:
    static constexpr std::size_t first_block_bytes = 4096;
    static constexpr std::size_t block_bytes_max = io::large_page_bytes;

    // Block sizes double up to 2 MiB. So an idle store uses little memory, and a busy store allocates rarely.
    void grow(std::size_t at_least) {
        next_block_ = std::min(next_block_ * 2, block_bytes_max);
        auto const size = std::max(at_least, next_block_);
        blocks_.push_back(io::allocate_large(size, pages_));
        at_ = blocks_.back().get();
        left_ = size;
    }

    std::shared_ptr<io::large_page_pool> pages_;
    std::vector<io::large_memory> blocks_{};
    std::byte* at_ = nullptr;
    std::size_t left_ = 0;
    std::size_t used_ = 0;
    std::size_t next_block_ = first_block_bytes / 2;
};

} // namespace keel::inline v0::table

#endif
