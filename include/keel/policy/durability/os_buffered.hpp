// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_DURABILITY_OS_BUFFERED_HPP
#define KEEL_POLICY_DURABILITY_OS_BUFFERED_HPP

#include <keel/policy/durability/concept.hpp>

namespace keel::inline v0::durability {

/// A write returns once it is stored in a mapped file, so it survives a killed process. Only sync(), roll-over and close() sync.
struct os_buffered {
    /// A member that durability_policy describes.
    /// @{
    static constexpr std::string_view name = "os_buffered";
    static constexpr write_path path = write_path::mapped;
    static constexpr bool shares_syncs = false;
    static constexpr std::uint32_t gather_us = 0;
    static constexpr std::uint32_t sync_interval_ms = 0;
    /// @}
};

} // namespace keel::inline v0::durability

#endif
