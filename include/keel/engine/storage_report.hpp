// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_STORAGE_REPORT_HPP
#define KEEL_ENGINE_STORAGE_REPORT_HPP

// The sizes of a store's parts and the cost of its merges: the result of basic_engine::storage().

#include <keel/types.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

namespace keel::inline v0 {

/// The sizes of a store's parts now, and the cost of merges since it was opened.
struct storage_report {
    static constexpr std::size_t levels_max = 7; ///< of tables; as many as the manifest has
    /// One level of tables.
    struct level {
        std::uint64_t tables = 0;  ///< tables in the level
        std::uint64_t bytes = 0;   ///< their size
        std::uint64_t records = 0; ///< all versions, tombstones among them
    };
    std::uint64_t segments = 0;              ///< of the log, prepared ones among them
    std::uint64_t log_bytes = 0;             ///< their size
    std::array<level, levels_max> levels{};  ///< the first: what was ingested and not merged yet
    std::uint64_t merges = 0;                ///< compactions that were carried out
    std::uint64_t merge_bytes_read = 0;      ///< bytes of segments and tables that these read
    std::uint64_t merge_bytes_written = 0;   ///< bytes of tables that these wrote
    std::uint64_t records_dropped = 0;       ///< overwritten and deleted records that these removed
    std::uint64_t log_waiting = 0;           ///< bytes of the log that could be merged now
    std::uint64_t write_rate = 0;            ///< bytes a second that may be written, because merging is behind; 0: any
    std::uint64_t stalled_writes = 0;        ///< that waited for that
    std::uint64_t open_files = 0;            ///< tables and segments that are open to be read,
    std::uint64_t open_files_max = 0;        ///< and how many may be
    std::uint64_t mapped_files = 0;          ///< which are read without being open
    std::chrono::nanoseconds stalled_time{}; ///< the sum of the times that stalled_writes waited
};

/// "3 segments of 192 KiB; level 1: 2 tables, 4096 KiB, 900 records; 5 merges read 9000 KiB, wrote 4096 KiB, dropped 17 records; ..."
[[nodiscard]] inline std::string to_string(storage_report const& r) {
    auto const kib = [](std::uint64_t bytes) { return std::to_string((bytes + KiB - 1) / KiB) + " KiB"; };
    auto text = std::to_string(r.segments) + " segments of " + kib(r.log_bytes);
    for (std::size_t i = 0; i < r.levels.size(); ++i) {
        auto const& l = r.levels[i];
        if (l.tables == 0) continue;
        text += "; level " + std::to_string(i) + ": " + std::to_string(l.tables) + " tables, " + kib(l.bytes) + ", " +
                std::to_string(l.records) + " records";
    }
    if (r.merges != 0)
        text += "; " + std::to_string(r.merges) + " merges read " + kib(r.merge_bytes_read) + ", wrote " +
                kib(r.merge_bytes_written) + ", dropped " + std::to_string(r.records_dropped) + " records";
    if (r.log_waiting != 0)
        text += "; " + kib(r.log_waiting) + " of log wait" +
                (r.write_rate != 0 ? ", writes are slowed to " + kib(r.write_rate) + " a second" : "");
    if (r.open_files != 0 || r.mapped_files != 0)
        text += "; " + std::to_string(r.open_files) + " of " + std::to_string(r.open_files_max) + " files open, " +
                std::to_string(r.mapped_files) + " mapped";
    if (r.stalled_writes != 0) {
        auto const waited = std::chrono::duration_cast<std::chrono::milliseconds>(r.stalled_time).count();
        text += "; " + std::to_string(r.stalled_writes) + " writes waited " + std::to_string(waited) + " ms";
    }
    return text;
}

} // namespace keel::inline v0

#endif
