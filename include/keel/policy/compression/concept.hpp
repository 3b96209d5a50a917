// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPRESSION_CONCEPT_HPP
#define KEEL_POLICY_COMPRESSION_CONCEPT_HPP

// The compression axis: whether the blocks of tables are packed before they are written. The log never is.

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
///   P::name                     std::string_view  for people and JSON: "zstd"
///   P::id                       std::uint8_t      stored with each table and block that it packs: 0 none, 1 zstd, 2 lz4; 8 to 15 are
///                                                 left to models of your own. A changed encoding takes a new id
///   P::reads(id)                bool              whether it unpacks what has this id; a constant. True of its own, and of 0: what
///                                                 is not packed is read by everybody
///   P::compress(in, out)        bool              out becomes `in`, packed; false where that saves less than an eighth of it, or
///                                                 cannot be done: the block is then written as it is
///   P::decompress(id, in, out)  bool              fills out exactly; false where `in` is not what compress() makes of so many
///                                                 bytes. Takes any bytes, and touches none outside of `in` and out
/// Neither throws anything but std::bad_alloc, and any number of threads may call both. Used by table/packed_block.hpp only.
/// Smallest model: none (none.hpp). Laws: tests/conformance/compression.hpp, which a user can run on a model of their own.
template <class P>
concept compression_policy = requires(byte_view in, std::vector<std::byte>& packed, byte_span out, std::uint8_t id) {
    { P::name } -> std::convertible_to<std::string_view>;
    { P::id } -> std::convertible_to<std::uint8_t>;
    { P::reads(id) } -> std::same_as<bool>;
    typename std::bool_constant<P::reads(0)>;
    { P::compress(in, packed) } -> std::same_as<bool>;
    { P::decompress(id, in, out) } -> std::same_as<bool>;
};

namespace compression {

inline constexpr std::uint8_t id_max = 15; ///< more are not stored

/// The most that a packed run of so many bytes may have, to be worth the unpacking.
[[nodiscard]] constexpr std::size_t worth_bytes_max(std::size_t raw) noexcept { return raw - (raw + 7) / 8; }

[[nodiscard]] inline std::string name_of(std::uint8_t id) {
    constexpr std::array<std::string_view, 3> names{"none", "zstd", "lz4"};
    return id < names.size() ? std::string{names[id]} : "compression " + std::to_string(id);
}

/// Whether the policy ever meets a packed block.
template <compression_policy P>
[[nodiscard]] consteval bool unpacks_any() {
    for (std::uint8_t id = 1; id <= id_max; ++id)
        if (P::reads(id)) return true;
    return false;
}
/// All that the policy reads, for people.
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
