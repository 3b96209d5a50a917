// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_TABLE_ACCESS_CONCEPT_HPP
#define KEEL_POLICY_TABLE_ACCESS_CONCEPT_HPP

// The table-access axis: where a lookup or a scan gets the blocks of a table. It changes no byte on the disk.

#include <concepts>
#include <string_view>
#include <type_traits>

namespace keel::inline v0 {

/// How readers get the data blocks of a table. Every model verifies a block before it returns a byte of it.
///
///     A::name            std::string_view  for people and JSON
///     A::caches_blocks   bool              a constant. True: a verified block stays in the block cache (open_options::cache_bytes) for
///                                          later readers. False: each reader copies the block from the file's mapping and verifies it
///
/// Compressed blocks are cached under every policy. Used by table/sstable_reader.hpp and engine/version_set.hpp. Smallest model: mapped
/// (mapped.hpp).
template <class A>
concept table_access_policy = requires {
    { A::name } -> std::convertible_to<std::string_view>;
    { A::caches_blocks } -> std::convertible_to<bool>;
    typename std::bool_constant<A::caches_blocks>;
};

} // namespace keel::inline v0

#endif
