// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_CONCEPT_HPP
#define KEEL_POLICY_CHECKSUM_CONCEPT_HPP

// The checksum axis: its contract. Each model has a header of its own beside this one.

#include <keel/types.hpp>

#include <concepts>
#include <cstdint>
#include <string_view>

namespace keel::inline v0 {

/// Tells whether the bytes read are the bytes written.
///
///     C::id             checksum_id       stored in every header; a changed algorithm gets a new id
///     C::name           std::string_view  for people and JSON: "crc32c"
///     C{}, C{c}         C                 the state of the empty run, and a copy; never throws, because sums are needed
///                                         when memory is refused, too
///     c.update(bytes)   void              every split of the same bytes gives the same value; never throws
///     c.value()         std::uint64_t     leaves c unchanged; a narrower sum is extended by zeros
///
/// Used wherever bytes are written to the disk or read from it. One thread for each object. Smallest model: tests/support/sum8.hpp.
/// Laws: tests/conformance/checksum.hpp; a user can run them on another model.
template <class C>
concept checksum_policy = std::default_initializable<C> && requires(C c, C const& done, byte_view bytes) {
    { C::id } -> std::convertible_to<checksum_id>;
    { C::name } -> std::convertible_to<std::string_view>;
    { c.update(bytes) } noexcept;
    { done.value() } noexcept -> std::same_as<std::uint64_t>;
};

/// The models of the checksum axis.
namespace checksum {
/// The checksum of these views, one after the other.
template <checksum_policy C, class... Views>
[[nodiscard]] std::uint64_t over(Views const&... views) noexcept {
    C sum;
    (sum.update(byte_view{views}), ...);
    return sum.value();
}
} // namespace checksum

} // namespace keel::inline v0

#endif
