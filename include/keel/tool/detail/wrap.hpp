// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_WRAP_HPP
#define KEEL_TOOL_DETAIL_WRAP_HPP

// Wraps lines between words at the width of a terminal. The continuation of a line is indented to the text that it continues: after the
// label, or at the last column of a list, if that leaves half of the width.
//
// Two kinds of lines are not wrapped: commands to be copied ("  wal-recovery ..."), and lines that move the cursor.

#include <cstddef>
#include <ostream>
#include <streambuf>
#include <string>
#include <string_view>

namespace keel::inline v0::tool::detail {

/// The number of terminal columns of the text. A colour code has none; a character of several bytes has one.
[[nodiscard]] inline std::size_t columns_of(std::string_view text) noexcept {
    std::size_t columns = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\x1b' && i + 1 < text.size() && text[i + 1] == '[') {
            for (i += 2; i < text.size() && (text[i] < '@' || text[i] > '~');) ++i;
            continue;
        }
        columns += (static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U;
    }
    return columns;
}

/// The indent of the second row: the last column of text in the left half of the line, else the first character.
[[nodiscard]] inline std::size_t hanging_indent(std::string_view line, std::size_t width) noexcept {
    auto const first = line.find_first_not_of(' ');
    std::size_t indent = first == std::string_view::npos ? 0 : first;
    for (auto at = line.find("  ", indent); at != std::string_view::npos; at = line.find("  ", at)) {
        at = line.find_first_not_of(' ', at);
        if (at == std::string_view::npos) break;
        auto const column = columns_of(line.substr(0, at));
        if (column > width / 2) break;
        indent = column;
    }
    return indent;
}

/// One line, without its line break, in rows of at most `width` columns; 0: unchanged. A word longer than a row stays whole.
[[nodiscard]] inline std::string wrapped_line(std::string_view line, std::size_t width) {
    bool const stays = line.starts_with("  wal-recovery ") || line.find('\r') != std::string_view::npos;
    if (width == 0 || stays || columns_of(line) <= width) return std::string{line};
    auto const indent = hanging_indent(line, width);
    std::string out;
    std::size_t column = 0;
    bool any_word = false;
    for (std::size_t at = 0; at < line.size();) {
        auto const word_at = line.find_first_not_of(' ', at);
        if (word_at == std::string_view::npos) break;
        auto const end = line.find(' ', word_at);
        auto const word = line.substr(word_at, end == std::string_view::npos ? end : end - word_at);
        auto const blanks = word_at - at;
        auto const word_columns = columns_of(word);
        if (any_word && column + blanks + word_columns > width) {
            out += '\n';
            out.append(indent, ' ');
            column = indent;
        } else {
            out.append(blanks, ' ');
            column += blanks;
        }
        out += word;
        column += word_columns;
        any_word = true;
        at = word_at + word.size();
    }
    return out;
}

/// The same for every line of a text.
[[nodiscard]] inline std::string wrapped(std::string_view text, std::size_t width) {
    std::string out;
    while (!text.empty()) {
        auto const end = text.find('\n');
        out += wrapped_line(text.substr(0, end), width);
        if (end == std::string_view::npos) break;
        out += '\n';
        text.remove_prefix(end + 1);
    }
    return out;
}

/// Passes wrapped lines to another buffer. A part of a line that is flushed before its end is not wrapped.
class wrapping_buffer : public std::streambuf {
public:
    wrapping_buffer(std::streambuf& to, std::size_t width) : to_{to}, width_{width} {}
    wrapping_buffer(wrapping_buffer const&) = delete;
    wrapping_buffer& operator=(wrapping_buffer const&) = delete;
    ~wrapping_buffer() override { static_cast<void>(pass_on(line_)); }

protected:
    int_type overflow(int_type c) override {
        if (traits_type::eq_int_type(c, traits_type::eof())) return traits_type::not_eof(c);
        if (traits_type::to_char_type(c) != '\n') {
            line_ += traits_type::to_char_type(c);
            return c;
        }
        auto row = wrapped_line(line_, width_) + '\n';
        line_.clear();
        return pass_on(row) ? c : traits_type::eof();
    }
    int sync() override {
        bool const passed = pass_on(line_);
        line_.clear();
        return passed && to_.pubsync() == 0 ? 0 : -1;
    }

private:
    bool pass_on(std::string const& text) {
        auto const bytes = static_cast<std::streamsize>(text.size());
        return to_.sputn(text.data(), bytes) == bytes;
    }

    std::streambuf& to_;
    std::size_t width_;
    std::string line_{};
};

} // namespace keel::inline v0::tool::detail

#endif
