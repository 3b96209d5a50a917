// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/segment_pool.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>

#include "support/damage_tools.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace segment_pool_test {

namespace {

using namespace keel;
using namespace keel::test;
using C = checksum::crc32c;
using machine = io::faulty<io::memory>;
using manifest_type = wal::manifest_store<C, machine>;
using pool_type = wal::segment_pool<C, machine>;

/// A folder with a manifest, and who keeps its segments.
struct folder {
    machine fs{};
    wal::layout paths{store_folder};
    std::unique_ptr<pool_type> pool{};

    folder() {
        determined::restart();
        REQUIRE(fs.make_directory(paths.root()));
        REQUIRE(fs.make_directory(paths.log()));
        manifest_type manifest{fs, paths, format::store_id{}, 1, determined::entropy, determined::clock_ns};
        REQUIRE(manifest.create({}));
        keep(std::move(manifest));
    }
    void keep(manifest_type manifest) {
        pool = std::make_unique<pool_type>(fs, paths, std::move(manifest), format::store_id{}, 1, 4 * KiB,
                                           determined::entropy, determined::clock_ns);
    }
    [[nodiscard]] result<wal::prepared_segment> take() {
        auto next = pool->first_ready({}, wal::space_policy::ordinary);
        if (next) pool->take_first_ready();
        return next;
    }
    /// What an opening finds registered.
    [[nodiscard]] format::manifest_state found() { return *wal::load_manifest<C>(fs, paths).state; }
    /// As the next process begins; gives what was registered, all of it spare.
    std::vector<format::segment_entry> open_again() {
        auto load = wal::load_manifest<C>(fs, paths);
        manifest_type manifest{fs, paths, format::store_id{}, 1, determined::entropy, determined::clock_ns};
        manifest.adopt(*load.state, load);
        keep(std::move(manifest));
        std::vector<format::segment_entry> spares;
        for (auto const& [id, entry] : load.state->segments) spares.push_back(entry);
        return spares;
    }
    /// Registered segments whose file is not what it is taken for.
    [[nodiscard]] std::uint64_t missing() {
        std::uint64_t n = 0;
        for (auto const& [id, entry] : found().segments) {
            format::header_block block{};
            auto file = fs.open(paths.segment(id), io::access::read_only, io::creation::must_exist);
            auto const got = file ? file->read(0, block) : result<std::size_t>{std::size_t{0}};
            auto const read = format::decode_segment_header<C>(block);
            n += !got || !read.good() || read.header.id != id || read.header.salt != entry.salt;
        }
        return n;
    }
};

} // namespace

TEST_CASE(
    "segments: spares whose taking over fails at any operation stay as they were, and the same call succeeds later") {
    std::uint64_t failed = 0;
    for (std::uint64_t at = 1; at < 60; ++at) {
        CAPTURE(at);
        folder f;
        REQUIRE(f.pool->make_ready());
        auto const spares = f.open_again();
        REQUIRE(spares.size() == 1);
        f.fs.set_plan({{{.kind = io::fault_kind::fail, .at = at, .count = io::forever}}});
        auto const done = f.pool->adopt(spares, {}, {1});
        bool const hit = !f.fs.log().empty();
        f.fs.set_plan({});
        if (!hit) break;
        failed += !done.has_value();
        CHECK(f.missing() == 0);
        if (!done) CHECK(f.pool->adopt(spares, {}, {1}));
        CHECK(f.pool->adopt(spares, {}, {1})); // they are no longer there to be taken
        auto const one = f.take();
        auto const other = f.take();
        REQUIRE(one);
        REQUIRE(other);
        CHECK(one->id != other->id);
        CHECK(f.missing() == 0);
        CHECK(f.found().segments.size() == 2);
        // Nor does the next opening find anything amiss.
        CHECK(f.open_again().size() == 2);
        CHECK(f.missing() == 0);
    }
    CHECK(failed > 3);
}

TEST_CASE("segments: one that could not be registered is registered later, and none is registered without its file") {
    std::uint64_t failed = 0;
    for (auto const kind : {io::fault_kind::fail, io::fault_kind::no_space, io::fault_kind::fail_sync})
        for (std::uint64_t at = 1; at < 60; ++at) {
            CAPTURE(at);
            folder f;
            REQUIRE(f.pool->make_ready());
            auto const spares = f.open_again();
            REQUIRE(f.pool->adopt(spares, {}, {1}));
            f.fs.set_plan({{{.kind = kind, .at = at, .count = io::forever}}});
            auto const done = f.take(); // recycles the spare's file
            bool const hit = !f.fs.log().empty();
            f.fs.set_plan({});
            if (!hit) break;
            failed += !done.has_value();
            CHECK(f.missing() == 0);
            auto const later = f.take();
            REQUIRE(later);
            CHECK(f.missing() == 0);
            CHECK(f.found().segments.contains(later->id));
            CHECK(f.pool->state()->segments.size() == (done ? 2U : 1U));
        }
    CHECK(failed > 20);
}

TEST_CASE("segments: an edit that failed is no reason to refuse the next one") {
    folder f;
    f.fs.set_plan({{{.kind = io::fault_kind::no_space, .at = 1, .count = io::forever}}});
    format::edit_builder e;
    e.log_start_lsn({3});
    // No room for as long as the attempt takes, both files' rewriting included.
    f.fs.set_plan({{{.kind = io::fault_kind::fail, .at = 1, .count = 20}}});
    REQUIRE_FALSE(f.pool->commit(e));
    CHECK(f.pool->state()->log_start_lsn == lsn{});
    f.fs.set_plan({});
    REQUIRE(f.pool->commit(e));
    CHECK(f.pool->state()->log_start_lsn == lsn{3});
    CHECK(f.found() == *f.pool->state());
}

TEST_CASE("segments: all who ask for the manifest between two edits have the same copy, and each keeps what it has") {
    folder f;
    auto const first = f.pool->state();
    CHECK(f.pool->state() == first);
    format::edit_builder e;
    e.log_start_lsn({3});
    REQUIRE(f.pool->commit(e));
    auto const second = f.pool->state();
    CHECK(second != first);
    CHECK(first->log_start_lsn == lsn{});
    CHECK(second->log_start_lsn == lsn{3});
    CHECK(f.pool->state() == second);
}

TEST_CASE("segments: leftovers are removed with the first write, but for those whose name came to be used since") {
    folder f;
    std::vector<std::byte> const rubbish(100);
    auto const put = [&](std::string const& name) { REQUIRE(wal::put_file(f.fs, f.paths.log_file(name), rubbish)); };
    auto const next = f.pool->state()->next_segment;
    auto const taken = wal::layout::segment_name({next});
    put("prepare.tmp");
    put("prepare.1.tmp");
    put(taken);
    put(wal::layout::segment_name({next + 40}));
    f.pool->tidy_later({f.paths.log_file("prepare.tmp"), f.paths.log_file("prepare.1.tmp"), f.paths.log_file(taken),
                        f.paths.segment({next + 40})},
                       {});
    // A segment is made before, as where the first attempt to write failed: it takes the name of one.
    REQUIRE(f.pool->make_ready());
    REQUIRE(f.pool->adopt({}, {}, {1}));
    auto const names = f.fs.list(f.paths.log());
    REQUIRE(names);
    REQUIRE(names->size() == 1);
    CHECK(names->front().name == taken);
    CHECK(f.missing() == 0);
}

TEST_CASE("reserve: what an earlier run left of it can be spent before anybody asked for it") {
    io::memory disk;
    {
        wal::space_reserve<io::memory> reserve{disk, "reserve"};
        CHECK_FALSE(reserve.spend());
        REQUIRE(reserve.make(64 * KiB));
    }
    wal::space_reserve<io::memory> again{disk, "reserve"};
    CHECK(again.spend());
    CHECK_FALSE(again.spend());
    CHECK_FALSE(disk.status("reserve"));
}

} // namespace segment_pool_test
