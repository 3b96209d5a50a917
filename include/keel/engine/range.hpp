// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_RANGE_HPP
#define KEEL_ENGINE_RANGE_HPP

// Which keys a scan goes over, what it does where some cannot be read, and what it says of those.

#include <keel/error.hpp>
#include <keel/types.hpp>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace keel::inline v0 {

/// Keys from `from` (included) to `to` (not included); without one, from the first or to the last. `reverse`: largest first.
struct range {
    std::optional<std::string> from{};
    std::optional<std::string> to{};
    bool reverse = false;
};

/// Keys that begin with `text`.
struct prefix {
    std::string text{};
    bool reverse = false;

    /// The same as a range: up to the first key that is larger than every key with this prefix.
    [[nodiscard]] range as_range() const {
        range r{.from = text, .to = text, .reverse = reverse};
        while (!r.to->empty() && static_cast<unsigned char>(r.to->back()) == 0xFF) r.to->pop_back();
        if (r.to->empty()) r.to.reset();
        else r.to->back() = static_cast<char>(static_cast<unsigned char>(r.to->back()) + 1);
        return r;
    }
};

/// What a scan does where keys cannot be read.
enum class on_damage : std::uint8_t {
    stop, ///< ends there: it gave all keys up to that place, and status() says why there are no more
    skip, ///< goes on behind it; gaps() says which keys may be missing
};
[[nodiscard]] constexpr std::string_view name_of(on_damage what) noexcept {
    return what == on_damage::stop ? "stop" : "skip";
}

/// Keys that a scan could not give. Every key that is missing from a scan which skips lies in one of its gaps. A key of a gap that the scan
/// gave all the same has the right value: something newer than the damage was found. Of the others nobody knows whether they are there:
/// an older version of them is never given for the current one, and get() answers with the same error.
struct key_gap {
    std::optional<std::string> from{}; ///< the first key that may be missing (included); none: the first of all
    std::optional<std::string> to{};   ///< the first one behind the gap (not included); none: it goes to the end
    std::string file{};                ///< what could not be read,
    std::uint64_t offset = 0;          ///< where in it,
    error why{};                       ///< and why

    [[nodiscard]] bool contains(std::string_view key) const noexcept {
        return (!from || key >= *from) && (!to || key < *to);
    }
};

namespace detail {

/// {from} or {from, to}; none: all keys. Errors: invalid_argument, where there are more.
[[nodiscard]] inline result<range> range_between(std::initializer_list<slice> from_to) {
    if (from_to.size() > 2)
        return failure(errc::invalid_argument,
                       "a scan has two bounds at most, {from, to}; use multi_get() for several keys");
    range out;
    if (from_to.size() > 0) out.from = std::string{from_to.begin()->text()};
    if (from_to.size() > 1) out.to = std::string{from_to.begin()[1].text()};
    return out;
}

/// What a walk over a range has before it when it stands in front of `key`, or on it.
[[nodiscard]] inline range rest_of(range which, std::string_view key) {
    if (which.reverse) {
        std::string behind{key};
        behind += '\0'; // the next key there can be
        if (!which.to || behind < *which.to) which.to = std::move(behind);
    } else if (!which.from || *which.from < key) {
        which.from = key;
    }
    return which;
}

} // namespace detail

} // namespace keel::inline v0

#endif
