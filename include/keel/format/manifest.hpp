// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_MANIFEST_HPP
#define KEEL_FORMAT_MANIFEST_HPP

// A manifest file: a 512-byte header, then frames (format/frame.hpp) from offset 512; the LSN of a frame is its edit number.
//   Header: 0 magic u64 | 8 format u32 | 12 checksum_id u32 | 16 store_id 16 | 32 salt u64 | 40 branch u64 | 48 first_edit u64
//           56 size u64 | 64 created u64 (ns since 1970)                          | 504 check u64 over bytes 0..503
// The first frame is a `snapshot`, all others are `edit`s. The payload of either is a list of operations. They are applied
// together or not at all.
//   op u8 | length u8 (of the fields: a reader notices an operation that it does not know) | fields
//   1 next_ids       u64 next segment id, u64 next repair number
//   2 prepared       u64 id, u64 salt, u64 size, u64 place (its own id, or the id of the segment that it replaces after a repair)
//   3 sealed         the seal of a segment (80 bytes)
//   4 retired        u64 id
//   5 loss           u64 first, u64 last: LSNs that a repair declared lost
//   6 removed        u64 id, u64 repair: a repair moved this segment to quarantine
//   7 log_base       u64 id, u64 salt, u64 last lsn, u64 chain: of the segment before the oldest one
//   8 log_start_lsn  u64 lsn: records at or below it are in tables, or retention gave them up
//   9 table          u64 id, u64 salt, u64 size, u64 first lsn, u64 last lsn, u64 records, u8 level, u8 n, u8 m, u8 compression,
//                    n bytes smallest, m & 127 bytes largest
//  10 remove_table   u64 id: no longer part of the store
//  11 next_table_id  u64 next table id
//  12 reclaim_lsns   u64 lsn: it and all LSNs above were never kept. They are used again, so losses declared there are dropped
// Operation `table`:
//   - From this edit on the table is at this level, whether it was known before or not.
//   - No key is smaller than `smallest`. No key is larger than `largest`; with bit 7 of m set, except keys that begin with `largest`.
//   - compression: id of the policy that packed its packed blocks, at most 15; 0: no block is packed.
//   - Level 0: a table that was ingested beside the log. All its records have one LSN. The log holds an erase of the empty key at that
//     LSN. When this edit was written, that LSN and all before it were durable.
//   - Level 0 with 0 records: a placeholder for versions up to that LSN that could not be read. It has one block, which does not verify
//     (table/placeholder.hpp).

#include <keel/format/endian.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/format/table.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::format {

inline constexpr std::uint64_t manifest_frames_begin = header_bytes;
inline constexpr std::uint64_t manifest_bytes_min = 8 * KiB;
inline constexpr std::uint64_t manifest_bytes_max = 256 * MiB;

/// The highest edit number. A segment's header names at most edit lsn_highest as durable. There must be numbers for more edits behind
/// that one.
inline constexpr std::uint64_t edit_highest = lsn_highest.value + lsn_highest.value / 4;

struct manifest_header {
    std::uint32_t format = format_number;
    checksum_id checksum{};
    store_id store{};
    std::uint64_t salt = 0;
    std::uint64_t branch = 0;
    std::uint64_t first_edit = 1; ///< number of the first frame, the snapshot
    std::uint64_t size = 0;       ///< of the file
    std::uint64_t created_ns = 0;
    bool operator==(manifest_header const&) const = default;
};

template <checksum_policy C>
[[nodiscard]] header_block encode(manifest_header const& h) noexcept {
    header_block block{};
    field_writer out{block};
    out.put(manifest_magic).put(h.format).put(checksum_id{C::id}.value).put(byte_view{h.store});
    out.put(h.salt).put(h.branch).put(h.first_edit).put(h.size).put(h.created_ns);
    detail::seal_block<C>(block);
    return block;
}

struct manifest_header_read {
    header_problem problem = header_problem::damaged;
    bool verifies = false; ///< the check holds: `problem` is about the bytes that were written, not about damage
    manifest_header header{};
    [[nodiscard]] bool good() const noexcept { return problem == header_problem::none; }
};
template <checksum_policy C>
[[nodiscard]] manifest_header_read decode_manifest_header(byte_view block) noexcept {
    manifest_header_read out;
    auto const kind = peek_file_kind(block);
    out.verifies = detail::block_verifies<C>(block);
    if (!out.verifies || kind.magic != manifest_magic || kind.format != format_number ||
        kind.checksum != checksum_id{C::id}) {
        if (kind.magic != manifest_magic) out.problem = header_problem::not_ours;
        else if (kind.format != format_number) out.problem = header_problem::other_format;
        else if (kind.checksum != checksum_id{C::id}) out.problem = header_problem::other_checksum;
        return out;
    }
    field_reader in{block.subspan(16)};
    auto& h = out.header;
    h.checksum = kind.checksum;
    h.store = in.bytes<16>();
    h.salt = in.get<std::uint64_t>();
    h.branch = in.get<std::uint64_t>();
    h.first_edit = in.get<std::uint64_t>();
    h.size = in.get<std::uint64_t>();
    h.created_ns = in.get<std::uint64_t>();
    bool const sane = static_cast<std::uint32_t>(h.salt) != 0 && h.first_edit != 0 && h.first_edit <= edit_highest &&
                      h.size >= manifest_bytes_min && h.size <= manifest_bytes_max;
    out.problem = sane ? header_problem::none : header_problem::damaged;
    return out;
}

enum class manifest_op : std::uint8_t {
    next_ids = 1,
    prepared = 2,
    sealed = 3,
    retired = 4,
    loss = 5,
    removed = 6,
    log_base = 7,
    log_start_lsn = 8,
    table = 9,
    remove_table = 10,
    next_table_id = 11,
    reclaim_lsns = 12
};

/// The manifest's entry of one segment of the store. Without `seal` the segment is prepared, or it is or was active: its own header says
/// which.
struct segment_entry {
    segment_id id{};
    std::uint64_t salt = 0;
    std::uint64_t size = 0;
    segment_id place{}; ///< its place in the log: its own id, or the id of the segment that it replaces
    std::optional<segment_seal> seal{};
    bool operator==(segment_entry const&) const = default;
};

inline constexpr std::size_t table_bound_bytes_max = 96;
inline constexpr unsigned table_levels = 7; ///< a table's level is less than this

/// The LSN in the header of an ingested table. The header is written before the table becomes part of the store and gets its LSN.
inline constexpr lsn ingested_lsn{1};

/// One table of the store.
struct table_entry {
    table_id id{};
    std::uint64_t salt = 0;
    std::uint64_t size = 0;
    lsn_range lsns{}; ///< of its records; LSNs between the two ends may be absent
    std::uint64_t records = 0;
    std::uint8_t level = 1;       ///< 0: ingested and not merged yet, or a placeholder
    std::uint8_t compression = 0; ///< id of the policy that packed its blocks; 0: no block is packed
    std::string smallest{};       ///< no key is smaller
    std::string largest{};        ///< no key is larger, except as `ends_open` says
    bool ends_open = false;       ///< keys that begin with `largest` may be larger
    bool operator==(table_entry const&) const = default;

    /// Whether the table only stands for versions that could not be read, of a table or a segment that was merged. Its one block does not
    /// verify (table/placeholder.hpp). None of these versions is newer than lsns.last.
    [[nodiscard]] bool is_placeholder() const noexcept { return level == 0 && records == 0; }

    /// Whether the table may hold this key.
    [[nodiscard]] bool may_have(std::string_view key) const noexcept { return key >= smallest && !ends_before(key); }
    /// Whether all keys of the table are smaller than `key`.
    [[nodiscard]] bool ends_before(std::string_view key) const noexcept {
        return key > largest && !(ends_open && key.starts_with(largest));
    }
    /// Whether `h` is the header of this table. An ingested table was written before its LSN was known, so its header has ingested_lsn.
    /// The header of a placeholder also has the oldest LSN of the versions it stands for, so only its last LSN must agree.
    [[nodiscard]] bool is_of(table_header const& h) const noexcept {
        bool const was_ingested = lsns.size() == 1 && h.lsns == lsn_range{ingested_lsn, ingested_lsn};
        bool const ends_alike = is_placeholder() && h.lsns.last == lsns.last;
        return h.id == id && h.salt == salt && h.size == size && (h.lsns == lsns || was_ingested || ends_alike);
    }
    /// Sets the range of its keys. A bound that is too long for the manifest is cut. `ends_open` then covers the cut end of `last`.
    void set_bounds(std::string_view first, std::string_view last) {
        smallest = first.substr(0, table_bound_bytes_max);
        largest = last.substr(0, table_bound_bytes_max);
        ends_open = last.size() > largest.size();
    }
};

/// A file that a repair took out of service and keeps as evidence.
struct removed_segment {
    segment_id id{};
    std::uint64_t repair = 0;
    bool operator==(removed_segment const&) const = default;
};

/// The state after all edits (format/manifest_editor.hpp applies them).
struct manifest_state {
    std::uint64_t edit = 0; ///< number of the last edit applied
    std::uint64_t next_segment = 1;
    std::uint64_t next_repair = 1;
    lsn log_start_lsn{};     ///< records at or below it are in tables, or retention gave them up
    segment_link log_base{}; ///< the segment before the oldest one kept
    std::map<segment_id, segment_entry> segments{};
    std::vector<lsn_range> losses{};
    std::vector<removed_segment> removed{};
    std::uint64_t next_table = 1;
    std::map<table_id, table_entry> tables{};
    bool operator==(manifest_state const&) const = default;
};

/// Collects the operations of one edit. An edit is applied as a whole or not at all.
class edit_builder {
public:
    edit_builder& next_ids(std::uint64_t segment, std::uint64_t repair) {
        return op(manifest_op::next_ids, segment, repair);
    }
    edit_builder& prepared(segment_id id, std::uint64_t salt, std::uint64_t size, segment_id place) {
        return op(manifest_op::prepared, id.value, salt, size, place.value);
    }
    edit_builder& sealed(segment_seal const& seal) {
        std::array<std::byte, seal_bytes> bytes{};
        field_writer out{bytes};
        put_seal(out, seal);
        return raw(manifest_op::sealed, bytes);
    }
    edit_builder& retired(segment_id id) { return op(manifest_op::retired, id.value); }
    edit_builder& reclaim_lsns(lsn from) { return op(manifest_op::reclaim_lsns, from.value); }
    edit_builder& loss(lsn_range r) { return op(manifest_op::loss, r.first.value, r.last.value); }
    edit_builder& removed(segment_id id, std::uint64_t repair) { return op(manifest_op::removed, id.value, repair); }
    edit_builder& log_base(segment_link const& b) {
        return op(manifest_op::log_base, b.id.value, b.salt, b.last.value, b.chain);
    }
    edit_builder& log_start_lsn(lsn at) { return op(manifest_op::log_start_lsn, at.value); }

    edit_builder& table(table_entry const& t) {
        std::array<std::byte, 52 + 2 * table_bound_bytes_max> bytes{};
        field_writer out{bytes};
        out.put(t.id.value).put(t.salt).put(t.size).put(t.lsns.first).put(t.lsns.last).put(t.records).put(t.level);
        out.put(static_cast<std::uint8_t>(t.smallest.size()));
        out.put(static_cast<std::uint8_t>(t.largest.size() | (t.ends_open ? 0x80U : 0U))).put(t.compression);
        out.put(as_bytes(t.smallest)).put(as_bytes(t.largest));
        return raw(manifest_op::table, byte_view{bytes}.first(out.written()));
    }
    edit_builder& remove_table(table_id id) { return op(manifest_op::remove_table, id.value); }
    edit_builder& next_table_id(std::uint64_t next) { return op(manifest_op::next_table_id, next); }

    [[nodiscard]] byte_view payload() const noexcept { return bytes_; }
    [[nodiscard]] bool empty() const noexcept { return bytes_.empty(); }

private:
    template <class... Fields>
    edit_builder& op(manifest_op what, Fields... fields) {
        std::array<std::byte, sizeof...(fields) * 8> bytes{};
        field_writer out{bytes};
        (out.put(std::uint64_t{fields}), ...);
        return raw(what, bytes);
    }
    edit_builder& raw(manifest_op what, byte_view fields) {
        bytes_.push_back(static_cast<std::byte>(what));
        bytes_.push_back(static_cast<std::byte>(fields.size()));
        bytes_.insert(bytes_.end(), fields.begin(), fields.end());
        return *this;
    }
    std::vector<std::byte> bytes_;
};

/// The operations that build this state from nothing.
[[nodiscard]] inline edit_builder snapshot_of(manifest_state const& state) {
    edit_builder all;
    for (auto const& [id, e] : state.segments) {
        all.prepared(e.id, e.salt, e.size, e.place);
        if (e.seal) all.sealed(*e.seal);
    }
    for (auto const& r : state.losses) all.loss(r);
    for (auto const& r : state.removed) all.removed(r.id, r.repair);
    all.log_base(state.log_base).log_start_lsn(state.log_start_lsn).next_ids(state.next_segment, state.next_repair);
    for (auto const& [id, t] : state.tables) all.table(t);
    if (state.next_table != 1) all.next_table_id(state.next_table);
    return all;
}

} // namespace keel::inline v0::format

#endif
