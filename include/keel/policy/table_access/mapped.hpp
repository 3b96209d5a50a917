// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_TABLE_ACCESS_MAPPED_HPP
#define KEEL_POLICY_TABLE_ACCESS_MAPPED_HPP

#include <keel/policy/table_access/concept.hpp>

namespace keel::inline v0::table_access {

/// The page cache is the only cache. Each read copies its block from the file's mapping and verifies the copy. It is for stores that
/// share the memory of a machine with other programs, or that are larger than any cache. keel holds only the blocks that are being read.
/// Damage is found by the next read, and not only by the next cache miss. A read costs a copy and a checksum of one block (4 KiB).
///
/// Memory still holds: the filters and indexes of tables, about a fiftieth of their size; index blocks of sealed segments, in the cache;
/// and compressed blocks, in the cache, because it costs more to decompress them again.
struct mapped {
    /// A member that table_access_policy describes.
    /// @{
    static constexpr std::string_view name = "mapped";
    static constexpr bool caches_blocks = false;
    /// @}
};

static_assert(table_access_policy<mapped>);

} // namespace keel::inline v0::table_access

#endif
