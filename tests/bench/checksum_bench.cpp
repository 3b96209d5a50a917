// SPDX-License-Identifier: BSL-1.0
// What a checksum costs: a 64 KiB block, a 128-byte record, and the shape the log sums (prefix, header, payload), for
// each model.

#include <keel/policy/checksum/crc32.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/checksum/xxh3_64.hpp>

#if __has_include(<openssl/evp.h>)
#include <keel/policy/checksum/sha3_64.hpp>
#define WITH_SHA3 1
#endif

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

namespace checksum = keel::checksum;

std::vector<std::byte> some_bytes(std::size_t size) {
    std::vector<std::byte> bytes(size);
    std::uint32_t state = 1;
    for (auto& byte : bytes) {
        state = state * 1'664'525U + 1'013'904'223U;
        byte = static_cast<std::byte>(state >> 24);
    }
    return bytes;
}

/// One run of state.range(0) bytes.
template <class C>
void one_run(benchmark::State& state) {
    auto const bytes = some_bytes(static_cast<std::size_t>(state.range(0)));
    keel::byte_view view = bytes;
    for (auto _ : state) {
        benchmark::DoNotOptimize(view);
        benchmark::DoNotOptimize(checksum::over<C>(view));
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

/// As the log does it: 16 bytes of place, 24 of header, then the payload; state.range(0) bytes in all.
template <class C>
void log_record(benchmark::State& state) {
    auto const bytes = some_bytes(static_cast<std::size_t>(state.range(0)));
    keel::byte_view view = bytes;
    for (auto _ : state) {
        benchmark::DoNotOptimize(view);
        C sum;
        sum.update(view.first(16));
        sum.update(view.subspan(16, 24));
        sum.update(view.subspan(40));
        benchmark::DoNotOptimize(sum.value());
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

BENCHMARK(one_run<checksum::crc32>)->Arg(128)->Arg(65536);
BENCHMARK(one_run<checksum::crc32c>)->Arg(128)->Arg(512)->Arg(4096)->Arg(65536)->Arg(256 << 20);
BENCHMARK(one_run<checksum::xxh3_64>)->Arg(128)->Arg(512)->Arg(4096)->Arg(65536);

BENCHMARK(log_record<checksum::crc32>)->Arg(128);
BENCHMARK(log_record<checksum::crc32c>)->Arg(128);
BENCHMARK(log_record<checksum::xxh3_64>)->Arg(128);
#if defined(WITH_SHA3)
BENCHMARK(one_run<checksum::sha3_64>)->Arg(128)->Arg(65536);
BENCHMARK(log_record<checksum::sha3_64>)->Arg(128);
#endif

/// Each way of CRC-32C on its own, to see where the dispatcher should switch.
template <checksum::detail::crc32c_path Path>
void crc32c_path(benchmark::State& state) {
    if (checksum::detail::crc32c_best_path() < Path) {
        state.SkipWithError("this CPU has no such path");
        return;
    }
    auto const bytes = some_bytes(static_cast<std::size_t>(state.range(0)));
    keel::byte_view view = bytes;
    for (auto _ : state) {
        benchmark::DoNotOptimize(view);
        benchmark::DoNotOptimize(checksum::detail::crc32c_by(Path, ~0U, view.data(), view.size()));
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

using checksum::detail::crc32c_path;
BENCHMARK(::crc32c_path<crc32c_path::portable>)->Arg(128)->Arg(65536);
BENCHMARK(::crc32c_path<crc32c_path::one_lane>)->Arg(128)->Arg(192)->Arg(256)->Arg(512)->Arg(65536);
BENCHMARK(::crc32c_path<crc32c_path::three_way>)->Arg(128)->Arg(192)->Arg(256)->Arg(512)->Arg(65536);
BENCHMARK(::crc32c_path<crc32c_path::wide>)->Arg(128)->Arg(192)->Arg(256)->Arg(512)->Arg(65536);

} // namespace
