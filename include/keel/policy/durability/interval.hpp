// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_DURABILITY_INTERVAL_HPP
#define KEEL_POLICY_DURABILITY_INTERVAL_HPP

#include <keel/policy/durability/concept.hpp>

namespace keel::inline v0::durability {

/// A write returns once it is stored in a mapped file, so it survives a killed process. A sync every `Ms` milliseconds limits the loss at a
/// power failure.
template <std::uint32_t Ms>
struct interval {
    static_assert(Ms > 0, "keel: durability::interval<ms> takes 1 ms or more; for no syncs at all use os_buffered");
    /// A member that durability_policy describes.
    /// @{
    static constexpr std::string_view name = "interval";
    static constexpr write_path path = write_path::mapped;
    static constexpr bool shares_syncs = false;
    static constexpr std::uint32_t gather_us = 0;
    static constexpr std::uint32_t sync_interval_ms = Ms;
    /// @}
};

} // namespace keel::inline v0::durability

#endif
