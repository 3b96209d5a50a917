// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_INSPECT_HPP
#define KEEL_TOOL_DETAIL_INSPECT_HPP

// `wal-recovery inspect`: the parts of a store: manifest, segments and spares, declared losses, notes, and the files that earlier repairs
// moved to quarantine.

#include <keel/detail/hex.hpp>
#include <keel/tool/detail/survey.hpp>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// One folder in quarantine/, with the contents of its receipt.
struct quarantine_folder {
    std::string name{};
    std::vector<std::string> files{};
    std::string strategy{};
    std::string time{};
    std::uint64_t lost_records = 0;
    bool undone = false;
    bool unfinished = false; ///< the repair was interrupted; the next repair continues it
};

template <class Fs>
[[nodiscard]] std::string small_file(Fs& fs, std::string const& path) {
    constexpr std::uint64_t bytes_max = 16 * MiB;
    auto const file = fs.open(path, io::access::read_only, io::creation::must_exist);
    if (!file) return {};
    auto const status = file->status();
    if (!status || status->size > bytes_max) return {};
    std::string text(static_cast<std::size_t>(status->size), '\0');
    auto const got = file->read(0, std::as_writable_bytes(std::span{text}));
    text.resize(got ? *got : 0);
    return text;
}

inline void read_receipt(quarantine_folder& folder, std::string const& text) {
    auto const receipt = json::parse(text, nullptr, false);
    if (!receipt.is_object()) return;
    auto const word = [&](char const* name) {
        auto const at = receipt.find(name);
        return at != receipt.end() && at->is_string() ? at->get<std::string>() : std::string{};
    };
    folder.strategy = word("strategy");
    folder.time = word("time");
    auto const lost = receipt.find("lost_records");
    if (lost != receipt.end() && lost->is_number_unsigned()) folder.lost_records = lost->get<std::uint64_t>();
}

template <class Fs>
[[nodiscard]] std::vector<quarantine_folder> list_quarantine(Fs& fs, wal::layout const& paths) {
    std::vector<quarantine_folder> out;
    auto const names = fs.list(paths.quarantine());
    if (!names) return out;
    for (auto const& entry : *names) {
        if (entry.kind != io::file_kind::directory) continue;
        quarantine_folder folder{.name = entry.name};
        auto const path = paths.quarantine() + '/' + entry.name;
        if (auto const files = fs.list(path))
            for (auto const& f : *files) folder.files.push_back(f.name);
        // A repair after an undo has the same number, so its receipt is in the same folder as the undone one.
        auto const has = [&](std::string_view file) {
            return std::ranges::find(folder.files, file) != folder.files.end();
        };
        folder.unfinished = !has("receipt.json") && has("progress");
        folder.undone = !has("receipt.json") && !folder.unfinished && has("receipt.undone.json");
        read_receipt(folder, small_file(fs, path + (folder.undone ? "/receipt.undone.json" : "/receipt.json")));
        out.push_back(std::move(folder));
    }
    return out;
}

/// One segment as inspect shows it.
struct segment_row {
    recovery::found_segment const& segment;
    recovery::segment_run const* run; ///< null for a spare
    bool chain_ok;

    [[nodiscard]] std::string_view state() const noexcept {
        if (!segment.present) return "missing";
        if (!segment.header) return "headers lost";
        switch (segment.header->state) {
        case format::segment_state::prepared: return "prepared";
        case format::segment_state::active: return segment.entry.seal ? "sealed" : "active";
        case format::segment_state::rebuilt: return "rebuilt";
        }
        return "unknown";
    }
    [[nodiscard]] std::uint64_t used() const noexcept { return run != nullptr && run->frames != 0 ? run->data_end : 0; }
    [[nodiscard]] lsn last() const noexcept { return run != nullptr ? run->last : lsn{}; }
    [[nodiscard]] std::uint64_t records() const noexcept { return run != nullptr ? run->records : 0; }
};

[[nodiscard]] inline std::vector<segment_row> rows_of(survey const& s) {
    auto const& stock = s.exam.stock;
    std::vector<std::string> broken;
    for (auto const& f : s.findings)
        if (f.kind == damage::chain_broken || f.kind == damage::seal_mismatch) broken.push_back(f.file);
    std::ranges::sort(broken);
    std::vector<segment_row> rows;
    for (std::size_t i = 0; i < stock.segments.size(); ++i)
        rows.push_back({stock.segments[i], &s.exam.runs[i],
                        !std::ranges::binary_search(broken, stock.paths.inside(stock.segments[i].path))});
    for (auto const& spare : stock.spare) rows.push_back({spare, nullptr, true});
    return rows;
}

[[nodiscard]] inline std::string store_text(format::store_id const& id) { return keel::detail::hex_of(byte_view{id}); }

[[nodiscard]] inline json segment_json(segment_row const& row, wal::layout const& paths) {
    auto const& s = row.segment;
    json o;
    o["file"] = paths.inside(s.path);
    o["id"] = s.entry.id.value;
    o["place"] = s.entry.place.value;
    o["state"] = row.state();
    o["spare"] = row.run == nullptr;
    o["sealed"] = s.entry.seal.has_value();
    o["registered"] = s.registered;
    o["first_lsn"] = row.run != nullptr ? s.geometry.first.value : 0;
    o["last_lsn"] = row.last().value;
    o["records"] = row.records();
    o["bytes"] = s.file_bytes;
    o["bytes_used"] = row.used();
    o["chain_ok"] = row.chain_ok;
    if (s.header && s.header->void_from) o["cut"] = s.header->void_from.value;
    if (s.entry.seal) {
        o["aggregate"] = hex(s.entry.seal->aggregate);
        o["chain"] = hex(s.entry.seal->chain);
    }
    return o;
}

[[nodiscard]] inline json inspect_json(survey const& s, std::vector<quarantine_folder> const& quarantine) {
    auto const& stock = s.exam.stock;
    json o;
    o["status"] = status_of(s);
    o["data_dir"] = stock.paths.root();
    o["store_id"] = store_text(stock.store);
    o["format"] = format::format_number;
    o["checksum"] = s.checksum;
    o["in_use"] = s.in_use;
    o["branch"] = stock.branch;
    o["edit"] = stock.state.edit;
    o["floor"] = stock.state.log_start_lsn.value;
    o["horizon"] = s.exam.found.horizon.value;
    o["first_lsn"] = s.exam.report.first_lsn.value;
    o["last_lsn"] = s.exam.report.last_lsn.value;
    o["clean_close"] = s.exam.report.clean_close;
    o["segments"] = json::array();
    for (auto const& row : rows_of(s)) o["segments"].push_back(segment_json(row, stock.paths));
    o["tables"] = json::array();
    for (auto const& [id, t] : stock.state.tables)
        o["tables"].push_back({{"file", stock.paths.inside(stock.paths.table(id))},
                               {"id", id.value},
                               {"level", t.level},
                               {"records", t.records},
                               {"first_lsn", t.lsns.first.value},
                               {"last_lsn", t.lsns.last.value},
                               {"bytes", t.size},
                               {"compression", compression::name_of(t.compression)},
                               {"smallest", printable(t.smallest)},
                               {"largest", printable(t.largest)}});
    put_losses(o, s);
    o["leftovers"] = json::array();
    for (auto const& l : stock.leftovers) o["leftovers"].push_back(stock.paths.inside(l.path));
    o["notes"] = nullptr;
    if (auto const& n = stock.note)
        o["notes"] = {{"segment", n->segment.value},
                      {"accepted_lsn", n->accepted.value},
                      {"durable_lsn", n->durable.value},
                      {"attempts", n->attempts},
                      {"this_boot", stock.note_is_own}};
    o["quarantine"] = json::array();
    for (auto const& q : quarantine)
        o["quarantine"].push_back({{"folder", "quarantine/" + q.name},
                                   {"strategy", q.strategy},
                                   {"time", q.time},
                                   {"files", q.files},
                                   {"lost_records", q.lost_records},
                                   {"undone", q.undone},
                                   {"unfinished", q.unfinished}});
    return o;
}

inline void say_segments(console& to, survey const& s) {
    text_table table{{"segment", "place", "state", "first", "last", "records", "used", "of", "chain"}};
    for (auto const& row : rows_of(s)) {
        auto const& e = row.segment.entry;
        bool const holds = row.records() != 0;
        table.add({std::to_string(e.id.value), std::to_string(e.place.value), std::string{row.state()},
                   holds ? std::to_string(row.segment.geometry.first.value) : "-",
                   holds ? std::to_string(row.last().value) : "-", std::to_string(row.records()),
                   human_bytes(row.used()), human_bytes(row.segment.file_bytes), row.chain_ok ? "ok" : "BROKEN"});
    }
    to.out << '\n' << to.paint(style::bold, "segments") << '\n';
    table.print(to);
}

inline void say_tables(console& to, survey const& s) {
    constexpr std::size_t key_shown = 24;
    auto const key = [](std::string const& text) {
        return printable(text.substr(0, key_shown)) + (text.size() > key_shown ? "..." : "");
    };
    text_table table{
        {"table", "level", "records", "bytes", "compression", "first lsn", "last lsn", "smallest key", "largest key"}};
    for (auto const& [id, t] : s.exam.stock.state.tables)
        table.add({std::to_string(id.value), std::to_string(t.level), std::to_string(t.records), human_bytes(t.size),
                   compression::name_of(t.compression), std::to_string(t.lsns.first.value),
                   std::to_string(t.lsns.last.value), key(t.smallest), key(t.largest)});
    to.out << '\n' << to.paint(style::bold, "tables") << '\n';
    table.print(to);
}

inline void say_inspection(console& to, survey const& s, std::vector<quarantine_folder> const& quarantine) {
    auto const& stock = s.exam.stock;
    say_summary(to, s);
    say_line(to, "store id", store_text(stock.store) + ", branch " + std::to_string(stock.branch));
    say_line(to, "manifest",
             "edit " + std::to_string(stock.state.edit) + ", next segment " + std::to_string(stock.state.next_segment) +
                 (stock.state.log_start_lsn ? ", records up to LSN " + std::to_string(stock.state.log_start_lsn.value) +
                                                  (stock.state.tables.empty() ? " were given up" : " are in tables")
                                            : ""));
    say_line(to, "horizon",
             "LSN " + std::to_string(s.exam.found.horizon.value) + " and all before it were acknowledged");
    if (auto const& n = stock.note)
        say_line(to, "notes",
                 "accepted LSN " + std::to_string(n->accepted.value) + ", durable LSN " +
                     std::to_string(n->durable.value) +
                     (stock.note_is_own ? ", of this boot" : ", of an earlier boot or another place"));
    if (!stock.segments.empty() || !stock.spare.empty()) say_segments(to, s);
    if (!stock.state.tables.empty()) say_tables(to, s);
    for (auto const& l : stock.leftovers)
        to.out << "  leftover, no part of the store: " << printable(stock.paths.inside(l.path)) << '\n';
    if (quarantine.empty()) return;
    to.out << '\n' << to.paint(style::bold, "quarantine") << '\n';
    text_table table{{"repair", "time", "strategy", "lost", "files"}};
    for (auto const& q : quarantine)
        table.add({printable(q.name) + (q.undone       ? " (undone)"
                                        : q.unfinished ? " (cut short)"
                                                       : ""),
                   printable(q.time), printable(q.strategy), std::to_string(q.lost_records),
                   std::to_string(q.files.size())});
    table.print(to);
}

template <class Config>
[[nodiscard]] result<int> inspect(typename Config::file_system& fs, command_line const& line, console& to) {
    wal::layout const paths{line.directory};
    KEEL_TRY_LET(session, look_without_writing<Config>(fs, line, to));
    auto const quarantine = list_quarantine(session.through, paths);
    if (line.json) write(to.out, inspect_json(session.seen, quarantine));
    else say_inspection(to, session.seen, quarantine);
    return exit_done;
}

} // namespace keel::inline v0::tool::detail

#endif
