// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_CONSOLE_HPP
#define KEEL_TOOL_DETAIL_CONSOLE_HPP

// The tool's output. On a terminal it has colours and is wrapped at the terminal's width. Elsewhere it is plain text in whole lines.

#include <keel/error.hpp>
#include <keel/options.hpp>
#include <keel/tool/detail/wrap.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::tool {

/// The abilities of the two output streams. The defaults are those of a file or a pipe.
struct terminal {
    bool colour = false;       ///< `out` shows ANSI colours
    bool progress = false;     ///< `err` shows a progress line, which is overwritten as the work goes on
    std::size_t width = 0;     ///< columns of `out`: text for people is wrapped there; 0: lines stay whole
    std::size_t err_width = 0; ///< columns of `err`
};

namespace detail {

enum class style : std::uint8_t { plain, bold, grey, red, yellow, green, blue };

struct console {
    std::ostream& out;
    std::ostream& err;
    terminal look;

    /// The text with the escape sequences of a style; without colours, the text itself.
    [[nodiscard]] std::string paint(style how, std::string_view text) const {
        constexpr std::array<std::string_view, 7> codes{"", "1", "90", "1;31", "33", "32", "34"};
        if (!look.colour || how == style::plain) return std::string{text};
        return "\x1b[" + std::string{codes[static_cast<std::size_t>(how)]} + "m" + std::string{text} + "\x1b[0m";
    }
};

/// Whether the streams took everything that was printed.
[[nodiscard]] inline result<void> is_written(console& to) {
    to.out.flush();
    if (to.out) return {};
    return failure(errc::io_error, "the output could not be written; is there room where it goes?");
}

/// Replaces control characters. File names come from disks that others have written, and must not control a terminal.
[[nodiscard]] inline std::string printable(std::string_view text) {
    std::string safe;
    for (std::size_t i = 0; i < text.size(); ++i) {
        auto const code = static_cast<unsigned char>(text[i]);
        bool const next_is_control = i + 1 < text.size() && (static_cast<unsigned char>(text[i + 1]) & 0xE0U) == 0x80U;
        if (code >= 0x20 && code != 0x7F && !(code == 0xC2 && next_is_control)) {
            safe += text[i];
            continue;
        }
        std::array<char, 5> escaped{};
        std::snprintf(escaped.data(), escaped.size(), "\\x%02x", static_cast<unsigned>(code));
        safe += escaped.data();
    }
    return safe;
}

/// "12,345"
[[nodiscard]] inline std::string grouped(std::uint64_t value) {
    auto digits = std::to_string(value);
    for (auto at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
    return digits;
}

/// "512 bytes", "16.0 MiB"
[[nodiscard]] inline std::string human_bytes(std::uint64_t bytes) {
    if (bytes < 1024) return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
    constexpr std::array<char const*, 6> units{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    auto value = static_cast<double>(bytes) / 1024;
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f %s", value, units[unit]);
    return text.data();
}

/// "3 records", "1 record"
[[nodiscard]] inline std::string counted(std::uint64_t count, std::string_view one) {
    return grouped(count) + ' ' + std::string{one} + (count == 1 ? "" : "s");
}

[[nodiscard]] inline std::string text_of(lsn_range const& r) {
    if (r.empty()) return "-";
    if (r.last == lsn_max) return std::to_string(r.first.value) + "-";
    return std::to_string(r.first.value) + (r.size() == 1 ? "" : "-" + std::to_string(r.last.value));
}

/// The first few ranges, with commas between them.
[[nodiscard]] inline std::string text_of(std::vector<lsn_range> const& ranges) {
    constexpr std::size_t shown = 8;
    std::string text;
    for (std::size_t i = 0; i < ranges.size() && i < shown; ++i)
        text += (text.empty() ? "" : ", ") + text_of(ranges[i]);
    if (ranges.size() > shown) text += " and " + grouped(ranges.size() - shown) + " more";
    return text;
}

/// A table with a heading. A column is as wide as its widest cell. The last column is not padded. If a row is wider than the terminal,
/// the last cell of each row is printed below its row.
class text_table {
public:
    explicit text_table(std::vector<std::string> heading) { add(std::move(heading)); }

    void add(std::vector<std::string> row) {
        widths_.resize(std::max(widths_.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) widths_[i] = std::max(widths_[i], row[i].size());
        rows_.push_back(std::move(row));
    }
    void print(console const& to) const {
        std::size_t widest = 0;
        for (auto const w : widths_) widest += w + 2;
        bool const last_below = to.look.width != 0 && widest > to.look.width;
        for (std::size_t r = 0; r < rows_.size(); ++r) {
            std::string line = "  ";
            for (std::size_t i = 0; i < rows_[r].size(); ++i) {
                bool const is_last = i + 1 == rows_[r].size();
                if (is_last && last_below) line = without_blanks_behind(line) + "\n      ";
                line += rows_[r][i];
                if (!is_last) line.append(widths_[i] - rows_[r][i].size() + 2, ' ');
            }
            to.out << (r == 0 ? to.paint(style::bold, line) : line) << '\n';
        }
    }

private:
    [[nodiscard]] static std::string without_blanks_behind(std::string_view line) {
        return std::string{line.substr(0, line.find_last_not_of(' ') + 1)};
    }

    std::vector<std::vector<std::string>> rows_{};
    std::vector<std::size_t> widths_{};
};

/// One line on `err` with the progress of a scan or a load. The destructor removes it.
class progress_line {
public:
    explicit progress_line(console const& to) noexcept : to_{to} {}
    progress_line(progress_line const&) = delete;
    progress_line& operator=(progress_line const&) = delete;
    ~progress_line() {
        if (shown_) to_.err << "\r\x1b[K" << std::flush;
    }
    void show(recovery_progress const& p) {
        // Work that ends within 0.2 s shows no line, because it would only flicker.
        if (!to_.look.progress || p.bytes == 0 || p.elapsed < std::chrono::milliseconds(200)) return;
        shown_ = true;
        auto text = std::string{name_of(p.phase)} + ": " + std::to_string(p.segments_done) + " of " +
                    counted(p.segments, "segment") + ", " + human_bytes(p.bytes_done) + " of " + human_bytes(p.bytes);
        auto const seconds = std::chrono::duration_cast<std::chrono::seconds>(p.left).count();
        if (seconds > 0) text += ", about " + std::to_string(seconds) + " s left";
        // A line that the terminal wraps could not be removed again.
        if (to_.look.err_width > 1 && text.size() >= to_.look.err_width) text.resize(to_.look.err_width - 1);
        to_.err << "\r\x1b[K" << text << std::flush;
    }
    void show_loaded(std::uint64_t records) {
        if (!to_.look.progress) return;
        shown_ = true;
        to_.err << "\r\x1b[Kload: " << counted(records, "record") << std::flush;
    }

private:
    console const& to_;
    bool shown_ = false;
};

} // namespace detail

} // namespace keel::inline v0::tool

#endif
