// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_MEMTABLE_HPP
#define KEEL_TABLE_MEMTABLE_HPP

// The newest records in memory, every version of every key: what one segment takes until it is sealed and served from where it lies.
//
// Thread rules: one thread stages and applies records (under the writer's mutex), any number read. Cursors are one thread's; they and the views they
// give live as long as the memtable.

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

    /// The segment that has the same records.
    [[nodiscard]] segment_id segment() const noexcept { return of_; }

    [[nodiscard]] bool empty() const noexcept { return written_.empty(); }

    /// Copies a record that apply() will make visible; one without a key is only counted. Throws std::bad_alloc, and nothing has changed.
    void stage(format::frame_type type, std::string_view key, std::string_view value) {
        bool const erases = type == format::frame_type::erase;
        if (erases || type == format::frame_type::put) written_.stage(key, value, erases);
        else written_.stage_nothing();
    }
    [[nodiscard]] std::size_t staged() const noexcept { return written_.staged(); }
    /// Forgets what was staged after the first `count`.
    void unstage(std::size_t count) noexcept { written_.unstage(count); }
    /// Makes the first `count` staged records visible under the LSNs from `first` on.
    void apply(lsn first, std::size_t count) noexcept { written_.publish(first, count); }

    /// Asks for the memory that find() looks at first. `hash`: the key's filter_hash.
    void prefetch(std::uint64_t hash) const noexcept { written_.prefetch(hash); }
    /// The newest version of `key` that is not newer than `snapshot`; nothing where there is none.
    [[nodiscard]] std::optional<version> find(std::string_view key, std::uint64_t hash, lsn snapshot) const noexcept {
        auto const* const n = written_.find(key, hash, snapshot);
        if (n == nullptr) return std::nullopt;
        return n->view();
    }

    /// Walks keys in either direction, of each the newest version that `snapshot` sees, or, forward only, all of them.
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
