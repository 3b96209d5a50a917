// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPACTION_BY_HAND_HPP
#define KEEL_POLICY_COMPACTION_BY_HAND_HPP

#include <keel/policy/compaction/concept.hpp>
#include <keel/types.hpp>

namespace keel::inline v0::compaction {

/// Compaction runs only in compact(). It is for programs that know when they are idle. Without compact() the log grows with every write.
struct by_hand {
    /// A member that compaction_policy describes.
    /// @{
    static constexpr std::string_view name = "by_hand";
    static constexpr std::uint64_t log_bytes = 0;
    static constexpr std::uint64_t table_bytes = 16 * MiB;
    static constexpr std::uint32_t fanout = 8;
    /// @}
};

} // namespace keel::inline v0::compaction

#endif
