// SPDX-License-Identifier: BSL-1.0
#include <keel/table/open_files.hpp>

#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/compression/none.hpp>
#include <keel/policy/table_access/cached.hpp>
#include <keel/table/lazy_file.hpp>
#include <keel/table/sstable.hpp>
#include <keel/table/sstable_builder.hpp>

#include <support/few_files.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// The bounded list of open files, and files that are opened and closed by it.

namespace {

namespace open_files {

using namespace keel;
using disk = test::few_files<io::memory>;
using lazy = table::lazy_file<disk>;
using list_ptr = std::shared_ptr<table::open_file_list>;

constexpr std::size_t file_bytes = 64;

std::string name(std::size_t i) { return "file" + std::to_string(i); }

/// Files whose bytes are all their number, each read by an object of its own.
struct scene {
    scene(std::size_t count, table::open_file_limits limits) : list{std::make_shared<table::open_file_list>(limits)} {
        for (std::size_t i = 0; i < count; ++i) {
            auto file = fs.open(name(i), io::access::read_write, io::creation::must_not_exist);
            REQUIRE(file);
            std::array<std::byte, file_bytes> bytes{};
            bytes.fill(std::byte(i));
            REQUIRE(file->write(0, bytes));
        }
        for (std::size_t i = 0; i < count; ++i) files.push_back(std::make_unique<lazy>(fs, name(i), list));
    }
    [[nodiscard]] bool reads(std::size_t i) const {
        std::array<std::byte, 8> got{};
        return files[i]->fetch(8, got) && got.front() == std::byte(i) && got.back() == std::byte(i);
    }
    [[nodiscard]] result<void> reads_uncached(std::size_t i) const {
        std::array<std::byte, 8> got{};
        return files[i]->fetch_uncached(8, got);
    }

    disk fs{};
    list_ptr list;
    std::vector<std::unique_ptr<lazy>> files{};
};

} // namespace open_files

} // namespace

using namespace open_files;

TEST_CASE("open files: no more are open than allowed, however many are read, and each can be read again") {
    scene all{40, {.files = 4}};
    for (int round = 0; round < 3; ++round)
        for (std::size_t i = 0; i < 40; ++i) {
            CHECK(all.reads(i));
            CHECK(all.list->open() <= 4);
        }
    CHECK(all.fs.most_open() == 4);
    CHECK(all.fs.openings() <= 40 + 40 + 40); // to be written, to be read, and once more to be mapped
    CHECK(all.list->mapped() >= 36);
    all.files.clear();
    CHECK(all.list->open() == 0);
    CHECK(all.fs.open_now() == 0);
}

TEST_CASE("open files: one that is read between two openings is not the one that is closed") {
    scene all{100, {.files = 8}};
    auto const before = all.fs.openings();
    for (std::size_t i = 1; i < 100; ++i) {
        CHECK(all.reads_uncached(0)); // never mapped: through the descriptor each time
        CHECK(all.reads(i));
    }
    // The first search for a victim finds all of them used.
    CHECK(all.fs.openings() - before <= 99 + 2);
}

TEST_CASE("open files: one that somebody keeps open is not closed, and is once nobody does") {
    scene all{10, {.files = 2}};
    {
        auto const first = all.files[0]->keep_open();
        auto const second = all.files[1]->keep_open();
        REQUIRE(first);
        REQUIRE(second);
        auto third = all.files[2]->keep_open();
        REQUIRE(third);
        CHECK(all.list->open() == 3); // more than allowed, and no less than needed
        for (std::size_t i = 3; i < 10; ++i) CHECK(all.reads(i));
        auto const moved = std::move(*third);
        std::array<std::byte, 4> got{};
        CHECK((**first).read(0, got).has_value());
        CHECK((*moved).read(0, got).value() == 4);
        CHECK(got.front() == std::byte{2});
    }
    for (std::size_t i = 3; i < 10; ++i) CHECK(all.reads(i));
    CHECK(all.list->open() == 2);
    CHECK(all.fs.open_now() == 2);
    REQUIRE(all.files[0]->keep_open_for_good());
    REQUIRE(all.files[0]->keep_open_for_good());
    REQUIRE(all.fs.remove(name(0)));
    for (std::size_t i = 1; i < 10; ++i) CHECK(all.reads(i));
    CHECK(all.reads(0)); // it has no name any more
}

TEST_CASE("open files: who reads a file while it is closed for another reads on") {
    scene all{3, {.files = 2}};
    auto& list = *all.list;
    table::open_file_list::entry one;
    auto const file = std::make_shared<int>(7);
    one.file = file;
    list.add(one);
    std::weak_ptr<void const> const in_use = one.file;
    auto const share = one.file;
    CHECK(list.close_one());
    CHECK(one.file == nullptr);
    CHECK_FALSE(in_use.expired());
    CHECK_FALSE(list.close_one());
    list.forget(one);
}

TEST_CASE("open files: where the process may open no more, others are closed first") {
    scene all{20, {.files = 100}};
    all.fs.allow(3);
    for (int round = 0; round < 2; ++round)
        for (std::size_t i = 0; i < 20; ++i) CHECK(all.reads(i));
    CHECK(all.fs.most_open() <= 3);
    CHECK(all.list->open() == 3);
}

TEST_CASE("open files: an opening for which there is no descriptor says so, may be tried again, and then works") {
    scene all{3, {.files = 2}};
    all.fs.allow(0);
    CHECK_FALSE(all.reads(0));
    auto const refused = all.reads_uncached(0);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::no_descriptor);
    CHECK(refused.error().retryable);
    CHECK(is_shortage(refused.error().code));
    CHECK_FALSE(all.files[0]->keep_open());
    all.fs.allow(2);
    CHECK(all.reads(0));
    CHECK(all.reads_uncached(0));
}

TEST_CASE("open files: a file that was read often is mapped, and needs no descriptor from then on") {
    scene all{6, {.files = 2}};
    for (std::size_t i = 0; i < 6; ++i)
        for (int n = 0; n < 20; ++n) CHECK(all.reads(i));
    CHECK(all.list->mapped() == 6);
    all.fs.allow(0);
    while (all.list->close_one()) {}
    CHECK(all.fs.open_now() == 0);
    for (std::size_t i = 0; i < 6; ++i) CHECK(all.reads(i));
    all.files.clear();
    CHECK(all.list->mapped() == 0);
}

TEST_CASE("open files: no more are mapped than allowed, and the others are read all the same") {
    auto const check = [](table::open_file_limits limits) {
        scene all{6, limits};
        for (std::size_t i = 0; i < 6; ++i)
            for (int n = 0; n < 20; ++n) CHECK(all.reads(i));
        CHECK(all.list->mapped() == 2);
        all.files[0].reset(); // one of those that are
        for (int n = 0; n < 5000; ++n) CHECK(all.reads(5));
        CHECK(all.list->mapped() == 2);
    };
    check({.files = 2, .mappings = 2});
    check({.files = 2, .mapped_bytes = 2 * file_bytes + 1});
}

TEST_CASE("open files: where the machine maps nothing, files are read without, and mapped once it does") {
    scene all{1, {.files = 2}};
    all.fs.allow_mappings(false);
    std::array<std::byte, 8> got{};
    for (int n = 0; n < 50; ++n) CHECK(all.files[0]->fetch_mapped(0, got));
    for (int n = 0; n < 50; ++n) CHECK(all.reads(0));
    CHECK(all.list->mapped() == 0);
    all.fs.allow_mappings(true);
    for (int n = 0; n < 5000; ++n) CHECK(all.reads(0));
    CHECK(all.list->mapped() == 1);
}

TEST_CASE("open files: the bound is what was asked for, else a part of what the process may have") {
    using limits = table::open_file_limits;
    constexpr auto unlimited = std::numeric_limits<std::uint64_t>::max();
    CHECK(limits::of(0, false, 1024, unlimited).files == 256);
    CHECK(limits::of(0, true, 1024, unlimited).files == 768);
    CHECK(limits::of(77, true, 1024, unlimited).files == 77);
    CHECK(limits::of(1, false, 1024, unlimited).files == limits::files_least);
    CHECK(limits::of(0, false, 0, unlimited).files == limits::files_least);
    CHECK(limits::of(0, false, unlimited, unlimited).files > 1'000'000);
    CHECK(limits::of(0, false, 1024, unlimited).mapped_bytes == unlimited);
    CHECK(limits::of(0, false, 1024, 64 * MiB).mapped_bytes == 16 * MiB);
}

TEST_CASE("open files: threads that read more files than may be open read what is in them") {
    scene all{32, {.files = 4, .mappings = 8}};
    std::atomic<int> wrong{0};
    std::vector<std::thread> readers;
    for (std::size_t t = 0; t < 4; ++t)
        readers.emplace_back([&, t] {
            for (std::size_t n = 0; n < 4000; ++n) {
                auto const i = (n * 7 + t * 5) % 32;
                wrong += !all.reads(i);
                if (n % 16 == t) wrong += !all.reads_uncached(i);
                if (n % 64 == t) wrong += !all.files[i]->keep_open();
            }
        });
    for (auto& r : readers) r.join();
    CHECK(wrong == 0);
    CHECK(all.list->open() <= 4 + 4); // each thread may open one more at once
    CHECK(all.list->mapped() <= 8);
}

TEST_CASE("open files: a table that finds no descriptor has no damage, and answers once there is one") {
    using sum = checksum::crc32c;
    using table_type = table::sstable_reader<sum, compression::none, table_access::cached, disk>;
    disk fs;
    auto const key = [](int i) { return "key" + std::to_string(10000 + i); };
    auto const entry = [&] {
        auto made = table::sstable_builder<sum, compression::none, disk>::create(
            fs, "table", {.id = {3}, .salt = 0x77AA55CC12345679, .first = lsn{1}});
        REQUIRE(made);
        for (int i = 0; i < 2000; ++i)
            REQUIRE(made->add({.key = key(i), .value = key(i), .at = {static_cast<std::uint64_t>(i) + 1}}));
        return made->finish();
    }();
    REQUIRE(entry);
    int told = 0;
    auto const tell = std::make_shared<table::damage_listener const>([&](finding) { ++told; });
    auto const list = std::make_shared<table::open_file_list>(table::open_file_limits{.files = 2, .mappings = 0});
    auto const cache = std::make_shared<table::read_cache>(std::size_t{64} * KiB, true);
    auto const of = std::make_shared<table_type const>(fs, "table", *entry, cache, tell, list);
    table::read_version into;
    // Whatever part of it is asked for when there is none: the header, the filter, an index block, a block.
    for (int i = 0; i < 2000; ++i) {
        while (list->close_one()) {}
        fs.allow(0);
        auto const refused = of->find(key(i), format::filter_hash(key(i)), lsn_max, into);
        if (!refused) CHECK(refused.error().code == errc::no_descriptor);
        typename table_type::cursor at{of};
        at.seek(key(i));
        if (at.trouble()) CHECK(at.trouble()->code == errc::no_descriptor);
        else CHECK(at.current().key == key(i));
        fs.allow(1);
        auto const found = of->find(key(i), format::filter_hash(key(i)), lsn_max, into);
        REQUIRE(found);
        CHECK(*found);
        CHECK(into.what.value == key(i));
    }
    CHECK(told == 0);
    CHECK_FALSE(of->is_damaged());
}
