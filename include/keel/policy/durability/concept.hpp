// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_DURABILITY_CONCEPT_HPP
#define KEEL_POLICY_DURABILITY_CONCEPT_HPP

// The durability axis: what is on the disk when a write returns.
//   policy        path      a write returns, and readers see it, when   killed process   power loss
//   every_write   written   its own sync returned                       keeps it         keeps it
//   group_commit  written   a sync shared with others returned          keeps it         keeps it
//   interval<ms>  mapped    it is stored, with every LSN before it      keeps it         keeps a prefix with all up to the last sync
//   os_buffered   mapped    the same                                    keeps it         the same; only sync(), roll-over and close sync

#include <concepts>
#include <cstdint>
#include <string_view>

namespace keel::inline v0 {

/// written: pwrite and fdatasync from private memory. mapped: stores into the shared mapping of the preallocated segment,
/// and pwrite to the same file for large batches; no sync.
enum class write_path : std::uint8_t { written, mapped };

[[nodiscard]] constexpr std::string_view name_of(write_path path) noexcept {
    return path == write_path::mapped ? "mapped" : "written";
}

/// What is on the disk when a write returns.
///   D::name              std::string_view  for people and JSON
///   D::path              write_path
///   D::shares_syncs      bool              written path: concurrent writers share one fdatasync
///   D::gather_us         std::uint32_t     written path: how long a leader waits at most for as many writers as the last group had
///   D::sync_interval_ms  std::uint32_t     mapped path: a sync at least this often while writing; 0: only when asked
/// Used by wal/writer only. Smallest model: every_write (every_write.hpp).
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
