// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_PLAN_HPP
#define KEEL_RECOVERY_PLAN_HPP

// Findings -> decisions. Pure: describes a repair before anything is done. `repair --dry-run` prints the plan.
//
// A repair is carried out in steps. After each step the store is consistent (repair.hpp), so an interrupted repair has not worked in
// vain. Each step replaces one segment. The first step declares all losses and all LSNs given up. From then on the set of records in the
// store is final, even if the other steps fail. (If a loss were declared only when its segment is replaced, an earlier step could remove
// the segment whose marks prove that the lost LSNs were acknowledged. Then no later opening would miss these LSNs.)

#include <keel/policy/repair/concept.hpp>
#include <keel/recovery/examine.hpp>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::recovery {

/// The scope of a repair. An opening touches only damage that costs records. The repair command heals every file that does not verify.
enum class repair_scope : std::uint8_t { what_is_lost, everything };

/// The repair of one damaged segment.
struct segment_repair {
    std::size_t segment = 0;         ///< index into inventory::segments
    std::vector<lsn_range> keep{};   ///< records that a new file is built of; empty: no new file
    std::vector<lsn_range> losses{}; ///< declared losses that the new file records
};

struct repair_plan {
    decision what = decision::declare_lost;
    std::vector<segment_repair> segments{};
    std::vector<lsn_range> declare{};     ///< LSNs to be declared lost, in order
    std::vector<counted_range> counted{}; ///< the records that count after the repair
    lsn end{};                            ///< the last LSN of the log after the repair, declared losses included
    lsn back_from{};                      ///< a roll-back gives up this LSN and all above; 0: no roll-back
    std::uint64_t lost_records = 0;
    bool rewrite_manifest = false;
    std::vector<segment_id> forget{};             ///< registered segments whose file is gone
    std::vector<format::table_id> not_ingested{}; ///< level-0 tables that a roll-back gives up
    std::string notice{};

    [[nodiscard]] bool changes_anything() const noexcept {
        return !segments.empty() || !declare.empty() || rewrite_manifest || !forget.empty() || !not_ingested.empty();
    }
};

namespace detail {

/// The gravest decision of the policy over all findings. An unknown extent counts like a known loss.
[[nodiscard]] inline decision gravest(std::vector<finding> const& findings, repair_choice const& choice) {
    auto what = decision::declare_lost;
    for (auto const& f : findings)
        if (f.lost != 0 || f.kind == damage::unknown_extent) what = std::max(what, choice.decide(f));
    return what;
}

/// Keeps only the records before the first lost LSN.
inline void roll_back(repair_plan& plan, examination const& e) {
    auto const& v = e.found;
    auto const keep = v.lost.front().first.before();
    auto const newest = std::max({v.horizon, v.end, v.lost.back().last});
    std::erase_if(plan.counted, [&](auto const& c) { return c.range.first > keep; });
    std::uint64_t dropped = 0;
    for (auto const& c : v.counted)
        if (c.range.last > keep) dropped += c.range.last.value - std::max(keep, c.range.first.before()).value;
    for (auto& c : plan.counted) c.range.last = std::min(c.range.last, keep);
    plan.declare = {{keep.next(), newest}};
    plan.back_from = keep.next();
    plan.lost_records += dropped;
    plan.end = newest;
    for (auto const& [id, t] : e.stock.state.tables)
        if (t.level == 0 && !t.is_placeholder() && t.lsns.first > keep) plan.not_ingested.push_back(id);
}

/// Chooses the segments to replace. It checks each segment once, whatever the number of findings.
class segment_chooser {
public:
    segment_chooser(repair_plan& plan, examination const& e, repair_scope scope, std::set<segment_id> const& begun)
        : plan_{plan}, e_{e}, scope_{scope}, begun_{begun} {
        for (auto const& f : e.found.findings) {
            if (f.lost != 0) cost_.insert(f.file);
            note_mentioned(f);
        }
        for (auto const& f : e.stock.findings) note_mentioned(f);
    }

    void run() {
        auto const n = e_.stock.segments.size();
        std::vector<std::vector<lsn_range>> keep(n);
        for (auto const& c : plan_.counted) keep[c.segment].push_back(c.range);
        auto const touched = choose(keep);
        std::vector<std::size_t> number(n, none);
        for (std::size_t i = 0; i < n; ++i) {
            if (!touched[i]) continue;
            number[i] = plan_.segments.size();
            plan_.segments.push_back({.segment = i, .keep = std::move(keep[i])});
        }
        share_out_losses(number);
        choose_forgotten();
    }

private:
    static constexpr std::size_t none = ~std::size_t{0};

    void note_mentioned(finding const& f) {
        bool const of_no_file = f.kind == damage::missing_segment || f.kind == damage::unknown_extent;
        if (f.is_corruption() && !of_no_file) mentioned_.insert(f.file);
    }
    /// Newest segment first. If no record of a segment is kept, its header is removed with it. Then the records that this header voids in
    /// older segments would count again. So those segments are rebuilt, too, without these records.
    [[nodiscard]] std::vector<bool> choose(std::vector<std::vector<lsn_range>> const& keep) const {
        auto const& segments = e_.stock.segments;
        auto const before = void_from(segments);
        std::vector<bool> touched(segments.size(), false);
        auto now = lsn_max; // the smallest LSN that the remaining headers void
        for (std::size_t i = segments.size(); i-- > 0;) {
            bool const comes_back = before[i] < now && e_.runs[i].last >= before[i];
            touched[i] = segments[i].present && (comes_back || is_touched(i));
            bool const stays = segments[i].present && !(touched[i] && keep[i].empty());
            auto const& h = segments[i].header;
            if (stays && h && h->void_from) now = std::min(now, h->void_from);
        }
        return touched;
    }
    [[nodiscard]] bool is_touched(std::size_t i) const {
        auto const& extents = e_.runs[i].extents;
        if (plan_.back_from && !extents.empty() && extents.back().range.last >= plan_.back_from) return true;
        if (begun_.contains(e_.stock.segments[i].entry.id)) return true;
        auto const name = e_.stock.paths.inside(e_.stock.segments[i].path);
        return cost_.contains(name) || (scope_ == repair_scope::everything && mentioned_.contains(name));
    }
    /// A rebuilt file records its own losses, in case both manifests are lost. The first rebuilt file also
    /// records the losses without a trace.
    void share_out_losses(std::vector<std::size_t> const& number) {
        auto const first = std::ranges::find_if(plan_.segments,
                                                [](segment_repair const& s) { return !s.keep.empty(); });
        if (first == plan_.segments.end()) return;
        wal::lsn_set traced;
        for (auto const& l : e_.found.lost_in) {
            if (plan_.back_from || number[l.segment] == none || plan_.segments[number[l.segment]].keep.empty())
                continue;
            plan_.segments[number[l.segment]].losses.push_back(l.range);
            traced.add(l.range);
        }
        for (auto const& l : plan_.declare)
            for (auto const& gap : traced.gaps_in(l)) first->losses.push_back(gap);
    }
    /// A segment whose file is gone leaves the manifest once its records are declared lost. If its extent is unknown, it stays in the
    /// manifest until its loss is accepted.
    void choose_forgotten() {
        std::set<segment_id> unknown;
        for (auto const& u : e_.found.unknown) unknown.insert(u.segment);
        auto const links = links_of(e_.stock.segments);
        bool const all = scope_ == repair_scope::everything;
        if (!all && e_.found.lost.empty()) return;
        for (auto const& s : e_.stock.segments)
            if (!s.present && !unknown.contains(s.entry.id)) plan_.forget.push_back(s.entry.id);
        for (auto const& s : e_.stock.spare)
            if (!s.present && !unknown.contains(s.entry.id) && (all || links.contains(s.entry.id)))
                plan_.forget.push_back(s.entry.id);
    }

    repair_plan& plan_;
    examination const& e_;
    repair_scope scope_;
    std::set<segment_id> const& begun_;
    std::set<std::string, std::less<>> cost_{};      ///< files with damage that cost records
    std::set<std::string, std::less<>> mentioned_{}; ///< files with any corruption
};

} // namespace detail

/// Plans a repair by this choice. With decision::refuse the rest of the plan says what would be lost. `begun`: segments that an
/// interrupted try of the same repair planned to replace and did not reach (repair_progress.hpp).
[[nodiscard]] inline repair_plan plan_repair(examination const& e, repair_choice const& choice, repair_scope scope,
                                             std::set<segment_id> const& begun = {}) {
    repair_plan plan;
    auto const& v = e.found;
    plan.what = detail::gravest(v.findings, choice);
    plan.counted = v.counted;
    plan.end = v.end;
    plan.declare = v.lost;
    for (auto const& l : v.lost) plan.lost_records += l.size();
    if (!v.lost.empty() && plan.what == decision::roll_back) detail::roll_back(plan, e);
    detail::segment_chooser{plan, e, scope, begun}.run();
    auto const has = [&](damage kind) {
        return std::ranges::any_of(e.stock.findings, [&](finding const& f) { return f.kind == kind; });
    };
    // A manifest that lacks edits or segments known from segment headers is rewritten before anything is added to it. A single bad copy
    // can wait, because the other copy serves.
    plan.rewrite_manifest = has(damage::manifest_lost) || has(damage::unknown_segment) ||
                            (scope == repair_scope::everything && has(damage::manifest_damaged));
    if (choice.rebuilds && !v.lost.empty())
        plan.notice = "no redundancy is configured: what verifies was kept, the rest could not be rebuilt";
    return plan;
}

} // namespace keel::inline v0::recovery

#endif
