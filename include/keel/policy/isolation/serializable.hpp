// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_ISOLATION_SERIALIZABLE_HPP
#define KEEL_POLICY_ISOLATION_SERIALIZABLE_HPP

#include <keel/policy/isolation/concept.hpp>

namespace keel::inline v0::isolation {

/// Serializable: the result is the same as if the transactions had run one after the other, in the order of their LSNs. A commit fails if a
/// key or a range that the transaction read was written since it began. After H. Kung and J. Robinson, "On optimistic methods for
/// concurrency control", TODS 6(2), 1981.
struct serializable {
    /// The member that isolation_policy describes.
    static constexpr bool validates_reads = true;
};

} // namespace keel::inline v0::isolation

#endif
