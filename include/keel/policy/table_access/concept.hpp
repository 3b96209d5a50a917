// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_TABLE_ACCESS_CONCEPT_HPP
#define KEEL_POLICY_TABLE_ACCESS_CONCEPT_HPP

// The table-access axis: where a look-up or a walk finds the blocks of a table. It changes no byte on the disk.

#include <concepts>
#include <string_view>
#include <type_traits>

namespace keel::inline v0 {

/// How the blocks of records of a table come to their readers. Either way a block is verified before a byte of it is handed out.
///   A::name            std::string_view  for people and JSON
///   A::caches_blocks   bool              a constant. True: a block that was verified stays in the block cache
///                                        (open_options::cache_bytes) for the readers after this one. False: each reader copies it
///                                        from the file's mapping into memory of its own and verifies the copy
/// Packed blocks (the compression axis) go through the cache in any case. Used by table/sstable_reader.hpp only. Smallest model: mapped
/// (mapped.hpp).
template <class A>
concept table_access_policy = requires {
    { A::name } -> std::convertible_to<std::string_view>;
    { A::caches_blocks } -> std::convertible_to<bool>;
    typename std::bool_constant<A::caches_blocks>;
};

} // namespace keel::inline v0

#endif
