// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_SEAL_CHECK_NONE_HPP
#define KEEL_POLICY_SEAL_CHECK_NONE_HPP

#include <keel/policy/seal_check/concept.hpp>

/// The models of the seal-check axis.
namespace keel::inline v0::seal_check {

/// The default. A sealed segment is not read back. Damage is found by a later read or by verify().
struct none {
    /// The member that seal_check_policy describes.
    static constexpr bool reads_sealed_back = false;
};

} // namespace keel::inline v0::seal_check

#endif
