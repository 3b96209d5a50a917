// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_POLYNOMIAL_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_POLYNOMIAL_HPP

// The arithmetic of the fast implementations of CRC-32C. A CRC state is a polynomial over GF(2) modulo P, least significant bit first:
// bit 31 of the word is the coefficient of x^0, bit 0 that of x^31. To append n zero bytes is to multiply by x^(8n). The compiler
// computes all factors from P, so there are no other constants to verify.

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

/// The factor that appends `Bytes` zero bytes to a state: take the carry-less product of the two, then the CRC of the 64-bit product from
/// a state of 0. The exponent has -33 because the product is one power too low, and the CRC of a word multiplies by x^32.
template <std::size_t Bytes>
inline constexpr std::uint64_t crc32c_append_factor = crc32c_power(8 * Bytes - 33);

/// The factor that moves a 64-bit half of a 128-bit vector up by `Bits` powers. The low half of the vector has its high powers.
template <std::size_t Bits>
inline constexpr std::uint64_t crc32c_fold_factor = std::uint64_t{crc32c_power(Bits - 1)} << 32;

} // namespace keel::inline v0::checksum::detail

#endif
