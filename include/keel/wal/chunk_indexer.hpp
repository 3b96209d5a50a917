// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_CHUNK_INDEXER_HPP
#define KEEL_WAL_CHUNK_INDEXER_HPP

// Collects the keys of the active segment while its records are encoded. The keys go into two kinds of index. Each full chunk gets its own
// index (format/chunk_index.hpp). That index is a frame in the log behind its chunk; like a mark, it is never synced for its own sake. The
// whole segment gets one index when it is sealed.

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

/// For one life of one segment. One thread at a time. Memory: the keys, plus 24 bytes per key.
template <checksum_policy C>
class chunk_indexer {
public:
    chunk_indexer() = default;
    /// `memory`: from a segment that no longer needs it. Its keys are dropped.
    chunk_indexer(std::uint64_t segment_bytes, std::uint64_t salt, index_builder memory)
        : segment_bytes_{segment_bytes}, salt_{salt}, begin_{format::frames_begin(segment_bytes)}, on_{true},
          collecting_{true}, keys_{std::move(memory)} {
        keys_.clear();
    }

    /// Reserves memory for more records. Throws std::bad_alloc; nothing has changed then.
    void reserve_more(std::size_t records, std::size_t key_bytes) {
        if (collecting_) keys_.reserve_more(records, key_bytes);
    }
    /// Adds a record that was encoded at `offset`. Precondition: its memory is reserved. A record without a key ends the collection: the
    /// segment gets no index from then on.
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
    /// Ends the chunk indexes of this segment. Existing ones stay valid.
    void stop() noexcept { on_ = false; }

    /// The keys of all records so far; empty if one of the records has no key.
    [[nodiscard]] index_builder const& keys() const noexcept { return keys_; }
    /// Ends the collection and returns its memory, for use by another segment.
    [[nodiscard]] index_builder give_memory() noexcept {
        on_ = collecting_ = false;
        return std::exchange(keys_, {});
    }

    /// Whether an index is due for the current chunk: the chunk, which ends at `end`, is full and has keys.
    [[nodiscard]] bool due(std::uint64_t end) const noexcept {
        return on_ && end - begin_ >= format::index_chunk_bytes(segment_bytes_) && keys_.size() > done_;
    }
    /// The size of the next index frame, in bytes.
    [[nodiscard]] std::uint64_t frame_bytes() const noexcept {
        return format::frame_bytes(format::chunk_blocks_offset(chunks_.size() + 1) + shape().bytes());
    }
    /// The index of a chunk. Its frame stands at the end of the chunk, behind all records so far. A chunk contains only whole batches.
    struct ready_index {
        std::vector<std::byte> payload{};
        format::indexed_chunk chunk{};
    };
    /// Makes the index of the current chunk, for a frame at offset `end`. Throws std::bad_alloc; nothing has changed then.
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
    /// Begins the next chunk. Precondition: the frame of the newest index is encoded.
    void begin_next_chunk(ready_index const& behind) noexcept {
        chunks_.push_back(behind.chunk); // make_index() has reserved the memory
        done_ = keys_.size();
        begin_ = behind.chunk.end;
    }

private:
    [[nodiscard]] format::index_shape shape() const noexcept {
        return {format::block_bytes(segment_bytes_), keys_.size() - done_};
    }

    std::uint64_t segment_bytes_ = 0;
    std::uint64_t salt_ = 0;
    std::uint64_t begin_ = 0; ///< offset at which the current chunk begins
    std::uint32_t last_ = 0;
    bool on_ = false;         ///< chunks get an index
    bool collecting_ = false; ///< every record so far has a key
    index_builder keys_{};
    std::size_t done_ = 0;                        ///< number of keys in chunks that have an index
    std::vector<format::indexed_chunk> chunks_{}; ///< the chunks that have an index
};

} // namespace keel::inline v0::wal

#endif
