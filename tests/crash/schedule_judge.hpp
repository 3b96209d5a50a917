// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_SCHEDULE_JUDGE_HPP
#define KEEL_TESTS_CRASH_SCHEDULE_JUDGE_HPP

// What a store must hold after several threads wrote to it: each write with what was said of it, and the rules. Pure.
//
// Every write puts a key that no other write has, its own key: so it can be seen whether the write is there. What else it puts or erases
// may be shared. A batch is there whole or not at all; a write that was refused is not there; one that was accepted is, as far as the
// kind of end lets it be expected; where one is there, all that were accepted before it are.

#include "../support/model.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace schedules {

enum class standing : std::uint8_t {
    not_begun,
    under_way, ///< may be there or not
    accepted,
    refused, ///< must not be there
    unknown, ///< may be there or not: outcome_unknown
};

/// One write, and what is known of it at some moment.
struct one_write {
    model::batch operations{};  ///< the first one puts its own key
    bool takes_one_lsn = false; ///< all of it: it was ingested
    standing now = standing::not_begun;
    std::uint64_t last_lsn = 0; ///< once it is accepted
    std::uint64_t begun = 0;    ///< an order among all beginnings and answers
    std::uint64_t answered = 0;
    bool durable = false;          ///< a synced policy accepted it, or a sync of it returned: no crash takes it
    bool seen = false;             ///< a reader saw it
    bool at_risk = false;          ///< accepted and not durable when a sync failed: the page cache may forget it
    bool read_back_failed = false; ///< the same, when the bytes in a failed segment could not be read
    bool released = false;         ///< of a log: truncate_before() gave it up

    [[nodiscard]] std::uint64_t first_lsn() const {
        return takes_one_lsn ? last_lsn : last_lsn - operations.size() + 1;
    }
    [[nodiscard]] std::string const& own_key() const { return operations.front().key; }
    [[nodiscard]] bool counts() const { return now == standing::accepted || seen; }
};
using writes = std::vector<one_write>;

/// How the store ended up as it is looked at.
enum class state_of : std::uint8_t {
    serving,        ///< it was not closed
    killed,         ///< the process died
    killed_evicted, ///< and then pages whose sync had failed left the cache, with them perhaps the end of the log
    without_power,
    closed, ///< in order
};
[[nodiscard]] inline std::string_view name_of(state_of how) noexcept {
    constexpr std::string_view names[] = {"serving", "after a process crash", "after a process crash and an eviction",
                                          "after a power loss", "after an orderly close"};
    return names[static_cast<std::size_t>(how)];
}

/// Whether this write must be there.
[[nodiscard]] inline bool is_owed(one_write const& w, state_of how) noexcept {
    if (w.released) return false;
    if (w.durable) return true;
    if (!w.counts() || w.read_back_failed) return false;
    return how != state_of::without_power && how != state_of::killed_evicted;
}
/// Whether it may be missing although something behind it is there.
[[nodiscard]] inline bool may_be_missing(one_write const& w, state_of how) noexcept {
    if (w.durable) return w.released;
    bool const medium_decides = how == state_of::killed_evicted || how == state_of::without_power;
    return w.released || w.read_back_failed || (w.at_risk && medium_decides);
}

class judge {
public:
    judge(writes const& all, model::contents const& found, state_of how) : all_{all}, found_{found}, how_{how} {
        for (auto const& w : all_)
            for (auto const& op : w.operations) ++writers_of_[op.key];
    }

    /// What is wrong; empty where nothing is.
    [[nodiscard]] std::string run() {
        for (auto const& w : all_) there_.push_back(is_there(w));
        using rule = std::string (judge::*)();
        for (rule const one : {&judge::batches_are_whole, &judge::owed_are_there, &judge::no_refused, &judge::no_gaps,
                               &judge::values_are_right})
            if (auto trouble = (this->*one)(); !trouble.empty()) return trouble;
        return {};
    }

private:
    [[nodiscard]] bool has(model::operation const& op) const {
        auto const at = found_.find(op.key);
        return op.put ? at != found_.end() && at->second == op.value : at == found_.end();
    }
    [[nodiscard]] bool is_there(one_write const& w) const { return has(w.operations.front()); }
    [[nodiscard]] static std::string named(one_write const& w) {
        return "the write of " + w.own_key() + (w.last_lsn == 0 ? "" : " (LSN " + std::to_string(w.last_lsn) + ")");
    }

    [[nodiscard]] std::string batches_are_whole() {
        for (std::size_t i = 0; i < all_.size(); ++i)
            for (auto const& op : all_[i].operations)
                if (writers_of_[op.key] == 1 && op.put && has(op) != there_[i])
                    return "half a batch is there: " + named(all_[i]) + ", " + op.key;
        return {};
    }
    [[nodiscard]] std::string owed_are_there() {
        for (std::size_t i = 0; i < all_.size(); ++i)
            if (is_owed(all_[i], how_) && !there_[i])
                return std::string{all_[i].durable ? "a durable"
                                   : all_[i].seen  ? "a visible"
                                                   : "an accepted"} +
                       " record is missing: " + named(all_[i]);
        return {};
    }
    [[nodiscard]] std::string no_refused() {
        for (std::size_t i = 0; i < all_.size(); ++i)
            if (there_[i] && (all_[i].now == standing::refused || all_[i].now == standing::not_begun))
                return "a write that was refused is there: " + named(all_[i]);
        return {};
    }
    [[nodiscard]] std::string no_gaps() {
        for (std::size_t b = 0; b < all_.size(); ++b)
            for (std::size_t a = 0; a < all_.size(); ++a) {
                bool const before = all_[a].now == standing::accepted && all_[b].now == standing::accepted &&
                                    all_[a].last_lsn < all_[b].last_lsn;
                if (before && there_[b] && !there_[a] && !may_be_missing(all_[a], how_))
                    return named(all_[a]) + " is missing, but " + named(all_[b]) + " is there";
            }
        return {};
    }

    /// Every key has the value of the newest write of it that is there; where the LSN of one is not known, perhaps that one's.
    [[nodiscard]] std::string values_are_right() {
        std::map<std::string, std::pair<std::uint64_t, std::optional<std::string>>> newest;
        std::map<std::string, std::set<std::optional<std::string>>> also;
        for (std::size_t i = 0; i < all_.size(); ++i) {
            auto const& w = all_[i];
            if (!there_[i]) continue;
            for (auto const& op : w.operations) {
                auto const value = op.put ? std::optional{op.value} : std::nullopt;
                if (w.last_lsn == 0) {
                    also[op.key].insert(value);
                } else if (auto& best = newest[op.key]; best.first <= w.last_lsn) {
                    best = {w.last_lsn, value};
                }
            }
        }
        for (auto const& [key, writers] : writers_of_) {
            auto const at = found_.find(key);
            auto const value = at == found_.end() ? std::nullopt : std::optional{at->second};
            auto const best = newest.find(key);
            bool const right = value == (best == newest.end() ? std::nullopt : best->second.second);
            if (!right && !also[key].contains(value)) return "the key " + key + " has a wrong value, or a value at all";
        }
        for (auto const& [key, value] : found_)
            if (!writers_of_.contains(key)) return "the key " + key + " was never written";
        return {};
    }

    writes const& all_;
    model::contents const& found_;
    state_of how_;
    std::map<std::string, int> writers_of_{};
    std::vector<bool> there_{};
};

/// LSNs are in the order in which writes were answered, and each is taken once; `dense`: none is left out.
[[nodiscard]] inline std::string judge_lsns(writes const& all, bool dense) {
    std::vector<one_write const*> in_order;
    for (auto const& w : all)
        if (w.now == standing::accepted) in_order.push_back(&w);
    std::ranges::sort(in_order, {}, [](auto const* w) { return w->last_lsn; });
    std::uint64_t last = 0;
    for (auto const* w : in_order) {
        if (w->first_lsn() <= last) return "LSN " + std::to_string(w->first_lsn()) + " was taken twice";
        if (dense && w->first_lsn() != last + 1) return "LSN " + std::to_string(last + 1) + " was left out";
        last = w->last_lsn;
    }
    for (auto const* a : in_order)
        for (auto const* b : in_order)
            if (a->answered < b->begun && a->last_lsn > b->last_lsn)
                return "the write of " + b->own_key() + " came later than that of " + a->own_key() +
                       " and has the lower LSN";
    return {};
}

} // namespace schedules

#endif
