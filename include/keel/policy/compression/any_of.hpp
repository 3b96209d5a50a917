// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPRESSION_ANY_OF_HPP
#define KEEL_POLICY_COMPRESSION_ANY_OF_HPP

#include <keel/policy/compression/concept.hpp>

namespace keel::inline v0::compression {

/// Compresses as `Writes` does, and decompresses the encodings of `Writes` and of all `Reads`. It is for tools, and for stores whose
/// compression changes: compaction rewrites one table after the other.
template <compression_policy Writes, compression_policy... Reads>
struct any_of {
    /// A member that compression_policy describes.
    /// @{
    static constexpr std::string_view name = Writes::name;
    static constexpr std::uint8_t id = Writes::id;
    [[nodiscard]] static constexpr bool reads(std::uint8_t of) noexcept {
        return Writes::reads(of) || (Reads::reads(of) || ...);
    }
    [[nodiscard]] static bool compress(byte_view in, std::vector<std::byte>& out) { return Writes::compress(in, out); }
    [[nodiscard]] static bool decompress(std::uint8_t of, byte_view in, byte_span out) {
        if (Writes::reads(of)) return Writes::decompress(of, in, out);
        bool done = false;
        static_cast<void>(((Reads::reads(of) && (done = Reads::decompress(of, in, out), true)) || ...));
        return done;
    }
    /// @}
};

} // namespace keel::inline v0::compression

#endif
