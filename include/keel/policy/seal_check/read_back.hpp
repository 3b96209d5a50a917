// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEAL_CHECK_READ_BACK_HPP
#define KEEL_POLICY_SEAL_CHECK_READ_BACK_HPP

#include <keel/policy/seal_check/concept.hpp>

namespace keel::inline v0::seal_check {

/// Reads a segment past the page cache right after its seal, and verifies headers, frames, index, filter and footer. Damage is an event
/// and a line in the corruption log, and makes the store degraded. Nothing is changed. The write that filled the segment returns only
/// after the check, and so does close(). No other call waits. The check costs one read of each segment.
struct read_back {
    /// The member that seal_check_policy describes.
    static constexpr bool reads_sealed_back = true;
};

} // namespace keel::inline v0::seal_check

#endif
