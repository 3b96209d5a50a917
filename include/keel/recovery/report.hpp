// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_REPORT_HPP
#define KEEL_RECOVERY_REPORT_HPP

// The report of an opening: what it found and what it did. The store keeps the report, and the tool prints it.

#include <keel/policy/repair/finding.hpp>
#include <keel/types.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace keel::inline v0 {

/// A segment that held an unknown number of acknowledged records: its file is gone, or cannot be read to its end, and nothing else proves
/// where its records ended (recovery/extent.hpp).
struct unknown_extent {
    segment_id segment{}; ///< 0: both manifests were lost, and with them the list of segments
    std::string file{};   ///< path inside the store
    lsn after{};          ///< records above this LSN may be missing
    std::string why{};    ///< a sentence for a person
    /// Compares all members.
    bool operator==(unknown_extent const&) const = default;
};

/// What an open found and did. A value: copies are independent of the store.
struct recovery_report {
    bool clean_close = false;           ///< the last writer closed the log in order
    std::uint64_t segments = 0;         ///< segment files looked at
    std::uint64_t mounted_segments = 0; ///< of those: sealed segments that were mounted, not scanned
    std::uint64_t sealed_segments = 0;  ///< segments that earlier crashes left and this opening sealed
    std::uint64_t records = 0;          ///< records of the log that verify and count
    std::uint64_t tables = 0;           ///< tables of the store
    std::uint64_t table_records = 0;    ///< versions in them
    std::uint64_t replayed_records = 0; ///< records given to the store above
    std::uint64_t indexed_records = 0;  ///< in an unsealed segment: not scanned, because its indexes stand in for them
    std::uint64_t bytes = 0;            ///< bytes of log that were verified
    std::uint64_t corrupted_segments =
        0; ///< segments whose damage costs records or copies, and those that are missing, have a wrong size or lack both headers
    std::uint64_t corrupted_records = 0; ///< acknowledged records that do not verify (healed or lost)
    std::uint64_t healed_records = 0;    ///< of those: found whole elsewhere
    std::uint64_t lost_records = 0;      ///< of those: gone
    std::uint64_t skipped_records =
        0; ///< valid, but not counted: behind the cut of a torn tail, or part of a broken batch
    std::uint64_t torn_tail_bytes =
        0; ///< bytes cut because a crash left them incomplete and nobody was told they were safe
    std::uint64_t transient_mismatches = 0;            ///< did not verify once, did when read again past the page cache
    std::vector<lsn_range> lost_lsn_ranges{};          ///< the LSNs of lost_records
    std::uint64_t declared_lost_records = 0;           ///< that this or an earlier repair gave up, until accept_loss()
    std::vector<lsn_range> declared_lost_lsn_ranges{}; ///< the LSNs of declared_lost_records
    std::vector<lsn_range> accepted_lost_lsn_ranges{}; ///< likewise, and accepted since
    std::vector<unknown_extent> unknown_extents{}; ///< where more may be lost than anybody knows, until accept_loss()
    lsn first_lsn{};                               ///< the oldest record kept; 0 where there is none
    lsn last_lsn{};                                ///< the newest one
    lsn horizon{}; ///< all up to here was known durable (or accepted, after the mere death of a process)
    std::vector<finding> findings{};           ///< up to findings_max; counts above are exact in any case
    std::vector<std::string> quarantined{};    ///< paths of evidence that repair moved away
    std::string notice{};                      ///< what an operator should know, e.g. that no redundancy is configured
    unsigned threads = 1;                      ///< threads that scanned
    unsigned attempts = 1;                     ///< opens in a row that began recovery, this one included
    std::chrono::nanoseconds inventory_time{}; ///< the time to list and match the files
    std::chrono::nanoseconds
        scan_time{}; ///< the time to scan and classify, and with verify_depth::deep to verify the tables
    std::chrono::nanoseconds repair_time{}; ///< the time to carry the repair out
    std::chrono::nanoseconds replay_time{}; ///< the time to mount segments and tables; 0 for a log

    static constexpr std::size_t findings_max = 10000; ///< the largest size of `findings`

    /// Whether a person must look at the store. The trace of a crash alone is no reason.
    [[nodiscard]] bool damaged() const noexcept {
        for (auto const& f : findings)
            if (f.is_corruption()) return true;
        return corrupted_records != 0 || lost_records != 0 || declared_lost_records != 0 || !unknown_extents.empty();
    }
};

} // namespace keel::inline v0

#endif
