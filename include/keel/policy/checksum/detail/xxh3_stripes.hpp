// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_XXH3_STRIPES_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_XXH3_STRIPES_HPP

// XXH3 beyond 240 bytes: stripes of 64 bytes are added to eight accumulators, which are scrambled after every 16
// stripes. Three ways that differ in the width of their vectors only; as with CRC-32C, each names the CPU features it
// needs and none looks at flags.

#include <keel/policy/checksum/detail/xxh3_mix.hpp>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#define KEEL_DETAIL_XXH3_X86 1
#else
#define KEEL_DETAIL_XXH3_X86 0
#endif

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace keel::inline v0::checksum::detail {

inline constexpr std::size_t xxh3_stripe_bytes = 64;
inline constexpr std::size_t xxh3_block_stripes = (xxh3_secret_bytes - xxh3_stripe_bytes) / 8;
inline constexpr std::size_t xxh3_scramble_at = xxh3_secret_bytes - xxh3_stripe_bytes;
inline constexpr std::size_t xxh3_last_stripe_at = xxh3_secret_bytes - xxh3_stripe_bytes - 7;

/// What stands for all stripes added so far.
struct xxh3_sums {
    alignas(64) std::uint64_t lane[8];
};

inline constexpr xxh3_sums xxh3_start{{xxh3_prime32_3, xxh3_prime64_1, xxh3_prime64_2, xxh3_prime64_3, xxh3_prime64_4,
                                       xxh3_prime32_2, xxh3_prime64_5, xxh3_prime32_1}};

/// Adds `stripes` stripes, keyed from secret_at on; no scrambling.
inline void xxh3_add_portable(xxh3_sums& sums, std::byte const* data, std::size_t stripes,
                              std::size_t secret_at) noexcept {
    for (; stripes != 0; --stripes, data += xxh3_stripe_bytes, secret_at += 8) {
        for (std::size_t i = 0; i < 8; ++i) {
            auto const word = xxh3_word(data + 8 * i);
            auto const keyed = word ^ xxh3_word(xxh3_secret + secret_at + 8 * i);
            sums.lane[i ^ 1] += word;
            sums.lane[i] += (keyed & 0xFFFF'FFFFU) * (keyed >> 32);
        }
    }
}

inline void xxh3_scramble_portable(xxh3_sums& sums) noexcept {
    for (std::size_t i = 0; i < 8; ++i) {
        auto const lane = sums.lane[i];
        sums.lane[i] = (lane ^ lane >> 47 ^ xxh3_word(xxh3_secret + xxh3_scramble_at + 8 * i)) * xxh3_prime32_1;
    }
}

#if KEEL_DETAIL_XXH3_X86

[[gnu::target("avx2")]] inline void xxh3_add_avx2(xxh3_sums& sums, std::byte const* data, std::size_t stripes,
                                                  std::size_t secret_at) noexcept {
    auto* const lanes = reinterpret_cast<__m256i*>(sums.lane);
    auto a = _mm256_load_si256(lanes);
    auto b = _mm256_load_si256(lanes + 1);
    for (; stripes != 0; --stripes, data += xxh3_stripe_bytes, secret_at += 8) {
        auto const* const from = reinterpret_cast<__m256i const*>(data);
        auto const* const keys = reinterpret_cast<__m256i const*>(xxh3_secret + secret_at);
        auto const word_a = _mm256_loadu_si256(from);
        auto const word_b = _mm256_loadu_si256(from + 1);
        auto const keyed_a = _mm256_xor_si256(word_a, _mm256_loadu_si256(keys));
        auto const keyed_b = _mm256_xor_si256(word_b, _mm256_loadu_si256(keys + 1));
        auto const product_a = _mm256_mul_epu32(keyed_a, _mm256_srli_epi64(keyed_a, 32));
        auto const product_b = _mm256_mul_epu32(keyed_b, _mm256_srli_epi64(keyed_b, 32));
        a = _mm256_add_epi64(a, _mm256_add_epi64(product_a, _mm256_shuffle_epi32(word_a, 0x4E)));
        b = _mm256_add_epi64(b, _mm256_add_epi64(product_b, _mm256_shuffle_epi32(word_b, 0x4E)));
    }
    _mm256_store_si256(lanes, a);
    _mm256_store_si256(lanes + 1, b);
}

[[gnu::target("avx2")]] inline void xxh3_scramble_avx2(xxh3_sums& sums) noexcept {
    auto* const lanes = reinterpret_cast<__m256i*>(sums.lane);
    auto const* const keys = reinterpret_cast<__m256i const*>(xxh3_secret + xxh3_scramble_at);
    auto const prime = _mm256_set1_epi64x(static_cast<long long>(xxh3_prime32_1));
    for (int i = 0; i < 2; ++i) {
        auto const sum = _mm256_load_si256(lanes + i);
        auto const mixed = _mm256_xor_si256(_mm256_xor_si256(sum, _mm256_srli_epi64(sum, 47)),
                                            _mm256_loadu_si256(keys + i));
        auto const low = _mm256_mul_epu32(mixed, prime);
        auto const high = _mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime);
        _mm256_store_si256(lanes + i, _mm256_add_epi64(low, _mm256_slli_epi64(high, 32)));
    }
}

// The forms that take a mask, and are given a full one: the plain ones make GCC 12 warn of its own uninitialised
// variables.
[[gnu::target("avx512f")]] inline void xxh3_add_avx512(xxh3_sums& sums, std::byte const* data, std::size_t stripes,
                                                       std::size_t secret_at) noexcept {
    constexpr __mmask8 all = 0xFF;
    auto sum = _mm512_load_si512(sums.lane);
    for (; stripes != 0; --stripes, data += xxh3_stripe_bytes, secret_at += 8) {
        auto const word = _mm512_loadu_si512(data);
        auto const keyed = _mm512_xor_si512(word, _mm512_loadu_si512(xxh3_secret + secret_at));
        auto const product = _mm512_maskz_mul_epu32(all, keyed, _mm512_maskz_srli_epi64(all, keyed, 32));
        auto const swapped = _mm512_maskz_shuffle_epi32(0xFFFF, word, _MM_PERM_BADC);
        sum = _mm512_add_epi64(sum, _mm512_add_epi64(product, swapped));
    }
    _mm512_store_si512(sums.lane, sum);
}

[[gnu::target("avx512f")]] inline void xxh3_scramble_avx512(xxh3_sums& sums) noexcept {
    constexpr __mmask8 all = 0xFF;
    auto const sum = _mm512_load_si512(sums.lane);
    auto const key = _mm512_loadu_si512(xxh3_secret + xxh3_scramble_at);
    auto const mixed = _mm512_ternarylogic_epi64(sum, _mm512_maskz_srli_epi64(all, sum, 47), key, 0x96);
    auto const prime = _mm512_set1_epi64(static_cast<long long>(xxh3_prime32_1));
    auto const low = _mm512_maskz_mul_epu32(all, mixed, prime);
    auto const high = _mm512_maskz_mul_epu32(all, _mm512_maskz_srli_epi64(all, mixed, 32), prime);
    _mm512_store_si512(sums.lane, _mm512_add_epi64(low, _mm512_maskz_slli_epi64(all, high, 32)));
}

#endif

/// From slow to fast; a CPU that allows one allows those before it.
enum class xxh3_path : std::uint8_t {
    unknown,  ///< nobody has looked yet
    portable, ///< word by word
    avx2,     ///< 256-bit vectors
    avx512,   ///< 512-bit vectors
};

/// The fastest way this CPU allows.
[[nodiscard]] inline xxh3_path xxh3_best_path() noexcept {
#if KEEL_DETAIL_XXH3_X86
    __builtin_cpu_init(); // for those who sum before main()
    if (!__builtin_cpu_supports("avx2")) return xxh3_path::portable;
    return __builtin_cpu_supports("avx512f") ? xxh3_path::avx512 : xxh3_path::avx2;
#else
    return xxh3_path::portable;
#endif
}

inline void xxh3_add_by(xxh3_path path, xxh3_sums& sums, std::byte const* data, std::size_t stripes,
                        std::size_t secret_at) noexcept {
#if KEEL_DETAIL_XXH3_X86
    if (path == xxh3_path::avx512) return xxh3_add_avx512(sums, data, stripes, secret_at);
    if (path == xxh3_path::avx2) return xxh3_add_avx2(sums, data, stripes, secret_at);
#endif
    static_cast<void>(path);
    xxh3_add_portable(sums, data, stripes, secret_at);
}

inline void xxh3_scramble_by(xxh3_path path, xxh3_sums& sums) noexcept {
#if KEEL_DETAIL_XXH3_X86
    if (path == xxh3_path::avx512) return xxh3_scramble_avx512(sums);
    if (path == xxh3_path::avx2) return xxh3_scramble_avx2(sums);
#endif
    static_cast<void>(path);
    xxh3_scramble_portable(sums);
}

/// Adds `stripes` stripes that are not the input's last. `at` is the place in the block, kept by the caller between
/// calls.
inline void xxh3_add_stripes(xxh3_path path, xxh3_sums& sums, std::size_t& at, std::byte const* data,
                             std::size_t stripes) noexcept {
    while (stripes != 0) {
        auto const run = std::min(stripes, xxh3_block_stripes - at);
        xxh3_add_by(path, sums, data, run, 8 * at);
        data += run * xxh3_stripe_bytes;
        stripes -= run;
        at += run;
        if (at == xxh3_block_stripes) {
            xxh3_scramble_by(path, sums);
            at = 0;
        }
    }
}

/// The value, once the input's last 64 bytes are known. They may overlap the stripes added before.
[[nodiscard]] inline std::uint64_t xxh3_finish(xxh3_path path, xxh3_sums& sums, std::byte const* last,
                                               std::uint64_t total) noexcept {
    xxh3_add_by(path, sums, last, 1, xxh3_last_stripe_at);
    auto sum = total * xxh3_prime64_1;
    for (std::size_t i = 0; i < 8; i += 2) {
        sum += xxh3_multiply_fold(sums.lane[i] ^ xxh3_word(xxh3_secret + 11 + 8 * i),
                                  sums.lane[i + 1] ^ xxh3_word(xxh3_secret + 19 + 8 * i));
    }
    return xxh3_avalanche(sum);
}

/// Kept after the first look. Relaxed: whoever does not see it yet looks again and finds the same.
inline std::atomic<xxh3_path> xxh3_chosen{xxh3_path::unknown};

[[nodiscard]] inline xxh3_path xxh3_current_path() noexcept {
    auto path = xxh3_chosen.load(std::memory_order_relaxed);
    if (path == xxh3_path::unknown) {
        path = xxh3_best_path();
        xxh3_chosen.store(path, std::memory_order_relaxed);
    }
    return path;
}

} // namespace keel::inline v0::checksum::detail

#undef KEEL_DETAIL_XXH3_X86

#endif
