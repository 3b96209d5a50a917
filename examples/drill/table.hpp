// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_TABLE_HPP
#define KEEL_EXAMPLES_DRILL_TABLE_HPP

// What a person sees: a progress bar while it runs, a table at the end. Colour and bar only where a terminal shows them.

#include "judge.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

namespace drill {

/// 1234567 -> "1,234,567"
[[nodiscard]] inline std::string grouped(std::uint64_t number) {
    auto const digits = std::to_string(number);
    std::string text;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i != 0 && (digits.size() - i) % 3 == 0) text += ',';
        text += digits[i];
    }
    return text;
}
[[nodiscard]] inline std::string one_decimal(double number, char const* unit) {
    std::array<char, 48> text{};
    std::snprintf(text.data(), text.size(), "%.1f %s", number, unit);
    return text.data();
}
[[nodiscard]] inline std::string mebibytes(double bytes) { return one_decimal(bytes / (1024.0 * 1024.0), "MiB"); }
/// Keys come from file names: nothing in them may speak to the terminal.
[[nodiscard]] inline std::string printable(std::string text) {
    for (auto& c : text)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
    return text;
}

/// A terminal that has not asked to be spared.
[[nodiscard]] inline bool shows(int descriptor) {
    auto const* const kind = std::getenv("TERM");
    return ::isatty(descriptor) == 1 && kind != nullptr && std::string_view{kind} != "dumb";
}
[[nodiscard]] inline bool wants_colour() {
    auto const* const no_colour = std::getenv("NO_COLOR");
    return shows(STDOUT_FILENO) && (no_colour == nullptr || *no_colour == 0);
}

class progress_bar {
public:
    explicit progress_bar(bool wanted) : shown_{wanted && shows(STDERR_FILENO)} {}
    progress_bar(progress_bar const&) = delete;
    progress_bar& operator=(progress_bar const&) = delete;
    ~progress_bar() {
        if (shown_) std::cerr << "\r\033[K" << std::flush;
    }

    void show(std::string const& what, std::uint64_t done, std::uint64_t all) {
        auto const now = all != 0 ? done * width / all : width;
        if (!shown_ || (now == last_ && what == what_)) return;
        last_ = now;
        what_ = what;
        std::cerr << "\r\033[K[" << std::string(now, '#') << std::string(width - now, '.') << "] " << what
                  << std::flush;
    }

private:
    static constexpr std::uint64_t width = 40;
    bool shown_;
    std::uint64_t last_ = width + 1;
    std::string what_{};
};

/// "8734-8741: U+2F81 U+2F82 ... and 6 more"
[[nodiscard]] inline std::string lost_text(row const& r) {
    constexpr std::size_t shown = 4;
    std::string text = "LSN " + r.lost_reported + ", keys";
    for (std::size_t i = 0; i < std::min(shown, r.lost_keys.size()); ++i)
        text += ' ' + printable(r.lost_keys[i].second);
    if (r.lost_keys.size() > shown) text += " and " + grouped(r.lost_keys.size() - shown) + " more";
    return text;
}

[[nodiscard]] inline std::array<std::string, 11> cells_of(row const& r) {
    auto const figure = [&](char const* name) { return r.told.is_object() ? r.told.value(name, 0.0) : 0.0; };
    bool const open = r.told.is_object() && r.told.value("opened", false);
    auto const count = [&](std::uint64_t n) { return open ? grouped(n) : std::string{"-"}; };
    return {r.damage,
            r.policy,
            r.outcome,
            grouped(r.acknowledged),
            count(r.found),
            count(r.healed),
            count(r.lost),
            open ? one_decimal(figure("first_get_us") / 1000.0, "ms") : "-",
            mebibytes(figure("peak_resident_bytes")),
            mebibytes(figure("peak_heap_bytes")),
            r.complaints.empty() ? "yes" : "NO"};
}

inline void print_line(std::array<std::string, 11> const& cells, std::array<std::size_t, 11> const& widths,
                       char const* paint) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
        std::string const gap(widths[i] - cells[i].size(), ' ');
        bool const is_text = i < 3 || i == 10;
        line += is_text ? cells[i] + gap : gap + cells[i];
        line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::cout << paint << line << (*paint != 0 ? "\033[0m" : "") << '\n';
}

/// The table, then what was lost in each row, then what was not as expected.
inline void print_table(std::vector<row> const& rows) {
    bool const colour = wants_colour();
    std::vector<std::array<std::string, 11>> lines{{"damage", "repair policy", "store", "acknowledged", "found",
                                                    "healed", "lost", "first get", "peak RSS", "peak heap",
                                                    "as expected"}};
    for (auto const& r : rows) lines.push_back(cells_of(r));
    std::array<std::size_t, 11> widths{};
    for (auto const& line : lines)
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    print_line(lines[0], widths, colour ? "\033[1m" : "");
    for (std::size_t i = 0; i < rows.size(); ++i)
        print_line(lines[i + 1], widths, !colour ? "" : rows[i].complaints.empty() ? "\033[32m" : "\033[31m");
    std::cout << "\nexpected, and lost:\n";
    for (auto const& r : rows) {
        std::cout << "  " << r.damage << ", " << r.policy << ": " << r.expected << '\n';
        if (r.lost != 0) std::cout << "      lost: " << lost_text(r) << '\n';
        for (auto const& c : r.complaints)
            std::cout << (colour ? "\033[31m" : "") << "      NOT AS EXPECTED: " << printable(c)
                      << (colour ? "\033[0m" : "") << '\n';
    }
}

[[nodiscard]] inline nlohmann::json json_of(row const& r) {
    auto lost = nlohmann::json::array();
    for (auto const& [at, key] : r.lost_keys) lost.push_back({{"lsn", at.value}, {"key", key}});
    return {{"damage", r.damage},
            {"repair", r.policy},
            {"outcome", r.outcome},
            {"acknowledged", r.acknowledged},
            {"found", r.found},
            {"healed", r.healed},
            {"lost", r.lost},
            {"lost_keys", lost},
            {"expected", r.expected},
            {"told", r.told},
            {"complaints", r.complaints},
            {"as_expected", r.complaints.empty()}};
}

} // namespace drill

#endif
