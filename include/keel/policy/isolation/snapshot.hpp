// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_ISOLATION_SNAPSHOT_HPP
#define KEEL_POLICY_ISOLATION_SNAPSHOT_HPP

#include <keel/policy/isolation/concept.hpp>

namespace keel::inline v0::isolation {

/// Snapshot isolation, first committer wins: reads come from one moment, and of two transactions that write the same key at the same
/// time one fails. No dirty read, no lost update, no read skew. Two that each read what the other one writes may both commit
/// (write skew). After H. Berenson et al., "A critique of ANSI SQL isolation levels", SIGMOD 1995.
struct snapshot {
    static constexpr bool validates_reads = false;
};

} // namespace keel::inline v0::isolation

#endif
