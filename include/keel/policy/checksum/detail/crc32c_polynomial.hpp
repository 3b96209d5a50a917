// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_POLYNOMIAL_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_POLYNOMIAL_HPP

// The arithmetic behind the fast ways of CRC-32C. A CRC state is a polynomial over GF(2) modulo P, least significant
// bit first: bit 31 of the word stands for x^0, bit 0 for x^31. To append n zero bytes is to multiply by x^(8n). The
// factors are computed by the compiler from P alone, so there is no magic number here to mistrust.

#include <cstddef>
#include <cstdint>

namespace keel::inline v0::checksum::detail {

inline constexpr std::uint32_t crc32c_polynomial = 0x82F6'3B78U; // 0x1EDC6F41, mirrored

/// x^n modulo P.
[[nodiscard]] constexpr std::uint32_t crc32c_power(std::size_t n) noexcept {
    std::uint32_t power = 0x8000'0000U;
    for (; n != 0; --n) power = (power >> 1) ^ ((power & 1U) != 0 ? crc32c_polynomial : 0U);
    return power;
}

/// Multiplying a state by this without carries, and taking the CRC of the 64-bit product from a state of 0, appends
/// `Bytes` zero bytes. The product stands one power too low, and taking the CRC of a word multiplies by x^32: hence 33.
template <std::size_t Bytes>
inline constexpr std::uint64_t crc32c_append_factor = crc32c_power(8 * Bytes - 33);

/// The same for a 64-bit half of a 128-bit vector: moves it `Bits` powers up. The vector's low half holds its high
/// powers.
template <std::size_t Bits>
inline constexpr std::uint64_t crc32c_fold_factor = std::uint64_t{crc32c_power(Bits - 1)} << 32;

} // namespace keel::inline v0::checksum::detail

#endif
