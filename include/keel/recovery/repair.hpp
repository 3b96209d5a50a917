// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_REPAIR_HPP
#define KEEL_RECOVERY_REPAIR_HPP

// Decisions -> effects. A repair never writes in place and never destroys evidence (R5.5). First it copies both manifests into
// quarantine/<number>/. Then it works in steps. After each step the store is consistent (plan.hpp). A step does this:
//   1. A damaged segment that still has records is built anew beside the old one, and synced. In the first step, tables that a roll-back
//      gives up are copied into quarantine/<number>/.
//   2. The journal in that folder gets a line for each thing done, with the digests of the files before and after. The progress file gets
//      the number of the edit that will do it.
//   3. One manifest edit switches: it adds the new segment and removes the old one. The edit of the first step also declares all losses.
//   4. The old file moves into quarantine/<number>/.
// At the end receipt.json is put together from the journal. A crash before part 3 of a step leaves the store as the step before
// left it, and perhaps a leftover file. After a crash behind part 3 the next opening completes part 4. An interrupted repair
// (full disk, no memory, cancelled, killed) continues where it stopped, under the same number: replaced segments are not
// touched again (repair_progress.hpp).
// undo.hpp restores all files byte for byte, as long as nothing was written since.

#include <keel/observe/json.hpp>
#include <keel/recovery/corruption_log.hpp>
#include <keel/recovery/plan.hpp>
#include <keel/recovery/repair_progress.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/recovery/segment_builder.hpp>
#include <keel/wal/lsn_set.hpp>
#include <keel/wal/manifest.hpp>
#include <keel/wal/whole_file.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// A segment that a repair built anew.
struct built_segment {
    std::size_t replaces = 0; ///< index into inventory::segments
    segment_id id{};
    std::uint64_t records = 0;
    wal::segment_sections sections{};
};

struct repair_done {
    std::uint64_t number = 0;               ///< of this repair; its folder is quarantine/<number>
    std::vector<std::string> quarantined{}; ///< paths inside the store
    std::vector<built_segment> built{};
    /// Why the repair stopped. The steps before that are committed, and the next repair continues behind them.
    std::optional<error> stopped{};
    /// The new state is committed, but an old file could not be moved. The next repair or opening moves it.
    std::optional<error> unfinished{};
};

namespace detail {

/// Reads a whole file. The result is shorter if the read ends early. Errors: the machine's.
template <io::file_system Fs>
[[nodiscard]] result<std::vector<std::byte>> read_file(Fs& fs, std::string const& path) {
    KEEL_TRY_LET(file, fs.open(path, io::access::read_only, io::creation::must_exist));
    KEEL_TRY_LET(status, file.status());
    std::vector<std::byte> bytes(static_cast<std::size_t>(status.size));
    KEEL_TRY_LET(got, file.read(0, bytes));
    bytes.resize(got);
    return bytes;
}

/// The journal of a repair: one line for each thing done, appended before the edit that does it.
template <io::file_system Fs>
class repair_journal {
public:
    repair_journal(Fs& fs, std::string path) : fs_{fs}, path_{std::move(path)} {}

    /// Opens the journal. New lines go behind its first `bytes` bytes, which committed steps wrote. Lines of an uncommitted
    /// step behind them are overwritten.
    [[nodiscard]] result<void> open(std::uint64_t bytes) {
        KEEL_TRY_LET(file, fs_.open(path_, io::access::read_write, io::creation::if_missing));
        std::string text(static_cast<std::size_t>(bytes), ' ');
        KEEL_TRY_LET(got, file.read(0, std::as_writable_bytes(std::span{text})));
        text.resize(got);
        end_ = got;
        told_.emplace(std::move(text));
        file_.emplace(std::move(file));
        return {};
    }
    [[nodiscard]] std::uint64_t bytes() const noexcept { return end_; }
    /// Adds a finding, unless an earlier try of this repair noted it already.
    void add_finding(finding const& f, std::uint64_t now_ns) {
        auto const json = observe::to_json(f, now_ns);
        if (!told_->has("{\"finding\":" + json + '}')) add("finding", json);
    }
    /// `kind`: "strategy", "planned", "segment", "table", "finding" or "declared".
    void add(std::string_view kind, std::string_view json) {
        observe::json_object line;
        line.raw(kind, json);
        pending_ += line.str() + '\n';
    }
    [[nodiscard]] std::uint64_t bytes_with_pending() const noexcept { return end_ + pending_.size(); }
    [[nodiscard]] result<void> write() {
        KEEL_TRY(file_->write(end_, as_bytes(pending_)));
        KEEL_TRY(file_->sync());
        end_ += pending_.size();
        pending_.clear();
        return {};
    }

private:
    Fs& fs_;
    std::string path_;
    std::optional<typename Fs::file> file_{};
    std::optional<recent_events> told_{};
    std::uint64_t end_ = 0;
    std::string pending_{};
};

/// The lines of a journal, grouped by their kind: the last part of a receipt.
class journal_sum {
public:
    explicit journal_sum(std::string_view text) {
        while (!text.empty()) {
            auto const end = text.find('\n');
            if (end == std::string_view::npos) break; // a crash tore the last line
            add(text.substr(0, end));
            text.remove_prefix(end + 1);
        }
    }
    [[nodiscard]] std::string first(std::string_view kind) const {
        auto const at = lists_.find(kind);
        return at == lists_.end() ? "\"unknown\"" : at->second.substr(0, at->second.find(','));
    }
    [[nodiscard]] std::string list(std::string_view kind) const {
        auto const at = lists_.find(kind);
        return '[' + (at == lists_.end() ? std::string{} : at->second) + ']';
    }

private:
    // {"segment":{...}}
    void add(std::string_view line) {
        auto const name_end = line.find("\":");
        if (!line.starts_with("{\"") || name_end == std::string_view::npos || !line.ends_with('}')) return;
        auto& list = lists_[std::string{line.substr(2, name_end - 2)}];
        auto const value = line.substr(name_end + 2, line.size() - name_end - 3);
        if (!list.empty()) list += ',';
        list += value;
    }
    std::map<std::string, std::string, std::less<>> lists_{};
};

template <class Config>
class repairer {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;
    using store_type = wal::manifest_store<C, fs_type>;

    repairer(fs_type& fs, examination const& e, repair_plan const& plan, open_options const& options,
             std::string_view strategy, store_type& manifest)
        : fs_{fs}, e_{e}, plan_{plan}, options_{options}, strategy_{strategy}, paths_{e.stock.paths},
          manifest_{manifest}, now_ns_{options.clock_ns()} {}

    repair_done run() {
        if (auto done = steps(); !done) done_.stopped = std::move(done).error();
        return std::move(done_);
    }
    /// Writes the receipt of a repair that was interrupted after its last step was committed.
    result<void> finish_earlier() {
        auto const& known = *e_.stock.manifest.state;
        auto const before = unfinished_repair<C>(fs_, paths_, e_.stock.store, known);
        if (!before || before->begun_on == known.edit) return {};
        at_ = before->settled(known);
        folder_.emplace(paths_, at_.number);
        return finish();
    }

private:
    using journal_type = repair_journal<fs_type>;

    result<void> steps() {
        KEEL_TRY(manifest_.check_identity());
        next_id_ = manifest_.state().next_segment;
        KEEL_TRY(begin());
        note_plan();
        KEEL_TRY(first_ops());
        if (plan_.segments.empty()) KEEL_TRY(take_step());
        for (auto const& s : plan_.segments) {
            KEEL_TRY(stop_if_asked());
            KEEL_TRY(replace(s));
            KEEL_TRY(take_step());
            if (building_) done_.built.push_back(std::move(*std::exchange(building_, std::nullopt)));
            if (!done_.unfinished) move_away(s);
            if (&s == &plan_.segments.front()) remove_leftovers();
        }
        return finish();
    }

    static result<void> folder_exists(fs_type& fs, std::string const& path) {
        auto made = fs.make_directory(path);
        if (!made && made.error().code != errc::exists) return failure(std::move(made).error());
        return {};
    }
    [[nodiscard]] result<void> stop_if_asked() const {
        if (!options_.cancel.stop_requested()) return {};
        return failure(errc::cancelled,
                       "the repair was cancelled: " + std::to_string(done_.built.size()) +
                           " segment(s) were written anew, and the next repair goes on behind them",
                       paths_.root());
    }

    // ---- the folder -------------------------------------------------------------------------------------------------------

    result<void> begin() {
        auto const& known = e_.stock.manifest.state ? *e_.stock.manifest.state : manifest_.state();
        KEEL_TRY(folder_exists(fs_, paths_.quarantine()));
        KEEL_TRY(fs_.sync_directory(paths_.root()));
        if (auto const before = unfinished_repair<C>(fs_, paths_, e_.stock.store, known);
            before && manifest_.state().edit == std::max(known.edit, e_.stock.manifest.marked)) {
            at_ = before->settled(known);
            folder_.emplace(paths_, at_.number);
        } else {
            KEEL_TRY(take_number());
            KEEL_TRY(copy_manifests());
            fresh_ = true;
        }
        at_.done_edit = manifest_.state().edit;
        done_.number = at_.number;
        journal_.emplace(fs_, folder_->journal());
        KEEL_TRY(journal_->open(at_.done_bytes));
        at_.done_bytes = journal_->bytes();
        at_.next_lost = at_.done_lost;
        return {};
    }
    /// Takes the next number whose folder holds no evidence: it is missing, it holds only files that an undo left, or a try there
    /// committed no step. So evidence is not overwritten, even if the manifests that counted the repairs are gone.
    result<void> take_number() {
        at_ = {.store = e_.stock.store, .number = manifest_.state().next_repair, .begun_on = manifest_.state().edit};
        for (;; ++at_.number) {
            folder_.emplace(paths_, at_.number);
            auto const names = fs_.list(folder_->path());
            if (!names && names.error().code != errc::not_found) return failure(names.error());
            auto const undone = [](io::directory_entry const& e) { return repair_folder::is_undone(e.name); };
            if (!names || std::ranges::all_of(*names, undone) || began_only(*names)) break;
        }
        KEEL_TRY(folder_exists(fs_, folder_->path()));
        return fs_.sync_directory(paths_.quarantine());
    }
    /// Whether an earlier try with this number committed no step. Then nothing in its folder is evidence.
    [[nodiscard]] bool began_only(std::vector<io::directory_entry> const& names) {
        auto const p = read_progress<C>(fs_, *folder_, e_.stock.store);
        bool const moved = std::ranges::any_of(names, [](io::directory_entry const& e) {
            return wal::layout::segment_of(e.name) || wal::layout::table_of(e.name) || e.name == "receipt.json";
        });
        return !moved && (!p || p->done_edit == p->begun_on) && at_.number == manifest_.state().next_repair;
    }
    result<void> copy_manifests() {
        for (int i = 0; i < 2; ++i) {
            if (auto gone = fs_.remove(folder_->manifest(i)); !gone && gone.error().code != errc::not_found)
                return gone;
            auto bytes = read_file(fs_, paths_.manifest(i));
            // A manifest that cannot be read does not stop the repair: its readable part is in memory already.
            if (bytes) KEEL_TRY(wal::put_file(fs_, folder_->manifest(i), *bytes));
        }
        return fs_.sync_directory(folder_->path());
    }

    // ---- one step -----------------------------------------------------------------------------------------------------------

    /// Writes the journal, then the progress with the number of the next edit, then commits the edit.
    result<void> take_step() {
        // Each step raises the next segment id by two, also a step that builds no segment. Preparing a segment raises it by one. So after a
        // crash this id tells whether this edit was committed, or another edit with the same number (repair_progress::is_committed).
        next_id_ = std::max(next_id_ + 1, manifest_.state().next_segment + 2);
        edit_.next_ids(next_id_, std::max(manifest_.state().next_repair, at_.number + 1));
        at_.next_edit = manifest_.state().edit + 1;
        at_.next_bytes = journal_->bytes_with_pending();
        at_.next_segment = next_id_;
        KEEL_TRY(journal_->write());
        KEEL_TRY(write_progress<C>(fs_, *folder_, at_));
        KEEL_TRY(rewrite_ ? write_manifest_anew() : manifest_.commit(edit_));
        rewrite_ = false;
        edit_ = {};
        at_.done_edit = at_.next_edit;
        at_.done_bytes = at_.next_bytes;
        at_.done_lost = at_.next_lost;
        return {};
    }
    result<void> write_manifest_anew() {
        auto after = format::applied(manifest_.state(), format::frame_type::edit, at_.next_edit, edit_.payload());
        if (!after)
            return failure(errc::corruption, "the repair contradicts the manifest; validate the store and report this",
                           paths_.root());
        return manifest_.create(std::move(*after));
    }

    void note_plan() {
        if (fresh_) journal_->add("strategy", '"' + std::string{strategy_} + '"');
        std::string ids;
        for (auto const& s : plan_.segments)
            ids += (ids.empty() ? "" : ",") + std::to_string(e_.stock.segments[s.segment].entry.id.value);
        journal_->add("planned", '[' + ids + ']');
        for (auto const& f : e_.report.findings) journal_->add_finding(f, now_ns_);
    }
    /// The first step holds all losses, and all operations that belong to no segment.
    result<void> first_ops() {
        rewrite_ = plan_.rewrite_manifest;
        for (auto const& r : plan_.declare) {
            edit_.loss(r);
            journal_->add("declared", '[' + std::to_string(r.first.value) + ',' + std::to_string(r.last.value) + ']');
        }
        at_.next_lost += plan_.lost_records;
        // A rebuilt manifest lacks losses that only loss frames declare. The segments with these frames may be removed later.
        wal::lsn_set known;
        for (auto const& r : manifest_.state().losses) known.add(r);
        for (auto const& r : e_.found.declared)
            for (auto const& part : known.gaps_in(r)) edit_.loss(part);
        for (auto const id : plan_.forget) edit_.removed(id, at_.number);
        for (auto const id : plan_.not_ingested) {
            KEEL_TRY(stop_if_asked());
            KEEL_TRY(keep_copy(id));
        }
        return {};
    }

    /// The checksum policy over a file as it is. Unreadable sectors count as zeros. 0 if the file cannot be opened.
    [[nodiscard]] result<std::uint64_t> digest(std::string const& path, std::uint64_t bytes) {
        C sum;
        auto const done = wal::each_part(fs_, path, bytes, [&](std::uint64_t, byte_view part) -> result<void> {
            KEEL_TRY(stop_if_asked());
            sum.update(part);
            return {};
        });
        if (!done && done.error().code == errc::cancelled) return failure(done.error());
        return done ? sum.value() : 0;
    }

    /// Copies a table to quarantine. No manifest names its own file any more, so the first compaction removes that file.
    result<void> keep_copy(format::table_id id) {
        edit_.remove_table(id);
        auto const from = paths_.table(id);
        auto const to = folder_->path() + from.substr(from.rfind('/'));
        if (std::ranges::binary_search(e_.stock.missing_tables, id)) return {};
        KEEL_TRY_LET(status, fs_.status(from));
        KEEL_TRY_LET(target, wal::put_file(fs_, to));
        auto const copied = wal::each_part(fs_, from, status.size,
                                           [&](std::uint64_t at, byte_view part) -> result<void> {
                                               KEEL_TRY(stop_if_asked());
                                               return target.write(at, part);
                                           });
        KEEL_TRY(copied);
        KEEL_TRY(target.sync());
        KEEL_TRY_LET(sum, digest(from, status.size));
        observe::json_object row;
        row.text("file", paths_.inside(from)).number("bytes", status.size).hex("digest", sum);
        journal_->add("table", row.str());
        done_.quarantined.push_back(paths_.inside(to));
        return fs_.sync_directory(folder_->path());
    }

    // ---- one segment --------------------------------------------------------------------------------------------------------

    result<void> replace(segment_repair const& what) {
        auto const& old = e_.stock.segments[what.segment];
        KEEL_TRY_LET(sum, digest(old.path, old.file_bytes));
        observe::json_object row;
        row.text("file", paths_.inside(old.path)).number("bytes", old.file_bytes).hex("digest", sum);
        edit_.removed(old.entry.id, at_.number);
        if (!what.keep.empty()) KEEL_TRY(build(what, row));
        journal_->add("segment", row.str());
        return {};
    }

    [[nodiscard]] format::segment_header header_for(found_segment const& old) {
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
        return header;
    }

    result<void> build(segment_repair const& what, observe::json_object& row) {
        auto const& old = e_.stock.segments[what.segment];
        auto const header = header_for(old);
        auto const path = paths_.segment(header.id);
        auto const temporary = paths_.segment_temporary();
        KEEL_TRY_LET(target, wal::put_file(fs_, temporary));
        segment_builder<C, typename fs_type::file> builder{target, header, what.keep};
        builder.start(now_ns_, e_.found.horizon);
        KEEL_TRY(copy_records(old, what, builder));
        auto losses = e_.runs[what.segment].losses; // the new segment repeats the losses that the old one declares
        losses.insert(losses.end(), what.losses.begin(), what.losses.end());
        if (!losses.empty()) builder.losses(losses);
        auto const seal = builder.seal();
        KEEL_TRY(builder.finish());
        KEEL_TRY(fs_.rename(temporary, path));
        // Without this a crash can keep the manifest's entry of the new segment and lose the file's name.
        KEEL_TRY(fs_.sync_directory(paths_.log()));
        edit_.prepared(header.id, header.salt, header.size, old.entry.place).sealed(seal);
        building_ = built_segment{what.segment, header.id, seal.count, builder.sections()};
        KEEL_TRY_LET(sum, digest(path, header.size));
        row.text("replaced_by", paths_.inside(path)).number("records", builder.count());
        row.hex("digest_after", sum);
        return {};
    }
    template <class Builder>
    result<void> copy_records(found_segment const& old, segment_repair const& what, Builder& builder) {
        KEEL_TRY_LET(file, fs_.open(old.path, io::access::read_only, io::creation::must_exist));
        auto whole = old.geometry;
        whole.indexed.reset(); // read the records themselves: an index cannot be copied as records
        static_cast<void>(scan_segment<C>(file, whole, builder, options_.cancel));
        KEEL_TRY(stop_if_asked());
        std::uint64_t wanted = 0;
        for (auto const& r : what.keep) wanted += r.size();
        if (builder.count() == wanted) return {};
        return failure(
            errc::corruption,
            "of " + std::to_string(wanted) + " records that were to be kept " + std::to_string(builder.count()) +
                " verify; this segment was not changed: open with verify = deep, which finds all damage first",
            old.path);
    }

    void move_away(segment_repair const& what) {
        auto const& old = e_.stock.segments[what.segment];
        auto const to = folder_->file(wal::layout::segment_name(old.entry.id));
        auto const moved = [&]() -> result<void> {
            KEEL_TRY(manifest_.check_identity());
            KEEL_TRY(fs_.rename(old.path, to));
            KEEL_TRY(fs_.sync_directory(folder_->path()));
            return fs_.sync_directory(paths_.log());
        };
        if (auto done = moved(); !done) done_.unfinished = std::move(done).error();
        else done_.quarantined.push_back(paths_.inside(to));
    }

    /// Removes files that an earlier try built and did not switch to. It runs after a commit, so no power loss can make such a file part
    /// of the store again. A segment of this repair may have the name of a file that was prepared and never registered. It has replaced
    /// that file, so it must not be removed here.
    void remove_leftovers() {
        auto const is_part = [this](std::string const& path) {
            auto const id = wal::layout::segment_of(std::string_view{path}.substr(path.rfind('/') + 1));
            return id && manifest_.state().segments.contains(*id);
        };
        for (auto const& l : e_.stock.leftovers)
            if (l.is_ours && !is_part(l.path)) static_cast<void>(fs_.remove(l.path)); // if not, the first write does
    }

    // ---- the end ------------------------------------------------------------------------------------------------------------

    result<void> finish() {
        KEEL_TRY(write_receipt(fs_, *folder_, at_, now_ns_, folder_->receipt()));
        at_.finished = true;
        return write_progress<C>(fs_, *folder_, at_);
    }

public:
    /// Writes a receipt from the lines of the journal.
    [[nodiscard]] static result<void> write_receipt(fs_type& fs, repair_folder const& folder, repair_progress const& at,
                                                    std::uint64_t now_ns, std::string const& path) {
        KEEL_TRY_LET(bytes, read_file(fs, folder.journal()));
        bytes.resize(static_cast<std::size_t>(std::min<std::uint64_t>(at.done_bytes, bytes.size())));
        journal_sum const all{as_text(bytes)};
        observe::json_object o;
        o.number("repair", at.number).text("time", observe::utc_text(now_ns));
        o.raw("strategy", all.first("strategy"));
        o.text("digest_policy", C::name).number("lost_records", at.done_lost).number("edit", at.done_edit);
        o.raw("declared_lost", all.list("declared"))
            .raw("segments", all.list("segment"))
            .raw("tables", all.list("table"))
            .raw("findings", all.list("finding"));
        auto const text = o.str() + "\n";
        KEEL_TRY(wal::put_file(fs, path, as_bytes(text)));
        return fs.sync_directory(folder.path());
    }

private:
    fs_type& fs_;
    examination const& e_;
    repair_plan const& plan_;
    open_options const& options_;
    std::string_view strategy_;
    wal::layout const& paths_;
    store_type& manifest_;
    std::uint64_t now_ns_;
    repair_progress at_{};
    std::optional<repair_folder> folder_{};
    std::optional<journal_type> journal_{};
    repair_done done_{};
    std::optional<built_segment> building_{}; ///< written, but not in the manifest yet
    std::uint64_t next_id_ = 1;
    format::edit_builder edit_{};
    bool rewrite_ = false;
    bool fresh_ = false;
};

} // namespace detail

/// Carries a plan out. The caller holds the store's lock. If it stops (full disk, stop request, ...), the store is as the last step left
/// it: that state can be served, and a new plan continues from there.
template <class Config>
[[nodiscard]] repair_done apply_repair(
    typename Config::file_system& fs, examination const& e, repair_plan const& plan, open_options const& options,
    std::string_view strategy, wal::manifest_store<typename Config::checksum, typename Config::file_system>& manifest) {
    return detail::repairer<Config>{fs, e, plan, options, strategy, manifest}.run();
}
/// Writes the receipt of a repair that was interrupted after its last step. The caller holds the store's lock.
template <class Config>
[[nodiscard]] result<void> finish_receipt(
    typename Config::file_system& fs, examination const& e, repair_plan const& nothing, open_options const& options,
    wal::manifest_store<typename Config::checksum, typename Config::file_system>& manifest) {
    if (!e.stock.manifest.state || e.stock.manifest.state->next_repair < 2) return {};
    return detail::repairer<Config>{fs, e, nothing, options, {}, manifest}.finish_earlier();
}

/// Moves files that an interrupted repair took out of service into its quarantine folder. The caller holds the store's lock.
template <io::file_system Fs>
[[nodiscard]] result<void> finish_moves(Fs& fs, inventory const& stock) {
    std::map<segment_id, std::uint64_t> removed_by;
    for (auto const& r : stock.state.removed) removed_by.emplace(r.id, r.repair);
    for (auto const& file : stock.leftovers) {
        if (!file.removed) continue;
        auto const folder = stock.paths.quarantine(removed_by.at(*file.removed));
        auto const to = folder + '/' + wal::layout::segment_name(*file.removed);
        if (!fs.status(folder) || fs.status(to)) continue; // a file that was moved earlier is not overwritten
        KEEL_TRY(fs.rename(file.path, to));
        KEEL_TRY(fs.sync_directory(folder));
        KEEL_TRY(fs.sync_directory(stock.paths.log()));
    }
    return {};
}

} // namespace keel::inline v0::recovery

#endif
