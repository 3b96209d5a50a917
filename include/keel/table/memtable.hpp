// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_MEMTABLE_HPP
#define KEEL_TABLE_MEMTABLE_HPP

// The newest records in memory: every version of every key. A memtable holds the records of one segment, until that segment is sealed and
// read from the disk.
//
// Thread rules: one thread stages and applies records, under the writer's mutex. Any number of threads read. A cursor belongs to one thread
// and must not outlive the memtable. The views that find() and cursors return are valid as long as the memtable.

#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/io/large_memory.hpp>
#include <keel/table/entry.hpp>
#include <keel/table/memtable_index.hpp>
#include <keel/types.hpp>

#include <memory>
#include <optional>
#include <string_view>
#include <utility>

namespace keel::inline v0::table {

class memtable {
public:
    memtable(segment_id of, std::shared_ptr<io::large_page_pool> pages) : of_{of}, written_{std::move(pages)} {}

    /// The segment that holds the same records.
    [[nodiscard]] segment_id segment() const noexcept { return of_; }

    [[nodiscard]] bool empty() const noexcept { return written_.empty(); }

    /// Copies a record; apply() makes it visible. A record without a key is only counted. Throws std::bad_alloc; nothing has changed then.
    void stage(format::frame_type type, std::string_view key, std::string_view value) {
        bool const erases = type == format::frame_type::erase;
        if (erases || type == format::frame_type::put) written_.stage(key, value, erases);
        else written_.stage_nothing();
    }
    /// Number of staged records.
    [[nodiscard]] std::size_t staged() const noexcept { return written_.staged(); }
    /// Discards the records staged after the first `count`.
    void unstage(std::size_t count) noexcept { written_.unstage(count); }
    /// Makes the first `count` staged records visible, with the LSNs from `first` on.
    void apply(lsn first, std::size_t count) noexcept { written_.publish(first, count); }

    /// Prefetches the memory that find() reads first. `hash`: the key's filter_hash.
    void prefetch(std::uint64_t hash) const noexcept { written_.prefetch(hash); }
    /// The newest version of `key` that is not newer than `snapshot`; std::nullopt if there is none. `hash`: the key's filter_hash.
    [[nodiscard]] std::optional<version> find(std::string_view key, std::uint64_t hash, lsn snapshot) const noexcept {
        auto const* const n = written_.find(key, hash, snapshot);
        if (n == nullptr) return std::nullopt;
        return n->view();
    }

    /// Visits keys in order, in either direction, and of each key the newest version that is not newer than `snapshot`. With versions::all
    /// it goes forward only and visits every version that is not newer than `snapshot`.
    class cursor : public memtable_index::cursor {
    public:
        explicit cursor(memtable const& of, lsn snapshot = lsn_max, versions which = versions::newest_seen)
            : memtable_index::cursor{of.written_, snapshot, which} {}
    };

private:
    segment_id of_;
    memtable_index written_;
};

} // namespace keel::inline v0::table

#endif
