// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEGMENT_SIZE_CONCEPT_HPP
#define KEEL_POLICY_SEGMENT_SIZE_CONCEPT_HPP

// The segment-size axis: the length of the log's files. Each file has its length in its header, so a store may be reopened with another
// size.

#include <keel/types.hpp>

#include <concepts>
#include <cstdint>

namespace keel::inline v0 {

/// The length of a new segment.
///
///     S::segment_bytes   std::uint64_t   4 KiB to 2 GiB, a multiple of 4 KiB. A record, and a whole batch, fits one segment
///
/// Smallest model: segment_size<N> (fixed.hpp).
template <class S>
concept segment_size_policy = requires {
    { S::segment_bytes } -> std::convertible_to<std::uint64_t>;
};

} // namespace keel::inline v0

#endif
