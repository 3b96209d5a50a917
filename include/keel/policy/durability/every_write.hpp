// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_DURABILITY_EVERY_WRITE_HPP
#define KEEL_POLICY_DURABILITY_EVERY_WRITE_HPP

#include <keel/policy/durability/concept.hpp>

namespace keel::inline v0::durability {

/// An acknowledged write is on the disk, by a sync of its own. For measuring, and for devices that order by sync.
struct every_write {
    static constexpr std::string_view name = "every_write";
    static constexpr write_path path = write_path::written;
    static constexpr bool shares_syncs = false;
    static constexpr std::uint32_t gather_us = 0;
    static constexpr std::uint32_t sync_interval_ms = 0;
};

} // namespace keel::inline v0::durability

#endif
