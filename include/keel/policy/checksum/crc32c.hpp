// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_CRC32C_HPP
#define KEEL_POLICY_CHECKSUM_CRC32C_HPP

// CRC-32C (Castagnoli; RFC 3720, ext4, Btrfs). CPUs have an instruction for it. The implementation is chosen at run time, so no compiler
// flag is needed, and a program built for an old CPU is fast on a new one. All implementations give the same value.

#include <keel/policy/checksum/concept.hpp>
#include <keel/policy/checksum/detail/crc32c_dispatch.hpp>

namespace keel::inline v0::checksum {

/// A model of checksum_policy with 32 bits. Finds every error burst of up to 32 bits, any 3 flipped bits in up to 256 MiB, and any 5 in up
/// to 655 bytes.
class crc32c {
public:
    /// A member that checksum_policy describes.
    /// @{
    static constexpr checksum_id id = checksum_id::of("crcc");
    static constexpr std::string_view name = "crc32c";

    void update(byte_view bytes) noexcept { state_ = detail::crc32c_update(state_, bytes.data(), bytes.size()); }
    [[nodiscard]] std::uint64_t value() const noexcept { return ~state_; }
    /// @}

private:
    std::uint32_t state_ = 0xFFFF'FFFFU;
};

static_assert(checksum_policy<crc32c>);

} // namespace keel::inline v0::checksum

#endif
