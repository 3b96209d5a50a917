// SPDX-License-Identifier: BSL-1.0
// 17 bytes of where (salt, offset, flags), then the frame. Nothing is read outside of it, and what is called intact is exactly
// what finish_frame would write for the header and payload it shows.
#include <keel/format/frame.hpp>
#include <keel/format/mark.hpp>
#include <keel/policy/checksum/crc32c.hpp>

#include "support/fix_checks.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

namespace {

using namespace keel;
using namespace keel::format;
using C = checksum::crc32c;

void require(bool holds) {
    if (!holds) std::abort();
}

void check_written_again(frame_view const& seen, byte_view bytes, frame_place place) {
    std::vector<std::byte> again(static_cast<std::size_t>(seen.bytes()));
    std::ranges::copy(seen.payload, again.begin() + frame_header_bytes);
    finish_frame<C>(again.data(), place, seen.header);
    // Padding may be anything that verifies; all else is determined.
    auto const size = frame_header_bytes + seen.payload.size();
    bool const padded = std::ranges::all_of(bytes.subspan(size, again.size() - size),
                                            [](auto b) { return b == std::byte{0}; });
    if (padded) require(std::ranges::equal(again, bytes.first(again.size())));
    require(seen.key().size() + seen.value().size() == seen.payload.size());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size < 17) return 0;
    auto const in = std::as_bytes(std::span{data, size});
    frame_place const place{load<std::uint64_t>(in.data()), load<std::uint64_t>(in.data() + 8) & ~std::uint64_t{7}};
    auto const flags = std::to_integer<unsigned>(in[16]);
    auto const length = size - 17;
    auto const bytes = std::make_unique<std::byte[]>(length); // exactly so long: one more is a finding
    std::copy_n(in.data() + 17, length, bytes.get());
    byte_span const frame{bytes.get(), length};
    if ((flags & 1) != 0 && length >= 4) store(frame.data(), place.tag());
    if ((flags & 2) != 0 && length >= frame_header_bytes) store(frame.data() + 4, frame_mix(place, frame.data() + 8));
    if ((flags & 4) != 0 && length >= frame_header_bytes) {
        auto const padded = rounded_up(load<std::uint32_t>(frame.data() + 8), frame_alignment);
        if (padded <= length - frame_header_bytes)
            store(frame.data() + 24, frame_check<C>(place, frame.data(), static_cast<std::size_t>(padded)));
    }
    auto const seen = read_frame<C>(frame, place);
    if (seen.state != frame_state::absent && seen.state != frame_state::broken) require(seen.bytes() <= length);
    if (seen.state == frame_state::intact) {
        check_written_again(seen, frame, place);
        static_cast<void>(decode_mark(seen.payload));
        if (auto const losses = decode_losses(seen.payload))
            require(encode_losses(*losses).size() == seen.payload.size());
    }
    return 0;
}
