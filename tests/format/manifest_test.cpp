// SPDX-License-Identifier: BSL-1.0
#include <keel/format/manifest.hpp>

#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/wal/manifest.hpp>

#include "support/damage_tools.hpp"
#include "support/fix_checks.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace keel;
using namespace keel::format;
using namespace keel::test;
using C = checksum::crc32c;
using store_type = wal::manifest_store<C, io::memory>;

segment_entry any_entry(std::uint64_t id) {
    segment_entry e{.id = {id},
                    .salt = salt_of({id}, *rc::gen::arbitrary<std::uint32_t>()),
                    .size = *rc::gen::inRange<std::uint64_t>(1, 100) * 4096,
                    .place = {id}};
    if (*rc::gen::arbitrary<bool>())
        e.seal = segment_seal{.id = e.id,
                              .salt = e.salt,
                              .range = {{id * 10}, {id * 10 + 9}},
                              .count = 10,
                              .data_end = 4000,
                              .aggregate = *rc::gen::arbitrary<std::uint64_t>(),
                              .chain = *rc::gen::arbitrary<std::uint64_t>()};
    return e;
}

/// A state that a store may have.
manifest_state any_state() {
    manifest_state s;
    auto id = std::uint64_t{1};
    for (auto n = *rc::gen::inRange(0, 20); n > 0; --n) {
        id += *rc::gen::inRange<std::uint64_t>(1, 4);
        s.segments[{id}] = any_entry(id);
    }
    for (auto n = *rc::gen::inRange<std::uint64_t>(0, 4); n > 0; --n) s.losses.push_back({{n * 100}, {n * 100 + 3}});
    for (auto n = *rc::gen::inRange<std::uint64_t>(0, 3); n > 0; --n) s.removed.push_back({{id + n}, n});
    s.next_segment = id + 10;
    s.next_repair = 5;
    s.log_start_lsn = {*rc::gen::inRange<std::uint64_t>(0, 1000)};
    s.log_base = {.id = {*rc::gen::inRange<std::uint64_t>(0, 1000)},
                  .salt = *rc::gen::arbitrary<std::uint64_t>(),
                  .last = s.log_start_lsn,
                  .chain = *rc::gen::arbitrary<std::uint64_t>()};
    s.edit = *rc::gen::inRange<std::uint64_t>(1, 1'000'000);
    return s;
}

std::vector<std::byte> as_byte_vector(std::vector<std::uint8_t> const& from) {
    std::vector<std::byte> out(from.size());
    std::ranges::transform(from, out.begin(), [](auto b) { return static_cast<std::byte>(b); });
    return out;
}

/// Both copies in a folder of their own, after a snapshot and some edits.
struct manifest_files {
    io::memory disk{};
    wal::layout paths{store_folder};
    manifest_state state{};

    explicit manifest_files(std::uint64_t edits) {
        determined::restart();
        static_cast<void>(disk.make_directory(store_folder));
        store_type store{disk, paths, store_id{}, 1, determined::entropy, determined::clock_ns};
        static_cast<void>(store.create({}));
        for (std::uint64_t i = 1; i <= edits; ++i) {
            edit_builder e;
            e.prepared({i}, salt_of({i}, 3), 4096, {i});
            if (i > 2) e.retired({i - 2});
            static_cast<void>(store.commit(e));
        }
        state = store.state();
    }
    [[nodiscard]] wal::manifest_load load() { return wal::load_manifest<C>(disk, paths); }
};

} // namespace

TEST_CASE("P1: the snapshot of any state builds the same state again") {
    CHECK(rc::check("snapshots", [] {
        auto const s = any_state();
        auto const again = applied({}, frame_type::snapshot, s.edit, snapshot_of(s).payload());
        RC_ASSERT(again.has_value());
        RC_ASSERT(*again == s);
    }));
}

TEST_CASE("P1: edits add up, each there as a whole") {
    manifest_state s;
    edit_builder e;
    e.prepared({7}, salt_of({7}, 1), 8192, {7})
        .prepared({8}, salt_of({8}, 1), 8192, {8})
        .loss({{3}, {4}})
        .log_start_lsn({2})
        .next_ids(20, 3);
    auto const after = applied(s, frame_type::edit, 5, e.payload());
    REQUIRE(after);
    CHECK(after->edit == 5);
    CHECK(after->segments.size() == 2);
    CHECK(after->losses == std::vector<lsn_range>{{{3}, {4}}});
    CHECK(after->log_start_lsn == lsn{2});
    CHECK(after->next_segment == 20);
    edit_builder gone;
    gone.retired({7}).removed({8}, 3);
    auto const later = applied(*after, frame_type::edit, 6, gone.payload());
    REQUIRE(later);
    CHECK(later->segments.empty());
    CHECK(later->removed == std::vector<removed_segment>{{{8}, 3}});
    CHECK(later->next_repair == 4);
    edit_builder anew;
    anew.reclaim_lsns({4});
    CHECK(applied(*after, frame_type::edit, 6, anew.payload())->losses == std::vector<lsn_range>{{{3}, {3}}});
    anew.reclaim_lsns({3});
    CHECK(applied(*after, frame_type::edit, 6, anew.payload())->losses.empty());
}

TEST_CASE("P1: an edit tells of a table and of what packs it") {
    table_entry t{.id = {4}, .salt = 77, .size = 9000, .lsns = {{2}, {3}}, .records = 2, .level = 3, .compression = 2};
    t.set_bounds("a", std::string(200, 'b'));
    edit_builder e;
    e.table(t);
    auto const after = applied({}, frame_type::edit, 2, e.payload());
    REQUIRE(after);
    CHECK(after->tables.at({4}) == t);
    CHECK(applied({}, frame_type::snapshot, 2, snapshot_of(*after).payload()) == after);
    // The byte was zero before there was compression: such tables have none.
    CHECK(e.payload()[2 + 51] == std::byte{2});
}

TEST_CASE("P17: an edit that contradicts the state, is cut short, or is unknown is none") {
    auto const with = [](auto build) {
        edit_builder e;
        build(e);
        return applied({}, frame_type::edit, 2, e.payload()).has_value();
    };
    CHECK_FALSE(with([](auto& e) { e.retired({1}); }));
    CHECK_FALSE(with([](auto& e) { e.sealed({.id = {1}, .salt = 1}); }));
    CHECK_FALSE(with([](auto& e) { e.prepared({1}, 1, 4096, {1}).prepared({1}, 1, 4096, {1}); }));
    CHECK_FALSE(with([](auto& e) { e.prepared({1}, 1, 4096, {1}).sealed({.id = {1}, .salt = 2}); }));
    CHECK_FALSE(with([](auto& e) { e.prepared({}, 1, 4096, {1}); }));
    CHECK_FALSE(with([](auto& e) { e.prepared({1}, 1, 4096, {}); }));
    CHECK_FALSE(with([](auto& e) { e.prepared({1}, std::uint64_t{1} << 32, 4096, {1}); }));
    CHECK_FALSE(with([](auto& e) { e.prepared({1}, 1, 100, {1}); }));
    CHECK_FALSE(with([](auto& e) { e.loss({{3}, {2}}); }));
    CHECK_FALSE(with([](auto& e) { e.loss({{0}, {2}}); }));
    CHECK_FALSE(with([](auto& e) { e.reclaim_lsns({}); }));
    CHECK_FALSE(with([](auto& e) { e.removed({}, 2); }));
    CHECK(with([](auto& e) { e.prepared({1}, 1, 4096, {1}).retired({1}); }));

    table_entry t{.id = {4}, .salt = 77, .size = 9000, .lsns = {{2}, {3}}, .records = 2, .level = 3};
    for (unsigned id = 0; id < 256; ++id) {
        t.compression = static_cast<std::uint8_t>(id);
        CHECK(with([&](auto& e) { e.table(t); }) == (id <= 15));
    }

    edit_builder good;
    good.prepared({1}, 1, 4096, {1});
    for (std::size_t n = 1; n < good.payload().size(); ++n)
        CHECK_FALSE(applied({}, frame_type::edit, 2, good.payload().first(n)).has_value());
    CHECK_FALSE(applied({}, frame_type::put, 2, good.payload()).has_value());
    std::vector<std::byte> unknown(good.payload().begin(), good.payload().end());
    unknown.at(0) = std::byte{200};
    CHECK_FALSE(applied({}, frame_type::edit, 2, unknown).has_value());
    std::vector<std::byte> longer(good.payload().begin(), good.payload().end());
    longer.at(1) = std::byte{33};
    longer.push_back({});
    CHECK_FALSE(applied({}, frame_type::edit, 2, longer).has_value());
}

TEST_CASE("P17: any bytes are an edit or none, and what they build can be built again") {
    CHECK(rc::check("chance", [] {
        auto const payload = as_byte_vector(*rc::gen::arbitrary<std::vector<std::uint8_t>>());
        auto const state = applied({}, frame_type::snapshot, 1, payload);
        if (payload.empty()) RC_ASSERT(state.has_value());
        if (state) RC_ASSERT(applied({}, frame_type::snapshot, 1, snapshot_of(*state).payload()).has_value());
    }));
}

TEST_CASE("P1: both copies hold the committed state") {
    for (std::uint64_t const edits : {0U, 1U, 5U, 300U}) { // 300: both files are written anew in between
        manifest_files m{edits};
        auto const load = m.load();
        REQUIRE(load.state);
        CHECK(*load.state == m.state);
        CHECK(load.current == std::array{true, true});
        CHECK(load.copies[0].trouble.empty());
        CHECK(load.copies[1].trouble.empty());
    }
}

TEST_CASE("P2 P3 R9.5: each single bit flipped in one copy is noticed where it counts, and the other copy serves") {
    manifest_files m{6};
    for (int copy = 0; copy < 2; ++copy) {
        auto const path = m.paths.manifest(copy);
        auto const end = m.load().copies[static_cast<std::size_t>(copy)].end;
        std::uint64_t wrong = 0;
        for (std::uint64_t bit = 0; bit < end * 8; bit += sanitized ? 7 : 1) {
            flip_bit(m.disk, path, bit);
            auto const load = m.load();
            bool const right = load.state && *load.state == m.state && !load.current[static_cast<std::size_t>(copy)] &&
                               load.current[static_cast<std::size_t>(1 - copy)];
            wrong += right ? 0 : 1;
            flip_bit(m.disk, path, bit);
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("P2: each single bit flipped in both copies never gives a state that was not committed") {
    manifest_files m{4};
    std::vector<manifest_state> known{manifest_state{.edit = 1}};
    for (std::uint64_t edits = 1; edits <= 4; ++edits) known.push_back(manifest_files{edits}.state);
    auto const end = m.load().copies[0].end;
    std::uint64_t wrong = 0;
    for (std::uint64_t bit = 0; bit < end * 8; bit += sanitized ? 7 : 1) {
        for (int copy = 0; copy < 2; ++copy) flip_bit(m.disk, m.paths.manifest(copy), bit);
        auto const load = m.load();
        if (load.state && std::ranges::find(known, *load.state) == known.end()) ++wrong;
        for (int copy = 0; copy < 2; ++copy) flip_bit(m.disk, m.paths.manifest(copy), bit);
    }
    CHECK(wrong == 0);
}

TEST_CASE("R9.5: edits damaged in different places of the two copies are pieced together") {
    manifest_files m{6};
    auto const load = m.load();
    auto const frames = manifest_frames_begin;
    // The frame of edit 3 in one copy, of edit 5 in the other.
    auto const frame_at = [&](std::uint64_t number) {
        auto at = frames;
        for (auto const& [n, edit] : load.copies[0].edits) {
            if (n == number) break;
            at += frame_bytes(edit.payload.size());
        }
        return at;
    };
    flip_bit(m.disk, m.paths.manifest(0), (frame_at(3) + 40) * 8);
    flip_bit(m.disk, m.paths.manifest(1), (frame_at(5) + 40) * 8);
    auto const again = m.load();
    REQUIRE(again.state);
    CHECK(*again.state == m.state);
    CHECK(again.current == std::array{false, false});
}

TEST_CASE("P17: a manifest file of any bytes and any length is read without harm") {
    manifest_files m{3};
    CHECK(rc::check("overwritten at random, checks put right or not", [&] {
        auto disk = clone(m.disk);
        auto bytes = *disk.contents(m.paths.manifest(0));
        for (auto n = *rc::gen::inRange(0, 8); n > 0; --n) {
            auto const at = *rc::gen::inRange<std::size_t>(0, 900);
            bytes[at] = static_cast<std::byte>(*rc::gen::arbitrary<std::uint8_t>());
        }
        bytes.resize(*rc::gen::element<std::size_t>(0, 511, 512, 600, 900, 8192, 9000));
        if (*rc::gen::arbitrary<bool>()) fix_manifest<C>(bytes);
        RC_ASSERT(disk.replace(m.paths.manifest(0), bytes).has_value());
        auto const copy = wal::read_manifest_copy<C>(disk, m.paths.manifest(0));
        RC_ASSERT(copy.present);
        RC_ASSERT(copy.readable || !copy.trouble.empty());
        static_cast<void>(wal::load_manifest<C>(disk, m.paths));
    }));
}
