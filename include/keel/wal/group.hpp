// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_GROUP_HPP
#define KEEL_WAL_GROUP_HPP

// Frames on their way to the disk. They are encoded once, for one place in one segment. They are kept until the block in which they end is
// durable.

#include <keel/format/frame.hpp>
#include <keel/format/mark.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

namespace keel::inline v0::wal {

/// One operation of a batch. The views must live until the write returns.
struct operation {
    format::frame_type type = format::frame_type::put;
    byte_view key{};
    byte_view value{};

    [[nodiscard]] std::uint64_t payload_bytes() const noexcept { return key.size() + value.size(); }
};

[[nodiscard]] inline std::uint64_t frame_bytes_of(std::span<operation const> batch) noexcept {
    std::uint64_t bytes = 0;
    for (auto const& op : batch) bytes += format::frame_bytes(op.payload_bytes());
    return bytes;
}

/// The place of a batch in its segment.
struct placed_batch {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    lsn_range range{};
};

/// A run of encoded frames that starts at `offset` in its segment.
struct frame_group {
    std::vector<std::byte> bytes{};
    std::vector<placed_batch> batches{};
    std::uint64_t offset = 0;
    std::size_t commits = 0;    ///< writers that wait for this group
    std::uint64_t index_at = 0; ///< offset of the newest index frame in the group; 0: there is none

    [[nodiscard]] bool empty() const noexcept { return bytes.empty(); }
    [[nodiscard]] std::uint64_t end() const noexcept { return offset + bytes.size(); }
    [[nodiscard]] lsn last() const noexcept { return batches.empty() ? lsn{} : batches.back().range.last; }
    /// Reserves memory, so that this much can be added without an allocation. Throws std::bad_alloc; nothing has changed then.
    void reserve_more(std::uint64_t more_bytes, std::size_t more_batches) {
        grow(bytes, bytes.size() + static_cast<std::size_t>(more_bytes));
        grow(batches, batches.size() + more_batches);
    }
    void reset(std::uint64_t at) noexcept {
        bytes.clear();
        batches.clear();
        offset = at;
        commits = 0;
        index_at = 0;
    }

private:
    /// Doubles the capacity, so that many small reservations cost as little as many small insertions.
    template <class Vector>
    static void grow(Vector& of, std::size_t wanted) {
        if (of.capacity() < wanted) of.reserve(std::max(wanted, 2 * of.capacity()));
    }
};

/// Encodes frames for one life of one segment, and keeps the aggregate over all of them. The caller reserves the memory in the group:
/// frame_group::reserve_more().
template <checksum_policy C>
class frame_encoder {
public:
    frame_encoder() = default;
    frame_encoder(std::uint64_t salt, lsn first) noexcept : salt_{salt}, first_{first} {}

    /// Adds one frame. `at`: the LSN that the frame takes, or repeats if its type takes none. `durable`: the mark.
    void put(frame_group& to, format::frame_header h, lsn at, lsn durable, byte_view key, byte_view value) noexcept {
        auto const begin = to.bytes.size();
        h.payload_bytes = static_cast<std::uint32_t>(key.size() + value.size());
        h.key_bytes = static_cast<std::uint16_t>(key.size());
        h.lsn_delta = delta_of(at);
        h.mark_delta = mark_delta(at, durable);
        to.bytes.resize(begin + static_cast<std::size_t>(format::frame_bytes(h.payload_bytes)));
        auto* const frame = to.bytes.data() + begin;
        if (!key.empty()) std::memcpy(frame + format::frame_header_bytes, key.data(), key.size());
        if (!value.empty()) std::memcpy(frame + format::frame_header_bytes + key.size(), value.data(), value.size());
        auto const offset = to.offset + begin;
        format::finish_frame<C>(frame, {salt_, offset}, h);
        aggregate_.add(offset, format::load<std::uint64_t>(frame + 24));
    }

    /// Adds a whole batch. Its first operation gets LSN `first`.
    void put_batch(frame_group& to, std::span<operation const> batch, lsn first, lsn durable) noexcept {
        placed_batch placed{.begin = to.end(), .end = 0, .range = {first, lsn{first.value + batch.size() - 1}}};
        auto at = first;
        for (std::size_t i = 0; i < batch.size(); ++i, at = at.next()) {
            std::uint8_t flags = i == 0 ? format::begins_batch : 0;
            if (i + 1 == batch.size()) flags |= format::ends_batch;
            put(to, {.type = batch[i].type, .flags = flags}, at, durable, batch[i].key, batch[i].value);
        }
        placed.end = to.end();
        to.batches.push_back(placed);
    }

    [[nodiscard]] std::uint64_t aggregate() const noexcept { return aggregate_.value(); }
    [[nodiscard]] std::uint64_t salt() const noexcept { return salt_; }
    [[nodiscard]] lsn first() const noexcept { return first_; }
    /// The LSN as the frames of this segment store it: 1 for first().
    [[nodiscard]] std::uint32_t delta_of(lsn at) const noexcept {
        return static_cast<std::uint32_t>(at.value - first_.value + 1);
    }

private:
    [[nodiscard]] static std::uint32_t mark_delta(lsn at, lsn durable) noexcept {
        auto const delta = at.value - durable.value;
        return durable > at || delta >= format::mark_unknown ? format::mark_unknown : static_cast<std::uint32_t>(delta);
    }
    std::uint64_t salt_ = 0;
    lsn first_{};
    format::aggregate_builder<C> aggregate_{};
};

/// Calls `visit(lsn, frame)` for each data frame of a group, in order. It does not verify the frames: this process encoded them, or
/// find_batches() verified them.
template <class Visit>
void for_each_record(byte_view bytes, lsn first, Visit const& visit) {
    for (std::size_t at = 0; at < bytes.size();) {
        format::frame_view frame{.state = format::frame_state::intact,
                                 .header = format::read_frame_header(bytes.data() + at)};
        frame.payload = bytes.subspan(at + format::frame_header_bytes, frame.header.payload_bytes);
        if (format::takes_lsn(frame.header.type)) visit(lsn{first.value - 1 + frame.header.lsn_delta}, frame);
        at += static_cast<std::size_t>(frame.bytes());
    }
}

/// Updates `kept` with the frames of `done`, which follow `kept` in the same segment. Afterwards `kept` has the frames that must be written
/// again if the segment is abandoned: all frames from the first batch that touches the block in which `done` ends. Precondition: the memory
/// in `kept` is reserved.
inline void keep_last_block(frame_group& kept, frame_group const& done, std::uint64_t block) noexcept {
    if (done.empty()) return;
    auto const block_begin = (done.end() - 1) / block * block;
    auto const touches = [&](placed_batch const& b) { return b.end > block_begin; };
    auto const drop_until = [&](frame_group& from, std::uint64_t offset) {
        auto const bytes =
            static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(offset - from.offset, from.bytes.size()));
        from.bytes.erase(from.bytes.begin(), from.bytes.begin() + bytes);
        std::erase_if(from.batches, [&](auto const& b) { return b.begin < offset; });
        from.offset = offset;
    };
    auto const in_kept = std::ranges::find_if(kept.batches, touches);
    if (in_kept != kept.batches.end()) {
        drop_until(kept, in_kept->begin);
    } else {
        auto const in_done = std::ranges::find_if(done.batches, touches);
        kept.reset(in_done == done.batches.end() ? done.end() : in_done->begin);
    }
    auto const from = std::max(kept.end(), done.offset);
    kept.bytes.insert(kept.bytes.end(), done.bytes.begin() + static_cast<std::ptrdiff_t>(from - done.offset),
                      done.bytes.end());
    for (auto const& b : done.batches)
        if (b.begin >= from) kept.batches.push_back(b);
}

} // namespace keel::inline v0::wal

#endif
