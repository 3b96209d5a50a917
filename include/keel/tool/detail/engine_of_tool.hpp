// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_ENGINE_OF_TOOL_HPP
#define KEEL_TOOL_DETAIL_ENGINE_OF_TOOL_HPP

// The engine that the tool itself opens: one kind of it for all commands, as each costs the compiler as much as the rest of the tool.

#include <keel/config.hpp>
#include <keel/engine.hpp>
#include <keel/policy/durability/os_buffered.hpp>

namespace keel::inline v0::tool::detail {

/// Nothing that a command writes is acknowledged before its end, so nothing is synced before. What the tool does not use is left at its
/// default, so that a store's own checksum gives the same engine wherever it was found.
template <class Config>
using synced_at_the_end = config<typename Config::checksum, typename Config::compression, typename Config::table_access,
                                 typename Config::file_system, typename Config::compaction,
                                 typename Config::size_policy, durability::os_buffered>;
template <class Config>
using engine_of_tool = basic_engine<synced_at_the_end<Config>>;
/// What repairs are written over: the code is that which this engine's opening has, too.
template <class Config>
using repairing = keel::detail::recovering_config<synced_at_the_end<Config>>;

} // namespace keel::inline v0::tool::detail

#endif
