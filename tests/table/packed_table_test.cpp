// SPDX-License-Identifier: BSL-1.0
#include <keel/table/packed_block.hpp>

#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/compression/any_of.hpp>
#include <keel/policy/compression/none.hpp>
#include <keel/policy/table_access/cached.hpp>
#include <keel/policy/table_access/mapped.hpp>
#include <keel/table/check_table.hpp>
#include <keel/table/sstable.hpp>
#include <keel/table/sstable_builder.hpp>

#include <support/fix_checks.hpp>
#include <support/run_lengths.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Tables whose blocks are packed.

namespace {

namespace packed_tables {

using namespace keel;
using C = checksum::crc32c;
using P = test::run_lengths;
using reading = table::sstable_reader<C, P, table_access::cached, io::memory>;

struct put_row {
    std::string key;
    std::string value;
};
/// By turns a stretch of values that pack well and one of values that do not; one is larger than what is packed, one almost as large.
std::vector<put_row> mixed_rows() {
    std::vector<put_row> rows;
    std::uint32_t seed = 7;
    for (int i = 0; i < 2000; ++i) {
        auto const key = "key" + std::to_string(10000 + i);
        if (i / 100 % 2 == 0) {
            rows.push_back({key, std::string(90, static_cast<char>('a' + i % 26))});
            continue;
        }
        std::string noise(90, '\0');
        for (auto& c : noise) c = static_cast<char>((seed = seed * 1'664'525U + 1'013'904'223U) >> 24);
        rows.push_back({key, noise});
    }
    rows.push_back({"large", std::string(MiB - 8 * KiB, 'l')});
    rows.push_back({"larger", std::string(MiB + 1, 'l')});
    return rows;
}

template <class Policy>
format::table_entry write(io::memory& disk, std::string const& path, std::vector<put_row> const& rows) {
    auto made = table::sstable_builder<C, Policy, io::memory>::create(
        disk, path, {.id = {3}, .salt = 0x77AA55CC12345679, .first = lsn{1}});
    REQUIRE(made);
    std::uint64_t at = 0;
    for (auto const& r : rows) REQUIRE(made->add({.key = r.key, .value = r.value, .at = {++at}}));
    auto entry = made->finish();
    REQUIRE(entry);
    CHECK(disk.status(path)->size == entry->size);
    return *entry;
}

template <class Table = reading>
std::shared_ptr<Table const> open(io::memory const& disk, format::table_entry const& entry) {
    return std::make_shared<Table const>(disk, "t", entry, std::make_shared<table::read_cache>(1 << 22), nullptr);
}
result<bool> find(reading const& t, std::string const& key, table::read_version& into) {
    return t.find(key, format::filter_hash(key), lsn_max, into);
}
/// The frames of records: what kind, and where.
std::vector<std::pair<format::frame_type, std::uint64_t>> blocks_of(io::memory const& disk) {
    auto const file = *disk.contents("t");
    auto const h = format::decode_table_header<C>(byte_view{file}.first(format::header_bytes));
    REQUIRE(h);
    std::vector<std::pair<format::frame_type, std::uint64_t>> out;
    for (auto at = format::table_frames_begin; at < h->blocks_end;) {
        auto const seen = format::peek_frame(file.data() + at, {h->salt, at}, h->blocks_end - at);
        REQUIRE(seen.state == format::frame_state::intact);
        out.emplace_back(seen.header.type, at);
        at += seen.bytes();
    }
    return out;
}
std::size_t count(io::memory const& disk, format::frame_type type) {
    std::size_t n = 0;
    for (auto const& [kind, at] : blocks_of(disk)) n += kind == type;
    return n;
}

} // namespace packed_tables

} // namespace

TEST_CASE("packed tables: blocks that pay are packed, the others stand as they are, and all are found and walked") {
    using namespace packed_tables;
    auto const rows = mixed_rows();
    io::memory disk;
    auto const entry = write<P>(disk, "t", rows);
    auto const plain = write<compression::none>(disk, "plain", rows);
    CHECK(entry.compression == P::id);
    CHECK(plain.compression == 0);
    CHECK(entry.size + MiB / 2 < plain.size);
    CHECK(count(disk, format::frame_type::packed) > 20);
    CHECK(count(disk, format::frame_type::block) > 20);
    auto const t = open(disk, entry);
    for (auto const& r : rows) {
        table::read_version got;
        auto const found = packed_tables::find(*t, r.key, got);
        REQUIRE(found);
        REQUIRE(*found);
        REQUIRE(got.what.value == r.value);
    }
    reading::cursor at{t};
    std::size_t n = 0;
    for (at.seek({}); at.valid(); at.next(), ++n) REQUIRE(at.current().value == rows[n].value);
    CHECK(n == rows.size());
    for (at.seek_last(); at.valid(); at.previous()) REQUIRE(at.current().key == rows[--n].key);
    CHECK(n == 0);
    CHECK(*t->bytes_between({}, {}) < entry.size);
    auto const checked = table::check_table<C, P>(disk, "t", "t", entry, [](auto const&) {});
    REQUIRE(checked);
    CHECK(checked->findings.empty());
    CHECK(checked->records == rows.size());
}

TEST_CASE("packed tables: what nothing packs is byte for byte what no compression writes") {
    using namespace packed_tables;
    std::vector<put_row> rows;
    for (int i = 0; i < 500; ++i) rows.push_back({"key" + std::to_string(1000 + i), std::to_string(i * 7919)});
    io::memory disk;
    auto const entry = write<P>(disk, "t", rows);
    CHECK(entry == write<compression::none>(disk, "plain", rows));
    CHECK(*disk.contents("t") == *disk.contents("plain"));
    using other = compression::any_of<compression::none, P>;
    CHECK(entry == write<other>(disk, "other", rows));
    CHECK(open<table::sstable_reader<C, compression::none, table_access::cached, io::memory>>(disk, entry)
              ->bytes_between({}, {}));
}

TEST_CASE("packed tables: one changed byte of the file is a finding, and no look-up gives a wrong value") {
    using namespace packed_tables;
    auto rows = mixed_rows();
    rows.resize(700);
    io::memory disk;
    auto const entry = write<P>(disk, "t", rows);
    std::size_t refused = 0;
    for (std::uint64_t at = 3; at < entry.size; at += 307) {
        auto hurt = disk.after_process_crash();
        REQUIRE(hurt.corrupt("t", at, std::byte{0x40}));
        auto const checked = table::check_table<C, P>(hurt, "t", "t", entry, [](auto const&) {});
        REQUIRE(checked);
        CHECK_MESSAGE(checked->findings.size() == 1, at);
        auto const t = open(hurt, entry);
        for (auto const& r : rows) {
            table::read_version got;
            auto const found = packed_tables::find(*t, r.key, got);
            if (found) REQUIRE((*found && got.what.value == r.value));
            else ++refused;
        }
    }
    CHECK(refused > 100);
}

TEST_CASE("packed tables: an index that is lost is made anew from packed blocks") {
    using namespace packed_tables;
    auto const rows = mixed_rows();
    io::memory disk;
    auto const entry = write<P>(disk, "t", rows);
    REQUIRE(disk.corrupt("t", entry.size - format::header_bytes - 100, std::byte{1}));
    auto const t = open(disk, entry);
    for (auto const& r : rows) {
        table::read_version got;
        auto const found = packed_tables::find(*t, r.key, got);
        REQUIRE(found);
        REQUIRE(got.what.value == r.value);
    }
}

TEST_CASE("packed tables: a packed block that verifies and does not unpack is corruption, with its place") {
    using namespace packed_tables;
    auto rows = mixed_rows();
    rows.resize(100);
    io::memory disk;
    auto const entry = write<P>(disk, "t", rows);
    auto const [kind, frame] = blocks_of(disk).front();
    REQUIRE(kind == format::frame_type::packed);
    auto const whole = *disk.contents("t");
    // Another length, none, one that nobody may allocate; another compression, none; bytes that say nothing; runs that are too long.
    struct change {
        std::uint64_t at;
        std::vector<std::byte> bytes;
    };
    std::byte const all{0xFF};
    std::byte const none{0};
    std::vector<change> const changes{{0, {std::byte{1}}},
                                      {0, {none, none, none, none}},
                                      {0, {all, all, all, all}},
                                      {2, {std::byte{0x11}}},
                                      {4, {std::byte{1}}},
                                      {4, {none}},
                                      {4, {std::byte{16}}},
                                      {6, {std::byte{1}}},
                                      {8, {none}},
                                      {8, {all}}};
    for (auto const& [at, bytes] : changes) {
        auto file = whole;
        std::ranges::copy(bytes, file.begin() + static_cast<std::ptrdiff_t>(frame + format::frame_header_bytes + at));
        test::fix_table<C>(file);
        REQUIRE(disk.replace("t", file));
        auto const checked = table::check_table<C, P>(disk, "t", "t", entry, [](auto const&) {});
        REQUIRE(checked);
        REQUIRE(checked->findings.size() == 1);
        CHECK(checked->findings[0].kind == damage::corrupt_block);
        CHECK(checked->findings[0].offset == frame);
        table::read_version got;
        auto const found = packed_tables::find(*open(disk, entry), rows[0].key, got);
        REQUIRE(!found);
        CHECK(found.error().code == errc::corruption);
        CHECK(found.error().file == "t");
        CHECK(found.error().offset == frame);
    }
    // Nor does a table take packed blocks that the manifest says it has none of.
    REQUIRE(disk.replace("t", whole));
    auto said = entry;
    said.compression = 0;
    table::read_version got;
    CHECK(packed_tables::find(*open(disk, said), rows[0].key, got).error().code == errc::corruption);
    CHECK(!table::check_table<C, P>(disk, "t", "t", said, [](auto const&) {})->findings.empty());
    CHECK(!table::check_table<C, compression::none>(disk, "t", "t", said, [](auto const&) {})->findings.empty());
}

TEST_CASE("packed heads: what was written comes back, and what nobody writes is none") {
    using keel::format::decode_packed_head;
    keel::format::packed_head const head{.raw_bytes = 4000, .compression = 2};
    auto const bytes = keel::format::encode(head);
    std::vector<std::byte> payload(bytes.begin(), bytes.end());
    CHECK(!decode_packed_head(payload));
    payload.push_back(std::byte{1});
    CHECK(decode_packed_head(payload) == head);
    keel::format::store(payload.data(), std::uint32_t{1 << 20});
    CHECK(decode_packed_head(payload));
    keel::format::store(payload.data(), std::uint32_t{1 << 20} + 1);
    CHECK(!decode_packed_head(payload));
    CHECK(!decode_packed_head({}));
}
