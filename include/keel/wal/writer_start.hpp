// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WRITER_START_HPP
#define KEEL_WAL_WRITER_START_HPP

// Where a writer begins: what recovery leaves behind.

#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace keel::inline v0::wal {

/// A segment's records that count and that nothing proves durable. The process that wrote them may have seen its sync fail: then they
/// are in the page cache only, which looks clean, and a sync of ours would prove nothing. They are written again.
struct unproven_tail {
    segment_id id{};
    std::string path{};
    std::uint64_t salt = 0;
    lsn first{};                      ///< LSN deltas count from here
    lsn proven{};                     ///< up to it, the bytes in this file are known to be on the disk
    std::vector<lsn_range> counted{}; ///< in LSN order
    std::uint64_t begin = 0;
    std::uint64_t end = 0; ///< offset behind the last frame that counts
};

/// Something that makes a store degraded from the start.
struct start_condition {
    state_cause what = state_cause::none;
    std::string why{};
    bool operator==(start_condition const&) const = default;
};

struct writer_start {
    lsn last{};                          ///< the last LSN of the log, declared losses included
    lsn durable{};                       ///< known durable already
    bool voids_needed = false;           ///< a crash left an open end: the next header voids what lies after `last`
    std::vector<std::string> unsynced{}; ///< files whose counted bytes may not be on the disk yet
    std::vector<unproven_tail> tails{};  ///< all records after `durable`
    format::segment_link previous{};     ///< what the next header says of the segment before,
    std::uint64_t previous_proven =
        0; ///< where that segment ends in it if the tails, none of them there, are written again
    std::vector<format::segment_entry> spares{};  ///< prepared segments that were found
    std::vector<format::segment_entry> retired{}; ///< segments given up whose files a crash left
    std::vector<start_condition> conditions{};    ///< what makes it degraded, one per cause
    bool read_only = false;
    state_cause cause = state_cause::repair; ///< why it is,
    std::string reason{};                    ///< and for people
};

} // namespace keel::inline v0::wal

#endif
