// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_OBSERVE_EVENT_QUEUE_HPP
#define KEEL_OBSERVE_EVENT_QUEUE_HPP

// Events on their way to the observer. A thread that meets an event puts it here and goes on; deliver() calls the observer later, from a
// thread that holds no lock of the store. So a slow observer never stops a writer.
//
// The queue is bounded. When it is full the oldest ordinary event is dropped and counted. Damage, losses and changes of state are never
// dropped: the same damage is counted instead of repeated, and once there is much of it, damage in one file becomes one event that covers
// all of it.
//
// Thread rules: any number of threads push() and deliver(). m_ guards the queue; it is never held while the observer runs, during I/O, or
// while another lock is taken. delivering_ admits one thread to the observer; a second one returns at once, and the first one delivers
// what the second one had pushed.

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

template <observer_policy Observer>
class event_queue {
public:
    /// Ordinary events that wait at most; and as many damaged places are told one by one.
    static constexpr std::size_t capacity = 1024;

    explicit event_queue(Observer observer) : observer_{std::move(observer)} {}
    event_queue(event_queue const&) = delete;
    event_queue& operator=(event_queue const&) = delete;

    /// Adds the event that `make()` gives; make() is not called where the observer has no function for it. Never throws: an event that
    /// memory is refused for is counted in events_dropped.
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
    template <class Event>
    void push(Event const& what) noexcept {
        push<Event>([&what] { return what; });
    }

    /// Calls the observer for everything that waits. Cheap where nothing does. Not called by two threads at once: the second one returns.
    void deliver() noexcept {
        if constexpr (is_silent) return;
        // Once more after the turn was given back: another thread may have pushed, and found the turn taken.
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
    /// Called with m_ held. Folds the event into one that waits.
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
    std::atomic<bool> waiting_{false}; // release: who sees it finds the event under m_
    std::atomic_flag delivering_{};
};

} // namespace keel::inline v0::observe

#endif
