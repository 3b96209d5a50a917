// SPDX-License-Identifier: BSL-1.0
#include <keel/table/sstable.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/compression/none.hpp>
#include <keel/policy/table_access/cached.hpp>
#include <keel/policy/table_access/mapped.hpp>
#include <keel/table/check_table.hpp>
#include <keel/table/sstable_builder.hpp>

#include <support/slow_build.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace {

using keel::lsn;
using C = keel::checksum::crc32c;
using N = keel::compression::none;
using disk_type = keel::io::memory;
using cached_table = keel::table::sstable_reader<C, N, keel::table_access::cached, disk_type>;
using mapped_table = keel::table::sstable_reader<C, N, keel::table_access::mapped, disk_type>;

struct row {
    std::string key;
    std::string value;
    std::uint64_t at;
    bool tombstone;
    bool operator==(row const&) const = default;
};
row row_of(keel::table::version const& v) {
    return {std::string{v.key}, std::string{v.value}, v.at.value, v.tombstone};
}

/// Writes rows, which are in order, to a table of its own.
keel::format::table_entry written(disk_type& disk, std::vector<row> const& rows) {
    keel::table::table_birth const birth{.id = {3}, .salt = 0x77AA55CC12345679, .first = lsn{100}};
    auto made = keel::table::sstable_builder<C, N, disk_type>::create(disk, "t", birth);
    REQUIRE(made);
    for (auto const& r : rows)
        REQUIRE(made->add({.key = r.key, .value = r.value, .at = lsn{r.at}, .tombstone = r.tombstone}));
    auto entry = made->finish();
    REQUIRE(entry);
    CHECK(disk.status("t")->size == entry->size);
    return *entry;
}

struct listened {
    std::vector<keel::finding> found{};
    std::shared_ptr<keel::table::damage_listener const> listener{std::make_shared<keel::table::damage_listener const>(
        [this](keel::finding f) { found.push_back(std::move(f)); })};
};
template <class Table = cached_table>
std::shared_ptr<Table const> opened(disk_type const& disk, keel::format::table_entry const& entry,
                                    std::shared_ptr<keel::table::damage_listener const> listener = nullptr) {
    auto cache = std::make_shared<keel::table::read_cache>(1 << 20);
    while (!cache->rows.wants_block(1)) continue; // the first few blocks are not taken apart
    return std::make_shared<Table const>(disk, "t", entry, std::move(cache), std::move(listener));
}
template <class Table>
std::vector<row> walked(std::shared_ptr<Table const> const& t) {
    std::vector<row> out;
    typename Table::cursor at{t};
    for (at.seek({}); at.valid(); at.next()) out.push_back(row_of(at.current()));
    REQUIRE(!at.trouble());
    return out;
}
/// As an engine asks; what it finds holds until the next call.
template <class Table>
keel::result<bool> find(Table const& t, std::string const& key, std::uint64_t snapshot,
                        keel::table::read_version& into) {
    static keel::table::row_cache::row_buffer row;
    return t.find(key, keel::format::filter_hash(key), lsn{snapshot}, into, &row);
}

/// Many blocks, several versions of some keys, one of which fills blocks of its own.
std::vector<row> many_rows(int keys = 3000) {
    std::vector<row> rows;
    for (int i = 0; i < keys; ++i) {
        auto const key = "key" + std::to_string(100000 + i);
        if (i % 7 == 0) rows.push_back({key, "", 5000 + static_cast<std::uint64_t>(i), true});
        rows.push_back(
            {key, std::string(60, static_cast<char>('a' + i % 26)), 1000 + static_cast<std::uint64_t>(i), false});
    }
    for (std::uint64_t at = 900; at > 700; --at) rows.push_back({"key100500x", std::string(100, 'x'), at, false});
    std::ranges::sort(rows, [](row const& a, row const& b) { return a.key != b.key ? a.key < b.key : a.at > b.at; });
    return rows;
}

} // namespace

TEST_CASE_TEMPLATE("tables: random ones give every version to look-ups and walks, and nothing else", Table,
                   cached_table, mapped_table) {
    CHECK(rc::check([] {
        std::set<std::tuple<std::string, std::uint64_t>> names;
        auto const n = *rc::gen::inRange(1, 400);
        auto const key = rc::gen::oneOf(
            rc::gen::container<std::string>(rc::gen::inRange('a', 'e')),
            rc::gen::map(rc::gen::inRange(0, 40), [](int i) { return std::string(120, 'k') + std::to_string(i); }));
        for (int i = 0; i < n; ++i) names.emplace(*key + "!", ~*rc::gen::inRange<std::uint64_t>(100, 400));
        std::vector<row> rows;
        for (auto const& [k, at] : names)
            rows.push_back({k, std::string(static_cast<std::size_t>(*rc::gen::inRange(0, 150)), 'v'), ~at,
                            *rc::gen::arbitrary<bool>()});
        disk_type disk;
        auto const t = opened<Table>(disk, written(disk, rows));
        RC_ASSERT(walked(t) == rows);
        typename Table::cursor at{t};
        std::vector<row> back;
        for (at.seek_last(); at.valid(); at.previous()) back.push_back(row_of(at.current()));
        std::ranges::reverse(back);
        RC_ASSERT(back == rows);
        for (int i = 0; i < 60; ++i) { // beyond the first ones, which no record is kept for by itself
            auto const k = *key + *rc::gen::element<std::string>("", "!", "!a");
            auto const snapshot = *rc::gen::inRange<std::uint64_t>(0, 500);
            auto const expected = std::ranges::find_if(rows,
                                                       [&](row const& r) { return r.key == k && r.at <= snapshot; });
            keel::table::read_version got;
            auto const found = find(*t, k, snapshot, got);
            RC_ASSERT(found.has_value());
            RC_ASSERT(*found == (expected != rows.end()));
            if (*found) RC_ASSERT(row_of(got.what) == *expected);
            auto const behind = std::ranges::find_if(rows, [&](row const& r) { return r.key >= k; });
            at.seek(k);
            RC_ASSERT(at.valid() == (behind != rows.end()));
            if (at.valid()) RC_ASSERT(row_of(at.current()) == *behind);
            at.seek_before(k);
            RC_ASSERT(at.valid() == (behind != rows.begin()));
            if (at.valid()) RC_ASSERT(row_of(at.current()) == *std::prev(behind));
        }
        auto const checked = keel::table::check_table<C, N>(disk, "t", "t", t->entry(), [](auto const&) {});
        RC_ASSERT(checked.has_value());
        RC_ASSERT(checked->findings.empty());
        RC_ASSERT(checked->records == rows.size());
    }));
}

TEST_CASE_TEMPLATE(
    "P3: every byte of a table is covered: one that is changed is found, and no look-up gives a wrong value", Table,
    cached_table, mapped_table) {
    auto const rows = many_rows();
    disk_type disk;
    auto const entry = written(disk, rows);
    CHECK(entry.size > 200'000);
    std::size_t refused = 0;
    std::size_t healed = 0;
    for (std::uint64_t at = 5; at < entry.size; at += keel::test::sanitized ? 4 * 509 + 8 : 509) {
        auto hurt = disk.after_process_crash();
        REQUIRE(hurt.corrupt("t", at, std::byte{0x20}));
        auto const checked = keel::table::check_table<C, N>(hurt, "t", "t", entry, [](auto const&) {});
        REQUIRE(checked);
        CHECK_MESSAGE(checked->findings.size() == 1, at);
        listened ears;
        auto const t = opened<Table>(hurt, entry, ears.listener);
        bool any_refused = false;
        for (std::size_t i = 0; i < rows.size(); i += 3) {
            keel::table::read_version got;
            auto const found = find(*t, rows[i].key, rows[i].at, got);
            if (!found) {
                any_refused = true;
                CHECK(found.error().code == keel::errc::corruption);
                continue;
            }
            REQUIRE(*found);
            REQUIRE(row_of(got.what) == rows[i]);
        }
        refused += any_refused;
        healed += !any_refused;
        if (any_refused) CHECK(!ears.found.empty());
    }
    CHECK(refused > (keel::test::sanitized ? 50 : 100));
    CHECK(healed > (keel::test::sanitized ? 2 : 10)); // headers, filters, the index
}

TEST_CASE_TEMPLATE("tables: without root, index or filter the records are found all the same, and that is told", Table,
                   cached_table, mapped_table) {
    auto const rows = many_rows(20000);
    disk_type disk;
    auto const entry = written(disk, rows);
    keel::format::header_block head{};
    REQUIRE(disk.open("t", keel::io::access::read_only, keel::io::creation::must_exist)->read(0, head));
    auto const h = keel::format::decode_table_header<C>(head);
    REQUIRE(h);
    CHECK(h->index_blocks > 1);
    CHECK(h->filter_blocks > 0);
    for (auto const at :
         {std::uint64_t{h->root.offset} + 40, h->filter_offset(0) + 50, h->filter_offset(h->filter_blocks) + 50}) {
        auto hurt = disk.after_process_crash();
        REQUIRE(hurt.corrupt("t", at, std::byte{0x04}));
        listened ears;
        auto const t = opened<Table>(hurt, entry, ears.listener);
        for (auto const& r : rows) {
            keel::table::read_version got;
            auto const found = find(*t, r.key, r.at, got);
            REQUIRE(found);
            REQUIRE(row_of(got.what) == r);
        }
        CHECK(!ears.found.empty());
        CHECK(walked(t) == rows);
    }
}

TEST_CASE_TEMPLATE("tables: one that was cut short, is empty or is another one is an error with its file", Table,
                   cached_table, mapped_table) {
    auto const rows = many_rows();
    disk_type disk;
    auto const entry = written(disk, rows);
    auto other = entry;
    other.salt ^= 2;
    keel::table::read_version got;
    CHECK(find(*opened<Table>(disk, other), rows[5].key, 9000, got).error().code == keel::errc::corruption);
    for (auto const size : {std::uint64_t{0}, std::uint64_t{100}, entry.size / 2}) {
        auto hurt = disk.after_process_crash();
        REQUIRE(hurt.cut("t", size));
        auto const found = find(*opened<Table>(hurt, entry), rows[rows.size() - 1].key, 9000, got);
        if (size < 512) CHECK(found.error().file == "t");
        else CHECK((found && *found ? row_of(got.what) == rows[rows.size() - 1] : !found));
        auto const checked = keel::table::check_table<C, N>(hurt, "t", "t", entry, [](auto const&) {});
        REQUIRE(checked);
        CHECK(!checked->findings.empty());
    }
    disk_type empty;
    CHECK(find(*opened<Table>(empty, entry), "a", 9000, got).error().code == keel::errc::not_found);
}

TEST_CASE("tables: a walk past the versions of keys that fill many blocks reads few of these, and meets every key") {
    using counted_disk = keel::io::faulty<keel::io::memory>;
    using counted_table = keel::table::sstable_reader<C, N, keel::table_access::cached, counted_disk>;
    constexpr std::uint64_t versions = 5000;
    std::vector<std::string> const keys{"a", "b", "b and more", "c", "d"};
    std::vector<row> rows;
    for (auto const& key : keys)
        for (auto at = key.size() == 1 ? versions : 1; at > 0; --at)
            rows.push_back({key, std::string(60, 'v') + std::to_string(at), 100 + at, false});
    disk_type disk;
    auto const entry = written(disk, rows);
    counted_disk counted{disk};
    auto const cache = std::make_shared<keel::table::read_cache>(0);
    auto const t = std::make_shared<counted_table const>(counted, "t", entry, cache, nullptr);
    counted_table::cursor at{t};
    at.seek({}); // and whatever is read once
    auto const before = counted.operations(keel::io::fault_class::read);
    std::vector<std::string> met;
    for (; at.valid(); at.pass()) {
        met.emplace_back(at.current().key);
        CHECK(row_of(at.current()) == *std::ranges::find(rows, met.back(), &row::key));
    }
    CHECK(met == keys);
    REQUIRE(!at.trouble());
    CHECK(counted.operations(keel::io::fault_class::read) - before < 5 * keys.size());
    CHECK(walked(t) == rows); // all of it takes many more
    CHECK(counted.operations(keel::io::fault_class::read) - before > 50 * keys.size());
}
