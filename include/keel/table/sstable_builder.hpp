// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SSTABLE_BUILDER_HPP
#define KEEL_TABLE_SSTABLE_BUILDER_HPP

// Writes one table (format/table.hpp) from versions that come in order. Nothing refers to the file until its manifest edit is durable. The
// edit is made only after finish() has returned. At that time the bytes are on the disk; the name is durable after the folder is synced.
// Memory: one block (two if blocks are packed), a buffer of unwritten bytes, eight bytes for each key, and one index entry for each block.

#include <keel/error.hpp>
#include <keel/format/block.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/table.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/table/entry.hpp>
#include <keel/table/packed_block.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

/// The identity of a new table, for its header.
struct table_birth {
    format::store_id store{};
    format::table_id id{};
    std::uint64_t salt = 0;
    std::uint64_t branch = 0;
    std::uint64_t created_ns = 0;
    lsn first{}; ///< no record has a smaller LSN
};

template <checksum_policy C, compression_policy P, io::file_system Fs>
class sstable_builder {
public:
    static constexpr std::size_t block_bytes = 4 * KiB;

    /// Creates the file. It replaces a file that an earlier attempt left under the name.
    [[nodiscard]] static result<sstable_builder> create(Fs& fs, std::string const& path, table_birth const& birth) {
        if (auto gone = fs.remove(path); !gone && gone.error().code != errc::not_found) return failure(gone.error());
        KEEL_TRY_LET(file, fs.open(path, io::access::read_write, io::creation::must_not_exist));
        return sstable_builder{std::move(file), birth};
    }

    /// Adds a version. Versions must come in key order, and the newest version of a key first.
    [[nodiscard]] result<void> add(version const& v) {
        bool const fresh = header_.records == 0 || v.key != block_.last_key();
        if (header_.records == 0) smallest_.assign(v.key);
        if (fresh) hashes_.push_back(format::filter_hash(v.key));
        block_.add(v.key, v.value, v.at.value - header_.lsns.first.value, v.tombstone);
        header_.lsns.last = std::max(header_.lsns.last, v.at);
        ++header_.records;
        header_.erased += v.tombstone;
        header_.key_bytes += v.key.size();
        header_.value_bytes += v.value.size();
        if (block_.size() + format::frame_header_bytes < block_bytes) return {};
        return end_block();
    }

    /// Number of versions added.
    [[nodiscard]] std::uint64_t records() const noexcept { return header_.records; }
    /// Size of the file so far, without filter and index.
    [[nodiscard]] std::uint64_t bytes() const noexcept { return at_ + block_.size(); }
    /// The key that was added last.
    [[nodiscard]] std::string const& last_key() const noexcept { return block_.last_key(); }

    /// Writes filter, index and headers, then syncs the file. Returns the entry for the manifest, at level 1.
    [[nodiscard]] result<format::table_entry> finish() {
        if (!block_.empty()) KEEL_TRY(end_block());
        header_.blocks_end = at_;
        KEEL_TRY(write_filter());
        KEEL_TRY(write_index());
        header_.size = at_ + format::header_bytes;
        if (header_.size > format::table_bytes_max)
            return failure(errc::too_large, "a table would grow beyond what its format allows", file_.path());
        auto const head = format::encode<C>(header_);
        waiting_.insert(waiting_.end(), head.begin(), head.end());
        KEEL_TRY(flush());
        KEEL_TRY(file_.write(0, head));
        KEEL_TRY(file_.sync());
        format::table_entry out{.id = header_.id,
                                .salt = header_.salt,
                                .size = header_.size,
                                .lsns = header_.lsns,
                                .records = header_.records,
                                .compression = compression_};
        out.set_bounds(smallest_, block_.last_key());
        return out;
    }

private:
    static constexpr std::size_t flush_bytes = 256 * KiB;
    static constexpr std::uint64_t hand_over_bytes = MiB; ///< a few milliseconds of a disk's time

    sstable_builder(typename Fs::file file, table_birth const& birth) : file_{std::move(file)} {
        header_.store = birth.store;
        header_.id = birth.id;
        header_.salt = birth.salt;
        header_.branch = birth.branch;
        header_.created_ns = birth.created_ns;
        header_.lsns = {birth.first, birth.first};
        header_.filter_bits = format::filter_probes;
    }

    result<void> end_block() {
        KEEL_TRY_LET(where, write_block(block_.finish()));
        block_.clear();
        index_.push_back({block_.last_key(), where});
        ++header_.blocks;
        return {};
    }

    result<format::block_place> write_block(byte_view payload) {
        if constexpr (P::id != 0) {
            if (pack<P>(payload, packed_)) {
                compression_ = P::id;
                auto const raw = static_cast<std::uint32_t>(payload.size());
                return write_frame(format::frame_type::packed,
                                   format::encode(format::packed_head{.raw_bytes = raw, .compression = P::id}),
                                   packed_);
            }
        }
        return write_frame(format::frame_type::block, payload);
    }

    result<void> write_filter() {
        constexpr std::uint64_t keys_per_block = format::table_filter_block_bytes * 8 / 10;
        header_.filter_blocks = (hashes_.size() + keys_per_block - 1) / keys_per_block;
        std::vector<std::byte> lines(static_cast<std::size_t>(header_.filter_blocks) *
                                     format::table_filter_block_bytes);
        for (auto const hash : hashes_)
            format::add_to_line(lines.data() +
                                    format::filter_line(hash, header_.filter_lines()) * format::filter_line_bytes,
                                hash, format::filter_probes);
        for (std::size_t b = 0; b < header_.filter_blocks; ++b)
            KEEL_TRY(
                write_frame(format::frame_type::filter, byte_view{lines}.subspan(b * format::table_filter_block_bytes,
                                                                                 format::table_filter_block_bytes)));
        return {};
    }

    result<void> write_index() {
        format::block_builder root;
        format::block_builder leaf;
        for (std::size_t i = 0; i < index_.size(); ++i) {
            leaf.add(index_[i].first, index_[i].second);
            if (leaf.size() + format::frame_header_bytes < block_bytes && i + 1 < index_.size()) continue;
            KEEL_TRY_LET(where, write_frame(format::frame_type::fence, leaf.finish()));
            root.add(leaf.last_key(), where);
            leaf.clear();
            ++header_.index_blocks;
        }
        KEEL_TRY_LET(where, write_frame(format::frame_type::root, root.finish()));
        header_.root = where;
        return {};
    }

    /// Writes a frame. `rest` is a second part of the payload.
    result<format::block_place> write_frame(format::frame_type type, byte_view payload, byte_view rest = {}) {
        auto const payload_bytes = payload.size() + rest.size();
        auto const bytes = format::frame_bytes(payload_bytes);
        if (at_ + bytes > format::table_bytes_max)
            return failure(errc::too_large, "a table would grow beyond what its format allows", file_.path());
        auto const begin = waiting_.size();
        waiting_.resize(begin + static_cast<std::size_t>(bytes));
        auto* const frame = waiting_.data() + begin;
        std::memcpy(frame + format::frame_header_bytes, payload.data(), payload.size());
        if (!rest.empty()) std::memcpy(frame + format::frame_header_bytes + payload.size(), rest.data(), rest.size());
        format::finish_frame<C>(
            frame, {header_.salt, at_},
            {.payload_bytes = static_cast<std::uint32_t>(payload_bytes), .type = type, .flags = format::whole_batch});
        format::block_place const where{static_cast<std::uint32_t>(at_), static_cast<std::uint32_t>(bytes)};
        at_ += bytes;
        if (waiting_.size() >= flush_bytes) KEEL_TRY(flush());
        return where;
    }
    result<void> flush() {
        KEEL_TRY(file_.write(written_, waiting_));
        written_ += waiting_.size();
        waiting_.clear();
        if constexpr (requires { file_.write_back(written_, written_); }) {
            for (; written_ - handed_over_ >= hand_over_bytes; handed_over_ += hand_over_bytes)
                KEEL_TRY(file_.write_back(handed_over_, hand_over_bytes));
        }
        return {};
    }

    typename Fs::file file_;
    format::table_header header_{};
    std::string smallest_{};
    format::block_builder block_{};
    std::vector<std::pair<std::string, format::block_place>> index_{};
    std::vector<std::uint64_t> hashes_{};
    std::vector<std::byte> waiting_{};
    std::vector<std::byte> packed_{};                    ///< the compressed bytes of a block
    std::uint8_t compression_ = 0;                       ///< compression id of the packed blocks; 0: no block is packed
    std::uint64_t at_ = format::table_frames_begin;      ///< offset of the next frame
    std::uint64_t written_ = format::table_frames_begin; ///< offset of waiting_ in the file
    std::uint64_t handed_over_ = 0;                      ///< bytes in front of it were handed to the disk (write_back)
};

} // namespace keel::inline v0::table

#endif
