// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_INDEX_MAKER_HPP
#define KEEL_TABLE_INDEX_MAKER_HPP

// Rebuilds the index of a table in memory, when the index on the disk does not verify. It takes the index blocks that verify. For the rest
// it reads the blocks of records. A block of records that does not verify gets an entry too: its keys lie between the keys of its
// neighbours. So a look-up of one of its keys is an error, and no other key is affected.

#include <keel/format/block.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/table.hpp>
#include <keel/table/fence_list.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace keel::inline v0::table {

/// Finds the frames of a table without its index. It reads frame headers only.
template <class File>
class frame_walk {
public:
    /// `file` must outlive the object. Bytes behind its end, and bytes that cannot be read, count as zeros.
    frame_walk(File const& file, std::uint64_t salt, std::uint64_t file_bytes) : salt_{salt}, in_{file, file_bytes} {}

    struct frame {
        format::block_place where{};
        format::frame_type type{};
        /// True: the frame's header verifies. False: no frame of the table begins in this range.
        bool believed = false;
    };
    /// Returns the frame that begins at `at`. If none does, returns the range up to the next frame, or up to `end`. `at` and `end` are
    /// multiples of 8.
    [[nodiscard]] frame at(std::uint64_t at, std::uint64_t end) {
        if (auto const head = peek(at, end); head.state == format::frame_state::intact)
            return {place(at, head.bytes()), head.header.type, true};
        auto const next = wal::find_tag(in_, static_cast<std::uint32_t>(salt_), at + format::frame_alignment, end);
        return {place(at, next - at), {}, false};
    }

    /// Whether some bytes could not be read from the medium.
    [[nodiscard]] bool read_failed() const noexcept { return !in_.unreadable().empty(); }

private:
    [[nodiscard]] format::frame_view peek(std::uint64_t at, std::uint64_t end) {
        if (end - at < format::frame_header_bytes) return {};
        auto const look = [&] {
            return format::peek_frame(in_.at(at, format::frame_header_bytes).data(), {salt_, at}, end - at);
        };
        auto head = look();
        if (head.state != format::frame_state::intact && in_.reread(at, format::frame_header_bytes)) head = look();
        return head;
    }
    [[nodiscard]] static format::block_place place(std::uint64_t at, std::uint64_t bytes) noexcept {
        return {static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes)};
    }

    std::uint64_t salt_;
    wal::window<File> in_;
};

/// The offsets of the parts of a table.
struct table_layout {
    std::uint64_t blocks_end = 0;  ///< end of the frames that hold records
    std::uint64_t index_begin = 0; ///< no index block lies in front of it
    std::uint64_t index_end = 0;   ///< no index block lies behind it
    std::string largest{};         ///< no key of the table is larger
};

/// The first and the last key of a block.
struct key_ends {
    std::string first;
    std::string last;
};

/// `Blocks` reads blocks:
///   b.leaf(place)  std::optional<fence_list>  an index block; std::nullopt if it does not verify
///   b.ends(place)  std::optional<key_ends>    of a block of records; std::nullopt if it does not verify, or is another kind of block
template <class File, class Blocks>
class index_maker {
public:
    index_maker(frame_walk<File>& frames, Blocks& blocks, table_layout layout)
        : frames_{frames}, blocks_{blocks}, layout_{std::move(layout)} {}

    /// Makes the index. `root`: the index over the index blocks; empty if it does not verify. The result is sorted by key and covers all
    /// keys of the table.
    [[nodiscard]] fence_list make(fence_list const& root) {
        for (std::size_t i = 0; i < root.size(); ++i) take_leaf(blocks_.leaf(root.where(i)), root.key(i));
        if (root.empty()) look_for_leaves();
        look_for_blocks(layout_.blocks_end);
        end_damage(largest_.empty() ? layout_.largest : largest_);
        out_.finish();
        if (out_.in_order() && !out_.empty()) return std::move(out_);
        // The parts verify one by one but contradict each other, and nothing tells which of them is right. So give an index in which every
        // key leads to a block that does not verify.
        fence_list nothing;
        nothing.add(layout_.largest, {format::table_frames_begin, format::frame_header_bytes});
        nothing.finish();
        return nothing;
    }
    /// Whether every block was read. Then the index leads to all records.
    [[nodiscard]] bool found_all() const noexcept { return !any_damage_; }

private:
    void look_for_leaves() {
        for (auto at = layout_.index_begin; at < layout_.index_end;) {
            auto const f = frames_.at(at, layout_.index_end);
            if (!f.believed) take_leaf(std::nullopt, {});
            else if (f.type == format::frame_type::fence) take_leaf(blocks_.leaf(f.where), {});
            at += f.where.bytes;
        }
    }
    /// `largest`: the largest key that the index block leads to; empty: not known.
    void take_leaf(std::optional<fence_list> leaf, std::string_view largest) {
        if (!leaf || !fits(*leaf)) {
            largest_ = largest;
            return;
        }
        std::uint64_t const begin = leaf->where(0).offset;
        if (at_ < begin) {
            look_for_blocks(begin);
            end_damage_before(*leaf);
        }
        for (std::size_t i = 0; i < leaf->size(); ++i) out_.add(leaf->key(i), leaf->where(i));
        auto const last = leaf->where(leaf->size() - 1);
        at_ = std::uint64_t{last.offset} + last.bytes;
        largest_.clear();
    }
    /// Whether the index block is valid here: it leads to blocks in file order, all of them behind the blocks found so far.
    [[nodiscard]] bool fits(fence_list const& leaf) const noexcept {
        auto end = at_;
        for (std::size_t i = 0; i < leaf.size(); ++i) {
            auto const where = leaf.where(i);
            if (where.offset < end || where.bytes < format::frame_header_bytes) return false;
            end = std::uint64_t{where.offset} + where.bytes;
        }
        return !leaf.empty() && leaf.in_order() && end <= layout_.blocks_end;
    }
    void look_for_blocks(std::uint64_t end) {
        while (at_ < end) {
            auto const f = frames_.at(at_, end);
            auto const keys = f.believed ? blocks_.ends(f.where) : std::nullopt;
            if (keys) {
                end_damage(keys->first);
                out_.add(keys->last, f.where);
            } else if (!damage_) {
                damage_ = f.where;
                if (!f.believed) damage_->bytes = format::frame_header_bytes;
            }
            at_ += f.where.bytes;
        }
    }
    void end_damage_before(fence_list const& leaf) {
        if (!damage_) return;
        if (!largest_.empty()) return end_damage(largest_);
        auto const next = blocks_.ends(leaf.where(0));
        end_damage(next ? std::string_view{next->first} : leaf.key(0));
    }
    /// Adds the entry for the damage, if there is any. No key up to and including `largest` is known from there on.
    void end_damage(std::string_view largest) {
        if (!damage_) return;
        out_.add(largest, *std::exchange(damage_, std::nullopt));
        any_damage_ = true;
    }

    frame_walk<File>& frames_;
    Blocks& blocks_;
    table_layout layout_;
    fence_list out_{};
    std::uint64_t at_ = format::table_frames_begin; ///< everything in front of it is in the index or in damage_
    std::string largest_{}; ///< largest key of the damaged index block just passed; empty: not known
    std::optional<format::block_place> damage_{}; ///< where the unreadable part begins
    bool any_damage_ = false;
};

} // namespace keel::inline v0::table

#endif
