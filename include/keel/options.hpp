// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_OPTIONS_HPP
#define KEEL_OPTIONS_HPP

// The options of an opening, and the reports of its progress.

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

/// The phases of recovery, in order. recovery_progress reports `scan` only.
enum class recovery_phase : std::uint8_t { inventory, scan, classify, repair, replay };

/// The phase's name, for example "scan".
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

/// The progress of a recovery.
struct recovery_progress {
    recovery_phase phase = recovery_phase::inventory; ///< the present phase
    std::uint64_t segments_done = 0;                  ///< segments that were scanned
    std::uint64_t segments = 0; ///< segments to scan; a sealed one needs no scan unless verify_depth::deep asks for it
    std::uint64_t records = 0;  ///< not counted: 0
    std::uint64_t bytes_done = 0;       ///< bytes that were scanned
    std::uint64_t bytes = 0;            ///< bytes to scan
    std::chrono::nanoseconds elapsed{}; ///< since the scan began
    std::chrono::nanoseconds left{};    ///< at the rate so far; 0 while unknown
};

/// How much of a store is verified before it serves.
enum class verify_depth : std::uint8_t {
    /// The segments that a crash left unsealed. The seal of a sealed segment stands in for its records; each
    /// record is verified when it is read.
    quick,
    deep, ///< every byte of the log and of the tables
};

/// The depth's name, for example "deep".
[[nodiscard]] constexpr std::string_view name_of(verify_depth depth) noexcept {
    return depth == verify_depth::deep ? "deep" : "quick";
}

/// How to open a store or a log. Everything here may differ from one open to the next.
struct open_options {
    bool create_if_missing = true;  ///< makes a new store or log if there is none; else not_found
    bool create_parents = false;    ///< makes the folders above it, too, where they are missing
    bool read_only = false;         ///< never writes a byte; beside a writer, if there is one: the store as it is now
    unsigned recovery_threads = 0;  ///< 0: one per core, at most 8
    std::uint64_t memory_limit = 0; ///< most bytes for the buffers of the recovery scan; 0: 8 MiB
    /// How many openings in a row may die inside recovery before open refuses; 0: no limit. Without a value the policy
    /// max_attempts<N> sets the limit, by default 16.
    std::optional<unsigned> max_recovery_attempts{};
    verify_depth verify = verify_depth::quick; ///< deep: damage in sealed segments is found, and repaired, now
    std::optional<repair_strategy> repair{};   ///< replaces the repair policy for this opening
    std::function<void(recovery_progress const&)> on_progress{}; ///< called from the opening thread
    std::stop_token cancel{}; ///< soon after a stop request recovery returns `cancelled`
    /// A thread for idle marks, interval syncs, preparing segments and compaction. Without it the caller calls housekeep().
    bool background_thread = true;
    /// Engine only: most bytes of verified blocks and records kept in memory. The memory is taken as blocks and records are read.
    std::uint64_t cache_bytes = 256 * MiB;
    /// Engine only: most table and segment files open for reading. 0: a quarter of the process's limit (ulimit -n); for a read-only
    /// opening, which keeps all its files open, three quarters.
    std::uint64_t open_files = 0;
    /// Engine only: most bytes a second that compaction writes to tables; 0: no limit.
    std::uint64_t merge_bytes_per_second = 0;
    std::uint64_t (*clock_ns)() = system_clock_ns; ///< for marks and times; tests replace it
    std::uint64_t (*entropy)() = machine_entropy;  ///< for store ids and salts; tests replace it
};

} // namespace keel::inline v0

#endif
