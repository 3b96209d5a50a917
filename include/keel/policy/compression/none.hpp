// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPRESSION_NONE_HPP
#define KEEL_POLICY_COMPRESSION_NONE_HPP

#include <keel/policy/compression/concept.hpp>

namespace keel::inline v0::compression {

/// The default. Blocks are not compressed, and no code of this axis is compiled.
struct none {
    /// A member that compression_policy describes.
    /// @{
    static constexpr std::string_view name = "none";
    static constexpr std::uint8_t id = 0;
    [[nodiscard]] static constexpr bool reads(std::uint8_t of) noexcept { return of == id; }
    [[nodiscard]] static bool compress(byte_view, std::vector<std::byte>&) noexcept { return false; }
    [[nodiscard]] static bool decompress(std::uint8_t, byte_view, byte_span) noexcept { return false; }
    /// @}
};

static_assert(compression_policy<none>);

} // namespace keel::inline v0::compression

#endif
