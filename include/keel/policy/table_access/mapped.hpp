// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_TABLE_ACCESS_MAPPED_HPP
#define KEEL_POLICY_TABLE_ACCESS_MAPPED_HPP

#include <keel/policy/table_access/concept.hpp>

namespace keel::inline v0::table_access {

/// The page cache is the only cache: each read copies its block out of the file's mapping and verifies the copy. For stores that share
/// a machine's memory with others, or are larger than a cache could be: keel holds the blocks that are being read and no more, and damage is
/// seen by the next read, not by the next one that misses a cache. Costs a copy and a checksum of a block (4 KiB) per read.
///
/// What is still held in memory: filters and indexes of tables, a fiftieth of their size; of the log's sealed segments index blocks, in
/// the cache; packed blocks, in the cache, because unpacking one costs more than keeping it.
struct mapped {
    static constexpr std::string_view name = "mapped";
    static constexpr bool caches_blocks = false;
};

static_assert(table_access_policy<mapped>);

} // namespace keel::inline v0::table_access

#endif
