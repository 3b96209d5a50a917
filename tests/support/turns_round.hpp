// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_TURNS_ROUND_HPP
#define KEEL_TESTS_SUPPORT_TURNS_ROUND_HPP

// One run of threads that take turns (turns.hpp): who they are, what each waits for, who goes on, and what is told where nobody can.
// Knows nothing of how a wait is noticed; that is in turns.cpp. Touched only by the thread whose turn it is: a semaphore hands it over.

#include "turns.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <pthread.h>
#include <semaphore.h>
#include <string>
#include <utility>
#include <vector>

namespace keel::test::turns {

enum class waiting_for : std::uint8_t { nothing, mutex, condition, end_of_thread, word, time };

constexpr char const* name_of(waiting_for what) noexcept {
    constexpr char const* names[] = {
        "nothing", "a mutex", "a condition variable", "the end of a thread", "an atomic word or a static local",
        "a time"};
    return names[static_cast<std::size_t>(what)];
}

class round;

/// One thread of a run.
struct member {
    enum class state : std::uint8_t { ready, waits, ended };

    round* of = nullptr;
    std::uint32_t number = 0;
    std::string name{};
    sem_t turn{};
    state now = state::ready;
    waiting_for what = waiting_for::nothing;
    void const* where = nullptr; ///< the mutex, the condition variable, the member, the word
    bool has_deadline = false;
    bool timed_out = false;
    std::chrono::nanoseconds deadline{};
    std::uint64_t ticket = 0; ///< who began to wait first is woken first
    char const* doing = "";
    io::switch_point last_call{};
    std::string last_path{};
    bool tells = false; ///< after a deadlock: where it stands
    pthread_t handle{};
    void* (*body)(void*) = nullptr; ///< of a thread that the run's threads started
    void* argument = nullptr;
};

/// All of one run. Only the thread whose turn it is touches it; a semaphore hands it over.
class round {
public:
    static constexpr std::uint64_t places_most = 200'000;
    static constexpr std::uint64_t waits_most = 20'000;

    round(io::schedule order, std::function<void(step const&)> before_call)
        : order_{std::move(order)}, before_call_{std::move(before_call)} {
        sem_init(&over_, 0, 0);
        sem_init(&told_, 0, 0);
        members_.reserve(threads_max);
    }
    round(round const&) = delete;
    round& operator=(round const&) = delete;
    ~round() {
        for (auto const& m : members_) sem_destroy(&m->turn);
        sem_destroy(&over_);
        sem_destroy(&told_);
    }

    member& add(std::string name) {
        if (members_.size() == threads_max) stop("more threads than a run may have");
        auto& m = *members_.emplace_back(std::make_unique<member>());
        m.of = this;
        m.number = static_cast<std::uint32_t>(members_.size() - 1);
        m.name = std::move(name);
        sem_init(&m.turn, 0, 0);
        return m;
    }

    [[nodiscard]] member& at(std::size_t number) noexcept { return *members_[number]; }

    /// From the thread that began the run: until all have ended, or nobody can go on.
    outcome wait_for_end() {
        auto const first = order_.switches.empty() || order_.switches.front().at != 0 ? 0 : order_.switches.front().to;
        next_switch_ = !order_.switches.empty() && order_.switches.front().at == 0 ? 1 : 0;
        give_turn(*members_[std::min<std::size_t>(first, members_.size() - 1)]);
        timespec until{};
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 300;
        while (sem_timedwait(&over_, &until) != 0)
            if (errno == ETIMEDOUT) stop("a thread runs on and on without a call or a wait");
        return std::move(out_);
    }
    [[nodiscard]] io::schedule const& order() const noexcept { return order_; }

    // ---- by the thread whose turn it is -------------------------------------------------------------------------------------

    void reached(member& me, io::switch_point const& point) {
        me.last_call = point;
        me.last_path = point.path;
        auto const number = pass(me);
        ++out_.calls;
        if (before_call_) before_call_({.number = number, .made = out_.calls, .thread = me.number, .what = point});
    }

    /// A place where another thread may go on, if the schedule says so; its number.
    std::uint64_t pass(member& me) {
        auto const number = out_.places.size() + 1;
        if (number > places_most) give_up(me, ending::endless);
        out_.places.push_back(me.number);
        if (next_switch_ < order_.switches.size() && order_.switches[next_switch_].at == number)
            switch_to(me, order_.switches[next_switch_++].to);
        return number;
    }

    /// The calling thread goes on once somebody made it ready. False: its time was up.
    bool wait(member& me, waiting_for what, void const* where, std::optional<std::chrono::nanoseconds> until = {}) {
        if (++out_.waits > waits_most) give_up(me, ending::endless);
        me.now = member::state::waits;
        me.what = what;
        me.where = where;
        me.ticket = ++tickets_;
        me.has_deadline = until.has_value();
        if (until) me.deadline = *until;
        me.timed_out = false;
        hand_over(me);
        me.what = waiting_for::nothing;
        return !me.timed_out;
    }
    /// Whoever waits there can go on: at most so many, first come, first served.
    std::size_t wake(waiting_for what, void const* where, std::size_t most) noexcept {
        std::size_t woken = 0;
        for (; woken < most; ++woken) {
            member* first = nullptr;
            for (auto const& m : members_)
                if (m->now == member::state::waits && m->what == what && m->where == where &&
                    (first == nullptr || m->ticket < first->ticket))
                    first = m.get();
            if (first == nullptr) break;
            first->now = member::state::ready;
        }
        return woken;
    }

    void end(member& me) {
        me.now = member::state::ended;
        static_cast<void>(wake(waiting_for::end_of_thread, &me, threads_max));
        if (auto* const next = who_is_next(me)) return give_turn(*next);
        for (auto const& m : members_)
            if (m->now != member::state::ended) return give_up(me, ending::deadlock);
        sem_post(&over_);
    }
    void begin(member& me) { wait_for_turn(me); }
    /// The thread could not be started.
    void take_back(member& last) noexcept {
        sem_destroy(&last.turn);
        members_.pop_back();
    }

    void owns(void const* mutex, member const& me) { owners_.push_back({mutex, &me}); }
    void gives(void const* mutex) noexcept {
        for (auto at = owners_.end(); at != owners_.begin();)
            if ((--at)->mutex == mutex) {
                owners_.erase(at);
                return;
            }
    }
    /// The newest of that handle: one that was joined may be used again.
    [[nodiscard]] member* find(pthread_t thread) noexcept {
        for (auto at = members_.rbegin(); at != members_.rend(); ++at)
            if ((*at)->body != nullptr && pthread_equal((*at)->handle, thread) != 0) return at->get();
        return nullptr;
    }
    [[nodiscard]] std::chrono::nanoseconds time() const noexcept { return time_; }
    /// Each look at a clock takes a little.
    std::chrono::nanoseconds look_at_clock() noexcept { return time_ += std::chrono::nanoseconds{100}; }

private:
    struct ownership {
        void const* mutex;
        member const* owner;
    };

    static void wait_for_turn(member& me) noexcept {
        for (;;) {
            while (sem_wait(&me.turn) != 0) {}
            if (!me.tells) return;
            me.tells = false;
            me.of->tell_place(me);
            sem_post(&me.of->told_);
        }
    }
    static void give_turn(member& to) noexcept { sem_post(&to.turn); }

    void switch_to(member& me, std::uint32_t to) {
        auto* const next = to < members_.size() ? members_[to].get() : nullptr;
        bool const can = next != nullptr && next != &me && (next->now == member::state::ready || waits_for_time(*next));
        if (!can) {
            ++out_.unused;
            return;
        }
        if (next->now == member::state::waits) time_is_up(*next);
        give_turn(*next);
        wait_for_turn(me);
    }
    void hand_over(member& me) {
        auto* const next = who_is_next(me);
        if (next == nullptr) give_up(me, ending::deadlock);
        if (next == &me) return;
        give_turn(*next);
        wait_for_turn(me);
    }
    /// One that can run; else the one whose time is up first; nothing where there is no such.
    [[nodiscard]] member* who_is_next(member const& me) noexcept {
        auto const count = members_.size();
        for (std::size_t i = 1; i <= count; ++i) {
            auto const step = order_.after_wait == io::successor::upwards ? i : count - i;
            auto& m = *members_[(me.number + step) % count];
            if (m.now == member::state::ready) return &m;
        }
        member* first = nullptr;
        for (auto const& m : members_)
            if (waits_for_time(*m) && (first == nullptr || m->deadline < first->deadline)) first = m.get();
        if (first != nullptr) time_is_up(*first);
        return first;
    }
    [[nodiscard]] static bool waits_for_time(member const& m) noexcept {
        return m.now == member::state::waits && m.has_deadline;
    }
    void time_is_up(member& m) noexcept {
        time_ = std::max(time_, m.deadline);
        m.timed_out = true;
        m.now = member::state::ready;
    }

    /// Never returns but for a thread that has ended: everybody stays where he is.
    void give_up(member& me, ending how) {
        out_.how = how;
        out_.report = how == ending::deadlock ? "nobody can go on:" : "no end in sight:";
        for (auto const& m : members_) {
            out_.report += "\n  thread " + std::to_string(m->number) + " (" + m->name + "), " + m->doing + ", " +
                           place_of(*m);
            if (m->now == member::state::ended) continue;
            if (m.get() == &me) {
                tell_place(me);
                continue;
            }
            m->tells = true;
            sem_post(&m->turn);
            while (sem_wait(&told_) != 0) {}
        }
        bool const ended = me.now == member::state::ended;
        sem_post(&over_);
        while (!ended) wait_for_turn(me);
    }
    [[nodiscard]] std::string place_of(member const& m) const {
        if (m.now == member::state::ended) return "has ended";
        auto text = m.now == member::state::ready ? std::string{"could run"}
                                                  : std::string{"waits for "} + name_of(m.what);
        for (auto const& o : owners_)
            if (m.what == waiting_for::mutex && o.mutex == m.where)
                text += " of thread " + std::to_string(o.owner->number);
        if (!m.last_path.empty())
            text += "; its last call: " + std::string{io::name_of(m.last_call.call)} + " " + m.last_path;
        return text;
    }
    void tell_place(member&) { out_.report += "\n    " + place_in_program(); }
    [[noreturn]] void stop(char const* why) {
        std::fprintf(stderr, "turns: %s; schedule %s\n", why, to_string(order_).c_str());
        for (auto const& m : members_)
            std::fprintf(stderr, "  thread %u (%s), %s, %s\n", m->number, m->name.c_str(), m->doing,
                         place_of(*m).c_str());
        std::abort();
    }

    io::schedule order_;
    std::function<void(step const&)> before_call_;
    std::vector<std::unique_ptr<member>> members_{};
    std::vector<ownership> owners_{};
    std::size_t next_switch_ = 0;
    std::uint64_t tickets_ = 0;
    std::chrono::nanoseconds time_{};
    outcome out_{};
    sem_t over_{}; ///< all have ended, or nobody can
    sem_t told_{};
};

} // namespace keel::test::turns

#endif
