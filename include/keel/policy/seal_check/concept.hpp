// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEAL_CHECK_CONCEPT_HPP
#define KEEL_POLICY_SEAL_CHECK_CONCEPT_HPP

// The seal-check axis: whether a segment is read back after its seal. A medium that damages bytes during a write reports no error.
// Without the check, the damage is found by the first read that is not served by the page cache, possibly months later.

#include <concepts>

namespace keel::inline v0 {

/// The check of a segment right after its seal.
///
///     S::reads_sealed_back   bool   whether every byte that counts is read past the page cache and verified
///
/// Used by wal/writer.hpp and engine/store_core.hpp. Smallest model: seal_check::none.
template <class S>
concept seal_check_policy = requires {
    { S::reads_sealed_back } -> std::convertible_to<bool>;
};

} // namespace keel::inline v0

#endif
