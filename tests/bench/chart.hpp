// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_BENCH_CHART_HPP
#define KEEL_BENCH_CHART_HPP

// A run's figures as a picture: for each of them one bar a peer, as long as it is good, the best one full. SVG, readable without
// anything else, in light and dark surroundings.

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

/// One figure of all peers.
struct chart_row {
    std::string title{};
    std::string unit{};
    bool larger_is_better = true;
    std::vector<std::pair<std::string, double>> values{}; ///< peer and its value
};

namespace detail {

[[nodiscard]] inline std::string escaped(std::string_view text) {
    std::string out;
    for (char const c : text) {
        if (c == '<') out += "&lt;";
        else if (c == '&') out += "&amp;";
        else out += c;
    }
    return out;
}

[[nodiscard]] inline std::string short_number(double value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), value >= 1e5 ? "%.3g" : value >= 100 ? "%.0f" : "%.3g", value);
    return text.data();
}

} // namespace detail

[[nodiscard]] inline std::string svg_of(std::vector<chart_row> const& rows, std::string_view note) {
    constexpr int left = 220;
    constexpr int width = 420;
    constexpr int bar = 14;
    constexpr int gap = 14;
    static constexpr std::array<char const*, 8> colours{"#0072b2", "#e69f00", "#009e73", "#cc79a7",
                                                        "#56b4e9", "#d55e00", "#999999", "#b0a030"};
    std::map<std::string, std::size_t> colour_of;
    for (auto const& r : rows)
        for (auto const& [peer, value] : r.values) colour_of.emplace(peer, 0);
    std::size_t next = 1;
    for (auto& [peer, colour] : colour_of) colour = peer == "keel" ? 0 : next++ % colours.size();
    std::string body;
    auto const text = [&](int x, int y, std::string_view anchor, std::string_view extra, std::string const& what) {
        body += "<text x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(y) + "\" text-anchor=\"" +
                std::string{anchor} + "\" " + std::string{extra} + ">" + detail::escaped(what) + "</text>\n";
    };
    int y = 24;
    text(8, y, "start", "font-size=\"11\" fill=\"#888\"", std::string{note});
    y += 22;
    for (auto const& r : rows) {
        double best = 0;
        for (auto const& [peer, value] : r.values) {
            bool const better = best == 0 || (r.larger_is_better ? value > best : value < best);
            if (value > 0 && better) best = value;
        }
        text(8, y, "start", "font-weight=\"bold\"",
             r.title + ", " + r.unit + (r.larger_is_better ? "" : " (less is better)"));
        y += 8;
        for (auto const& [peer, value] : r.values) {
            auto const share = value <= 0 ? 0 : r.larger_is_better ? value / best : best / value;
            auto const length = std::max(1, static_cast<int>(share * width));
            text(left - 8, y + bar - 3, "end", peer == "keel" ? "font-weight=\"bold\"" : "", peer);
            body += "<rect x=\"" + std::to_string(left) + "\" y=\"" + std::to_string(y) + "\" width=\"" +
                    std::to_string(length) + "\" height=\"" + std::to_string(bar - 2) + "\" fill=\"" +
                    colours[colour_of[peer]] + "\"/>\n";
            text(left + length + 6, y + bar - 3, "start", "", detail::short_number(value));
            y += bar;
        }
        y += gap + 8;
    }
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + std::to_string(left + width + 90) + "\" height=\"" +
           std::to_string(y) +
           "\" font-family=\"sans-serif\" font-size=\"12\">\n<style>text{fill:#222}"
           "@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>\n" +
           body + "</svg>\n";
}

} // namespace bench

#endif
