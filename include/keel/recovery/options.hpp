// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_OPTIONS_HPP
#define KEEL_RECOVERY_OPTIONS_HPP

// What a caller may say when opening, and what they are told while it goes on.

#include <keel/io/machine.hpp>
#include <keel/policy/repair/concept.hpp>
#include <keel/types.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string_view>

namespace keel::inline v0 {

enum class recovery_phase : std::uint8_t { inventory, scan, classify, repair, replay };

[[nodiscard]] constexpr std::string_view name_of(recovery_phase phase) noexcept {
    switch (phase) {
    case recovery_phase::inventory: return "inventory";
    case recovery_phase::scan: return "scan";
    case recovery_phase::classify: return "classify";
    case recovery_phase::repair: return "repair";
    case recovery_phase::replay: return "replay";
    }
    return "unknown";
}

/// How far recovery is.
struct recovery_progress {
    recovery_phase phase = recovery_phase::inventory;
    std::uint64_t segments_done = 0;
    std::uint64_t segments = 0;
    std::uint64_t records = 0;
    std::uint64_t bytes_done = 0;
    std::uint64_t bytes = 0;
    std::chrono::nanoseconds elapsed{};
    std::chrono::nanoseconds left{}; ///< at the rate so far; 0 while unknown
};

/// How much of a store is verified before it serves.
enum class verify_depth : std::uint8_t {
    quick, ///< what a crash left open; a sealed segment stands for its records, each of which is verified when it is read
    deep, ///< every byte of the log and of the tables
};

[[nodiscard]] constexpr std::string_view name_of(verify_depth depth) noexcept {
    return depth == verify_depth::deep ? "deep" : "quick";
}

/// How to open a store or a log. Everything here may differ from one open to the next.
struct open_options {
    bool create_if_missing = true;
    bool create_parents = false;    ///< makes the folders above it, too, where they are missing
    bool read_only = false;         ///< never writes a byte; beside a writer, if there is one: the store as it is now
    unsigned recovery_threads = 0;  ///< 0: one per core, at most 8
    std::uint64_t memory_limit = 0; ///< bytes the recovery scan may hold at once for its buffers; 0: 8 MiB
    /// Opens in a row that may die inside recovery before open refuses; 0: no limit. Nothing: as max_attempts<N> has it, by default 16.
    std::optional<unsigned> max_recovery_attempts{};
    verify_depth verify = verify_depth::quick; ///< deep: damage in sealed segments is found, and repaired, now
    std::optional<repair_strategy> repair{};   ///< instead of the repair policy, this once
    std::function<void(recovery_progress const&)> on_progress{}; ///< called from the opening thread
    std::stop_token cancel{}; ///< recovery gives up with `cancelled` soon after a stop is requested
    bool background_thread =
        true; ///< idle marks, interval syncs, preparing segments, merging; without it call housekeep()
    std::uint64_t cache_bytes =
        256 * MiB; ///< of verified blocks and records kept in memory at most, taken as they are read; an engine's
    std::uint64_t open_files =
        0; ///< tables and segments that a store has open at most to read them; 0: a quarter of the process's limit
           ///< (ulimit -n); an opening that only reads, which keeps all of them open, three quarters; an engine's
    std::uint64_t merge_bytes_per_second =
        0; ///< how fast merges write tables at most; 0: as fast as they can; an engine's
    std::uint64_t (*clock_ns)() = system_clock_ns; ///< for marks and times; tests bring their own
    std::uint64_t (*entropy)() = machine_entropy;  ///< for store ids and salts; tests bring their own
};

} // namespace keel::inline v0

#endif
