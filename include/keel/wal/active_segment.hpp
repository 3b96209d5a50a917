// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_ACTIVE_SEGMENT_HPP
#define KEEL_WAL_ACTIVE_SEGMENT_HPP

// The segment that is written to: where its frames end, what was encoded for it, what of it is synced, and how it is sealed. Everything that
// is true of one segment only lives here, so that nothing said of a segment can end up in the state of the next one.
//
// Encoding has two steps: reserve() may throw and changes nothing, encode() cannot fail. Frames are encoded into a group (wal/group.hpp); the
// write path brings the group's bytes into the file.
//
// Thread rules: the writer's mutex, except for write(), store() and sync(), which the leader calls without it: they read `file` and `mapping`
// only, which do not change.

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

/// How many of the records have a key: those that an index has.
[[nodiscard]] inline std::uint64_t keyed_in(std::span<operation const> batch) noexcept {
    return static_cast<std::uint64_t>(
        std::ranges::count_if(batch, [](operation const& op) { return op.type != format::frame_type::message; }));
}

/// The most bytes of frames that one batch may take: a fresh segment has room for it, a mark before it and a mark after it.
[[nodiscard]] constexpr std::uint64_t batch_bytes_max_of(std::uint64_t segment_bytes) noexcept {
    return format::frames_limit(segment_bytes) - format::frames_begin(segment_bytes) -
           2 * format::frame_bytes(format::mark_bytes);
}
/// The most bytes that a record, of key and value, may have.
[[nodiscard]] constexpr std::uint64_t record_bytes_max_of(std::uint64_t segment_bytes) noexcept {
    auto const frame = batch_bytes_max_of(segment_bytes) / format::frame_alignment * format::frame_alignment;
    return frame - format::frame_header_bytes;
}

/// A segment that was sealed, for whoever reads it back.
template <class File>
struct sealed_segment {
    closed_segment what{};
    format::segment_seal seal{};
    std::optional<File> file{};           ///< the one it was written through
    std::shared_ptr<void const> pinned{}; ///< while it is held the file is not recycled
};

template <class Config>
class active_segment {
public:
    using C = typename Config::checksum;
    using fs_type = typename Config::file_system;
    using file_type = typename fs_type::file;
    using mapping_type = typename fs_type::mapping;
    static constexpr bool mapped = Config::durability::path == write_path::mapped;

    /// A segment is as large as the policy says, or smaller (wal/segment_growth.hpp); all of them have the same blocks.
    static constexpr std::uint64_t bytes_max = Config::segment_bytes;
    static constexpr std::uint64_t block = format::block_bytes(bytes_max);
    static_assert(block == format::block_bytes(smallest_segment(bytes_max)));
    static constexpr std::uint64_t frames_begin = format::frames_begin(bytes_max);
    static constexpr std::uint64_t mark_room = format::frame_bytes(format::mark_bytes);
    static constexpr std::uint64_t batch_bytes_max = batch_bytes_max_of(bytes_max);

    /// What a header says when the segment becomes active.
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
    /// Size of the file, and where its frames end at the latest.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return from_.bytes; }
    [[nodiscard]] std::uint64_t limit() const noexcept { return format::frames_limit(from_.bytes); }
    [[nodiscard]] lsn first() const noexcept { return from_.first; }
    [[nodiscard]] lsn void_from() const noexcept { return from_.void_from; }
    [[nodiscard]] format::segment_link const& previous() const noexcept { return from_.previous; }
    [[nodiscard]] std::uint64_t created_ns() const noexcept { return from_.now_ns; }
    [[nodiscard]] std::string const& path() const noexcept { return file_.path(); }
    /// Offset behind the last frame that was encoded.
    [[nodiscard]] std::uint64_t end() const noexcept { return end_; }
    [[nodiscard]] std::uint64_t records() const noexcept { return records_; }
    /// A sync of it has returned: its header is on the disk.
    [[nodiscard]] bool is_synced() const noexcept { return synced_; }
    /// Offset of the newest index frame in the file; 0: there is none.
    [[nodiscard]] std::uint64_t newest_index() const noexcept { return newest_index_; }
    /// The index of its keys is not made any more: their memory, for the next segment.
    [[nodiscard]] index_builder give_memory() noexcept { return chunks_.give_memory(); }
    /// It is sealed: its file, for whoever reads it back. Nothing else may be done with this object afterwards.
    [[nodiscard]] file_type give_file() noexcept { return std::move(file_); }

    // ---- room ---------------------------------------------------------------------------------------------------------------

    /// Whether so many more bytes leave room for a closing mark and for what sealing needs. A segment's first batch may take the room of
    /// the index: without one it is found by a scan.
    [[nodiscard]] bool has_room(std::uint64_t bytes, std::uint64_t keyed) const noexcept {
        auto const after = end_ + bytes;
        if (records_ == 0) return after - mark_room <= limit();
        return after + mark_room <= limit() && format::index_fits(after + mark_room, keyed_ + keyed, from_.bytes);
    }
    /// So much of it is used that the next one should be larger.
    [[nodiscard]] bool is_half_full() const noexcept { return end_ >= bytes() / 2; }
    /// It has no record yet, and more than the mark that every segment begins with.
    [[nodiscard]] bool has_spare_mark() const noexcept { return records_ == 0 && end_ > frames_begin + mark_room; }
    /// Room for a closing mark, which needs no more behind it.
    [[nodiscard]] bool has_room_to_close() const noexcept { return end_ + mark_room <= limit(); }
    /// Bytes from the last frame to where a mark shares no block with it: a filler frame that long goes in between.
    [[nodiscard]] std::uint64_t bytes_to_next_block() const noexcept {
        auto const gap = format::rounded_up(end_, block) - end_;
        return gap == 0 || gap >= format::frame_header_bytes ? gap : gap + block;
    }

    // ---- encoding -----------------------------------------------------------------------------------------------------------

    /// Memory for a batch in `to`, and for its keys. Throws std::bad_alloc, and nothing has changed.
    void reserve(frame_group& to, std::span<operation const> batch) {
        std::size_t key_bytes = 0;
        for (auto const& op : batch) key_bytes += op.key.size();
        to.reserve_more(frame_bytes_of(batch), 1);
        chunks_.reserve_more(batch.size(), key_bytes);
    }
    /// Encodes a batch whose first operation takes `at`. Its memory was reserved.
    void encode(frame_group& to, std::span<operation const> batch, lsn at, lsn durable) noexcept {
        chunks_.add(to.end(), encoder_.delta_of(at), batch);
        encoder_.put_batch(to, batch, at, durable);
        records_ += batch.size();
        keyed_ += keyed_in(batch);
        end_ = to.end();
    }
    /// The same for one record of a segment that was given up; `begins` and `ends` its batch as its flags say.
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
    /// Encodes a mark; `last`: the LSN taken last. Throws std::bad_alloc, and nothing has changed. Gives the durable LSN that it names.
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
    /// Fills the rest of the block with a mark frame that says nothing, so that what comes next shares no block with the records so far.
    /// Readers step over it. Throws std::bad_alloc, and nothing has changed.
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
    /// Encodes the index of the chunk that is full. Throws std::bad_alloc, and nothing has changed.
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
    /// Stores the group into the mapping, or, if it is large, writes it to the file that is mapped; its first tag last: a killed process
    /// leaves all of the group's frames reachable or none.
    [[nodiscard]] result<void> store(frame_group const& group) {
        auto const bytes = byte_view{group.bytes};
        auto const rest = bytes.subspan(4);
        if (bytes.size() >= written_from) KEEL_TRY(file_.write(group.offset + 4, rest));
        else KEEL_TRY(mapping_->store(group.offset + 4, rest));
        return mapping_->publish(group.offset, format::load<std::uint32_t>(bytes.data()));
    }
    /// Why a store failed, as far as the file can tell: a mapping gives one signal for a bad sector and for a full disk.
    [[nodiscard]] error why_store_failed(frame_group const& group, error seen) {
        if (group.bytes.size() >= written_from) return seen; // it was a write, which says why
        auto const status = file_.status();
        if (!status || status->size != bytes()) return seen; // cut short: a write would make it grow
        auto const again = file_.write(group.offset + 4, byte_view{group.bytes}.subspan(4));
        return again || again.error().code != errc::no_space ? seen : again.error();
    }
    /// All that was written or stored survives power loss once it returns.
    [[nodiscard]] result<void> sync() {
        if constexpr (mapped) return mapping_->sync();
        else return file_.sync();
    }
    /// All that was written survives power loss once it returns.
    [[nodiscard]] result<void> sync_file() { return file_.sync(); }
    /// Mapped path: bytes that were stored are handed to the disk little by little, where the file system can, so that ending the segment
    /// waits for its last part only.
    void begin_sync() noexcept {
        if constexpr (requires { file_.begin_sync(*mapping_, end_, end_); }) {
            if (end_ - handed_over_ < hand_over_bytes) [[likely]]
                return;
            auto const upto = end_ / block * block;
            file_.begin_sync(*mapping_, handed_over_, upto - handed_over_);
            handed_over_ = upto;
        }
    }
    /// The group is in the file.
    void is_in_file(frame_group const& group) noexcept {
        if (group.index_at != 0) newest_index_ = group.index_at;
        if constexpr (mapped) follow_block(group);
    }

    // ---- what a failed sync may cost --------------------------------------------------------------------------------------------

    /// Mapped path: where the first batch begins that touches the block in which the newest batch ends. Taken before a sync; what that sync
    /// made durable ends there.
    [[nodiscard]] std::uint64_t newest_block_batch() const noexcept { return newest_block_batch_; }
    /// A sync returned that covers everything up to there.
    void note_synced(std::uint64_t block_batch) noexcept {
        synced_ = true;
        durable_block_batch_ = block_batch;
    }
    /// Mapped path: where the first batch begins that shares a block with what was last synced.
    [[nodiscard]] std::uint64_t unsafe_from() const noexcept { return std::max(durable_block_batch_, frames_begin); }
    /// Mapped path: the bytes [unsafe_from(), end), as far as they can be read; the memory that was stored to was the page cache.
    [[nodiscard]] frame_group read_back(std::uint64_t end) const {
        frame_group all;
        all.reset(unsafe_from());
        all.bytes.resize(static_cast<std::size_t>(end > all.offset ? end - all.offset : 0));
        if (all.bytes.empty() || !mapping_->copy_out(all.offset, all.bytes)) all.bytes.clear();
        return all;
    }

    // ---- sealing ----------------------------------------------------------------------------------------------------------------

    /// `last`: the last LSN in it.
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
    /// Writes index, filter and footer, and syncs. All frames are durable already. Gives the segment as its readers know it.
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

    /// Its seal is in the manifest, and it is not recycled: blocks that the seal did not use go back to the disk where the file system can.
    void give_back_spare(format::segment_seal const& seal) {
        if constexpr (io::punches_holes<file_type>) {
            auto const spare = spare_blocks(seal, bytes());
            if (spare.length != 0) file_.punch_hole(spare.offset, spare.length);
        }
    }

private:
    static constexpr std::uint64_t chunk_bytes = format::aggregate_builder<C>::chunk_bytes;
    /// Mapped path: bytes stored since the disk was last asked to write. The kernel writes back in pieces of a few MiB anyway.
    static constexpr std::uint64_t hand_over_bytes = 2 * MiB;
    /// Mapped path: from so many bytes on one system call costs less than a page fault for each page. Both write the same page cache.
    static constexpr std::uint64_t written_from = std::min(8 * KiB, bytes_max / 8);

    /// Index and filter are made of the keys as they were encoded: a reader that follows them verifies what it finds.
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
    std::uint64_t keyed_ = 0; ///< of those, records that an index has
    std::uint64_t first_time_ns_;
    std::uint64_t last_time_ns_;
    std::uint64_t marked_chunk_ = frames_begin / chunk_bytes;
    std::uint64_t newest_index_ = 0;
    std::uint64_t newest_block_ = 0;                   ///< mapped path: the block in which the newest batch ends,
    std::uint64_t newest_block_batch_ = frames_begin;  ///< the first batch that touches it,
    std::uint64_t durable_block_batch_ = frames_begin; ///< and the same as of the last good sync
    bool synced_ = false;
};

} // namespace keel::inline v0::wal

#endif
