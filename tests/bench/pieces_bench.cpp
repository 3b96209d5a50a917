// SPDX-License-Identifier: BSL-1.0
// What the pieces cost, each on its own: a frame, the scan of a segment, the memtable and its parts, a put that only stores.

#include "material.hpp"

#include <keel/engine.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/mark.hpp>
#include <keel/io/memory.hpp>
#include <keel/io/posix.hpp>
#include <keel/log.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/durability/os_buffered.hpp>
#include <keel/recovery/index_collector.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/table/memtable.hpp>
#include <keel/table/memtable_index.hpp>
#include <keel/wal/group.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace format = keel::format;
using crc32c = keel::checksum::crc32c;
using bench::must;
using keel::byte_view;
using keel::lsn;
using keel::MiB;

constexpr std::uint64_t salt = 0x1234'5678'9ABC'DEF1ULL;

// ---- frames -----------------------------------------------------------------------------------------------------------

std::vector<std::byte> one_frame(std::size_t bytes) {
    auto const payload = bench::noise{1}.text(bytes - format::frame_header_bytes);
    std::vector<std::byte> frame(bytes);
    std::ranges::copy(keel::as_bytes(payload), frame.begin() + format::frame_header_bytes);
    format::finish_frame<crc32c>(frame.data(), {salt, 4096},
                                 {.payload_bytes = static_cast<std::uint32_t>(payload.size()),
                                  .key_bytes = 16,
                                  .type = format::frame_type::put,
                                  .flags = format::whole_batch,
                                  .lsn_delta = 1});
    return frame;
}

/// Frames of state.range(0) bytes in all.
void frame_encode(benchmark::State& state) {
    auto frame = one_frame(static_cast<std::size_t>(state.range(0)));
    auto const header = format::read_frame_header(frame.data());
    auto* at = frame.data();
    for (auto _ : state) {
        benchmark::DoNotOptimize(at);
        format::finish_frame<crc32c>(at, {salt, 4096}, header);
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

void frame_parse(benchmark::State& state) {
    auto const frame = one_frame(static_cast<std::size_t>(state.range(0)));
    byte_view bytes = frame;
    for (auto _ : state) {
        benchmark::DoNotOptimize(bytes);
        auto const seen = format::read_frame<crc32c>(bytes, {salt, 4096});
        if (seen.state != format::frame_state::intact) state.SkipWithError("the frame does not verify");
        benchmark::DoNotOptimize(seen);
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

BENCHMARK(frame_encode)->Arg(128)->Arg(1024)->Arg(65536);
BENCHMARK(frame_parse)->Arg(128)->Arg(1024)->Arg(65536);

// ---- scan -------------------------------------------------------------------------------------------------------------

constexpr std::uint64_t frames_begin = 4096;

/// A segment's frames: records of `frame_bytes`, each a batch of its own, from frames_begin on, a mark in front.
std::vector<std::byte> segment_of_frames(std::uint64_t segment_bytes, std::uint64_t frame_bytes) {
    keel::wal::frame_encoder<crc32c> encoder{salt, lsn{1}};
    keel::wal::frame_group group;
    group.reset(frames_begin);
    group.bytes.reserve(segment_bytes);
    format::mark const m{.at = lsn{0}, .first = lsn{1}, .salt = salt, .kind = format::mark_kind::start};
    encoder.put(group, {.type = format::frame_type::mark, .flags = format::whole_batch}, lsn{0}, lsn{0}, {},
                format::encode(m));
    auto const value = bench::noise{2}.text(frame_bytes - format::frame_header_bytes - 16);
    for (std::uint64_t n = 1; group.end() + frame_bytes <= segment_bytes; ++n) {
        bench::key const key{n};
        keel::wal::operation const op{.key = keel::as_bytes(key.text()), .value = keel::as_bytes(value)};
        encoder.put_batch(group, std::span{&op, 1}, lsn{n}, lsn{n - 1});
    }
    group.bytes.insert(group.bytes.begin(), frames_begin, std::byte{0});
    return std::move(group.bytes);
}

template <class Sink, class File>
void scan(benchmark::State& state, File const& file, std::uint64_t bytes) {
    keel::recovery::segment_geometry const geometry{
        .id = {1}, .salt = salt, .first = lsn{1}, .begin = frames_begin, .limit = bytes};
    std::uint64_t records = 0;
    for (auto _ : state) {
        Sink sink{};
        auto const run = keel::recovery::scan_segment<crc32c>(file, geometry, sink);
        if (!run.bad.empty() || run.extents.size() != 1) state.SkipWithError("the scan found damage");
        records += run.records;
    }
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes - frames_begin));
    state.counters["ns_per_record"] = benchmark::Counter(static_cast<double>(records) * 1e-9,
                                                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

/// A file of 64 MiB in the page cache, frames of state.range(0) bytes; Sink: what is told of the records.
template <class Sink>
void scan_posix(benchmark::State& state) {
    bench::temporary_folder const folder{std::filesystem::current_path()};
    auto const bytes = segment_of_frames(64 * MiB, static_cast<std::uint64_t>(state.range(0)));
    keel::io::posix const fs;
    auto file = must(fs.open(folder / "segment", keel::io::access::read_write, keel::io::creation::must_not_exist));
    must(file.write(0, bytes));
    scan<Sink>(state, file, bytes.size());
}
template <class Sink>
void scan_memory(benchmark::State& state) {
    auto const bytes = segment_of_frames(64 * MiB, static_cast<std::uint64_t>(state.range(0)));
    keel::io::memory fs;
    auto file = must(fs.open("segment", keel::io::access::read_write, keel::io::creation::must_not_exist));
    must(file.write(0, bytes));
    scan<Sink>(state, file, bytes.size());
}

using keel::recovery::index_collector;
using keel::recovery::no_sink;
BENCHMARK(scan_posix<no_sink>)->Arg(128)->Arg(152)->Arg(1024)->Arg(65536)->Unit(benchmark::kMillisecond);
BENCHMARK(scan_posix<index_collector>)->Arg(152)->Unit(benchmark::kMillisecond);
BENCHMARK(scan_memory<no_sink>)->Arg(128)->Unit(benchmark::kMillisecond);

// ---- tables -----------------------------------------------------------------------------------------------------------

std::vector<std::string> keys(std::int64_t count) {
    std::vector<std::string> out;
    for (std::int64_t i = 0; i < count; ++i) out.emplace_back(bench::key{static_cast<std::uint64_t>(i)}.text());
    return out;
}

void fill(keel::table::memtable_index& index, std::vector<std::string> const& keys) {
    for (std::uint64_t at = 1; auto const& key : keys) {
        index.stage(key, "value", false);
        index.publish(lsn{at++}, 1);
    }
}

void memtable_find(benchmark::State& state) {
    auto const all = keys(state.range(0));
    keel::table::memtable_index index;
    fill(index, all);
    bench::noise random{4};
    for (auto _ : state) {
        auto const& key = all[random() % all.size()];
        benchmark::DoNotOptimize(index.find(key, keel::format::filter_hash(key), keel::lsn_max));
    }
    state.SetItemsProcessed(state.iterations());
}
/// The first walk over so many records sorts them; time per record.
void memtable_first_walk(benchmark::State& state) {
    auto const all = keys(state.range(0));
    for (auto _ : state) {
        state.PauseTiming();
        keel::table::memtable_index index;
        fill(index, all);
        state.ResumeTiming();
        keel::table::memtable_index::cursor at{index};
        at.seek("");
        benchmark::DoNotOptimize(at.valid());
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

void memtable_apply(benchmark::State& state) {
    auto const all = keys(state.range(0));
    auto const value = bench::noise{3}.text(100);
    for (auto _ : state) {
        keel::table::memtable table{keel::segment_id{1}, nullptr};
        std::uint64_t at = 0;
        for (auto const& key : all) {
            table.stage(format::frame_type::put, key, value);
            table.apply(lsn{++at}, 1);
        }
        benchmark::DoNotOptimize(table.find(all.front(), format::filter_hash(all.front()), keel::lsn_max));
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

/// The sorted index of a segment's keys; time per key.
void index_build(benchmark::State& state) {
    auto const all = keys(state.range(0));
    for (auto _ : state) {
        keel::wal::index_builder builder;
        std::uint32_t at = 0;
        for (auto const& key : all) builder.add(key, 0, ++at);
        benchmark::DoNotOptimize(builder.sorted().entries.data());
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

/// Gets of random keys from sealed segments of 16 MiB, 100-byte values, warm.
void sealed_get(benchmark::State& state) {
    bench::temporary_folder const folder{std::filesystem::current_path()};
    using store_type = keel::engine<keel::durability::os_buffered>;
    auto const all = keys(state.range(0));
    {
        auto store = must(store_type::open(folder / "store"));
        auto const value = bench::noise{5}.text(100);
        for (auto const& key : all) must(store.put(key, value));
        must(store.close());
    }
    auto store = must(store_type::open(folder / "store"));
    bench::noise random{4};
    for (auto _ : state) benchmark::DoNotOptimize(must(store.get(all[random() % all.size()])));
    state.SetItemsProcessed(state.iterations());
}
/// All keys in order from the same.
void sealed_scan(benchmark::State& state) {
    bench::temporary_folder const folder{std::filesystem::current_path()};
    using store_type = keel::engine<keel::durability::os_buffered>;
    auto const all = keys(state.range(0));
    {
        auto store = must(store_type::open(folder / "store"));
        auto const value = bench::noise{5}.text(100);
        for (auto const& key : all) must(store.put(key, value));
        must(store.close());
    }
    auto store = must(store_type::open(folder / "store"));
    std::size_t bytes = 0;
    for (auto _ : state) {
        auto walk = store.scan();
        for (auto&& [key, value] : walk) bytes += key.size() + value.size();
        must(walk.status());
    }
    benchmark::DoNotOptimize(bytes);
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
/// Open after an orderly close, to the first get, over so many keys.
void open_closed(benchmark::State& state) {
    bench::temporary_folder const folder{std::filesystem::current_path()};
    using store_type = keel::engine<keel::durability::os_buffered>;
    auto const all = keys(state.range(0));
    {
        auto store = must(store_type::open(folder / "store"));
        auto const value = bench::noise{5}.text(100);
        for (auto const& key : all) must(store.put(key, value));
        must(store.close());
    }
    for (auto _ : state) {
        auto store = must(store_type::open(folder / "store", {.background_thread = false}));
        benchmark::DoNotOptimize(must(store.get(all.front())));
    }
}

BENCHMARK(memtable_find)->Arg(1 << 10)->Arg(1 << 16)->Arg(1 << 20);
BENCHMARK(memtable_first_walk)->Arg(1 << 10)->Arg(1 << 16)->Unit(benchmark::kMillisecond);
BENCHMARK(memtable_apply)->Arg(1 << 10)->Arg(1 << 16)->Arg(1 << 20)->Unit(benchmark::kMillisecond);
BENCHMARK(index_build)->Arg(1 << 16)->Arg(1 << 20)->Unit(benchmark::kMillisecond);
BENCHMARK(sealed_get)->Arg(1 << 16)->Arg(1 << 20);
BENCHMARK(sealed_scan)->Arg(1 << 20)->Unit(benchmark::kMillisecond);
BENCHMARK(open_closed)->Arg(1 << 10)->Arg(1 << 20)->Unit(benchmark::kMicrosecond);

// ---- puts that only store -----------------------------------------------------------------------------------------------

using mapped = keel::config<keel::durability::os_buffered, keel::segment_size<64 * MiB>>;

/// Keys come again after a million puts; roll-over is in the figure, as it is in a program's life.
void mapped_put(benchmark::State& state) {
    bench::temporary_folder const folder{std::filesystem::current_path()};
    auto store = must(keel::basic_engine<mapped>::open(folder / "store"));
    auto const all = keys(1 << 20);
    auto const value = bench::noise{5}.text(100);
    std::size_t i = 0;
    for (auto _ : state) must(store.put(all[i++ % all.size()], value));
    state.SetItemsProcessed(state.iterations());
}
void mapped_append(benchmark::State& state) {
    bench::temporary_folder const folder{std::filesystem::current_path()};
    auto log = must(keel::basic_log<mapped>::open(folder / "log"));
    auto const value = bench::noise{5}.text(116);
    for (auto _ : state) must(log.append(value));
    state.SetItemsProcessed(state.iterations());
}
/// The store into the mapping alone: what the guard around it costs.
void mapping_store(benchmark::State& state) {
    bench::temporary_folder const folder{std::filesystem::current_path()};
    keel::io::posix const fs;
    auto file = must(fs.open(folder / "file", keel::io::access::read_write, keel::io::creation::must_not_exist));
    must(file.write(0, std::vector<std::byte>(1 * MiB)));
    auto mapping = must(file.map(keel::io::access::read_write));
    auto const bytes = one_frame(128);
    std::uint64_t at = 0;
    for (auto _ : state) {
        must(mapping.store(at, bytes));
        at = (at + bytes.size()) % (1 * MiB);
    }
    state.SetItemsProcessed(state.iterations());
}

BENCHMARK(mapped_put)->Iterations(1 << 20);
BENCHMARK(mapped_append)->Iterations(1 << 21);
BENCHMARK(mapping_store);

} // namespace
