// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_DAMAGED_RANGE_HPP
#define KEEL_TABLE_DAMAGED_RANGE_HPP

// What is known about versions that cannot be read: between which keys they lie, and between which LSNs. The bounds come from bytes that
// verify (an index, the blocks beside the damaged one). So a range may be wider than the damage, but never narrower.

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
/// The smallest key that is larger than every key beginning with `text`; std::nullopt if there is none.
[[nodiscard]] inline std::optional<std::string> key_after_prefix(std::string_view text) {
    std::string out{text};
    while (!out.empty() && static_cast<unsigned char>(out.back()) == 0xFF) out.pop_back();
    if (out.empty()) return std::nullopt;
    out.back() = static_cast<char>(static_cast<unsigned char>(out.back()) + 1);
    return out;
}

/// The keys and LSNs that unreadable versions may have.
struct damaged_range {
    std::optional<std::string> from{}; ///< first key that may be affected; nullopt: no lower bound
    std::optional<std::string> to{};   ///< first key behind the range; nullopt: no upper bound
    lsn_range lsns{};                  ///< LSNs that the versions may have
    /// Length of the key, in bytes, if the range is one record whose frame header verifies.
    std::optional<std::size_t> key_bytes{};
    bool is_batch = false; ///< that record is a whole batch
    error why{};           ///< the reason, with file and offset

    /// Whether a version of this key may be in the range.
    [[nodiscard]] bool may_hold(std::string_view key) const noexcept {
        return (!from || key >= *from) && (!to || key < *to) && (!key_bytes || *key_bytes == key.size());
    }
    /// Whether `from` is the only key that can be in the range.
    [[nodiscard]] bool is_one_key() const noexcept {
        return from && to && to->size() == from->size() + 1 && to->back() == '\0' && to->starts_with(*from);
    }
    [[nodiscard]] bool empty() const noexcept { return from && to && *from >= *to; }
    /// Restricts the range to keys from `first` on and in front of `end`. std::nullopt changes nothing.
    void cut_to(std::optional<std::string> const& first, std::optional<std::string> const& end) {
        if (first && (!from || *from < *first)) from = first;
        if (end && (!to || *to > *end)) to = end;
    }
};

} // namespace keel::inline v0::table

#endif
