// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPACTION_CONCEPT_HPP
#define KEEL_POLICY_COMPACTION_CONCEPT_HPP

// The compaction axis: when records move from the log to tables, and how large the levels of tables are.

#include <concepts>
#include <cstdint>
#include <string_view>

namespace keel::inline v0 {

/// The sizes at which a store compacts, and so frees the segments of the log and the space of overwritten and deleted records.
///
///     P::name         std::string_view  for people and JSON
///     P::log_bytes    std::uint64_t     compaction starts once the sealed log has this many bytes; 0: only in compact()
///     P::table_bytes  std::uint64_t     the intended size of a table, in bytes
///     P::fanout       std::uint32_t     the ratio of the sizes of a level and the level above it
///
/// Used by engine/ only. Smallest model: by_hand (by_hand.hpp).
template <class P>
concept compaction_policy = requires {
    { P::name } -> std::convertible_to<std::string_view>;
    { P::log_bytes } -> std::convertible_to<std::uint64_t>;
    { P::table_bytes } -> std::convertible_to<std::uint64_t>;
    { P::fanout } -> std::convertible_to<std::uint32_t>;
};

} // namespace keel::inline v0

#endif
