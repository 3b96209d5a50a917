// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_ENTRY_HPP
#define KEEL_TABLE_ENTRY_HPP

// One version of one key, as everything in memory and every run hands it out.

#include <keel/types.hpp>

#include <string_view>

namespace keel::inline v0::table {

struct version {
    std::string_view key{};
    std::string_view value{};
    lsn at{};
    bool tombstone = false;
};

} // namespace keel::inline v0::table

#endif
