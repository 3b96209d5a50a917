// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_SURVEY_HPP
#define KEEL_TOOL_DETAIL_SURVEY_HPP

// The beginning of every command: the lock, then an examination of the store that changes nothing. It also has the report on the store,
// as one JSON object or as a few lines.
//
// A store that another process has open is examined as well. Apparent damage may then be a change in progress. So the store is examined
// again, and the damage is believed only if it stays. Records that the writer has not acknowledged yet are left out.

#include <keel/recovery/examine.hpp>
#include <keel/recovery/loss_ledger.hpp>
#include <keel/recovery/store_lock.hpp>
#include <keel/tool/detail/checksum_of_store.hpp>
#include <keel/tool/detail/command_line.hpp>
#include <keel/tool/detail/console.hpp>
#include <keel/tool/detail/data_dir.hpp>
#include <keel/tool/detail/json.hpp>
#include <keel/tool/detail/view.hpp>
#include <keel/wal/store_identity.hpp>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// The result of an examination, and the checksum under which it was made.
struct survey {
    recovery::examination exam;
    std::string_view checksum{};
    recovery::loss_ledger ledger{};        ///< the losses that were accepted
    std::vector<finding> findings{};       ///< all findings, without a limit
    std::uint64_t only_past_the_cache = 0; ///< findings of --deep that are on the medium and hidden by the page cache
    std::uint64_t only_in_the_cache = 0;   ///< mismatches in the page cache that the medium does not have
    bool in_use = false;                   ///< another process had the store open during the examination

    survey(recovery::examination e, recovery::loss_ledger known, std::string_view sum)
        : exam{std::move(e)}, checksum{sum}, ledger{std::move(known)} {
        recovery::show_losses(exam.report, exam.found.declared, exam.found.end, ledger);
        findings = exam.stock.findings;
        findings.insert(findings.end(), exam.found.findings.begin(), exam.found.findings.end());
    }
    /// Whether the number of lost acknowledged records is unknown and not accepted.
    [[nodiscard]] bool unknown() const { return !exam.report.unknown_extents.empty(); }
    /// Whether there is damage. A torn tail is the trace of a crash and no damage. Declared losses are no damage; the report shows
    /// whether they were accepted.
    [[nodiscard]] bool damaged() const {
        return !exam.found.lost.empty() || exam.report.corrupted_records != 0 ||
               std::ranges::any_of(findings, &finding::is_corruption);
    }
    /// A writer is about to write more at the end of the log, so a torn tail there is no finding.
    void mark_in_use() {
        in_use = true;
        exam.report.torn_tail_bytes = 0;
        exam.report.skipped_records = 0;
        std::erase_if(findings, [](finding const& f) { return f.kind == damage::torn_tail; });
    }
    /// The newest record that a writer beside this process has acknowledged; without a writer, lsn_max.
    [[nodiscard]] lsn newest_acknowledged() const {
        auto const& stock = exam.stock;
        if (!in_use || !stock.note || !stock.note_is_own) return lsn_max;
        return std::max(stock.note->accepted, stock.state.log_start_lsn);
    }
};

template <class Config>
using looking = examining<typename Config::checksum, typename Config::compression, view<typename Config::file_system>>;

/// Takes the store's lock. `shared` excludes writers; `exclusive` excludes all others. The result is empty if a read-only copy of a store
/// has no lock file.
template <class Fs>
[[nodiscard]] result<wal::double_lock<Fs>> lock_store(Fs& fs, wal::layout const& paths, io::lock_mode mode) {
    auto held = wal::double_lock<Fs>::take(fs, paths.root(), paths.lock(), mode);
    if (held) return held;
    auto why = std::move(held).error();
    if (mode == io::lock_mode::shared && why.code == errc::not_found) return wal::double_lock<Fs>{};
    if (why.code == errc::locked) why.message += "; close the program that has the store open, then try again";
    return failure(std::move(why));
}

/// Examines the store through a view. Errors: those of the examination; not_found: the folder has no store.
template <class Config>
[[nodiscard]] result<survey> look_at(view<typename Config::file_system> through, command_line const& line,
                                     console& to) {
    progress_line progress{to};
    open_options options;
    options.read_only = true;
    options.memory_limit = line.memory_bytes;
    options.on_progress = [&](recovery_progress const& p) { progress.show(p); };
    KEEL_TRY_LET(exam, recovery::examine<looking<Config>>(through, line.directory, options));
    if (!exam.stock.exists)
        return failure(errc::not_found, "there is no store in this folder; check --data-dir", line.directory);
    KEEL_TRY_LET(ledger, recovery::read_ledger<typename Config::checksum>(through, exam.stock.paths, exam.stock.store));
    return survey{std::move(exam), std::move(ledger), Config::checksum::name};
}

/// The same for a command that already has the lock.
template <class Config>
[[nodiscard]] result<survey> look_at(typename Config::file_system const& fs, command_line const& line, console& to,
                                     reading how = reading::cached) {
    return look_at<Config>(view<typename Config::file_system>{fs, how}, line, to);
}

/// An examined store, with the locks that keep it unchanged as long as this object lives.
template <class Fs>
struct reading_session {
    wal::double_lock<Fs> alone{};                  ///< no process writes
    std::optional<wal::double_lock<Fs>> readers{}; ///< beside a writer: no file is overwritten
    view<Fs> through{};                            ///< reads the files that were examined
    survey seen;
};

/// Examines the store for a command that only reads, with or without a writer beside it. Errors: those of look_at().
template <class Config>
[[nodiscard]] result<reading_session<typename Config::file_system>> look_without_writing(
    typename Config::file_system& fs, command_line const& line, console& to) {
    using fs_type = typename Config::file_system;
    using session = reading_session<fs_type>;
    constexpr int turns_min = 3;
    constexpr std::chrono::seconds time_max{2};
    auto const started = std::chrono::steady_clock::now();
    wal::layout const paths{line.directory};
    std::optional<wal::double_lock<fs_type>> readers;
    for (int turn = 0;; ++turn) {
        auto alone = lock_store(fs, paths, io::lock_mode::shared);
        if (alone) {
            view<fs_type> through{fs};
            KEEL_TRY_LET(seen, look_at<Config>(through, line, to));
            return session{.alone = std::move(*alone), .through = std::move(through), .seen = std::move(seen)};
        }
        if (alone.error().code != errc::locked) return failure(std::move(alone).error());
        if (turn == 0) {
            KEEL_TRY_LET(joined, recovery::detail::join_readers(fs, paths));
            readers = std::move(joined);
        }
        view<fs_type> through{fs};
        through.keep_open(paths);
        auto seen = look_at<Config>(through, line, to);
        bool const clear = seen && !seen->damaged() && !seen->unknown();
        bool const long_enough = turn >= turns_min && std::chrono::steady_clock::now() - started > time_max;
        if (!clear && turn < recovery::retries_max && !long_enough) {
            recovery::detail::wait_a_little(turn);
            continue;
        }
        KEEL_TRY(seen);
        seen->mark_in_use();
        return session{.readers = std::move(readers), .through = std::move(through), .seen = std::move(*seen)};
    }
}

/// The state of a store, as JSON and text name it.
[[nodiscard]] inline std::string_view status_of(survey const& s) {
    return s.unknown() ? "unknown" : s.damaged() ? "damaged" : "healthy";
}
[[nodiscard]] inline int exit_code_of(survey const& s) {
    return s.unknown() ? exit_unknown : s.damaged() ? exit_damage : exit_done;
}
[[nodiscard]] inline std::string painted_status(console& to, survey const& s) {
    if (s.unknown()) return to.paint(style::red, "UNKNOWN: nobody can tell how many acknowledged records are gone");
    return s.damaged() ? to.paint(style::red, "DAMAGED") : to.paint(style::green, "healthy");
}

[[nodiscard]] inline json to_json(unknown_extent const& u) {
    json o;
    o["segment"] = u.segment.value;
    o["file"] = u.file;
    o["after_lsn"] = u.after.value;
    o["detail"] = u.why;
    return o;
}
/// Adds the losses that earlier repairs declared, and whether they were accepted.
inline void put_losses(json& o, survey const& s) {
    o["declared_lost_lsn_ranges"] = to_json(s.exam.found.declared);
    o["accepted_lost_lsn_ranges"] = to_json(s.exam.report.accepted_lost_lsn_ranges);
    o["unknown_extents"] = json::array();
    for (auto const& u : s.exam.report.unknown_extents) o["unknown_extents"].push_back(to_json(u));
}

/// The fields that validate and repair share.
[[nodiscard]] inline json to_json(survey const& s) {
    auto const& r = s.exam.report;
    json o;
    o["status"] = status_of(s);
    o["data_dir"] = s.exam.stock.paths.root();
    o["checksum"] = s.checksum;
    o["in_use"] = s.in_use;
    o["segments"] = r.segments;
    o["records"] = r.records;
    o["tables"] = r.tables;
    o["table_records"] = r.table_records;
    o["corrupted_segments"] = r.corrupted_segments;
    o["corrupted_records"] = r.corrupted_records;
    o["healed_records"] = r.healed_records;
    o["lost_records"] = r.lost_records;
    o["lost_lsn_ranges"] = to_json(s.exam.found.lost);
    put_losses(o, s);
    o["torn_tail_bytes"] = r.torn_tail_bytes;
    o["skipped_records"] = r.skipped_records;
    o["transient_mismatches"] = r.transient_mismatches;
    o["clean_close"] = r.clean_close;
    o["bytes"] = r.bytes;
    o["first_lsn"] = r.first_lsn.value;
    o["last_lsn"] = r.last_lsn.value;
    o["findings"] = json::array();
    for (auto const& f : s.findings) o["findings"].push_back(to_json(f));
    return o;
}

/// Advice on an error whose message has none: errors of the machine, and of a folder that the command line does not name.
[[nodiscard]] inline std::string next_step(command_line const& line, error const& why) {
    bool const about_folder = why.code == errc::not_found || why.code == errc::not_a_store;
    if (about_folder && line.folder == folder_source::environment)
        return "; the folder is the one that KEEL_DATA_DIR names; --data-dir DIR names another";
    if (about_folder && line.directory == why.file && why.message.find("--data-dir") == std::string::npos)
        return "; check --data-dir";
    if (why.cause == 0) return {};
    switch (why.code) {
    case errc::no_permission: return "; run this as the user who owns the store";
    case errc::io_error: return "; copy the folder to another disk before anything else";
    case errc::no_space: return "; make room on the disk, then run this again";
    case errc::no_descriptor: return "; raise the limit (ulimit -n), then run this again";
    default: return {};
    }
}

/// Reports an error: one line on `err`. With --json one object on `out`, with every field that a reader of validate expects.
inline int say_error(console& to, command_line const& line, error const& why) {
    if (!line.json) {
        to.err << "wal-recovery: " << printable(to_string(why)) << next_step(line, why) << '\n';
        return exit_unusable;
    }
    json o;
    o["status"] = "unreadable";
    o["data_dir"] = line.directory;
    o["error"] = to_json(why);
    for (auto const* name :
         {"segments", "records", "corrupted_segments", "corrupted_records", "torn_tail_bytes", "first_lsn", "last_lsn"})
        o[name] = 0;
    o["findings"] = json::array();
    write(to.out, o);
    return exit_unusable;
}

inline void say_line(console& to, std::string_view name, std::string const& text) {
    std::string label{name};
    label.resize(12, ' ');
    to.out << to.paint(style::bold, label) << text << '\n';
}

[[nodiscard]] inline std::string size_of_log(survey const& s) {
    std::uint64_t bytes = 0;
    for (auto const& segment : s.exam.stock.segments) bytes += segment.file_bytes;
    return human_bytes(bytes);
}

[[nodiscard]] inline std::string size_of_tables(survey const& s) {
    std::uint64_t bytes = 0;
    for (auto const& [id, t] : s.exam.stock.state.tables) bytes += t.size;
    return human_bytes(bytes);
}

/// Prints a summary of the store: its parts, its state and its records.
inline void say_summary(console& to, survey const& s) {
    auto const& r = s.exam.report;
    say_line(to, "store",
             printable(s.exam.stock.paths.root()) + " (checksum " + std::string{s.checksum} + ", format " +
                 std::to_string(format::format_number) + ")");
    say_line(to, "status", painted_status(to, s));
    if (s.in_use) say_line(to, "in use", "a program has the store open; this is how it was a moment ago");
    say_line(to, "segments",
             grouped(r.segments) + ", " + size_of_log(s) +
                 (r.corrupted_segments != 0 ? ", " + grouped(r.corrupted_segments) + " damaged" : ""));
    auto records = counted(r.records, "record");
    if (r.records != 0)
        records += ", LSN " + std::to_string(r.first_lsn.value) + " to " + std::to_string(r.last_lsn.value);
    say_line(to, "records", records);
    if (r.tables != 0)
        say_line(to, "tables",
                 grouped(r.tables) + ", " + size_of_tables(s) + ", " + counted(r.table_records, "record") +
                     " up to LSN " + std::to_string(s.exam.stock.state.log_start_lsn.value));
    if (r.corrupted_records != 0)
        say_line(to, "damage",
                 "acknowledged records that do not verify: " + grouped(r.corrupted_records) + " (" +
                     grouped(r.healed_records) + " whole elsewhere, " + grouped(r.lost_records) + " lost)");
    if (!s.exam.found.lost.empty()) say_line(to, "lost", "LSN " + text_of(s.exam.found.lost));
    for (auto const& u : r.unknown_extents)
        say_line(to, "unknown",
                 "how much was lost behind LSN " + std::to_string(u.after.value) + ": " + printable(u.why));
    if (!r.declared_lost_lsn_ranges.empty())
        say_line(to, "declared",
                 "lost in earlier repairs: LSN " + text_of(r.declared_lost_lsn_ranges) +
                     " ('accept-loss' ends this line)");
    if (!r.accepted_lost_lsn_ranges.empty())
        say_line(to, "accepted", "lost, and confirmed: LSN " + text_of(r.accepted_lost_lsn_ranges));
    if (r.torn_tail_bytes != 0 || r.skipped_records != 0)
        say_line(to, "torn tail",
                 grouped(r.torn_tail_bytes) + " bytes, never acknowledged: the trace of a crash, no damage");
    if (r.transient_mismatches != 0)
        say_line(to, "transient",
                 grouped(r.transient_mismatches) +
                     " mismatches on the first read, right on the second: suspect memory or cables");
}

/// Prints the first findings as a table.
inline void say_findings(console& to, std::vector<finding> const& findings) {
    constexpr std::size_t shown = 40;
    if (findings.empty()) return;
    text_table table{{"file", "offset", "length", "lsn", "kind", "detail"}};
    for (std::size_t i = 0; i < findings.size() && i < shown; ++i) {
        auto const& f = findings[i];
        table.add({printable(f.file), std::to_string(f.offset), std::to_string(f.length), text_of(f.lsns),
                   std::string{name_of(f.kind)}, printable(f.detail)});
    }
    to.out << '\n' << to.paint(style::bold, "findings") << '\n';
    table.print(to);
    if (findings.size() > shown)
        to.out << "  and " << grouped(findings.size() - shown) << " more: --json has them all\n";
}

} // namespace keel::inline v0::tool::detail

#endif
