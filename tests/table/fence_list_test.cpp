// SPDX-License-Identifier: BSL-1.0
#include <keel/table/fence_list.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

// The index of a table in memory: a search in it is a search among the keys, whatever they share.

namespace {

std::vector<std::string> fence_keys() {
    auto const begin = *rc::gen::element<std::string>("", "u", "user/", std::string("\xff\0", 2), std::string(40, 's'));
    auto all = *rc::gen::container<std::vector<std::string>>(rc::gen::container<std::string>(
        rc::gen::element<char>('\0', 'a', 'b', '\x7f', static_cast<char>(0x80), static_cast<char>(0xFF))));
    for (auto& k : all) k.insert(0, begin);
    return all;
}
keel::table::fence_list fences_of(std::vector<std::string> const& keys) {
    keel::table::fence_list out;
    for (std::uint32_t i = 0; i < keys.size(); ++i) out.add(keys[i], {i * 8, 8});
    out.finish();
    return out;
}

} // namespace

TEST_CASE("fences: the first block that may have a key is the one that a search among all keys finds") {
    CHECK(rc::check([] {
        auto keys = fence_keys();
        std::ranges::sort(keys);
        auto const fences = fences_of(keys);
        RC_ASSERT(fences.size() == keys.size());
        RC_ASSERT(fences.in_order());
        for (std::size_t i = 0; i < keys.size(); ++i) {
            RC_ASSERT(fences.key(i) == keys[i]);
            RC_ASSERT(fences.where(i).offset == i * 8);
        }
        auto others = fence_keys();
        others.insert(others.end(), keys.begin(), keys.end());
        others.insert(others.end(), {"", "t", "user", "user/\x01", "zz"});
        for (auto const& k : others)
            RC_ASSERT(fences.first_not_less(k) ==
                      static_cast<std::size_t>(std::ranges::lower_bound(keys, k) - keys.begin()));
    }));
}

TEST_CASE("fences: keys in any order are told, and a search among them stays inside") {
    CHECK(rc::check([] {
        auto const keys = fence_keys();
        auto const fences = fences_of(keys);
        RC_ASSERT(fences.in_order() == std::ranges::is_sorted(keys));
        for (auto const& k : fence_keys()) RC_ASSERT(fences.first_not_less(k) <= keys.size());
    }));
}
