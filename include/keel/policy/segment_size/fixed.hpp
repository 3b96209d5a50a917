// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEGMENT_SIZE_FIXED_HPP
#define KEEL_POLICY_SEGMENT_SIZE_FIXED_HPP

#include <keel/policy/segment_size/concept.hpp>

namespace keel::inline v0 {

/// Segments of exactly `Bytes` bytes: `segment_size<16 * keel::MiB>`.
template <std::uint64_t Bytes>
struct segment_size {
    static_assert(Bytes >= 4 * KiB && Bytes <= 2 * GiB && Bytes % (4 * KiB) == 0,
                  "keel: segment_size<N> takes 4 KiB to 2 GiB, in steps of 4 KiB");
    /// The member that segment_size_policy describes.
    static constexpr std::uint64_t segment_bytes = Bytes;
};

} // namespace keel::inline v0

#endif
