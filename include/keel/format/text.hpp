// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_TEXT_HPP
#define KEEL_FORMAT_TEXT_HPP

// Records as text, one line for each, and back. `wal-recovery dump` prints this text. A person can read it, and a program can parse it.
//
//   line   := lsn ' ' type ' ' batch (' ' string)*
//   lsn    := decimal number
//   type   := put | erase | message | typeN (N: any other type's number)
//   batch  := whole | begins | ends | inside | flagsN (N: the flags' number, where other bits are set)
//   string := '"' bytes '"'; printable ASCII as it is, except \" and \\; every other byte is \xNN
// A put has two strings, key and value. An erase without a value is printed with its key only. A message without a key is printed with
// its value only. The parser takes both types with one string or with two.
//   17 put whole "user:1" "Ada"
//   18 message whole "line\x0a"
// print and parse are inverse: parse(print(r)) is r, down to the last byte of its frame's payload (R7.3).

#include <keel/detail/hex.hpp>
#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

/// The bytes on the disk: one header for each structure.
namespace keel::inline v0::format {

/// One record as a frame holds it. Another object owns the bytes and must outlive the view.
struct record_view {
    lsn at{};                              ///< the place in the log
    frame_type type = frame_type::message; ///< put, erase, message or another type of data
    std::uint8_t flags = whole_batch;      ///< begins_batch and ends_batch
    byte_view key{};                       ///< empty for a message
    byte_view value{};                     ///< for a message: all of it
};

/// One record that owns its bytes.
struct record {
    lsn at{};                              ///< the place in the log
    frame_type type = frame_type::message; ///< put, erase, message or another type of data
    std::uint8_t flags = whole_batch;      ///< begins_batch and ends_batch
    std::string key{};                     ///< empty for a message
    std::string value{};                   ///< for a message: all of it

    /// Compares all members.
    bool operator==(record const&) const = default;
    /// A view of this record; valid as long as the record is unchanged.
    [[nodiscard]] record_view view() const noexcept { return {at, type, flags, as_bytes(key), as_bytes(value)}; }
    /// The payload of the record's frame: the key, then the value.
    [[nodiscard]] std::string payload() const { return key + value; }
    /// The fields of the frame's header that follow from the record. LSN and mark depend on the file and are not set.
    [[nodiscard]] frame_header header() const noexcept {
        return {.payload_bytes = static_cast<std::uint32_t>(key.size() + value.size()),
                .key_bytes = static_cast<std::uint16_t>(key.size()),
                .type = type,
                .flags = flags};
    }
};

/// The name of a type in the text.
[[nodiscard]] inline std::string name_of(frame_type type) {
    switch (type) {
    case frame_type::put: return "put";
    case frame_type::erase: return "erase";
    case frame_type::message: return "message";
    default: return "type" + std::to_string(static_cast<unsigned>(type));
    }
}

namespace detail {

inline void append_quoted(std::string& to, byte_view bytes) {
    to += '"';
    for (char const c : as_text(bytes)) {
        auto const code = static_cast<unsigned char>(c);
        if (code < 0x20 || code > 0x7E) {
            to += "\\x";
            keel::detail::append_hex(to, code);
            continue;
        }
        if (c == '"' || c == '\\') to += '\\';
        to += c;
    }
    to += '"';
}

[[nodiscard]] inline std::string text_of_flags(std::uint8_t flags) {
    switch (flags) {
    case 0: return "inside";
    case begins_batch: return "begins";
    case ends_batch: return "ends";
    case whole_batch: return "whole";
    default: return "flags" + std::to_string(static_cast<unsigned>(flags));
    }
}

/// Parses one line. The error of a step gives the expected text, the text found and its column (from 1).
class record_parser {
public:
    explicit record_parser(std::string_view line) noexcept : line_{line} {}

    [[nodiscard]] result<record> run() {
        record r;
        KEEL_TRY_LET(at, number(word(), 0, std::numeric_limits<std::uint64_t>::max(), "an LSN (a decimal number)"));
        r.at = {at};
        KEEL_TRY(separator("the type"));
        KEEL_TRY_LET(
            type, one_of(word(), {{"put", 1}, {"erase", 2}, {"message", 3}}, "type", "put, erase, message or typeN"));
        r.type = static_cast<frame_type>(type);
        KEEL_TRY(separator("the batch"));
        KEEL_TRY_LET(flags, one_of(word(), {{"inside", 0}, {"begins", 1}, {"ends", 2}, {"whole", 3}}, "flags",
                                   "whole, begins, ends, inside or flagsN"));
        r.flags = flags;
        KEEL_TRY(separator("a string"));
        KEEL_TRY(strings(r));
        if (at_ != line_.size()) return expected("the end of the line", at_);
        return r;
    }

private:
    using names = std::initializer_list<std::pair<std::string_view, std::uint8_t>>;

    result<void> strings(record& r) {
        auto const first_at = at_;
        KEEL_TRY_LET(first, quoted());
        bool const one = at_ == line_.size();
        if (one && r.type == frame_type::message) {
            r.value = std::move(first);
            return {};
        }
        r.key = std::move(first);
        if (r.key.size() > key_bytes_max)
            return failure(errc::too_large,
                           "expected a key of at most 65535 bytes, found " + std::to_string(r.key.size()), {},
                           first_at);
        if (one && r.type == frame_type::erase) return {};
        KEEL_TRY(separator("the value"));
        KEEL_TRY_LET(second, quoted());
        r.value = std::move(second);
        if (r.value.size() > std::numeric_limits<std::uint32_t>::max() - r.key.size())
            return failure(errc::too_large,
                           "expected a record of less than 4 GiB, found " + std::to_string(r.value.size()) + " bytes");
        return {};
    }

    /// The characters up to the next blank.
    [[nodiscard]] std::string_view word() noexcept {
        auto const begin = at_;
        at_ = std::min(line_.find(' ', at_), line_.size());
        return line_.substr(begin, at_ - begin);
    }
    result<void> separator(std::string_view before) {
        if (at_ < line_.size() && line_[at_] == ' ') {
            ++at_;
            return {};
        }
        return expected("a blank and " + std::string{before}, at_);
    }

    result<std::uint64_t> number(std::string_view digits, std::size_t skip, std::uint64_t most, std::string_view what) {
        std::uint64_t value = 0;
        auto const* const end = digits.data() + digits.size();
        auto const [stop, failed] = std::from_chars(digits.data() + skip, end, value);
        if (failed != std::errc{} || stop != end || value > most) return expected(what, begin_of(digits));
        return value;
    }
    result<std::uint8_t> one_of(std::string_view found, names known, std::string_view prefix, std::string_view what) {
        for (auto const& [name, value] : known)
            if (found == name) return value;
        if (!found.starts_with(prefix)) return expected(what, begin_of(found));
        KEEL_TRY_LET(value, number(found, prefix.size(), 255, what));
        return static_cast<std::uint8_t>(value);
    }

    result<std::string> quoted() {
        if (at_ == line_.size() || line_[at_] != '"') return expected("a string in double quotes", at_);
        ++at_;
        std::string text;
        while (at_ < line_.size() && line_[at_] != '"') {
            auto const c = line_[at_];
            if (c < ' ' || c > '~') return expected("a printable character (other bytes are written \\xNN)", at_);
            if (c != '\\') {
                text += c;
                ++at_;
                continue;
            }
            KEEL_TRY_LET(byte, escape());
            text += byte;
        }
        if (at_ == line_.size()) return expected("the closing double quote", at_);
        ++at_;
        return text;
    }
    result<char> escape() {
        auto const rest = line_.substr(at_ + 1);
        if (!rest.empty() && (rest[0] == '"' || rest[0] == '\\')) {
            at_ += 2;
            return rest[0];
        }
        unsigned value = 0;
        bool const shaped = rest.size() >= 3 && rest[0] == 'x';
        if (shaped) {
            auto const [stop, failed] = std::from_chars(rest.data() + 1, rest.data() + 3, value, 16);
            if (failed == std::errc{} && stop == rest.data() + 3) {
                at_ += 4;
                return static_cast<char>(static_cast<unsigned char>(value));
            }
        }
        return expected("\\\", \\\\ or \\x and two hexadecimal digits", at_);
    }

    [[nodiscard]] std::size_t begin_of(std::string_view part) const noexcept {
        return static_cast<std::size_t>(part.data() - line_.data());
    }
    [[nodiscard]] tl::unexpected<error> expected(std::string_view what, std::size_t at) const {
        constexpr std::size_t shown = 24;
        std::string found = "the end of the line";
        if (at < line_.size()) {
            found.clear();
            append_quoted(found, as_bytes(line_.substr(at, shown)));
            if (line_.size() - at > shown) found += "...";
        }
        return failure(errc::invalid_argument,
                       "expected " + std::string{what} + ", found " + found + " in column " + std::to_string(at + 1),
                       {}, at);
    }

    std::string_view line_;
    std::size_t at_ = 0;
};

} // namespace detail

/// Appends the record's line, without a line break.
inline void append_text(std::string& to, record_view const& r) {
    to += std::to_string(r.at.value);
    to += ' ';
    to += name_of(r.type);
    to += ' ';
    to += detail::text_of_flags(r.flags);
    bool const without_key = r.type == frame_type::message && r.key.empty();
    bool const without_value = r.type == frame_type::erase && r.value.empty();
    for (auto const& [bytes, left_out] : {std::pair{r.key, without_key}, std::pair{r.value, without_value}}) {
        if (left_out) continue;
        to += ' ';
        detail::append_quoted(to, bytes);
    }
}

/// The record as one line, without a line break.
[[nodiscard]] inline std::string print(record_view const& r) {
    std::string line;
    append_text(line, r);
    return line;
}

/// Parses one line without its line break. Errors: invalid_argument and too_large. The message gives the expected text and the text
/// found; `offset` is the place in the line, in bytes.
[[nodiscard]] inline result<record> parse(std::string_view line) { return detail::record_parser{line}.run(); }

} // namespace keel::inline v0::format

#endif
