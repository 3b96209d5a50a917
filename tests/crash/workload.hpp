// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_WORKLOAD_HPP
#define KEEL_TESTS_CRASH_WORKLOAD_HPP

// Short programs over a store, small enough to stop at every I/O operation of theirs. Segments are 4 or 8 KiB, so a handful of
// values rolls over, seals and recycles.

#include "../support/model.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace crash {

enum class step_kind { write, sync, idle, reopen, merge, ingest };

struct step {
    step_kind kind = step_kind::write;
    model::batch operations{};
};
using workload = std::vector<step>;

/// The workload of a number: each has its own mixture of batch sizes, value sizes, erases, syncs, idle marks and reopenings; where
/// the store merges, of merges, at least one at its end. `chunk_first`: begins with a batch that fills a chunk of an 8 KiB segment, so
/// that what comes next stands behind the chunk's index.
inline workload make_workload(std::uint64_t number, bool merging = false, bool chunk_first = false) {
    auto state = number * 0x9E3779B97F4A7C15ULL + 1;
    auto const random = [&](std::uint64_t below) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state % below;
    };
    workload all;
    if (chunk_first) {
        step s;
        for (int k = 0; k < 16; ++k)
            s.operations.push_back(
                {.key = "key" + std::to_string(k % 8), .value = std::string(92, static_cast<char>('A' + k))});
        all.push_back(std::move(s));
    }
    auto const steps = 3 + number % 6;
    for (std::uint64_t i = 0; i < steps; ++i) {
        step s;
        auto const kind = random(12);
        if (merging && (kind > 9 || (i > 2 && kind > 6) || i + 1 == steps)) s.kind = step_kind::merge;
        else if (kind == 0) s.kind = step_kind::sync;
        else if (kind == 1) s.kind = step_kind::idle;
        else if (kind == 2 && number % 3 == 0) s.kind = step_kind::reopen;
        else if (kind == 3 || (merging && i == 1)) s.kind = step_kind::ingest;
        if (s.kind == step_kind::ingest)
            for (auto k = random(5); k < 6; k += 1 + random(3))
                s.operations.push_back(
                    {.key = "key" + std::to_string(k),
                     .value = std::string(static_cast<std::size_t>(random(200)), 'i') + std::to_string(i)});
        if (s.kind == step_kind::write) {
            auto const operations = random(4) == 0 ? 2 + random(4) : 1;
            for (std::uint64_t k = 0; k < operations; ++k) {
                auto const big = number % 4 == 1 ? 700 : number % 4 == 3 ? 200 : 40;
                auto const length = random(static_cast<std::uint64_t>(big));
                s.operations.push_back(
                    {.put = random(5) != 0,
                     .key = "key" + std::to_string(random(6)),
                     .value = std::string(static_cast<std::size_t>(length), static_cast<char>('a' + random(26))) +
                              std::to_string(i)});
            }
        }
        all.push_back(std::move(s));
    }
    return all;
}

/// What ingest() takes.
inline model::contents sorted(model::batch const& operations) {
    model::contents all;
    for (auto const& op : operations) all[op.key] = op.value;
    return all;
}

} // namespace crash

#endif
