// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_REFUSE_HPP
#define KEEL_POLICY_REPAIR_REFUSE_HPP

#include <keel/policy/repair/concept.hpp>

namespace keel::inline v0::repair {

/// Changes nothing and fails to open: for those who restore from elsewhere, or want to look first.
struct refuse {
    static constexpr std::string_view name = "refuse";
    static constexpr bool rebuilds = false;
    [[nodiscard]] static constexpr decision decide(finding const&) noexcept { return decision::refuse; }
};

} // namespace keel::inline v0::repair

#endif
