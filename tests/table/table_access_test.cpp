// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/table_access/mapped.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/io/posix.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/compression/none.hpp>
#include <keel/policy/table_access/cached.hpp>
#include <keel/table/sstable.hpp>
#include <keel/table/sstable_builder.hpp>

#include <io/posix_folder.hpp>
#include <support/run_lengths.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// Tables whose blocks are copied from the file's mapping at each read: what stays in memory, and what damage under it does.

namespace {

namespace mapped_tables {

using namespace keel;
using sum = checksum::crc32c;
template <class Fs, class Packing = compression::none>
using mapped_of = table::sstable_reader<sum, Packing, table_access::mapped, Fs>;

constexpr int keys = 2000;
std::string key(int i) { return "key" + std::to_string(10000 + i); }
std::string value(int i) { return std::string(80, static_cast<char>('a' + i % 26)); }

template <class Packing = compression::none, class Fs>
format::table_entry write(Fs fs, std::string const& path) {
    auto made = table::sstable_builder<sum, Packing, Fs>::create(
        fs, path, {.id = {3}, .salt = 0x77AA55CC12345679, .first = lsn{1}});
    REQUIRE(made);
    for (int i = 0; i < keys; ++i)
        REQUIRE(made->add({.key = key(i), .value = value(i), .at = {static_cast<std::uint64_t>(i) + 1}}));
    auto entry = made->finish();
    REQUIRE(entry);
    return *entry;
}

/// A table, its cache, and what it told of.
template <class Table>
struct reading {
    template <class Fs>
    reading(Fs const& fs, std::string const& path, format::table_entry const& entry)
        : table{std::make_shared<Table const>(
              fs, path, entry, cache,
              std::make_shared<table::damage_listener const>([this](finding f) { told.push_back(std::move(f)); }))} {}

    std::shared_ptr<table::read_cache> cache = std::make_shared<table::read_cache>(1 << 22);
    std::vector<finding> told{};
    std::shared_ptr<Table const> table;

    [[nodiscard]] result<bool> find(int i, table::read_version& into) const {
        return table->find(key(i), format::filter_hash(key(i)), lsn_max, into);
    }
    [[nodiscard]] result<bool> find(int i) const {
        table::read_version got;
        auto found = find(i, got);
        if (found) CHECK((*found && got.what.value == value(i)));
        return found;
    }
    void find_all() const {
        for (int i = 0; i < keys; ++i) REQUIRE(find(i));
    }
};

} // namespace mapped_tables

} // namespace

TEST_CASE("mapped tables: no block stays in the cache, but for packed ones") {
    using namespace mapped_tables;
    io::memory disk;
    auto const plain = write(disk, "plain");
    reading<mapped_of<io::memory>> mapped{disk, "plain", plain};
    mapped.find_all();
    CHECK(mapped.cache->blocks.bytes() == 0);
    reading<table::sstable_reader<sum, compression::none, table_access::cached, io::memory>> cached{disk, "plain",
                                                                                                    plain};
    cached.find_all();
    CHECK(cached.cache->blocks.bytes() > 100'000);

    auto const packed = write<test::run_lengths>(disk, "packed");
    REQUIRE(packed.compression != 0);
    reading<mapped_of<io::memory, test::run_lengths>> unpacked{disk, "packed", packed};
    unpacked.find_all();
    CHECK(unpacked.cache->blocks.bytes() > 100'000);
    reading<mapped_of<io::memory, test::run_lengths>> as_it_is{disk, "plain", plain};
    as_it_is.find_all();
    CHECK(as_it_is.cache->blocks.bytes() == 0);
}

TEST_CASE("mapped tables: what a look-up found stays while others look up, and while the walk it came from goes on") {
    using namespace mapped_tables;
    io::memory disk;
    auto const entry = write(disk, "t");
    reading<mapped_of<io::memory>> const t{disk, "t", entry};
    std::vector<table::read_version> all(keys);
    for (int i = 0; i < keys; ++i) REQUIRE(t.find(i, all[static_cast<std::size_t>(i)]));
    auto const moved = std::move(all);
    for (int i = 0; i < keys; ++i) CHECK(moved[static_cast<std::size_t>(i)].what.value == value(i));
}

TEST_CASE("mapped tables: threads that begin together map the file once and each find everything") {
    using namespace mapped_tables;
    tests::posix_folder const folder;
    auto const path = folder / "t";
    auto const entry = write(io::posix{}, path);
    reading<mapped_of<io::posix>> const t{io::posix{}, path, entry};
    std::atomic<int> found{0};
    std::vector<std::jthread> crew;
    for (int n = 0; n < 4; ++n)
        crew.emplace_back([&] {
            for (int i = 0; i < keys; ++i) {
                table::read_version got;
                auto const there = t.find(i, got);
                found += there && *there && got.what.value == value(i);
            }
        });
    crew.clear();
    CHECK(found == 4 * keys);
}

TEST_CASE("mapped tables: damage is seen by the next read, though the block was read before, and is never data") {
    using namespace mapped_tables;
    io::memory disk;
    auto const entry = write(disk, "t");
    reading<mapped_of<io::memory>> const t{disk, "t", entry};
    t.find_all();
    REQUIRE(disk.corrupt("t", 700, std::byte{4}));
    auto const refused = t.find(0);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::corruption);
    CHECK(refused.error().file == "t");
    CHECK(refused.error().offset == format::table_frames_begin);
    REQUIRE(t.told.size() == 1);
    CHECK(t.told[0].kind == damage::corrupt_block);
    CHECK(t.told[0].offset == format::table_frames_begin);
    CHECK(t.find(keys - 1));

    REQUIRE(disk.corrupt("t", 700, std::byte{4})); // as it was
    CHECK(t.find(0));
    REQUIRE(disk.fail_reads("t", 1024, 1));
    auto const unreadable = t.find(0);
    REQUIRE(!unreadable);
    CHECK(unreadable.error().code == errc::io_error);
    CHECK(unreadable.error().file == "t");
    CHECK(t.told.back().kind == damage::unreadable);
    CHECK(t.find(keys - 1));
    typename mapped_of<io::memory>::cursor at{t.table};
    at.seek({});
    CHECK(!at.valid());
    REQUIRE(at.trouble());
    CHECK(at.trouble()->code == errc::io_error);
}

TEST_CASE("mapped tables: a bit that turns over on its way from the mapping is read again, past the page cache") {
    using namespace mapped_tables;
    using faulty_disk = io::faulty<io::memory>;
    io::memory disk;
    auto const entry = write(disk, "t");
    faulty_disk const faulty{disk};
    reading<mapped_of<faulty_disk>> const t{faulty, "t", entry};
    CHECK(t.find(5));
    for (std::uint64_t seed = 1; seed < 100; ++seed) {
        auto plan = faulty;
        plan.set_plan({{{.kind = io::fault_kind::flip_read, .on = io::fault_class::read, .at = 1, .seed = seed}}});
        CHECK(t.find(5));
        CHECK(plan.log().size() == 1);
    }
    CHECK(t.told.empty());
}

TEST_CASE("mapped tables: a file cut short under its mapping is an error with its place, and the process lives") {
    using namespace mapped_tables;
    tests::posix_folder const folder;
    auto const path = folder / "t";
    auto const entry = write(io::posix{}, path);
    reading<mapped_of<io::posix>> const t{io::posix{}, path, entry};
    t.find_all();
    std::filesystem::resize_file(path, 8192);
    CHECK(t.find(0));
    auto const refused = t.find(keys - 1);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::corruption);
    CHECK(refused.error().file == path);
    CHECK(refused.error().offset > 8192);
    REQUIRE(t.told.size() == 1);
    CHECK(t.told[0].offset == refused.error().offset);
    typename mapped_of<io::posix>::cursor at{t.table};
    int seen = 0;
    for (at.seek({}); at.valid(); at.next()) CHECK(at.current().value == value(seen++));
    CHECK(seen > 20);
    REQUIRE(at.trouble());
    CHECK(at.trouble()->file == path);
}
