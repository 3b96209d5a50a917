// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_FINDING_HPP
#define KEEL_POLICY_REPAIR_FINDING_HPP

// What recovery can find, as values: damage in bytes is a finding, never an exception and never silently skipped.

#include <keel/types.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace keel::inline v0 {

/// What was found. The names are part of the tool's JSON and do not change.
enum class damage : std::uint8_t {
    torn_tail,        ///< never acknowledged, cut short by a crash
    corrupt_record,   ///< acknowledged, and no valid copy is left
    damaged_copy,     ///< a record does not verify here, another segment has it
    damaged_filler,   ///< bytes between records do not verify; no record is missing
    missing_records,  ///< acknowledged LSNs that no file holds, nor any trace of them
    missing_segment,  ///< the manifest knows the file, the directory does not
    wrong_size,       ///< a file is not as long as its header says
    wrong_place,      ///< a file stands under another one's name, or twice
    header_damaged,   ///< one of the two headers of a segment does not verify; the other one serves
    headers_lost,     ///< neither does; the manifest and the frames themselves serve
    seal_mismatch,    ///< a sealed segment's frames do not add up to its aggregate
    chain_broken,     ///< a segment does not follow the one its header names
    unreadable,       ///< the machine could not read these bytes
    unknown_segment,  ///< a segment in use that the manifest does not know
    manifest_damaged, ///< one manifest does not verify or is behind; the other one serves
    manifest_lost,    ///< neither serves in full; rebuilt from the segments
    missing_table,    ///< the manifest knows the table, the directory does not
    corrupt_block,    ///< a block of a table does not verify; the keys in it have no answer
    unknown_extent,   ///< the end of the log is gone, and nothing says how many acknowledged records with it
};

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

/// What was done about it.
enum class outcome : std::uint8_t { reported, cut, healed, declared_lost, rolled_back, refused };

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

/// One thing found, with all that is needed to diagnose it.
struct finding {
    damage kind = damage::corrupt_record;
    std::string file{};         ///< path inside the store, e.g. "log/0000000000000001.seg"
    std::uint64_t offset = 0;   ///< bytes into it
    std::uint64_t length = 0;   ///< bytes concerned
    lsn_range lsns{};           ///< records concerned; empty where none is
    std::uint64_t expected = 0; ///< checksum that stood there; 0 where it is not about one
    std::uint64_t found = 0;    ///< checksum of the bytes
    std::uint64_t lost = 0;     ///< acknowledged records that no valid copy is left of
    outcome done = outcome::reported;
    std::string detail{}; ///< a sentence for a person

    /// False for the trace of a crash, which is nobody's fault.
    [[nodiscard]] bool is_corruption() const noexcept { return kind != damage::torn_tail; }
};

} // namespace keel::inline v0

#endif
