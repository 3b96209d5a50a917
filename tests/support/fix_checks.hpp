// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_FIX_CHECKS_HPP
#define KEEL_TESTS_SUPPORT_FIX_CHECKS_HPP

// Makes damaged or made-up bytes verify again, so that fuzzers and tests of hostile input get past the checksums: what an attacker
// who can write to the disk does, and what chance does once in a great while.

#include <keel/format/frame.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/notes.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/format/table.hpp>

#include <algorithm>
#include <cstdint>
#include <span>

namespace keel::test {

/// Header or footer block of any kind.
template <checksum_policy C>
void fix_block(byte_span block) noexcept {
    auto const last = block.size() - 8;
    format::store(block.data() + last, checksum::over<C>(byte_view{block}.first(last)));
}

/// Every frame of this life that stands in a row from `begin` on, or behind a hole.
template <checksum_policy C>
void fix_frames(byte_span file, std::uint64_t salt, std::uint64_t begin, std::uint64_t limit) noexcept {
    limit = std::min<std::uint64_t>(limit, file.size());
    for (auto at = begin; at + format::frame_header_bytes <= limit;) {
        format::frame_place const place{salt, at};
        auto* const frame = file.data() + at;
        auto const bytes = format::frame_bytes(format::load<std::uint32_t>(frame + 8));
        if (format::load<std::uint32_t>(frame) != place.tag() || bytes > limit - at) {
            at += format::frame_alignment;
            continue;
        }
        format::store(frame + 4, format::frame_mix(place, frame + 8));
        auto const padded = static_cast<std::size_t>(bytes - format::frame_header_bytes);
        format::store(frame + 24, format::frame_check<C>(place, frame, padded));
        at += bytes;
    }
}

/// Both headers, the footer and all frames under the salt that the first header (or else the second) names.
template <checksum_policy C>
void fix_segment(byte_span file) noexcept {
    if (file.size() < 4 * format::header_bytes) return;
    auto const second = file.size() - format::header_bytes;
    auto const magic = [&](std::uint64_t at) { return format::load<std::uint64_t>(file.data() + at); };
    for (auto const at : {std::uint64_t{0}, second - format::header_bytes, second})
        if (magic(at) == format::segment_magic || magic(at) == format::footer_magic)
            fix_block<C>(file.subspan(static_cast<std::size_t>(at), format::header_bytes));
    auto const from = magic(0) == format::segment_magic ? 0 : second;
    auto const salt = format::load<std::uint64_t>(file.data() + from + 40);
    if (static_cast<std::uint32_t>(salt) == 0) return;
    fix_frames<C>(file, salt, format::frames_begin(file.size()), second - format::header_bytes);
}

template <checksum_policy C>
void fix_manifest(byte_span file) noexcept {
    if (file.size() < format::header_bytes) return;
    fix_block<C>(file.first(format::header_bytes));
    auto const salt = format::load<std::uint64_t>(file.data() + 32);
    if (static_cast<std::uint32_t>(salt) == 0) return;
    fix_frames<C>(file, salt, format::manifest_frames_begin, file.size());
}

/// Both headers and all frames of a table.
template <checksum_policy C>
void fix_table(byte_span file) noexcept {
    if (file.size() < 2 * format::header_bytes) return;
    auto const second = file.size() - format::header_bytes;
    fix_block<C>(file.first(format::header_bytes));
    fix_block<C>(file.subspan(second));
    auto const salt = format::load<std::uint64_t>(file.data() + 40);
    if (static_cast<std::uint32_t>(salt) != 0) fix_frames<C>(file, salt, format::table_frames_begin, second);
}

template <checksum_policy C>
void fix_notes(byte_span file) noexcept {
    for (std::size_t at = 0; at + format::note_bytes <= std::min(file.size(), 2 * format::note_bytes);
         at += format::note_bytes)
        fix_block<C>(file.subspan(at, format::note_bytes));
}

} // namespace keel::test

#endif
