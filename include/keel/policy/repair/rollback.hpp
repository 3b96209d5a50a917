// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_ROLLBACK_HPP
#define KEEL_POLICY_REPAIR_ROLLBACK_HPP

#include <keel/policy/repair/concept.hpp>

namespace keel::inline v0::repair {

/// Returns to the last LSN before the first damage, so that a consistent prefix remains. Later records are kept in quarantine.
struct rollback {
    /// A member that repair_policy describes.
    /// @{
    static constexpr std::string_view name = "rollback";
    static constexpr bool rebuilds = false;
    [[nodiscard]] static constexpr decision decide(finding const&) noexcept { return decision::roll_back; }
    /// @}
};

} // namespace keel::inline v0::repair

#endif
