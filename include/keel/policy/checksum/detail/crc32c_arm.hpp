// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_ARM_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_ARM_HPP

// The instructions of ARMv8 for CRC-32C: the CRC instruction and the carry-less product. Both are optional in the first version of ARMv8.
// They are assembly for the reason in crc32c_x86.hpp. Call nothing here before crc32c_best_path() allows it. On other machines this
// header is empty.

#if defined(__GNUC__) && defined(__aarch64__) && !defined(__AARCH64EB__)
#define KEEL_DETAIL_CRC32C_STEP 1

#include <arm_neon.h>

#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include <cstdint>

namespace keel::inline v0::checksum::detail {

[[nodiscard]] inline std::uint32_t crc32c_step(std::uint32_t sum, std::uint64_t word) noexcept {
    asm(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(sum) : "r"(word));
    return sum;
}
[[nodiscard]] inline std::uint32_t crc32c_step(std::uint32_t sum, std::uint32_t word) noexcept {
    asm(".arch_extension crc\n\tcrc32cw %w0, %w0, %w1" : "+r"(sum) : "r"(word));
    return sum;
}
[[nodiscard]] inline std::uint32_t crc32c_step(std::uint32_t sum, std::uint16_t word) noexcept {
    asm(".arch_extension crc\n\tcrc32ch %w0, %w0, %w1" : "+r"(sum) : "r"(std::uint32_t{word}));
    return sum;
}
[[nodiscard]] inline std::uint32_t crc32c_step(std::uint32_t sum, std::uint8_t word) noexcept {
    asm(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(sum) : "r"(std::uint32_t{word}));
    return sum;
}

/// The carry-less product of a state and a factor.
[[nodiscard]] inline std::uint64_t crc32c_times(std::uint32_t sum, std::uint64_t factor) noexcept {
    uint64x2_t product;
    asm(".arch_extension aes\n\tpmull %0.1q, %1.1d, %2.1d"
        : "=w"(product)
        : "w"(vdupq_n_u64(sum)), "w"(vdupq_n_u64(factor)));
    return vgetq_lane_u64(product, 0);
}

#if defined(__linux__)
// The bits HWCAP_CRC32 and HWCAP_PMULL.
[[nodiscard]] inline bool crc32c_cpu_has_step() noexcept { return (getauxval(AT_HWCAP) & 1UL << 7) != 0; }
[[nodiscard]] inline bool crc32c_cpu_has_times() noexcept { return (getauxval(AT_HWCAP) & 1UL << 4) != 0; }
#elif defined(__APPLE__)
// Every 64-bit machine of Apple that runs C++20 has both.
[[nodiscard]] inline bool crc32c_cpu_has_step() noexcept { return true; }
[[nodiscard]] inline bool crc32c_cpu_has_times() noexcept { return true; }
#else
[[nodiscard]] inline bool crc32c_cpu_has_step() noexcept { return false; }
[[nodiscard]] inline bool crc32c_cpu_has_times() noexcept { return false; }
#endif

} // namespace keel::inline v0::checksum::detail

#endif
#endif
