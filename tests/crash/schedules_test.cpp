// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

// P20: every promise holds under all schedules of two to four threads with two switches, times each fault.
//
// Each program of schedule_programs.hpp is run from each of its threads on: without a switch, which gives the places where one is possible;
// with one at each place, to each other thread; and with a second one behind it. Runs that make the same calls in the same order and get the
// same answers are one: crashes are looked at once. Every run with at most one switch is made again with a fault at each of its calls, and a
// sample of all with two faults. The programs that merge and those with keel's own threads have so many places that a part is tried of each.
//
// What is wrong prints the name of the first run of its kind. In the environment:
//   KEEL_SCHEDULE="<name>"               makes that run alone, and prints every call and answer of it
//   KEEL_SCHEDULE="<program> <policy>"   tries that program alone
//   KEEL_SCHEDULES_LONG=<minutes>        tries all instead of a part, then random runs of up to three switches and three faults for so long

#include "../support/slow_build.hpp"
#include "schedule_exploration.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace schedules {
namespace {

using keel::test::sanitized;

[[nodiscard]] std::string_view environment(char const* name) {
    auto const* const text = std::getenv(name);
    return text == nullptr ? std::string_view{} : text;
}
/// Whether KEEL_SCHEDULE leaves this to be tried.
[[nodiscard]] bool is_wanted(program const& p, std::string_view policy) {
    auto const only = environment("KEEL_SCHEDULE");
    return only.empty() || only == std::string{p.name} + " " + std::string{policy};
}
[[nodiscard]] std::chrono::minutes long_minutes() {
    auto text = environment("KEEL_SCHEDULES_LONG");
    return std::chrono::minutes{keel::io::detail::take_number<int>(text).value_or(0)};
}

struct totals {
    std::uint64_t runs = 0;
    std::uint64_t states = 0;
    std::uint64_t hits = 0;
    std::uint64_t distinct = 0;
};

/// Fails the test with the first run of each kind.
template <class Exploration>
void report(Exploration const& e, totals& sum) {
    auto const& f = e.found();
    sum.runs += f.runs;
    sum.states += f.states;
    sum.hits += f.fired;
    sum.distinct += e.distinct();
    for (std::size_t i = 0; i < f.count; ++i)
        FAIL_CHECK("KEEL_SCHEDULE='" << std::string{f.kinds[i].run} << "': " << std::string{f.kinds[i].trouble} << " ("
                                     << f.kinds[i].times << " run(s) of this kind)");
}
template <class Durability>
void tell(char const* what, totals const& sum) {
    std::printf("%s, %-12s %7llu runs, %6llu schedules that differ, %8llu crash states, %7llu faults hit\n", what,
                std::string{Durability::name}.c_str(), static_cast<unsigned long long>(sum.runs),
                static_cast<unsigned long long>(sum.distinct), static_cast<unsigned long long>(sum.states),
                static_cast<unsigned long long>(sum.hits));
}

// A build with sanitizers tries some of the runs: it is there to see what memory does.
constexpr std::uint64_t switched_one_in = sanitized ? 16 : 1;

template <class Durability>
void try_all_schedules(std::uint64_t most, std::uint64_t sample) {
    totals sum;
    bool all = true;
    for (auto const& p : programs_of_threads()) {
        all = all && is_wanted(p, Durability::name);
        if (!is_wanted(p, Durability::name)) continue;
        with_program<Durability>(p, [&](auto& e) {
            e.run_all(long_minutes().count() != 0 ? ~std::uint64_t{0} >> 8 : most, sample, switched_one_in);
            report(e, sum);
        });
    }
    tell<Durability>("schedules", sum);
    if (!all) return;
    // A run that saw little has proven nothing.
    CHECK(sum.runs > (sanitized ? 500 : 10000));
    CHECK(sum.states > (sanitized ? 2000 : 50000));
    CHECK(sum.hits > (sanitized ? 100 : 5000));
    CHECK(sum.distinct > (sanitized ? 100 : 500));
}

/// Each allocation of each program in turn, and each thread that keel starts. In a long run also those of several threads.
template <class Durability>
void refuse_all_memory(std::uint64_t step) {
    totals sum;
    bool all = true;
    auto const refuse = [&](program const& p, std::uint64_t one_in) {
        all = all && is_wanted(p, Durability::name);
        if (!is_wanted(p, Durability::name)) return;
        with_program<Durability>(p, [&](auto& e) {
            e.refuse_each(trouble::no_memory, p.background && !sanitized ? 1 : one_in, !sanitized);
            if (p.background || p.name.starts_with("opening")) e.refuse_each(trouble::no_thread, 1, !sanitized);
            report(e, sum);
        });
    };
    for (auto const& p : programs_of_allocations()) refuse(p, step);
    if (long_minutes().count() != 0)
        for (auto const& p : programs_of_threads()) refuse(p, 5);
    tell<Durability>("allocations", sum);
    if (all) CHECK(sum.hits > (sanitized ? 250 : 3000));
}

template <class Durability>
void try_random(std::chrono::steady_clock::time_point until) {
    totals sum;
    for (std::uint64_t seed = 1; std::chrono::steady_clock::now() < until; seed += 1000)
        for (auto const& p : programs_of_threads())
            with_program<Durability>(p, [&](auto& e) {
                for (std::uint64_t i = 0; i < 1000; ++i) e.run_random(seed + i);
                report(e, sum);
            });
    tell<Durability>("random schedules", sum);
}

template <class Durability>
bool replay(run_name const& name) {
    auto const* const p = find_program(name.program);
    if (p == nullptr || name.policy != Durability::name) return false;
    with_program<Durability>(*p, [&](auto& e) { e.replay(name); });
    return true;
}

constexpr std::uint64_t most = sanitized ? 10 : 800;
constexpr std::uint64_t sample = sanitized ? 4 : 200;
constexpr std::uint64_t allocation_step = sanitized ? 60 : 1;

} // namespace
} // namespace schedules

TEST_CASE("schedules: every promise holds whichever thread goes on, with every fault, under every_write") {
    schedules::try_all_schedules<keel::durability::every_write>(schedules::most / 2, schedules::sample / 2);
}
TEST_CASE("schedules: every promise holds whichever thread goes on, with every fault, under group_commit") {
    schedules::try_all_schedules<keel::durability::group_commit>(schedules::most, schedules::sample);
}
TEST_CASE("schedules: every promise holds whichever thread goes on, with every fault, under interval") {
    schedules::try_all_schedules<keel::durability::interval<100>>(schedules::most / 2, schedules::sample / 2);
}
TEST_CASE("schedules: every promise holds whichever thread goes on, with every fault, under os_buffered") {
    schedules::try_all_schedules<keel::durability::os_buffered>(schedules::most, schedules::sample);
}

// P21
TEST_CASE("allocations: a refused one is an error or bad_alloc, nothing hangs, and nothing acknowledged is lost") {
    schedules::refuse_all_memory<keel::durability::group_commit>(schedules::allocation_step);
    schedules::refuse_all_memory<keel::durability::os_buffered>(schedules::allocation_step);
}

TEST_CASE("schedules: random runs for as long as KEEL_SCHEDULES_LONG says") {
    using namespace schedules;
    auto const quarter = std::chrono::seconds{long_minutes()} / 4;
    if (quarter.count() == 0) return;
    auto const now = [] { return std::chrono::steady_clock::now(); };
    try_random<keel::durability::every_write>(now() + quarter);
    try_random<keel::durability::group_commit>(now() + quarter);
    try_random<keel::durability::interval<100>>(now() + quarter);
    try_random<keel::durability::os_buffered>(now() + quarter);
}

TEST_CASE("schedules: the run that KEEL_SCHEDULE names") {
    using namespace schedules;
    auto const name = parse_run(environment("KEEL_SCHEDULE"));
    if (!name) return;
    bool const known = replay<keel::durability::every_write>(*name) || replay<keel::durability::group_commit>(*name) ||
                       replay<keel::durability::interval<100>>(*name) || replay<keel::durability::os_buffered>(*name);
    CHECK_MESSAGE(known, "there is no such program, or no such policy");
}
