// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_X86_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_X86_HPP

// The instructions of x86-64 for CRC-32C: the CRC instruction (SSE4.2), the carry-less product (PCLMULQDQ), and that product on 512-bit
// vectors. Nothing here depends on compiler flags, so the code is the same in translation units built for different CPUs. Call nothing
// here before crc32c_best_path() allows it. The steps are assembly, because an intrinsic cannot be inlined into a function that was not
// built for its CPU, and for a record of some dozen bytes a call costs as much as the sum. On other machines this header is empty.

#if defined(__GNUC__) && defined(__x86_64__)
#define KEEL_DETAIL_CRC32C_STEP 1
#define KEEL_DETAIL_CRC32C_WIDE 1

#include <keel/policy/checksum/detail/crc32c_polynomial.hpp>

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace keel::inline v0::checksum::detail {

[[nodiscard]] inline std::uint32_t crc32c_step(std::uint32_t sum, std::uint64_t word) noexcept {
    // The instruction reads the low half of the sum's register and clears the other half.
    asm("crc32q %1, %q0" : "+r"(sum) : "r"(word));
    return sum;
}
[[nodiscard]] inline std::uint32_t crc32c_step(std::uint32_t sum, std::uint32_t word) noexcept {
    asm("crc32l %1, %0" : "+r"(sum) : "r"(word));
    return sum;
}
[[nodiscard]] inline std::uint32_t crc32c_step(std::uint32_t sum, std::uint16_t word) noexcept {
    asm("crc32w %1, %0" : "+r"(sum) : "r"(word));
    return sum;
}
[[nodiscard]] inline std::uint32_t crc32c_step(std::uint32_t sum, std::uint8_t word) noexcept {
    asm("crc32b %1, %0" : "+r"(sum) : "q"(word));
    return sum;
}

/// The carry-less product of a state and a factor.
[[nodiscard]] inline std::uint64_t crc32c_times(std::uint32_t sum, std::uint64_t factor) noexcept {
    auto product = _mm_cvtsi32_si128(static_cast<int>(sum));
    asm("pclmulqdq $0, %1, %0" : "+x"(product) : "x"(_mm_cvtsi64_si128(static_cast<long long>(factor))));
    return static_cast<std::uint64_t>(_mm_cvtsi128_si64(product));
}

[[nodiscard]] inline bool crc32c_cpu_has_step() noexcept {
    __builtin_cpu_init(); // needed by sums that run before main()
    return __builtin_cpu_supports("sse4.2");
}
[[nodiscard]] inline bool crc32c_cpu_has_times() noexcept { return __builtin_cpu_supports("pclmul"); }
[[nodiscard]] inline bool crc32c_cpu_has_wide() noexcept {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
}

/// Moves each 128-bit part of `sum` up by the powers in `factors`, and adds `next`.
[[gnu::target("avx512f,vpclmulqdq"), gnu::always_inline, nodiscard]] inline __m512i crc32c_fold(__m512i sum,
                                                                                                __m512i factors,
                                                                                                __m512i next) noexcept {
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(sum, factors, 0x00),
                                     _mm512_clmulepi64_epi128(sum, factors, 0x11), next, 0x96);
}

/// The factors that move a 128-bit part up by `Bytes` bytes.
template <std::size_t Bytes>
[[gnu::target("avx512f,vpclmulqdq"), gnu::always_inline, nodiscard]] inline __m512i crc32c_fold_factors() noexcept {
    constexpr auto low = static_cast<long long>(crc32c_fold_factor<8 * Bytes + 64>);
    constexpr auto high = static_cast<long long>(crc32c_fold_factor<8 * Bytes>);
    return _mm512_set_epi64(high, low, high, low, high, low, high, low);
}

/// Folds 256 bytes a round into the next 256 bytes, then all into 64 bytes. These have the same CRC, from a state of 0, as all bytes
/// before them. Precondition: 256 bytes or more. Leaves fewer than 64 bytes.
[[gnu::target("avx512f,vpclmulqdq")]] inline void crc32c_fold_all(std::uint32_t state, std::byte const*& data,
                                                                  std::size_t& size, std::byte (&folded)[64]) noexcept {
    auto a = _mm512_xor_si512(_mm512_loadu_si512(data),
                              _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
    auto b = _mm512_loadu_si512(data + 64);
    auto c = _mm512_loadu_si512(data + 128);
    auto d = _mm512_loadu_si512(data + 192);
    auto const round = crc32c_fold_factors<256>();
    auto const next = crc32c_fold_factors<64>();
    for (data += 256, size -= 256; size >= 256; data += 256, size -= 256) {
        a = crc32c_fold(a, round, _mm512_loadu_si512(data));
        b = crc32c_fold(b, round, _mm512_loadu_si512(data + 64));
        c = crc32c_fold(c, round, _mm512_loadu_si512(data + 128));
        d = crc32c_fold(d, round, _mm512_loadu_si512(data + 192));
    }
    auto sum = crc32c_fold(crc32c_fold(a, next, b), crc32c_fold_factors<128>(), crc32c_fold(c, next, d));
    for (; size >= 64; data += 64, size -= 64) sum = crc32c_fold(sum, next, _mm512_loadu_si512(data));
    _mm512_storeu_si512(folded, sum);
}

} // namespace keel::inline v0::checksum::detail

#endif
#endif
