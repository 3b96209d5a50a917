// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_JUDGE_HPP
#define KEEL_EXAMPLES_DRILL_JUDGE_HPP

// What was acknowledged against what came back. The rules:
//   | damage                     | refuse        | rollback                             | skip_corrupted, partial_reconstruct     |
//   | none, torn tail            | all of it     | all of it                            | all of it                               |
//   | flipped bit, lost sector   | does not open | all before the first damaged record, | all but the damaged records, which are  |
//   |                            |               | none from there on                   | named; a batch falls as a whole         |
// Anywhere: no value that was not written, no key that was not written. Records that were written and not acknowledged may be there.

#include "damage.hpp"
#include "trial.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace drill {

/// What the parent knows: the data, and which of it the loader said was safe before it died.
struct ledger {
    data_set data{};
    std::unordered_map<std::string_view, std::string_view> values{}; ///< into `data`
    std::unordered_map<std::string_view, keel::lsn> acknowledged{};
    keel::lsn last{}; ///< the newest of those

    explicit ledger(data_set all) : data{std::move(all)} {
        for (auto const& r : data.records) values.emplace(r.key, r.value);
    }
    ledger(ledger const&) = delete;
    ledger& operator=(ledger const&) = delete;

    void note(acknowledgement const& done) {
        for (std::uint64_t i = 0; i < done.count; ++i) {
            keel::lsn const at{done.last_lsn - done.count + 1 + i};
            acknowledged.emplace(data.records[done.first + i].key, at);
            last = std::max(last, at);
        }
    }
};

/// One row of the table.
struct row {
    std::string damage{};
    std::string policy{};
    std::string outcome{};
    std::uint64_t acknowledged = 0;
    std::uint64_t found = 0;
    std::uint64_t healed = 0;
    std::uint64_t lost = 0;                                     ///< acknowledged, and not readable in an open store
    std::vector<std::pair<keel::lsn, std::string>> lost_keys{}; ///< in LSN order
    std::string lost_reported{};                                ///< the LSN ranges of the store's own report
    std::string expected{};
    nlohmann::json told{};
    std::vector<std::string> complaints{}; ///< empty: as expected

    void complain(std::string what) { complaints.push_back(std::move(what)); }
};

/// What must come back of one store opened with one policy.
class expectation {
public:
    expectation(damage const* what, keel::repair_strategy policy) : damage_{what}, policy_{policy} {}

    [[nodiscard]] bool costs_records() const noexcept { return damage_ != nullptr && !damage_->torn; }
    [[nodiscard]] bool opens() const noexcept { return !costs_records() || policy_ != keel::repair_strategy::refuse; }
    [[nodiscard]] bool is_torn() const noexcept { return damage_ != nullptr && damage_->torn; }
    [[nodiscard]] keel::lsn first_lost() const noexcept { return damage_->lost.front().at; }
    /// Whether this acknowledged record must be gone; every other must be there.
    [[nodiscard]] bool loses(keel::lsn at) const {
        if (!costs_records()) return false;
        if (policy_ == keel::repair_strategy::rollback) return at >= first_lost();
        return std::ranges::any_of(damage_->lost, [&](place const& p) { return p.at == at; });
    }
    [[nodiscard]] std::string words() const {
        if (is_torn()) return "opens; nothing acknowledged is lost; reported as a torn tail, not as corruption";
        if (!costs_records()) return "opens; nothing acknowledged is lost";
        auto const first = "LSN " + std::to_string(first_lost().value);
        if (policy_ == keel::repair_strategy::refuse) return "does not open, names " + first + ", changes no file";
        if (policy_ == keel::repair_strategy::rollback)
            return "keeps all before " + first + " and nothing from there on";
        return "loses exactly " + std::to_string(damage_->lost.size()) +
               (damage_->lost.size() == 1 ? " record, " : " records, from ") + first;
    }

private:
    damage const* damage_;
    keel::repair_strategy policy_;
};

/// Compares contents with the ledger: no wrong value, nothing missing that must be there, nothing there that must be gone.
inline void compare_contents(row& out, ledger const& book, expectation const& must, trial_result const& trial) {
    for (auto const& [key, value] : trial.contents) {
        auto const written = book.values.find(key);
        if (written == book.values.end()) out.complain("a key that nobody wrote: " + key);
        else if (written->second != value) out.complain("a WRONG VALUE under " + key);
    }
    std::uint64_t missing = 0;
    std::uint64_t undead = 0;
    for (auto const& [key, at] : book.acknowledged) {
        bool const there = trial.contents.contains(std::string{key});
        if (there) ++out.found;
        else out.lost_keys.emplace_back(at, key);
        if (!there && !must.loses(at)) ++missing;
        if (there && must.loses(at)) ++undead;
    }
    std::ranges::sort(out.lost_keys);
    out.lost = out.lost_keys.size();
    if (missing != 0) out.complain(std::to_string(missing) + " acknowledged, undamaged records are MISSING");
    if (undead != 0) out.complain(std::to_string(undead) + " records are served that must be gone");
}

/// Compares what the store says of itself: what was lost, and whether it takes a crash for corruption.
inline void compare_report(row& out, ledger const& book, expectation const& must, trial_result const& trial) {
    auto const& report = trial.told.at("report");
    out.healed = report.value("healed_records", std::uint64_t{0});
    keel::recovery::lsn_set named;
    for (auto const& r : report.at("lost_lsn_ranges")) {
        keel::lsn_range const range{{r.at(0).get<std::uint64_t>()}, {r.at(1).get<std::uint64_t>()}};
        named.add(range);
        if (!out.lost_reported.empty()) out.lost_reported += ", ";
        out.lost_reported += std::to_string(range.first.value);
        if (range.first != range.last) out.lost_reported += "-" + std::to_string(range.last.value);
    }
    for (std::uint64_t at = 1; at <= book.last.value; ++at)
        if (named.contains({at}) != must.loses({at})) {
            out.complain("the report is wrong about LSN " + std::to_string(at));
            break;
        }
    if (report.at("lost_records").get<std::uint64_t>() != named.count())
        out.complain("the report counts other losses than it names");
    if (report.at("damaged").get<bool>() != must.costs_records())
        out.complain(must.costs_records() ? "the report knows of no damage"
                                          : "the report takes a crash for corruption");
    if (must.is_torn() && report.at("torn_tail_bytes").get<std::uint64_t>() == 0)
        out.complain("the torn tail is not in the report");
}

[[nodiscard]] inline row judge(ledger const& book, damage const* what, keel::repair_strategy policy,
                               trial_result trial) {
    expectation const must{what, policy};
    row out{.damage = what == nullptr ? "none" : what->name,
            .policy = std::string{name_of(policy)},
            .acknowledged = book.acknowledged.size()};
    out.expected = must.words();
    if (trial.told.empty() || trial.told.is_discarded()) {
        out.outcome = "died";
        out.complain("the process that opened the store ended without a word, status " +
                     std::to_string(trial.exit_code));
    } else if (trial.opened()) {
        out.outcome = "open, " + trial.told.value("state", "");
        if (!must.opens()) out.complain("opened, although the policy refuses");
        compare_contents(out, book, must, trial);
        compare_report(out, book, must, trial);
        if (trial.exit_code != 0)
            out.complain("get() and scan() disagree, or the process failed: status " + std::to_string(trial.exit_code));
    } else {
        out.outcome = "refused";
        auto const& why = trial.told.at("error");
        if (must.opens()) out.complain("did not open: " + why.value("text", ""));
        else if (why.value("code", "") != "corruption")
            out.complain("refused for another reason: " + why.value("text", ""));
        else if (why.value("lsn", std::uint64_t{0}) != must.first_lost().value ||
                 why.value("file", "").find(what->file) == std::string::npos)
            out.complain("does not name the first damaged record and its file: " + why.value("text", ""));
    }
    out.told = std::move(trial.told);
    return out;
}

} // namespace drill

#endif
