// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_ENTRY_HPP
#define KEEL_TABLE_ENTRY_HPP

// One version of one key, as tables and cursors speak of it, and the order of keys: bytewise.

#include <keel/types.hpp>

#include <cstring>
#include <string_view>

namespace keel::inline v0::table {

/// A version: a value, or a tombstone. The views live as long as the table they come from.
struct version {
    std::string_view key{};
    std::string_view value{};
    lsn at{};
    bool tombstone = false;
};

/// The first eight bytes of a key as a number that orders like the key; shorter keys are filled with zeros.
[[nodiscard]] inline std::uint64_t key_prefix(std::string_view key) noexcept {
    unsigned char bytes[8] = {};
    if (!key.empty()) std::memcpy(bytes, key.data(), key.size() < 8 ? key.size() : 8);
    std::uint64_t out = 0;
    for (unsigned char const b : bytes) out = out << 8 | b;
    return out;
}

} // namespace keel::inline v0::table

#endif
