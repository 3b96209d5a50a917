// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_OBSERVE_JSON_HPP
#define KEEL_OBSERVE_JSON_HPP

// Findings as JSON, one object a line, for the corruption log and the receipts of repairs. This writer covers only the files that the
// library itself leaves on disk. The tool uses nlohmann/json.

#include <keel/detail/hex.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/types.hpp>

#include <cstdio>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::observe {

/// Builds one JSON object, field by field.
class json_object {
public:
    /// Adds a string field. Bytes outside of printable ASCII are escaped.
    json_object& text(std::string_view name, std::string_view value) {
        begin(name);
        quote(value);
        return *this;
    }
    /// Adds a number field.
    json_object& number(std::string_view name, std::uint64_t value) {
        begin(name);
        out_ += std::to_string(value);
        return *this;
    }
    /// Adds a 64-bit sum as text, because many readers keep numbers in a double.
    json_object& hex(std::string_view name, std::uint64_t value) {
        return text(name, "0x" + keel::detail::hex_of(value));
    }
    /// Adds a field whose value is JSON already.
    json_object& raw(std::string_view name, std::string_view value) {
        begin(name);
        out_ += value;
        return *this;
    }
    /// The object as text, with both braces.
    [[nodiscard]] std::string str() const { return (out_.empty() ? "{" : out_) + "}"; }

private:
    void begin(std::string_view name) {
        out_ += out_.empty() ? "{" : ",";
        quote(name);
        out_ += ':';
    }
    void quote(std::string_view value) {
        out_ += '"';
        for (char const c : value) {
            auto const code = static_cast<unsigned char>(c);
            if (c == '"' || c == '\\') {
                out_ += '\\';
                out_ += c;
            } else if (code < 0x20 || code >= 0x7F) {
                char escaped[7];
                std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(code));
                out_ += escaped;
            } else {
                out_ += c;
            }
        }
        out_ += '"';
    }
    std::string out_;
};

/// A time in nanoseconds since 1970 as "2026-01-31T12:00:00Z".
[[nodiscard]] inline std::string utc_text(std::uint64_t ns) {
    auto const seconds = static_cast<std::time_t>(ns / 1'000'000'000);
    std::tm parts{};
    if (gmtime_r(&seconds, &parts) == nullptr) return "unknown";
    char text[32];
    auto const length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return {text, length};
}

/// The ranges as an array: "[[5,9],[12,12]]".
[[nodiscard]] inline std::string to_json(std::vector<lsn_range> const& ranges) {
    std::string out = "[";
    for (auto const& r : ranges) {
        if (out.size() > 1) out += ',';
        out += '[' + std::to_string(r.first.value) + ',' + std::to_string(r.last.value) + ']';
    }
    return out + ']';
}

namespace detail {
inline void put_finding(json_object& o, finding const& f) {
    o.text("kind", name_of(f.kind)).text("file", f.file);
    o.number("offset", f.offset).number("length", f.length);
    if (!f.lsns.empty()) o.number("first_lsn", f.lsns.first.value).number("last_lsn", f.lsns.last.value);
    if (f.expected != f.found) o.hex("expected", f.expected).hex("found", f.found);
    o.number("lost_records", f.lost).text("done", name_of(f.done)).text("detail", f.detail);
}
} // namespace detail

/// One corruption event (R1.3): file, offset, length, LSN range, expected and found checksum, and the action that was taken.
[[nodiscard]] inline std::string to_json(finding const& f) {
    json_object o;
    detail::put_finding(o, f);
    return o.str();
}
/// The same, beginning with the time at which it was found, in nanoseconds since 1970.
[[nodiscard]] inline std::string to_json(finding const& f, std::uint64_t at_ns) {
    json_object o;
    o.text("time", utc_text(at_ns));
    detail::put_finding(o, f);
    return o.str();
}

} // namespace keel::inline v0::observe

#endif
