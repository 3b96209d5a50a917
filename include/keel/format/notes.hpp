// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_NOTES_HPP
#define KEEL_FORMAT_NOTES_HPP

// The notes: a file of two 256-byte slots beside the log. The writer stores into the mapped file, into the slots in turn. It never syncs
// them.
//     0 magic u64 | 8 sequence u64 | 16 store_id 16 | 32 branch u64 | 40 boot_id 16 | 56 device u64 | 64 inode u64
//    72 segment u64 | 80 accepted u64 | 88 durable u64 | 96 end u64 | 104 newest_index u64 | 112 attempts u32, 4 zero
//   then zeros                                        | 248 check u64 over bytes 0..247
// The notes are a hint. Without them an opening is slower, and the window in which damage looks like a torn tail is wider. No result is
// wrong.
// `durable` is valid after any reboot, because a mark is written only after the syncs returned. `accepted` is valid only in the boot that
// wrote it and in the same file (device and inode). There it is proof: a process that dies tears nothing but the end of the log.

#include <keel/format/endian.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/checksum/concept.hpp>

#include <array>
#include <optional>

namespace keel::inline v0::format {

inline constexpr std::uint64_t notes_magic = 0x0A73746F'6C65656BULL; // "keelots\n"
inline constexpr std::size_t note_bytes = 256;
inline constexpr std::size_t notes_file_bytes = 4096;

struct note {
    std::uint64_t sequence = 0;
    store_id store{};
    std::uint64_t branch = 0;
    io::boot_id boot{};
    io::file_identity self{}; ///< device and inode of the notes file
    segment_id segment{};
    lsn accepted{};                 ///< this LSN and all before it are in the file, perhaps only in the page cache
    lsn durable{};                  ///< this LSN and all before it survive a power loss
    std::uint64_t end = 0;          ///< offset in `segment` behind the last accepted frame
    std::uint64_t newest_index = 0; ///< offset in `segment` of the newest index frame; 0: there is none
    std::uint32_t attempts = 0;     ///< recoveries begun since the last one that succeeded
    bool operator==(note const&) const = default;
};

using note_block = std::array<std::byte, note_bytes>;

template <checksum_policy C>
[[nodiscard]] note_block encode(note const& n) noexcept {
    note_block block{};
    field_writer out{block};
    out.put(notes_magic).put(n.sequence).put(byte_view{n.store}).put(n.branch).put(byte_view{n.boot.bytes});
    out.put(n.self.device).put(n.self.inode).put(n.segment).put(n.accepted).put(n.durable);
    out.put(n.end).put(n.newest_index).put(n.attempts);
    store(block.data() + note_bytes - 8, checksum::over<C>(byte_view{block}.first(note_bytes - 8)));
    return block;
}

template <checksum_policy C>
[[nodiscard]] std::optional<note> decode_note(byte_view block) noexcept {
    if (block.size() != note_bytes) return std::nullopt;
    if (load<std::uint64_t>(block.data() + note_bytes - 8) != checksum::over<C>(block.first(note_bytes - 8)))
        return std::nullopt;
    field_reader in{block};
    if (in.get<std::uint64_t>() != notes_magic) return std::nullopt;
    note n;
    n.sequence = in.get<std::uint64_t>();
    n.store = in.bytes<16>();
    n.branch = in.get<std::uint64_t>();
    n.boot.bytes = in.bytes<16>();
    n.self.device = in.get<std::uint64_t>();
    n.self.inode = in.get<std::uint64_t>();
    n.segment = in.get_segment();
    n.accepted = in.get_lsn();
    n.durable = in.get_lsn();
    n.end = in.get<std::uint64_t>();
    n.newest_index = in.get<std::uint64_t>();
    n.attempts = in.get<std::uint32_t>();
    if (n.accepted > lsn_highest || n.durable > lsn_highest) return std::nullopt;
    return n;
}

/// The newer slot of those that verify. Nothing if neither verifies.
template <checksum_policy C>
[[nodiscard]] std::optional<note> newest_note(byte_view file) noexcept {
    std::optional<note> best;
    for (std::size_t at = 0; at + note_bytes <= file.size() && at < 2 * note_bytes; at += note_bytes)
        if (auto n = decode_note<C>(file.subspan(at, note_bytes)); n && (!best || n->sequence > best->sequence))
            best = n;
    return best;
}

} // namespace keel::inline v0::format

#endif
