// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_JSON_HPP
#define KEEL_TOOL_DETAIL_JSON_HPP

// The tool's JSON. Fields keep the order in which they were added. 64-bit sums are hexadecimal text, because many readers keep numbers in a
// double. LSN ranges are pairs. Bytes that are not UTF-8 are replaced.

#include <keel/detail/hex.hpp>
#include <keel/error.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/types.hpp>

#include <nlohmann/json.hpp>

#include <array>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::tool::detail {

using json = nlohmann::ordered_json;

/// Writes one object on several lines, for people.
inline void write(std::ostream& to, json const& o) {
    to << o.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

[[nodiscard]] inline std::string hex(std::uint64_t value) { return "0x" + keel::detail::hex_of(value); }

[[nodiscard]] inline json to_json(std::vector<lsn_range> const& ranges) {
    auto list = json::array();
    for (auto const& r : ranges) list.push_back({r.first.value, r.last.value});
    return list;
}

[[nodiscard]] inline json to_json(finding const& f) {
    json o;
    o["file"] = f.file;
    o["offset"] = f.offset;
    o["length"] = f.length;
    o["lsn"] = f.lsns.empty() ? 0 : f.lsns.first.value;
    o["last_lsn"] = f.lsns.empty() ? 0 : f.lsns.last.value;
    o["kind"] = name_of(f.kind);
    o["detail"] = f.detail;
    o["lost_records"] = f.lost;
    o["action"] = name_of(f.done);
    if (f.expected != f.found) {
        o["expected"] = hex(f.expected);
        o["found"] = hex(f.found);
    }
    return o;
}

[[nodiscard]] inline json to_json(error const& e) {
    json o;
    o["code"] = name_of(e.code);
    o["message"] = e.message;
    o["file"] = e.file;
    o["offset"] = e.offset;
    if (e.at) o["lsn"] = e.at.value;
    return o;
}

/// Whether the bytes are UTF-8 without overlong forms, surrogates and numbers past the last character.
[[nodiscard]] inline bool is_utf8(std::string_view text) noexcept {
    for (std::size_t i = 0; i < text.size();) {
        auto const lead = static_cast<unsigned char>(text[i++]);
        if (lead < 0x80) continue;
        std::size_t const more = lead >= 0xC2 && lead < 0xE0   ? 1
                                 : lead >= 0xE0 && lead < 0xF0 ? 2
                                 : lead >= 0xF0 && lead < 0xF5 ? 3
                                                               : 0;
        if (more == 0 || text.size() - i < more) return false;
        for (std::size_t k = 0; k < more; ++k) {
            auto const next = static_cast<unsigned char>(text[i + k]);
            bool const first = k == 0;
            auto const low = first && lead == 0xE0 ? 0xA0 : first && lead == 0xF0 ? 0x90 : 0x80;
            auto const high = first && lead == 0xED ? 0x9F : first && lead == 0xF4 ? 0x8F : 0xBF;
            if (next < low || next > high) return false;
        }
        i += more;
    }
    return true;
}

/// Adds a field with the bytes if they are text; else a field with `_hex` after its name and their hexadecimal digits.
inline void add_bytes(json& o, char const* name, byte_view bytes) {
    auto const text = as_text(bytes);
    if (is_utf8(text)) {
        o[name] = text;
        return;
    }
    o[std::string{name} + "_hex"] = keel::detail::hex_of(bytes);
}

} // namespace keel::inline v0::tool::detail

#endif
