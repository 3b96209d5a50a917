// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_VERIFY_HPP
#define KEEL_ENGINE_VERIFY_HPP

// Verifies the files of an open store while it serves, with the checks of recovery. Of segments that take no more records it verifies every
// frame and the blocks of the indexes; of tables it verifies all blocks. It only reads. Findings are reported and not repaired; an opening
// with verify = deep, or the tool, repairs them.

#include <keel/engine/version_set.hpp>
#include <keel/error.hpp>
#include <keel/options.hpp>
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

/// Whether a file must still have its name. A read-only opening holds files open that the writer may have removed since; only for such an
/// opening a missing name is no damage.
enum class file_names { must_stand, may_be_gone };

/// The open file of a part. A file without a name can still be read here, but the next opening would miss it; so the name is checked, too.
template <class Part>
[[nodiscard]] auto open_file_of(Part const& of, file_names names) -> decltype(of.keep_open()) {
    if (names == file_names::must_stand) KEEL_TRY(of.named());
    return of.keep_open();
}

/// Verifies one segment and adds the findings to the report. quick: only checks that the file exists and can be opened. Errors: those of
/// the file system.
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
        // A segment that was never sealed may end in torn bytes from a crash. The opening of the store has judged these.
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

/// The same for a table. A placeholder is always a finding.
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
