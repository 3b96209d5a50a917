// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_VERIFY_HPP
#define KEEL_ENGINE_VERIFY_HPP

// Looking at an open store's segments as recovery would, while it serves: every frame of those that take no more records, and the
// blocks of their indexes. Reads only. What it finds is told, not repaired: that is for an open with verify = deep, or the tool.

#include <keel/engine/version_set.hpp>
#include <keel/error.hpp>
#include <keel/recovery/options.hpp>
#include <keel/recovery/report.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/table/check_table.hpp>
#include <keel/table/placeholder.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// Who reads beside a writer holds files open that the writer may have removed since: only to them it does not matter.
enum class file_names { must_stand, may_be_gone };

/// A file that is open can be read without its name, but not by the next one who opens the store.
template <class Part>
[[nodiscard]] auto open_file_of(Part const& of, file_names names) -> decltype(of.keep_open()) {
    if (names == file_names::must_stand) KEEL_TRY(of.named());
    return of.keep_open();
}

/// Adds what one segment shows to the report; quick: whether it is there and can be opened. Errors: the machine's, where it cannot.
template <class Config>
[[nodiscard]] result<void> verify_segment(typename store_version<Config>::run const& run_of, verify_depth how,
                                          file_names names, recovery_report& report) {
    using C = typename Config::checksum;
    auto const& of = run_of.source();
    KEEL_TRY_LET(open, open_file_of(run_of, names));
    auto const& file = *open;
    if (how == verify_depth::quick) return {};
    recovery::no_sink nobody;
    auto const run = recovery::scan_segment<C>(
        file, {.id = of.id, .salt = of.salt, .first = of.first, .begin = of.begin, .limit = of.end}, nobody);
    report.bytes += run.bytes;
    report.transient_mismatches += run.transient;
    for (auto const& r : of.counted) report.records += r.size();
    auto const before = report.findings.size();
    for (auto const& bad : run.bad) {
        std::uint64_t lost = 0;
        for (auto const& r : of.counted)
            if (bad.is_data)
                lost += lsn_range{std::max(bad.lsns.first, r.first), std::min(bad.lsns.last, r.last)}.size();
        // In a segment that was never sealed lies what a crash left, judged when the store was opened.
        if (lost == 0 && !of.index) continue;
        report.corrupted_records += lost;
        report.findings.push_back({.kind = lost != 0 ? damage::corrupt_record : damage::damaged_filler,
                                   .file = of.path,
                                   .offset = bad.offset,
                                   .length = bad.length,
                                   .lsns = bad.is_data ? bad.lsns : lsn_range{},
                                   .expected = bad.expected,
                                   .found = bad.found,
                                   .lost = lost,
                                   .detail = "does not verify"});
    }
    std::vector<format::segment_section> sections;
    for (auto const& section : {of.index, of.filter})
        if (section) sections.push_back(*section);
    for (auto const& bad : wal::damaged_blocks<C>(file, of.salt, of.segment_bytes, sections))
        report.findings.push_back({.kind = damage::damaged_filler,
                                   .file = of.path,
                                   .offset = bad.offset,
                                   .length = bad.length,
                                   .detail = "the segment's index does not verify; its records are what counts"});
    report.corrupted_segments += report.findings.size() != before;
    return {};
}

/// The same of a table.
template <class Config>
[[nodiscard]] result<void> verify_table(typename store_version<Config>::table_type const& of, verify_depth how,
                                        file_names names, recovery_report& report) {
    using C = typename Config::checksum;
    KEEL_TRY_LET(open, open_file_of(of, names));
    ++report.tables;
    if (of.entry().is_placeholder()) {
        report.findings.push_back(table::finding_of_placeholder(of.entry(), of.path()));
        return {};
    }
    if (how == verify_depth::quick) return {};
    KEEL_TRY_LET(seen, (table::check_table<C, typename Config::compression, typename Config::file_system>(
                           *open, of.path(), of.entry(), [](table::version const&) {})));
    report.bytes += seen.bytes;
    report.table_records += seen.records;
    if (!seen.findings.empty()) of.note_damaged();
    for (auto& f : seen.findings) report.findings.push_back(std::move(f));
    return {};
}

} // namespace keel::inline v0::detail

#endif
