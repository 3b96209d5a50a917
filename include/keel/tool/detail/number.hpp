// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_NUMBER_HPP
#define KEEL_TOOL_DETAIL_NUMBER_HPP

// Numbers as people write them: 17, 1,000 as the tool prints them, 20k, 64KiB.
//
//   B                                   1
//   k K kB KB, M MB, G GB, T TB         thousands: 1000, 1000^2 ...
//   Ki KiB, Mi MiB, Gi GiB, Ti TiB      1024, 1024^2 ...

#include <keel/error.hpp>

#include <array>
#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>

namespace keel::inline v0::tool::detail {

/// The factor of a unit; 0 if there is no such unit.
[[nodiscard]] inline std::uint64_t factor_of_unit(std::string_view unit) noexcept {
    if (unit.empty() || unit == "B") return 1;
    constexpr std::string_view letters = "KMGT";
    auto const first = unit.front() == 'k' ? 'K' : unit.front();
    auto const power = letters.find(first);
    if (power == std::string_view::npos) return 0;
    auto const rest = unit.substr(1);
    bool const binary = rest == "i" || rest == "iB";
    if (!binary && !rest.empty() && rest != "B") return 0;
    std::uint64_t factor = 1;
    for (std::size_t i = 0; i <= power; ++i) factor *= binary ? 1024 : 1000;
    return factor;
}

/// The digits without the commas between groups of three; empty if a comma is in another place.
[[nodiscard]] inline std::string without_commas(std::string_view digits) {
    auto const first = digits.find(',');
    if (first == std::string_view::npos) return std::string{digits};
    if (first > 3) return {};
    std::string out;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        bool const comma = i != 0 && (digits.size() - i) % 4 == 0;
        if (comma != (digits[i] == ',')) return {};
        if (!comma) out += digits[i];
    }
    return out;
}

/// The value of a number with or without a unit. Errors: invalid_argument; the message has the text.
[[nodiscard]] inline result<std::uint64_t> parse_number(std::string_view text) {
    constexpr auto most = std::numeric_limits<std::uint64_t>::max();
    auto const quoted = "'" + std::string{text} + "'";
    auto const no = [](std::string why) { return failure(errc::invalid_argument, std::move(why)); };
    if (text.starts_with('-')) return no(quoted + " is negative; give a number from 0 on");
    auto const end = text.find_first_not_of("0123456789,");
    auto const digits = without_commas(text.substr(0, end));
    auto unit = end == std::string_view::npos ? std::string_view{} : text.substr(end);
    if (unit.starts_with(' ')) unit.remove_prefix(1);
    if (digits.empty() || unit.starts_with('.'))
        return no(quoted + " is not a whole number; give one like 17, 1,000 or 64KiB");
    std::uint64_t value = 0;
    auto const [stop, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    auto const factor = factor_of_unit(unit);
    if (factor == 0)
        return no("'" + std::string{unit} + "' in " + quoted +
                  " is no unit; there are B, k, M, G, T (thousands) and KiB, MiB, GiB, TiB (1024s)");
    if (failed != std::errc{} || value > most / factor) return no(quoted + " is too large; the largest is 2^64 - 1");
    return value * factor;
}

} // namespace keel::inline v0::tool::detail

#endif
