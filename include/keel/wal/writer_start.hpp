// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WRITER_START_HPP
#define KEEL_WAL_WRITER_START_HPP

// The state from which a writer begins, as recovery leaves it.

#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace keel::inline v0::wal {

/// Records of a segment that count but are not proven durable. The process that wrote them may have seen its sync fail. Then they are only
/// in the page cache, which looks clean, and a sync of ours would prove nothing. So they are written again.
struct unproven_tail {
    segment_id id{};
    std::string path{};
    std::uint64_t salt = 0;
    lsn first{};                      ///< first LSN of the segment; LSN deltas count from it
    lsn proven{};                     ///< up to this LSN, the bytes in this file are known to be on the disk
    std::vector<lsn_range> counted{}; ///< LSNs that count, in order
    std::uint64_t begin = 0;
    std::uint64_t end = 0; ///< offset behind the last frame that counts
};

/// A reason why the store is degraded from the start.
struct start_condition {
    state_cause what = state_cause::none;
    std::string why{};
    bool operator==(start_condition const&) const = default;
};

struct writer_start {
    lsn last{};                          ///< the last LSN of the log, declared losses included
    lsn durable{};                       ///< the newest LSN known to be durable
    bool voids_needed = false;           ///< a crash left an open end: the next header makes LSNs after `last` void
    std::vector<std::string> unsynced{}; ///< files whose counted bytes may not be on the disk yet
    std::vector<unproven_tail> tails{};  ///< together they have all records after `durable`
    format::segment_link previous{};     ///< the link to the segment before, for the next header
    /// The end of that segment in the link, if the tails are written again and none of them is in that segment.
    std::uint64_t previous_proven = 0;
    std::vector<format::segment_entry> spares{};  ///< prepared segments that were found
    std::vector<format::segment_entry> retired{}; ///< retired segments whose files a crash left
    std::vector<start_condition> conditions{};    ///< why the store is degraded, one entry per cause
    bool read_only = false;
    state_cause cause = state_cause::repair; ///< the cause of read_only
    std::string reason{};                    ///< its text for people
};

} // namespace keel::inline v0::wal

#endif
