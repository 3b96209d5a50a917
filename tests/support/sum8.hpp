// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_SUM8_HPP
#define KEEL_TESTS_SUPPORT_SUM8_HPP

// The smallest model of checksum_policy: all bytes added up, modulo 256. It keeps every law and is no good: bytes may
// change places.

#include <keel/policy/checksum/concept.hpp>

namespace keel::test {

struct sum8 {
    static constexpr checksum_id id = checksum_id::of("sum8");
    static constexpr std::string_view name = "sum8";

    void update(byte_view bytes) noexcept {
        for (auto const byte : bytes) sum = (sum + std::to_integer<std::uint64_t>(byte)) % 256;
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return sum; }

    std::uint64_t sum = 0;
};

static_assert(checksum_policy<sum8>);

} // namespace keel::test

#endif
