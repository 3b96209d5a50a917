// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_COMPACTION_LEVELED_HPP
#define KEEL_POLICY_COMPACTION_LEVELED_HPP

#include <keel/fwd.hpp> // the defaults: 64 MiB and 8
#include <keel/policy/compaction/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>

namespace keel::inline v0::compaction {

/// Once the sealed log is `LogBytes` long it is merged into the first level of tables; each level may be `Fanout` times as large as the
/// one above it before tables of it are merged into the next (O'Neil et al., "The log-structured merge-tree", 1996). After a second
/// without a write what is left of the log is merged, too, where it is a sixteenth of that or more, and not small beside the first
/// level. The default.
template <std::uint64_t LogBytes, std::uint32_t Fanout>
struct leveled {
    static_assert(LogBytes >= 8 * KiB, "keel: compaction::leveled merges 8 KiB of log or more at a time");
    static_assert(Fanout >= 2, "keel: compaction::leveled needs a fanout of 2 or more");
    static constexpr std::string_view name = "leveled";
    static constexpr std::uint64_t log_bytes = LogBytes;
    static constexpr std::uint64_t table_bytes = std::clamp<std::uint64_t>(LogBytes / 4, 4 * KiB, 64 * MiB);
    static constexpr std::uint32_t fanout = Fanout;
};

} // namespace keel::inline v0::compaction

#endif
