// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_DURABILITY_EVERY_WRITE_HPP
#define KEEL_POLICY_DURABILITY_EVERY_WRITE_HPP

#include <keel/policy/durability/concept.hpp>

namespace keel::inline v0::durability {

/// A write returns after a sync of its own, so it survives power loss. It is for measurements, and for devices that order writes by syncs.
struct every_write {
    /// A member that durability_policy describes.
    /// @{
    static constexpr std::string_view name = "every_write";
    static constexpr write_path path = write_path::written;
    static constexpr bool shares_syncs = false;
    static constexpr std::uint32_t gather_us = 0;
    static constexpr std::uint32_t sync_interval_ms = 0;
    /// @}
};

} // namespace keel::inline v0::durability

#endif
