// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_CONCEPT_HPP
#define KEEL_POLICY_REPAIR_CONCEPT_HPP

// The repair axis: what is done about acknowledged records that no valid copy is left of. What can be healed is healed first,
// whatever the policy; a torn tail is cut without asking.

#include <keel/policy/repair/finding.hpp>

#include <concepts>
#include <optional>
#include <string_view>

namespace keel::inline v0 {

/// What to do about records that are lost. Of several decisions the gravest wins: refuse, then roll_back.
enum class decision : std::uint8_t {
    declare_lost, ///< keep all others, note the LSNs as lost
    roll_back,    ///< back to the last LSN before the first lost one
    refuse,       ///< change nothing, do not open
};

[[nodiscard]] constexpr std::string_view name_of(decision what) noexcept {
    switch (what) {
    case decision::declare_lost: return "declare_lost";
    case decision::roll_back: return "roll_back";
    case decision::refuse: return "refuse";
    }
    return "unknown";
}

/// Turns a finding that costs acknowledged records into a decision; never opens a file.
///   R::name               std::string_view   for people and JSON: "rollback"
///   R::rebuilds           bool               ask the redundancy policy first
///   R::decide(finding)    decision           pure, never throws
/// Used by recovery/plan. Smallest model: refuse (refuse.hpp).
template <class R>
concept repair_policy = requires(finding const& what) {
    { R::name } -> std::convertible_to<std::string_view>;
    { R::rebuilds } -> std::convertible_to<bool>;
    { R::decide(what) } noexcept -> std::same_as<decision>;
};

/// The shipped policies by name, for choosing one when opening or on a command line.
enum class repair_strategy : std::uint8_t { refuse, rollback, skip_corrupted, partial_reconstruct };

[[nodiscard]] constexpr std::string_view name_of(repair_strategy which) noexcept {
    switch (which) {
    case repair_strategy::refuse: return "refuse";
    case repair_strategy::rollback: return "rollback";
    case repair_strategy::skip_corrupted: return "skip_corrupted";
    case repair_strategy::partial_reconstruct: return "partial_reconstruct";
    }
    return "unknown";
}

/// A repair policy as a value: from its type, or from a strategy named at run time.
struct repair_choice {
    std::string_view name;
    bool rebuilds = false;
    decision (*decide)(finding const&) noexcept = nullptr;

    template <repair_policy R>
    [[nodiscard]] static constexpr repair_choice of() noexcept {
        return {R::name, R::rebuilds, [](finding const& what) noexcept { return R::decide(what); }};
    }
};

} // namespace keel::inline v0

#endif
