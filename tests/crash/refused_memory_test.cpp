// SPDX-License-Identifier: BSL-1.0
#include "../support/refused_memory.hpp"

#include "../support/forked.hpp"
#include "../support/turns.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace limited = keel::test::refused_memory;
namespace turns = keel::test::turns;

struct alignas(64) wide {
    char bytes[64];
};

/// Whether each of the next `count` allocations of `make` was refused: 'x', or given: '.'.
template <class Make>
std::string answers(std::uint64_t at, std::uint64_t count, int tries, Make const& make) {
    std::string seen;
    limited::plan(at, count);
    for (int i = 0; i < tries; ++i) {
        bool given = true;
        try {
            limited::counted const now;
            given = make();
        } catch (std::bad_alloc const&) {
            given = false;
        }
        limited::begin_uncounted();
        seen += given ? '.' : 'x';
        limited::end_uncounted();
    }
    limited::no_plan();
    return seen;
}
/// Kept from being left out.
template <class T>
bool use(T* made) {
    auto* volatile const kept = made;
    bool const there = kept != nullptr;
    delete kept;
    return there;
}

} // namespace

TEST_CASE("refused memory: the planned allocations say no, in every form of new") {
    CHECK(answers(2, 1, 4, [] { return use(new int{}); }) == ".x..");
    CHECK(answers(2, 2, 4, [] { return use(new (std::nothrow) int{}); }) == ".xx.");
    CHECK(answers(3, ~std::uint64_t{0}, 4, [] { return use(new wide); }) == "..xx");
    CHECK(answers(1, 1, 2, [] { return use(new (std::nothrow) wide); }) == "x.");
    CHECK(answers(1, 1, 2, [] {
              std::vector<char> const many(100);
              return many.size() == 100;
          }) == "x.");
    CHECK(answers(0, 1, 2, [] { return use(new int{}); }) == "..");
}

TEST_CASE("refused memory: only what is counted is refused") {
    limited::plan(1, ~std::uint64_t{0});
    CHECK(std::make_unique<int>(1) != nullptr);
    {
        limited::counted const now;
        limited::begin_uncounted();
        auto const text = std::string(100, 'x');
        limited::end_uncounted();
    }
    CHECK(limited::asked() == 0);
    limited::no_plan();
    // What a run's threads start is counted without being told.
    std::uint64_t asked = 0;
    auto const seen = turns::run({{"starts one",
                                   [&] {
                                       limited::plan(0, 0);
                                       std::thread{[] { static_cast<void>(std::string(100, 'x')); }}.join();
                                       asked = limited::asked();
                                       limited::no_plan();
                                   }}},
                                 {});
    CHECK(seen.how == turns::ending::finished);
    CHECK(asked == 1);
}

TEST_CASE("a child process: how it ends is told, and what it wrote into shared memory stays") {
    keel::test::shared_with_children<int> number;
    CHECK(keel::test::ending_of_child([&] { *number = 7; }).empty());
    CHECK(*number == 7);
    CHECK(keel::test::ending_of_child([] { std::abort(); }).starts_with("signal "));
    CHECK(keel::test::ending_of_child([] { ::_exit(3); }) == "exit code 3");
    CHECK(keel::test::ending_of_child([] { throw std::bad_alloc{}; }).starts_with("signal "));
}
