// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_LANES_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_LANES_HPP

// CRC-32C by instructions of the CPU: one lane for short runs, three lanes for longer ones, 512-bit vectors if the CPU has them. If keel
// knows no instruction for the machine, this header is empty, and KEEL_DETAIL_CRC32C_STEP is not defined.

#include <keel/policy/checksum/detail/crc32c_arm.hpp>
#include <keel/policy/checksum/detail/crc32c_polynomial.hpp>
#include <keel/policy/checksum/detail/crc32c_x86.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(KEEL_DETAIL_CRC32C_STEP)

namespace keel::inline v0::checksum::detail {

template <class Word>
[[nodiscard]] inline Word crc32c_load(std::byte const* at) noexcept {
    Word word;
    std::memcpy(&word, at, sizeof word);
    return word;
}

/// Sums one word after the other.
[[nodiscard]] inline std::uint32_t crc32c_one_lane(std::uint32_t sum, std::byte const* data,
                                                   std::size_t size) noexcept {
    for (; size >= 8; data += 8, size -= 8) sum = crc32c_step(sum, crc32c_load<std::uint64_t>(data));
    if ((size & 4) != 0) {
        sum = crc32c_step(sum, crc32c_load<std::uint32_t>(data));
        data += 4;
    }
    if ((size & 2) != 0) {
        sum = crc32c_step(sum, crc32c_load<std::uint16_t>(data));
        data += 2;
    }
    return (size & 1) != 0 ? crc32c_step(sum, crc32c_load<std::uint8_t>(data)) : sum;
}

/// Sums three neighbouring lanes at the same time, because the instruction takes three cycles but a new one can start in each cycle. To
/// join the lanes, the sums of the first two are advanced past the bytes that follow them and mixed into the last word.
template <std::size_t Lane>
[[nodiscard]] inline std::uint32_t crc32c_three_lanes(std::uint32_t first, std::byte const* data) noexcept {
    auto const word = [data](std::size_t at) { return crc32c_load<std::uint64_t>(data + at); };
    std::uint32_t second = 0;
    std::uint32_t third = 0;
    std::size_t at = 0;
    for (; at < Lane - 8; at += 8) {
        first = crc32c_step(first, word(at));
        second = crc32c_step(second, word(Lane + at));
        third = crc32c_step(third, word(2 * Lane + at));
    }
    auto const moved = crc32c_times(crc32c_step(first, word(at)), crc32c_append_factor<2 * Lane>) ^
                       crc32c_times(crc32c_step(second, word(Lane + at)), crc32c_append_factor<Lane>);
    return crc32c_step(third, word(2 * Lane + at) ^ moved);
}

/// Lanes of 256 bytes are long enough to hide the cost of joining. Longer lanes make the hardware prefetcher less effective.
[[nodiscard]] inline std::uint32_t crc32c_three_way(std::uint32_t sum, std::byte const* data,
                                                    std::size_t size) noexcept {
    for (; size >= 768; data += 768, size -= 768) sum = crc32c_three_lanes<256>(sum, data);
    for (; size >= 192; data += 192, size -= 192) sum = crc32c_three_lanes<64>(sum, data);
    return crc32c_one_lane(sum, data, size);
}

#if defined(KEEL_DETAIL_CRC32C_WIDE)
/// Folds the bytes into 64 on 512-bit vectors, then sums these 64 and the rest word by word. Precondition: 256 bytes or more.
[[nodiscard]] inline std::uint32_t crc32c_wide(std::uint32_t state, std::byte const* data, std::size_t size) noexcept {
    std::byte folded[64];
    crc32c_fold_all(state, data, size, folded);
    return crc32c_one_lane(crc32c_one_lane(0, folded, sizeof folded), data, size);
}
#endif

} // namespace keel::inline v0::checksum::detail

#endif
#endif
