// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_HEALTH_HPP
#define KEEL_WAL_HEALTH_HPP

// The health of a store, in one place: healthy, degraded, read-only or closed. It has a typed cause and a text for people.
//
// When writing stops, the first cause is kept. Later failures that follow from it do not replace it. The first cause decides whether
// writing resumes by itself. After a full disk it does; after a failed sync it needs resume(). In addition there are conditions that leave
// the store writable, one per cause: damage, a declared loss, a failing compaction.
//
// Thread rules: any thread may call. m_ protects the texts and is held for a moment only. state_ changes while m_ is held, with release
// order: a thread that reads a state (acquire) sees the changes that led to it.

#include <keel/error.hpp>
#include <keel/observe/concept.hpp>
#include <keel/state.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// The state cause for an error of the machine.
[[nodiscard]] inline state_cause cause_of(error const& why) noexcept {
    switch (why.code) {
    case errc::no_space: return state_cause::no_space;
    case errc::locked: return state_cause::identity;
    case errc::out_of_memory: return state_cause::resources;
    default: return why.retryable ? state_cause::resources : state_cause::device;
    }
}

template <class Events>
class health {
public:
    explicit health(Events& events) : events_{events} { conditions_.reserve(conditions_max); }
    health(health const&) = delete;
    health& operator=(health const&) = delete;

    [[nodiscard]] engine_state state() const noexcept { return state_.load(std::memory_order_acquire); }
    [[nodiscard]] bool is_writable() const noexcept {
        auto const now = state();
        return now == engine_state::healthy || now == engine_state::degraded;
    }
    [[nodiscard]] bool is_closed() const noexcept { return state() == engine_state::closed; }
    /// A text for people: why writing stopped, then every condition. Empty if the store is healthy.
    [[nodiscard]] std::string reason() const {
        std::lock_guard const hold{m_};
        return text();
    }
    [[nodiscard]] state_cause cause() const noexcept {
        std::lock_guard const hold{m_};
        if (stopped_.what != state_cause::none) return stopped_.what;
        return conditions_.empty() ? state_cause::none : conditions_.front().what;
    }
    /// Writing has stopped for a cause that can pass by itself: no space, or no resources.
    [[nodiscard]] bool heals_itself() const noexcept {
        std::lock_guard const hold{m_};
        return stopped_.what == state_cause::no_space || stopped_.what == state_cause::resources;
    }

    /// Makes the store read-only. The first cause is kept. Never throws. If memory is refused, the text is short.
    void stop_writing(state_cause what, std::string why) noexcept {
        std::lock_guard const hold{m_};
        if (stopped_.what != state_cause::none) return;
        stopped_ = {what, std::move(why)};
        changed();
    }
    /// The same. `what_failed`: the text in front of the error's text.
    void stop_writing(char const* what_failed, error const& why) noexcept {
        stop_writing(cause_of(why), short_of([&] { return what_failed + to_string(why); }));
    }
    /// Makes the store writable again.
    void resume_writing() noexcept {
        std::lock_guard const hold{m_};
        stopped_ = {};
        changed();
    }
    /// Adds a condition: a failure that was survived, or damage that was found. It replaces an earlier text for the same cause.
    void add_condition(state_cause what, std::string why) noexcept {
        std::lock_guard const hold{m_};
        auto const known = std::ranges::find(conditions_, what, &condition::what);
        if (known != conditions_.end()) {
            if (known->why == why) return;
            known->why = std::move(why);
        } else if (conditions_.size() < conditions_max) {
            conditions_.push_back({what, std::move(why)});
        }
        changed();
    }
    /// Removes the condition with this cause.
    void end_condition(state_cause what) noexcept {
        std::lock_guard const hold{m_};
        if (std::erase_if(conditions_, [what](condition const& c) { return c.what == what; }) != 0) changed();
    }
    void close() noexcept {
        std::lock_guard const hold{m_};
        closed_ = true;
        changed();
    }

    /// Returns `make()`. If memory is refused, returns a text that needs no memory.
    template <class Make>
    [[nodiscard]] static std::string short_of(Make const& make) noexcept {
        try {
            return make();
        } catch (std::bad_alloc const&) {
            return "memory refused"; // short enough to need no allocation
        }
    }

private:
    struct condition {
        state_cause what = state_cause::none;
        std::string why{};
    };
    static constexpr std::size_t conditions_max = 11; ///< one per cause, so that adding one allocates nothing

    [[nodiscard]] std::string text() const {
        std::string all = stopped_.why;
        for (auto const& c : conditions_) {
            if (!all.empty()) all += "; ";
            all += c.why;
        }
        return all;
    }
    /// Called with m_ held.
    void changed() noexcept {
        auto now = engine_state::healthy;
        if (closed_) now = engine_state::closed;
        else if (stopped_.what != state_cause::none) now = engine_state::read_only;
        else if (!conditions_.empty()) now = engine_state::degraded;
        state_.store(now, std::memory_order_release);
        events_.template push<observe::state_changed>([&] { return observe::state_changed{name_of(now), text()}; });
    }

    Events& events_;
    mutable std::mutex m_;
    condition stopped_{}; ///< cause none: writing has not stopped
    std::vector<condition> conditions_{};
    bool closed_ = false;
    std::atomic<engine_state> state_{engine_state::healthy};
};

} // namespace keel::inline v0::wal

#endif
