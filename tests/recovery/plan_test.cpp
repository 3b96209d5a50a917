// SPDX-License-Identifier: BSL-1.0
// Plans, on every log of two segments and three records: what each state of each copy leads to, and that a repair may stop behind any of
// its steps.
#include <keel/recovery/plan.hpp>

#include <keel/policy/repair/choice.hpp>

#include "support/log_scene.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace plan_test {

namespace {

using namespace keel;
using namespace keel::recovery;
using keel::test::scene;
using ranges = std::vector<lsn_range>;

enum class copy_state : std::uint8_t { absent, whole, damaged };
constexpr std::uint64_t records = 3;

/// One log: what each of two segments has of each LSN, what is known durable, and how the second follows the first.
struct small_log {
    std::array<copy_state, records + 1> first{};
    std::array<copy_state, records + 1> second{};
    std::uint64_t second_from = 1; ///< LSN at which the second one begins
    std::uint64_t mark = 0;
    bool mark_in_second = true;
    bool cut = false; ///< the second one voids the first from there on
};

void add_copies(scene::one one, std::array<copy_state, records + 1> const& copies, std::uint64_t from) {
    for (auto x = from; x <= records; ++x) {
        if (copies[x] == copy_state::whole) one.has(x, x);
        if (copies[x] == copy_state::damaged) one.bad({.lsns = {{x}, {x}}, .after = {x - 1}, .exact = true});
    }
}
scene scene_of(small_log const& log) {
    scene s;
    auto a = s.segment(1, 1);
    add_copies(a, log.first, 1);
    auto b = s.segment(2, log.second_from);
    add_copies(b, log.second, log.second_from);
    (log.mark_in_second ? b : a).mark(log.mark);
    b.follows(1, log.cut ? format::segment_end::crashed : format::segment_end::abandoned, 5000);
    if (log.cut) b.cut(log.second_from);
    return s;
}

/// Calls visit(log) for each of them.
template <class Visit>
void each_log(Visit const& visit) {
    constexpr std::uint64_t states = 27; // of three records
    auto const fill = [](std::array<copy_state, records + 1>& copies, std::uint64_t number) {
        for (std::uint64_t x = 1; x <= records; ++x, number /= 3) copies[x] = static_cast<copy_state>(number % 3);
    };
    for (std::uint64_t a = 0; a < states; ++a)
        for (std::uint64_t b = 0; b < states; ++b)
            for (std::uint64_t from = 1; from <= records + 1; ++from)
                for (std::uint64_t mark = 0; mark <= records; ++mark)
                    for (unsigned kind = 0; kind < 4; ++kind) {
                        small_log log{.second_from = from, .mark = mark};
                        fill(log.first, a);
                        fill(log.second, b);
                        bool below = false; // the same log once more
                        for (std::uint64_t x = 1; x < from; ++x) below = below || log.second[x] != copy_state::absent;
                        if (below) continue;
                        log.mark_in_second = (kind & 1) != 0;
                        log.cut = (kind & 2) != 0;
                        visit(log);
                    }
}

/// What a look at all copies finds, without the code under test.
struct expected_log {
    std::uint64_t horizon = 0;
    std::uint64_t end = 0;
    std::set<std::uint64_t> lost{};
    std::set<std::uint64_t> counted{};
};
expected_log expect(small_log const& log) {
    expected_log out;
    auto const voided = [&](std::uint64_t x) { return log.cut && x >= log.second_from; };
    auto const there = [&](std::uint64_t x) {
        if (x > records) return false;
        return (x >= log.second_from && log.second[x] == copy_state::whole) ||
               (log.first[x] == copy_state::whole && !voided(x));
    };
    out.horizon = log.mark;
    if (!log.mark_in_second && log.cut) out.horizon = std::min(out.horizon, log.second_from - 1);
    for (out.end = out.horizon; there(out.end + 1);) ++out.end;
    for (std::uint64_t x = 1; x <= out.end; ++x) (there(x) ? out.counted : out.lost).insert(x);
    return out;
}

std::set<std::uint64_t> numbers(ranges const& all) {
    std::set<std::uint64_t> out;
    for (auto const& r : all)
        for (auto x = r.first.value; x <= r.last.value; ++x) out.insert(x);
    return out;
}
std::set<std::uint64_t> numbers(std::vector<counted_range> const& all) {
    ranges plain;
    for (auto const& c : all) plain.push_back(c.range);
    return numbers(plain);
}

examination examine_scene(scene const& s) {
    examination e{s.stock};
    e.runs = s.runs;
    e.found = s.judge();
    return e;
}

/// What a repair writes in the place of a segment: the records it keeps, with marks that say no more than that what lies before is durable.
void replace(scene& s, segment_repair const& what) {
    auto& run = s.runs[what.segment];
    auto const first = s.stock.segments[what.segment].geometry.first;
    run = {};
    run.data_end = run.tag_end = 512;
    scene::one one{s, what.segment};
    for (auto const& r : what.keep) one.has(r.first.value, r.last.value);
    run.marked = first.before();
    run.losses = what.losses;
    one.seg().entry.id = {100 + what.segment};
    one.seg().header->id = one.seg().entry.id;
    one.seg().header->state = format::segment_state::rebuilt;
    one.sealed();
}
void set_aside(scene& s, std::size_t i) {
    s.stock.state.segments.erase(s.stock.segments[i].entry.id);
    s.stock.state.removed.push_back({s.stock.segments[i].entry.id, 1});
    s.stock.segments.erase(s.stock.segments.begin() + static_cast<std::ptrdiff_t>(i));
    s.runs.erase(s.runs.begin() + static_cast<std::ptrdiff_t>(i));
}

/// The log as it stands behind so many steps of the plan; the first of them declares the losses.
scene behind(scene s, repair_plan const& plan, std::size_t steps) {
    if (steps == 0) return s;
    for (auto const& r : plan.declare) s.stock.state.losses.push_back(r);
    std::vector<std::size_t> aside;
    for (std::size_t n = 0; n < std::min(steps, plan.segments.size()); ++n) {
        if (plan.segments[n].keep.empty()) aside.push_back(plan.segments[n].segment);
        else replace(s, plan.segments[n]);
    }
    for (auto i = aside.rbegin(); i != aside.rend(); ++i) set_aside(s, *i);
    return s;
}

} // namespace

TEST_CASE("classify: every log of two segments and three records is judged as a look at all copies judges it") {
    std::uint64_t logs = 0;
    std::uint64_t wrong = 0;
    each_log([&](small_log const& log) {
        ++logs;
        auto const wanted = expect(log);
        auto const v = scene_of(log).judge();
        std::set<std::uint64_t> accounted;
        bool good = v.horizon.value == wanted.horizon && v.end.value == wanted.end && numbers(v.lost) == wanted.lost &&
                    numbers(v.counted) == wanted.counted && v.unknown.empty();
        for (auto const& l : v.lost_in)
            for (auto x = l.range.first.value; x <= l.range.last.value; ++x) {
                auto const& copies = l.segment == 0 ? log.first : log.second;
                good = good && wanted.lost.contains(x) && accounted.insert(x).second &&
                       copies[x] == copy_state::damaged;
            }
        std::uint64_t told = 0;
        for (auto const& f : v.findings) told += f.lost;
        wrong += !good || told < wanted.lost.size();
    });
    CHECK(logs > 10'000);
    CHECK(wrong == 0);
}

TEST_CASE("plan: a repair leaves what its strategy says, and so does each of its steps alone") {
    std::uint64_t repairs = 0;
    std::uint64_t cut_short = 0;
    std::vector<std::string> wrong;
    each_log([&](small_log const& log) {
        auto const wanted = expect(log);
        if (wanted.lost.empty()) return;
        // No writer voids what a mark has said to be durable.
        if (log.cut && !log.mark_in_second && log.mark >= log.second_from) return;
        auto const before = scene_of(log);
        auto const e = examine_scene(before);
        for (auto const how :
             {repair_strategy::skip_corrupted, repair_strategy::partial_reconstruct, repair_strategy::rollback}) {
            auto const plan = plan_repair(e, choice_of(how), repair_scope::what_is_lost);
            bool const back = how == repair_strategy::rollback;
            auto const first_lost = *wanted.lost.begin();
            auto left = wanted.counted;
            if (back) std::erase_if(left, [&](std::uint64_t x) { return x > first_lost; });
            auto declared = wanted.lost;
            if (back)
                for (auto x = first_lost; x <= wanted.end; ++x) declared.insert(x);
            ++repairs;
            bool good = numbers(plan.counted) == left && numbers(plan.declare) == declared &&
                        plan.end.value == wanted.end &&
                        plan.lost_records == (back ? wanted.end - first_lost + 1 : wanted.lost.size());
            // Behind any step: the same records, nothing lost that is not declared, LSNs taken from the same place on.
            for (std::size_t steps = 1; steps <= std::max<std::size_t>(1, plan.segments.size()); ++steps) {
                auto const after = behind(before, plan, steps).judge();
                cut_short += steps < plan.segments.size();
                good = good && after.lost.empty() && numbers(after.counted) == left && after.end == plan.end &&
                       after.unknown.empty();
            }
            if (!good)
                wrong.push_back("first lost " + std::to_string(first_lost) + ", horizon " +
                                std::to_string(wanted.horizon) + ", second from " + std::to_string(log.second_from) +
                                ", " + std::string{choice_of(how).name});
        }
    });
    CHECK(repairs > 10'000);
    CHECK(cut_short > 1000);
    std::string const example = wrong.empty() ? "" : wrong.front();
    INFO(example);
    CHECK(wrong.size() == 0);
}

TEST_CASE("plan: what is kept of a segment and what is said to be lost of it are records of its own, each once") {
    each_log([&](small_log const& log) {
        auto const s = scene_of(log);
        auto const e = examine_scene(s);
        for (auto const how : {repair_strategy::skip_corrupted, repair_strategy::rollback}) {
            auto const plan = plan_repair(e, choice_of(how), repair_scope::what_is_lost);
            std::set<std::uint64_t> losses;
            bool keeps_any = false;
            for (auto const& r : plan.segments) {
                keeps_any = keeps_any || !r.keep.empty();
                for (auto const x : numbers(r.keep))
                    REQUIRE(std::ranges::any_of(plan.counted, [&](counted_range const& c) {
                        return c.segment == r.segment && c.range.contains({x});
                    }));
                for (auto const x : numbers(r.losses)) REQUIRE(losses.insert(x).second);
            }
            if (keeps_any) REQUIRE(losses == numbers(plan.declare));
        }
    });
}

TEST_CASE("plan: refuse, unknown extents and an earlier try") {
    small_log log{.second_from = 3, .mark = 3};
    log.first = {copy_state::absent, copy_state::whole, copy_state::damaged, copy_state::absent};
    log.second = {copy_state::absent, copy_state::absent, copy_state::absent, copy_state::whole};
    auto const e = examine_scene(scene_of(log));
    CHECK(plan_repair(e, choice_of(repair_strategy::refuse), repair_scope::what_is_lost).what == decision::refuse);
    auto const skip = choice_of(repair_strategy::skip_corrupted);
    auto const plan = plan_repair(e, skip, repair_scope::what_is_lost);
    REQUIRE(plan.segments.size() == 1);
    CHECK(plan.segments[0].segment == 0);
    // The second one was meant to be replaced by an earlier try, and has not been.
    auto const rest = plan_repair(e, skip, repair_scope::what_is_lost, {{2}});
    REQUIRE(rest.segments.size() == 2);
    CHECK(rest.segments[1].keep == ranges{{{3}, {3}}});

    // A segment is gone, and nobody knows what it held: no policy forgets it, and one that refuses refuses.
    scene s;
    s.segment(1, 1).has(1, 3).mark(2).sealed();
    found_segment gone;
    gone.entry = {.id = {2}, .salt = scene::salt(2), .size = 4096, .place = {2}};
    gone.registered = true;
    gone.path = "db/log/" + wal::layout::segment_name({2});
    s.stock.spare.push_back(gone);
    auto const unknown = examine_scene(s);
    REQUIRE(unknown.found.unknown.size() == 1);
    CHECK(plan_repair(unknown, choice_of(repair_strategy::refuse), repair_scope::what_is_lost).what ==
          decision::refuse);
    for (auto const scope : {repair_scope::what_is_lost, repair_scope::everything}) {
        auto const nothing = plan_repair(unknown, skip, scope);
        CHECK(nothing.what == decision::declare_lost);
        CHECK_FALSE(nothing.changes_anything());
    }
    // Where notes of this boot say that it was never used, the repair command takes it off the manifest.
    s.note(3, 3, true);
    auto const spare = examine_scene(s);
    CHECK(spare.found.unknown.empty());
    CHECK(plan_repair(spare, skip, repair_scope::everything).forget == std::vector<segment_id>{{2}});
    CHECK(plan_repair(spare, skip, repair_scope::what_is_lost).forget.empty());
}

TEST_CASE("plan: what 80,000 bad records cost is in proportion to them, and each segment keeps its own share") {
    scene s;
    std::uint64_t at = 1;
    for (std::uint64_t id = 1; id <= 40; ++id) {
        auto one = s.segment(id, at);
        auto& run = one.run();
        for (std::uint64_t n = 0; n < 2000; ++n, at += 2) {
            run.bad.push_back(
                {.offset = 512 + 200 * n, .length = 100, .lsns = {{at}, {at}}, .after = {at - 1}, .exact = true});
            run.extents.push_back({{{at + 1}, {at + 1}}, 612 + 200 * n, 712 + 200 * n});
        }
        run.last = {at - 1};
        if (id > 1) one.follows(id - 1, format::segment_end::rolled);
        one.mark(at - 1);
    }
    auto const e = examine_scene(s);
    auto const plan = plan_repair(e, choice_of(repair_strategy::skip_corrupted), repair_scope::what_is_lost);
    CHECK(plan.lost_records == 80'000);
    REQUIRE(plan.segments.size() == 40);
    for (auto const& r : plan.segments) {
        CHECK(r.keep.size() == 2000);
        CHECK(r.losses.size() == 2000); // not those of all of them
    }
}

} // namespace plan_test
