// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_LSN_SET_HPP
#define KEEL_WAL_LSN_SET_HPP

// Sets of LSNs as ranges. They tell which LSNs a log holds, which it lost, and which segment has which part.

#include <keel/types.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// A set of LSNs as disjoint ranges in order.
class lsn_set {
public:
    /// Adds the range. Touching and overlapping ranges become one.
    void add(lsn_range r) {
        if (r.empty()) return;
        auto at = ranges_.upper_bound(r.first);
        if (at != ranges_.begin()) {
            auto const before = std::prev(at);
            if (before->second >= r.first.before()) {
                r.first = before->first;
                r.last = std::max(r.last, before->second);
                at = ranges_.erase(before);
            }
        }
        while (at != ranges_.end() && at->first.value - 1 <= r.last.value) {
            r.last = std::max(r.last, at->second);
            at = ranges_.erase(at);
        }
        ranges_.emplace(r.first, r.last);
    }
    [[nodiscard]] bool contains(lsn at) const {
        auto const after = ranges_.upper_bound(at);
        return after != ranges_.begin() && std::prev(after)->second >= at;
    }
    /// The parts of `r` that are not in the set, in order.
    [[nodiscard]] std::vector<lsn_range> gaps_in(lsn_range r) const {
        std::vector<lsn_range> gaps;
        if (r.empty()) return gaps;
        auto next = r.first;
        auto at = ranges_.upper_bound(next);
        if (at != ranges_.begin() && std::prev(at)->second >= next) next = std::prev(at)->second.next();
        for (; at != ranges_.end() && at->first <= r.last; ++at) {
            if (next < at->first) gaps.push_back({next, at->first.before()});
            next = at->second.next();
        }
        if (next <= r.last && next.value != 0) gaps.push_back({next, r.last});
        return gaps;
    }
    [[nodiscard]] bool touches(lsn_range r) const {
        if (r.empty()) return false;
        auto const at = ranges_.upper_bound(r.last);
        return at != ranges_.begin() && std::prev(at)->second >= r.first;
    }
    [[nodiscard]] bool empty() const noexcept { return ranges_.empty(); }
    [[nodiscard]] std::uint64_t count() const noexcept {
        std::uint64_t n = 0;
        for (auto const& [first, last] : ranges_) n += last.value - first.value + 1;
        return n;
    }
    [[nodiscard]] std::vector<lsn_range> ranges() const {
        std::vector<lsn_range> out;
        for (auto const& [first, last] : ranges_) out.push_back({first, last});
        return out;
    }

private:
    std::map<lsn, lsn> ranges_;
};

/// Ranges in LSN order that do not touch each other. They are made once and then queried. A query takes logarithmic time in the number of
/// ranges, plus the time for its results.
class lsn_ranges {
public:
    lsn_ranges() = default;
    explicit lsn_ranges(std::vector<lsn_range> in_order) : ranges_{std::move(in_order)} {
        before_.reserve(ranges_.size() + 1);
        before_.push_back(0);
        for (auto const& r : ranges_) before_.push_back(before_.back() + r.size());
    }
    /// How many LSNs are both in `r` and in the ranges.
    [[nodiscard]] std::uint64_t count_in(lsn_range r) const noexcept {
        return r.empty() ? 0 : count_up_to(r.last) - count_up_to(r.first.before());
    }
    /// The first and the last LSN that are both in `r` and in the ranges. Precondition: there is at least one.
    [[nodiscard]] lsn_range ends_in(lsn_range r) const noexcept {
        auto const first = first_ending_at(r.first);
        auto const last = first_ending_at(r.last);
        bool const inside = last < ranges_.size() && ranges_[last].first <= r.last;
        return {std::max(ranges_[first].first, r.first), inside ? r.last : ranges_[last - 1].last};
    }
    /// Calls visit(range) for each part that `r` and the ranges have in common, in order.
    template <class Visit>
    void each_in(lsn_range r, Visit const& visit) const {
        if (r.empty()) return;
        for (auto i = first_ending_at(r.first); i < ranges_.size() && ranges_[i].first <= r.last; ++i)
            visit(lsn_range{std::max(ranges_[i].first, r.first), std::min(ranges_[i].last, r.last)});
    }
    [[nodiscard]] std::vector<lsn_range> const& all() const noexcept { return ranges_; }

private:
    /// The first range that ends at or after this LSN.
    [[nodiscard]] std::size_t first_ending_at(lsn at) const noexcept {
        return static_cast<std::size_t>(
            std::ranges::lower_bound(ranges_, at, {}, [](lsn_range const& r) { return r.last; }) - ranges_.begin());
    }
    [[nodiscard]] std::uint64_t count_up_to(lsn at) const noexcept {
        auto const i = first_ending_at(at);
        bool const inside = i < ranges_.size() && ranges_[i].first <= at;
        return before_.empty() ? 0 : before_[i] + (inside ? at.value - ranges_[i].first.value + 1 : 0);
    }

    std::vector<lsn_range> ranges_{};
    std::vector<std::uint64_t> before_{}; ///< for each range: the number of LSNs in all ranges before it
};

/// LSNs that count, and the segment whose copy of them is used (an index into inventory::segments).
struct counted_range {
    lsn_range range{};
    std::size_t segment = 0;
};

} // namespace keel::inline v0::wal

#endif
