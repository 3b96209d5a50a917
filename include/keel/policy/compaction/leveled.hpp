// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPACTION_LEVELED_HPP
#define KEEL_POLICY_COMPACTION_LEVELED_HPP

#include <keel/fwd.hpp> // has the default arguments: 64 MiB and 8
#include <keel/policy/compaction/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>

/// The models of the compaction axis.
namespace keel::inline v0::compaction {

/// The default. Once the sealed log has `LogBytes` bytes, it is merged into the first level of tables. Each level may be `Fanout` times as
/// large as the level above it before some of its tables are merged into the next one (O'Neil et al., "The log-structured merge-tree",
/// 1996).
///
/// After a second without a write the rest of the log is merged, too, if it has at least a sixteenth of `LogBytes` and is not small
/// compared with the first level.
template <std::uint64_t LogBytes, std::uint32_t Fanout>
struct leveled {
    static_assert(LogBytes >= 8 * KiB, "keel: compaction::leveled merges 8 KiB of log or more at a time");
    static_assert(Fanout >= 2, "keel: compaction::leveled needs a fanout of 2 or more");
    /// A member that compaction_policy describes.
    /// @{
    static constexpr std::string_view name = "leveled";
    static constexpr std::uint64_t log_bytes = LogBytes;
    static constexpr std::uint64_t table_bytes = std::clamp<std::uint64_t>(LogBytes / 4, 4 * KiB, 64 * MiB);
    static constexpr std::uint32_t fanout = Fanout;
    /// @}
};

} // namespace keel::inline v0::compaction

#endif
