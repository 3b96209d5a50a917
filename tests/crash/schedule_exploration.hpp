// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_SCHEDULE_EXPLORATION_HPP
#define KEEL_TESTS_CRASH_SCHEDULE_EXPLORATION_HPP

// Which runs of a program are made. What is wrong is counted by kind, with the first run of each; in memory that child processes share, where
// runs are made that may end the process.

#include "../support/forked.hpp"
#include "../support/slow_build.hpp"
#include "schedule_run.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace schedules {

/// What the runs of one program were like. Of plain bytes: it is shared with children.
struct findings {
    struct kind {
        std::uint64_t times;
        char name[160];
        char run[200];      ///< the first one
        char trouble[1800]; ///< and what was wrong
    };
    std::array<kind, 24> kinds{};
    std::size_t count = 0;
    std::uint64_t runs = 0;
    std::uint64_t states = 0;
    std::uint64_t fired = 0;
    std::uint64_t at = 0; ///< which run a child is in

    void add(std::string const& run, std::string const& trouble) {
        auto const name = kind_of(trouble);
        std::size_t i = 0;
        while (i < count && name != kinds[i].name) ++i;
        if (i == kinds.size()) return;
        if (i == count) {
            ++count;
            std::snprintf(kinds[i].name, sizeof kinds[i].name, "%s", name.c_str());
            std::snprintf(kinds[i].run, sizeof kinds[i].run, "%s", run.c_str());
            std::snprintf(kinds[i].trouble, sizeof kinds[i].trouble, "%s", trouble.c_str());
        }
        ++kinds[i].times;
    }

private:
    /// Without numbers: alike troubles are counted together.
    [[nodiscard]] static std::string kind_of(std::string text) {
        std::erase_if(text, [](char c) { return c >= '0' && c <= '9'; });
        return text.substr(0, std::min(text.find('\n'), sizeof kind::name - 1));
    }
};

class random_numbers {
public:
    explicit random_numbers(std::uint64_t seed) : state_{seed * 0x9E3779B97F4A7C15ULL + 1} {}
    std::uint64_t below(std::uint64_t limit) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return limit == 0 ? 0 : (state_ >> 11) % limit;
    }

private:
    std::uint64_t state_;
};

/// What is tried at a call: what goes wrong, and for how many calls.
inline std::vector<std::pair<trouble, std::uint64_t>> troubles_for(keel::io::io_call call) {
    using enum trouble;
    using c = keel::io::io_call;
    switch (call) {
    case c::unlock:
    case c::boot: return {};
    case c::sync:
    case c::mapping_sync: return {{fail_sync, 1}, {fail, 20}};
    case c::write:
    case c::store: return {{fail, 1}, {short_write, 1}, {no_space, 1}, {no_space, 60}};
    case c::publish:
    case c::allocate:
    case c::open:
    case c::rename:
    case c::make_directory: return {{fail, 1}, {no_space, 1}};
    default: return {{fail, 1}};
    }
}

/// All runs of one program under one policy.
template <class Store, class Plain>
class exploration {
public:
    exploration(program const& what, std::string_view policy)
        : what_{what}, policy_{policy}, threads_seen_{static_cast<std::uint32_t>(what.threads.size())} {
        ticks = 0;
        run_of<Store, Plain> first{what_, disk_type{}, {}, {}, {.crashes = false}, 0};
        prepared_.emplace(first.prepare());
        ticks_ = ticks;
        REQUIRE_MESSAGE(first.trouble().empty(), what_.name << ": " << first.trouble());
    }

    /// Schedules with up to two switches without troubles; one switch with a trouble at each call; a sample of both kinds with two troubles.
    /// Where there are more than about `most` of a kind, a part of them. Of the schedules with one switch, one in `one_in` is tried.
    void run_all(std::uint64_t most, std::uint64_t sample, std::uint64_t one_in = 1) {
        one_in_ = one_in;
        for (std::uint32_t first = 0; first < what_.threads.size(); ++first)
            begin_with(first, most / what_.threads.size());
        std::uint64_t all = 0;
        for (auto const& one : distinct_) all += 2 * one.result.calls.size();
        std::uint64_t n = 0;
        for (auto const& one : distinct_) with_troubles(one, 1 + all / most, n);
        for (std::uint64_t i = 0; i < sample && !distinct_.empty(); ++i) two_troubles(random_numbers{i + 1});
    }
    /// Up to three switches and three troubles.
    void run_random(std::uint64_t seed) {
        random_numbers random{seed};
        keel::io::schedule order{.after_wait = random.below(2) == 0 ? keel::io::successor::upwards
                                                                    : keel::io::successor::downwards};
        if (random.below(2) == 0)
            order.switches.push_back({0, static_cast<std::uint32_t>(random.below(threads_seen_))});
        std::uint64_t at = 0;
        for (auto i = random.below(4); i > 0; --i) {
            at += 1 + random.below(calls_seen_ / 2 + 2);
            order.switches.push_back({at, static_cast<std::uint32_t>(random.below(threads_seen_))});
        }
        auto last = make(order, {}, true);
        std::vector<planned_trouble> troubles;
        for (auto i = random.below(4); i > 0 && last; --i) {
            auto const next = trouble_at(*last, random, troubles.empty() ? 0 : troubles.back().at);
            if (!next) return;
            troubles.push_back(*next);
            last = make(order, troubles, true);
        }
    }
    /// Each allocation, or each start of a thread, is refused in turn: it alone, and with all that follow. In a child process: what throws
    /// where nobody catches ends it. `with_switches`: under each schedule with one switch, too.
    void refuse_each(trouble what, std::uint64_t step, bool with_switches = true) {
        auto const base = make({}, {}, true);
        if (!base) return;
        refuse_each_under({}, what, what == trouble::no_memory ? base->allocations : threads_most, step);
        if (!with_switches || what_.threads.size() < 2 || what_.background) return;
        begin_with(0, 1);
        for (auto const& one : distinct_)
            if (!one.order.switches.empty()) refuse_each_under(one.order, what, one.result.allocations, step);
    }
    void replay(run_name const& name) {
        run_of<Store, Plain> one{what_, prepared_->first, prepared_->second, name, {.tells = true}, ticks_};
        auto const out = one.run();
        CHECK_MESSAGE(out.trouble.empty(), to_string(name) << ": " << out.trouble);
    }

    [[nodiscard]] findings const& found() const { return *found_; }
    [[nodiscard]] std::uint64_t calls() const { return calls_; }
    [[nodiscard]] std::uint64_t distinct() const { return seen_.size(); }

private:
    static constexpr std::uint64_t threads_most = 6; ///< that a run's threads start
    static constexpr int deaths_most = 40;

    void refuse_each_under(keel::io::schedule const& order, trouble what, std::uint64_t all, std::uint64_t step) {
        for (auto const count : {std::uint64_t{1}, keel::io::forever}) {
            found_->at = 0;
            for (int deaths = 0; found_->at < all && deaths < deaths_most; ++deaths) {
                auto const how = keel::test::ending_of_child([&] {
                    for (auto n = found_->at + step; n <= all; n += step) {
                        found_->at = n;
                        ::alarm(keel::test::sanitized ? 200 : 20);
                        static_cast<void>(make(order, {{what, n, count}}, true));
                    }
                    found_->at = all;
                });
                if (how.empty()) break;
                found_->add(to_string(named(order, {{what, found_->at, count}})), "ends the process: " + how);
            }
        }
    }

    struct made_run {
        keel::io::schedule order{};
        run_result result{};
    };

    [[nodiscard]] run_name named(keel::io::schedule order, std::vector<planned_trouble> troubles) const {
        troubles.insert(troubles.begin(), what_.troubles.begin(), what_.troubles.end());
        return {.program = std::string{what_.name},
                .policy = std::string{policy_},
                .order = std::move(order),
                .troubles = std::move(troubles)};
    }
    /// `looks`: also at what crashes leave. Nothing where something was wrong.
    std::optional<run_result> make(keel::io::schedule order, std::vector<planned_trouble> troubles, bool looks) {
        auto const name = named(std::move(order), std::move(troubles));
        if (hung_ == hung_most) return std::nullopt;
        auto out = run_once(name, looks);
        ++found_->runs;
        found_->states += out.states;
        found_->fired += out.fired;
        calls_seen_ = std::max<std::uint64_t>(calls_seen_, out.calls.size());
        threads_seen_ = std::max(threads_seen_, threads_of(out));
        if (out.trouble.empty()) return out;
        hung_ += out.hung;
        found_->add(to_string(name), out.trouble);
        if (!out.hung && run_once(name, looks).trouble != out.trouble)
            found_->add(to_string(name), "the same run made again gives something else than: " + out.trouble);
        return std::nullopt;
    }
    [[nodiscard]] run_result run_once(run_name const& name, bool looks) const {
        return run_of<Store, Plain>{what_, prepared_->first, prepared_->second, name, {.crashes = looks}, ticks_}.run();
    }
    [[nodiscard]] std::uint32_t threads_of(run_result const& run) const {
        auto threads = static_cast<std::uint32_t>(what_.threads.size());
        for (auto const t : run.places) threads = std::max(threads, t + 1);
        return threads;
    }

    void begin_with(std::uint32_t first, std::uint64_t most) {
        keel::io::schedule none{};
        if (first != 0) none.switches.push_back({0, first});
        auto base = make(none, {}, true);
        if (!base) return;
        if (run_once(named(none, {}), true).fingerprint != base->fingerprint)
            return found_->add(to_string(named(none, {})), "runs differ that should be alike");
        calls_ = std::max<std::uint64_t>(calls_, base->calls.size());
        keep_if_new(none, base, distinct_);
        auto const others = threads_of(*base) - 1;
        auto const step = 1 + base->places.size() * base->places.size() * others * others / 2 / most;
        std::uint64_t n = 0;
        for_each_switch(*base, 0, none, [&](keel::io::schedule const& one) {
            if (++switched_ % one_in_ != 0) return;
            auto const run = make(one, {}, false);
            if (!run || run->unused_switch) return;
            keep_if_new(one, run, distinct_); // before those that differ from it in nothing
            for_each_switch(*run, one.switches.back().at, one, [&](keel::io::schedule const& two) {
                if (++n % step == 0) keep_if_new(two, make(two, {}, false), twice_);
            });
        });
    }
    /// Crashes are looked at once for all runs that are alike.
    void keep_if_new(keel::io::schedule const& order, std::optional<run_result> run, std::vector<made_run>& to) {
        if (!run || !seen_.insert(run->fingerprint).second) return;
        static_cast<void>(make(order, {}, true));
        to.push_back({order, std::move(*run)});
    }
    /// One more switch at each place behind `from`, to each thread but the one that came there.
    template <class Visit>
    void for_each_switch(run_result const& base, std::uint64_t from, keel::io::schedule const& order,
                         Visit const& visit) {
        auto const threads = threads_of(base);
        for (auto at = from + 1; at <= base.places.size(); ++at)
            for (std::uint32_t t = 0; t < threads; ++t) {
                if (t == base.places[at - 1]) continue;
                auto next = order;
                next.switches.push_back({at, t});
                visit(next);
            }
    }

    void with_troubles(made_run const& base, std::uint64_t step, std::uint64_t& n) {
        for (std::size_t i = 0; i < base.result.calls.size(); ++i)
            for (auto const& [what, count] : troubles_for(base.result.calls[i].what))
                if (++n % step == 0) static_cast<void>(make(base.order, {{what, i + 1, count}}, true));
    }
    /// A schedule that differs, a trouble that hits, and a second one behind it.
    void two_troubles(random_numbers random) {
        auto const& from = !twice_.empty() && random.below(2) == 0 ? twice_ : distinct_;
        auto const& base = from[random.below(from.size())];
        auto const first = trouble_at(base.result, random, 0);
        if (!first) return;
        auto const once = make(base.order, {*first}, false);
        if (!once) return;
        auto const second = trouble_at(*once, random, first->at);
        if (second) static_cast<void>(make(base.order, {*first, *second}, true));
    }
    /// One that fits a call behind `from`.
    static std::optional<planned_trouble> trouble_at(run_result const& run, random_numbers& random,
                                                     std::uint64_t from) {
        if (run.calls.size() <= from) return std::nullopt;
        auto at = from + random.below(run.calls.size() - from);
        if (random.below(2) == 0) // more of what is done to the log than its share
            while (at + 1 < run.calls.size() && !run.calls[at].of_segment) ++at;
        auto const fitting = troubles_for(run.calls[at].what);
        if (fitting.empty()) return std::nullopt;
        auto const& [what, count] = fitting[random.below(fitting.size())];
        return planned_trouble{what, at + 1, count};
    }

    /// Threads and memory of a run that hangs are lost.
    static constexpr int hung_most = 50;

    program const& what_;
    std::string_view policy_;
    int hung_ = 0;
    keel::test::shared_with_children<findings> found_{};
    std::optional<std::pair<disk_type, writes>> prepared_{};
    std::uint64_t ticks_ = 0;
    std::uint64_t calls_ = 0; ///< of the longest run without a switch
    std::uint64_t calls_seen_ = 0;
    std::uint64_t one_in_ = 1;
    std::uint64_t switched_ = 0; ///< schedules with one switch that there were, tried or not
    std::uint32_t threads_seen_;
    std::set<std::uint64_t> seen_{};
    std::vector<made_run> distinct_{}; ///< with one switch at most
    std::vector<made_run> twice_{};    ///< with two
};

/// The engine and the log of a policy, and what opens what they leave.
template <class Durability>
struct stores {
    using merged_early = keel::compaction::leveled<8 * keel::KiB, 2>;
    using small = keel::segment_size<run_segment_bytes>;
    using engine = keel::engine<Durability, merged_early, scheduled_disk, small>;
    using plain_engine = keel::engine<Durability, merged_early, disk_type, small>;
    using log = keel::log<Durability, scheduled_disk, small>;
    using plain_log = keel::log<Durability, disk_type, small>;
};

template <class Durability, class Visit>
void with_program(program const& p, Visit const& visit) {
    using all = stores<Durability>;
    if (p.of_a_log) {
        exploration<typename all::log, typename all::plain_log> e{p, Durability::name};
        visit(e);
    } else {
        exploration<typename all::engine, typename all::plain_engine> e{p, Durability::name};
        visit(e);
    }
}

} // namespace schedules

#endif
