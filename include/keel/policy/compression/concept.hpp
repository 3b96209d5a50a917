// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPRESSION_CONCEPT_HPP
#define KEEL_POLICY_COMPRESSION_CONCEPT_HPP

// The compression axis: how the blocks of tables are compressed before they are written. The log is never compressed.

#include <keel/types.hpp>

#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace keel::inline v0 {

/// Makes blocks smaller on the disk.
///
///     P::name                     std::string_view  for people and JSON: "zstd"
///     P::id                       std::uint8_t      stored with each table and block that it compresses: 0 none, 1 zstd, 2 lz4. 8 to 15
///                                                   are free for models of users. A changed encoding gets a new id
///     P::reads(id)                bool              a constant: whether decompress() knows the encoding with this id. True for P::id. True
///                                                   for 0, because every model reads blocks that are not compressed
///     P::compress(in, out)        bool              out becomes `in`, compressed. False if that saves less than an eighth or is not
///                                                   possible; then the block is written as it is
///     P::decompress(id, in, out)  bool              fills out exactly. False if `in` is not the result of compress() of that many bytes.
///                                                   Accepts any bytes, and touches no byte outside of `in` and out
///
/// Neither function throws anything but std::bad_alloc. Any number of threads may call both. Used by table/ and recovery/.
/// Smallest model: none (none.hpp). Laws: tests/conformance/compression.hpp; a user can run them on another model.
template <class P>
concept compression_policy = requires(byte_view in, std::vector<std::byte>& packed, byte_span out, std::uint8_t id) {
    { P::name } -> std::convertible_to<std::string_view>;
    { P::id } -> std::convertible_to<std::uint8_t>;
    { P::reads(id) } -> std::same_as<bool>;
    typename std::bool_constant<P::reads(0)>;
    { P::compress(in, packed) } -> std::same_as<bool>;
    { P::decompress(id, in, out) } -> std::same_as<bool>;
};

/// The models of the compression axis, and the helpers that they share.
namespace compression {

inline constexpr std::uint8_t id_max = 15; ///< the largest id that the format can store

/// The largest compressed size of `raw` bytes, in bytes, at which a block is stored compressed.
[[nodiscard]] constexpr std::size_t worth_bytes_max(std::size_t raw) noexcept { return raw - (raw + 7) / 8; }

/// The name of an encoding, for example "zstd"; "compression 9" for one that is not keel's.
[[nodiscard]] inline std::string name_of(std::uint8_t id) {
    constexpr std::array<std::string_view, 3> names{"none", "zstd", "lz4"};
    return id < names.size() ? std::string{names[id]} : "compression " + std::to_string(id);
}

/// Whether the policy reads any compressed block.
template <compression_policy P>
[[nodiscard]] consteval bool unpacks_any() {
    for (std::uint8_t id = 1; id <= id_max; ++id)
        if (P::reads(id)) return true;
    return false;
}
/// The names of all encodings that the policy reads, for people: "none, zstd".
template <compression_policy P>
[[nodiscard]] std::string names_read_by() {
    std::string text;
    for (std::uint8_t id = 0; id <= id_max; ++id)
        if (P::reads(id)) text += (text.empty() ? "" : ", ") + name_of(id);
    return text;
}

} // namespace compression

} // namespace keel::inline v0

#endif
