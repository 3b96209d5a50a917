// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_HEX_HPP
#define KEEL_DETAIL_HEX_HPP

// Hexadecimal digits, in lower case: names of files, sums in JSON, bytes that are no text.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace keel::inline v0::detail {

inline constexpr std::string_view hex_digits = "0123456789abcdef";

/// The value of a digit. 16 or more: it is no hexadecimal digit in lower case.
[[nodiscard]] constexpr std::size_t hex_value(char digit) noexcept { return hex_digits.find(digit); }

/// Adds the two digits of a byte.
inline void append_hex(std::string& to, unsigned char byte) {
    to += hex_digits[byte >> 4];
    to += hex_digits[byte & 15];
}
/// Two digits for each byte.
[[nodiscard]] inline std::string hex_of(std::span<std::byte const> bytes) {
    std::string text;
    text.reserve(2 * bytes.size());
    for (auto const b : bytes) append_hex(text, static_cast<unsigned char>(b));
    return text;
}
/// 16 digits, with leading zeros.
[[nodiscard]] inline std::string hex_of(std::uint64_t value) {
    std::string text(16, '0');
    for (auto digit = text.rbegin(); value != 0; ++digit, value >>= 4) *digit = hex_digits[value & 15];
    return text;
}

} // namespace keel::inline v0::detail

#endif
