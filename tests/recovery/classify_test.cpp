// SPDX-License-Identifier: BSL-1.0
// The decision table of recovery/classify.hpp, row by row, on inventories and runs made by hand: no file, no disk.
#include <keel/recovery/classify.hpp>

#include "support/log_scene.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace keel;
using namespace keel::recovery;
using keel::test::scene;
using ranges = std::vector<lsn_range>;

ranges counted(verdict const& v) {
    ranges out;
    for (auto const& c : v.counted) out.push_back(c.range);
    return out;
}
std::vector<damage> kinds(verdict const& v) {
    std::vector<damage> out;
    for (auto const& f : v.findings) out.push_back(f.kind);
    return out;
}
using found = std::vector<damage>;

} // namespace

TEST_CASE("lsn_set: agrees with a set of numbers on every question") {
    CHECK(rc::check("adding ranges in any order", [] {
        lsn_set set;
        std::set<std::uint64_t> model;
        auto const any_range = [] {
            auto const first = *rc::gen::inRange<std::uint64_t>(1, 60);
            return lsn_range{{first}, {first + *rc::gen::inRange<std::uint64_t>(0, 8) - 1}};
        };
        for (auto n = *rc::gen::inRange(0, 20); n > 0; --n) {
            auto const r = any_range();
            set.add(r);
            for (auto x = r.first.value; x <= r.last.value; ++x) model.insert(x);
        }
        RC_ASSERT(set.count() == model.size());
        RC_ASSERT(set.empty() == model.empty());
        for (std::uint64_t x = 0; x < 80; ++x) RC_ASSERT(set.contains({x}) == model.contains(x));
        lsn before{};
        for (auto const& r : set.ranges()) { // disjoint, in order, and none touches the next
            RC_ASSERT(!r.empty());
            RC_ASSERT(before.value == 0 || r.first.value > before.value + 1);
            before = r.last;
        }
        auto const r = any_range();
        std::set<std::uint64_t> missing;
        bool touches = false;
        for (auto x = r.first.value; x <= r.last.value; ++x)
            if (model.contains(x)) touches = true;
            else missing.insert(x);
        RC_ASSERT(set.touches(r) == touches);
        std::set<std::uint64_t> gaps;
        for (auto const& g : set.gaps_in(r))
            for (auto x = g.first.value; x <= g.last.value; ++x) gaps.insert(x);
        RC_ASSERT(gaps == missing);
    }));
}

TEST_CASE("P17: lsn_set stays a set at the end of the numbers") {
    lsn_set set;
    set.add({{5}, lsn_max});
    set.add({{7}, {8}});
    CHECK(set.ranges() == ranges{{{5}, lsn_max}});
    set.add({{1}, {4}});
    CHECK(set.ranges() == ranges{{{1}, lsn_max}});
    CHECK(set.gaps_in({{1}, lsn_max}).empty());
    CHECK(set.contains(lsn_max));
    lsn_set last;
    last.add({lsn_max, lsn_max});
    last.add({lsn_max, lsn_max});
    CHECK(last.count() == 1);
    CHECK(last.gaps_in({{lsn_max.value - 1}, lsn_max}) == ranges{{{lsn_max.value - 1}, {lsn_max.value - 1}}});
}

TEST_CASE("a whole log counts from end to end") {
    scene s;
    s.segment(1, 1).has(1, 10).mark(9).sealed();
    s.segment(2, 11).has(11, 20).mark(19).follows(1, format::segment_end::rolled);
    auto const v = s.judge();
    CHECK(v.findings.empty());
    CHECK(v.end == lsn{20});
    CHECK(v.horizon == lsn{19});
    CHECK(v.lost.empty());
    CHECK(counted(v) == ranges{{{1}, {10}}, {{11}, {20}}});
    CHECK(v.torn_tail_bytes == 0);
}

TEST_CASE("table row 1: bytes that cost an LSN at or below the horizon are a corrupt_record") {
    scene s;
    s.segment(1, 1)
        .has(1, 4)
        .bad({.lsns = {{5}, {5}}, .after = {4}, .exact = true, .expected = 1, .found = 2})
        .has(6, 10)
        .mark(8);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::corrupt_record});
    CHECK(v.findings[0].lsns == lsn_range{{5}, {5}});
    CHECK(v.findings[0].lost == 1);
    CHECK(v.findings[0].expected == 1);
    CHECK(v.findings[0].found == 2);
    CHECK(v.findings[0].file == "log/0000000000000001.seg");
    CHECK(v.findings[0].offset == 912);
    CHECK(v.lost == ranges{{{5}, {5}}});
    CHECK(counted(v) == ranges{{{1}, {4}}, {{6}, {10}}});
    CHECK(v.end == lsn{10});
    CHECK(v.damaged_segments == std::vector<std::size_t>{0});
}

TEST_CASE("table row 1: an unknown gap is explained by the bytes in it, up to its neighbours") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, {7}}, .after = {4}}).has(8, 10).mark(9);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::corrupt_record});
    CHECK(v.findings[0].lost == 3);
    CHECK(v.lost == ranges{{{5}, {7}}});
}

TEST_CASE("table row 2: bytes behind the end of the log are one torn tail, whatever stands behind them") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, {5}}, .after = {4}, .exact = true}).has(6, 10).mark(4);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::torn_tail});
    CHECK(v.findings[0].done == outcome::cut);
    CHECK_FALSE(v.findings[0].is_corruption());
    CHECK(v.findings[0].offset == 912);
    CHECK(v.torn_tail_bytes == 600);
    CHECK(v.behind_cut == 5);
    CHECK(v.end == lsn{4});
    CHECK(v.highest_seen == lsn{10});
    CHECK(v.lost.empty());
}

TEST_CASE("table row 2: bytes at the open end above the horizon are a torn tail") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, lsn_max}, .after = {4}}).mark(3);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::torn_tail});
    CHECK(v.end == lsn{4});
}

TEST_CASE("table row 3: a record that is whole in another segment is a healed damaged_copy") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, {5}}, .after = {4}, .exact = true}).has(6, 8);
    s.segment(2, 5).has(5, 10).mark(9).follows(1, format::segment_end::abandoned, 2000);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::damaged_copy});
    CHECK(v.findings[0].done == outcome::healed);
    CHECK(v.healed == 1);
    CHECK(v.lost.empty());
    CHECK(counted(v) == ranges{{{1}, {4}}, {{5}, {10}}});
}

TEST_CASE("table row 4: a damaged mark in front of durable records is damaged_filler and costs nothing") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.after = {4}, .exact = true, .is_data = false}).has(5, 10).mark(9);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::damaged_filler});
    CHECK(v.lost.empty());
    CHECK(v.end == lsn{10});
}

TEST_CASE("table row 4: a damaged record that was declared lost is damaged_filler") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, {5}}, .after = {4}, .exact = true}).has(6, 10).mark(9);
    s.stock.state.losses = {{{5}, {5}}};
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::damaged_filler});
    CHECK(v.lost.empty());
    CHECK(v.declared == ranges{{{5}, {5}}});
    CHECK(v.end == lsn{10});
}

TEST_CASE("table row 5: behind the end that the next header names, damage is evidence of an old crash and no finding") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, lsn_max}, .after = {4}}).mark(3);
    s.segment(2, 5).has(5, 8).mark(7).cut(5).follows(1, format::segment_end::crashed, 912);
    auto const v = s.judge();
    CHECK(v.findings.empty());
    CHECK(v.end == lsn{8});
    CHECK(v.torn_tail_bytes == 0);
}

TEST_CASE("LSNs lost without any trace are missing_records") {
    scene s;
    s.segment(1, 1).has(1, 4);
    s.segment(2, 11).has(11, 20).mark(19);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::missing_records});
    CHECK(v.findings[0].lsns == lsn_range{{5}, {10}});
    CHECK(v.findings[0].lost == 6);
    CHECK(v.end == lsn{20});
}

TEST_CASE("LSNs lost with an old copy of them in part are lost only in part") {
    scene s;
    s.segment(1, 1).has(1, 7);
    s.segment(2, 5).bad({.lsns = {{5}, {9}}, .after = {4}}).has(10, 12).mark(11);
    auto const v = s.judge();
    CHECK(v.lost == ranges{{{8}, {9}}});
    CHECK(kinds(v) == found{damage::corrupt_record});
    CHECK(v.findings[0].lost == 2);
}

TEST_CASE("a batch that is not whole costs its records: above the horizon as a torn tail, below as corruption with its "
          "place") {
    for (bool const is_durable : {false, true}) {
        CAPTURE(is_durable);
        scene s;
        auto one = s.segment(1, 1).has(1, 4);
        one.run().broken_batches.push_back({{{5}, {6}}, 912, 1112});
        one.run().last = {6};
        one.run().data_end = one.run().tag_end = 1112;
        one.mark(is_durable ? 6 : 4);
        auto const v = s.judge();
        CHECK(counted(v) == ranges{{{1}, {4}}});
        CHECK(v.lost == (is_durable ? ranges{{{5}, {6}}} : ranges{}));
        REQUIRE(v.findings.size() == 1);
        CHECK(v.findings[0].kind == (is_durable ? damage::corrupt_record : damage::torn_tail));
        CHECK(v.findings[0].offset == 912);
    }
}

TEST_CASE("a cut voids what stands at or above it in every segment before, and nothing behind") {
    scene s;
    s.segment(1, 1).has(1, 10).mark(9);
    s.segment(2, 6).has(6, 8).mark(7).cut(6).follows(1, format::segment_end::crashed, 1012);
    auto const v = s.judge();
    CHECK(counted(v) == ranges{{{1}, {5}}, {{6}, {8}}});
    CHECK(v.counted[1].segment == 1);
    CHECK(v.horizon == lsn{7}); // the mark of 9 in the first segment speaks of what was cut
    CHECK(v.end == lsn{8});
    CHECK(v.lost.empty());
}

TEST_CASE("the newest segment with a whole batch wins, and an older copy steps in where the newer is damaged") {
    scene s;
    s.segment(1, 1).has(1, 10);
    s.segment(2, 8)
        .bad({.lsns = {{8}, {8}}, .after = {7}, .exact = true})
        .has(9, 12)
        .mark(11)
        .follows(1, format::segment_end::abandoned, 5000);
    auto const v = s.judge();
    REQUIRE(v.counted.size() == 2);
    CHECK(v.counted[0].range == lsn_range{{1}, {8}});
    CHECK(v.counted[0].segment == 0);
    CHECK(v.counted[1].range == lsn_range{{9}, {12}});
    CHECK(v.counted[1].segment == 1);
    CHECK(kinds(v) == found{damage::damaged_copy});
}

TEST_CASE("the horizon is the largest mark in frames, headers, seals, floor and notes; accepted LSNs count only in "
          "their own boot") {
    auto const horizon = [](auto change) {
        scene s;
        auto a = s.segment(1, 1).has(1, 20);
        change(s, a);
        return s.judge().horizon.value;
    };
    CHECK(horizon([](auto&, auto&) {}) == 0);
    CHECK(horizon([](auto&, auto& a) { a.mark(7); }) == 7);
    CHECK(horizon([](auto&, auto& a) { a.seg().header->durable_mark = {6}; }) == 6);
    CHECK(horizon([](auto&, auto& a) { a.sealed(); }) == 20);
    CHECK(horizon([](auto& s, auto&) { s.stock.state.log_start_lsn = {3}; }) == 3);
    CHECK(horizon([](auto& s, auto&) { s.note(15, 12, false); }) == 12);
    CHECK(horizon([](auto& s, auto&) { s.note(15, 12, true); }) == 15);
}

TEST_CASE("what retention gave up is neither counted nor missed") {
    scene s;
    s.segment(3, 11).has(11, 20).mark(19);
    s.stock.state.log_start_lsn = {14};
    auto const v = s.judge();
    CHECK(counted(v) == ranges{{{15}, {20}}});
    CHECK(v.lost.empty());
    CHECK(v.findings.empty());
}

TEST_CASE("a declared loss stays lost although the bytes verify again") {
    scene s;
    s.segment(1, 1).has(1, 10).mark(9);
    s.runs[0].losses = {{{4}, {5}}};
    auto const v = s.judge();
    CHECK(counted(v) == ranges{{{1}, {3}}, {{6}, {10}}});
    CHECK(v.lost.empty());
}

TEST_CASE("frames that do not add up to the seal are a seal_mismatch") {
    scene s;
    auto a = s.segment(1, 1).has(1, 10).sealed();
    CHECK(s.judge().findings.empty());
    a.run().aggregate = 1;
    CHECK(kinds(s.judge()) == found{damage::seal_mismatch});
    a.run().aggregate = 0;
    a.run().data_end -= 8;
    CHECK(kinds(s.judge()) == found{damage::seal_mismatch});
}

TEST_CASE("a segment that does not follow the one its header names is chain_broken") {
    auto const judge = [](auto change) {
        scene s;
        s.segment(1, 1).has(1, 10).sealed();
        auto b = s.segment(2, 11).has(11, 12).follows(1, format::segment_end::rolled);
        change(s, b);
        return kinds(s.judge());
    };
    CHECK(judge([](auto&, auto&) {}).empty());
    CHECK(judge([](auto&, auto& b) { b.seg().header->previous.salt ^= 1; }) == found{damage::chain_broken});
    CHECK(judge([](auto&, auto& b) { b.seg().header->previous.chain ^= 1; }) == found{damage::chain_broken});
    CHECK(judge([](auto&, auto& b) { b.seg().header->previous.id = {9}; }) == found{damage::chain_broken});
    CHECK(judge([](auto& s, auto& b) {
              b.seg().header->previous.id = {9};
              s.stock.state.log_base.id = {9};
          }).empty());
    CHECK(judge([](auto& s, auto& b) {
              b.seg().header->previous.id = {9};
              s.stock.state.removed = {{{9}, 1}};
          }).empty());
}

TEST_CASE("bytes the medium could not read are unreadable where they cost nothing, corrupt_record where they do") {
    for (bool const costs : {false, true}) {
        CAPTURE(costs);
        scene s;
        s.segment(1, 1)
            .has(1, 4)
            .bad({.lsns = {{5}, {costs ? 5U : 4U}}, .after = {4}, .unreadable = true})
            .has(costs ? 6 : 5, 10)
            .mark(9);
        auto const v = s.judge();
        REQUIRE(v.findings.size() == 1);
        CHECK(v.findings[0].kind == (costs ? damage::corrupt_record : damage::unreadable));
        CHECK(v.findings[0].detail.find("medium") != std::string::npos);
    }
}

TEST_CASE("an open end below the horizon is lost up to the horizon, not further") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, lsn_max}, .after = {4}});
    s.note(8, 8, true);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::corrupt_record});
    CHECK(v.lost == ranges{{{5}, {8}}});
    CHECK(v.end == lsn{8});
}

TEST_CASE("a segment that was cut off has lost what the next one does not have, and its finding says no more") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, lsn_max}, .after = {4}});
    s.segment(2, 9).has(9, 12).mark(11);
    auto const v = s.judge();
    CHECK(kinds(v) == found{damage::corrupt_record});
    CHECK(v.findings[0].lsns == lsn_range{{5}, {8}});
    CHECK(v.findings[0].lost == 4);
    CHECK(v.lost == ranges{{{5}, {8}}});
}

TEST_CASE("an empty store has nothing to judge") {
    scene const s;
    auto const v = s.judge();
    CHECK(v.findings.empty());
    CHECK(v.end == lsn{});
    CHECK(v.counted.empty());
}

TEST_CASE("P5 P12: for any runs each LSN up to the end is counted once, declared, given up or lost") {
    CHECK(rc::check("chance scenes", [] {
        scene s;
        auto const segments = *rc::gen::inRange(1, 5);
        std::uint64_t at = 1;
        for (int id = 1; id <= segments; ++id) {
            auto const first = at;
            auto one = s.segment(static_cast<std::uint64_t>(id), first);
            for (auto n = *rc::gen::inRange(0, 4); n > 0; --n) {
                auto const to = at + *rc::gen::inRange<std::uint64_t>(0, 5);
                if (*rc::gen::inRange(0, 3) == 0) one.bad({.lsns = {{at}, {to}}, .after = {at - 1}, .exact = false});
                else one.has(at, to);
                at = to + 1;
            }
            if (*rc::gen::inRange(0, 2) == 0) one.mark(*rc::gen::inRange<std::uint64_t>(0, at));
            if (*rc::gen::inRange(0, 3) == 0)
                at = *rc::gen::inRange<std::uint64_t>(first, at + 1); // the next one overlaps
        }
        if (*rc::gen::inRange(0, 3) == 0) s.stock.state.losses = {{{2}, {3}}};
        if (*rc::gen::inRange(0, 3) == 0) s.stock.state.log_start_lsn = {*rc::gen::inRange<std::uint64_t>(0, 4)};
        auto const v = s.judge();
        std::multiset<std::uint64_t> seen;
        for (auto const& c : v.counted)
            for (auto x = c.range.first.value; x <= c.range.last.value; ++x) {
                seen.insert(x);
                auto const& extents = s.runs[c.segment].extents;
                RC_ASSERT(std::ranges::any_of(extents, [&](auto const& e) { return e.range.contains({x}); }));
            }
        for (auto const& l : v.lost)
            for (auto x = l.first.value; x <= l.last.value; ++x) seen.insert(x);
        for (auto x = s.stock.state.log_start_lsn.value + 1; x <= v.end.value; ++x) {
            bool const declared = std::ranges::any_of(v.declared, [&](auto const& d) { return d.contains({x}); });
            RC_ASSERT(seen.count(x) == (declared ? 0U : 1U));
        }
        RC_ASSERT(v.end >= v.horizon);
        std::uint64_t told = 0;
        for (auto const& f : v.findings) told += f.lost;
        std::uint64_t lost = 0;
        for (auto const& l : v.lost) lost += l.size();
        RC_ASSERT(told >= lost); // every loss stands in some finding
        RC_ASSERT(lost == 0 || !v.findings.empty());
    }));
}

// ---- the end of the log, where it may be gone ---------------------------------------------------------------------------------

namespace {

/// A registered segment whose file is gone and of which nobody has a seal: it may be a spare one.
void lose_file(scene& s, std::uint64_t id) {
    found_segment gone;
    gone.entry = {.id = {id}, .salt = scene::salt(id), .size = 4096, .place = {id}};
    gone.registered = true;
    gone.path = "db/log/" + wal::layout::segment_name({id});
    s.stock.state.segments[{id}] = gone.entry;
    s.stock.spare.push_back(std::move(gone));
}
std::vector<std::uint64_t> unknown(scene const& s) {
    std::vector<std::uint64_t> out;
    for (auto const& u : s.judge().unknown) out.push_back(u.segment.value);
    return out;
}
using ids = std::vector<std::uint64_t>;

} // namespace

TEST_CASE(
    "unknown: a segment that is gone with the notes may have held the newest records, and no finding says otherwise") {
    scene s;
    s.segment(1, 1).has(1, 10).mark(9).sealed();
    lose_file(s, 2);
    auto const v = s.judge();
    REQUIRE(v.unknown.size() == 1);
    CHECK(v.unknown[0].segment == segment_id{2});
    CHECK(v.unknown[0].after == lsn{10});
    CHECK(v.unknown[0].file == "log/0000000000000002.seg");
    CHECK(kinds(v) == found{damage::unknown_extent});
    CHECK(v.findings[0].is_corruption());
    CHECK(v.findings[0].detail.find("not known") != std::string::npos);
    CHECK(v.lost.empty());
}

TEST_CASE("unknown: notes of this boot say how far the log went; those of another boot are only a lower bound") {
    for (bool const own : {true, false}) {
        scene s;
        s.segment(1, 1).has(1, 10).mark(9).sealed();
        lose_file(s, 2);
        s.note(14, 12, own);
        auto const v = s.judge();
        CHECK(v.unknown.empty() == own);
        CHECK(v.lost == ranges{{{11}, {own ? 14U : 12U}}});
    }
}

TEST_CASE("unknown: a segment that the header behind it names is gone with a known number of records") {
    scene s;
    s.segment(1, 1).has(1, 10).mark(9).sealed();
    lose_file(s, 2);
    s.segment(3, 21).has(21, 24).mark(23).follows(2, format::segment_end::crashed, 900);
    auto const v = s.judge();
    CHECK(v.unknown.empty());
    CHECK(v.lost == ranges{{{11}, {20}}});
}

TEST_CASE("unknown: a segment that is gone and that nobody names stays unknown, though the log has gone on behind it") {
    scene s;
    s.segment(1, 1).has(1, 10).mark(9).sealed();
    lose_file(s, 2);
    s.segment(3, 11).has(11, 14).mark(13).follows(1, format::segment_end::rolled);
    CHECK(unknown(s) == ids{2});
    s.note(14, 14, true); // notes speak of what is written now
    CHECK(unknown(s) == ids{2});
}

TEST_CASE("unknown: the newest segment must be as long as it was made, and be read to its end") {
    auto const with = [](auto change) {
        scene s;
        s.segment(1, 1).has(1, 10).mark(9).sealed();
        auto b = s.segment(2, 11).has(11, 14).mark(12).follows(1, format::segment_end::rolled);
        change(s, b);
        return unknown(s);
    };
    CHECK(with([](auto&, auto&) {}).empty());
    CHECK(with([](auto&, auto& b) { b.seg().file_bytes = 2000; }) == ids{2});
    CHECK(with([](auto&, auto& b) { b.seg().file_bytes = 5000; }).empty());
    CHECK(with([](auto&, auto& b) { b.seg().header.reset(); }) == ids{2});
    CHECK(with([](auto&, auto& b) { b.run().unreadable = {{1000, 512}}; }) == ids{2});
    // In front of the last record that counts LSNs tell what is gone.
    CHECK(with([](auto&, auto& b) { b.run().unreadable = {{512, 100}}; }).empty());
    for (bool const sealed : {false, true})
        CHECK(with([&](auto& s, auto& b) {
                  b.seg().file_bytes = 2000;
                  if (sealed) b.sealed();
                  else s.note(14, 14, true);
              }).empty());
    CHECK(with([](auto& s, auto& b) {
              b.seg().file_bytes = 2000;
              s.segment(3, 15).has(15, 16).mark(15).follows(2, format::segment_end::crashed, 912);
          }).empty());
}

TEST_CASE("unknown: without a manifest nobody knows which segments there were, unless notes of this boot do") {
    for (bool const own : {true, false}) {
        scene s;
        s.segment(1, 1).has(1, 10).mark(9).sealed();
        s.note(10, 10, own);
        s.stock.manifest.state.reset();
        CHECK(unknown(s) == (own ? ids{} : ids{0}));
        s.stock.manifest.state.emplace();
        s.stock.manifest.marked = 9; // edits that were durable are gone
        CHECK(unknown(s) == (own ? ids{} : ids{0}));
        s.stock.state.edit = 9;
        CHECK(unknown(s).empty());
        s.stock.exists = false;
        s.stock.manifest.state.reset();
        CHECK(unknown(s).empty());
    }
}

TEST_CASE("lost records are accounted for by the segment that has their damaged bytes, each once") {
    scene s;
    s.segment(1, 1).has(1, 4).bad({.lsns = {{5}, {7}}, .after = {4}}).has(8, 10);
    s.segment(2, 5)
        .bad({.lsns = {{5}, {5}}, .after = {4}, .exact = true})
        .bad({.lsns = {{6}, {7}}, .after = {5}})
        .has(11, 12)
        .mark(12)
        .follows(1, format::segment_end::abandoned, 5000);
    s.segment(3, 15).has(15, 16).mark(15);
    auto const v = s.judge();
    CHECK(v.lost == ranges{{{5}, {7}}, {{13}, {14}}});
    REQUIRE(v.lost_in.size() == 1); // 13 and 14 left no trace
    CHECK(v.lost_in[0].range == lsn_range{{5}, {7}});
    CHECK(v.lost_in[0].segment == 0);
}

// ---- cost ---------------------------------------------------------------------------------------------------------------------

namespace {

struct counting_steps {
    std::uint64_t n = 0;
    void operator()() noexcept { ++n; }
};

/// A log of so many segments, with so many records lost in each: those of every second LSN.
std::uint64_t steps_for(std::uint64_t segments, std::uint64_t bad_each) {
    scene s;
    std::uint64_t at = 1;
    for (std::uint64_t id = 1; id <= segments; ++id) {
        auto one = s.segment(id, at);
        for (std::uint64_t n = 0; n < bad_each; ++n, at += 2) {
            auto const offset = 512 + 200 * n;
            one.run().bad.push_back(
                {.offset = offset, .length = 100, .lsns = {{at}, {at}}, .after = {at - 1}, .exact = true});
            one.run().extents.push_back({{{at + 1}, {at + 1}}, offset + 100, offset + 200});
            if (n % 3 == 0) one.run().broken_batches.push_back({{{at}, {at}}, offset, offset + 100});
        }
        one.run().last = {at - 1};
        one.run().data_end = one.run().tag_end = 512 + 200 * bad_each;
        if (id + 1 < segments && id % 3 == 0) one.run().bad.back().is_data = false;
        if (id > 1) one.follows(id - 1, format::segment_end::crashed, 512 + 200 * bad_each);
        one.mark(at - 1);
    }
    counting_steps steps;
    auto const v = classify(s.stock, s.runs, steps);
    CHECK(v.lost.size() >= segments * bad_each / 2);
    CHECK(v.findings.size() >= segments * bad_each / 2);
    return steps.n;
}

} // namespace

TEST_CASE("classify takes steps in proportion to segments and damage") {
    auto const one = steps_for(4, 250);
    CHECK(one > 1000);
    CHECK(steps_for(4, 2500) < 11 * one);
    CHECK(steps_for(40, 250) < 11 * one);
    CHECK(steps_for(400, 25) < 11 * one);
}

TEST_CASE("lsn_ranges: counts and gives what a range has in common with it") {
    CHECK(rc::check("any ranges", [] {
        lsn_set set;
        for (auto n = *rc::gen::inRange(0, 12); n > 0; --n) {
            auto const first = *rc::gen::inRange<std::uint64_t>(1, 60);
            set.add({{first}, {first + *rc::gen::inRange<std::uint64_t>(0, 6)}});
        }
        wal::lsn_ranges const asked{set.ranges()};
        auto const first = *rc::gen::inRange<std::uint64_t>(1, 70);
        lsn_range const r{{first}, {first + *rc::gen::inRange<std::uint64_t>(0, 30) - 1}};
        std::uint64_t count = 0;
        for (auto x = r.first.value; x <= r.last.value; ++x) count += set.contains({x});
        RC_ASSERT(asked.count_in(r) == count);
        if (count != 0) {
            auto const ends = asked.ends_in(r);
            RC_ASSERT(set.contains(ends.first) && set.contains(ends.last));
            RC_ASSERT(asked.count_in(ends) == count);
        }
        std::uint64_t seen = 0;
        asked.each_in(r, [&](lsn_range part) {
            RC_ASSERT(!part.empty() && r.contains(part.first) && r.contains(part.last));
            for (auto x = part.first.value; x <= part.last.value; ++x) RC_ASSERT(set.contains({x}));
            seen += part.size();
        });
        RC_ASSERT(seen == count);
    }));
    CHECK(wal::lsn_ranges{}.count_in({{1}, lsn_max}) == 0);
}
