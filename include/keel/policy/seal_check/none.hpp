// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEAL_CHECK_NONE_HPP
#define KEEL_POLICY_SEAL_CHECK_NONE_HPP

#include <keel/policy/seal_check/concept.hpp>

namespace keel::inline v0::seal_check {

/// A sealed segment is not read back: damage is found when it is read, or by verify().
struct none {
    static constexpr bool reads_sealed_back = false;
};

} // namespace keel::inline v0::seal_check

#endif
