// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_RECOVERY_ATTEMPTS_MAX_ATTEMPTS_HPP
#define KEEL_POLICY_RECOVERY_ATTEMPTS_MAX_ATTEMPTS_HPP

#include <keel/policy/recovery_attempts/concept.hpp>

namespace keel::inline v0 {

/// After `Attempts` opens in a row that died inside recovery the next one refuses; 0: none does.
template <unsigned Attempts>
struct max_attempts {
    static constexpr unsigned recovery_attempts_max = Attempts;
};

} // namespace keel::inline v0

#endif
