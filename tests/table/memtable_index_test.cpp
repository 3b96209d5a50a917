// SPDX-License-Identifier: BSL-1.0
#include <keel/table/memtable_index.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using keel::lsn;
using keel::table::memtable_index;

namespace {

using places = std::vector<std::pair<std::string, std::uint64_t>>; ///< keys and LSNs

/// Every version.
places walk(memtable_index const& index) {
    places seen;
    memtable_index::cursor at{index, keel::lsn_max, keel::table::versions::all};
    for (at.seek(""); at.valid(); at.next()) seen.emplace_back(at.current().key, at.current().at.value);
    return seen;
}
/// What a snapshot sees.
places walk(memtable_index const& index, lsn snapshot, bool forward) {
    places seen;
    memtable_index::cursor at{index, snapshot};
    if (forward) at.seek("");
    else at.seek_last();
    while (at.valid()) {
        seen.emplace_back(at.current().key, at.current().at.value);
        if (forward) at.next();
        else at.previous();
    }
    return seen;
}

memtable_index::node const* find(memtable_index const& in, std::string const& key, lsn snapshot) {
    return in.find(key, keel::format::filter_hash(key), snapshot);
}

void insert(memtable_index& into, keel::table::version const& v) {
    into.stage(v.key, v.value, v.tombstone);
    into.publish(v.at, 1);
}

} // namespace

TEST_CASE("record index: look-ups and walks agree with a map, whatever was walked in between") {
    CHECK(rc::check("agrees", [] {
        memtable_index index;
        std::map<std::pair<std::string, std::int64_t>, std::string> all; // the newest first
        auto const steps = *rc::gen::inRange(1, 400);
        for (int i = 1; i <= steps; ++i) {
            auto const n = *rc::gen::inRange(0, 120);
            auto const key = (n % 3 == 0 ? "the same sixteen bytes, then " : "") + std::to_string(n % 40);
            auto const value = std::to_string(i);
            insert(index, {.key = key, .value = value, .at = lsn{static_cast<std::uint64_t>(i)}, .tombstone = n == 7});
            all[{key, -i}] = value;
            if (*rc::gen::inRange(0, 20) != 0) continue;
            auto const snapshot = *rc::gen::inRange(0, i + 2);
            auto const* const found = find(index, key, lsn{static_cast<std::uint64_t>(snapshot)});
            auto const expected = all.lower_bound({key, -snapshot});
            bool const there = expected != all.end() && expected->first.first == key;
            RC_ASSERT((found != nullptr) == there);
            if (there) RC_ASSERT(found->view().value == expected->second);
            memtable_index::cursor at{index};
            at.seek(key);
            auto const behind = all.lower_bound({key, INT64_MIN});
            RC_ASSERT(at.valid() == (behind != all.end()));
            if (at.valid()) RC_ASSERT(at.current().key == behind->first.first);
            at.seek_before(key);
            RC_ASSERT(at.valid() == (behind != all.begin()));
            if (at.valid()) RC_ASSERT(at.current().key == std::prev(behind)->first.first);
        }
        places expected;
        places seen;
        auto const snapshot = static_cast<std::uint64_t>(*rc::gen::inRange(0, steps + 2));
        for (auto const& [place, value] : all) {
            auto const at = static_cast<std::uint64_t>(-place.second);
            expected.emplace_back(place.first, at);
            if (at <= snapshot && (seen.empty() || seen.back().first != place.first)) seen.push_back(expected.back());
        }
        RC_ASSERT(walk(index) == expected);
        RC_ASSERT(walk(index, lsn{snapshot}, true) == seen);
        std::reverse(seen.begin(), seen.end());
        RC_ASSERT(walk(index, lsn{snapshot}, false) == seen);
        RC_ASSERT(find(index, "never", keel::lsn_max) == nullptr);
    }));
}

TEST_CASE("record index: what was inserted is found by threads that look while more is inserted, and walked in order") {
    memtable_index index;
    std::atomic<std::uint64_t> done{0};
    constexpr std::uint64_t all = 20'000;
    auto const key = [](std::uint64_t i) { return "key" + std::to_string(i * 7919 % all); };
    std::atomic<std::uint64_t> missed{0};
    std::vector<std::jthread> readers;
    for (int t = 0; t < 2; ++t)
        readers.emplace_back([&](std::stop_token stop) {
            for (std::uint64_t n = 1; !stop.stop_requested(); ++n) {
                auto const upto = done.load(std::memory_order_acquire);
                if (upto == 0) continue;
                auto const i = n * 104729 % upto;
                auto const* const found = find(index, key(i), keel::lsn_max);
                if (found == nullptr || found->at.value != i + 1) ++missed;
                if (n % 500 != 0) continue;
                memtable_index::cursor at{index};
                std::uint64_t seen = 0;
                std::string before;
                for (at.seek(""); at.valid(); at.next(), ++seen) {
                    if (at.current().key < before) ++missed;
                    before = at.current().key;
                }
                if (seen < upto) ++missed;
            }
        });
    for (std::uint64_t i = 0; i < all; ++i) {
        insert(index, {.key = key(i), .value = "v", .at = lsn{i + 1}});
        done.store(i + 1, std::memory_order_release);
    }
    readers.clear();
    CHECK(missed == 0);
}

TEST_CASE("record index: a walk takes one step a key, however often each was written and whatever was walked before") {
    memtable_index index;
    constexpr std::uint64_t keys = 50;
    constexpr std::uint64_t turns = 200;
    std::uint64_t written = 0;
    for (std::uint64_t turn = 0; turn < turns; ++turn) {
        for (std::uint64_t k = 0; k < keys; ++k)
            insert(index, {.key = std::to_string(1000 + k), .value = "v", .at = lsn{++written}});
        if (turn % 50 == 0) static_cast<void>(walk(index));
    }
    for (bool const forward : {true, false}) {
        CHECK(walk(index, keel::lsn_max, forward).size() == keys);
        CHECK(walk(index, lsn{keys * 7 + 3}, forward).size() == keys);
        CHECK(walk(index, lsn{3}, forward).size() == 3);
        CHECK(walk(index, lsn{}, forward).empty());
    }
    CHECK(walk(index).size() == keys * turns);
    memtable_index::cursor at{index, keel::lsn_max, keel::table::versions::all};
    std::uint64_t passed = 0;
    for (at.seek(""); at.valid(); at.pass()) ++passed;
    CHECK(passed == keys);
}

TEST_CASE("record index: a walk sees what its snapshot sees, while newer versions of the same keys are published") {
    memtable_index index;
    constexpr std::uint64_t keys = 300;
    std::atomic<std::uint64_t> visible{0};
    std::atomic<std::uint64_t> wrong{0};
    auto const key = [](std::uint64_t k) { return std::to_string(1000 + k); };
    auto const look = [&](bool forward) {
        auto const snapshot = visible.load(std::memory_order_acquire);
        memtable_index::cursor at{index, lsn{snapshot}};
        std::uint64_t seen = 0;
        for (forward ? at.seek("") : at.seek_last(); at.valid(); forward ? at.next() : at.previous(), ++seen) {
            auto const v = at.current();
            // Keys are written in turn, so the newest version of each is less than a turn old.
            auto const k = forward ? seen : std::min(keys, snapshot) - 1 - seen;
            bool const is_newest = v.at.value <= snapshot && snapshot - v.at.value < keys;
            if (!is_newest || v.key != key(k) || v.value != std::to_string(v.at.value)) ++wrong;
        }
        if (seen != std::min(keys, snapshot)) ++wrong;
    };
    std::vector<std::jthread> readers;
    for (int t = 0; t < 2; ++t)
        readers.emplace_back([&, t](std::stop_token const& stop) {
            while (!stop.stop_requested()) look(t == 0);
        });
    for (std::uint64_t i = 1; i <= 100'000; ++i) {
        auto const text = std::to_string(i);
        insert(index, {.key = key((i - 1) % keys), .value = text, .at = lsn{i}});
        visible.store(i, std::memory_order_release);
    }
    readers.clear();
    CHECK(wrong == 0);
}

TEST_CASE("record index: what is staged is seen once it is published, and never if it is unstaged") {
    memtable_index index;
    index.stage("a", "1", false);
    index.stage("b", "2", false);
    CHECK(index.empty());
    CHECK(find(index, "a", keel::lsn_max) == nullptr);
    CHECK(walk(index).empty());
    index.publish(lsn{1}, 1);
    CHECK(find(index, "a", keel::lsn_max)->at == lsn{1});
    CHECK(find(index, "b", keel::lsn_max) == nullptr);
    index.stage("c", "3", false);
    index.stage("d", "4", true);
    index.unstage(2);
    CHECK(index.staged() == 2);
    index.stage("e", "5", false);
    index.publish(lsn{2}, 3);
    CHECK(index.staged() == 0);
    CHECK(walk(index) == places{{"a", 1}, {"b", 2}, {"c", 3}, {"e", 4}});
    index.stage("f", "6", false);
    index.unstage(0);
    index.stage("a", "7", false);
    index.publish(lsn{5}, 1);
    CHECK(find(index, "f", keel::lsn_max) == nullptr);
    CHECK(find(index, "a", lsn{4})->view().value == "1");
    CHECK(find(index, "a", lsn{5})->view().value == "7");
}

TEST_CASE("record index: memory goes from one index to the next, and nothing of what was in it") {
    auto const pages = std::make_shared<keel::io::large_page_pool>();
    constexpr std::uint64_t count = 60'000; // some pages of two megabytes, and a hash table of that size
    std::string const filler(100, 'v');
    auto const key_of = [](int turn, std::uint64_t i) { return std::to_string(turn) + '.' + std::to_string(i); };
    auto const fill = [&](memtable_index& index, int turn) {
        for (std::uint64_t i = 1; i <= count; ++i)
            insert(index, {.key = key_of(turn, i), .value = filler + std::to_string(turn), .at = lsn{i}});
    };
    auto const check = [&](memtable_index const& index, int turn) {
        for (std::uint64_t i = 1; i <= count; ++i) {
            auto const* const found = find(index, key_of(turn, i), lsn{count});
            if (found == nullptr || found->view().value != filler + std::to_string(turn)) return false;
            if (find(index, key_of(turn - 1, i), lsn{count}) != nullptr) return false;
        }
        return true;
    };
    auto first = std::make_unique<memtable_index>(pages);
    fill(*first, 1);
    CHECK(check(*first, 1));
    for (int turn = 2; turn < 5; ++turn) { // the older one goes while the newer one is filled
        auto next = std::make_unique<memtable_index>(pages);
        std::jthread const gone{[old = std::move(first)]() mutable { old.reset(); }};
        fill(*next, turn);
        CHECK(check(*next, turn));
        first = std::move(next);
    }
    first.reset();
    auto* const page = pages->take();
    REQUIRE(page != nullptr);
    CHECK(pages->keep(page));
}
