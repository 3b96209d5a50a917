// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_MEMORY_COW_HPP
#define KEEL_IO_DETAIL_MEMORY_COW_HPP

// cow<T>: a pointer to a value that is shared until one owner changes it. Cloning a simulated disk copies such pointers, never bytes. One
// cow object belongs to one thread (or one mutex); many cow objects may share the value. std::shared_ptr is not enough: its use_count()
// does not order our change after the last read of an owner that has just released the value. owners does.

#include <keel/detail/assert.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace keel::inline v0::io::detail {

template <class T>
class cow {
public:
    cow() noexcept = default;
    cow(cow const& other) noexcept : block_{other.block_} {
        if (block_ != nullptr) block_->owners.fetch_add(1, std::memory_order_relaxed);
    }
    cow(cow&& other) noexcept : block_{std::exchange(other.block_, nullptr)} {}
    cow& operator=(cow other) noexcept {
        std::swap(block_, other.block_);
        return *this;
    }
    ~cow() {
        if (block_ != nullptr && block_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete block_;
    }

    template <class... Args>
    [[nodiscard]] static cow make(Args&&... args) {
        cow made;
        made.block_ = new block{std::forward<Args>(args)...};
        return made;
    }

    [[nodiscard]] explicit operator bool() const noexcept { return block_ != nullptr; }
    [[nodiscard]] T const& operator*() const noexcept { return there().value; }
    [[nodiscard]] T const* operator->() const noexcept { return &there().value; }
    [[nodiscard]] bool same_as(cow const& other) const noexcept { return block_ == other.block_; }

    /// The value, not shared with another owner: a shared value is copied first. Precondition: the pointer is not empty.
    [[nodiscard]] T& edit() {
        if (there().owners.load(std::memory_order_acquire) != 1) *this = make(std::as_const(there().value));
        return there().value;
    }

private:
    struct block {
        template <class... Args>
        explicit block(Args&&... args) : value{std::forward<Args>(args)...} {}
        T value;
        std::atomic<std::uint32_t> owners{1};
    };

    /// The block. Precondition: the pointer is not empty. __builtin_unreachable() passes this precondition on to the compiler.
    [[nodiscard]] block& there() const noexcept {
        KEEL_ASSERT(block_ != nullptr);
        if (block_ == nullptr) __builtin_unreachable();
        return *block_;
    }

    block* block_ = nullptr;
};

} // namespace keel::inline v0::io::detail

#endif
