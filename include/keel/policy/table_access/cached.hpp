// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_TABLE_ACCESS_CACHED_HPP
#define KEEL_POLICY_TABLE_ACCESS_CACHED_HPP

#include <keel/policy/table_access/concept.hpp>

namespace keel::inline v0::table_access {

/// Blocks are kept in memory of keel's own, once verified, up to open_options::cache_bytes of them. The default: what is read often is
/// verified once, and memory has a bound that the store keeps.
struct cached {
    static constexpr std::string_view name = "cached";
    static constexpr bool caches_blocks = true;
};

static_assert(table_access_policy<cached>);

} // namespace keel::inline v0::table_access

#endif
