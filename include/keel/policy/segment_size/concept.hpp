// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEGMENT_SIZE_CONCEPT_HPP
#define KEEL_POLICY_SEGMENT_SIZE_CONCEPT_HPP

// The segment-size axis: how long the log's files are. Each file says its own length, so a store may be reopened with another.

#include <keel/types.hpp>

#include <concepts>
#include <cstdint>

namespace keel::inline v0 {

/// How long a new segment is.
///   S::segment_bytes   std::uint64_t   4 KiB to 2 GiB, a multiple of 4 KiB; a record, and a whole batch, fits one segment
/// Smallest model: segment_size<N> (fixed.hpp).
template <class S>
concept segment_size_policy = requires {
    { S::segment_bytes } -> std::convertible_to<std::uint64_t>;
};

} // namespace keel::inline v0

#endif
