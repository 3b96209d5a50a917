// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_RECORD_FINDER_HPP
#define KEEL_TABLE_RECORD_FINDER_HPP

// Rebuilds the index of a segment in memory, when the index on the disk does not verify. Index blocks that verify are used as they are. The
// entries of the other blocks are filled from records that no intact block leads to. If such a record does not verify either, its entry
// stays empty. The neighbouring blocks then tell between which keys the record may lie.

#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/table/damaged_range.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_index.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

/// The smallest key with this index prefix. `common`: the bytes with which all keys of the index begin.
[[nodiscard]] inline std::string first_key_of_prefix(std::string_view common, std::uint64_t prefix) {
    std::string out{common};
    for (int shift = 56; shift >= 0 && prefix << (56 - shift) != 0; shift -= 8)
        out += static_cast<char>(static_cast<unsigned char>(prefix >> shift & 0xFF));
    return out;
}
/// The first key behind all keys with this prefix; std::nullopt: there is none.
[[nodiscard]] inline std::optional<std::string> key_after_index_prefix(std::string_view common, std::uint64_t prefix) {
    if (prefix == std::numeric_limits<std::uint64_t>::max()) return key_after_prefix(common);
    return first_key_of_prefix(common, prefix + 1);
}

/// Whether the entry is empty: no record is known for it in an index that was rebuilt.
[[nodiscard]] constexpr bool is_unknown(format::index_entry const& e) noexcept { return e.offset == 0; }

/// A rebuilt index. Each entry that is known has the position that it had on the disk.
struct found_index {
    wal::sorted_index index{};
    std::vector<damaged_range> unknown{}; ///< ranges in which the records of empty entries may lie
    bool read_failed = false;             ///< some bytes could not be read: a later try may find more
};

template <checksum_policy C, class File>
class record_finder {
public:
    /// `blocks[n]`: the entries of index block n; empty if it does not verify. `fences`: the prefix with which each block begins; empty if
    /// the fences do not verify. `shared`: how many bytes all keys have in common at their beginning. `file` and `of` must outlive the
    /// object.
    record_finder(File const& file, wal::closed_segment const& of, format::index_shape shape,
                  std::vector<std::vector<format::index_entry>> blocks, std::vector<std::uint64_t> fences,
                  std::size_t shared)
        : file_{file}, of_{of}, shape_{shape}, blocks_{std::move(blocks)}, fences_{std::move(fences)}, shared_{shared} {
    }

    [[nodiscard]] found_index run() {
        if (shared_ == 0) common_.emplace();
        note_known();
        walk_records();
        sort_missing();
        if (!common_ || missing_.size() > places_) out_ = nothing();
        else fill();
        if (common_) out_.index.common = *common_;
        out_.read_failed = read_failed_;
        return std::move(out_);
    }

private:
    struct record {
        std::uint64_t prefix = 0;
        std::string key{};
        format::index_entry entry{};
    };

    void note_known() {
        for (std::size_t b = 0; b < blocks_.size(); ++b) {
            for (auto const& e : blocks_[b]) known_.push_back(e.offset);
            if (blocks_[b].empty()) places_ += entries_in(b);
        }
        std::ranges::sort(known_);
    }
    [[nodiscard]] std::uint64_t entries_in(std::size_t block) const noexcept {
        return std::min(shape_.entries_per_block(), shape_.entries - block * shape_.entries_per_block());
    }

    void walk_records() {
        wal::window<File> in{file_, of_.end};
        read_records(in);
        read_failed_ = !in.unreadable().empty();
    }
    void read_records(wal::window<File>& in) {
        for (auto at = of_.begin; at + format::frame_header_bytes <= of_.end;) {
            auto seen = look(in, at);
            if (seen.state != format::frame_state::intact &&
                in.reread(at, static_cast<std::size_t>(std::max<std::uint64_t>(format::frame_header_bytes,
                                                                               std::min(seen.bytes(), of_.end - at)))))
                seen = look(in, at);
            if (seen.state != format::frame_state::intact && seen.state != format::frame_state::damaged) {
                at = wal::find_tag(in, static_cast<std::uint32_t>(of_.salt), at + format::frame_alignment, of_.end);
                continue;
            }
            take(at, seen);
            at += seen.bytes();
        }
    }
    [[nodiscard]] format::frame_view look(wal::window<File>& in, std::uint64_t at) const {
        format::frame_place const place{of_.salt, at};
        auto const head = format::peek_frame(in.at(at, format::frame_header_bytes).data(), place, of_.end - at);
        if (head.state != format::frame_state::intact) return head;
        return format::read_frame<C>(in.at(at, static_cast<std::size_t>(head.bytes())), place);
    }
    void take(std::uint64_t at, format::frame_view const& seen) {
        auto const& h = seen.header;
        if (h.type != format::frame_type::put && h.type != format::frame_type::erase) return;
        bool const intact = seen.state == format::frame_state::intact && h.key_bytes >= shared_;
        if (intact && !common_) common_ = std::string{as_text(seen.key()).substr(0, shared_)};
        if (std::ranges::binary_search(known_, static_cast<std::uint32_t>(at))) return;
        if (!intact) {
            lost_.push_back({of_.first.value - 1 + h.lsn_delta});
            return;
        }
        auto const key = as_text(seen.key());
        missing_.push_back({format::key_prefix(key, shared_),
                            std::string{key},
                            {.prefix = format::key_prefix(key, shared_),
                             .offset = static_cast<std::uint32_t>(at),
                             .lsn_delta = h.lsn_delta}});
    }
    void sort_missing() {
        std::ranges::sort(missing_, [](record const& a, record const& b) {
            if (auto const order = a.key.compare(b.key); order != 0) return order < 0;
            return a.entry.lsn_delta > b.entry.lsn_delta;
        });
    }

    /// Puts the entries of all blocks in order. If all missing records were found, they fill the empty entries in order. Otherwise each
    /// damaged block takes the missing records whose prefixes lie between its neighbours.
    void fill() {
        bool const all = missing_.size() == places_;
        auto next = missing_.begin();
        for (std::size_t b = 0; b < blocks_.size(); ++b) {
            if (!blocks_[b].empty()) {
                out_.index.entries.insert(out_.index.entries.end(), blocks_[b].begin(), blocks_[b].end());
                continue;
            }
            auto const last = last_prefix(b);
            std::uint64_t left = entries_in(b);
            for (; left != 0 && next != missing_.end() && (all || next->prefix <= last); --left, ++next)
                out_.index.entries.push_back(next->entry);
            if (left == 0) continue;
            out_.index.entries.insert(out_.index.entries.end(), static_cast<std::size_t>(left),
                                      {.prefix = last, .offset = 0, .lsn_delta = 0});
            out_.unknown.push_back({.from = first_key_of_prefix(*common_, first_prefix(b)),
                                    .to = key_after_index_prefix(*common_, last),
                                    .lsns = lost_lsns()});
        }
        // more records than empty entries: the blocks contradict the records
        if (next != missing_.end()) out_ = nothing();
    }
    /// No entry of the block has a smaller prefix than this.
    [[nodiscard]] std::uint64_t first_prefix(std::size_t block) const noexcept {
        if (block < fences_.size()) return fences_[block];
        for (auto b = block; b-- > 0;)
            if (!blocks_[b].empty()) return blocks_[b].back().prefix;
        return 0;
    }
    /// No entry of the block has a larger prefix than this.
    [[nodiscard]] std::uint64_t last_prefix(std::size_t block) const noexcept {
        if (block + 1 < fences_.size()) return fences_[block + 1];
        for (auto b = block + 1; b < blocks_.size(); ++b)
            if (!blocks_[b].empty()) return blocks_[b].front().prefix;
        return std::numeric_limits<std::uint64_t>::max();
    }
    /// The LSNs that the lost records may have. If the frame header of a lost record is unreadable too, this is every LSN of the segment.
    [[nodiscard]] lsn_range lost_lsns() const {
        if (missing_.size() + lost_.size() < places_ || lost_.empty()) return all_lsns();
        auto const [first, last] = std::ranges::minmax(lost_);
        return {first, last};
    }
    [[nodiscard]] lsn_range all_lsns() const noexcept {
        if (of_.counted.empty()) return {};
        return {of_.counted.front().first, of_.counted.back().last};
    }
    /// The result when no entry can be assigned to a record: all entries are empty.
    [[nodiscard]] found_index nothing() const {
        found_index none;
        none.index.entries.assign(static_cast<std::size_t>(shape_.entries), {});
        none.unknown.push_back({.lsns = all_lsns()});
        return none;
    }

    File const& file_;
    wal::closed_segment const& of_;
    format::index_shape shape_;
    std::vector<std::vector<format::index_entry>> blocks_;
    std::vector<std::uint64_t> fences_;
    std::size_t shared_;
    std::vector<std::uint32_t> known_{}; ///< offsets of the records that intact index blocks lead to
    std::uint64_t places_ = 0;           ///< number of entries in damaged index blocks
    std::optional<std::string> common_{};
    std::vector<record> missing_{}; ///< records that no intact block leads to and that verify
    std::vector<lsn> lost_{};       ///< LSNs of such records that do not verify
    bool read_failed_ = false;
    found_index out_{};
};

} // namespace keel::inline v0::table

#endif
