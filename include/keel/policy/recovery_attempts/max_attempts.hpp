// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_RECOVERY_ATTEMPTS_MAX_ATTEMPTS_HPP
#define KEEL_POLICY_RECOVERY_ATTEMPTS_MAX_ATTEMPTS_HPP

#include <keel/policy/recovery_attempts/concept.hpp>

namespace keel::inline v0 {

/// An open refuses if the last `Attempts` opens all died during recovery. 0: no limit.
template <unsigned Attempts>
struct max_attempts {
    /// The member that recovery_attempts_policy describes.
    static constexpr unsigned recovery_attempts_max = Attempts;
};

} // namespace keel::inline v0

#endif
