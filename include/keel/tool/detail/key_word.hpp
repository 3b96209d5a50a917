// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_KEY_WORD_HPP
#define KEEL_TOOL_DETAIL_KEY_WORD_HPP

// Keys and values as words of the command line, in the form of dump and scan without the quotes: \\ is a backslash, \" a quote, \xNN the
// byte with these hexadecimal digits. Every other byte means itself.

#include <keel/error.hpp>

#include <charconv>
#include <string>
#include <string_view>
#include <system_error>

namespace keel::inline v0::tool::detail {

/// The bytes that the word means. `name`: the word's name in an error. Errors: invalid_argument.
[[nodiscard]] inline result<std::string> bytes_of_word(std::string_view word, std::string_view name) {
    std::string out;
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (word[i] != '\\') {
            out += word[i];
            continue;
        }
        auto const rest = word.substr(i + 1);
        if (rest.starts_with('\\') || rest.starts_with('"')) {
            out += rest[0];
            i += 1;
            continue;
        }
        unsigned value = 0;
        bool const shaped = rest.size() >= 3 && rest[0] == 'x';
        auto const* const digits = rest.data() + (shaped ? 1 : 0);
        auto const [stop, failed] = std::from_chars(digits, digits + (shaped ? 2 : 0), value, 16);
        if (!shaped || failed != std::errc{} || stop != digits + 2)
            return failure(errc::invalid_argument,
                           std::string{name} + ": '" + std::string{word.substr(i, 4)} +
                               "' is no escape; write \\\\ for a backslash, \\xNN for the byte with these "
                               "hexadecimal digits");
        out += static_cast<char>(static_cast<unsigned char>(value));
        i += 3;
    }
    return out;
}

} // namespace keel::inline v0::tool::detail

#endif
