// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_SKIP_CORRUPTED_HPP
#define KEEL_POLICY_REPAIR_SKIP_CORRUPTED_HPP

#include <keel/policy/repair/concept.hpp>

namespace keel::inline v0::repair {

/// Drops the damaged records, keeps all others, and reports each loss. A batch counts as one record.
struct skip_corrupted {
    /// A member that repair_policy describes.
    /// @{
    static constexpr std::string_view name = "skip_corrupted";
    static constexpr bool rebuilds = false;
    [[nodiscard]] static constexpr decision decide(finding const&) noexcept { return decision::declare_lost; }
    /// @}
};

} // namespace keel::inline v0::repair

#endif
