// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPACTION_CONCEPT_HPP
#define KEEL_POLICY_COMPACTION_CONCEPT_HPP

// The compaction axis: when records leave the log for tables, and how tables are kept in order.

#include <concepts>
#include <cstdint>
#include <string_view>

namespace keel::inline v0 {

/// How a store reclaims what was overwritten, and gives the log's segments back.
///   P::name         std::string_view  for people and JSON
///   P::log_bytes    std::uint64_t     bytes of sealed log from which on it is merged into tables; 0: only when asked (compact())
///   P::table_bytes  std::uint64_t     size a table should have
///   P::fanout       std::uint32_t     how many times a level is larger than the one above it
/// Used by engine/compaction.hpp only. Smallest model: by_hand (by_hand.hpp).
template <class P>
concept compaction_policy = requires {
    { P::name } -> std::convertible_to<std::string_view>;
    { P::log_bytes } -> std::convertible_to<std::uint64_t>;
    { P::table_bytes } -> std::convertible_to<std::uint64_t>;
    { P::fanout } -> std::convertible_to<std::uint32_t>;
};

} // namespace keel::inline v0

#endif
