// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_PARTIAL_RECONSTRUCT_HPP
#define KEEL_POLICY_REPAIR_PARTIAL_RECONSTRUCT_HPP

#include <keel/policy/repair/concept.hpp>

namespace keel::inline v0::repair {

/// Rebuilds from every redundancy that the other policies provide, then keeps what verifies and reports the rest.
struct partial_reconstruct {
    static constexpr std::string_view name = "partial_reconstruct";
    static constexpr bool rebuilds = true;
    [[nodiscard]] static constexpr decision decide(finding const&) noexcept { return decision::declare_lost; }
};

} // namespace keel::inline v0::repair

#endif
