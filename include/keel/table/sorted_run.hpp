// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SORTED_RUN_HPP
#define KEEL_TABLE_SORTED_RUN_HPP

// What recovery loads: records collected in log order, one collector per segment, then sorted once. Sorting a batch is many times
// cheaper than inserting record by record into an ordered index. Immutable afterwards; any number of threads may read.

#include <keel/format/frame.hpp>
#include <keel/table/arena.hpp>
#include <keel/table/entry.hpp>
#include <keel/types.hpp>
#include <keel/wal/lsn_set.hpp>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

/// A record in a run: 32 bytes, its key and value elsewhere, one behind the other.
struct run_entry {
    std::uint64_t prefix = 0;
    lsn at{};
    std::byte const* bytes = nullptr;
    std::uint32_t value_bytes = 0;
    std::uint16_t key_bytes = 0;
    bool tombstone = false;

    [[nodiscard]] std::string_view key() const noexcept { return {reinterpret_cast<char const*>(bytes), key_bytes}; }
    [[nodiscard]] version view() const noexcept {
        return {.key = key(),
                .value = {reinterpret_cast<char const*>(bytes) + key_bytes, value_bytes},
                .at = at,
                .tombstone = tombstone};
    }
};

/// Takes what one segment's scan verifies (recovery::scan_sink).
class run_collector {
public:
    void record(lsn at, format::frame_view const& frame, std::uint64_t) {
        if (frame.header.type != format::frame_type::put && frame.header.type != format::frame_type::erase) return;
        auto* const copy = bytes_.allocate(frame.payload.size());
        if (!frame.payload.empty()) std::memcpy(copy, frame.payload.data(), frame.payload.size());
        run_entry e{.at = at, .bytes = copy, .key_bytes = frame.header.key_bytes};
        e.value_bytes = static_cast<std::uint32_t>(frame.payload.size() - frame.header.key_bytes);
        e.tombstone = frame.header.type == format::frame_type::erase;
        e.prefix = key_prefix(e.key());
        entries_.push_back(e);
    }
    void batch_end(bool whole) {
        if (!whole) entries_.resize(whole_);
        whole_ = entries_.size();
    }

private:
    friend class sorted_run;
    arena bytes_{};
    std::vector<run_entry> entries_{};
    std::size_t whole_ = 0;
};

class sorted_run {
public:
    sorted_run() = default;

    /// The newest version of each key among the records that count; tombstones are dropped, because nothing lies beneath.
    sorted_run(std::vector<run_collector> collected, std::vector<wal::counted_range> const& counted) {
        std::size_t all = 0;
        for (auto const& c : collected) all += c.entries_.size();
        entries_.reserve(all);
        for (std::size_t i = 0; i < collected.size(); ++i) take(collected[i], i, counted);
        std::ranges::sort(entries_, [](run_entry const& a, run_entry const& b) {
            if (a.prefix != b.prefix) return a.prefix < b.prefix;
            auto const order = a.key().compare(b.key());
            return order != 0 ? order < 0 : a.at > b.at;
        });
        auto const same = [](run_entry const& a, run_entry const& b) {
            return a.prefix == b.prefix && a.key() == b.key();
        };
        entries_.erase(std::unique(entries_.begin(), entries_.end(), same), entries_.end());
        std::erase_if(entries_, [](run_entry const& e) { return e.tombstone; });
    }

    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    [[nodiscard]] std::uint64_t records() const noexcept { return records_; }
    [[nodiscard]] run_entry const& operator[](std::size_t i) const noexcept { return entries_[i]; }

    /// The index of the first entry whose key is not less.
    [[nodiscard]] std::size_t lower_bound(std::string_view key) const noexcept {
        auto const prefix = key_prefix(key);
        auto const less = [&](run_entry const& e, std::string_view k) {
            return e.prefix != prefix ? e.prefix < prefix : e.key() < k;
        };
        return static_cast<std::size_t>(std::lower_bound(entries_.begin(), entries_.end(), key, less) -
                                        entries_.begin());
    }

private:
    void take(run_collector& from, std::size_t segment, std::vector<wal::counted_range> const& counted) {
        // Both are in LSN order: one walk tells which records of this segment count.
        std::vector<lsn_range> keep;
        for (auto const& c : counted)
            if (c.segment == segment) keep.push_back(c.range);
        auto range = keep.begin();
        for (auto const& e : from.entries_) {
            while (range != keep.end() && range->last < e.at) ++range;
            if (range == keep.end()) break;
            if (!range->contains(e.at)) continue;
            entries_.push_back(e);
            ++records_;
        }
        bytes_.absorb(std::move(from.bytes_));
        from.entries_ = {};
    }

    arena bytes_{};
    std::vector<run_entry> entries_{};
    std::uint64_t records_ = 0;
};

} // namespace keel::inline v0::table

#endif
