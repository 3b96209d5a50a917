// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_PLAN_HPP
#define KEEL_RECOVERY_PLAN_HPP

// Findings -> decisions. Pure: what a repair would do, before it does any of it; `repair --dry-run` prints this.
//
// A repair is carried out in steps, each of which leaves a store that is consistent by itself (repair.hpp), so that one cut short has
// not been for nothing. The first step declares all that is lost or given up: from there on the store holds what it will hold, whatever
// comes of the other steps. (Were a loss declared only when its segment is replaced, the segment whose marks prove that its LSNs were
// acknowledged could go before: then nobody would miss them.) Each step replaces one segment.

#include <keel/policy/repair/concept.hpp>
#include <keel/recovery/examine.hpp>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::recovery {

/// How far a repair goes. Opening touches only what costs records; the repair command heals every file that does not verify.
enum class repair_scope : std::uint8_t { what_is_lost, everything };

/// What becomes of one damaged segment.
struct segment_repair {
    std::size_t segment = 0;         ///< index into inventory::segments
    std::vector<lsn_range> keep{};   ///< of its records: a new file is built of them; empty: none is
    std::vector<lsn_range> losses{}; ///< of those declared, what the new file says of them
};

struct repair_plan {
    decision what = decision::declare_lost;
    std::vector<segment_repair> segments{};
    std::vector<lsn_range> declare{};     ///< LSNs to be declared lost, in order
    std::vector<counted_range> counted{}; ///< what counts afterwards
    lsn end{};                            ///< the last LSN of the log afterwards, declared losses included
    lsn back_from{};                      ///< a roll-back gives up this LSN and all above; 0: it is none
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

/// What cannot be told is as grave as what is known to be lost.
[[nodiscard]] inline decision gravest(std::vector<finding> const& findings, repair_choice const& choice) {
    auto what = decision::declare_lost;
    for (auto const& f : findings)
        if (f.lost != 0 || f.kind == damage::unknown_extent) what = std::max(what, choice.decide(f));
    return what;
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
    for (auto& c : plan.counted) c.range.last = std::min(c.range.last, keep);
    plan.declare = {{keep.next(), newest}};
    plan.back_from = keep.next();
    plan.lost_records += dropped;
    plan.end = newest;
    for (auto const& [id, t] : e.stock.state.tables)
        if (t.level == 0 && !t.is_placeholder() && t.lsns.first > keep) plan.not_ingested.push_back(id);
}

/// Which segments are touched, each asked once whatever the number of findings.
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
    /// Newest first: the header of a segment of which nothing is left goes with it, and what it voids in older ones would count again. So
    /// those are written anew, too, without it.
    [[nodiscard]] std::vector<bool> choose(std::vector<std::vector<lsn_range>> const& keep) const {
        auto const& segments = e_.stock.segments;
        auto const before = void_from(segments);
        std::vector<bool> touched(segments.size(), false);
        auto now = lsn_max; // what the headers that stay void
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
    /// A file that is built anew says itself what is lost of it, should both manifests go; what left no trace stands in the first one.
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
    /// A segment whose file is gone is forgotten once what it held is declared lost; one of which that is not known only when its loss is
    /// accepted.
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
    std::set<std::string, std::less<>> mentioned_{}; ///< files with any
};

} // namespace detail

/// What a repair by this choice does. With decision::refuse the rest of the plan says what would be lost. `begun`: segments that an earlier
/// try of the same repair meant to replace and did not come to (repair_progress.hpp).
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
    // A manifest that lacks what its segments say is written anew before anything is added to it; a single bad copy can wait.
    plan.rewrite_manifest = has(damage::manifest_lost) || has(damage::unknown_segment) ||
                            (scope == repair_scope::everything && has(damage::manifest_damaged));
    if (choice.rebuilds && !v.lost.empty())
        plan.notice = "no redundancy is configured: what verifies was kept, the rest could not be rebuilt";
    return plan;
}

} // namespace keel::inline v0::recovery

#endif
