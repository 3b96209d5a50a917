// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/manifest.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>

#include "support/damage_tools.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <cstdint>
#include <string>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace manifest_test {

namespace {

using namespace keel;
using namespace keel::test;
using format::edit_builder;
using format::manifest_editor;
using format::manifest_state;
using C = checksum::crc32c;
using machine = io::faulty<io::memory>;
using store_type = wal::manifest_store<C, machine>;

format::table_entry a_table(std::uint64_t id, std::uint8_t level = 1) {
    format::table_entry t{.id = {id}, .salt = id | 1, .size = 9000, .lsns = {{2}, {3}}, .records = 2, .level = level};
    t.set_bounds("key " + std::to_string(id), "key " + std::to_string(id) + "z");
    return t;
}
void prepare(edit_builder& e, std::uint64_t id) { e.prepared({id}, format::salt_of({id}, 3), 4096, {id}); }
format::segment_seal a_seal(std::uint64_t id) {
    return {.id = {id}, .salt = format::salt_of({id}, 3), .range = {{id * 10}, {id * 10 + 9}}, .count = 10};
}

/// One operation on what the state may hold, or may not.
void any_operation(edit_builder& e) {
    auto const id = *rc::gen::inRange<std::uint64_t>(1, 12);
    switch (*rc::gen::inRange(0, 12)) {
    case 0: prepare(e, id); break;
    case 1: e.sealed(a_seal(id)); break;
    case 2: e.retired({id}); break;
    case 3: e.loss({{id}, {id + 2}}); break;
    case 4: e.removed({id}, id); break;
    case 5: e.log_base({.id = {id}, .salt = id, .last = {id}, .chain = id}); break;
    case 6: e.log_start_lsn({id}); break;
    case 7: e.table(a_table(id, static_cast<std::uint8_t>(1 + id % 6))); break;
    case 8: e.remove_table({id}); break;
    case 9: e.next_table_id(id * 3); break;
    case 10: e.reclaim_lsns({id}); break;
    default: e.next_ids(id * 5, id * 2); break;
    }
}

manifest_state some_state() {
    manifest_state s;
    manifest_editor editor{s};
    edit_builder e;
    for (std::uint64_t id = 1; id < 12; id += 2) {
        prepare(e, id);
        e.table(a_table(id)).loss({{id * 100}, {id * 100 + 5}}).removed({100 + id}, id);
        if (id % 3 == 0) e.sealed(a_seal(id));
    }
    REQUIRE(editor.apply(7, e.payload()));
    return s;
}

/// Both copies in a folder, over a machine that can be told to fail.
struct manifest_folder {
    machine fs{};
    wal::layout paths{store_folder};
    store_type store{fs, paths, format::store_id{}, 1, determined::entropy, determined::clock_ns};

    explicit manifest_folder(std::uint64_t bytes_max = format::manifest_bytes_max)
        : store{fs, paths, format::store_id{}, 1, determined::entropy, determined::clock_ns, bytes_max} {
        determined::restart();
        REQUIRE(fs.make_directory(store_folder));
        REQUIRE(store.create({}));
        for (std::uint64_t id = 1; id < 6; ++id) {
            edit_builder e;
            prepare(e, id);
            REQUIRE(store.commit(e));
        }
    }
    [[nodiscard]] manifest_state loaded() {
        auto const load = wal::load_manifest<C>(fs, paths);
        REQUIRE(load.state);
        return *load.state;
    }
};

} // namespace

TEST_CASE("manifest: an edit that is taken back leaves the state as it was, and so does one that does not hold") {
    CHECK(rc::check("any operations", [] {
        auto const before = some_state();
        auto state = before;
        manifest_editor editor{state};
        edit_builder e;
        for (auto n = *rc::gen::inRange(1, 8); n > 0; --n) any_operation(e);
        bool const holds = editor.apply(8, e.payload());
        RC_ASSERT(holds == (state.edit == 8));
        if (holds) editor.take_back();
        RC_ASSERT(state == before);
        editor.take_back(); // there is nothing more to take back
        RC_ASSERT(state == before);
        // Cut short anywhere it is none.
        auto const cut = *rc::gen::inRange<std::size_t>(1, e.payload().size());
        if (!format::applied(before, format::frame_type::edit, 8, e.payload().first(cut))) {
            RC_ASSERT(!editor.apply(8, e.payload().first(cut)));
            RC_ASSERT(state == before);
        }
    }));
}

TEST_CASE("manifest: an edit that was kept is not taken back any more") {
    auto state = some_state();
    manifest_editor editor{state};
    edit_builder e;
    e.retired({1}).remove_table({3}).loss({{900}, {901}});
    REQUIRE(editor.apply(8, e.payload()));
    auto const after = state;
    editor.keep();
    editor.take_back();
    CHECK(state == after);
}

TEST_CASE("manifest: edits are added where the state lies: nothing that they do not name is copied or moved") {
    auto state = some_state();
    auto const* table = &state.tables.at({5});
    auto const* segment = &state.segments.at({5});
    manifest_editor editor{state};
    for (std::uint64_t n = 0; n < 50; ++n) {
        edit_builder e;
        prepare(e, 100 + n);
        e.table(a_table(100 + n)).sealed(a_seal(100 + n));
        REQUIRE(editor.apply(8 + n, e.payload()));
        if (n % 2 == 0) editor.take_back();
        CHECK(&state.tables.at({5}) == table);
        CHECK(&state.segments.at({5}) == segment);
    }

    manifest_folder m;
    edit_builder e;
    e.table(a_table(1));
    REQUIRE(m.store.commit(e));
    auto const* committed = &m.store.state().tables.at({1});
    for (std::uint64_t id = 6; id < 300; ++id) { // both files are written anew in between
        edit_builder next;
        prepare(next, id);
        REQUIRE(m.store.commit(next));
        CHECK(&m.store.state().tables.at({1}) == committed);
    }
}

TEST_CASE(
    "manifest: a commit that fails at any operation leaves the state as it was, and the first cause is told until "
    "it is repeated") {
    struct mode {
        io::fault_kind kind;
        io::fault_class on;
        std::uint64_t count;
        errc code;
    };
    constexpr mode modes[] = {{io::fault_kind::fail, io::fault_class::any, io::forever, errc::io_error},
                              {io::fault_kind::no_space, io::fault_class::any, io::forever, errc::no_space},
                              {io::fault_kind::fail_sync, io::fault_class::sync, io::forever, errc::io_error},
                              {io::fault_kind::fail, io::fault_class::any, 1, errc::io_error},
                              {io::fault_kind::fail_sync, io::fault_class::sync, 1, errc::io_error}};
    std::uint64_t failed = 0;
    std::uint64_t survived = 0;
    for (auto const& mode : modes)
        for (std::uint64_t at = 1; at < 40; ++at) {
            CAPTURE(at);
            manifest_folder m;
            auto const before = m.store.state();
            m.fs.set_plan({{{.kind = mode.kind, .on = mode.on, .at = at, .count = mode.count}}});
            edit_builder e;
            e.retired({2}).loss({{5}, {6}}).log_start_lsn({4});
            auto const done = m.store.commit(e);
            bool const hit = !m.fs.log().empty();
            m.fs.set_plan({});
            if (!hit) break;
            auto const on_disk = m.loaded();
            if (done) {
                ++survived;
                CHECK(on_disk == m.store.state());
                continue;
            }
            ++failed;
            CHECK(done.error().code == mode.code);
            CHECK(m.store.state() == before);
            bool const kept = on_disk.losses.size() == 1;
            CHECK((kept || on_disk == before));
            auto const next = m.store.commit(e);
            REQUIRE_FALSE(next);
            CHECK(next.error().code == mode.code);
            CHECK(next.error().message.find(done.error().message) != std::string::npos);
            m.store.retry();
            edit_builder other;
            other.retired({3});
            REQUIRE(m.store.commit(other));
            CHECK(m.loaded() == m.store.state());
            CHECK(m.store.state().losses.empty()); // whatever was left of the one that failed is older
            CHECK(m.store.state().segments.contains({2}));
        }
    CHECK(failed > 6);
    CHECK(survived > 4);
}

TEST_CASE("manifest: a sector of a torn edit does not come back with one that takes its number") {
    manifest_folder m;
    auto disk = m.fs.inner();
    auto const before = m.loaded();
    // Edits are added until one lies across a border of sectors, its header in front of it.
    for (std::uint64_t id = 6;; ++id) {
        auto const begin = wal::load_manifest<C>(m.fs, m.paths).copies[0].end;
        edit_builder e;
        prepare(e, id);
        REQUIRE(m.store.commit(e));
        auto const border = format::rounded_up(begin, 512);
        auto const end = wal::load_manifest<C>(m.fs, m.paths).copies[0].end;
        if (border < begin + 8 || border > begin + 24 || border >= end) continue;
        // The power loss kept what lies behind the border.
        for (int i = 0; i < 2; ++i) {
            std::vector<std::byte> const zeros(static_cast<std::size_t>(border - begin));
            REQUIRE(disk.corrupt(m.paths.manifest(i), begin, byte_view{zeros}));
        }
        break;
    }
    auto const load = wal::load_manifest<C>(m.fs, m.paths);
    REQUIRE(load.state);
    CHECK_FALSE(load.current[0]);
    CHECK_FALSE(load.current[1]);
    CHECK(load.state->segments.size() > before.segments.size() - 1);
}

TEST_CASE("manifest: writing it anew fails as a whole, too") {
    for (std::uint64_t at = 1; at < 12; ++at) {
        CAPTURE(at);
        manifest_folder m;
        auto const before = m.store.state();
        auto after = before;
        after.losses.push_back({{7}, {8}});
        ++after.edit;
        m.fs.set_plan({{{.kind = io::fault_kind::fail, .at = at, .count = io::forever}}});
        auto const done = m.store.create(after);
        m.fs.set_plan({});
        REQUIRE_FALSE(done);
        CHECK(m.store.state() == before);
        CHECK((m.loaded() == before || m.loaded() == after));
    }
}

TEST_CASE("manifest: an edit that would make it larger than can be read again is refused, and changes nothing") {
    constexpr auto bytes_max = 32 * KiB;
    manifest_folder m{bytes_max};
    std::uint64_t id = 10;
    auto const grow = [&] {
        edit_builder e;
        e.table(a_table(id));
        return m.store.commit(e);
    };
    auto done = grow();
    for (; done; done = grow()) {
        ++id;
        REQUIRE(id < 10'000);
    }
    CHECK(done.error().code == errc::too_large);
    auto const full = m.store.state();
    CHECK(full.tables.size() > 50);
    CHECK(m.loaded() == full);
    for (auto const& path : {m.paths.manifest(0), m.paths.manifest(1)}) CHECK(m.fs.status(path)->size <= bytes_max);
    auto one = full;
    one.losses.assign(5000, {{1}, {2}});
    CHECK(m.store.create(one).error().code == errc::too_large);
    CHECK(m.store.state() == full);
    // It is no failure of the machine: what makes it smaller is taken, and room that was given back is room again.
    for (std::uint64_t gone = 10; gone < 20; ++gone) {
        edit_builder e;
        e.remove_table({gone});
        REQUIRE(m.store.commit(e));
    }
    CHECK(grow());
    CHECK(m.loaded() == m.store.state());
}

TEST_CASE("manifest: however often edits come and go, what is said of its size stays near what it is") {
    manifest_folder m;
    for (std::uint64_t n = 0; n < 2000; ++n) {
        edit_builder e;
        e.table(a_table(50 + n));
        if (n > 5) e.remove_table({50 + n - 5});
        REQUIRE(m.store.commit(e));
        auto const exact = format::snapshot_of(m.store.state()).payload().size();
        CHECK(m.store.snapshot_bytes() >= exact);
        CHECK(m.store.snapshot_bytes() <= exact + format::manifest_bytes_min);
    }
}

TEST_CASE("manifest: a file that the machine does not open says nothing of what is in it") {
    manifest_folder m;
    m.fs.set_plan({{{.kind = io::fault_kind::fail, .on = io::fault_class::open, .at = 1, .count = 2}}});
    auto const load = wal::load_manifest<C>(m.fs, m.paths);
    for (auto const& copy : load.copies) {
        CHECK(copy.present);
        CHECK_FALSE(copy.opened);
        CHECK(copy.refused->code == errc::io_error);
    }
}

} // namespace manifest_test
