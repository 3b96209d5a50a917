// SPDX-License-Identifier: BSL-1.0
// A flag byte, then the file of a table, or the payload of one block. Whatever it is, it is read to an end; a table whose checks were
// made right gives its look-ups what its walk gives, or an error. Bits 2 and 3 of the flags say what packed the table's blocks.
#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/compression/any_of.hpp>
#include <keel/policy/compression/none.hpp>
#if __has_include(<lz4.h>) && __has_include(<zstd.h>)
#include <keel/policy/compression/lz4.hpp>
#include <keel/policy/compression/zstd.hpp>
#endif
#include <keel/policy/table_access/cached.hpp>
#include <keel/policy/table_access/mapped.hpp>
#include <keel/table/check_table.hpp>
#include <keel/table/sstable.hpp>

#include "support/fix_checks.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace keel;
using C = checksum::crc32c;
#if __has_include(<lz4.h>) && __has_include(<zstd.h>)
using P = compression::any_of<compression::none, compression::zstd<>, compression::lz4>;
#else
using P = compression::none;
#endif
template <class Access>
using table_of = table::sstable_reader<C, P, Access, io::memory>;

void require(bool holds) {
    if (!holds) std::abort();
}

void read_block(byte_view in) {
    auto const bytes = std::make_unique<std::byte[]>(in.size()); // exactly so long: one more is a finding
    std::ranges::copy(in, bytes.get());
    byte_view const payload{bytes.get(), in.size()};
    format::block_reader at{payload};
    std::size_t n = 0;
    std::string middle;
    for (at.first(); at.valid(); at.next()) {
        if (++n % 3 == 0) middle = at.key();
        static_cast<void>(at.place());
        require(n <= in.size());
    }
    at.seek(middle, 5);
    for (n = 0; at.valid(); at.previous()) require(++n <= in.size());
    at.last();
}

/// No walk is longer than so many records. `whole`: nothing is wrong with the table.
template <class Access>
void read_by(io::memory const& disk, format::table_entry const& entry, std::size_t longest, bool whole) {
    auto const cache = std::make_shared<table::read_cache>(1 << 18);
    while (!cache->rows.wants_block(1)) continue; // the first few blocks are not taken apart
    auto const t = std::make_shared<table_of<Access> const>(disk, "t", entry, cache, nullptr);
    typename table_of<Access>::cursor at{t};
    std::size_t n = 0;
    std::vector<std::string> keys;
    for (at.seek({}); at.valid(); at.next()) {
        require(++n <= longest);
        if (keys.size() < 50) keys.emplace_back(at.current().key);
    }
    // Again and again: from the block, then from where its records are kept.
    std::vector<std::pair<std::string, lsn>> first;
    for (int turn = 0; turn < 3; ++turn)
        for (std::size_t i = 0; i < keys.size(); ++i) {
            auto const& k = keys[i];
            table::read_version got;
            table::row_cache::row_buffer row;
            auto const found = t->find(k, format::filter_hash(k), lsn_max, got, &row);
            if (!whole && !(found && *found)) continue;
            require(found && *found && got.what.key == k);
            if (turn == 0) first.emplace_back(got.what.value, got.what.at);
            else if (whole) require(first[i].first == got.what.value && first[i].second == got.what.at);
        }
    n = 0;
    std::string last;
    for (at.seek({}); at.valid(); at.pass()) {
        require(++n <= longest);
        if (whole) require(n == 1 || at.current().key > last);
        last = at.current().key;
    }
    n = 0;
    for (at.seek_last(); at.valid(); at.previous()) require(++n <= longest);
    at.seek_before("m");
    if (at.valid() && whole) require(at.current().key < "m");
}

void read_table(std::vector<std::byte> file, bool fix, std::uint8_t compression) {
    if (fix) test::fix_table<C>(file);
    auto const size = file.size();
    // A few packed bytes may be a million records.
    std::size_t const size_max = compression == 0 ? MiB : 16 * KiB;
    if (size < format::table_bytes_min || size > size_max) return;
    auto h = format::decode_table_header<C>(byte_view{file}.first(format::header_bytes));
    format::table_entry entry{.id = {1}, .salt = 1, .size = size, .lsns = {{1}, {9}}, .records = 1};
    if (h && h->size == size)
        entry = {.id = h->id, .salt = h->salt, .size = size, .lsns = h->lsns, .records = h->records};
    entry.compression = compression;
    io::memory disk;
    require(disk.replace("t", file).has_value());
    auto const checked = table::check_table<C, P>(disk, "t", "t", entry, [](auto const&) {});
    require(checked.has_value());
    // No record is larger than what was unpacked, so no walk is longer.
    auto const longest = compression == 0 ? size : size * std::size_t{format::packed_raw_bytes_max};
    bool const whole = checked->findings.empty();
    read_by<table_access::cached>(disk, entry, longest, whole);
    read_by<table_access::mapped>(disk, entry, longest, whole);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size == 0) return 0;
    auto const in = std::as_bytes(std::span{data, size}).subspan(1);
    if ((data[0] & 2) != 0) read_block(in);
    else read_table({in.begin(), in.end()}, (data[0] & 1) != 0, static_cast<std::uint8_t>(data[0] >> 2 & 3));
    return 0;
}
