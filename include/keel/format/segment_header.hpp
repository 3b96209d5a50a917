// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_SEGMENT_HEADER_HPP
#define KEEL_FORMAT_SEGMENT_HEADER_HPP

// Segment header and footer, 512 bytes each, little-endian.
// A segment of S bytes: header at 0 | frames from the next block on | ... | footer at S-1024, once sealed | header again at S-512.
// A block is 4 KiB, 512 bytes in segments under 64 KiB.
//
// Header: written when the segment is prepared, completed when it becomes active, synced with its first group.
//     0 magic u64 | 8 format u32 | 12 checksum_id u32 | 16 store_id 16 | 32 id u64 | 40 salt u64 | 48 branch u64
//    56 created u64 (ns since 1970) | 64 size u64 | 72 first_lsn u64 | 80 durable_mark u64 | 88 durable_edit u64
//    96 void_from u64 (0: none) | 104 place u64 | 112 state u8, 7 zero
//   120 previous: id u64 | 128 salt u64 | 136 last_lsn u64 | 144 end u64 | 152 aggregate u64 | 160 chain u64 | 168 ended u8
//   then zeros                                       | 504 check u64 over bytes 0..503
//   void_from: this LSN and all above are void in every segment before this one
//   place: place in the log: its own id, or the id of the segment that it replaces after a repair
// Footer: 0 magic u64 | 8 id u64 | 16 salt u64 | 24 first_lsn u64 | 32 last_lsn u64 | 40 count u64 | 48 data_end u64
//    56 first_time u64 | 64 last_time u64 | 72 aggregate u64 | 80 chain u64 | 88 sections u32, 4 zero
//    96 16 x { type u32, offset u32, length u32, argument u32, check u64 }   | 504 check u64 over bytes 0..503
// The low word of the salt is the tag of the frames. It is a bijection of the id, so no two lives of segments in a store share a tag.

#include <keel/format/endian.hpp>
#include <keel/policy/checksum/concept.hpp>
#include <keel/types.hpp>

#include <array>
#include <cstdint>
#include <optional>

namespace keel::inline v0::format {

/// The number of the on-disk format. It is independent of the library's version. An older format stays readable.
inline constexpr std::uint32_t format_number = 1;

inline constexpr std::size_t header_bytes = 512;
inline constexpr std::uint64_t segment_magic = 0x0A676573'6C65656BULL;  // "keelseg\n"
inline constexpr std::uint64_t footer_magic = 0x0A646E65'6C65656BULL;   // "keelend\n"
inline constexpr std::uint64_t manifest_magic = 0x0A6E616D'6C65656BULL; // "keelman\n"

inline constexpr std::uint64_t segment_bytes_min = 4 * KiB;
inline constexpr std::uint64_t segment_bytes_max = 2 * GiB;

using store_id = std::array<std::byte, 16>;

/// Size of a block in a segment of this size.
[[nodiscard]] constexpr std::uint64_t block_bytes(std::uint64_t segment_bytes) noexcept {
    return segment_bytes < 64 * KiB ? 512 : 4 * KiB;
}
/// Offset of the first frame.
[[nodiscard]] constexpr std::uint64_t frames_begin(std::uint64_t segment_bytes) noexcept {
    return block_bytes(segment_bytes);
}
/// Frames end here at the latest, so that the footer and the second header fit behind them.
[[nodiscard]] constexpr std::uint64_t frames_limit(std::uint64_t segment_bytes) noexcept {
    return segment_bytes - 2 * header_bytes;
}
[[nodiscard]] constexpr std::uint64_t footer_offset(std::uint64_t segment_bytes) noexcept {
    return segment_bytes - 2 * header_bytes;
}
[[nodiscard]] constexpr std::uint64_t second_header_offset(std::uint64_t segment_bytes) noexcept {
    return segment_bytes - header_bytes;
}
[[nodiscard]] constexpr bool valid_segment_size(std::uint64_t bytes) noexcept {
    return bytes >= segment_bytes_min && bytes <= segment_bytes_max && bytes % 4096 == 0;
}

/// The salt of a segment's life: `random` in the high word, a bijection of the id in the low word. Ids whose low 32 bits are zero are not
/// used, because their tag would be 0.
[[nodiscard]] constexpr std::uint64_t salt_of(segment_id id, std::uint32_t random) noexcept {
    auto low = static_cast<std::uint32_t>(id.value);
    low *= 0x9E3779B1U; // odd: a bijection that keeps 0 at 0
    low ^= low >> 15;
    low *= 0x85EBCA77U;
    return std::uint64_t{random} << 32 | low;
}

/// The state in a header. The header of an active segment stays `active` after the seal. `rebuilt`: a repair built the segment. The
/// numbers are stored on disk and are never reused.
enum class segment_state : std::uint8_t { prepared = 1, active = 2, rebuilt = 3 };

/// Why a segment takes no more records.
enum class segment_end : std::uint8_t { none = 0, rolled = 1, abandoned = 2, crashed = 3, repaired = 4, restored = 5 };

/// The facts in a header about the segment before it. They show that a segment is missing, was swapped or exists twice.
struct segment_link {
    segment_id id{};
    std::uint64_t salt = 0;
    lsn last{};
    std::uint64_t end = 0; ///< offset behind its last frame
    std::uint64_t aggregate = 0;
    std::uint64_t chain = 0;
    segment_end ended = segment_end::none;
    bool operator==(segment_link const&) const = default;
};

struct segment_header {
    std::uint32_t format = format_number;
    checksum_id checksum{};
    store_id store{};
    segment_id id{};
    std::uint64_t salt = 0;
    std::uint64_t branch = 0;
    std::uint64_t created_ns = 0;
    std::uint64_t size = 0;
    lsn first{};
    lsn durable_mark{}; ///< below `first`, unless records that are durable in another segment are copied into this one
    std::uint64_t durable_edit = 0; ///< this manifest edit was known durable when the header was written
    lsn void_from{};                ///< this LSN and all above are void in every segment before this one; 0: none
    segment_id place{};             ///< its own id, or the id of the segment that it replaces after a repair
    segment_state state = segment_state::prepared;
    segment_link previous{};
    bool operator==(segment_header const&) const = default;
};

using header_block = std::array<std::byte, header_bytes>;

namespace detail {
template <checksum_policy C>
void seal_block(header_block& block) noexcept {
    store(block.data() + header_bytes - 8, checksum::over<C>(byte_view{block}.first(header_bytes - 8)));
}
template <checksum_policy C>
[[nodiscard]] bool block_verifies(byte_view block) noexcept {
    return block.size() == header_bytes &&
           load<std::uint64_t>(block.data() + header_bytes - 8) == checksum::over<C>(block.first(header_bytes - 8));
}
} // namespace detail

template <checksum_policy C>
[[nodiscard]] header_block encode(segment_header const& h) noexcept {
    header_block block{};
    field_writer out{block};
    out.put(segment_magic).put(h.format).put(checksum_id{C::id}.value).put(byte_view{h.store});
    out.put(h.id).put(h.salt).put(h.branch).put(h.created_ns).put(h.size);
    out.put(h.first).put(h.durable_mark).put(h.durable_edit).put(h.void_from).put(h.place);
    out.put(std::uint64_t{static_cast<std::uint8_t>(h.state)});
    out.put(h.previous.id).put(h.previous.salt).put(h.previous.last).put(h.previous.end);
    out.put(h.previous.aggregate).put(h.previous.chain).put(static_cast<std::uint8_t>(h.previous.ended));
    detail::seal_block<C>(block);
    return block;
}

/// The first 16 bytes of a keel file. They can be read before the checksum policy of the file is known.
struct file_kind_seen {
    std::uint64_t magic = 0;
    std::uint32_t format = 0;
    checksum_id checksum{};
};
[[nodiscard]] inline file_kind_seen peek_file_kind(byte_view block) noexcept {
    field_reader in{block};
    file_kind_seen seen;
    seen.magic = in.get<std::uint64_t>();
    seen.format = in.get<std::uint32_t>();
    seen.checksum = {in.get<std::uint32_t>()};
    return seen;
}

enum class header_problem : std::uint8_t { none, not_ours, other_format, other_checksum, damaged };

struct header_read {
    header_problem problem = header_problem::damaged;
    bool verifies = false;    ///< the check holds: `problem` is about the bytes that were written, not about damage
    std::uint32_t format = 0; ///< the number in the block, whether or not the check holds
    segment_header header{};
    [[nodiscard]] bool good() const noexcept { return problem == header_problem::none; }
};

/// Gives `header` only if the check holds. `problem` tells a foreign block from a damaged one.
template <checksum_policy C>
[[nodiscard]] header_read decode_segment_header(byte_view block) noexcept {
    header_read out;
    auto const kind = peek_file_kind(block);
    out.format = kind.format;
    if (!detail::block_verifies<C>(block)) {
        if (kind.magic != segment_magic) out.problem = header_problem::not_ours;
        else if (kind.format > format_number) out.problem = header_problem::other_format;
        else if (kind.checksum != checksum_id{C::id}) out.problem = header_problem::other_checksum;
        return out;
    }
    out.verifies = true;
    if (kind.magic != segment_magic) return out.problem = header_problem::not_ours, out;
    if (kind.format != format_number) return out.problem = header_problem::other_format, out;
    if (kind.checksum != checksum_id{C::id}) return out.problem = header_problem::other_checksum, out;
    field_reader in{block.subspan(16)};
    auto& h = out.header;
    h.format = kind.format;
    h.checksum = kind.checksum;
    h.store = in.bytes<16>();
    h.id = in.get_segment();
    h.salt = in.get<std::uint64_t>();
    h.branch = in.get<std::uint64_t>();
    h.created_ns = in.get<std::uint64_t>();
    h.size = in.get<std::uint64_t>();
    h.first = in.get_lsn();
    h.durable_mark = in.get_lsn();
    h.durable_edit = in.get<std::uint64_t>();
    h.void_from = in.get_lsn();
    h.place = in.get_segment();
    h.state = static_cast<segment_state>(in.get<std::uint64_t>());
    h.previous.id = in.get_segment();
    h.previous.salt = in.get<std::uint64_t>();
    h.previous.last = in.get_lsn();
    h.previous.end = in.get<std::uint64_t>();
    h.previous.aggregate = in.get<std::uint64_t>();
    h.previous.chain = in.get<std::uint64_t>();
    h.previous.ended = static_cast<segment_end>(in.get<std::uint8_t>());
    bool const sane = h.id && h.place && h.place <= h.id && h.durable_edit <= lsn_highest.value &&
                      valid_segment_size(h.size) && static_cast<std::uint32_t>(h.salt) != 0 &&
                      h.state >= segment_state::prepared && h.state <= segment_state::rebuilt &&
                      h.previous.ended <= segment_end::restored && h.first <= lsn_highest &&
                      h.void_from <= lsn_highest &&
                      (h.state == segment_state::prepared ||
                       (h.first && (h.durable_mark < h.first || h.previous.ended == segment_end::abandoned) &&
                        (!h.void_from || h.void_from >= h.first)));
    out.problem = sane ? header_problem::none : header_problem::damaged;
    return out;
}

/// One section behind the frames of a sealed segment.
struct segment_section {
    std::uint32_t type = 0;
    std::uint32_t offset = 0;
    std::uint32_t length = 0;
    std::uint64_t check = 0;    ///< the policy over the checks of its blocks, in order
    std::uint32_t argument = 0; ///< the meaning depends on the type (format/index.hpp)
    bool operator==(segment_section const&) const = default;
};
inline constexpr std::size_t sections_max = 16;

/// The facts of a sealed segment. Its footer and the manifest's seal edit hold all of them. The next header holds a part of them.
struct segment_seal {
    segment_id id{};
    std::uint64_t salt = 0;
    lsn_range range{};
    std::uint64_t count = 0;         ///< data records
    std::uint64_t data_end = 0;      ///< offset behind the last frame
    std::uint64_t first_time_ns = 0; ///< clock of the first mark
    std::uint64_t last_time_ns = 0;  ///< clock of the last mark
    std::uint64_t aggregate = 0;
    std::uint64_t chain = 0;
    bool operator==(segment_seal const&) const = default;
};
inline constexpr std::size_t seal_bytes = 80;

inline void put_seal(field_writer& out, segment_seal const& s) noexcept {
    out.put(s.id).put(s.salt).put(s.range.first).put(s.range.last).put(s.count).put(s.data_end);
    out.put(s.first_time_ns).put(s.last_time_ns).put(s.aggregate).put(s.chain);
}
[[nodiscard]] inline segment_seal get_seal(field_reader& in) noexcept {
    segment_seal s;
    s.id = in.get_segment();
    s.salt = in.get<std::uint64_t>();
    s.range.first = in.get_lsn();
    s.range.last = in.get_lsn();
    s.count = in.get<std::uint64_t>();
    s.data_end = in.get<std::uint64_t>();
    s.first_time_ns = in.get<std::uint64_t>();
    s.last_time_ns = in.get<std::uint64_t>();
    s.aggregate = in.get<std::uint64_t>();
    s.chain = in.get<std::uint64_t>();
    return s;
}

/// The facts about a sealed segment that the next header holds.
[[nodiscard]] constexpr segment_link link_of(segment_seal const& s, segment_end how) noexcept {
    return {.id = s.id,
            .salt = s.salt,
            .last = s.range.last,
            .end = s.data_end,
            .aggregate = s.aggregate,
            .chain = s.chain,
            .ended = how};
}

struct segment_footer {
    segment_seal seal{};
    std::uint32_t section_count = 0;
    std::array<segment_section, sections_max> sections{};

    /// The section of this type. Nothing if there is none.
    [[nodiscard]] std::optional<segment_section> section(std::uint32_t type) const noexcept {
        for (std::size_t i = 0; i < section_count; ++i)
            if (sections[i].type == type) return sections[i];
        return std::nullopt;
    }
};
static_assert(8 + seal_bytes + 8 + sections_max * 24 + 8 <= header_bytes);

template <checksum_policy C>
[[nodiscard]] header_block encode(segment_footer const& f) noexcept {
    header_block block{};
    field_writer out{block};
    out.put(footer_magic);
    put_seal(out, f.seal);
    out.put(std::uint64_t{f.section_count});
    for (std::size_t i = 0; i < f.section_count; ++i) {
        auto const& s = f.sections[i];
        out.put(s.type).put(s.offset).put(s.length).put(s.argument).put(s.check);
    }
    detail::seal_block<C>(block);
    return block;
}

struct footer_read {
    bool good = false;
    segment_footer footer{};
};
template <checksum_policy C>
[[nodiscard]] footer_read decode_segment_footer(byte_view block) noexcept {
    footer_read out;
    field_reader in{block};
    if (!detail::block_verifies<C>(block) || in.get<std::uint64_t>() != footer_magic) return out;
    out.footer.seal = get_seal(in);
    auto const count = in.get<std::uint64_t>();
    if (count > sections_max) return out;
    out.footer.section_count = static_cast<std::uint32_t>(count);
    for (std::size_t i = 0; i < count; ++i) {
        auto& s = out.footer.sections[i];
        s.type = in.get<std::uint32_t>();
        s.offset = in.get<std::uint32_t>();
        s.length = in.get<std::uint32_t>();
        s.argument = in.get<std::uint32_t>();
        s.check = in.get<std::uint64_t>();
    }
    out.good = in.ok();
    return out;
}

/// The chain value of a segment: the policy over the chain value before it and all fields that identify the segment.
template <checksum_policy C>
[[nodiscard]] std::uint64_t chain_value(std::uint64_t before, segment_seal const& s) noexcept {
    std::array<std::byte, 56> bytes{};
    field_writer out{bytes};
    out.put(before).put(s.id).put(s.salt).put(s.range.first).put(s.range.last).put(s.count).put(s.aggregate);
    return checksum::over<C>(bytes);
}

/// Builds the aggregate of a segment. The caller adds the checks of its frames in file order. The aggregate is the policy over the chunk
/// aggregates. A chunk aggregate is the policy over the checks of all frames that start in one 256 KiB window of the file.
template <checksum_policy C>
class aggregate_builder {
public:
    void add(std::uint64_t offset, std::uint64_t check) noexcept {
        auto const window = offset / chunk_bytes;
        if (window != window_) close_chunk(window);
        std::array<std::byte, 8> bytes;
        store(bytes.data(), check);
        chunk_.update(bytes);
        open_ = true;
    }
    [[nodiscard]] std::uint64_t value() const noexcept {
        C all = whole_;
        if (open_) fold(all, chunk_);
        return all.value();
    }
    static constexpr std::uint64_t chunk_bytes = 256 * KiB;

private:
    static void fold(C& all, C const& chunk) noexcept {
        std::array<std::byte, 8> bytes;
        store(bytes.data(), chunk.value());
        all.update(bytes);
    }
    void close_chunk(std::uint64_t window) noexcept {
        if (open_) fold(whole_, chunk_);
        chunk_ = C{};
        open_ = false;
        window_ = window;
    }
    C whole_{};
    C chunk_{};
    std::uint64_t window_ = 0;
    bool open_ = false;
};

} // namespace keel::inline v0::format

#endif
