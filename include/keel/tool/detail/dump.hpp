// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_DUMP_HPP
#define KEEL_TOOL_DETAIL_DUMP_HPP

// `wal-recovery dump`: every record, one a line. Records in tables come first, the deepest level before the others, sorted by key. Then
// come the records of the log that count, in LSN order. Each record is read and verified again. Memory: one window for each segment whose
// LSNs overlap others, independent of the size of the store.

#include <keel/format/text.hpp>
#include <keel/table/check_table.hpp>
#include <keel/tool/detail/counted_records.hpp>
#include <keel/tool/detail/salvage.hpp>
#include <keel/tool/detail/survey.hpp>

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// Passes the records in tables to `to`, each with its own LSN. Records that do not verify are in the survey's findings.
template <checksum_policy C, compression_policy P, class Fs, class F>
[[nodiscard]] result<void> each_table_record(Fs fs, recovery::inventory const& stock, lsn from, F const& to) {
    std::vector<format::table_entry const*> tables;
    for (auto const& [id, t] : stock.state.tables)
        if (std::ranges::find(stock.missing_tables, id) == stock.missing_tables.end()) tables.push_back(&t);
    std::ranges::sort(tables, [](auto const* a, auto const* b) {
        if (a->level != b->level) return a->level > b->level;
        // Tables of level 0 may have the same keys, so the older table comes first.
        if (a->level == 0) return std::tie(a->lsns.last, a->id) < std::tie(b->lsns.last, b->id);
        return std::tie(a->smallest, a->id) < std::tie(b->smallest, b->id);
    });
    for (auto const* t : tables) {
        auto const path = stock.paths.table(t->id);
        auto const put = [&](table::version const& v) {
            if (v.at < from) return;
            static_cast<void>(to({v.at, v.tombstone ? format::frame_type::erase : format::frame_type::put,
                                  format::whole_batch, as_bytes(v.key), as_bytes(v.value)}));
        };
        KEEL_TRY_LET(seen, (table::check_table<C, P>(fs, path, path, *t, put)));
    }
    return {};
}

/// One record as one line of JSON.
[[nodiscard]] inline std::string json_line(format::record_view const& r) {
    json o;
    o["lsn"] = r.at.value;
    o["type"] = format::name_of(r.type);
    o["begins_batch"] = (r.flags & format::begins_batch) != 0;
    o["ends_batch"] = (r.flags & format::ends_batch) != 0;
    if (r.type != format::frame_type::message || !r.key.empty()) add_bytes(o, "key", r.key);
    if (r.type != format::frame_type::erase || !r.value.empty()) add_bytes(o, "value", r.value);
    return o.dump();
}

template <class Config>
[[nodiscard]] result<int> dump(typename Config::file_system& fs, command_line const& line, console& to) {
    using through = view<typename Config::file_system>;
    wal::layout const paths{line.directory};
    std::string text;
    lsn newest = lsn_max;
    auto const put = [&](format::record_view const& r) {
        if (r.at > newest) return false; // the writer may still undo this record
        text.clear();
        if (line.json) text = json_line(r);
        else format::append_text(text, r);
        text += '\n';
        to.out << text;
        return to.out.good();
    };
    auto looked = look_without_writing<Config>(fs, line, to);
    if (!looked && needs_salvage<Config>(fs, paths, looked.error())) {
        KEEL_TRY_LET(held, lock_store(fs, paths, io::lock_mode::shared));
        KEEL_TRY_LET(code, (salvage<Config>{fs, line, to}.run(put)));
        KEEL_TRY(is_written(to));
        return code;
    }
    KEEL_TRY_LET(session, std::move(looked));
    auto const& seen = session.seen;
    newest = seen.newest_acknowledged();
    KEEL_TRY((each_table_record<typename Config::checksum, typename Config::compression>(
        session.through, seen.exam.stock, line.from, put)));
    counted_records<typename Config::checksum, through> records{session.through, seen.exam, line.from};
    KEEL_TRY(records.each(put));
    KEEL_TRY(is_written(to));
    bool left_out = false;
    for (auto const& f : seen.findings)
        if ((f.kind == damage::corrupt_block && f.done != outcome::healed) || f.kind == damage::missing_table) {
            left_out = true;
            to.err << "wal-recovery: not in this dump: what " << printable(f.file) << " holds at " << f.offset << ": "
                   << printable(f.detail) << '\n';
        }
    if (seen.exam.found.lost.empty()) return left_out ? exit_damage : exit_done;
    to.err << "wal-recovery: not in this dump, because they do not verify: LSN " << text_of(seen.exam.found.lost)
           << '\n';
    return exit_damage;
}

} // namespace keel::inline v0::tool::detail

#endif
