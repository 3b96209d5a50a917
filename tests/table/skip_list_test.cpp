// SPDX-License-Identifier: BSL-1.0
#include <keel/table/skip_list.hpp>

#include "../support/slow_build.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>

using keel::lsn;
using keel::table::skip_list;

TEST_CASE("skip_list: a key that is there is found at every moment of insertions right in front of it") {
    skip_list list;
    list.insert({.key = "z", .value = "last", .at = {1}, .tombstone = false});
    constexpr int keys = keel::test::sanitized ? 20'000 : 200'000;
    std::atomic<bool> done{false}; // relaxed: only says when to stop
    std::uint64_t looked = 0;
    std::uint64_t missed = 0;
    std::thread reader{[&] {
        while (!done.load(std::memory_order_relaxed)) {
            auto const* const n = list.lower_bound("z", {1});
            missed += n == nullptr || n->key() != "z";
            ++looked;
        }
    }};
    for (int i = 0; i < keys; ++i) {
        char key[16];
        std::snprintf(key, sizeof key, "k%08d", i);
        list.insert({.key = key, .value = "v", .at = {static_cast<std::uint64_t>(i) + 2}, .tombstone = false});
    }
    done.store(true, std::memory_order_relaxed);
    reader.join();
    CHECK(looked > 0);
    CHECK(missed == 0);
}
