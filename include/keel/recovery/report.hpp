// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_REPORT_HPP
#define KEEL_RECOVERY_REPORT_HPP

// What an open found and did: a value that stays with the store, and that the tool prints.

#include <keel/policy/repair/finding.hpp>
#include <keel/types.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace keel::inline v0 {

/// A segment of which nobody knows how many acknowledged records it held: its file is gone, or cannot be read to its end, and nothing
/// else says (recovery/extent.hpp).
struct unknown_extent {
    segment_id segment{}; ///< 0: both manifests were lost, and nobody knows which segments there were
    std::string file{};   ///< path inside the store
    lsn after{};          ///< the records that may be missing come behind this one
    std::string why{};    ///< a sentence for a person
    bool operator==(unknown_extent const&) const = default;
};

struct recovery_report {
    bool clean_close = false;           ///< the last writer closed the log in order
    std::uint64_t segments = 0;         ///< segment files looked at
    std::uint64_t mounted_segments = 0; ///< of those: sealed ones that stand for their records, not scanned
    std::uint64_t sealed_segments = 0;  ///< that an earlier crash left, and this open has sealed
    std::uint64_t records = 0;          ///< records of the log that verify and count
    std::uint64_t tables = 0;           ///< tables of the store
    std::uint64_t table_records = 0;    ///< versions in them
    std::uint64_t replayed_records = 0; ///< records given to the store above
    std::uint64_t indexed_records = 0;  ///< in a segment without a seal, that indexes inside it stand for: not scanned
    std::uint64_t bytes = 0;            ///< bytes of log that were verified
    std::uint64_t corrupted_segments = 0;
    std::uint64_t corrupted_records = 0; ///< acknowledged records that do not verify (healed or lost)
    std::uint64_t healed_records = 0;    ///< of those: found whole elsewhere
    std::uint64_t lost_records = 0;      ///< of those: gone
    std::uint64_t skipped_records =
        0; ///< valid, but not counted: behind the cut of a torn tail, or part of a broken batch
    std::uint64_t torn_tail_bytes =
        0; ///< bytes cut because a crash left them incomplete and nobody was told they were safe
    std::uint64_t transient_mismatches = 0; ///< did not verify once, did when read again past the page cache
    std::vector<lsn_range> lost_lsn_ranges{};
    std::uint64_t declared_lost_records = 0; ///< that this or an earlier repair gave up, until accept_loss()
    std::vector<lsn_range> declared_lost_lsn_ranges{};
    std::vector<lsn_range> accepted_lost_lsn_ranges{}; ///< likewise, and accepted since
    std::vector<unknown_extent> unknown_extents{}; ///< where more may be lost than anybody knows, until accept_loss()
    lsn first_lsn{};                               ///< the oldest record kept; 0 where there is none
    lsn last_lsn{};                                ///< the newest one
    lsn horizon{}; ///< all up to here was known durable (or accepted, after the mere death of a process)
    std::vector<finding> findings{};        ///< up to findings_max; counts above are exact in any case
    std::vector<std::string> quarantined{}; ///< paths of evidence that repair moved away
    std::string notice{};                   ///< what an operator should know, e.g. that no redundancy is configured
    unsigned threads = 1;
    unsigned attempts = 1;
    std::chrono::nanoseconds inventory_time{};
    std::chrono::nanoseconds scan_time{};
    std::chrono::nanoseconds repair_time{};
    std::chrono::nanoseconds replay_time{};

    static constexpr std::size_t findings_max = 10000;

    /// True where something needs a person: anything but the trace of a crash.
    [[nodiscard]] bool damaged() const noexcept {
        for (auto const& f : findings)
            if (f.is_corruption()) return true;
        return corrupted_records != 0 || lost_records != 0 || declared_lost_records != 0 || !unknown_extents.empty();
    }
};

} // namespace keel::inline v0

#endif
