// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_HEALTH_HPP
#define KEEL_WAL_HEALTH_HPP

// A store's health, in one place: healthy, degraded, read-only, failed or closed, each with its typed cause and a text for people.
//
// What stops writing is kept with its first cause: what fails afterwards, because writing has stopped, does not replace it. The first
// cause decides whether writing resumes by itself: after a full disk it does, after a failed sync it waits for resume(). Beside it stand
// any number of conditions that leave the store writable, one per cause: damage, a declared loss, a merge that fails.
//
// Thread rules: any thread. m_ guards the texts, for a moment only. state_ is changed with m_ held; release: a thread that reads a state
// (acquire) sees what led to it.

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

/// The cause that an error of the machine is.
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
    /// For people: what stopped writing, then every condition. Empty where the store is healthy.
    [[nodiscard]] std::string reason() const {
        std::lock_guard const hold{m_};
        return text();
    }
    [[nodiscard]] state_cause cause() const noexcept {
        std::lock_guard const hold{m_};
        if (stopped_.what != state_cause::none) return stopped_.what;
        return conditions_.empty() ? state_cause::none : conditions_.front().what;
    }
    /// Writing has stopped for a cause that passes by itself.
    [[nodiscard]] bool heals_itself() const noexcept {
        std::lock_guard const hold{m_};
        return stopped_.what == state_cause::no_space || stopped_.what == state_cause::resources;
    }

    /// Reads only from here on. The first cause is kept. Never throws: where memory is refused the text is short.
    void stop_writing(state_cause what, std::string why) noexcept {
        std::lock_guard const hold{m_};
        if (stopped_.what != state_cause::none) return;
        stopped_ = {what, std::move(why)};
        changed();
    }
    /// The same. `what_failed`: in front of the error's text.
    void stop_writing(char const* what_failed, error const& why) noexcept {
        stop_writing(cause_of(why), short_of([&] { return what_failed + to_string(why); }));
    }
    /// Writing goes on.
    void resume_writing() noexcept {
        std::lock_guard const hold{m_};
        stopped_ = {};
        changed();
    }
    /// Something failed and was survived, or damage was found. Takes the place of an earlier text for the same cause.
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
    /// That is over.
    void end_condition(state_cause what) noexcept {
        std::lock_guard const hold{m_};
        if (std::erase_if(conditions_, [what](condition const& c) { return c.what == what; }) != 0) changed();
    }
    void close() noexcept {
        std::lock_guard const hold{m_};
        closed_ = true;
        changed();
    }

    /// What `make()` returns; where memory is refused, a text that needs none.
    template <class Make>
    [[nodiscard]] static std::string short_of(Make const& make) noexcept {
        try {
            return make();
        } catch (std::bad_alloc const&) {
            return "memory refused"; // fits into the string itself
        }
    }

private:
    struct condition {
        state_cause what = state_cause::none;
        std::string why{};
    };
    static constexpr std::size_t conditions_max = 11; ///< one per cause: adding one allocates nothing

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
    condition stopped_{}; ///< cause none: writing goes on
    std::vector<condition> conditions_{};
    bool closed_ = false;
    std::atomic<engine_state> state_{engine_state::healthy};
};

} // namespace keel::inline v0::wal

#endif
