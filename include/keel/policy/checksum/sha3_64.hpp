// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_SHA3_64_HPP
#define KEEL_POLICY_CHECKSUM_SHA3_64_HPP

// SHA3-64: the first 64 bits of SHA3-256 (FIPS 202). It is for programs that are required to use SHA-3. It costs about fifty times as
// much as crc32c. Because there is no key, it does not prevent forgery.

#include <keel/policy/checksum/concept.hpp>
#include <keel/policy/checksum/detail/sha3_256.hpp>

namespace keel::inline v0::checksum {

/// A model of checksum_policy: the first 8 bytes of the digest, little-endian. It needs no memory and never fails.
class sha3_64 {
public:
    /// A member that checksum_policy describes.
    /// @{
    static constexpr checksum_id id = checksum_id::of("sha3");
    static constexpr std::string_view name = "sha3_64";

    void update(byte_view bytes) noexcept { state_.update(bytes); }
    [[nodiscard]] std::uint64_t value() const noexcept { return state_.first_word(); }
    /// @}

private:
    detail::sha3_256 state_{};
};

static_assert(checksum_policy<sha3_64>);

} // namespace keel::inline v0::checksum

#endif
