// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_DISPATCH_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_CRC32C_DISPATCH_HPP

// Chooses the implementation of CRC-32C for this CPU. The choice is made once, at the first sum, and kept in the only global variable of
// the checksum axis.

#include <keel/policy/checksum/detail/crc32c_lanes.hpp>
#include <keel/policy/checksum/detail/crc32c_portable.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace keel::inline v0::checksum::detail {

/// The implementations, from slow to fast. A CPU that supports one supports all slower ones.
enum class crc32c_path : std::uint8_t {
    unknown,   ///< not chosen yet
    portable,  ///< Boost.CRC
    one_lane,  ///< the CRC instruction
    three_way, ///< the CRC instruction in three lanes, joined by a carry-less product
    wide,      ///< as three_way, and a carry-less product on 512-bit vectors (x86-64)
};

/// The fastest implementation that this CPU supports.
[[nodiscard]] inline crc32c_path crc32c_best_path() noexcept {
#if defined(KEEL_DETAIL_CRC32C_STEP)
    if (!crc32c_cpu_has_step()) return crc32c_path::portable;
    if (!crc32c_cpu_has_times()) return crc32c_path::one_lane;
#if defined(KEEL_DETAIL_CRC32C_WIDE)
    if (crc32c_cpu_has_wide()) return crc32c_path::wide;
#endif
    return crc32c_path::three_way;
#else
    return crc32c_path::portable;
#endif
}

/// The state after these bytes, by one implementation. Precondition: the CPU supports it.
[[nodiscard]] inline std::uint32_t crc32c_by(crc32c_path path, std::uint32_t state, std::byte const* data,
                                             std::size_t size) noexcept {
#if defined(KEEL_DETAIL_CRC32C_WIDE)
    if (path == crc32c_path::wide && size >= 256) return crc32c_wide(state, data, size);
#endif
#if defined(KEEL_DETAIL_CRC32C_STEP)
    if (path >= crc32c_path::three_way) return crc32c_three_way(state, data, size);
    if (path == crc32c_path::one_lane) return crc32c_one_lane(state, data, size);
#endif
    static_cast<void>(path);
    return crc32c_portable(state, data, size);
}

/// The choice. Relaxed: a thread that does not see it yet makes the same choice again.
inline std::atomic<crc32c_path> crc32c_chosen{crc32c_path::unknown};

/// All sums except for a short run on a CPU with the instruction.
[[gnu::noinline, nodiscard]] inline std::uint32_t crc32c_update_long(std::uint32_t state, std::byte const* data,
                                                                     std::size_t size) noexcept {
    auto path = crc32c_chosen.load(std::memory_order_relaxed);
    if (path == crc32c_path::unknown) {
        path = crc32c_best_path();
        crc32c_chosen.store(path, std::memory_order_relaxed);
    }
    return crc32c_by(path, state, data, size);
}

/// Up to this size, one inlined lane is faster than the other implementations.
inline constexpr std::size_t crc32c_short_bytes_max = 191;

/// The state after these bytes, by the chosen implementation.
[[nodiscard]] inline std::uint32_t crc32c_update(std::uint32_t state, std::byte const* data,
                                                 std::size_t size) noexcept {
#if defined(KEEL_DETAIL_CRC32C_STEP)
    if (size <= crc32c_short_bytes_max && crc32c_chosen.load(std::memory_order_relaxed) >= crc32c_path::one_lane) {
        return crc32c_one_lane(state, data, size);
    }
#endif
    return crc32c_update_long(state, data, size);
}

} // namespace keel::inline v0::checksum::detail

#endif
