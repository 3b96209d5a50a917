// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_ROLLBACK_HPP
#define KEEL_POLICY_REPAIR_ROLLBACK_HPP

#include <keel/policy/repair/concept.hpp>

namespace keel::inline v0::repair {

/// Back to the last LSN before the first damage: a consistent prefix. What came later is kept in quarantine.
struct rollback {
    static constexpr std::string_view name = "rollback";
    static constexpr bool rebuilds = false;
    [[nodiscard]] static constexpr decision decide(finding const&) noexcept { return decision::roll_back; }
};

} // namespace keel::inline v0::repair

#endif
