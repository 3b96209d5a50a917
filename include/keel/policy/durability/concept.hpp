// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_DURABILITY_CONCEPT_HPP
#define KEEL_POLICY_DURABILITY_CONCEPT_HPP

// The durability axis: which failures a write survives once its call has returned.
//   policy        path      a write returns, and readers see it, when   killed process   power loss
//   every_write   written   its own sync returned                       survives         survives
//   group_commit  written   a sync shared with other writes returned    survives         survives
//   interval<ms>  mapped    it is stored, with every LSN before it      survives         a prefix survives: at least up to the last sync
//   os_buffered   mapped    it is stored, with every LSN before it      survives         the same; only sync(), roll-over and close() sync

#include <concepts>
#include <cstdint>
#include <string_view>

namespace keel::inline v0 {

/// How records get into a segment. `written`: pwrite and fdatasync from private memory. `mapped`: stores into the shared mapping of the
/// preallocated segment, and pwrite to the same file for large batches, without a sync.
enum class write_path : std::uint8_t { written, mapped };

/// The path's name in JSON.
[[nodiscard]] constexpr std::string_view name_of(write_path path) noexcept {
    return path == write_path::mapped ? "mapped" : "written";
}

/// Which failures a write survives once its call has returned.
///
///     D::name              std::string_view  for people and JSON
///     D::path              write_path        how records get into a segment
///     D::shares_syncs      bool              written path: concurrent writers share one fdatasync
///     D::gather_us         std::uint32_t     written path: the longest time, in microseconds, that a leader waits for its group to have
///                                            as many writers as the group before it
///     D::sync_interval_ms  std::uint32_t     mapped path: the longest time, in milliseconds, between two syncs while writes go on; 0:
///                                            only sync(), roll-over and close() sync
///
/// Used by wal/ only. Smallest model: every_write (every_write.hpp).
template <class D>
concept durability_policy = requires {
    { D::name } -> std::convertible_to<std::string_view>;
    { D::path } -> std::convertible_to<write_path>;
    { D::shares_syncs } -> std::convertible_to<bool>;
    { D::gather_us } -> std::convertible_to<std::uint32_t>;
    { D::sync_interval_ms } -> std::convertible_to<std::uint32_t>;
};

} // namespace keel::inline v0

#endif
