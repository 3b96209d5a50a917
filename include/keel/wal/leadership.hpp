// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_LEADERSHIP_HPP
#define KEEL_WAL_LEADERSHIP_HPP

// The right to change the log: to write a group, sync, roll over, fail over, or exchange the active segment. One thread has it at a time.
// The right is an object. A thread takes it and passes it as an argument to each function that makes such a change. The destructor gives it
// back, also after an exception. A function that needs the right takes a `leadership::holder&`, so it cannot be called without it.
//
// Thread rules: every call needs the writer's mutex. The holder may release that mutex for I/O (without_mutex). Meanwhile other threads may
// encode records, read counters and wait, but they do not change the data that the holder works on.

#include <keel/detail/assert.hpp>

#include <condition_variable>
#include <mutex>
#include <utility>

namespace keel::inline v0::wal {

class leadership {
public:
    using lock_type = std::unique_lock<std::mutex>;

    class holder {
    public:
        holder(holder&& other) noexcept : of_{std::exchange(other.of_, nullptr)}, hold_{other.hold_} {}
        holder& operator=(holder&&) = delete;
        ~holder() {
            if (of_ == nullptr) return;
            KEEL_ASSERT(hold_->owns_lock());
            of_->taken_ = false;
            of_->changed_.notify_all();
        }

        /// Runs `work()` without the writer's mutex. Takes the mutex again before it returns or throws.
        template <class Work>
        decltype(auto) without_mutex(Work&& work) {
            struct relock {
                lock_type& hold;
                ~relock() { hold.lock(); }
            };
            hold_->unlock();
            relock const after{*hold_};
            return std::forward<Work>(work)();
        }
        /// The writer's mutex, which is held. For waits that only the holder makes.
        [[nodiscard]] lock_type& lock() noexcept { return *hold_; }

    private:
        friend leadership;
        holder(leadership& of, lock_type& hold) noexcept : of_{&of}, hold_{&hold} { of.taken_ = true; }
        leadership* of_;
        lock_type* hold_;
    };

    leadership() = default;
    leadership(leadership const&) = delete;
    leadership& operator=(leadership const&) = delete;

    [[nodiscard]] bool is_taken() const noexcept { return taken_; }
    /// Waits until the leadership is free, and takes it. `hold`: the writer's mutex; it must outlive the holder.
    [[nodiscard]] holder take(lock_type& hold) {
        changed_.wait(hold, [this] { return !taken_; });
        return {*this, hold};
    }
    /// Waits until the leadership is given back, or until wake_all(). May return early, so the caller checks its condition in a loop.
    void wait(lock_type& hold) { changed_.wait(hold); }
    void wake_all() noexcept { changed_.notify_all(); }

private:
    bool taken_ = false;
    std::condition_variable changed_;
};

} // namespace keel::inline v0::wal

#endif
