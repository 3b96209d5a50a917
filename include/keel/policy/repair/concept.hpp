// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_REPAIR_CONCEPT_HPP
#define KEEL_POLICY_REPAIR_CONCEPT_HPP

// The repair axis: what to do about acknowledged records that have no valid copy left. Under every policy, damage that can be healed is
// healed first, and a torn tail is cut.

#include <keel/policy/repair/finding.hpp>

#include <concepts>
#include <optional>
#include <string_view>

namespace keel::inline v0 {

/// What to do about lost records. If several findings lead to different decisions, `refuse` wins, then `roll_back`.
enum class decision : std::uint8_t {
    declare_lost, ///< keep all other records and note the LSNs as lost
    roll_back,    ///< return to the last LSN before the first lost one
    refuse,       ///< change nothing and do not open
};

/// The decision's name in JSON.
[[nodiscard]] constexpr std::string_view name_of(decision what) noexcept {
    switch (what) {
    case decision::declare_lost: return "declare_lost";
    case decision::roll_back: return "roll_back";
    case decision::refuse: return "refuse";
    }
    return "unknown";
}

/// Turns a finding that costs acknowledged records into a decision. It never opens a file.
///
///     R::name               std::string_view   for people and JSON: "rollback"
///     R::rebuilds           bool               whether redundancy should be used before records are given up. There is no
///                                              redundancy axis yet: recovery_report::notice then says that none is configured
///     R::decide(finding)    decision           pure; never throws
///
/// Used by recovery/plan.hpp and engine/engine_body.hpp. Smallest model: refuse (refuse.hpp).
template <class R>
concept repair_policy = requires(finding const& what) {
    { R::name } -> std::convertible_to<std::string_view>;
    { R::rebuilds } -> std::convertible_to<bool>;
    { R::decide(what) } noexcept -> std::same_as<decision>;
};

/// The shipped policies by name, to choose one at open or on a command line. Each enumerator stands for the policy of the same name in
/// keel::repair.
enum class repair_strategy : std::uint8_t { refuse, rollback, skip_corrupted, partial_reconstruct };

/// The policy's name in JSON.
[[nodiscard]] constexpr std::string_view name_of(repair_strategy which) noexcept {
    switch (which) {
    case repair_strategy::refuse: return "refuse";
    case repair_strategy::rollback: return "rollback";
    case repair_strategy::skip_corrupted: return "skip_corrupted";
    case repair_strategy::partial_reconstruct: return "partial_reconstruct";
    }
    return "unknown";
}

/// A repair policy as a value. The members are those of repair_policy.
struct repair_choice {
    std::string_view name; ///< for people and JSON
    bool rebuilds = false; ///< whether redundancy should be used before records are given up
    /// The decision on a finding. Never null in a choice from of().
    decision (*decide)(finding const&) noexcept = nullptr;

    /// The choice that stands for the policy `R`.
    template <repair_policy R>
    [[nodiscard]] static constexpr repair_choice of() noexcept {
        return {R::name, R::rebuilds, [](finding const& what) noexcept { return R::decide(what); }};
    }
};

} // namespace keel::inline v0

#endif
