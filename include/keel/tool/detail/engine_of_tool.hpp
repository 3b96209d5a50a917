// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_ENGINE_OF_TOOL_HPP
#define KEEL_TOOL_DETAIL_ENGINE_OF_TOOL_HPP

// The engine that the tool itself opens. All commands share one, because each engine costs the compiler as much as the rest of the tool.

#include <keel/config.hpp>
#include <keel/engine.hpp>
#include <keel/policy/durability/os_buffered.hpp>

namespace keel::inline v0::tool::detail {

/// No write of a command is acknowledged before the command ends, so nothing is synced before. Policies that the tool does not use are left
/// out. So a store's own checksum gives the same engine wherever it was found.
template <class Config>
using synced_at_the_end = config<typename Config::checksum, typename Config::compression, typename Config::table_access,
                                 typename Config::file_system, typename Config::compaction,
                                 typename Config::size_policy, durability::os_buffered>;
template <class Config>
using engine_of_tool = basic_engine<synced_at_the_end<Config>>;
/// The configuration of repairs. It is the one that this engine's opening has, so the code is shared.
template <class Config>
using repairing = keel::detail::recovering_config<synced_at_the_end<Config>>;

} // namespace keel::inline v0::tool::detail

#endif
