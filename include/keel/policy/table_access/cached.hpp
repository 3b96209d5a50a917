// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_TABLE_ACCESS_CACHED_HPP
#define KEEL_POLICY_TABLE_ACCESS_CACHED_HPP

#include <keel/policy/table_access/concept.hpp>

/// The models of the table-access axis.
namespace keel::inline v0::table_access {

/// The default. Verified blocks stay in a cache of keel's own, of at most open_options::cache_bytes. A block that is read often is verified
/// once, and the memory of the store has a limit.
struct cached {
    /// A member that table_access_policy describes.
    /// @{
    static constexpr std::string_view name = "cached";
    static constexpr bool caches_blocks = true;
    /// @}
};

static_assert(table_access_policy<cached>);

} // namespace keel::inline v0::table_access

#endif
