// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_RANGE_HPP
#define KEEL_ENGINE_RANGE_HPP

// The keys that a scan goes over, what the scan does when a key cannot be read, and how it reports such keys.

#include <keel/error.hpp>
#include <keel/types.hpp>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace keel::inline v0 {

/// The keys from `from` (included) to `to` (not included). Without `from` it begins at the first key; without `to` it ends at the last key.
/// `reverse`: the largest key comes first.
struct range {
    std::optional<std::string> from{}; ///< the first key (included); nothing: the first key of all
    std::optional<std::string> to{};   ///< the end of the range (not included); nothing: the end of all keys
    bool reverse = false;              ///< the largest key first
};

/// The keys that begin with `text`.
struct prefix {
    std::string text{};   ///< the prefix; empty: all keys
    bool reverse = false; ///< the largest key first

    /// The same keys as a range. It ends at the first key that is larger than every key with this prefix.
    [[nodiscard]] range as_range() const {
        range r{.from = text, .to = text, .reverse = reverse};
        while (!r.to->empty() && static_cast<unsigned char>(r.to->back()) == 0xFF) r.to->pop_back();
        if (r.to->empty()) r.to.reset();
        else r.to->back() = static_cast<char>(static_cast<unsigned char>(r.to->back()) + 1);
        return r;
    }
};

/// What a scan does when keys cannot be read.
enum class on_damage : std::uint8_t {
    stop, ///< the scan ends there: it has given all keys in front of the damage, and status() says why it ended
    skip, ///< the scan goes on behind the damage; gaps() says which keys may be missing
};
/// "stop" or "skip".
[[nodiscard]] constexpr std::string_view name_of(on_damage what) noexcept {
    return what == on_damage::stop ? "stop" : "skip";
}

/// A range of keys that a scan could not read. If a scan with on_damage::skip misses a key, the key is in one of its gaps. The scan may
/// still give some keys of a gap: their values are right, because a version newer than the damage was found. It is unknown whether the
/// other keys of the gap exist. An old version of such a key is never given as the current one, and get() returns the same error for it.
struct key_gap {
    std::optional<std::string> from{}; ///< the first key that may be missing (included); none: the first of all keys
    std::optional<std::string> to{};   ///< the first key behind the gap (not included); none: the gap has no end
    std::string file{};                ///< the file that could not be read
    std::uint64_t offset = 0;          ///< where in the file, in bytes
    error why{};                       ///< the error of that read

    /// Whether the key is in the gap.
    [[nodiscard]] bool contains(std::string_view key) const noexcept {
        return (!from || key >= *from) && (!to || key < *to);
    }
};

namespace detail {

/// The range of {from} or {from, to}; {} is all keys. Errors: invalid_argument (more than two bounds).
[[nodiscard]] inline result<range> range_between(std::initializer_list<slice> from_to) {
    if (from_to.size() > 2)
        return failure(errc::invalid_argument,
                       "a scan has two bounds at most, {from, to}; use multi_get() for several keys");
    range out;
    if (from_to.size() > 0) out.from = std::string{from_to.begin()->text()};
    if (from_to.size() > 1) out.to = std::string{from_to.begin()[1].text()};
    return out;
}

/// The part of a range that a walk has not given yet, if it seeks `key`. The result includes `key`.
[[nodiscard]] inline range rest_of(range which, std::string_view key) {
    if (which.reverse) {
        std::string behind{key};
        behind += '\0'; // the smallest key larger than `key`
        if (!which.to || behind < *which.to) which.to = std::move(behind);
    } else if (!which.from || *which.from < key) {
        which.from = key;
    }
    return which;
}

} // namespace detail

} // namespace keel::inline v0

#endif
