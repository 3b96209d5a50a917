// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_RECORD_SINK_HPP
#define KEEL_WAL_RECORD_SINK_HPP

// What the writer tells the store above it: which records become visible, and which segment they lie in.

#include <keel/format/frame.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_index.hpp>

#include <cstddef>
#include <string_view>
#include <utility>

namespace keel::inline v0::wal {

/// Given the records of the log in LSN order, under the writer's mutex, in two steps: stage() may fail and then nothing has changed, apply()
/// cannot. So everything that could fail happens before a record is written.
///   s.begin(segment)           void     what is staged from here on lies in this segment. Throws std::bad_alloc: nothing has changed
///   s.stage(type, key, value)  void     copies a record that apply() will make visible. Throws std::bad_alloc: nothing has changed
///   s.staged()                 size_t   how many records are staged and not applied
///   s.unstage(count)           void     forgets what was staged after the first `count`; never throws
///   s.apply(first, count)      void     the first `count` staged records are visible, under the LSNs from `first` on; never throws. A
///                                       record that was written anew to another segment is given once more
///   s.sealed(segment)          void     takes no more records, and all of them are on the disk; never throws. The sink may go on
///                                       without it: it has all the records
///   s.moved(old, last)         void     the records of segment `old` after `last` were all applied again since begin(); never throws
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

/// For a log alone, whose records are read from the file.
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
