// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_DAMAGED_RANGE_HPP
#define KEEL_TABLE_DAMAGED_RANGE_HPP

// What is known about versions that cannot be read: between which keys they lie, how old and how new they may be. The bounds come from
// bytes that verify (an index, the blocks beside the damaged one), so they may be wider than what was there, never narrower.

#include <keel/error.hpp>
#include <keel/types.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace keel::inline v0::table {

/// The smallest key that is larger than `key`.
[[nodiscard]] inline std::string key_after(std::string_view key) {
    std::string out{key};
    out += '\0';
    return out;
}
/// The smallest key that is larger than all that begin with `text`; nothing where there is none.
[[nodiscard]] inline std::optional<std::string> key_after_prefix(std::string_view text) {
    std::string out{text};
    while (!out.empty() && static_cast<unsigned char>(out.back()) == 0xFF) out.pop_back();
    if (out.empty()) return std::nullopt;
    out.back() = static_cast<char>(static_cast<unsigned char>(out.back()) + 1);
    return out;
}

struct damaged_range {
    std::optional<std::string> from{};      ///< the first key that may be concerned; none: the first of all
    std::optional<std::string> to{};        ///< the first key behind it that is not; none: all up to the last are
    lsn_range lsns{};                       ///< of the versions that may be in it
    std::optional<std::size_t> key_bytes{}; ///< how long the key is, where it is one record whose header is believed
    bool is_batch = false;                  ///< that record is a batch by itself
    error why{};                            ///< with the file, and where in it

    /// Whether a version of this key may be in it.
    [[nodiscard]] bool may_hold(std::string_view key) const noexcept {
        return (!from || key >= *from) && (!to || key < *to) && (!key_bytes || *key_bytes == key.size());
    }
    /// Whether no other key than `from` can be in it.
    [[nodiscard]] bool is_one_key() const noexcept {
        return from && to && to->size() == from->size() + 1 && to->back() == '\0' && to->starts_with(*from);
    }
    [[nodiscard]] bool empty() const noexcept { return from && to && *from >= *to; }
    /// Forgets what lies in front of `first`, and from `end` on.
    void cut_to(std::optional<std::string> const& first, std::optional<std::string> const& end) {
        if (first && (!from || *from < *first)) from = first;
        if (end && (!to || *to > *end)) to = end;
    }
};

} // namespace keel::inline v0::table

#endif
