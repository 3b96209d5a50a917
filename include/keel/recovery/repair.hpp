// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_REPAIR_HPP
#define KEEL_RECOVERY_REPAIR_HPP

// Decisions -> effects. Repair never writes in place and never destroys evidence (R5.5):
//   1. quarantine/<number>/ gets copies of both manifests;
//   2. each damaged segment that still has records is written anew beside the old one, and synced; tables that a roll-back goes behind
//      are copied there;
//   3. quarantine/<number>/receipt.json says what was found, what is done, and the digests of the files before and after;
//   4. one manifest edit switches: new segments in, old ones out, losses declared;
//   5. the old files move into quarantine/<number>/.
// A crash before 4 leaves the old store and some leftovers; after 4 the new store, and the move is completed at the next open.
// undo() puts it all back byte for byte, as long as nothing was written since.

#include <keel/observe/json.hpp>
#include <keel/recovery/plan.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/recovery/segment_builder.hpp>
#include <keel/wal/lsn_set.hpp>
#include <keel/wal/manifest.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

struct repair_done {
    std::uint64_t number = 0;               ///< of this repair; its folder is quarantine/<number>
    std::vector<std::string> quarantined{}; ///< paths inside the store
    std::vector<segment_id> built{};
    std::optional<error>
        unfinished{}; ///< the new state stands, but some old file could not be moved: the next repair or open does it
};

namespace detail {

template <class Config>
class repairer {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;
    using store_type = wal::manifest_store<C, fs_type>;

    repairer(fs_type& fs, examination const& e, repair_plan const& plan, open_options const& options,
             std::string_view strategy)
        : fs_{fs}, e_{e}, plan_{plan}, options_{options}, strategy_{strategy}, paths_{e.stock.paths},
          now_ns_{options.clock_ns()} {}

    result<repair_done> run(store_type& manifest) {
        done_.number = manifest.state().next_repair;
        next_id_ = manifest.state().next_segment;
        KEEL_TRY(open_quarantine());
        KEEL_TRY(manifest.check_identity());
        for (auto const& s : plan_.segments) KEEL_TRY(repair_segment(s));
        if (!done_.built.empty()) KEEL_TRY(fs_.sync_directory(paths_.log()));
        for (auto const id : plan_.not_ingested) KEEL_TRY(keep_copy(id));
        KEEL_TRY(write_receipt());
        KEEL_TRY(switch_over(manifest));
        auto moved = manifest.check_identity();
        if (moved) moved = move_away();
        if (!moved) done_.unfinished = std::move(moved).error();
        return std::move(done_);
    }

private:
    [[nodiscard]] std::string folder() const { return paths_.quarantine(done_.number); }

    static result<void> folder_exists(fs_type& fs, std::string const& path) {
        auto made = fs.make_directory(path);
        if (!made && made.error().code != errc::exists) return failure(std::move(made).error());
        return {};
    }

    result<void> open_quarantine() {
        KEEL_TRY(folder_exists(fs_, paths_.quarantine()));
        KEEL_TRY(fs_.sync_directory(paths_.root()));
        KEEL_TRY(folder_exists(fs_, folder()));
        KEEL_TRY(fs_.sync_directory(paths_.quarantine()));
        for (int i = 0; i < 2; ++i) {
            auto bytes = read_all(paths_.manifest(i));
            if (!bytes && bytes.error().code == errc::not_found) continue;
            // A manifest that cannot be read is no reason not to repair: what can be had of it is in memory already.
            if (!bytes) continue;
            KEEL_TRY(store_type::put_file(fs_, folder() + (i == 0 ? "/manifest.0" : "/manifest.1"), *bytes));
        }
        return {};
    }

    result<std::vector<std::byte>> read_all(std::string const& path) {
        KEEL_TRY_LET(file, fs_.open(path, io::access::read_only, io::creation::must_exist));
        KEEL_TRY_LET(status, file.status());
        std::vector<std::byte> bytes(static_cast<std::size_t>(status.size));
        KEEL_TRY_LET(got, file.read(0, bytes));
        bytes.resize(got);
        return bytes;
    }

    /// The policy's sum over a file as it is, unreadable sectors taken as zeros.
    std::uint64_t digest(std::string const& path, std::uint64_t bytes) {
        auto file = fs_.open(path, io::access::read_only, io::creation::must_exist);
        if (!file) return 0;
        wal::window<typename fs_type::file> in{*file, bytes};
        C sum;
        for (std::uint64_t at = 0; at < bytes;) {
            auto const part = in.from(at, 1);
            sum.update(part);
            at += part.size();
        }
        return sum.value();
    }

    result<void> repair_segment(segment_repair const& what) {
        auto const& old = e_.stock.segments[what.segment];
        observe::json_object row;
        row.text("file", paths_.inside(old.path))
            .number("bytes", old.file_bytes)
            .hex("digest", digest(old.path, old.file_bytes));
        edit_.removed(old.entry.id, done_.number);
        moves_.push_back({old.path, paths_.segment(old.entry.id)});
        if (what.keep_records) KEEL_TRY(build(what.segment, row));
        rows_ += (rows_.empty() ? "" : ",") + row.str();
        return {};
    }

    /// The table's own file goes with the first merge: no manifest names it then.
    result<void> keep_copy(format::table_id id) {
        edit_.untable(id);
        auto const from = paths_.table(id);
        auto const to = folder() + from.substr(from.rfind('/'));
        if (std::ranges::find(e_.stock.missing_tables, id) != e_.stock.missing_tables.end()) return {};
        KEEL_TRY_LET(source, fs_.open(from, io::access::read_only, io::creation::must_exist));
        KEEL_TRY_LET(status, source.status());
        KEEL_TRY_LET(target, store_type::put_file(fs_, to));
        wal::window<typename fs_type::file> in{source, status.size};
        for (std::uint64_t at = 0; at < status.size;) {
            auto const part = in.from(at, 1);
            KEEL_TRY(target.write(at, part));
            at += part.size();
        }
        KEEL_TRY(target.sync());
        observe::json_object row;
        row.text("file", paths_.inside(from)).number("bytes", status.size).hex("digest", digest(from, status.size));
        tables_ += (tables_.empty() ? "" : ",") + row.str();
        done_.quarantined.push_back(paths_.inside(to));
        return {};
    }

    result<void> build(std::size_t index, observe::json_object& row) {
        auto const& old = e_.stock.segments[index];
        while (static_cast<std::uint32_t>(next_id_) == 0) ++next_id_;
        segment_id const id{next_id_++};
        format::segment_header header{.checksum = checksum_id{C::id}, .store = e_.stock.store, .id = id};
        if (old.header) header = *old.header;
        header.id = id;
        header.salt = format::salt_of(id, static_cast<std::uint32_t>(options_.entropy()));
        header.branch = e_.stock.branch;
        header.created_ns = now_ns_;
        header.size = old.entry.size;
        header.first = old.geometry.first;
        header.durable_edit = e_.stock.state.edit;
        header.place = old.entry.place;
        header.state = format::segment_state::rebuilt;
        std::vector<lsn_range> keep;
        std::uint64_t wanted = 0;
        for (auto const& c : plan_.counted)
            if (c.segment == index) {
                keep.push_back(c.range);
                wanted += c.range.size();
            }

        auto const temporary = paths_.segment_temporary();
        KEEL_TRY_LET(target, store_type::put_file(fs_, temporary));
        segment_builder<C, typename fs_type::file> builder{target, header, std::move(keep)};
        builder.start(now_ns_, e_.found.horizon);
        KEEL_TRY_LET(file, fs_.open(old.path, io::access::read_only, io::creation::must_exist));
        auto whole = old.geometry;
        whole.indexed.reset(); // what stood in for records is no copy of them
        static_cast<void>(scan_segment<C>(file, whole, builder, options_.cancel));
        if (options_.cancel.stop_requested())
            return failure(errc::cancelled, "the repair was cancelled; nothing was changed", old.path);
        if (builder.count() != wanted)
            return failure(errc::corruption,
                           "of " + std::to_string(wanted) + " records that were to be kept " +
                               std::to_string(builder.count()) +
                               " verify; nothing was changed: open with verify = deep, which finds all damage first",
                           old.path);
        auto losses = e_.runs[index].losses; // what the old segment said of them, its successor says, too
        losses.insert(losses.end(), plan_.declare.begin(), plan_.declare.end());
        if (!losses.empty()) builder.losses(losses);
        auto const seal = builder.seal();
        KEEL_TRY(builder.finish());
        KEEL_TRY(fs_.rename(temporary, paths_.segment(id)));
        edit_.prepared(id, header.salt, header.size, old.entry.place).sealed(seal);
        done_.built.push_back(id);
        row.text("replaced_by", paths_.inside(paths_.segment(id))).number("records", builder.count());
        row.hex("digest_after", digest(paths_.segment(id), header.size));
        return {};
    }

    result<void> write_receipt() {
        std::string found;
        for (auto const& f : e_.report.findings) found += (found.empty() ? "" : ",") + observe::to_json(f, now_ns_);
        observe::json_object o;
        o.number("repair", done_.number).text("time", observe::utc_text(now_ns_)).text("strategy", strategy_);
        o.text("digest_policy", C::name).number("lost_records", plan_.lost_records);
        o.raw("declared_lost", observe::to_json(plan_.declare))
            .raw("segments", "[" + rows_ + "]")
            .raw("tables", "[" + tables_ + "]")
            .raw("findings", "[" + found + "]");
        auto const text = o.str() + "\n";
        KEEL_TRY(store_type::put_file(fs_, folder() + "/receipt.json", as_bytes(text)));
        return fs_.sync_directory(folder());
    }

    result<void> switch_over(store_type& manifest) {
        for (auto const& r : plan_.declare) edit_.loss(r);
        // A manifest that was rebuilt has not heard of those that only frames declare, and their segments may go.
        wal::lsn_set known;
        for (auto const& r : manifest.state().losses) known.add(r);
        for (auto const& r : e_.found.declared)
            for (auto const& part : known.gaps_in(r)) edit_.loss(part);
        for (auto const id : plan_.forget) edit_.removed(id, done_.number);
        edit_.next(next_id_, done_.number + 1);
        if (!plan_.rewrite_manifest) return manifest.commit(edit_);
        auto after = format::applied(manifest.state(), format::frame_type::edit,
                                     std::max(manifest.state().edit, e_.stock.manifest.marked) + 1, edit_.payload());
        if (!after)
            return failure(errc::corruption, "the repair contradicts the manifest; validate the store and report this",
                           paths_.root());
        return manifest.create(std::move(*after));
    }

    result<void> move_away() {
        for (auto const& [from, as] : moves_) {
            auto const to = folder() + as.substr(as.rfind('/'));
            KEEL_TRY(fs_.rename(from, to));
            done_.quarantined.push_back(paths_.inside(to));
        }
        if (moves_.empty()) return {};
        KEEL_TRY(fs_.sync_directory(folder()));
        return fs_.sync_directory(paths_.log());
    }

    fs_type& fs_;
    examination const& e_;
    repair_plan const& plan_;
    open_options const& options_;
    std::string_view strategy_;
    wal::layout const& paths_;
    std::uint64_t now_ns_;
    repair_done done_{};
    std::uint64_t next_id_ = 1;
    format::edit_builder edit_{};
    std::vector<std::pair<std::string, std::string>> moves_{};
    std::string rows_{};
    std::string tables_{};
};

} // namespace detail

/// Carries a plan out. The caller holds the store's lock. After an error the old store stands, or the new one; never a mixture.
template <class Config>
[[nodiscard]] result<repair_done> apply_repair(
    typename Config::file_system& fs, examination const& e, repair_plan const& plan, open_options const& options,
    std::string_view strategy, wal::manifest_store<typename Config::checksum, typename Config::file_system>& manifest) {
    return detail::repairer<Config>{fs, e, plan, options, strategy}.run(manifest);
}

/// Appends to quarantine/corruption.jsonl, synced, the events whose like does not stand among the log's last ones: damage that lost
/// nothing stays where it is and is found by every open. The caller holds the store's lock.
template <io::file_system Fs>
[[nodiscard]] result<void> log_corruption(Fs& fs, wal::layout const& paths, std::vector<finding> const& findings,
                                          std::uint64_t now_ns) {
    if (std::ranges::none_of(findings, &finding::is_corruption)) return {};
    auto made = fs.make_directory(paths.quarantine());
    if (!made && made.error().code != errc::exists) return failure(std::move(made).error());
    if (made) KEEL_TRY(fs.sync_directory(paths.root()));
    KEEL_TRY_LET(file, fs.open(paths.corruption_log(), io::access::read_write, io::creation::if_missing));
    KEEL_TRY_LET(status, file.status());
    std::string recent(static_cast<std::size_t>(std::min<std::uint64_t>(status.size, 64 * KiB)), ' ');
    KEEL_TRY(file.read(status.size - recent.size(), std::as_writable_bytes(std::span{recent})));
    std::string lines;
    for (auto const& f : findings) {
        if (!f.is_corruption()) continue;
        auto const line = observe::to_json(f, now_ns);
        auto const behind_time = std::string_view{line}.substr(line.find("\"kind\""));
        if (!recent.ends_with('\n') && !recent.empty() && lines.empty()) lines += '\n'; // a crash tore its last line
        if (recent.find(behind_time) == std::string::npos) lines += line + '\n';
    }
    if (lines.empty()) return {};
    KEEL_TRY(file.write(status.size, as_bytes(lines)));
    KEEL_TRY(file.sync());
    return fs.sync_directory(paths.quarantine());
}

/// Moves files that an interrupted repair took out of service into its quarantine folder. The caller holds the store's lock.
template <io::file_system Fs>
[[nodiscard]] result<void> finish_moves(Fs& fs, inventory const& stock) {
    for (auto const& file : stock.leftovers) {
        if (!file.removed) continue;
        auto const by = std::ranges::find_if(stock.state.removed, [&](auto const& r) { return r.id == *file.removed; });
        auto const folder = stock.paths.quarantine(by->repair);
        auto const to = folder + '/' + wal::layout::segment_name(*file.removed);
        if (!fs.status(folder) || fs.status(to)) continue; // nothing that was moved before is written over
        KEEL_TRY(fs.rename(file.path, to));
        KEEL_TRY(fs.sync_directory(folder));
        KEEL_TRY(fs.sync_directory(stock.paths.log()));
    }
    return {};
}

/// Takes the last repair back: every file as it was, byte for byte. Refused once anything was written after it.
/// The caller holds the store's lock exclusively.
template <class Config>
[[nodiscard]] result<std::uint64_t> undo_repair(typename Config::file_system& fs, std::string const& directory) {
    using C = typename Config::checksum;
    using fs_type = typename Config::file_system;
    wal::layout const paths{directory};
    auto const now = wal::load_manifest<C>(fs, paths);
    if (!now.state || now.state->next_repair < 2)
        return failure(errc::not_found, "no repair is on record here: nothing to undo", paths.root());
    auto const number = now.state->next_repair - 1;
    auto const folder = paths.quarantine(number);
    auto names = fs.list(folder);
    if (!names)
        return failure(errc::not_found, "the quarantine of the last repair is gone: it cannot be undone", folder);

    wal::manifest_load before;
    before.copies[0] = wal::read_manifest_copy<C>(fs, folder + "/manifest.0");
    before.copies[1] = wal::read_manifest_copy<C>(fs, folder + "/manifest.1");
    wal::assemble(before);
    auto const last_edit = before.state ? std::max(before.state->edit, before.marked) : 0;
    if (last_edit != 0 && now.state->edit > last_edit + 1)
        return failure(errc::conflict, "the store was written to since the repair: undoing it would lose those writes",
                       paths.root());

    for (auto const& entry : *names)
        if (wal::layout::segment_of(entry.name))
            KEEL_TRY(fs.rename(folder + '/' + entry.name, paths.log_file(entry.name)));
        else if (wal::layout::table_of(entry.name))
            KEEL_TRY(fs.rename(folder + '/' + entry.name, paths.table_file(entry.name)));
    KEEL_TRY(fs.sync_directory(paths.log()));
    if (now.state->tables.size() != (before.state ? before.state->tables.size() : 0))
        KEEL_TRY(fs.sync_directory(paths.tables()));
    for (int i = 0; i < 2; ++i) {
        auto const name = folder + (i == 0 ? "/manifest.0" : "/manifest.1");
        auto saved = fs.open(name, io::access::read_only, io::creation::must_exist);
        if (!saved) {
            if (auto gone = fs.remove(paths.manifest(i)); !gone && gone.error().code != errc::not_found)
                return failure(gone.error());
            continue;
        }
        KEEL_TRY_LET(status, saved->status());
        std::vector<std::byte> bytes(static_cast<std::size_t>(status.size));
        KEEL_TRY_LET(got, saved->read(0, bytes));
        bytes.resize(got);
        using store_type = wal::manifest_store<C, fs_type>;
        KEEL_TRY(store_type::put_file(fs, paths.manifest_temporary(i), bytes));
        KEEL_TRY(fs.rename(paths.manifest_temporary(i), paths.manifest(i)));
        KEEL_TRY(fs.sync_directory(paths.root()));
    }
    for (auto const& [id, entry] : now.state->segments) {
        bool const built = before.state ? id.value >= before.state->next_segment : entry.place != id;
        if (built) KEEL_TRY(fs.remove(paths.segment(id)));
    }
    KEEL_TRY(fs.sync_directory(paths.log()));
    KEEL_TRY(fs.rename(folder + "/receipt.json", folder + "/receipt.undone.json"));
    for (auto const* name : {"/manifest.0", "/manifest.1"})
        if (auto gone = fs.remove(folder + name); !gone && gone.error().code != errc::not_found)
            return failure(gone.error());
    KEEL_TRY(fs.sync_directory(folder));
    return number;
}

} // namespace keel::inline v0::recovery

#endif
