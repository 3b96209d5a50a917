// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPRESSION_LZ4_HPP
#define KEEL_POLICY_COMPRESSION_LZ4_HPP

// LZ4 blocks, by liblz4. It compresses less than zstd and decompresses several times as fast. keel.hpp does not include this header. A
// program that includes it must link liblz4.

#include <keel/policy/compression/concept.hpp>

#include <lz4.h>

#include <limits>

namespace keel::inline v0::compression {

/// A model of compression_policy: the block format of LZ4 without its frames. keel's format has the length.
struct lz4 {
    /// A member that compression_policy describes.
    /// @{
    static constexpr std::string_view name = "lz4";
    static constexpr std::uint8_t id = 2;
    [[nodiscard]] static constexpr bool reads(std::uint8_t of) noexcept { return of == 0 || of == id; }

    [[nodiscard]] static bool compress(byte_view in, std::vector<std::byte>& out) {
        if (in.empty() || in.size() > bytes_max) return false;
        out.resize(worth_bytes_max(in.size()));
        // Its working memory is 16 KiB of stack, so there is no context to keep.
        auto const bytes = LZ4_compress_default(chars(in.data()), reinterpret_cast<char*>(out.data()),
                                                length(in.size()), length(out.size()));
        out.resize(bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
        return bytes > 0;
    }
    [[nodiscard]] static bool decompress(std::uint8_t of, byte_view in, byte_span out) noexcept {
        if (of != id || in.empty() || out.empty() || in.size() > bytes_max || out.size() > bytes_max) return false;
        return LZ4_decompress_safe(chars(in.data()), reinterpret_cast<char*>(out.data()), length(in.size()),
                                   length(out.size())) == length(out.size());
    }
    /// @}

private:
    static constexpr std::size_t bytes_max = LZ4_MAX_INPUT_SIZE;
    static_assert(bytes_max <= std::numeric_limits<int>::max());

    [[nodiscard]] static char const* chars(std::byte const* at) noexcept { return reinterpret_cast<char const*>(at); }
    [[nodiscard]] static int length(std::size_t bytes) noexcept { return static_cast<int>(bytes); }
};

static_assert(compression_policy<lz4>);

} // namespace keel::inline v0::compression

#endif
