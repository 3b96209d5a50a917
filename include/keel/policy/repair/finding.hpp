// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_FINDING_HPP
#define KEEL_POLICY_REPAIR_FINDING_HPP

// What recovery can find, as values. Damage in bytes is a finding. It is never an exception, and it is never skipped silently.

#include <keel/types.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace keel::inline v0 {

/// The kind of a finding. The names are part of the tool's JSON and do not change.
enum class damage : std::uint8_t {
    torn_tail,        ///< a crash cut short bytes that were never acknowledged
    corrupt_record,   ///< an acknowledged record does not verify and has no valid copy
    damaged_copy,     ///< a record does not verify here, but another segment has it
    damaged_filler,   ///< bytes between records do not verify; no record is missing
    missing_records,  ///< no file has a trace of these acknowledged LSNs
    missing_segment,  ///< the manifest names the segment, but the folder does not have its file
    wrong_size,       ///< the length of a file differs from the length in its header
    wrong_place,      ///< a file has the name of another one, or is there twice
    header_damaged,   ///< one of the two headers of a segment does not verify; the other one is used
    headers_lost,     ///< neither header of a segment verifies; the manifest and the frames are used
    seal_mismatch,    ///< the aggregate of a sealed segment differs from its frames
    chain_broken,     ///< the header of a segment names another segment as its predecessor
    unreadable,       ///< the machine could not read these bytes
    unknown_segment,  ///< the manifest does not name a segment that is in use
    manifest_damaged, ///< one manifest does not verify or is out of date; the other one is used
    manifest_lost,    ///< neither manifest is complete; it was rebuilt from the segments
    missing_table,    ///< the manifest names the table, but the folder does not have its file
    corrupt_block,    ///< a block of a table does not verify; reads of its keys return an error
    unknown_extent,   ///< the end of the log is gone, and the number of acknowledged records in it is not known
};

/// The kind's name in JSON.
[[nodiscard]] constexpr std::string_view name_of(damage what) noexcept {
    switch (what) {
    case damage::torn_tail: return "torn_tail";
    case damage::corrupt_record: return "corrupt_record";
    case damage::damaged_copy: return "damaged_copy";
    case damage::damaged_filler: return "damaged_filler";
    case damage::missing_records: return "missing_records";
    case damage::missing_segment: return "missing_segment";
    case damage::wrong_size: return "wrong_size";
    case damage::wrong_place: return "wrong_place";
    case damage::header_damaged: return "header_damaged";
    case damage::headers_lost: return "headers_lost";
    case damage::seal_mismatch: return "seal_mismatch";
    case damage::chain_broken: return "chain_broken";
    case damage::unreadable: return "unreadable";
    case damage::unknown_segment: return "unknown_segment";
    case damage::manifest_damaged: return "manifest_damaged";
    case damage::manifest_lost: return "manifest_lost";
    case damage::missing_table: return "missing_table";
    case damage::corrupt_block: return "corrupt_block";
    case damage::unknown_extent: return "unknown_extent";
    }
    return "unknown";
}

/// What recovery did about a finding: reported it only, cut a torn tail, healed the bytes, declared the records lost, rolled the store
/// back, or refused to open.
enum class outcome : std::uint8_t { reported, cut, healed, declared_lost, rolled_back, refused };

/// The outcome's name in JSON.
[[nodiscard]] constexpr std::string_view name_of(outcome what) noexcept {
    switch (what) {
    case outcome::reported: return "reported";
    case outcome::cut: return "cut";
    case outcome::healed: return "healed";
    case outcome::declared_lost: return "declared_lost";
    case outcome::rolled_back: return "rolled_back";
    case outcome::refused: return "refused";
    }
    return "unknown";
}

/// One piece of damage, with everything that is needed to diagnose it.
struct finding {
    damage kind = damage::corrupt_record; ///< the kind of damage
    std::string file{};                   ///< path inside the store, for example "log/0000000000000001.seg"
    std::uint64_t offset = 0;             ///< bytes into the file
    std::uint64_t length = 0;             ///< bytes concerned
    lsn_range lsns{};                     ///< records concerned; empty: none
    std::uint64_t expected = 0;           ///< the stored checksum; 0: the finding is not about a checksum
    std::uint64_t found = 0;              ///< the checksum of the bytes
    std::uint64_t lost = 0;               ///< the number of acknowledged records that have no valid copy left
    outcome done = outcome::reported;     ///< what recovery did about it
    std::string detail{};                 ///< a sentence for a person

    /// False for a torn tail, which is the trace of a crash and no damage.
    [[nodiscard]] bool is_corruption() const noexcept { return kind != damage::torn_tail; }
};

} // namespace keel::inline v0

#endif
