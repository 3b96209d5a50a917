// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/leadership.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

using keel::wal::leadership;

TEST_CASE("leadership: one thread has it, and it is given back by its destructor") {
    std::mutex m;
    leadership lead;
    leadership::lock_type hold{m};
    CHECK_FALSE(lead.is_taken());
    {
        auto first = lead.take(hold);
        CHECK(lead.is_taken());
        auto const moved = std::move(first);
        CHECK(lead.is_taken());
    }
    CHECK_FALSE(lead.is_taken());
}

TEST_CASE("leadership: an exception that passes gives it back, and the mutex is held again") {
    std::mutex m;
    leadership lead;
    leadership::lock_type hold{m};
    auto const fails = [&] {
        auto mine = lead.take(hold);
        mine.without_mutex([&] {
            CHECK_FALSE(hold.owns_lock());
            throw std::runtime_error{"in the middle"};
        });
    };
    CHECK_THROWS(fails());
    CHECK(hold.owns_lock());
    CHECK_FALSE(lead.is_taken());
}

TEST_CASE("leadership: threads that want it take turns, also while its holder is without the mutex") {
    std::mutex m;
    leadership lead;
    int inside = 0;
    int turns = 0;
    bool overlap = false;
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < 200; ++i) {
                leadership::lock_type hold{m};
                auto mine = lead.take(hold);
                overlap = overlap || ++inside != 1;
                mine.without_mutex([] { std::this_thread::yield(); });
                --inside;
                ++turns;
            }
        });
    threads.clear();
    CHECK_FALSE(overlap);
    CHECK(turns == 800);
}
