// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_STATE_HPP
#define KEEL_STATE_HPP

// The state of a store, and the cause when it is not healthy.

#include <cstdint>
#include <string_view>

namespace keel::inline v0 {

/// What a store can do at present.
enum class engine_state : std::uint8_t {
    healthy, ///< reads and writes
    degraded, ///< reads and writes; but something failed and was survived, or damage was found; state_reason() has the cause
    read_only, ///< reads only; state_reason() has the cause and says whether it passes without help
    failed,    ///< neither; the store must be opened again
    closed,    ///< neither; close() was called, or the object was moved from
};

/// The state's name in JSON, for example "read_only".
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

/// Why a store is degraded or read-only: the first cause, not its consequences.
enum class state_cause : std::uint8_t {
    none,             ///< the store is healthy
    opened_read_only, ///< open_options::read_only is set; resume() does not change it
    no_space,         ///< the disk or a quota was full; the store recovers without help once there is room
    resources,        ///< memory, descriptors or threads were refused; the store recovers without help
    device,           ///< a read, a write or a sync failed on the machine
    identity,         ///< the files under the store's names are not the files it opened
    damage,           ///< bytes do not verify; no acknowledged record is lost
    loss,             ///< acknowledged records were declared lost, and accept_loss() was not called
    unknown_extent,   ///< the number of lost records is not known
    repair,           ///< a repair could not be carried out
    compaction,       ///< a compaction failed; it is tried again
};

/// The cause's name in JSON, for example "no_space".
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
