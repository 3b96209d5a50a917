// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_MEMTABLE_HPP
#define KEEL_TABLE_MEMTABLE_HPP

// The newest records in memory, every version of every key: what one segment takes until it is sealed and served from where it lies.
//
// Thread rules: one thread applies records (the log's leader), any number read. Cursors are one thread's; they and the views they
// give live as long as the memtable.

#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/io/large_memory.hpp>
#include <keel/table/entry.hpp>
#include <keel/table/record_index.hpp>
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

    /// Asks for the memory that apply() will look at. By the thread that applies.
    void expect(format::frame_view const& frame) const noexcept {
        written_.prefetch(format::filter_hash(as_text(frame.key())));
    }
    /// One thread at a time.
    void apply(lsn at, format::frame_view const& frame) {
        if (frame.header.type != format::frame_type::put && frame.header.type != format::frame_type::erase) return;
        written_.insert({.key = as_text(frame.key()),
                         .value = as_text(frame.value()),
                         .at = at,
                         .tombstone = frame.header.type == format::frame_type::erase});
    }

    /// Asks for the memory that find() looks at first. `hash`: the key's filter_hash.
    void prefetch(std::uint64_t hash) const noexcept { written_.prefetch(hash); }
    /// The newest version of `key` that is not newer than `snapshot`; nothing where there is none.
    [[nodiscard]] std::optional<version> find(std::string_view key, std::uint64_t hash, lsn snapshot) const noexcept {
        auto const* const n = written_.find(key, hash, snapshot);
        if (n == nullptr) return std::nullopt;
        return n->view();
    }

    /// Walks versions, by key and the newest first, in either direction.
    class cursor : public record_index::cursor {
    public:
        explicit cursor(memtable const& of) : record_index::cursor{of.written_} {}
    };

private:
    segment_id of_;
    record_index written_;
};

} // namespace keel::inline v0::table

#endif
