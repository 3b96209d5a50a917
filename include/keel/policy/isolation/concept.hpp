// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_ISOLATION_CONCEPT_HPP
#define KEEL_POLICY_ISOLATION_CONCEPT_HPP

// The isolation axis: which anomalies a transaction is protected from. Terms after A. Adya, "Weak consistency: a generalized theory and
// optimistic implementations for distributed transactions", MIT 1999.

#include <concepts>

namespace keel::inline v0 {

/// The check of a commit. Under every policy a commit fails if another transaction has written one of its keys since it began.
///
///     I::validates_reads   bool   whether a commit also fails if a key or range that the transaction read was written since it began
///
/// Smallest model: isolation::snapshot.
template <class I>
concept isolation_policy = requires {
    { I::validates_reads } -> std::convertible_to<bool>;
};

} // namespace keel::inline v0

#endif
