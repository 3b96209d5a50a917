// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_PARTIAL_RECONSTRUCT_HPP
#define KEEL_POLICY_REPAIR_PARTIAL_RECONSTRUCT_HPP

#include <keel/policy/repair/concept.hpp>

/// The models of the repair axis.
namespace keel::inline v0::repair {

/// The default. Keeps the records that verify and declares the others lost, as skip_corrupted does. It also asks for redundancy to rebuild
/// records from. No policy of this version provides redundancy; if records are lost, recovery_report::notice says so.
struct partial_reconstruct {
    /// A member that repair_policy describes.
    /// @{
    static constexpr std::string_view name = "partial_reconstruct";
    static constexpr bool rebuilds = true;
    [[nodiscard]] static constexpr decision decide(finding const&) noexcept { return decision::declare_lost; }
    /// @}
};

} // namespace keel::inline v0::repair

#endif
