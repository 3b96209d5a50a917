// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_VALIDATE_HPP
#define KEEL_TOOL_DETAIL_VALIDATE_HPP

// `wal-recovery validate`: whether the store is whole, and exactly which parts are not.
//
// Every record is verified in any case. --deep reads the whole store a second time past the page cache, and reports the result of that.
// So damage on a medium is found while the page cache still has the right bytes.

#include <keel/tool/detail/segment_map.hpp>
#include <keel/tool/detail/survey.hpp>

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

[[nodiscard]] inline auto finding_order(finding const& f) {
    return std::tie(f.file, f.offset, f.kind, f.length, f.lsns);
}

/// The findings in `from` that are not in `than`.
[[nodiscard]] inline std::vector<finding*> more_in(std::vector<finding>& from, std::vector<finding> const& than) {
    std::vector<finding const*> known;
    for (auto const& f : than) known.push_back(&f);
    auto const before = [](finding const* a, finding const* b) { return finding_order(*a) < finding_order(*b); };
    std::ranges::sort(known, before);
    std::vector<finding*> more;
    for (auto& f : from)
        if (!std::ranges::binary_search(known, &f, before)) more.push_back(&f);
    return more;
}

/// Marks the differences between the findings in the page cache and those on the medium. `medium` is reported.
inline void compare(survey& cached, survey& medium) {
    auto const hidden = more_in(medium.findings, cached.findings);
    auto const invented = more_in(cached.findings, medium.findings);
    for (auto* f : hidden)
        f->detail += "; the page cache still has other bytes here: copy the store before they are gone";
    for (std::size_t i = 0;
         hidden.empty() && invented.empty() && i < medium.exam.runs.size() && i < cached.exam.runs.size(); ++i) {
        auto const& a = cached.exam.runs[i];
        auto const& b = medium.exam.runs[i];
        if (a.aggregate == b.aggregate && a.data_end == b.data_end) continue;
        auto const& stock = medium.exam.stock;
        medium.findings.push_back(
            {.kind = damage::seal_mismatch,
             .file = stock.paths.inside(stock.segments[i].path),
             .offset = std::min(a.data_end, b.data_end),
             .detail = "the frames on the medium add up to another sum than those in the page cache"});
        ++medium.only_past_the_cache;
    }
    medium.only_past_the_cache += hidden.size();
    medium.only_in_the_cache = invented.size();
}

/// Prints advice; nothing if the store needs no action.
inline void say_what_to_do(console& to, command_line const& line, survey const& s) {
    auto const dir = data_dir_words(line);
    if (!s.damaged() && !s.unknown()) return;
    to.out << '\n';
    if (s.in_use) to.out << "Close the program that has the store open before anything else.\n";
    if (s.unknown())
        to.out << "What to do: put the missing file back from a copy, or restore a backup. Where there is none, go on "
                  "without it, and say that the loss is known:\n"
               << "  wal-recovery accept-loss" << dir << '\n';
    if (!s.damaged()) return;
    auto const is_missing = [](finding const& f) { return f.kind == damage::missing_table; };
    auto const is_given_up = [](finding const& f) {
        return f.file.ends_with(".tab") && f.done == outcome::declared_lost;
    };
    if (std::ranges::any_of(s.findings, is_missing))
        to.out << "What to do: put the missing tables back from a copy or a backup; no repair makes up what they held. "
                  "Where there is none, save what verifies into a new store:\n"
               << "  wal-recovery dump" << dir << " > records\n"
               << "  wal-recovery load --data-dir NEW --input records\n";
    if (std::ranges::any_of(s.findings, is_given_up))
        to.out << "What to do: keys that have had no answer since a repair or a merge get one when they are written or "
                  "erased. A backup may have their values, or the damaged file that is kept in quarantine/merged.\n";
    if (std::ranges::all_of(s.findings, [&](finding const& f) { return is_missing(f) || is_given_up(f); })) return;
    to.out << "What to do: copy the folder first if the disk may be failing. Then see what a repair would do, and "
              "repair:\n"
           << "  wal-recovery repair" << dir << " --strategy partial --dry-run\n"
           << "  wal-recovery repair" << dir << " --strategy partial\n";
    if (!s.exam.found.lost.empty())
        to.out << "A repair cannot heal LSN " << text_of(s.exam.found.lost) << "; a backup may have "
               << (s.exam.report.lost_records == 1 ? "it" : "them") << ".\n";
}

inline int say_survey(console& to, command_line const& line, survey const& s) {
    if (line.json) {
        auto o = to_json(s);
        o["deep"] = line.deep;
        if (line.deep) {
            o["only_past_the_cache"] = s.only_past_the_cache;
            o["only_in_the_cache"] = s.only_in_the_cache;
        }
        write(to.out, o);
    } else {
        say_summary(to, s);
        if (line.deep)
            say_line(to, "deep",
                     "read past the page cache: " + counted(s.only_past_the_cache, "finding") + " only there, " +
                         counted(s.only_in_the_cache, "finding") + " only in the cache");
        segment_map{s, to.look.width}.print(to);
        say_findings(to, s.findings);
        say_what_to_do(to, line, s);
    }
    return exit_code_of(s);
}

template <class Config>
[[nodiscard]] result<int> validate(typename Config::file_system& fs, command_line const& line, console& to) {
    KEEL_TRY_LET(session, look_without_writing<Config>(fs, line, to));
    if (!line.deep) return say_survey(to, line, session.seen);
    if (session.seen.in_use)
        return failure(errc::locked,
                       "--deep compares the disk with the page cache, and a program writes to the store meanwhile: "
                       "close it, or validate without --deep",
                       line.directory);
    KEEL_TRY_LET(medium, look_at<Config>(fs, line, to, reading::past_the_cache));
    compare(session.seen, medium);
    return say_survey(to, line, medium);
}

} // namespace keel::inline v0::tool::detail

#endif
