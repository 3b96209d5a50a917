// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_REPAIR_HPP
#define KEEL_TOOL_DETAIL_REPAIR_HPP

// `wal-recovery repair`, `wal-recovery undo` and `wal-recovery accept-loss`. A repair has these steps: examine the store; plan; carry the
// plan out (recovery/carry_out.hpp, as an opening does); let an engine rewrite damaged tables; examine the store again; report. A dry run
// ends after the plan.

#include <keel/engine.hpp>
#include <keel/policy/repair/choice.hpp>
#include <keel/recovery/carry_out.hpp>
#include <keel/recovery/plan.hpp>
#include <keel/recovery/undo.hpp>
#include <keel/tool/detail/engine_of_tool.hpp>
#include <keel/tool/detail/segment_map.hpp>
#include <keel/tool/detail/survey.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

namespace keel::inline v0::tool::detail {

/// The findings, the plan and the result of a repair.
struct repair_story {
    survey before;
    recovery::repair_plan plan;
    std::string_view strategy{};
    std::vector<std::string> tables{}; ///< damaged tables that are to be rewritten: paths inside the store
    recovery::repair_done done{};
    std::optional<survey> after{}; ///< the store after the repair; nothing if nothing was done

    [[nodiscard]] bool changes_anything() const { return plan.changes_anything() || !tables.empty(); }
};

[[nodiscard]] inline json plan_json(repair_story const& story) {
    auto const& stock = story.before.exam.stock;
    json o;
    o["rebuild"] = json::array();
    o["set_aside"] = json::array();
    for (auto const& s : story.plan.segments)
        o[s.keep.empty() ? "set_aside" : "rebuild"].push_back(stock.paths.inside(stock.segments[s.segment].path));
    o["forget"] = json::array();
    for (auto const id : story.plan.forget) o["forget"].push_back(stock.paths.inside(stock.paths.segment(id)));
    o["rewrite_tables"] = story.tables;
    o["rewrite_manifest"] = story.plan.rewrite_manifest;
    o["declare_lost"] = to_json(story.plan.declare);
    return o;
}

inline void story_to_json(console& to, command_line const& line, repair_story const& story) {
    auto o = to_json(story.before);
    if (story.after) {
        auto const& r = story.after->exam.report;
        o["status"] = status_of(*story.after);
        o["records"] = r.records;
        o["first_lsn"] = r.first_lsn.value;
        o["last_lsn"] = r.last_lsn.value;
        put_losses(o, *story.after);
    }
    o["strategy"] = story.strategy;
    o["dry_run"] = line.dry_run;
    o["repaired"] = story.after.has_value();
    o["lost_records"] = story.plan.lost_records;
    o["lost_lsn_ranges"] = to_json(story.plan.declare);
    o["quarantined"] = story.done.quarantined;
    o["repair"] = story.done.number;
    o["plan"] = plan_json(story);
    o["notice"] = story.plan.notice;
    write(to.out, o);
}

inline void say_plan(console& to, command_line const& line, repair_story const& story) {
    auto const& stock = story.before.exam.stock;
    auto const& plan = story.plan;
    to.out << '\n'
           << to.paint(style::bold, line.dry_run ? "a repair would" : "the repair") << " (strategy " << story.strategy
           << ")\n";
    for (auto const& s : plan.segments)
        to.out << "  "
               << (s.keep.empty() ? "moves to quarantine, nothing in it counts: " : "writes anew without its damage: ")
               << printable(stock.paths.inside(stock.segments[s.segment].path)) << '\n';
    for (auto const id : plan.forget)
        to.out << "  removes from the manifest, the file is missing: " << stock.paths.inside(stock.paths.segment(id))
               << '\n';
    for (auto const& path : story.tables)
        to.out << "  writes anew what verifies of a table, its other keys have no answer: " << printable(path) << '\n';
    if (plan.rewrite_manifest) to.out << "  writes both manifests anew\n";
    if (!plan.declare.empty())
        to.out << "  declares lost: " << counted(plan.lost_records, "record") << ", LSN " << text_of(plan.declare)
               << '\n';
    if (!plan.notice.empty()) to.out << "  note: " << plan.notice << '\n';
}

inline void say_outcome(console& to, command_line const& line, repair_story const& story) {
    if (!story.changes_anything()) {
        if (story.before.unknown())
            to.out << "\nA repair cannot bring back what is gone without a trace. Put the file back from a copy, "
                      "restore a backup, or say that the loss is known:\n  wal-recovery accept-loss"
                   << data_dir_words(line) << '\n';
        else
            to.out << (story.before.damaged() ? "\nA repair can do nothing about these findings; restore a backup.\n"
                                              : "\nNothing to repair; nothing was changed.\n");
        return;
    }
    say_plan(to, line, story);
    if (!story.after) {
        to.out << "\nNothing was changed (--dry-run).\n";
        return;
    }
    for (auto const& path : story.done.quarantined) to.out << "  moved to " << printable(path) << '\n';
    for (auto const& path : story.tables)
        to.out << "  moved to quarantine/merged" << printable(path.substr(path.rfind('/'))) << '\n';
    to.out << '\n';
    say_line(to, "now", painted_status(to, *story.after));
    auto const& r = story.after->exam.report;
    say_line(to, "records",
             counted(r.records, "record") + ", LSN " + std::to_string(r.first_lsn.value) + " to " +
                 std::to_string(r.last_lsn.value));
    say_line(to, "healed", counted(story.before.exam.report.healed_records, "record"));
    say_line(to, "lost",
             counted(story.plan.lost_records, "record") +
                 (story.plan.declare.empty() ? "" : ", LSN " + text_of(story.plan.declare)));
    say_findings(to, story.after->findings);
    if (story.tables.empty()) to.out << "\nTo take this back:\n  wal-recovery undo" << data_dir_words(line) << '\n';
}

[[nodiscard]] inline int say_story(console& to, command_line const& line, repair_story const& story) {
    if (line.json) {
        story_to_json(to, line, story);
    } else {
        say_summary(to, story.before);
        segment_map{story.before, to.look.width}.print(to);
        say_findings(to, story.before.findings);
        say_outcome(to, line, story);
    }
    auto const& now = story.after ? *story.after : story.before;
    auto const code = exit_code_of(now);
    return code == exit_done && story.plan.lost_records != 0 ? exit_damage : code;
}

template <class Config>
[[nodiscard]] result<void> carry_out(typename Config::file_system& fs, repair_story& story,
                                     recovery::identity_of<repairing<Config>> identity) {
    open_options const options;
    auto& exam = story.before.exam;
    KEEL_TRY(recovery::ask_the_medium_again<repairing<Config>>(fs, exam, story.plan));
    auto manifest = recovery::adopted_manifest<repairing<Config>>(fs, exam.stock, options, std::move(identity));
    auto carried = recovery::carry_out_repair<repairing<Config>>(fs, exam, story.plan, options, story.strategy,
                                                                 manifest, story.before.findings);
    if (carried.done) story.done = std::move(*carried.done);
    KEEL_TRY(carried.outcome);
    return recovery::remember_unknown<repairing<Config>>(fs, exam, story.before.ledger);
}

/// The tables with bytes that do not verify, except for missing tables and those whose loss is declared.
[[nodiscard]] inline std::vector<std::string> damaged_tables(survey const& s) {
    std::set<std::string> out;
    for (auto const& f : s.findings)
        if (f.file.ends_with(".tab") && f.kind != damage::missing_table && f.done != outcome::declared_lost)
            out.insert(f.file);
    return {out.begin(), out.end()};
}

/// Rewrites the damaged tables. Precondition: no process holds the store's lock, this one included.
template <class Config>
[[nodiscard]] result<void> rewrite_tables(typename Config::file_system const& fs, std::string const& directory) {
    open_options options;
    options.background_thread = false;
    KEEL_TRY_LET(store, engine_of_tool<Config>::open(directory, options, fs));
    KEEL_TRY(store.repair_tables());
    return store.close();
}

/// An identity that holds the lock until its last owner is destroyed.
template <class Config>
[[nodiscard]] recovery::identity_of<repairing<Config>> identity_from(
    typename Config::file_system& fs, wal::layout const& paths, wal::double_lock<typename Config::file_system> held) {
    return std::make_shared<wal::store_identity<typename Config::file_system>>(fs, paths, std::move(held));
}

/// Checked before the lock file is made, so that a folder without a store stays unchanged.
template <class Config>
[[nodiscard]] result<void> store_is_here(typename Config::file_system const& fs, std::string const& directory) {
    view<typename Config::file_system> through{fs};
    KEEL_TRY_LET(stock, recovery::take_inventory<looking<Config>>(through, directory));
    if (!stock.exists) return failure(errc::not_found, "there is no store in this folder; check --data-dir", directory);
    return {};
}

/// The plan of a repair for an examined store.
template <class Config>
[[nodiscard]] repair_story plan_story(typename Config::file_system& fs, command_line const& line, survey seen) {
    auto const choice = choice_of(line.strategy);
    auto const& stock = seen.exam.stock;
    std::set<segment_id> begun;
    if (stock.manifest.state)
        begun = recovery::rest_of_repair<typename Config::checksum>(fs, stock.paths, stock.store,
                                                                    *stock.manifest.state);
    auto plan = recovery::plan_repair(seen.exam, choice, recovery::repair_scope::everything, begun);
    repair_story story{.before = std::move(seen), .plan = std::move(plan), .strategy = choice.name};
    story.tables = damaged_tables(story.before);
    return story;
}

template <class Config>
[[nodiscard]] result<int> repair(typename Config::file_system& fs, command_line const& line, console& to) {
    wal::layout const paths{line.directory};
    KEEL_TRY(store_is_here<Config>(fs, line.directory));
    if (line.dry_run) {
        KEEL_TRY_LET(session, look_without_writing<Config>(fs, line, to));
        return say_story(to, line, plan_story<Config>(fs, line, std::move(session.seen)));
    }
    KEEL_TRY_LET(held, lock_store(fs, paths, io::lock_mode::exclusive));
    KEEL_TRY_LET(seen, look_at<Config>(fs, line, to));
    auto story = plan_story<Config>(fs, line, std::move(seen));
    auto identity =
        identity_from<Config>(fs, paths,
                              std::move(held)); // held until the second examination, or until an engine takes it
    KEEL_TRY(carry_out<Config>(fs, story, identity));
    if (!story.tables.empty()) {
        identity.reset();
        KEEL_TRY(rewrite_tables<Config>(fs, line.directory));
    }
    if (story.changes_anything()) {
        KEEL_TRY_LET(after, look_at<Config>(fs, line, to));
        story.after.emplace(std::move(after));
    }
    return say_story(to, line, story);
}

template <class Config>
[[nodiscard]] result<int> undo(typename Config::file_system& fs, command_line const& line, console& to) {
    wal::layout const paths{line.directory};
    KEEL_TRY(store_is_here<Config>(fs, line.directory));
    KEEL_TRY_LET(held, lock_store(fs, paths, io::lock_mode::exclusive));
    KEEL_TRY_LET(number, recovery::undo_repair<repairing<Config>>(fs, line.directory));
    KEEL_TRY_LET(now, look_at<Config>(fs, line, to));
    if (line.json) {
        auto o = to_json(now);
        o["undone"] = number;
        write(to.out, o);
    } else {
        to.out << "Repair " << number << " was taken back: every file is as it was before it.\n\n";
        say_summary(to, now);
    }
    return exit_done;
}

template <class Config>
[[nodiscard]] result<int> accept_loss(typename Config::file_system& fs, command_line const& line, console& to) {
    wal::layout const paths{line.directory};
    KEEL_TRY(store_is_here<Config>(fs, line.directory));
    KEEL_TRY_LET(held, lock_store(fs, paths, io::lock_mode::exclusive));
    KEEL_TRY_LET(seen, look_at<Config>(fs, line, to));
    auto const open = seen.exam.report.declared_lost_lsn_ranges;
    bool const any = !open.empty() || seen.unknown();
    auto const identity = identity_from<Config>(fs, paths, std::move(held));
    if (any) KEEL_TRY(recovery::accept_losses<repairing<Config>>(fs, seen.exam, seen.ledger, open_options{}, identity));
    KEEL_TRY_LET(now, look_at<Config>(fs, line, to));
    if (line.json) {
        auto o = to_json(now);
        o["accepted"] = to_json(open);
        o["accepted_unknown"] = json::array();
        for (auto const& u : seen.exam.report.unknown_extents) o["accepted_unknown"].push_back(to_json(u));
        write(to.out, o);
        return exit_code_of(now);
    }
    if (!any) to.out << "There is no open loss; nothing was changed.\n\n";
    if (!open.empty()) to.out << "Accepted as lost: LSN " << text_of(open) << ".\n";
    for (auto const& u : seen.exam.report.unknown_extents)
        to.out << "Accepted: the unknown loss behind LSN " << u.after.value << " (" << printable(u.why) << ").\n";
    say_summary(to, now);
    return exit_code_of(now);
}

} // namespace keel::inline v0::tool::detail

#endif
