// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_OBSERVE_EVENT_QUEUE_HPP
#define KEEL_OBSERVE_EVENT_QUEUE_HPP

// The queue of events between a store and its observer. A thread that meets an event adds it here and goes on. deliver() calls the observer
// later, from a thread that holds no lock of the store. So a slow observer never stops a writer.
//
// The queue has a limit. When it is full, the oldest ordinary event is dropped and counted. Damage, losses and changes of state are never
// dropped. Damage that is met again is counted and not repeated. When the queue is full, damage of one kind in one file becomes one
// event.
//
// Thread rules: any number of threads call push() and deliver(). m_ guards the queue. It is never held while the observer runs, during
// I/O, or while another lock is taken. delivering_ admits one thread to the observer. A second thread returns at once, and the first one
// delivers the events that the second one had pushed.

#include <keel/observe/concept.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>
#include <variant>

namespace keel::inline v0::observe {

/// The queue of events of one store. Any number of threads.
template <observer_policy Observer>
class event_queue {
public:
    /// The largest number of ordinary events in the queue. With so many events waiting, damage of one kind in one
    /// file is combined into one event.
    static constexpr std::size_t capacity = 1024;

    /// An empty queue that delivers to this observer.
    explicit event_queue(Observer observer) : observer_{std::move(observer)} {}
    event_queue(event_queue const&) = delete;
    event_queue& operator=(event_queue const&) = delete;

    /// Adds the event that `make()` returns. If the observer has no function for it, make() is not called. Never throws: an event for which
    /// memory is refused is counted in events_dropped.
    template <class Event, class Make>
    void push(Make const& make) noexcept {
        static_assert(!std::is_same_v<Event, event>,
                      "push the event itself: an observer may care about this kind only");
        if constexpr (observes<Observer, Event>) {
            try {
                add(make());
            } catch (std::bad_alloc const&) {
                std::lock_guard const hold{m_};
                ++dropped_;
                waiting_.store(true, std::memory_order_release);
            }
        }
    }
    /// Adds a copy of the event.
    template <class Event>
    void push(Event const& what) noexcept {
        push<Event>([&what] { return what; });
    }

    /// Delivers all waiting events. Cheap if there are none. While one thread delivers, a call on another thread returns at once.
    void deliver() noexcept {
        if constexpr (is_silent) return;
        // Repeated after delivering_ was cleared: another thread may have pushed an event and then found delivering_ set.
        while (waiting_.load(std::memory_order_acquire) && !delivering_.test_and_set(std::memory_order_acquire)) {
            deliver_all();
            delivering_.clear(std::memory_order_release);
        }
    }

private:
    static constexpr bool is_silent = std::is_same_v<Observer, none>;

    void add(event what) {
        std::lock_guard const hold{m_};
        if (is_repeated(what)) return;
        if (queue_.size() >= capacity) make_room();
        queue_.push_back(std::move(what));
        waiting_.store(true, std::memory_order_release);
    }
    /// Combines the event with a waiting one, if possible. Called with m_ held.
    [[nodiscard]] bool is_repeated(event const& what) {
        if (auto const* const damage = std::get_if<damage_found>(&what)) return fold(*damage);
        if (auto const* const change = std::get_if<state_changed>(&what)) {
            for (auto at = queue_.rbegin(); at != queue_.rend(); ++at)
                if (auto const* const last = std::get_if<state_changed>(&*at))
                    return last->state == change->state && last->reason == change->reason;
        }
        return false;
    }
    [[nodiscard]] bool fold(damage_found const& more) {
        bool const many = queue_.size() >= capacity;
        for (auto& waiting : queue_) {
            auto* const known = std::get_if<damage_found>(&waiting);
            if (known == nullptr || known->what.kind != more.what.kind || known->what.file != more.what.file) continue;
            bool const same = known->what.offset == more.what.offset && known->what.lsns == more.what.lsns;
            if (!same && !many) continue;
            known->times += more.times;
            if (!same) widen(known->what, more.what);
            return true;
        }
        return false;
    }
    static void widen(finding& to, finding const& more) noexcept {
        auto const end = std::max(to.offset + to.length, more.offset + more.length);
        to.offset = std::min(to.offset, more.offset);
        to.length = end - to.offset;
        to.lost += more.lost;
        if (more.lsns.empty()) return;
        to.lsns = to.lsns.empty()
                      ? more.lsns
                      : lsn_range{std::min(to.lsns.first, more.lsns.first), std::max(to.lsns.last, more.lsns.last)};
    }
    void make_room() noexcept {
        auto const may_go = [](event const& e) {
            return !std::holds_alternative<damage_found>(e) && !std::holds_alternative<records_lost>(e) &&
                   !std::holds_alternative<state_changed>(e);
        };
        auto const oldest = std::ranges::find_if(queue_, may_go);
        if (oldest == queue_.end()) return;
        queue_.erase(oldest);
        ++dropped_;
    }
    void deliver_all() noexcept {
        for (;;) {
            std::list<event> now;
            std::uint64_t dropped = 0;
            {
                std::lock_guard const hold{m_};
                now.swap(queue_);
                dropped = std::exchange(dropped_, 0);
                waiting_.store(false, std::memory_order_relaxed);
            }
            if (now.empty() && dropped == 0) return;
            for (auto const& e : now) tell(e);
            if (dropped != 0) tell(events_dropped{dropped});
        }
    }
    void tell(event const& what) noexcept {
        if constexpr (observes<Observer, event>) {
            observer_.on(what);
        } else {
            std::visit([&](auto const& one) { tell_one(one); }, what);
        }
    }
    template <class One>
    void tell_one(One const& one) noexcept {
        if constexpr (observes<Observer, One>) observer_.on(one);
    }

    Observer observer_;
    std::mutex m_;
    std::list<event> queue_{};
    std::uint64_t dropped_ = 0;
    std::atomic<bool> waiting_{false}; // release: a thread that sees it set finds the event under m_
    std::atomic_flag delivering_{};
};

} // namespace keel::inline v0::observe

#endif
