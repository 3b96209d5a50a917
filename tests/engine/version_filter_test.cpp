// SPDX-License-Identifier: BSL-1.0
#include <keel/engine/version_filter.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <set>
#include <vector>

namespace {

using keel::lsn;
using keel::detail::version_filter;

std::vector<lsn> lsns(std::vector<std::uint64_t> const& values) {
    std::vector<lsn> out;
    for (auto const v : values) out.push_back({v});
    return out;
}
/// The versions of one key that are kept, given the newest first.
std::vector<std::uint64_t> kept(version_filter& seen, std::vector<std::uint64_t> const& versions) {
    std::vector<std::uint64_t> out;
    seen.begin_key();
    for (auto const v : versions)
        if (!seen.hides({v})) out.push_back(v);
    return out;
}

} // namespace

TEST_CASE("version filter: of each key stays what a moment sees, and what is newer than all of them") {
    version_filter seen{lsns({10, 20, 40})};
    using list = std::vector<std::uint64_t>;
    CHECK(kept(seen, {}) == list{});
    CHECK(kept(seen, {7}) == list{7});
    CHECK(kept(seen, {40, 39, 21, 20, 15, 11, 10, 9}) == list{40, 20, 10});
    CHECK(kept(seen, {38, 30, 9, 8}) == list{38, 9});
    CHECK(kept(seen, {10, 9}) == list{10});
    CHECK(kept(seen, {60, 50, 41, 39, 38}) == list{60, 50, 41, 39}); // snapshots behind the last one may come
    CHECK(seen.hides_all_behind({10}));
    CHECK(!seen.hides_all_behind({11}));
}

TEST_CASE("version filter: keeps exactly what snapshots see, whatever they are") {
    CHECK(rc::check([] {
        auto const number = rc::gen::inRange<std::uint64_t>(1, 40);
        auto const some = [&] { // a set is not generated: of so few numbers there may not be as many as it wants
            auto const list = *rc::gen::container<std::vector<std::uint64_t>>(number);
            return std::set<std::uint64_t>(list.begin(), list.end());
        };
        auto snapshots = some();
        snapshots.insert(*number);
        version_filter seen{lsns({snapshots.begin(), snapshots.end()})};
        for (int keys = 0; keys < 3; ++keys) {
            auto const versions = some();
            std::set<std::uint64_t> wanted;
            for (auto const v : versions)
                if (v > *snapshots.rbegin()) wanted.insert(v);
            for (std::uint64_t m = 1; m <= 40; ++m) {
                if (!snapshots.contains(m) && m < *snapshots.rbegin()) continue;
                auto const behind = versions.upper_bound(m);
                if (behind != versions.begin()) wanted.insert(*std::prev(behind));
            }
            RC_ASSERT(kept(seen, {versions.rbegin(), versions.rend()}) ==
                      std::vector<std::uint64_t>(wanted.rbegin(), wanted.rend()));
        }
    }));
}
