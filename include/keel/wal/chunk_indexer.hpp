// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_CHUNK_INDEXER_HPP
#define KEEL_WAL_CHUNK_INDEXER_HPP

// The keys of a segment that is being written to, collected as they are encoded: for the indexes inside it (format/chunk_index.hpp), each
// of which goes into the log behind its chunk once that is full, like a mark, and is never synced for its own sake; and for the index of
// the whole, when it is sealed.

#include <keel/format/chunk_index.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/types.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/segment_index.hpp>

#include <span>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// Of one life of one segment. One thread at a time. Memory: the keys, and 24 bytes for each.
template <checksum_policy C>
class chunk_indexer {
public:
    chunk_indexer() = default;
    /// `memory`: of a segment that needs it no more.
    chunk_indexer(std::uint64_t segment_bytes, std::uint64_t salt, index_builder memory)
        : segment_bytes_{segment_bytes}, salt_{salt}, begin_{format::frames_begin(segment_bytes)}, on_{true},
          collecting_{true}, keys_{std::move(memory)} {
        keys_.clear();
    }

    /// Memory for so many more records. Throws std::bad_alloc, and nothing has changed.
    void reserve_more(std::size_t records, std::size_t key_bytes) {
        if (collecting_) keys_.reserve_more(records, key_bytes);
    }
    /// A record that was encoded at `offset`, for which there is memory. One without a key ends it: there are no indexes in this segment
    /// from then on.
    void add(std::uint64_t offset, std::uint32_t lsn_delta, format::frame_type type, byte_view key) noexcept {
        if (!collecting_) return;
        if (type == format::frame_type::message) {
            on_ = collecting_ = false;
            keys_ = {};
            return;
        }
        keys_.add(as_text(key), offset, lsn_delta);
        last_ = lsn_delta;
    }
    void add(std::uint64_t offset, std::uint32_t lsn_delta, std::span<operation const> batch) noexcept {
        for (auto const& op : batch) {
            add(offset, lsn_delta++, op.type, op.key);
            offset += format::frame_bytes(op.payload_bytes());
        }
    }
    /// No more indexes inside this segment: those that it has stay good.
    void stop() noexcept { on_ = false; }

    /// The keys of all records so far; none where one of these has no key.
    [[nodiscard]] index_builder const& keys() const noexcept { return keys_; }
    /// Their memory, for another segment.
    [[nodiscard]] index_builder give_memory() noexcept {
        on_ = collecting_ = false;
        return std::exchange(keys_, {});
    }

    /// Whether the records so far, which end at `end`, are worth an index.
    [[nodiscard]] bool due(std::uint64_t end) const noexcept {
        return on_ && end - begin_ >= format::index_chunk_bytes(segment_bytes_) && keys_.size() > done_;
    }
    /// What the frame of the index will take.
    [[nodiscard]] std::uint64_t frame_bytes() const noexcept {
        return format::frame_bytes(format::chunk_blocks_offset(chunks_.size() + 1) + shape().bytes());
    }
    /// An index of the chunk, for a frame at the chunk's end, behind all records so far: whole batches.
    struct ready_index {
        std::vector<std::byte> payload{};
        format::indexed_chunk chunk{};
    };
    /// Makes it, for a frame at `end`. Throws std::bad_alloc, and nothing has changed.
    [[nodiscard]] ready_index make_index(std::uint64_t end) {
        auto const shape = this->shape();
        auto const index = keys_.sorted(done_);
        auto const head = format::chunk_blocks_offset(chunks_.size() + 1);
        auto const blocks = end + format::frame_header_bytes + head;
        std::vector<std::byte> body(static_cast<std::size_t>(shape.bytes()));
        C sum;
        encode_index_blocks(byte_span{body}, index, 0, salt_, blocks, shape.block, sum);
        auto chunks = chunks_;
        chunks.push_back({.begin = static_cast<std::uint32_t>(begin_),
                          .end = static_cast<std::uint32_t>(end),
                          .first = chunks_.empty() ? 1 : chunks_.back().last + 1,
                          .last = last_,
                          .records = static_cast<std::uint32_t>(shape.entries),
                          .shared = static_cast<std::uint32_t>(index.common.size()),
                          .blocks = static_cast<std::uint32_t>(blocks),
                          .check = sum.value()});
        ready_index out{.payload = format::encode_chunks(chunks), .chunk = chunks.back()};
        out.payload.insert(out.payload.end(), body.begin(), body.end());
        chunks_.reserve(chunks.size());
        return out;
    }
    /// The frame with the index that was made last is encoded.
    void begin_next_chunk(ready_index const& behind) noexcept {
        chunks_.push_back(behind.chunk); // make_index() has reserved its place
        done_ = keys_.size();
        begin_ = behind.chunk.end;
    }

private:
    [[nodiscard]] format::index_shape shape() const noexcept {
        return {format::block_bytes(segment_bytes_), keys_.size() - done_};
    }

    std::uint64_t segment_bytes_ = 0;
    std::uint64_t salt_ = 0;
    std::uint64_t begin_ = 0; ///< of the chunk
    std::uint32_t last_ = 0;
    bool on_ = false;         ///< chunks get their indexes
    bool collecting_ = false; ///< every record so far has a key
    index_builder keys_{};
    std::size_t done_ = 0;                        ///< of these, in chunks that have their index
    std::vector<format::indexed_chunk> chunks_{}; ///< that have their index
};

} // namespace keel::inline v0::wal

#endif
