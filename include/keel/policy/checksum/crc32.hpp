// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_CRC32_HPP
#define KEEL_POLICY_CHECKSUM_CRC32_HPP

// CRC-32 as in IEEE 802.3, zip and PNG, by Boost.CRC. It gives the same value on every machine and is slow on all of them (about 0.5 GB/s).
// It is for stores whose bytes other tools must be able to check. Where only keel reads them, crc32c is faster.

#include <keel/policy/checksum/concept.hpp>

#include <boost/crc.hpp>

namespace keel::inline v0::checksum {

/// A model of checksum_policy with 32 bits. Finds every error burst of up to 32 bits, and any 3 flipped bits in up to 11 KiB.
class crc32 {
public:
    /// A member that checksum_policy describes.
    /// @{
    static constexpr checksum_id id = checksum_id::of("crc3");
    static constexpr std::string_view name = "crc32";

    void update(byte_view bytes) noexcept { sum_.process_bytes(bytes.data(), bytes.size()); }
    [[nodiscard]] std::uint64_t value() const noexcept { return sum_.checksum(); }
    /// @}

private:
    boost::crc_32_type sum_;
};

static_assert(checksum_policy<crc32>);

} // namespace keel::inline v0::checksum

#endif
