// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_RECOVERY_ATTEMPTS_CONCEPT_HPP
#define KEEL_POLICY_RECOVERY_ATTEMPTS_CONCEPT_HPP

// The recovery-attempts axis: how many opens in a row may die during recovery before the next open refuses, if open_options does not set
// it. A recovery that kills its process would kill it again at each start. The refusal ends that loop and leaves the store unchanged.

#include <concepts>

namespace keel::inline v0 {

/// The default of open_options::max_recovery_attempts.
///
///     A::recovery_attempts_max   unsigned   0: no limit
///
/// Used by recovery/opening.hpp. Smallest model: max_attempts<N> (max_attempts.hpp).
template <class A>
concept recovery_attempts_policy = requires {
    { A::recovery_attempts_max } -> std::convertible_to<unsigned>;
};

} // namespace keel::inline v0

#endif
