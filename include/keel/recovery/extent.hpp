// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_EXTENT_HPP
#define KEEL_RECOVERY_EXTENT_HPP

// Where the acknowledged records of one segment end, and what proves it. Pure: facts in, the proof out.
//
// A missing LSN is lost if something known to be durable lies behind it (classify.hpp). Nothing lies behind the end of the log. If the
// file that held the end is gone, or cannot be read to its end, nothing shows that records are missing. Then the number of lost records
// is unknown. "Unknown" is a value of its own and is never reported as "none".
//
//   | the segment                                                               | proof         |
//   | is sealed                                                                 | seal          |
//   | is named by the header of a later segment, with its last LSN              | link          |
//   | is there, and a later segment is in use: LSNs go on without a gap         | later_segment |
//   | is gone; a later segment is in use, and no header names this one          | none (1)      |
//   | is the last; the notes are of this boot and in the file that wrote them   | notes (2)     |
//   | is the last; its file is gone, or neither of its headers verifies         | none          |
//   | is the last; its header says: prepared, not used                          | header (3)    |
//   | is the last, in use, as long as it was made, and readable                 | file (4)      |
//   | is the last, in use, and shorter than it was made, or not readable        | none          |
//
// (1) Two histories look the same. The segment was prepared and never used; or it was in use, an earlier opening found it gone, and its
//     LSNs were used again after that.
// (2) The writer updates the notes after each commit, and the notes survive a killed process. So the accepted LSN is the horizon.
// (3) The header of an active segment is synced with its first group. Before that sync nothing in the segment was acknowledged. So a
//     power loss that undoes this header costs no acknowledged record.
// (4) Every byte of the file is on the disk, old or new. So the rules of classify.hpp find the end.
// A crash alone leaves none of these files missing or short: a file is written whole and synced, and its name is synced,
// before the manifest records it.

#include <cstdint>
#include <string_view>

namespace keel::inline v0::recovery {

/// The use of a segment as its header states it, if a header can be read.
enum class use_seen : std::uint8_t { unreadable, prepared, active };

struct extent_facts {
    bool sealed = false;       ///< the manifest has its seal
    bool named = false;        ///< the header of a later segment says how this one ended
    bool later_in_use = false; ///< a segment behind this one in the log was used
    bool notes_tell = false;   ///< the notes are of this boot and in the file that wrote them
    bool present = false;      ///< the file is there
    use_seen use = use_seen::unreadable;
    bool whole = false;    ///< the file is as long as it was made
    bool readable = false; ///< the machine can read everything behind the last record that counts
};

enum class extent_proof : std::uint8_t { none, seal, link, later_segment, notes, header, file };

[[nodiscard]] constexpr extent_proof prove_extent(extent_facts const& f) noexcept {
    if (f.sealed) return extent_proof::seal;
    if (f.named) return extent_proof::link;
    if (f.later_in_use) return f.present ? extent_proof::later_segment : extent_proof::none;
    if (f.notes_tell) return extent_proof::notes;
    if (!f.present || f.use == use_seen::unreadable) return extent_proof::none;
    if (f.use == use_seen::prepared) return extent_proof::header;
    return f.whole && f.readable ? extent_proof::file : extent_proof::none;
}

/// A sentence for a person: why there is no proof.
[[nodiscard]] constexpr std::string_view why_unknown(extent_facts const& f) noexcept {
    if (!f.present)
        return f.later_in_use ? "the segment's file is gone, and no other says whether it was ever used"
                              : "the segment's file is gone, and it may have held the newest records";
    if (f.use == use_seen::unreadable)
        return "neither header of the segment verifies, and it may have held the newest records";
    return f.whole ? "the machine does not read the segment to its end, where the newest records may have been"
                   : "the segment's file is shorter than it was made, and its end may have held the newest records";
}

} // namespace keel::inline v0::recovery

#endif
