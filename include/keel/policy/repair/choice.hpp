// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_CHOICE_HPP
#define KEEL_POLICY_REPAIR_CHOICE_HPP

// The shipped repair policies by a name that is given at run time: an option of open, or a word on a command line.

#include <keel/policy/repair/partial_reconstruct.hpp>
#include <keel/policy/repair/refuse.hpp>
#include <keel/policy/repair/rollback.hpp>
#include <keel/policy/repair/skip_corrupted.hpp>

namespace keel::inline v0 {

/// The shipped policy with this name, as a value.
[[nodiscard]] constexpr repair_choice choice_of(repair_strategy which) noexcept {
    switch (which) {
    case repair_strategy::refuse: return repair_choice::of<repair::refuse>();
    case repair_strategy::rollback: return repair_choice::of<repair::rollback>();
    case repair_strategy::skip_corrupted: return repair_choice::of<repair::skip_corrupted>();
    case repair_strategy::partial_reconstruct: return repair_choice::of<repair::partial_reconstruct>();
    }
    return repair_choice::of<repair::refuse>();
}

} // namespace keel::inline v0

#endif
