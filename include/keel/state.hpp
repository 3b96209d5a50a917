// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_STATE_HPP
#define KEEL_STATE_HPP

// What a store can do right now, and why it is not healthy.

#include <cstdint>
#include <string_view>

namespace keel::inline v0 {

/// What a store can do right now.
enum class engine_state : std::uint8_t {
    healthy,   ///< everything
    degraded,  ///< everything, but something failed and was survived, or damage was found; state_reason() says what
    read_only, ///< reads only; state_reason() says why, and whether it passes by itself
    failed,    ///< nothing: the store must be opened again
    closed,    ///< nothing: close() was called, or the object was moved from
};

[[nodiscard]] constexpr std::string_view name_of(engine_state state) noexcept {
    switch (state) {
    case engine_state::healthy: return "healthy";
    case engine_state::degraded: return "degraded";
    case engine_state::read_only: return "read_only";
    case engine_state::failed: return "failed";
    case engine_state::closed: return "closed";
    }
    return "unknown";
}

/// Why a store is degraded or read-only: the first cause, not what followed from it.
enum class state_cause : std::uint8_t {
    none,             ///< it is healthy
    opened_read_only, ///< open_options::read_only; resume() does not change it
    no_space,         ///< the disk or a quota was full; it passes by itself once there is room
    resources,        ///< memory, descriptors or threads were refused; it passes by itself
    device,           ///< the machine failed a read, a write or a sync
    identity,         ///< the files under the store's names are not the ones it opened
    damage,           ///< bytes do not verify; no acknowledged record is lost
    loss,             ///< acknowledged records were declared lost and nobody has accepted that yet
    unknown_extent,   ///< how much was lost is not known
    repair,           ///< a repair could not be carried out
    compaction,       ///< merging failed; it is tried again
};

/// The cause's name as it stands in JSON, e.g. "no_space".
[[nodiscard]] constexpr std::string_view name_of(state_cause cause) noexcept {
    switch (cause) {
    case state_cause::none: return "none";
    case state_cause::opened_read_only: return "opened_read_only";
    case state_cause::no_space: return "no_space";
    case state_cause::resources: return "resources";
    case state_cause::device: return "device";
    case state_cause::identity: return "identity";
    case state_cause::damage: return "damage";
    case state_cause::loss: return "loss";
    case state_cause::unknown_extent: return "unknown_extent";
    case state_cause::repair: return "repair";
    case state_cause::compaction: return "compaction";
    }
    return "unknown";
}

} // namespace keel::inline v0

#endif
