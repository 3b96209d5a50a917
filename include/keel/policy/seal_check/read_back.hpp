// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEAL_CHECK_READ_BACK_HPP
#define KEEL_POLICY_SEAL_CHECK_READ_BACK_HPP

#include <keel/policy/seal_check/concept.hpp>

namespace keel::inline v0::seal_check {

/// A segment is read past the page cache and verified right after its seal: headers, frames, index, filter and footer. What does not verify
/// is an event, a line of the corruption log, and a reason for being degraded; nothing is changed. The write that filled the segment returns
/// only after that, close() likewise; nobody else waits. Costs one read of each segment.
struct read_back {
    static constexpr bool reads_sealed_back = true;
};

} // namespace keel::inline v0::seal_check

#endif
