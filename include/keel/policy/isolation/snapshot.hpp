// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_ISOLATION_SNAPSHOT_HPP
#define KEEL_POLICY_ISOLATION_SNAPSHOT_HPP

#include <keel/policy/isolation/concept.hpp>

/// The models of the isolation axis.
namespace keel::inline v0::isolation {

/// The default. Snapshot isolation, first committer wins: all reads of a transaction come from one moment. If two concurrent transactions
/// write the same key, one of them fails. There are no dirty reads, no lost updates and no read skew. Write skew is possible: two
/// transactions, each of which reads a key that the other one writes, may both commit. After H. Berenson et al., "A critique of ANSI SQL
/// isolation levels", SIGMOD 1995.
struct snapshot {
    /// The member that isolation_policy describes.
    static constexpr bool validates_reads = false;
};

} // namespace keel::inline v0::isolation

#endif
