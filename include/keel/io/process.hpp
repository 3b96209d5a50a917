// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_PROCESS_HPP
#define KEEL_IO_PROCESS_HPP

// What belongs to one process. fork() copies all memory but only the thread that called it. So in the child a mutex may be locked by a
// thread that does not exist there, and the state of a store belongs to the parent. An object that must not be used in a child keeps a
// process_mark and checks it first. process_bound holds what such an object owns and what the child cannot destroy.
//
// A child is detected by a word in a page that the kernel clears in every child (MADV_WIPEONFORK). So the check costs one load. If the
// kernel refuses that, a handler of pthread_atfork clears the word; then a child made by the bare system call is not detected. vfork() and
// threads share the memory and count as the same process.

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include <pthread.h>
#include <sys/mman.h>

namespace keel::inline v0::io {

namespace detail {

using process_word = std::atomic<std::uint64_t>;

inline constinit process_word word_without_page{0};
inline constinit std::atomic<process_word*> word_of_process{nullptr};
/// The largest number that this process, or a process that it was forked from, gave itself.
inline constinit process_word last_process_number{0};

/// A word that is 0 in a forked child; nullptr if the kernel offers none.
[[nodiscard]] inline process_word* map_wiped_word() noexcept {
#if defined(MADV_WIPEONFORK)
    constexpr std::size_t bytes = 4096; // the kernel rounds up to its pages
    auto* const page = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return nullptr;
    if (::madvise(page, bytes, MADV_WIPEONFORK) == 0) return new (page) process_word{0};
    ::munmap(page, bytes);
#endif
    return nullptr;
}
inline void empty_word_in_child() noexcept { word_without_page.store(0, std::memory_order_relaxed); }
[[nodiscard]] inline process_word* make_process_word() noexcept {
    if (auto* const mapped = map_wiped_word(); mapped != nullptr) return mapped;
    ::pthread_atfork(nullptr, nullptr, &empty_word_in_child);
    return &word_without_page;
}

/// Takes no lock: another thread may fork a child during this call.
[[nodiscard]] inline process_word* the_process_word() noexcept {
    auto* there = word_of_process.load(std::memory_order_acquire);
    if (there != nullptr) return there;
    auto* const made = make_process_word();
    if (word_of_process.compare_exchange_strong(there, made, std::memory_order_acq_rel)) return made;
    return there; // another thread was faster; the page made here stays mapped and is not used
}

/// A number that neither the parent of this process nor any process above it has.
[[nodiscard]] inline std::uint64_t number_of_process(process_word& word) noexcept {
    auto number = word.load(std::memory_order_relaxed);
    if (number != 0) return number;
    auto const mine = last_process_number.fetch_add(1, std::memory_order_relaxed) + 1;
    return word.compare_exchange_strong(number, mine, std::memory_order_relaxed) ? mine : number;
}

/// An object that a child did not destroy. It stays reachable, so that a leak checker does not report it.
struct left_behind {
    left_behind* next = nullptr;
};
inline constinit std::atomic<left_behind*> all_left_behind{nullptr};

template <class T>
struct left_behind_as : left_behind {
    explicit left_behind_as(T&& what) noexcept : kept{std::move(what)} {}
    T kept;
};

} // namespace detail

/// Remembers the process that created it. Small; copies mean the same process. Any thread.
class process_mark {
public:
    process_mark() noexcept : word_{detail::the_process_word()}, number_{detail::number_of_process(*word_)} {}

    /// Whether the calling process is the one that created the mark, and not a process forked from it.
    [[nodiscard]] bool is_here() const noexcept { return word_->load(std::memory_order_relaxed) == number_; }

private:
    detail::process_word* word_;
    std::uint64_t number_;
};

/// Owns an object that only the process which created it may destroy: a thread, a mutex that may be locked, an object that closes a file.
/// In a forked child, destructor and assignment do not destroy the object. They move it aside, and the child loses its memory.
template <class T>
class process_bound {
    static_assert(std::is_nothrow_move_constructible_v<T>);

public:
    process_bound() noexcept
        requires std::is_nothrow_default_constructible_v<T>
        : what_{} {}
    /// Owns `what`, for the calling process.
    explicit process_bound(T what) noexcept : what_{std::move(what)} {}
    /// Takes the object of another one, and the process that it belongs to.
    process_bound(process_bound&& other) noexcept : mark_{other.mark_}, what_{std::move(other.what_)} {}
    /// Copies the object, and keeps the process that it belongs to.
    process_bound(process_bound const& other)
        requires std::is_copy_constructible_v<T>
        : mark_{other.mark_}, what_{other.what_} {}
    /// Lets go of its own object as the destructor does, and takes the other one.
    process_bound& operator=(process_bound other) noexcept {
        release();
        mark_ = other.mark_;
        std::construct_at(&what_, std::move(other.what_));
        return *this;
    }
    ~process_bound() { release(); }

    /// Whether this is the process that made the object.
    [[nodiscard]] bool is_here() const noexcept { return mark_.is_here(); }
    /// The object; in a forked child it must not be used.
    [[nodiscard]] T& operator*() noexcept { return what_; }
    /// The object, to be read.
    [[nodiscard]] T const& operator*() const noexcept { return what_; }
    /// If T is a pointer: the object that it points to.
    [[nodiscard]] decltype(auto) operator->() noexcept { return arrow(what_); }
    /// The same, to be read.
    [[nodiscard]] decltype(auto) operator->() const noexcept { return arrow(what_); }

private:
    template <class U>
    [[nodiscard]] static decltype(auto) arrow(U& what) noexcept {
        if constexpr (requires { what.operator->(); }) return (what);
        else return std::addressof(what);
    }
    void release() noexcept {
        if (mark_.is_here()) [[likely]]
            return std::destroy_at(&what_);
        using kept_type = detail::left_behind_as<T>;
        auto* const kept = new (std::nothrow) kept_type{std::move(what_)};
        if (kept == nullptr) return; // no memory: a leak checker reports it
        kept->next = detail::all_left_behind.load(std::memory_order_relaxed);
        while (!detail::all_left_behind.compare_exchange_weak(kept->next, kept, std::memory_order_release)) {}
    }

    process_mark mark_{};
    union {
        T what_;
    };
};

} // namespace keel::inline v0::io

#endif
