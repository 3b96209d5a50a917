// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TEXT_HPP
#define KEEL_TEXT_HPP

// to_string(v) and out << v for every public enum, id and report, for logs and test output. An enum prints as its name. The name is the one
// in JSON and does not change. All other text is for people and may change.

#include <keel/error.hpp>
#include <keel/format/table.hpp>
#include <keel/io/concept.hpp>
#include <keel/options.hpp>
#include <keel/policy/durability/concept.hpp>
#include <keel/policy/repair/concept.hpp>
#include <keel/recovery/report.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace keel::inline v0 {

namespace detail {
/// An enum of keel's that has name_of().
template <class E>
concept named_enum = std::is_enum_v<E> && requires(E e) {
    { name_of(e) } -> std::convertible_to<std::string_view>;
};
} // namespace detail

/// The name of an enumerator.
template <detail::named_enum E>
[[nodiscard]] std::string to_string(E value) {
    return std::string{name_of(value)};
}

/// The number in decimal.
/// @{
[[nodiscard]] inline std::string to_string(lsn at) { return std::to_string(at.value); }
[[nodiscard]] inline std::string to_string(segment_id id) { return std::to_string(id.value); }
/// @}
/// "5 to 9", "5", or "none".
[[nodiscard]] inline std::string to_string(lsn_range const& r) {
    if (r.empty()) return "none";
    return r.first == r.last ? to_string(r.first) : to_string(r.first) + " to " + to_string(r.last);
}
/// "5 to 9, 12", or "none".
[[nodiscard]] inline std::string to_string(std::vector<lsn_range> const& ranges) {
    std::string text;
    for (auto const& r : ranges) text += (text.empty() ? "" : ", ") + to_string(r);
    return text.empty() ? "none" : text;
}
/// The four letters of the id, for example "cr3c". A byte that is not printable ASCII becomes '?'.
[[nodiscard]] inline std::string to_string(checksum_id id) {
    std::string text;
    for (int shift = 0; shift < 32; shift += 8) {
        auto const c = static_cast<char>(id.value >> shift & 0xFF);
        text += c >= ' ' && c <= '~' ? c : '?';
    }
    return text;
}

/// "corrupt_record in log/0000000000000001.seg at 512, 88 bytes, LSN 7: ...; 1 record lost"
[[nodiscard]] inline std::string to_string(finding const& f) {
    auto text = std::string{name_of(f.kind)} + " in " + f.file + " at " + std::to_string(f.offset);
    if (f.length != 0) text += ", " + std::to_string(f.length) + " bytes";
    if (!f.lsns.empty()) text += ", LSN " + to_string(f.lsns);
    if (!f.detail.empty()) text += ": " + f.detail;
    if (f.lost != 0) text += "; " + std::to_string(f.lost) + (f.lost == 1 ? " record lost" : " records lost");
    return text;
}
/// "log/0000000000000002.seg after LSN 9: the segment's file is gone, ..."
[[nodiscard]] inline std::string to_string(unknown_extent const& u) {
    return u.file + " after LSN " + to_string(u.after) + ": " + u.why;
}
/// One line: the numbers of segments, records and tables, then the damage.
[[nodiscard]] inline std::string to_string(recovery_report const& r) {
    auto text = std::to_string(r.segments) + " segments (" + std::to_string(r.mounted_segments) + " mounted), " +
                std::to_string(r.records) + " records in the log, " + std::to_string(r.table_records) + " in " +
                std::to_string(r.tables) + " tables";
    if (r.last_lsn) text += ", LSN " + to_string(lsn_range{r.first_lsn, r.last_lsn});
    if (r.corrupted_records != 0)
        text += "; " + std::to_string(r.corrupted_records) + " damaged records, " + std::to_string(r.healed_records) +
                " healed, " + std::to_string(r.lost_records) + " lost";
    if (!r.lost_lsn_ranges.empty()) text += " (LSN " + to_string(r.lost_lsn_ranges) + ")";
    if (!r.declared_lost_lsn_ranges.empty())
        text += "; " + std::to_string(r.declared_lost_records) + " records declared lost (LSN " +
                to_string(r.declared_lost_lsn_ranges) + ")";
    for (auto const& u : r.unknown_extents) text += "; unknown: " + to_string(u);
    if (r.torn_tail_bytes != 0) text += "; torn tail of " + std::to_string(r.torn_tail_bytes) + " bytes";
    if (!r.findings.empty()) text += "; " + std::to_string(r.findings.size()) + " findings";
    if (!r.notice.empty()) text += "; " + r.notice;
    return text;
}
/// "scan: 3 of 10 segments, 40 of 160 MiB, 2 s left"
[[nodiscard]] inline std::string to_string(recovery_progress const& p) {
    auto text = std::string{name_of(p.phase)} + ": " + std::to_string(p.segments_done) + " of " +
                std::to_string(p.segments) + " segments, " + std::to_string(p.bytes_done / MiB) + " of " +
                std::to_string(p.bytes / MiB) + " MiB";
    auto const left = std::chrono::duration_cast<std::chrono::seconds>(p.left).count();
    if (left > 0) text += ", " + std::to_string(left) + " s left";
    return text;
}

namespace detail {
template <class T>
concept has_text = !std::is_arithmetic_v<T> && requires(T const& value) {
    { to_string(value) } -> std::same_as<std::string>;
};
} // namespace detail

/// Writes to_string(value) to a stream.
template <detail::has_text T>
std::ostream& operator<<(std::ostream& out, T const& value) {
    return out << to_string(value);
}

} // namespace keel::inline v0

namespace keel::inline v0::io {
using keel::to_string;
using keel::operator<<;
} // namespace keel::inline v0::io

namespace keel::inline v0::format {
/// The number in decimal.
[[nodiscard]] inline std::string to_string(table_id id) { return std::to_string(id.value); }
using keel::to_string;
using keel::operator<<;
} // namespace keel::inline v0::format

#endif
