// SPDX-License-Identifier: BSL-1.0
// Writes what the tests keep: `make_fixtures TESTS_FOLDER` fills golden/store-format-N/ for the format number of this library, where
// there is none yet, and the first inputs of the fuzzers in fuzz/corpus/. Run by hand, when a format number is new.
#include "golden/fixture.hpp"
#include "support/packed_store.hpp"
#include "support/segment_image.hpp"

#if __has_include(<lz4.h>) && __has_include(<zstd.h>)
#include <keel/policy/compression/lz4.hpp>
#include <keel/policy/compression/zstd.hpp>
#endif

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace {

using namespace keel;
using namespace keel::test;
namespace stdfs = std::filesystem;

void write_file(stdfs::path const& path, byte_view bytes) {
    stdfs::create_directories(path.parent_path());
    std::ofstream out{path, std::ios::binary};
    out.write(as_text(bytes).data(), static_cast<std::streamsize>(bytes.size()));
}

void write_disk(stdfs::path const& folder, io::memory const& disk) {
    for (auto const& path : disk.files())
        write_file(folder / path.substr(store_folder.size() + 1), *disk.contents(path));
}

std::vector<std::byte> with_flags(unsigned flags, byte_view bytes) {
    std::vector<std::byte> out{static_cast<std::byte>(flags)};
    out.insert(out.end(), bytes.begin(), bytes.end());
    return out;
}

void store_inputs(stdfs::path const& corpus) {
    int n = 0;
    auto const put = [&](io::memory const& disk, unsigned flags) {
        write_file(corpus / "open" / ("store-" + std::to_string(n++)), pack(disk, static_cast<std::uint8_t>(flags)));
    };
    for (auto const how : {ending::closed, ending::process_crash, ending::power_loss})
        for (std::uint64_t const records : {4U, 30U})
            for (unsigned const flags : {16U, 23U})
                put(make_store(how, records, records).disk, flags | unsigned(n % 4) << 5);
    auto const damaged = [](auto damage) {
        auto disk = make_store(ending::closed, 30, 5).disk;
        damage(disk);
        return disk;
    };
    auto const first = std::string{"db/log/0000000000000001.seg"};
    auto const repaired = [&](repair_strategy how) {
        auto disk = damaged([&](auto& d) { flip_bit(d, first, 1500 * 8); });
        auto store = small_engine::open(store_folder, quiet_options(how), disk);
        static_cast<void>(store->put("after", "repair"));
        store->abandon();
        return disk;
    };
    put(repaired(repair_strategy::skip_corrupted), 23);
    put(repaired(repair_strategy::rollback), 23 | 32);
    put(damaged([&](auto& d) { flip_bit(d, first, 1500 * 8); }), 16 | 64);
    auto const no_manifest = [](auto& d) {
        static_cast<void>(d.remove("db/manifest.0"));
        static_cast<void>(d.remove("db/manifest.1"));
    };
    put(damaged(no_manifest), 16 | 64);
    auto const merged = [](std::string const& hurt, std::uint64_t at) {
        auto disk = kept_store(ending::closed, true);
        if (!hurt.empty()) flip_bit(disk, hurt, at * 8);
        return disk;
    };
    put(merged("", 0), 16);
    put(merged("", 0), 23);
    put(merged("db/tables/0000000000000001.tab", 700), 16);
    put(merged("db/tables/0000000000000001.tab", 700), 23);
    auto const ingested = [](bool closed) {
        auto disk = make_store(ending::closed, 20, 3).disk;
        auto store = small_engine::open(store_folder, still_options(), disk);
        for (auto const* value : {"one", "two"}) {
            static_cast<void>(store->ingest(history::content{{"key 1", value}, {"zz", value}}));
            static_cast<void>(store->put("zz", "put"));
        }
        if (closed) static_cast<void>(store->close());
        else store->abandon();
        return disk.after_process_crash();
    };
    for (unsigned const how : {0U, 32U, 64U, 96U}) put(ingested(true), 23 | how);
    put(ingested(false), 23 | 32);
    put(ingested(false), 16 | 64);
    put(damaged([&](auto& d) {
            no_manifest(d);
            zero(d, first, 0, 512);
            zero(d, first, 3584, 512);
        }),
        16 | 96);
}

void block_inputs(stdfs::path const& corpus) {
    auto const disk = tiny_store();
    auto const segment = *disk.contents("db/log/0000000000000001.seg");
    auto const manifest = *disk.contents("db/manifest.0");
    auto const notes = *disk.contents("db/notes");
    auto const all = [](std::vector<std::byte> const& v) { return byte_view{v}; };
    write_file(corpus / "headers" / "header", with_flags(1, all(segment).first(512)));
    write_file(corpus / "headers" / "footer", with_flags(1, all(segment).subspan(3072, 512)));
    write_file(corpus / "headers" / "manifest", with_flags(2, all(manifest).first(512)));
    write_file(corpus / "headers" / "note", with_flags(1, all(notes).first(256)));
    write_file(corpus / "headers" / "chunks", [&] {
        constexpr std::uint32_t end = 4096 + 2048; // as tests/fuzz/headers_fuzz.cpp places it
        format::indexed_chunk const one{
            .begin = 4096, .end = end, .first = 1, .last = 10, .records = 10, .blocks = end + 32 + 48};
        auto payload = format::encode_chunks({&one, 1});
        payload.resize(payload.size() + 4096);
        return with_flags(0, payload);
    }());
    write_file(corpus / "notes" / "own", with_flags(3, all(notes).first(512)));
    write_file(corpus / "notes" / "foreign", with_flags(1, all(notes).first(512)));
    write_file(corpus / "notes" / "short", with_flags(0, all(notes).first(100)));
    write_file(corpus / "frame" / "mark", [&] {
        std::vector<std::byte> out(16);
        format::store(out.data(), format::load<std::uint64_t>(segment.data() + 40));
        format::store(out.data() + 8, std::uint64_t{512});
        out.push_back(std::byte{7});
        out.insert(out.end(), segment.begin() + 512, segment.begin() + 624);
        return out;
    }());
    write_file(corpus / "frame" / "record", [&] {
        std::vector<std::byte> out(16);
        format::store(out.data(), format::load<std::uint64_t>(segment.data() + 40));
        format::store(out.data() + 8, std::uint64_t{624});
        out.push_back(std::byte{7});
        out.insert(out.end(), segment.begin() + 624, segment.begin() + 688);
        return out;
    }());
}

void manifest_inputs(stdfs::path const& corpus) {
    auto const kept = kept_store(ending::closed);
    auto const full = *kept.contents("db/manifest.0");
    auto const other = *kept.contents("db/manifest.1");
    std::vector<std::byte> both{std::byte{7}, std::byte{0xE8}, std::byte{0x03}}; // 1000 bytes of the first
    both.insert(both.end(), full.begin(), full.begin() + 1000);
    both.insert(both.end(), other.begin(), other.begin() + 1000);
    write_file(corpus / "manifest" / "two-files", both);
    format::edit_builder e;
    e.prepared({1}, format::salt_of({1}, 1), 4096, {1})
        .sealed({.id = {1}, .salt = format::salt_of({1}, 1), .range = {{1}, {9}}});
    e.loss({{10}, {12}})
        .removed({7}, 1)
        .log_base({.id = {9}})
        .log_start_lsn({3})
        .next_ids(10, 2)
        .prepared({2}, 5, 8192, {2})
        .retired({2});
    format::table_entry t{.id = {4}, .salt = 77, .size = 9000, .lsns = {{2}, {3}}, .records = 2, .level = 3};
    t.set_bounds("a", std::string(200, 'b'));
    e.table(t)
        .table({.id = {5}, .salt = 78, .size = 9000, .lsns = {{2}, {2}}, .largest = "x"})
        .remove_table({5})
        .next_table_id(9);
    write_file(corpus / "manifest" / "edit", with_flags(0, e.payload()));
}

/// A table of some text, a block or two of it packed.
template <class P>
std::vector<std::byte> packed_table() {
    io::memory disk;
    auto made = table::sstable_builder<checksum::crc32c, P, io::memory>::create(
        disk, "t", {.id = {1}, .salt = 0x0123456789ABCDEF, .first = {1}});
    for (unsigned i = 0; i < 60; ++i) {
        auto const key = "user:" + std::to_string(1000 + i);
        auto const value = "lives in street " + std::to_string(i / 7) + ", number " + std::to_string(i * 31 % 90) +
                           ", and has an account since 2019";
        static_cast<void>(made->add({.key = key, .value = value, .at = {i + 1}, .tombstone = i % 9 == 0}));
    }
    static_cast<void>(made->finish());
    return *disk.contents("t");
}

void table_inputs(stdfs::path const& corpus) {
    auto const table = *kept_store(ending::closed, true).contents("db/tables/0000000000000001.tab");
    for (unsigned const flags : {0U, 1U})
        write_file(corpus / "table" / ("whole-" + std::to_string(flags)), with_flags(flags, table));
    auto hurt = table;
    for (auto const at : {std::size_t{520}, std::size_t{600}, table.size() - 700}) hurt[at] ^= std::byte{0x11};
    write_file(corpus / "table" / "hurt", with_flags(1, hurt));
    write_file(corpus / "table" / "block", with_flags(2, byte_view{table}.subspan(544, 400)));
#if __has_include(<lz4.h>) && __has_include(<zstd.h>)
    write_file(corpus / "table" / "packed-zstd", with_flags(1 | 4, packed_table<compression::zstd<>>()));
    write_file(corpus / "table" / "packed-lz4", with_flags(1 | 8, packed_table<compression::lz4>()));
    write_file(corpus / "table" / "packed-not-said", with_flags(1, packed_table<compression::zstd<>>()));
    auto other = packed_table<
        compression::lz4>(); // the first block's length and a byte of what is packed are others than they were
    other[544] ^= std::byte{1};
    other[560] ^= std::byte{0x11};
    write_file(corpus / "table" / "packed-hurt", with_flags(1 | 8, other));
#endif
}

void scan_inputs(stdfs::path const& corpus) {
    segment_image image;
    image.mark(0, 0, format::mark_kind::start);
    image.record(1, "one");
    image.record(2, "two", format::begins_batch);
    image.record(3, "three", format::ends_batch);
    auto const losses = format::encode_losses({{{4}, {6}}});
    image.add({.type = format::frame_type::loss, .flags = format::whole_batch}, {3}, as_text(losses));
    image.record(7, std::string(200, 'x'));
    image.mark(7, 7, format::mark_kind::close);
    auto const used = byte_view{image.bytes()}.first(static_cast<std::size_t>(image.end()));
    write_file(corpus / "scan" / "whole", with_flags(0, used));
    write_file(corpus / "scan" / "fixed", with_flags(3, used));
    write_file(corpus / "scan" / "known-end", with_flags(5, used));
    write_file(corpus / "scan" / "far", with_flags(11, used));
    write_file(corpus / "scan" / "unreadable", with_flags(17, used));
}

void text_inputs(stdfs::path const& corpus) {
    int n = 0;
    for (auto const* line :
         {"17 put whole \"user:1\" \"Ada\"", "18 message whole \"line\\x0a\"", "19 erase begins \"k\"",
          "20 type65 flags7 \"\" \"\\xff\\\"\\\\\"", "18446744073709551615 put inside \"a\" \"\"", "1 put", "x"})
        write_file(corpus / "text" / ("line-" + std::to_string(n++)), as_bytes(std::string_view{line}));
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) return std::fprintf(stderr, "usage: make_fixtures TESTS_FOLDER\n"), 2;
    stdfs::path const tests{argv[1]};
    auto const kept = tests / "golden" / ("store-format-" + std::to_string(format::format_number));
    if (!stdfs::exists(kept)) {
        write_disk(kept / "closed", kept_store(ending::closed));
        write_disk(kept / "killed", kept_store(ending::process_crash));
        write_disk(kept / "merged", kept_store(ending::closed, true));
    }
    auto const corpus = tests / "fuzz" / "corpus";
    store_inputs(corpus);
    block_inputs(corpus);
    manifest_inputs(corpus);
    table_inputs(corpus);
    scan_inputs(corpus);
    text_inputs(corpus);
    return 0;
}
