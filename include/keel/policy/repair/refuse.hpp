// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_REFUSE_HPP
#define KEEL_POLICY_REPAIR_REFUSE_HPP

#include <keel/policy/repair/concept.hpp>

namespace keel::inline v0::repair {

/// Changes nothing, and open fails. It is for programs that restore from elsewhere, and for people who want to look first.
struct refuse {
    /// A member that repair_policy describes.
    /// @{
    static constexpr std::string_view name = "refuse";
    static constexpr bool rebuilds = false;
    [[nodiscard]] static constexpr decision decide(finding const&) noexcept { return decision::refuse; }
    /// @}
};

} // namespace keel::inline v0::repair

#endif
