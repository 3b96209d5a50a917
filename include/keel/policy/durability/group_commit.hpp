// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_DURABILITY_GROUP_COMMIT_HPP
#define KEEL_POLICY_DURABILITY_GROUP_COMMIT_HPP

#include <keel/policy/durability/concept.hpp>

/// The models of the durability axis.
namespace keel::inline v0::durability {

/// The default. A write returns after a sync, so it survives power loss. Concurrent writers share one sync.
struct group_commit {
    /// A member that durability_policy describes.
    /// @{
    static constexpr std::string_view name = "group_commit";
    static constexpr write_path path = write_path::written;
    static constexpr bool shares_syncs = true;
    static constexpr std::uint32_t gather_us = 60;
    static constexpr std::uint32_t sync_interval_ms = 0;
    /// @}
};

} // namespace keel::inline v0::durability

#endif
