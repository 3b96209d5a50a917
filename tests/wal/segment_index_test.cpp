// SPDX-License-Identifier: BSL-1.0
#include <keel/detail/prefix_sort.hpp>
#include <keel/wal/segment_index.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <string>
#include <vector>

// The sorted index of a segment: by key, the newest version first, whatever the keys look like and however many there are.

TEST_CASE("wal: an index is in the order of keys and LSNs") {
    CHECK(rc::check("any keys", [] {
        auto const count = *rc::gen::element(0, 1, 5, 63, 64, 65, 400);
        auto const shared = *rc::gen::element<std::string>("", "user/", "twelve bytes");
        // Few different bytes, so that many keys share their first eight and some are the same.
        auto const tail = rc::gen::container<std::string>(rc::gen::element('a', 'b', '\0', '\xff'));
        std::vector<std::string> keys;
        keel::wal::index_builder builder;
        for (int i = 0; i < count; ++i) {
            keys.push_back(shared + "k" + *tail);
            builder.add(keys.back(), static_cast<std::uint64_t>(i) * 8, static_cast<std::uint32_t>(i + 1));
        }
        auto const index = builder.sorted();
        RC_ASSERT(index.entries.size() == keys.size());
        std::vector<std::size_t> order(keys.size());
        for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::ranges::sort(order,
                          [&](std::size_t a, std::size_t b) { return keys[a] != keys[b] ? keys[a] < keys[b] : a > b; });
        for (std::size_t i = 0; i < order.size(); ++i) {
            RC_ASSERT(keys[order[i]].starts_with(index.common));
            RC_ASSERT(index.entries[i].lsn_delta == order[i] + 1);
            RC_ASSERT(index.entries[i].offset == order[i] * 8);
            RC_ASSERT(index.entries[i].prefix == keel::format::key_prefix(keys[order[i]], index.common.size()));
        }
    }));
}

TEST_CASE("detail: sorting by a number asks for a comparison only where two are the same") {
    struct item {
        std::uint64_t prefix;
        std::size_t place;
    };
    CHECK(rc::check("any numbers", [] {
        auto const count = *rc::gen::element<std::size_t>(0, 2, 63, 64, 1000);
        auto const mask = *rc::gen::element<std::uint64_t>(~0ULL, 0xFF, 0xFF00FF0000000000, 0);
        std::vector<item> items;
        for (std::size_t i = 0; i < count; ++i) items.push_back({*rc::gen::arbitrary<std::uint64_t>() & mask, i});
        auto expected = items;
        std::ranges::stable_sort(expected, {}, &item::prefix);
        keel::detail::sort_by_prefix(items, [](item const& a, item const& b) {
            RC_ASSERT(a.prefix == b.prefix);
            return a.place < b.place;
        });
        for (std::size_t i = 0; i < count; ++i) RC_ASSERT(items[i].place == expected[i].place);
    }));
}
