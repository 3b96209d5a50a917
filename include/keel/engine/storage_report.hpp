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
    static constexpr std::size_t levels_max = 7; ///< levels of tables; the manifest has as many
    struct level {
        std::uint64_t tables = 0;
        std::uint64_t bytes = 0;
        std::uint64_t records = 0; ///< all versions, tombstones among them
    };
    std::uint64_t segments = 0;             ///< segments of the log, prepared ones included
    std::uint64_t log_bytes = 0;            ///< the bytes of all these segments
    std::array<level, levels_max> levels{}; ///< level 0 has ingested tables that are not merged yet, and placeholders
    std::uint64_t merges = 0;
    std::uint64_t merge_bytes_read = 0;
    std::uint64_t merge_bytes_written = 0;
    std::uint64_t records_dropped = 0; ///< superseded or erased versions that merges have dropped
    std::uint64_t log_waiting = 0;     ///< bytes of the log that could be merged now
    std::uint64_t write_rate = 0;      ///< bytes a second that writers may write while merging is behind; 0: no limit
    std::uint64_t stalled_writes = 0;  ///< writes that waited because of write_rate
    std::uint64_t open_files = 0;      ///< tables and segments that are open for reading
    std::uint64_t open_files_max = 0;  ///< how many may be open for reading
    std::uint64_t mapped_files = 0;    ///< files that are read through a mapping, without being open
    std::chrono::nanoseconds stalled_time{}; ///< the sum of the waits of stalled_writes
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
