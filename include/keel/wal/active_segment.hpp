// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_ACTIVE_SEGMENT_HPP
#define KEEL_WAL_ACTIVE_SEGMENT_HPP

// The active segment: where its frames end, which frames were encoded for it, which of them are synced, and how it is sealed. State that
// belongs to one segment is kept only here. So the state of one segment cannot be mistaken for the state of the next one.
//
// Encoding has two steps. reserve() may throw and then changes nothing; encode() cannot fail. Frames are encoded into a group
// (wal/group.hpp). The write path writes the bytes of the group to the file.
//
// Thread rules: calls need the writer's mutex, with two exceptions. The leader calls write(), store() and sync() without it: they use only
// `file_` and `mapping_`, which do not change. wal/sealing.hpp calls write_seal() without it, for a segment that is no longer active.

#include <keel/error.hpp>
#include <keel/format/index.hpp>
#include <keel/format/mark.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/durability/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/chunk_indexer.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/segment_growth.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// The number of records with a key. Only records with a key are in an index.
[[nodiscard]] inline std::uint64_t keyed_in(std::span<operation const> batch) noexcept {
    return static_cast<std::uint64_t>(
        std::ranges::count_if(batch, [](operation const& op) { return op.type != format::frame_type::message; }));
}

/// The largest batch, in bytes of frames. A fresh segment has room for this batch, a mark before it and a mark after it.
[[nodiscard]] constexpr std::uint64_t batch_bytes_max_of(std::uint64_t segment_bytes) noexcept {
    return format::frames_limit(segment_bytes) - format::frames_begin(segment_bytes) -
           2 * format::frame_bytes(format::mark_bytes);
}
/// The largest record, in bytes of key plus value.
[[nodiscard]] constexpr std::uint64_t record_bytes_max_of(std::uint64_t segment_bytes) noexcept {
    auto const frame = batch_bytes_max_of(segment_bytes) / format::frame_alignment * format::frame_alignment;
    return frame - format::frame_header_bytes;
}

/// A sealed segment that is to be read back.
template <class File>
struct sealed_segment {
    closed_segment what{};
    format::segment_seal seal{};
    std::optional<File> file{};           ///< the handle through which it was written
    std::shared_ptr<void const> pinned{}; ///< the file is not recycled while this is held
};

template <class Config>
class active_segment {
public:
    using C = typename Config::checksum;
    using fs_type = typename Config::file_system;
    using file_type = typename fs_type::file;
    using mapping_type = typename fs_type::mapping;
    static constexpr bool mapped = Config::durability::path == write_path::mapped;

    /// A segment has the policy's size or a smaller one (wal/segment_growth.hpp). The block size is the same for all of these sizes.
    static constexpr std::uint64_t bytes_max = Config::segment_bytes;
    static constexpr std::uint64_t block = format::block_bytes(bytes_max);
    static_assert(block == format::block_bytes(smallest_segment(bytes_max)));
    static constexpr std::uint64_t frames_begin = format::frames_begin(bytes_max);
    static constexpr std::uint64_t mark_room = format::frame_bytes(format::mark_bytes);
    static constexpr std::uint64_t batch_bytes_max = batch_bytes_max_of(bytes_max);

    /// The values that the header gets when the segment becomes active.
    struct origin {
        segment_id id{};
        std::uint64_t salt = 0;
        std::uint64_t bytes = 0; ///< size of the file
        std::uint64_t branch = 0;
        format::segment_link previous{};
        lsn first{};
        lsn void_from{};
        std::uint64_t now_ns = 0;
    };

    active_segment(origin const& from, file_type file, std::optional<mapping_type> mapping, index_builder memory)
        : file_{std::move(file)}, mapping_{std::move(mapping)}, from_{from}, encoder_{from.salt, from.first},
          chunks_{from.bytes, from.salt, std::move(memory)}, first_time_ns_{from.now_ns}, last_time_ns_{from.now_ns} {}
    active_segment(active_segment const&) = delete;
    active_segment& operator=(active_segment const&) = delete;

    [[nodiscard]] segment_id id() const noexcept { return from_.id; }
    [[nodiscard]] std::uint64_t salt() const noexcept { return from_.salt; }
    /// bytes(): the size of the file. limit(): the largest offset at which frames may end.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return from_.bytes; }
    [[nodiscard]] std::uint64_t limit() const noexcept { return format::frames_limit(from_.bytes); }
    [[nodiscard]] lsn first() const noexcept { return from_.first; }
    [[nodiscard]] lsn void_from() const noexcept { return from_.void_from; }
    [[nodiscard]] format::segment_link const& previous() const noexcept { return from_.previous; }
    [[nodiscard]] std::uint64_t created_ns() const noexcept { return from_.now_ns; }
    [[nodiscard]] std::string const& path() const noexcept { return file_.path(); }
    /// The offset behind the last encoded frame.
    [[nodiscard]] std::uint64_t end() const noexcept { return end_; }
    [[nodiscard]] std::uint64_t records() const noexcept { return records_; }
    /// True after a sync of this segment has returned. The header is on the disk then.
    [[nodiscard]] bool is_synced() const noexcept { return synced_; }
    /// The offset of the newest index frame in the file; 0 if there is none.
    [[nodiscard]] std::uint64_t newest_index() const noexcept { return newest_index_; }
    /// Ends the collection of keys and returns its memory, for use by the next segment.
    [[nodiscard]] index_builder give_memory() noexcept { return chunks_.give_memory(); }
    /// Returns the file of a sealed segment, so that it can be read back. Nothing else may be done with this object afterwards.
    [[nodiscard]] file_type give_file() noexcept { return std::move(file_); }

    // ---- room ---------------------------------------------------------------------------------------------------------------

    /// Whether `bytes` more of frames, with `keyed` more keys, leave room for a closing mark and for sealing. The first batch of a segment
    /// may take the room of the index. That segment gets no index, and readers scan it.
    [[nodiscard]] bool has_room(std::uint64_t bytes, std::uint64_t keyed) const noexcept {
        auto const after = end_ + bytes;
        if (records_ == 0) return after - mark_room <= limit();
        return after + mark_room <= limit() && format::index_fits(after + mark_room, keyed_ + keyed, from_.bytes);
    }
    /// At least half of the file is used. The next segment should then be larger.
    [[nodiscard]] bool is_half_full() const noexcept { return end_ >= bytes() / 2; }
    /// The segment has no record yet, but it has more than the mark that every segment begins with.
    [[nodiscard]] bool has_spare_mark() const noexcept { return records_ == 0 && end_ > frames_begin + mark_room; }
    /// There is room for a closing mark. No frame follows a closing mark, so nothing behind it needs room.
    [[nodiscard]] bool has_room_to_close() const noexcept { return end_ + mark_room <= limit(); }
    /// The size of the filler frame that moves the next mark to a new block, so that the mark shares no block with earlier frames; 0 if no
    /// filler is needed.
    [[nodiscard]] std::uint64_t bytes_to_next_block() const noexcept {
        auto const gap = format::rounded_up(end_, block) - end_;
        return gap == 0 || gap >= format::frame_header_bytes ? gap : gap + block;
    }

    // ---- encoding -----------------------------------------------------------------------------------------------------------

    /// Reserves memory for a batch in `to`, and for its keys. Throws std::bad_alloc; nothing has changed then.
    void reserve(frame_group& to, std::span<operation const> batch) {
        std::size_t key_bytes = 0;
        for (auto const& op : batch) key_bytes += op.key.size();
        to.reserve_more(frame_bytes_of(batch), 1);
        chunks_.reserve_more(batch.size(), key_bytes);
    }
    /// Encodes a batch. Its first operation gets LSN `at`. `durable`: the durable LSN, which each frame stores as its mark. Precondition:
    /// reserve().
    void encode(frame_group& to, std::span<operation const> batch, lsn at, lsn durable) noexcept {
        chunks_.add(to.end(), encoder_.delta_of(at), batch);
        encoder_.put_batch(to, batch, at, durable);
        records_ += batch.size();
        keyed_ += keyed_in(batch);
        end_ = to.end();
    }
    /// The same two steps for one record of an earlier segment that is written again. The flags of the record tell whether it begins or
    /// ends its batch.
    void reserve_again(frame_group& to, format::frame_view const& frame) {
        to.reserve_more(frame.bytes(), 1);
        chunks_.reserve_more(1, frame.key().size());
    }
    void encode_again(frame_group& to, lsn at, format::frame_view const& frame, lsn durable) noexcept {
        if (frame.header.begins()) to.batches.push_back({.begin = to.end(), .end = 0, .range = {at, at}});
        chunks_.add(to.end(), encoder_.delta_of(at), frame.header.type, frame.key());
        encoder_.put(to, {.type = frame.header.type, .flags = frame.header.flags}, at, durable, frame.key(),
                     frame.value());
        to.batches.back().end = to.end();
        to.batches.back().range.last = at;
        ++records_;
        keyed_ += frame.header.type != format::frame_type::message;
        end_ = to.end();
    }
    /// Encodes a mark. `last`: the newest LSN that was taken. Returns the durable LSN that the mark stores. Throws std::bad_alloc; nothing
    /// has changed then.
    lsn encode_mark(frame_group& to, format::mark_kind kind, lsn last, lsn durable, std::uint64_t now_ns) {
        to.reserve_more(mark_room, 0);
        format::mark const m{.at = last,
                             .durable = std::min(durable, last),
                             .clock_ns = now_ns,
                             .segment = from_.id,
                             .first = from_.first,
                             .salt = from_.salt,
                             .branch = from_.branch,
                             .kind = kind};
        encoder_.put(to, {.type = format::frame_type::mark, .flags = format::whole_batch}, last, m.durable, {},
                     format::encode(m));
        last_time_ns_ = now_ns;
        end_ = to.end();
        return m.durable;
    }
    /// Fills the rest of the block with an empty mark frame. The next frame then shares no block with the records so far. Readers skip the
    /// filler. Throws std::bad_alloc; nothing has changed then.
    void encode_filler(frame_group& to, lsn last, lsn durable) {
        auto const gap = bytes_to_next_block();
        if (gap == 0) return;
        std::vector<std::byte> const nothing(static_cast<std::size_t>(gap - format::frame_header_bytes));
        to.reserve_more(gap, 0);
        encoder_.put(to, {.type = format::frame_type::mark, .flags = format::whole_batch}, last, durable, {}, nothing);
        end_ = to.end();
    }

    /// A mark is due at the start of each chunk, so that every chunk can be read without the header.
    [[nodiscard]] bool enters_new_chunk() const noexcept { return end_ / chunk_bytes != marked_chunk_; }
    void chunk_is_marked() noexcept { marked_chunk_ = end_ / chunk_bytes; }

    [[nodiscard]] bool index_is_due() const noexcept { return chunks_.due(end_); }
    [[nodiscard]] std::uint64_t index_bytes() const noexcept { return chunks_.frame_bytes(); }
    void index_no_more_chunks() noexcept { chunks_.stop(); }
    /// Encodes the index of the chunk that is full. Throws std::bad_alloc; nothing has changed then.
    void encode_index(frame_group& to, lsn last, lsn durable) {
        auto const offset = to.end();
        auto const index = chunks_.make_index(offset);
        to.reserve_more(format::frame_bytes(index.payload.size()), 0);
        encoder_.put(to, {.type = format::frame_type::index, .flags = format::whole_batch}, last, durable, {},
                     index.payload);
        chunks_.begin_next_chunk(index);
        to.index_at = offset;
        end_ = to.end();
    }

    // ---- bytes ----------------------------------------------------------------------------------------------------------------

    [[nodiscard]] result<void> write_header(format::segment_header const& header) {
        auto const bytes = format::encode<C>(header);
        KEEL_TRY(file_.write(0, bytes));
        return file_.write(format::second_header_offset(from_.bytes), bytes);
    }
    [[nodiscard]] result<void> write(frame_group const& group) { return file_.write(group.offset, group.bytes); }
    /// Puts the group into the mapped file. A small group is stored into the mapping; a large group is written to the file. The tag of the
    /// first frame is stored last. So a killed process leaves either all frames of the group reachable or none.
    [[nodiscard]] result<void> store(frame_group const& group) {
        auto const bytes = byte_view{group.bytes};
        auto const rest = bytes.subspan(4);
        if (bytes.size() >= written_from) KEEL_TRY(file_.write(group.offset + 4, rest));
        else KEEL_TRY(mapping_->store(group.offset + 4, rest));
        return mapping_->publish(group.offset, format::load<std::uint32_t>(bytes.data()));
    }
    /// Returns the probable cause of a failed store; `seen` is the error of the store. A mapping gives the same signal for a bad sector and
    /// for a full disk. So this asks the file which of the two it is.
    [[nodiscard]] error why_store_failed(frame_group const& group, error seen) {
        if (group.bytes.size() >= written_from) return seen; // it was a write, and a write tells the cause
        auto const status = file_.status();
        if (!status || status->size != bytes()) return seen; // the file was cut short: the write below would extend it
        auto const again = file_.write(group.offset + 4, byte_view{group.bytes}.subspan(4));
        return again || again.error().code != errc::no_space ? seen : again.error();
    }
    /// After this returns, all bytes that were written or stored survive power loss.
    [[nodiscard]] result<void> sync() {
        if constexpr (mapped) return mapping_->sync();
        else return file_.sync();
    }
    /// After this returns, all bytes that were written to the file survive power loss.
    [[nodiscard]] result<void> sync_file() { return file_.sync(); }
    /// Mapped path: tells the file system, if it can use the hint, that stored bytes may go to the disk. So the end of the segment waits
    /// only for its last part.
    void begin_sync() noexcept {
        if constexpr (requires { file_.begin_sync(*mapping_, end_, end_); }) {
            if (end_ - handed_over_ < hand_over_bytes) [[likely]]
                return;
            auto const upto = end_ / block * block;
            file_.begin_sync(*mapping_, handed_over_, upto - handed_over_);
            handed_over_ = upto;
        }
    }
    /// Notes that the group is in the file.
    void is_in_file(frame_group const& group) noexcept {
        if (group.index_at != 0) newest_index_ = group.index_at;
        if constexpr (mapped) follow_block(group);
    }

    // ---- after a failed sync ----------------------------------------------------------------------------------------------------

    /// Mapped path: the start of the first batch that touches the block in which the newest batch ends. The caller reads it before a sync
    /// and gives it to note_synced() afterwards, because the bytes made durable by that sync end in this block.
    [[nodiscard]] std::uint64_t newest_block_batch() const noexcept { return newest_block_batch_; }
    /// Notes that a sync has returned. `block_batch`: newest_block_batch() from before the sync. The written path gives 0 and does not use
    /// it.
    void note_synced(std::uint64_t block_batch) noexcept {
        synced_ = true;
        durable_block_batch_ = block_batch;
    }
    /// Mapped path: the start of the first batch that shares a block with the last synced bytes. Fail-over writes the records from here on
    /// again.
    [[nodiscard]] std::uint64_t unsafe_from() const noexcept { return std::max(durable_block_batch_, frames_begin); }
    /// Mapped path: the bytes [unsafe_from(), end), or an empty group if they cannot be read. They were stored into the page cache, which a
    /// failed sync may have dropped.
    [[nodiscard]] frame_group read_back(std::uint64_t end) const {
        frame_group all;
        all.reset(unsafe_from());
        all.bytes.resize(static_cast<std::size_t>(end > all.offset ? end - all.offset : 0));
        if (all.bytes.empty() || !mapping_->copy_out(all.offset, all.bytes)) all.bytes.clear();
        return all;
    }

    // ---- sealing ----------------------------------------------------------------------------------------------------------------

    /// Returns the seal of this segment. `last`: its last LSN.
    [[nodiscard]] format::segment_seal seal(lsn last) const noexcept {
        format::segment_seal s{.id = from_.id,
                               .salt = from_.salt,
                               .range = {from_.first, last},
                               .count = records_,
                               .data_end = end_,
                               .first_time_ns = first_time_ns_,
                               .last_time_ns = last_time_ns_,
                               .aggregate = encoder_.aggregate()};
        s.chain = format::chain_value<C>(from_.previous.chain, s);
        return s;
    }
    /// Writes index, filter and footer, then syncs. Precondition: all frames are durable. Returns the segment in the form that readers use.
    [[nodiscard]] result<closed_segment> write_seal(format::segment_seal const& seal) {
        closed_segment closed{.id = seal.id,
                              .path = path(),
                              .salt = seal.salt,
                              .first = from_.first,
                              .begin = frames_begin,
                              .end = seal.data_end,
                              .segment_bytes = bytes(),
                              .counted = {seal.range},
                              .records = seal.count};
        format::segment_footer footer{.seal = seal};
        KEEL_TRY(write_index_of(closed));
        for (auto const& section : {closed.index, closed.filter})
            if (section) footer.sections[footer.section_count++] = *section;
        KEEL_TRY(file_.write(format::footer_offset(bytes()), format::encode<C>(footer)));
        KEEL_TRY(file_.sync());
        return closed;
    }

    /// Gives the blocks that the seal did not use back to the disk, if the file system can do that. Precondition: the seal is in the
    /// manifest, and the file is not recycled.
    void give_back_spare(format::segment_seal const& seal) {
        if constexpr (io::punches_holes<file_type>) {
            auto const spare = spare_blocks(seal, bytes());
            if (spare.length != 0) file_.punch_hole(spare.offset, spare.length);
        }
    }

private:
    static constexpr std::uint64_t chunk_bytes = format::aggregate_builder<C>::chunk_bytes;
    /// Mapped path: begin_sync() gives its hint after this many stored bytes. The kernel writes back in pieces of a few MiB anyway.
    static constexpr std::uint64_t hand_over_bytes = 2 * MiB;
    /// Mapped path: from this size on, one system call costs less than a page fault per page. Both ways write to the same page cache.
    static constexpr std::uint64_t written_from = std::min(8 * KiB, bytes_max / 8);

    /// Builds index and filter from the keys as they were encoded, without reading them back. A reader verifies each record that it finds
    /// through the index.
    result<void> write_index_of(closed_segment& what) {
        auto const& keys = chunks_.keys();
        if (keys.size() == 0 || keys.size() != what.records || !format::index_fits(what.end, what.records, bytes()))
            return {};
        auto at = format::sections_begin(what.end, bytes());
        auto filter = keys.filter({block, what.records});
        KEEL_TRY_LET(index, write_index<C>(file_, keys.sorted(), what.salt, at, bytes()));
        what.index = index;
        at += index.length;
        if (filter.empty()) return {};
        KEEL_TRY_LET(written, write_filter<C>(file_, std::move(filter), what.salt, at, block));
        what.filter = written;
        return {};
    }
    void follow_block(frame_group const& group) noexcept {
        for (auto const& b : group.batches) {
            auto const last_block = (b.end - 1) / block;
            if (last_block == newest_block_) continue;
            newest_block_ = last_block;
            newest_block_batch_ = b.begin;
        }
    }

    file_type file_;
    std::optional<mapping_type> mapping_;
    origin from_;
    frame_encoder<C> encoder_;
    chunk_indexer<C> chunks_;
    std::uint64_t end_ = frames_begin;
    std::uint64_t handed_over_ = 0;
    std::uint64_t records_ = 0;
    std::uint64_t keyed_ = 0; ///< the number of records with a key
    std::uint64_t first_time_ns_;
    std::uint64_t last_time_ns_;
    std::uint64_t marked_chunk_ = frames_begin / chunk_bytes;
    std::uint64_t newest_index_ = 0;
    std::uint64_t newest_block_ = 0;                   ///< mapped path: the block in which the newest batch ends
    std::uint64_t newest_block_batch_ = frames_begin;  ///< mapped path: start of the first batch that touches it
    std::uint64_t durable_block_batch_ = frames_begin; ///< newest_block_batch_ as of the last good sync
    bool synced_ = false;
};

} // namespace keel::inline v0::wal

#endif
