// SPDX-License-Identifier: BSL-1.0
#include <keel/table/row_cache.hpp>

#include <keel/format/index.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

namespace {

using keel::lsn;
using keel::lsn_max;
using keel::table::row_cache;
using keel::table::version;

bool keep(row_cache& in, std::uint64_t source, std::string const& key, std::string const& value, std::uint64_t at,
          bool erased = false) {
    return in.add(source, keel::format::filter_hash(key),
                  {.key = key, .value = value, .at = lsn{at}, .tombstone = erased});
}
struct kept {
    row_cache::row_buffer text;
    version what{};
};
bool look(row_cache& in, std::uint64_t source, std::string const& key, kept& into, lsn snapshot = lsn_max) {
    return in.find(source, keel::format::filter_hash(key), key, snapshot, into.text, into.what);
}

} // namespace

TEST_CASE("row cache: what was added comes back, to those who may see it, and nothing else does") {
    row_cache rows{1 << 20};
    REQUIRE(rows.enabled());
    kept got;
    CHECK_FALSE(look(rows, 1, "a", got));
    CHECK(keep(rows, 1, "a", "one", 7));
    CHECK_FALSE(keep(rows, 1, "a", "one", 7)); // it is there
    CHECK(keep(rows, 2, "a", "", 9, true));
    REQUIRE(look(rows, 1, "a", got));
    CHECK(got.what.value == "one");
    CHECK(got.what.at == lsn{7});
    CHECK_FALSE(got.what.tombstone);
    CHECK_FALSE(look(rows, 1, "a", got, lsn{6}));
    REQUIRE(look(rows, 2, "a", got, lsn{9}));
    CHECK(got.what.tombstone);
    CHECK(got.what.value.empty());
    CHECK_FALSE(look(rows, 3, "a", got));
    CHECK_FALSE(look(rows, 1, "b", got));
    CHECK(keep(rows, 1, "", "of the empty key", 1));
    REQUIRE(look(rows, 1, "", got));
    CHECK(got.what.value == "of the empty key");
    std::string const most(row_cache::row_bytes_max - 1, 'v');
    CHECK(keep(rows, 1, "k", most, 1));
    REQUIRE(look(rows, 1, "k", got));
    CHECK(got.what.value == most);
    CHECK_FALSE(keep(rows, 1, "k2", most, 1)); // a byte too many
    row_cache none{1000};
    CHECK_FALSE(none.enabled());
    CHECK_FALSE(keep(none, 1, "a", "one", 7));
    CHECK_FALSE(look(none, 1, "a", got));
}

TEST_CASE("row cache: however often it comes round, what it gives is what was added last or before it was let go") {
    CHECK(rc::check([] {
        row_cache rows{std::size_t{64} << *rc::gen::inRange(10, 12)};
        std::map<std::tuple<std::uint64_t, std::string>, std::tuple<std::string, std::uint64_t, bool>> model;
        auto const steps = *rc::gen::inRange(1, 6000);
        auto noise = *rc::gen::arbitrary<std::uint64_t>();
        auto const next = [&](std::uint64_t below) {
            noise = noise * 6364136223846793005U + 1442695040888963407U;
            return (noise >> 33) % below;
        };
        std::size_t found = 0;
        for (int i = 0; i < steps; ++i) {
            auto const source = next(3);
            auto const key = std::string(next(20), 'k') + std::to_string(next(200));
            auto const key_of_model = std::tuple{source, key};
            kept got;
            bool const there = look(rows, source, key, got);
            if (there) {
                ++found;
                auto const& [value, at, erased] = model.at(key_of_model);
                RC_ASSERT(got.what.value == value);
                RC_ASSERT(got.what.at == lsn{at});
                RC_ASSERT(got.what.tombstone == erased);
                continue;
            }
            // Of one source a key has one newest version only; another comes with another source, as tables never change.
            auto& [value, at, erased] = model[key_of_model];
            if (at == 0) {
                value = std::string(next(300), static_cast<char>('a' + next(26)));
                at = 1 + next(1000);
                erased = next(5) == 0;
            }
            RC_ASSERT(keep(rows, source, key, value, at, erased));
            RC_ASSERT(look(rows, source, key, got));
        }
        RC_ASSERT(steps < 3000 || found > 0);
    }));
}

TEST_CASE("row cache: what is asked for often stays while others come and go") {
    row_cache rows{1 << 16};
    std::string const value(100, 'v');
    CHECK(keep(rows, 1, "often", value, 1));
    CHECK(keep(rows, 1, "once", value, 1));
    kept got;
    for (int i = 0; i < 20'000; ++i) {
        CHECK(keep(rows, 1, std::to_string(i), value, 1));
        REQUIRE(look(rows, 1, "often", got));
    }
    CHECK_FALSE(look(rows, 1, "once", got));
    CHECK(look(rows, 1, "19999", got));
    CHECK_FALSE(rows.wants_block(4096));
}

TEST_CASE("row cache: wants whole blocks until it is full, and nothing of the first few look-ups") {
    row_cache rows{1 << 18};
    int passed = 0;
    while (!rows.wants_block(4096)) REQUIRE(++passed < 100);
    CHECK(passed > 0);
    std::string const value(100, 'v');
    int added = 0;
    for (; rows.wants_block(4096); ++added) REQUIRE(keep(rows, 1, std::to_string(added), value, 1));
    CHECK(added > 1000);
    kept got;
    int there = 0;
    for (int i = 0; i < added; ++i) there += look(rows, 1, std::to_string(i), got);
    CHECK(there > added / 10 * 9);
}

TEST_CASE("row cache: takes about what it was given, however small records are, and none before they come") {
    for (std::size_t const bytes : {std::size_t{1} << 16, std::size_t{1} << 20, std::size_t{3} << 20}) {
        row_cache rows{bytes};
        CHECK(rows.bytes() == 0);
        kept got;
        int found = 0;
        for (int i = 0; i < 100'000; ++i) {
            CHECK(keep(rows, 1, std::to_string(i), "", 1));
            found += look(rows, 1, std::to_string(i / 2), got);
        }
        CHECK(rows.bytes() <= bytes + bytes / 8);
        CHECK(rows.bytes() > bytes / 2);
        CHECK(found > 1000);
    }
}

TEST_CASE("row cache: readers beside those who add see whole records only") {
    row_cache rows{1 << 17};
    std::atomic<bool> done{false};
    std::atomic<std::uint64_t> found{0};
    std::atomic<int> wrong{0};
    // A value says which key and source it belongs to.
    auto const value_of = [](std::uint64_t source, std::uint64_t i) {
        std::string out;
        while (out.size() < 20 + i % 200) out += std::to_string(source) + '/' + std::to_string(i) + ' ';
        return out;
    };
    {
        std::vector<std::jthread> readers;
        for (int r = 0; r < 2; ++r)
            readers.emplace_back([&, r] {
                kept got;
                for (std::uint64_t i = static_cast<std::uint64_t>(r); !done.load(std::memory_order_acquire); i += 7) {
                    auto const source = 1 + i % 3;
                    auto const n = i % 1500;
                    rows.prefetch(keel::format::filter_hash(std::to_string(n)));
                    rows.prefetch_row(keel::format::filter_hash(std::to_string(n)));
                    if (!look(rows, source, std::to_string(n), got)) continue;
                    found.fetch_add(1, std::memory_order_relaxed);
                    if (got.what.value != value_of(source, n) || got.what.at != lsn{n + 1}) wrong.fetch_add(1);
                }
            });
        std::vector<std::jthread> writers;
        for (std::uint64_t w = 0; w < 2; ++w)
            writers.emplace_back([&, w] {
                for (std::uint64_t i = w; i < 60'000; ++i) {
                    auto const source = 1 + i % 3;
                    auto const n = i * 31 % 1500;
                    static_cast<void>(keep(rows, source, std::to_string(n), value_of(source, n), n + 1));
                }
            });
        writers.clear();
        while (found.load(std::memory_order_relaxed) == 0) std::this_thread::yield();
        done.store(true, std::memory_order_release);
    }
    CHECK(wrong == 0);
}
