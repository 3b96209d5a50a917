// SPDX-License-Identifier: BSL-1.0
// What loading a manifest costs, in allocations: they stand for copies of what a state holds. Replaces the allocator of this whole
// program by one that counts.
#include <keel/wal/manifest.hpp>

#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>

#include "support/damage_tools.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>

namespace {
thread_local std::uint64_t allocations = 0;

void* counted_allocation(std::size_t bytes) {
    ++allocations;
    if (void* const got = std::malloc(bytes == 0 ? 1 : bytes)) return got;
    throw std::bad_alloc{};
}
} // namespace

void* operator new(std::size_t bytes) { return counted_allocation(bytes); }
void* operator new[](std::size_t bytes) { return counted_allocation(bytes); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }
void operator delete[](void* at, std::size_t) noexcept { std::free(at); }

namespace {

using namespace keel;
using namespace keel::test;
using cost_store = wal::manifest_store<checksum::crc32c, io::memory>;

struct manifest_cost {
    std::uint64_t load = 0;
    std::uint64_t commit = 0; ///< of an edit behind that
};

/// A snapshot of so many tables, and so many edits behind it.
manifest_cost cost_of(std::uint64_t tables, std::uint64_t edits) {
    determined::restart();
    io::memory disk;
    wal::layout const paths{store_folder};
    REQUIRE(disk.make_directory(store_folder));
    cost_store store{disk, paths, format::store_id{}, 1, determined::entropy, determined::clock_ns};
    format::manifest_state state;
    for (std::uint64_t id = 1; id <= tables; ++id) {
        format::table_entry t{.id = {id}, .salt = id | 1, .size = 9000, .lsns = {{2}, {3}}, .records = 2};
        t.set_bounds("a key that is too long to be kept in place " + std::to_string(id), "b");
        state.tables.emplace(t.id, t);
    }
    state.next_table = tables + 1;
    REQUIRE(store.create(state));
    for (std::uint64_t n = 0; n < edits; ++n) {
        format::edit_builder e;
        e.log_start_lsn({n + 1});
        REQUIRE(store.commit(e));
    }
    manifest_cost cost;
    auto before = allocations;
    auto const load = wal::load_manifest<checksum::crc32c>(disk, paths);
    cost.load = allocations - before;
    REQUIRE(load.state);
    CHECK(*load.state == store.state());
    format::edit_builder e;
    e.log_start_lsn({edits + 1});
    before = allocations;
    REQUIRE(store.commit(e));
    cost.commit = allocations - before;
    return cost;
}

} // namespace

TEST_CASE("manifest: loading takes time in proportion to tables and edits, and a commit in proportion to the edit") {
    auto const small = cost_of(250, 125);
    auto const large = cost_of(1000, 500);
    CHECK(large.load > 1000); // it does count
    CHECK(large.load < 5 * small.load);
    CHECK(large.commit < small.commit + 20);
}
