// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_RECORD_SINK_HPP
#define KEEL_WAL_RECORD_SINK_HPP

// The interface to the store above the writer: which records become visible, and which segment they are in.

#include <keel/format/frame.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_index.hpp>

#include <cstddef>
#include <string_view>
#include <utility>

namespace keel::inline v0::wal {

/// Gets the records of the log in LSN order, under the writer's mutex, in two steps. stage() may fail, and then nothing has changed;
/// apply() cannot fail. So everything that can fail happens before a record is written. Smallest model: discard_records.
///   s.begin(segment)           void     records staged from here on are in this segment. Throws std::bad_alloc: nothing has changed
///   s.stage(type, key, value)  void     copies a record that apply() will make visible. Throws std::bad_alloc: nothing has changed
///   s.staged()                 size_t   the number of records that are staged and not applied
///   s.unstage(count)           void     drops all staged records after the first `count`; never throws
///   s.apply(first, count)      void     makes the first `count` staged records visible, with LSNs from `first` on; never throws. A record
///                                       that is written again to another segment is applied again
///   s.sealed(segment)          void     the segment takes no more records, and all its records are on the disk; never throws. The sink may
///                                       ignore this call, because it has all these records itself
///   s.moved(old, last)         void     all records of segment `old` after `last` were applied again since begin(); never throws
template <class S>
concept record_sink = requires(S s, lsn at, format::frame_type type, std::string_view text, std::size_t count,
                               segment_id id, closed_segment what) {
    s.begin(id);
    s.stage(type, text, text);
    { s.staged() } noexcept -> std::same_as<std::size_t>;
    { s.unstage(count) } noexcept;
    { s.apply(at, count) } noexcept;
    { s.sealed(std::move(what)) } noexcept;
    { s.moved(id, at) } noexcept;
};

/// The sink of a log without a store: its records are read from the file.
struct discard_records {
    void begin(segment_id) noexcept {}
    void stage(format::frame_type, std::string_view, std::string_view) noexcept {}
    [[nodiscard]] std::size_t staged() const noexcept { return 0; }
    void unstage(std::size_t) noexcept {}
    void apply(lsn, std::size_t) noexcept {}
    void sealed(closed_segment const&) noexcept {}
    void moved(segment_id, lsn) noexcept {}
};

} // namespace keel::inline v0::wal

#endif
