// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_PORTABLE_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_PORTABLE_HPP

// CRC-32C on any machine, by Boost.CRC. The other implementations are tested against it.

#include <boost/crc.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace keel::inline v0::checksum::detail {

/// The state after these bytes. Boost.CRC would mirror a given initial state bit by bit. Instead, the state is mixed into the first four
/// bytes and the sum starts from 0, which gives the same value at no cost.
[[nodiscard]] inline std::uint32_t crc32c_portable(std::uint32_t state, std::byte const* data,
                                                   std::size_t size) noexcept {
    boost::crc_optimal<32, 0x1EDC'6F41U, 0, 0, true, true> sum;
    std::array<std::byte, 4> head{};
    auto const mixed = std::min(size, head.size());
    for (std::size_t i = 0; i < mixed; ++i) {
        head[i] = data[i] ^ static_cast<std::byte>(state & 0xFFU);
        state >>= 8;
    }
    sum.process_bytes(head.data(), mixed);
    if (size > mixed) sum.process_bytes(data + mixed, size - mixed);
    return static_cast<std::uint32_t>(sum.checksum()) ^ state;
}

} // namespace keel::inline v0::checksum::detail

#endif
