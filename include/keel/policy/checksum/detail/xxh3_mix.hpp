// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_XXH3_MIX_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_XXH3_MIX_HPP

// XXH3, 64 bits, seed 0, default secret: the constants, and the inputs of up to 240 bytes. Written after the published
// specification. xxhash.h itself is not included, for three reasons: it renames its types by macros, which breaks a
// program that included it before keel; its inline functions differ with compiler flags; and it cannot choose its
// vectors at run time.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace keel::inline v0::checksum::detail {

inline constexpr std::uint64_t xxh3_prime32_1 = 0x9E37'79B1U;
inline constexpr std::uint64_t xxh3_prime32_2 = 0x85EB'CA77U;
inline constexpr std::uint64_t xxh3_prime32_3 = 0xC2B2'AE3DU;
inline constexpr std::uint64_t xxh3_prime64_1 = 0x9E37'79B1'85EB'CA87U;
inline constexpr std::uint64_t xxh3_prime64_2 = 0xC2B2'AE3D'27D4'EB4FU;
inline constexpr std::uint64_t xxh3_prime64_3 = 0x1656'67B1'9E37'79F9U;
inline constexpr std::uint64_t xxh3_prime64_4 = 0x85EB'CA77'C2B2'AE63U;
inline constexpr std::uint64_t xxh3_prime64_5 = 0x27D4'EB2F'1656'67C5U;
inline constexpr std::uint64_t xxh3_prime_mx1 = 0x1656'6791'9E37'79F9U;
inline constexpr std::uint64_t xxh3_prime_mx2 = 0x9FB2'1C65'1E98'DF25U;

inline constexpr std::size_t xxh3_secret_bytes = 192;
alignas(64) inline constexpr unsigned char xxh3_secret[xxh3_secret_bytes] = {
    // clang-format off
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
    // clang-format on
};

/// A little-endian number of the input or of the secret.
[[nodiscard]] inline std::uint64_t xxh3_word(void const* at) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    return word;
}

[[nodiscard]] inline std::uint64_t xxh3_half_word(void const* at) noexcept {
    std::uint32_t word = 0;
    std::memcpy(&word, at, sizeof word);
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap32(word);
    return word;
}

/// The 128-bit product, its halves mixed.
[[nodiscard]] inline std::uint64_t xxh3_multiply_fold(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__SIZEOF_INT128__)
    __extension__ using wide = unsigned __int128;
    auto const product = static_cast<wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#else
    constexpr std::uint64_t half = 0xFFFF'FFFFU;
    auto const low = (a & half) * (b & half);
    auto const cross = (a >> 32) * (b & half) + (low >> 32);
    auto const middle = (a & half) * (b >> 32) + (cross & half);
    auto const high = (a >> 32) * (b >> 32) + (cross >> 32) + (middle >> 32);
    return high ^ (middle << 32 | (low & half));
#endif
}

[[nodiscard]] inline std::uint64_t xxh3_avalanche(std::uint64_t sum) noexcept {
    sum = (sum ^ sum >> 37) * xxh3_prime_mx1;
    return sum ^ sum >> 32;
}

/// The older, stronger avalanche, for inputs of up to three bytes.
[[nodiscard]] inline std::uint64_t xxh3_avalanche_tiny(std::uint64_t sum) noexcept {
    sum = (sum ^ sum >> 33) * xxh3_prime64_2;
    sum = (sum ^ sum >> 29) * xxh3_prime64_3;
    return sum ^ sum >> 32;
}

[[nodiscard]] inline std::uint64_t xxh3_secret_pair(std::size_t at) noexcept {
    return xxh3_word(xxh3_secret + at) ^ xxh3_word(xxh3_secret + at + 8);
}

[[nodiscard]] inline std::uint64_t xxh3_of_0_to_3(std::byte const* data, std::size_t size) noexcept {
    if (size == 0) return xxh3_avalanche_tiny(xxh3_secret_pair(56));
    auto const byte = [&](std::size_t at) { return static_cast<std::uint64_t>(data[at]); };
    auto const joined = byte(0) << 16 | byte(size / 2) << 24 | byte(size - 1) | std::uint64_t{size} << 8;
    return xxh3_avalanche_tiny(joined ^ xxh3_half_word(xxh3_secret) ^ xxh3_half_word(xxh3_secret + 4));
}

[[nodiscard]] inline std::uint64_t xxh3_of_4_to_8(std::byte const* data, std::size_t size) noexcept {
    auto sum = (xxh3_half_word(data + size - 4) | xxh3_half_word(data) << 32) ^ xxh3_secret_pair(8);
    sum = (sum ^ std::rotl(sum, 49) ^ std::rotl(sum, 24)) * xxh3_prime_mx2;
    sum = (sum ^ ((sum >> 35) + size)) * xxh3_prime_mx2;
    return sum ^ sum >> 28;
}

[[nodiscard]] inline std::uint64_t xxh3_of_9_to_16(std::byte const* data, std::size_t size) noexcept {
    auto const low = xxh3_word(data) ^ xxh3_secret_pair(24);
    auto const high = xxh3_word(data + size - 8) ^ xxh3_secret_pair(40);
    return xxh3_avalanche(size + __builtin_bswap64(low) + high + xxh3_multiply_fold(low, high));
}

[[nodiscard]] inline std::uint64_t xxh3_mix_16(std::byte const* data, std::size_t secret_at) noexcept {
    return xxh3_multiply_fold(xxh3_word(data) ^ xxh3_word(xxh3_secret + secret_at),
                              xxh3_word(data + 8) ^ xxh3_word(xxh3_secret + secret_at + 8));
}

/// Pairs of 16 bytes from both ends towards the middle, where they may overlap.
[[nodiscard]] inline std::uint64_t xxh3_of_17_to_128(std::byte const* data, std::size_t size) noexcept {
    auto sum = size * xxh3_prime64_1;
    auto const add_pair = [&](std::size_t pair) {
        sum += xxh3_mix_16(data + 16 * pair, 32 * pair);
        sum += xxh3_mix_16(data + size - 16 * (pair + 1), 32 * pair + 16);
    };
    if (size > 96) add_pair(3);
    if (size > 64) add_pair(2);
    if (size > 32) add_pair(1);
    add_pair(0);
    return xxh3_avalanche(sum);
}

[[nodiscard]] inline std::uint64_t xxh3_of_129_to_240(std::byte const* data, std::size_t size) noexcept {
    auto sum = size * xxh3_prime64_1;
    for (std::size_t at = 0; at < 128; at += 16) sum += xxh3_mix_16(data + at, at);
    sum = xxh3_avalanche(sum);
    for (std::size_t at = 128; at + 16 <= size; at += 16) sum += xxh3_mix_16(data + at, at - 128 + 3);
    return xxh3_avalanche(sum + xxh3_mix_16(data + size - 16, 136 - 17));
}

inline constexpr std::size_t xxh3_short_bytes_max = 240;

[[nodiscard]] inline std::uint64_t xxh3_of_short(std::byte const* data, std::size_t size) noexcept {
    if (size > 128) return xxh3_of_129_to_240(data, size);
    if (size > 16) return xxh3_of_17_to_128(data, size);
    if (size > 8) return xxh3_of_9_to_16(data, size);
    if (size > 3) return xxh3_of_4_to_8(data, size);
    return xxh3_of_0_to_3(data, size);
}

} // namespace keel::inline v0::checksum::detail

#endif
