// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEAL_CHECK_CONCEPT_HPP
#define KEEL_POLICY_SEAL_CHECK_CONCEPT_HPP

// The seal-check axis: whether a segment is read back once it is sealed. A medium that damages what is written to it says nothing; without
// this the damage is found by the first read that gets past the page cache, which may be months later.

#include <concepts>

namespace keel::inline v0 {

/// What is done with a segment right after its seal.
///   S::reads_sealed_back   bool   every byte that counts is read past the page cache and verified
/// Used by wal/writer and log.hpp. Smallest model: seal_check::none.
template <class S>
concept seal_check_policy = requires {
    { S::reads_sealed_back } -> std::convertible_to<bool>;
};

} // namespace keel::inline v0

#endif
