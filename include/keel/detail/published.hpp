// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_PUBLISHED_HPP
#define KEEL_DETAIL_PUBLISHED_HPP

// One immutable value that many threads read and one thread replaces now and then. A reader gets a shared pointer to the value and keeps it
// unchanged while it holds the pointer. Every slot has a reference count of its own, so that readers on several cores do not contend for
// one.
//
// Thread rules: any number of threads call get(). One thread at a time calls set(). A slot's mutex is held only while a pointer is copied.

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace keel::inline v0::detail {

template <class T>
class published {
public:
    explicit published(std::shared_ptr<T const> first) { set(std::move(first)); }

    [[nodiscard]] std::shared_ptr<T const> get() const {
        auto const& s = slots_[slot_of_thread()];
        std::lock_guard const hold{s.m};
        return s.value;
    }
    /// Replaces the value. If it throws std::bad_alloc, every reader still gets the old value.
    void set(std::shared_ptr<T const> const& next) {
        std::array<std::shared_ptr<T const>, slots> fresh;
        for (auto& f : fresh) {
            // Each slot has a count of its own. The shared count of `next` is touched only here.
            auto own = std::make_shared<std::shared_ptr<T const>>(next);
            f = {own, next.get()};
        }
        for (std::size_t i = 0; i < slots; ++i) {
            std::lock_guard const hold{slots_[i].m};
            slots_[i].value.swap(fresh[i]);
        }
    }

private:
    static constexpr std::size_t slots = 8;
    struct alignas(64) slot {
        mutable std::mutex m;
        std::shared_ptr<T const> value{};
    };
    [[nodiscard]] static std::size_t slot_of_thread() noexcept {
        static thread_local std::size_t const mine = std::hash<std::thread::id>{}(std::this_thread::get_id()) % slots;
        return mine;
    }
    std::array<slot, slots> slots_{};
};

} // namespace keel::inline v0::detail

#endif
