// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_PREFIX_SORT_HPP
#define KEEL_DETAIL_PREFIX_SORT_HPP

// Sorts by an eight-byte number in linear time: a radix sort by bytes, the lowest byte first. It skips bytes that are the same in all
// items. It calls a comparison only if two numbers are equal, which is rare for prefixes of keys.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// Sorts by the member `prefix`, and items with the same prefix by `less`. Memory: as much again as the items have.
template <class Item, class Less>
void sort_by_prefix(std::vector<Item>& items, Less const& less) {
    constexpr std::size_t few = 64; // for so few items, a radix sort's tables cost more than comparisons
    auto const in_order = [&](Item const& a, Item const& b) {
        return a.prefix != b.prefix ? a.prefix < b.prefix : less(a, b);
    };
    if (items.size() < few) {
        std::ranges::sort(items, in_order);
        return;
    }
    std::array<std::array<std::size_t, 256>, 8> counts{};
    for (auto const& i : items)
        for (std::size_t byte = 0; byte < 8; ++byte) ++counts[byte][i.prefix >> (8 * byte) & 0xFF];
    std::vector<Item> other(items.size());
    for (std::size_t byte = 0; byte < 8; ++byte) {
        auto& places = counts[byte];
        if (places[items.front().prefix >> (8 * byte) & 0xFF] == items.size()) continue;
        std::size_t before = 0;
        for (auto& p : places) before += std::exchange(p, before);
        for (auto const& i : items) other[places[i.prefix >> (8 * byte) & 0xFF]++] = i;
        items.swap(other);
    }
    for (auto begin = items.begin(); begin != items.end();) {
        auto const end = std::find_if(begin + 1, items.end(), [&](Item const& i) { return i.prefix != begin->prefix; });
        if (end - begin > 1) std::sort(begin, end, less);
        begin = end;
    }
}

} // namespace keel::inline v0::detail

#endif
