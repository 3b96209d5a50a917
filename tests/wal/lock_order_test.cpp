// SPDX-License-Identifier: BSL-1.0
#include <keel/detail/lock_order.hpp>

#include "../support/forked.hpp"

#include <doctest/doctest.h>

#include <thread>

namespace lock_order_test {

using keel::detail::lock_rank, keel::detail::taken_lock;

int one_store = 0, other_store = 0;

TEST_CASE("lock order: a mutex that is taken in the wrong order is an assertion, as far as it is of the same store") {
    {
        taken_lock const compaction{lock_rank::compaction, &one_store};
        taken_lock const writer{lock_rank::writer, &one_store};
        taken_lock const again{lock_rank::compaction, &other_store};
        taken_lock const pool{lock_rank::segment_pool, &one_store};
        std::jthread{[] { taken_lock const elsewhere{lock_rank::compaction, &one_store}; }}.join();
    }
    taken_lock const first{lock_rank::retention, &one_store}; // those above are let go of
#ifndef NDEBUG
    auto const ending = [](lock_rank held, lock_rank taken) {
        return keel::test::ending_of_child([=] {
            taken_lock const outer{held, &other_store};
            taken_lock const inner{taken, &other_store};
        });
    };
    CHECK(ending(lock_rank::writer, lock_rank::segment_pool).empty());
    CHECK(ending(lock_rank::segment_pool, lock_rank::writer).starts_with("signal"));
    CHECK(ending(lock_rank::writer, lock_rank::writer).starts_with("signal"));
    CHECK(ending(lock_rank::retention, lock_rank::compaction).starts_with("signal"));
#endif
}

} // namespace lock_order_test
