// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_KEY_TEXT_HPP
#define KEEL_FORMAT_KEY_TEXT_HPP

// Keys and stretches of keys as a person reads them: in findings, receipts and messages.

#include <keel/format/manifest.hpp>
#include <keel/format/text.hpp>
#include <keel/types.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace keel::inline v0::format {

/// In quotes, as in a record's text.
[[nodiscard]] inline std::string quoted(std::string_view bytes) {
    std::string out;
    detail::append_quoted(out, as_bytes(bytes));
    return out;
}
/// The same; the end of a long one is left out.
[[nodiscard]] inline std::string quoted_key(std::string_view key) {
    constexpr std::size_t shown = 48;
    return quoted(key.substr(0, shown)) + (key.size() > shown ? "..." : "");
}

/// `keys from "a" on and in front of "b"`; a single key, and ends that are open, by their names.
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

/// Those that a table may have.
[[nodiscard]] inline std::string text_of_keys(table_entry const& t) {
    if (t.smallest == t.largest && !t.ends_open) return "key " + quoted_key(t.smallest);
    return "keys from " + quoted_key(t.smallest) + " to " + quoted_key(t.largest) +
           (t.ends_open ? " and what begins with it" : "");
}

} // namespace keel::inline v0::format

#endif
