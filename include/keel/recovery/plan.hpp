// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_PLAN_HPP
#define KEEL_RECOVERY_PLAN_HPP

// Findings -> decisions. Pure: what a repair would do, before it does any of it; `repair --dry-run` prints this.

#include <keel/policy/repair/concept.hpp>
#include <keel/recovery/examine.hpp>

#include <algorithm>
#include <string>
#include <vector>

namespace keel::inline v0::recovery {

/// How far a repair goes. Opening touches only what costs records; the repair command heals every file that does not verify.
enum class repair_scope : std::uint8_t { what_is_lost, everything };

/// What becomes of one damaged segment.
struct segment_repair {
    std::size_t segment = 0;  ///< index into inventory::segments
    bool keep_records = true; ///< build a new file of its counted records; false: none is left
};

struct repair_plan {
    decision what = decision::declare_lost;
    std::vector<segment_repair> segments{};
    std::vector<lsn_range> declare{};     ///< LSNs to be declared lost
    std::vector<counted_range> counted{}; ///< what counts afterwards
    lsn end{};                            ///< the last LSN of the log afterwards, declared losses included
    std::uint64_t lost_records = 0;
    bool rewrite_manifest = false;
    std::vector<segment_id> forget{};             ///< registered, but the file is gone
    std::vector<format::table_id> not_ingested{}; ///< tables of level 0 that a roll-back goes behind
    std::string notice{};

    [[nodiscard]] bool changes_anything() const noexcept {
        return !segments.empty() || !declare.empty() || rewrite_manifest || !forget.empty() || !not_ingested.empty();
    }
};

namespace detail {

[[nodiscard]] inline decision gravest(std::vector<finding> const& findings, repair_choice const& choice) {
    auto what = decision::declare_lost;
    for (auto const& f : findings)
        if (f.lost != 0) what = std::max(what, choice.decide(f));
    return what;
}

[[nodiscard]] inline bool has_counted(std::vector<counted_range> const& counted, std::size_t segment) {
    return std::ranges::any_of(counted, [&](auto const& c) { return c.segment == segment; });
}

/// Cuts what counts at the last LSN before the first lost one.
inline void roll_back(repair_plan& plan, examination const& e) {
    auto const& v = e.found;
    auto const keep = v.lost.front().first.before();
    auto const newest = std::max({v.horizon, v.end, v.lost.back().last});
    std::erase_if(plan.counted, [&](auto const& c) { return c.range.first > keep; });
    std::uint64_t dropped = 0;
    for (auto const& c : v.counted)
        if (c.range.last > keep) dropped += c.range.last.value - std::max(keep, c.range.first.before()).value;
    plan.declare = {{keep.next(), newest}};
    plan.lost_records += dropped;
    plan.end = newest;
    for (auto const& [id, t] : e.stock.state.tables)
        if (t.level == 0 && !t.is_placeholder() && t.lsns.first > keep) plan.not_ingested.push_back(id);
}

inline void choose_segments(repair_plan& plan, examination const& e, repair_scope scope) {
    auto const& segments = e.stock.segments;
    auto const mentioned = [&](std::size_t i) {
        auto const name = e.stock.paths.inside(segments[i].path);
        auto const in = [&](std::vector<finding> const& list) {
            return std::ranges::any_of(list, [&](finding const& f) {
                return f.file == name && f.is_corruption() && f.kind != damage::missing_segment;
            });
        };
        return in(e.stock.findings) || in(e.found.findings);
    };
    auto const costs = [&](std::size_t i) {
        auto const name = e.stock.paths.inside(segments[i].path);
        return std::ranges::any_of(e.found.findings, [&](finding const& f) { return f.lost != 0 && f.file == name; });
    };
    bool const back = plan.what == decision::roll_back && !plan.declare.empty();
    for (std::size_t i = 0; i < segments.size(); ++i) {
        if (!segments[i].present) {
            plan.forget.push_back(segments[i].entry.id);
            continue;
        }
        bool const above = back && !e.runs[i].extents.empty() &&
                           e.runs[i].extents.back().range.last >= plan.declare.front().first;
        if (above || costs(i) || (scope == repair_scope::everything && mentioned(i)))
            plan.segments.push_back({.segment = i, .keep_records = has_counted(plan.counted, i)});
    }
    if (scope == repair_scope::everything)
        for (auto const& s : e.stock.spare)
            if (!s.present) plan.forget.push_back(s.entry.id);
    if (scope == repair_scope::what_is_lost && e.found.lost.empty()) plan.forget.clear();
}

} // namespace detail

/// What a repair by this choice does. With decision::refuse the rest of the plan says what would be lost.
[[nodiscard]] inline repair_plan plan_repair(examination const& e, repair_choice const& choice, repair_scope scope) {
    repair_plan plan;
    auto const& v = e.found;
    plan.what = detail::gravest(v.findings, choice);
    plan.counted = v.counted;
    plan.end = v.end;
    for (auto const& l : v.lost) plan.lost_records += l.size();
    if (!v.lost.empty() && plan.what == decision::roll_back) detail::roll_back(plan, e);
    else plan.declare = v.lost;
    detail::choose_segments(plan, e, scope);
    auto const has = [&](damage kind) {
        return std::ranges::any_of(e.stock.findings, [&](finding const& f) { return f.kind == kind; });
    };
    // A manifest that lacks what its segments say is written anew before anything is added to it; a single bad copy can wait.
    plan.rewrite_manifest = has(damage::manifest_lost) || has(damage::unknown_segment) ||
                            (scope == repair_scope::everything && has(damage::manifest_damaged));
    if (choice.rebuilds && !v.lost.empty())
        plan.notice = "no redundancy is configured: what verifies was kept, the rest could not be rebuilt";
    return plan;
}

} // namespace keel::inline v0::recovery

#endif
