// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_EXTENT_HPP
#define KEEL_RECOVERY_EXTENT_HPP

// How far the acknowledged records of one segment reach, and what proves it. Pure: facts in, the proof out.
//
// Missing LSNs are lost where something known to be durable lies behind them (classify.hpp). At the end of the log nothing lies behind: if
// the file that held the end is gone, or cannot be read to its end, the records in it are missed by nobody. Then how many were lost is not
// known, which is a value of its own and never reads as "none".
//
//   | the segment                                                              | proof         |
//   | is sealed                                                                | seal          |
//   | is named by the header of the one behind it, with its last LSN           | link          |
//   | is there, and a later one is in use: LSNs go on without a gap            | later_segment |
//   | is gone, a later one is in use and does not name it                      | none (1)      |
//   | is the last; the notes are of this boot and this very file (2)           | notes         |
//   | is the last; it is gone, or neither of its headers verifies              | none          |
//   | is the last; its header says that it was prepared and not used (3)       | header        |
//   | is the last, in use, as long as it was made, and can be read (4)         | file          |
//   | is the last, in use, and shorter than it was made, or cannot be read     | none          |
//
// (1) It was made ready and never used; or it was in use, was gone at an earlier opening, and its LSNs were taken anew behind that.
// (2) They are written after each commit, and a dying process leaves them: the accepted LSN is the horizon then.
// (3) The header of an active segment is synced with its first group: until then nothing in it was acknowledged. So a power loss, which
//     may take that header back, costs nothing here.
// (4) The rules of a crash say what its end is: every byte is on the disk, old or new.
// None of these files is missing or short after a mere crash: each is written whole and synced, and so is its name, before the manifest
// knows it.

#include <cstdint>
#include <string_view>

namespace keel::inline v0::recovery {

/// What a segment's header says of its use, if it can be read.
enum class use_seen : std::uint8_t { unreadable, prepared, active };

struct extent_facts {
    bool sealed = false;       ///< the manifest has its seal
    bool named = false;        ///< the header of a later segment says how it ended
    bool later_in_use = false; ///< one that comes behind it in the log was used
    bool notes_tell = false;   ///< notes of this boot, in the file that wrote them
    bool present = false;      ///< the file is there
    use_seen use = use_seen::unreadable;
    bool whole = false;    ///< as long as it was made
    bool readable = false; ///< the machine reads all of it behind the last record that counts
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

/// A sentence for a person, where there is no proof.
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
