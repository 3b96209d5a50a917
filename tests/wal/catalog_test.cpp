// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/catalog.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace catalog_test {

namespace {

using namespace keel;
using wal::catalog;
using wal::catalog_part;

catalog_part a_part(std::uint64_t id, std::vector<lsn_range> counted, bool open = false) {
    return {.id = {id}, .place = {id}, .begin = 512, .limit = 4096, .open = open, .counted = std::move(counted)};
}

/// The same answers, found by looking through all of it.
struct expected_parts {
    struct part {
        std::uint64_t id;
        std::vector<lsn_range> counted;
    };
    std::vector<part> parts{};

    [[nodiscard]] std::uint64_t find(lsn at) const {
        for (auto p = parts.rbegin(); p != parts.rend(); ++p)
            for (auto const& r : p->counted)
                if (r.contains(at)) return p->id;
        return 0;
    }
    [[nodiscard]] lsn next(lsn at) const {
        lsn best{};
        for (auto const& p : parts)
            for (auto const& r : p.counted)
                if (!r.empty() && r.last >= at && (!best || std::max(r.first, at) < best)) best = std::max(r.first, at);
        return best;
    }
    void forget_behind(std::uint64_t id, lsn last) {
        for (auto& p : parts)
            if (p.id == id)
                for (auto& r : p.counted) r.last = std::min(r.last, last);
    }
};

void trim_part(catalog& all, segment_id id, lsn last) {
    catalog::update one{all};
    one.trim(id, last);
    one.commit();
}
void close_part(catalog& all, lsn last, format::segment_link const& link) {
    catalog::update one{all};
    one.close(last, link);
    one.commit();
}

void same_answers(catalog const& all, expected_parts const& expected, std::uint64_t up_to) {
    for (lsn at{1}; at.value <= up_to; at = at.next()) {
        auto const found = all.find(at);
        RC_ASSERT((found ? found->id.value : 0) == expected.find(at));
        RC_ASSERT(all.next_counted(at) == expected.next(at));
    }
}

} // namespace

TEST_CASE(
    "catalog: whatever is added, cut short and given up, each LSN is found where a look through all parts finds it") {
    CHECK(rc::check("parts in order, the newest open", [] {
        catalog all;
        expected_parts expected;
        std::uint64_t at = 1;
        for (std::uint64_t id = 1; id <= *rc::gen::inRange<std::uint64_t>(1, 6); ++id) {
            std::vector<lsn_range> counted;
            for (auto n = *rc::gen::inRange(0, 4); n > 0; --n) {
                at += *rc::gen::inRange<std::uint64_t>(0, 3); // declared losses lie between
                auto const last = at + *rc::gen::inRange<std::uint64_t>(0, 5);
                counted.push_back({{at}, {last}});
                at = last + 1;
            }
            all.add(a_part(id, counted));
            expected.parts.push_back({id, counted});
        }
        same_answers(all, expected, at + 5);
        // A fresh segment takes over from an LSN on; what it takes over is cut from those before it.
        auto const from = *rc::gen::inRange<std::uint64_t>(1, at + 1);
        all.add(a_part(100, {{{from}, lsn_max}}, true));
        expected.parts.push_back({100, {{{from}, lsn_max}}});
        same_answers(all, expected, at + 5);
        for (auto const& p : expected.parts)
            if (p.id != 100) {
                trim_part(all, {p.id}, {from - 1});
                expected.forget_behind(p.id, {from - 1});
            }
        same_answers(all, expected, at + 5);
        auto const last = from + *rc::gen::inRange<std::uint64_t>(0, 6);
        close_part(all, {last}, {.id = {100}, .last = {last}, .end = 2000, .ended = format::segment_end::rolled});
        expected.forget_behind(100, {last});
        same_answers(all, expected, at + 10);
        while (!expected.parts.empty()) {
            all.retire({expected.parts.front().id});
            expected.parts.erase(expected.parts.begin());
            same_answers(all, expected, at + 10);
        }
        RC_ASSERT(all.all().empty());
    }));
}

TEST_CASE("catalog: a part that is closed says how it ended, and who has it sees it as it was") {
    catalog all;
    all.add(a_part(1, {{{1}, lsn_max}}, true));
    auto const before = all.find({5});
    close_part(all, {9}, {.id = {1}, .last = {9}, .end = 1000, .ended = format::segment_end::rolled});
    auto const after = all.find({5});
    REQUIRE(after);
    CHECK(before->open);
    CHECK(before->counted.front().last == lsn_max);
    CHECK_FALSE(after->open);
    CHECK(after->sealed);
    CHECK(after->limit == 1000);
    CHECK(after->counted == std::vector<lsn_range>{{{1}, {9}}});
    CHECK(wal::link_of(*after).end == 1000);
    CHECK(all.find({10}) == nullptr);
    CHECK(all.next_counted({10}) == lsn{});
}

TEST_CASE("catalog: a part that was retired is pinned as long as somebody has it") {
    catalog all;
    all.add(a_part(1, {{{1}, {5}}}));
    all.add(a_part(2, {{{6}, {9}}}));
    auto reading = all.find({3});
    auto listed = all.all();
    all.retire({1});
    CHECK(all.find({3}) == nullptr);
    CHECK(all.pinned({1}));
    listed.clear();
    CHECK(all.pinned({1}));
    reading.reset();
    CHECK_FALSE(all.pinned({1}));
    all.retire({1}); // once more does nothing
    all.retire({7});
    CHECK(all.all().size() == 1);
}

TEST_CASE("catalog: what the segment behind a part says, or would say") {
    auto part = a_part(3, {{{4}, {8}}});
    CHECK(wal::link_of(part) ==
          format::segment_link{.id = {3}, .last = {8}, .end = 4096, .ended = format::segment_end::crashed});
    part.link = {.id = {3}, .last = {7}, .end = 900, .ended = format::segment_end::abandoned};
    CHECK(wal::link_of(part) == part.link);
    CHECK_FALSE(wal::link_of(a_part(3, {})).id);
}

TEST_CASE("catalog: an update is seen as a whole once it is committed, and not at all if it is dropped") {
    catalog all;
    all.add(a_part(1, {{{1}, lsn_max}}, true));
    format::segment_link const rolled{.id = {1}, .last = {4}, .end = 1000, .ended = format::segment_end::rolled};
    {
        catalog::update dropped{all};
        dropped.add(a_part(2, {{{5}, lsn_max}}, true));
        dropped.close({4}, rolled);
    }
    CHECK(all.all().size() == 1);
    CHECK(all.find({9})->id == segment_id{1});
    CHECK(all.find({9})->open);
    catalog::update change{all};
    change.close({4}, rolled);
    change.trim({1}, {3}); // of the part that this update changes already
    change.add(a_part(2, {{{5}, lsn_max}}, true));
    change.commit();
    CHECK_FALSE(all.find({2})->open);
    CHECK(all.find({4}) == nullptr);
    CHECK(all.find({9})->id == segment_id{2});
    CHECK(all.next_counted({4}) == lsn{5});
}

TEST_CASE("catalog: a part that was retired meanwhile is not brought back by an update") {
    catalog all;
    all.add(a_part(1, {{{1}, {10}}}));
    catalog::update change{all};
    change.trim({1}, {3});
    all.retire({1});
    change.commit();
    CHECK(all.all().empty());
    CHECK(all.next_counted({1}) == lsn{});
}

TEST_CASE("catalog: a part in the middle of an older one parts it in two") {
    catalog all;
    all.add(a_part(1, {{{1}, {20}}}));
    all.add(a_part(2, {{{5}, {7}}, {{10}, {12}}}));
    expected_parts expected{.parts = {{1, {{{1}, {20}}}}, {2, {{{5}, {7}}, {{10}, {12}}}}}};
    for (lsn at{1}; at.value < 25; at = at.next()) {
        auto const found = all.find(at);
        CHECK((found ? found->id.value : 0) == expected.find(at));
    }
}

} // namespace catalog_test
