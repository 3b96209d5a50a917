// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_SEEN_FILE_HPP
#define KEEL_RECOVERY_SEEN_FILE_HPP

// One file of the log folder: its headers and its footer. If both headers are gone, the marks in it.

#include <keel/format/frame.hpp>
#include <keel/format/mark.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery::detail {

struct seen_file {
    std::string path{};
    std::string name{};
    std::uint64_t bytes = 0;
    std::array<format::header_read, 2> copies{};
    format::footer_read footer{};
    std::vector<format::mark> marks{}; ///< if the headers are gone: the first mark of each life
    /// The better of the two headers. Null if neither verifies.
    [[nodiscard]] format::segment_header const* best() const noexcept {
        // After a crash during activation both copies may verify and differ. The copy that says "in use" is newer.
        if (copies[0].good() && (!copies[1].good() || copies[0].header.state >= copies[1].header.state))
            return &copies[0].header;
        return copies[1].good() ? &copies[1].header : nullptr;
    }
    /// A mark of this life of the segment. Null if there is none.
    [[nodiscard]] format::mark const* mark_of(segment_id id, std::uint64_t salt) const noexcept {
        for (auto const& m : marks)
            if (m.segment == id && m.salt == salt) return &m;
        return nullptr;
    }
};

/// The first mark of each life in a file whose headers are gone. A mark holds the facts that a scan needs from a header. One
/// pass, however many lives there are.
template <checksum_policy C, class File>
[[nodiscard]] std::vector<format::mark> find_marks(File const& file, std::uint64_t file_bytes,
                                                   std::stop_token const& cancel) {
    constexpr auto length = static_cast<std::size_t>(format::frame_bytes(format::mark_bytes));
    constexpr std::size_t lives_max = 64; // a file may have been recycled often; the oldest lives are overwritten
    constexpr std::uint64_t cancel_step = 1 * MiB;
    std::vector<format::mark> out;
    wal::window<File> in{file, file_bytes};
    for (std::uint64_t at = 512; at + length <= file_bytes; at += format::frame_alignment) {
        if (at % cancel_step == 0 && cancel.stop_requested()) break;
        auto const bytes = in.at(at, length);
        if (format::read_frame_header(bytes.data()).type != format::frame_type::mark) continue;
        auto const m = format::decode_mark(bytes.subspan(format::frame_header_bytes, format::mark_bytes));
        if (!m || format::read_frame<C>(bytes, {m->salt, at}).state != format::frame_state::intact) continue;
        bool known = false;
        for (auto const& seen : out) known = known || seen.salt == m->salt;
        if (!known) out.push_back(*m);
        if (out.size() == lives_max) break;
    }
    return out;
}

} // namespace keel::inline v0::recovery::detail

#endif
