// SPDX-License-Identifier: BSL-1.0
#include <keel/table/damaged_range.hpp>

#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/compression/none.hpp>
#include <keel/policy/table_access/cached.hpp>
#include <keel/policy/table_access/mapped.hpp>
#include <keel/table/check_table.hpp>
#include <keel/table/record_finder.hpp>
#include <keel/table/sstable.hpp>
#include <keel/table/sstable_builder.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

// A damaged table: what can still be read, and what a walk says of the rest.

namespace {

namespace damaged_tables {

using namespace keel;
using C = checksum::crc32c;
using N = compression::none;
using disk_type = io::memory;
using cached = table::sstable_reader<C, N, table_access::cached, disk_type>;
using mapped = table::sstable_reader<C, N, table_access::mapped, disk_type>;

using row = std::tuple<std::string, std::uint64_t, std::string>; // key, LSN, value

row row_of(table::version const& v) { return {std::string{v.key}, v.at.value, std::string{v.value}}; }

/// By key, the newest first.
std::vector<row> some_rows(int keys) {
    std::vector<row> rows;
    for (int i = 0; i < keys; ++i) {
        auto const key = "key" + std::to_string(100000 + i);
        auto const versions = i % 97 == 0 ? 90U
                                          : 1U + static_cast<unsigned>(i % 3 == 0); // some fill blocks of their own
        for (auto v = versions; v > 0; --v)
            rows.emplace_back(key, 1000 + v, std::string(60, static_cast<char>('a' + v % 26)));
    }
    return rows;
}

struct made_table {
    disk_type disk{};
    format::table_entry entry{};
    format::table_header header{};
    std::vector<row> rows{};
};
made_table made(int keys) {
    made_table out{.rows = some_rows(keys)};
    auto writer = table::sstable_builder<C, N, disk_type>::create(
        out.disk, "t", {.id = {3}, .salt = 0x77AA55CC12345679, .first = lsn{1000}});
    REQUIRE(writer);
    for (auto const& [key, at, value] : out.rows) REQUIRE(writer->add({.key = key, .value = value, .at = {at}}));
    out.entry = *writer->finish();
    auto const bytes = *out.disk.contents("t");
    out.header = *format::decode_table_header<C>(byte_view{bytes}.first(format::header_bytes));
    return out;
}
template <class Table>
std::shared_ptr<Table const> opened(disk_type const& disk, format::table_entry const& entry) {
    return std::make_shared<Table const>(disk, "t", entry, std::make_shared<table::read_cache>(1 << 20), nullptr);
}

struct walk {
    std::vector<row> rows{}; ///< in order of the table
    std::vector<table::damaged_range> damage{};
    [[nodiscard]] bool covers(std::string_view key) const {
        return std::ranges::any_of(damage, [key](auto const& d) { return d.may_hold(key); });
    }
};
template <class Table>
walk walked(std::shared_ptr<Table const> const& t, bool forward) {
    walk out;
    typename Table::cursor at{t};
    forward ? at.seek({}) : at.seek_last();
    for (;;) {
        for (; at.valid(); forward ? at.next() : at.previous()) out.rows.push_back(row_of(at.current()));
        if (!at.trouble()) break;
        out.damage.push_back(at.damaged());
        forward ? at.leave_forward() : at.leave_backward();
    }
    if (!forward) std::ranges::reverse(out.rows);
    return out;
}
/// What verifies frame by frame, found without any index.
std::vector<row> sound_rows(disk_type& disk, format::table_entry const& entry) {
    std::vector<row> out;
    auto const seen = table::check_table<C, N>(disk, "t", "t", entry,
                                               [&](table::version const& v) { out.push_back(row_of(v)); });
    REQUIRE(seen);
    return out;
}

/// All that verifies is given, the rest is named, in both directions; look-ups agree with that.
template <class Table>
std::string wrong_with(disk_type& disk, made_table const& what) {
    auto const sound = sound_rows(disk, what.entry);
    for (bool const forward : {true, false}) {
        auto const t = opened<Table>(disk, what.entry);
        auto const seen = walked(t, forward);
        if (seen.rows != sound) return "a walk gives other records than those that verify";
        std::set<row> const there(sound.begin(), sound.end());
        for (auto const& r : what.rows)
            if (!there.contains(r) && !seen.covers(std::get<0>(r))) return "a missing key is in no damaged range";
        for (std::size_t i = 0; i < what.rows.size(); i += 1 + what.rows.size() / 200) {
            auto const& [key, at, value] = what.rows[i];
            table::read_version got;
            auto const found = t->find(key, format::filter_hash(key), {at}, got);
            if (!found && !seen.covers(key)) return "a look-up fails outside of the damage: " + key;
            if (!found) continue;
            if (*found && row_of(got.what) != what.rows[i]) return "a look-up gives something else";
            if (!*found && !seen.covers(key)) return "a look-up does not find what is there";
            if (!*found) return "a look-up calls absent what may be in the damaged part";
        }
    }
    return {};
}

TEST_CASE("damage: a check holds every sum of the header against the records") {
    auto const what = made(500);
    using sum = std::uint64_t format::table_header::*;
    for (sum const one :
         {&format::table_header::records, &format::table_header::erased, &format::table_header::key_bytes,
          &format::table_header::value_bytes, &format::table_header::blocks}) {
        auto disk = what.disk.after_process_crash();
        auto forged = what.header;
        forged.*one += 1;
        auto bytes = *disk.contents("t");
        auto const block = format::encode<C>(forged);
        std::ranges::copy(block, bytes.begin());
        std::ranges::copy(block, bytes.end() - static_cast<std::ptrdiff_t>(block.size()));
        REQUIRE(disk.replace("t", bytes));
        auto const seen = table::check_table<C, N>(disk, "t", "t", what.entry, [](auto const&) {});
        REQUIRE(seen);
        CHECK(seen->findings.size() == 1);
    }
    auto disk = what.disk.after_process_crash();
    CHECK(table::check_table<C, N>(disk, "t", "t", what.entry, [](auto const&) {})->findings.empty());
}

TEST_CASE("damage: the first key behind others is as small as it can be") {
    CHECK(table::key_after("a") == std::string("a\0", 2));
    CHECK(table::key_after_prefix("ab") == "ac");
    CHECK(table::key_after_prefix("a\xff") == "b");
    CHECK(!table::key_after_prefix("\xff\xff"));
    CHECK(!table::key_after_prefix(""));
    CHECK(table::first_key_of_prefix("c", 0x6162000000000000) == "cab");
    CHECK(table::first_key_of_prefix("c", 0) == "c");
    CHECK(table::key_after_index_prefix("c", 0x6162000000000000) == std::string("cab\0\0\0\0\0\1", 9));
    CHECK(table::key_after_index_prefix("c", ~std::uint64_t{0}) == "d");
    table::damaged_range one{.from = "k", .to = table::key_after("k")};
    CHECK(one.is_one_key());
    CHECK(one.may_hold("k"));
    CHECK(!one.may_hold(table::key_after("k")));
    one.key_bytes = 2;
    CHECK(!one.may_hold("k"));
    one.cut_to("l", {});
    CHECK(one.empty());
    CHECK(!table::damaged_range{.from = "k", .to = "l"}.is_one_key());
}

TEST_CASE_TEMPLATE("damage: a block that does not verify costs the keys between its neighbours, and no others", Table,
                   cached, mapped) {
    auto const what = made(3000);
    auto disk = what.disk.after_process_crash();
    REQUIRE(disk.corrupt("t", 20'000, std::byte{1}));
    auto const seen = walked(opened<Table>(disk, what.entry), true);
    REQUIRE(seen.damage.size() == 1);
    auto const& d = seen.damage.front();
    CHECK(d.why.code == errc::corruption);
    CHECK(d.why.file == "t");
    CHECK(d.why.offset <= 20'000);
    CHECK(d.why.offset + 4200 > 20'000);
    CHECK(d.lsns == what.entry.lsns);
    // The bounds are the last key in front of the block and its own last one.
    std::set<row> const there(seen.rows.begin(), seen.rows.end());
    std::vector<row> missing;
    for (auto const& r : what.rows)
        if (!there.contains(r)) missing.push_back(r);
    REQUIRE(!missing.empty());
    CHECK(*d.to == table::key_after(std::get<0>(missing.back())));
    auto const first = std::ranges::find(what.rows, missing.front());
    CHECK(*d.from == std::get<0>(*std::prev(first)));
    CHECK(wrong_with<Table>(disk, what) == "");
}

TEST_CASE_TEMPLATE(
    "damage: index, root, headers and filter may be gone beside a block: all that verifies is found all the same",
    Table, cached, mapped) {
    auto const what = made(20'000);
    auto const& h = what.header;
    REQUIRE(h.index_blocks > 2);
    std::uint64_t const root = h.root.offset + 40;
    std::uint64_t const index = h.filter_offset(h.filter_blocks) + 50;
    std::uint64_t const filter = h.filter_offset(0) + 50;
    std::uint64_t const last_index = h.root.offset - 40;
    std::uint64_t const first_header = 100;
    std::uint64_t const second_header = what.entry.size - 100;
    std::uint64_t const block = 20'000;
    std::uint64_t const first_block = 600;
    std::uint64_t const last_block = h.blocks_end - 20;
    std::vector<std::vector<std::uint64_t>> const cases{
        {index, block},
        {root, block, first_block},
        {root, index, last_index, last_block},
        {first_header, block},
        {first_header, second_header},
        {first_header, second_header, root, filter, block},
        {first_header, second_header, index, last_index, first_block, last_block},
        {index, first_block, last_block},
        {last_index, last_block},
    };
    for (auto const& places : cases) {
        auto disk = what.disk.after_process_crash();
        for (auto const at : places) REQUIRE(disk.corrupt("t", at, std::byte{0x10}));
        CHECK_MESSAGE(wrong_with<Table>(disk, what) == "", places.front());
    }
    // Neither index nor headers are needed for a look-up outside of the damage.
    auto disk = what.disk.after_process_crash();
    for (auto const at : {first_header, second_header, root, index, block})
        REQUIRE(disk.corrupt("t", at, std::byte{0x10}));
    auto const t = opened<Table>(disk, what.entry);
    std::size_t refused = 0;
    for (auto const& [key, at, value] : what.rows) {
        table::read_version got;
        refused += !t->find(key, format::filter_hash(key), lsn_max, got);
    }
    CHECK(refused > 0);
    CHECK(refused < 200);
}

TEST_CASE_TEMPLATE("damage: a table that is cut short or full of holes gives what is left, and names the rest", Table,
                   cached, mapped) {
    auto const what = made(700);
    for (std::uint64_t size = 0; size < what.entry.size; size += what.entry.size / 7) {
        auto disk = what.disk.after_process_crash();
        REQUIRE(disk.cut("t", size));
        CHECK_MESSAGE(wrong_with<Table>(disk, what) == "", size);
    }
    CHECK(rc::check([&] {
        auto disk = what.disk.after_process_crash();
        for (auto n = *rc::gen::inRange(1, 6); n > 0; --n) {
            auto const at = *rc::gen::inRange<std::uint64_t>(0, what.entry.size);
            auto const length = std::min(*rc::gen::element<std::uint64_t>(1, 40, 512, 9000), what.entry.size - at);
            std::vector<std::byte> const with(static_cast<std::size_t>(length),
                                              static_cast<std::byte>(*rc::gen::inRange(0, 256)));
            RC_ASSERT(disk.corrupt("t", at, byte_view{with}).has_value());
        }
        RC_ASSERT(wrong_with<Table>(disk, what) == "");
    }));
}

TEST_CASE("damage: a table that cannot be opened is one range, as wide as the manifest says") {
    auto const what = made(100);
    disk_type empty;
    auto const seen = walked(opened<cached>(empty, what.entry), true);
    CHECK(seen.rows.empty());
    REQUIRE(seen.damage.size() == 1);
    CHECK(seen.damage.front().why.code == errc::not_found);
    CHECK(*seen.damage.front().from == "key100000");
    CHECK(*seen.damage.front().to == table::key_after("key100099"));
    auto open_end = what.entry;
    open_end.ends_open = true;
    CHECK(*walked(opened<cached>(empty, open_end), false).damage.front().to == "key10009:");
}

TEST_CASE("damage: a walk that passes keys is behind all versions of one, damage between them or not") {
    auto const what = made(300); // some keys have more versions than a block
    for (std::uint64_t at = 600; at < what.header.blocks_end; at += 4096) {
        auto disk = what.disk.after_process_crash();
        REQUIRE(disk.corrupt("t", at, std::byte{1}));
        std::vector<std::string> keys;
        cached::cursor walk{opened<cached>(disk, what.entry)};
        walk.seek({});
        while (walk.valid() || walk.trouble()) {
            if (walk.trouble()) {
                walk.leave_forward();
                continue;
            }
            keys.emplace_back(walk.current().key);
            walk.pass();
        }
        CHECK(std::ranges::adjacent_find(keys) == keys.end());
        CHECK(std::ranges::is_sorted(keys));
        CHECK(keys.size() > 240);
    }
}

} // namespace damaged_tables

} // namespace
