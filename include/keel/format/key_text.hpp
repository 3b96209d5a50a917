// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_KEY_TEXT_HPP
#define KEEL_FORMAT_KEY_TEXT_HPP

// Keys and key ranges as text for a person, in findings, receipts and messages.

#include <keel/format/manifest.hpp>
#include <keel/format/text.hpp>
#include <keel/types.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace keel::inline v0::format {

/// The bytes in quotes, with the escapes of a record's text (format/text.hpp).
[[nodiscard]] inline std::string quoted(std::string_view bytes) {
    std::string out;
    detail::append_quoted(out, as_bytes(bytes));
    return out;
}
/// Like quoted(), but of a long key only the first 48 bytes.
[[nodiscard]] inline std::string quoted_key(std::string_view key) {
    constexpr std::size_t shown = 48;
    return quoted(key.substr(0, shown)) + (key.size() > shown ? "..." : "");
}

/// Text of the keys from `from` to before `to`, such as `keys from "a" on and in front of "b"`. Without `from` or `to` that end is open.
/// A range with a single key gives `key "a"`.
[[nodiscard]] inline std::string text_of_keys(std::optional<std::string> const& from,
                                              std::optional<std::string> const& to) {
    if (!from && !to) return "all keys";
    if (!from) return "all keys in front of " + quoted_key(*to);
    if (!to) return "all keys from " + quoted_key(*from) + " on";
    bool const ends_in_key = !to->empty() && to->back() == '\0';
    auto const last = std::string_view{*to}.substr(0, to->size() - (ends_in_key ? 1 : 0));
    if (ends_in_key && last == *from) return "key " + quoted_key(*from);
    return "keys from " + quoted_key(*from) + (ends_in_key ? " to " : " on and in front of ") + quoted_key(last);
}

/// Text of the key range that a table may hold.
[[nodiscard]] inline std::string text_of_keys(table_entry const& t) {
    if (t.smallest == t.largest && !t.ends_open) return "key " + quoted_key(t.smallest);
    return "keys from " + quoted_key(t.smallest) + " to " + quoted_key(t.largest) +
           (t.ends_open ? " and what begins with it" : "");
}

} // namespace keel::inline v0::format

#endif
