// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_OPENING_HPP
#define KEEL_RECOVERY_OPENING_HPP

// Opening a store: lock, inventory, scan, verdict, repair where the policy says so; what the engine and the log start from.
// Nothing is written while a store is whole or merely torn by a crash: the first write does what has to be done before it
// (wal/writer.hpp). The exceptions are the attempt counter in the notes, which an orderly failure puts back, and repairs.

#include <keel/recovery/examine.hpp>
#include <keel/recovery/plan.hpp>
#include <keel/recovery/repair.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/notes_file.hpp>
#include <keel/wal/segments.hpp>
#include <keel/wal/writer.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// How often who reads beside a writer looks again before it believes what it sees: a quarter of a second in all.
inline constexpr int looks_max = 64;

/// A segment whose records count, for whoever serves them.
struct served_segment {
    wal::closed_segment what{};
    std::optional<std::size_t>
        scanned{}; ///< which sink was told of its records; nothing: none was, or of the file it replaces
};

/// A store that is open and recovered, before anything is written to it.
template <class Config>
struct opened {
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;

    explicit opened(examination what) : exam{std::move(what)} {}

    examination exam;
    repair_plan plan{};
    std::optional<typename fs_type::lock_type> lock{};
    std::optional<wal::notes_file<C, fs_type>> notes{};
    std::unique_ptr<wal::segment_keeper<C, fs_type>> keeper{};
    std::unique_ptr<wal::catalog> parts{std::make_unique<wal::catalog>()};
    wal::writer_start start{};
    std::vector<served_segment> served{};
};

namespace detail {

template <class Config>
class opener {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;
    using manifest_type = wal::manifest_store<C, fs_type>;
    using opened_type = opened<Config>;
    using lock_type = typename fs_type::lock_type;

    opener(fs_type& fs, std::string directory, std::uint64_t segment_bytes, open_options const& options,
           typename Config::observer& observer)
        : fs_{fs}, paths_{std::move(directory)}, segment_bytes_{segment_bytes}, options_{options}, observer_{observer} {
    }

    template <scan_sink Sink>
    result<opened_type> run(std::vector<Sink>& sinks) {
        KEEL_TRY(find_folder());
        if (options_.read_only) return look(sinks);
        KEEL_TRY(lock());
        auto done = recover(sinks);
        if (!done && attempts_ != 0) notes_->restore();
        return done;
    }

private:
    result<void> find_folder() {
        auto names = fs_.list(paths_.root());
        if (names) return refuse_foreign(*names);
        if (names.error().code != errc::not_found || !options_.create_if_missing || options_.read_only) {
            auto why = names.error();
            if (why.code == errc::not_found)
                why.message = "there is no store here; create it by opening with create_if_missing";
            else if (why.code != errc::no_permission && why.code != errc::crashed) {
                why.code = errc::not_a_store;
                why.message = "this is no folder that can be listed, and a store is a folder: choose another path, or "
                              "move what is there away";
            }
            return failure(std::move(why));
        }
        return fs_.make_directory(paths_.root());
    }
    result<void> sync_parent() {
        auto const slash = paths_.root().find_last_of('/');
        // Without this a power loss can take the whole new store away after its first write was acknowledged.
        return fs_.sync_directory(slash == std::string::npos ? "." : slash == 0 ? "/" : paths_.root().substr(0, slash));
    }

    // Before the lock file is made: a folder of other files stays as it is.
    result<void> refuse_foreign(std::vector<io::directory_entry> const& names) {
        auto const is = [](std::string_view name) {
            return [name](io::directory_entry const& e) { return e.name == name; };
        };
        for (auto const* part : {"manifest.0", "manifest.1", "log"})
            if (std::ranges::any_of(names, is(part))) return {};
        if (std::ranges::all_of(names, [](auto const& e) { return wal::layout::is_own_name(e.name); })) return {};
        return failure(errc::not_a_store,
                       "the folder holds other files and no keel store; choose an empty folder or the store's own",
                       paths_.root());
    }

    result<void> lock() {
        auto held = fs_.lock(paths_.lock(), io::lock_mode::exclusive);
        // Where it can be shared no writer has it: somebody who reads looks for trouble, and will be done.
        for (int turn = 0; !held && turn < looks_max && keep_writers_away(); ++turn) {
            wait_a_little(turn);
            held = fs_.lock(paths_.lock(), io::lock_mode::exclusive);
        }
        if (!held) {
            auto why = held.error();
            if (why.code == errc::no_permission)
                why.message += "; to look at a store that cannot be written to, open it read_only";
            return failure(std::move(why));
        }
        lock_.emplace(std::move(*held));
        return {};
    }

    // ---- read-only, perhaps beside a writer -----------------------------------------------------------------------------------

    static void wait_a_little(int turn) { std::this_thread::sleep_for(std::chrono::milliseconds{turn / 8}); }

    /// What looks wrong while somebody writes may be a change that was under way: it is looked at again, and believed once nobody
    /// could write meanwhile, or where it stays.
    template <scan_sink Sink>
    result<opened_type> look(std::vector<Sink>& sinks) {
        KEEL_TRY_LET(readers, join_readers());
        for (int turn = 0;; ++turn) {
            // Writers are kept away only where there was trouble: they wait for that (lock()).
            std::optional<result<lock_type>> away;
            if (turn == 0) {
                beside_writer_ = somebody_writes();
            } else {
                away.emplace(keep_writers_away());
                beside_writer_ = is_held(*away);
            }
            bool const alone = !beside_writer_ && turn != 0;
            believed_ = alone || turn == looks_max;
            auto done = recover(sinks);
            bool const clear = done ? done->exam.report.findings.empty() : done.error().code == errc::cancelled;
            if (believed_ || (clear && (beside_writer_ || !somebody_writes()))) {
                if (done) done->lock = std::move(readers);
                return done;
            }
            sinks.clear();
            wait_a_little(turn);
        }
    }
    [[nodiscard]] auto keep_writers_away() { return fs_.lock(paths_.lock(), io::lock_mode::shared); }
    [[nodiscard]] bool somebody_writes() { return is_held(keep_writers_away()); }
    [[nodiscard]] static bool is_held(result<lock_type> const& lock) noexcept {
        return !lock && lock.error().code == errc::locked;
    }
    /// As long as this is held no file is written over. A store on a medium that takes no locks is read without.
    result<std::optional<lock_type>> join_readers() {
        for (int turn = 0;; ++turn) {
            auto held = fs_.lock(paths_.readers(), io::lock_mode::shared);
            if (held) return std::optional{std::move(*held)};
            if (held.error().code != errc::locked) return std::optional<lock_type>{};
            if (turn == looks_max) return failure(std::move(held).error());
            wait_a_little(turn); // a writer gives a file its new life
        }
    }

    // ---- recovery -----------------------------------------------------------------------------------------------------------

    template <scan_sink Sink>
    result<opened_type> recover(std::vector<Sink>& sinks) {
        auto const begin_attempt = [&](inventory const& stock) -> result<void> { return count_attempt(stock); };
        KEEL_TRY_LET(exam, examine<Config>(fs_, paths_.root(), options_, sinks, begin_attempt));
        if (!exam.stock.exists) return create(std::move(exam));
        paths_ = exam.stock.paths;
        opened_type out{std::move(exam)};
        auto const choice = Config::repair_for(options_.repair);
        out.plan = plan_repair(out.exam, choice, repair_scope::what_is_lost);
        out.exam.report.notice = out.plan.notice;
        KEEL_TRY(refuse_if_asked(out, choice));
        auto manifest = make_manifest(out.exam.stock);
        if (options_.read_only) {
            out.start.read_only = true;
            out.start.reason = "opened read-only";
        } else {
            KEEL_TRY(ask_the_medium_again(out));
            repair(out, choice, manifest);
        }
        for (auto const id : out.plan.not_ingested) out.exam.stock.state.tables.erase(id);
        tell(out);
        finish(out, std::move(manifest));
        return out;
    }

    /// A crash loop inside recovery ends here: the count of attempts survives the process, an orderly end takes it back.
    result<void> count_attempt(inventory const& stock) {
        if (options_.read_only || !stock.exists) return {};
        auto file = wal::notes_file<C, fs_type>::open(fs_, paths_.notes());
        if (!file) return {}; // a hint: without it attempts are not counted
        notes_.emplace(std::move(*file));
        // Where nothing is scanned and nothing is to be mended, nothing is begun that could not come to an end: nothing is written.
        if (stock.findings.empty() && std::ranges::all_of(stock.segments, &found_segment::mounted)) return {};
        auto last = notes_->last();
        bool const ours = last.store == stock.store && last.branch == stock.branch;
        if (!ours) last = {};
        if (options_.max_recovery_attempts != 0 && last.attempts >= options_.max_recovery_attempts) {
            notes_.reset();
            return failure(errc::recovery_attempts,
                           "recovery was begun " + std::to_string(last.attempts) +
                               " times without coming to an end; look at the store with wal-recovery validate, then "
                               "raise max_recovery_attempts or repair it",
                           paths_.root());
        }
        attempts_ = last.attempts + 1;
        last.attempts = attempts_;
        last.store = stock.store;
        last.branch = stock.branch;
        // The accepted LSN belongs to the boot and file that wrote it; carried into a note of this boot it would claim too much.
        if (!stock.note_is_own) last.accepted = last.durable;
        notes_->write(last);
        return {};
    }

    result<opened_type> create(examination exam) {
        if (!options_.create_if_missing || options_.read_only)
            return failure(errc::not_found, "there is no store here; create it by opening with create_if_missing",
                           paths_.root());
        auto& stock = exam.stock;
        auto const high = options_.entropy();
        auto const low = options_.entropy();
        format::store(stock.store.data(), high);
        format::store(stock.store.data() + 8, low);
        stock.branch = 1;
        auto made = fs_.make_directory(paths_.log());
        if (!made && made.error().code != errc::exists) return failure(std::move(made).error());
        auto notes = wal::notes_file<C, fs_type>::open(fs_, paths_.notes());
        auto manifest = make_manifest(stock);
        KEEL_TRY(sync_parent());
        KEEL_TRY(fs_.sync_directory(paths_.root())); // a manifest without its log folder must not survive
        KEEL_TRY(manifest.create({}));
        static_cast<void>(fs_.lock(paths_.readers(), io::lock_mode::exclusive)); // so that it is there to be locked
        opened_type out{std::move(exam)};
        if (notes) notes_.emplace(std::move(*notes));
        finish(out, std::move(manifest));
        return out;
    }

    [[nodiscard]] manifest_type make_manifest(inventory const& stock) {
        manifest_type manifest{fs_, paths_, stock.store, stock.branch, options_.entropy, options_.clock_ns};
        auto state = stock.state;
        if (stock.exists) {
            // Edits known durable that are gone must not be numbered again.
            state.edit = std::max(state.edit, stock.manifest.marked);
            manifest.adopt(std::move(state), stock.manifest);
        }
        return manifest;
    }

    result<void> refuse_if_asked(opened_type& out, repair_choice const& choice) {
        if (out.exam.found.lost.empty() || out.plan.what != decision::refuse) return {};
        auto const& findings = out.exam.found.findings;
        auto const total = out.plan.lost_records;
        error why{
            .code = errc::corruption,
            .message = std::to_string(total) + " acknowledged record(s) are damaged, the first is LSN " +
                       std::to_string(out.exam.found.lost.front().first.value) + ", and the repair policy '" +
                       std::string{choice.name} +
                       "' changes nothing: restore a backup, or run wal-recovery repair with a strategy of your choice",
            .at = out.exam.found.lost.front().first};
        auto const at = [&](finding const& f) { return f.lost != 0 && f.lsns.contains(why.at); };
        if (auto const first = std::ranges::find_if(findings, at); first != findings.end()) {
            why.file = paths_.path(first->file);
            why.offset = first->offset;
        }
        for (auto f : findings) {
            f.done = outcome::refused;
            if (believed_) observer_.on(observe::damage_found{f});
        }
        return failure(std::move(why));
    }

    /// Before records are given up for bytes that could not be read: read them once more. A medium that answers now had a passing
    /// trouble, and the next open will find the records.
    result<void> ask_the_medium_again(opened_type const& out) {
        if (out.exam.found.lost.empty() && !out.plan.rewrite_manifest) return {};
        for (auto const& place : out.exam.stock.refused)
            if (answers(place.path, place.offset, place.length)) return answers_again(place.path, place.offset);
        for (std::size_t i = 0; i < out.exam.runs.size(); ++i)
            for (auto const& bad : out.exam.runs[i].unreadable)
                for (auto at = bad.offset; at < bad.offset + bad.length; at += sector_bytes)
                    if (answers(out.exam.stock.segments[i].path, at, sector_bytes))
                        return answers_again(out.exam.stock.segments[i].path, at);
        return {};
    }
    static constexpr std::uint64_t sector_bytes = wal::window<typename fs_type::file>::sector_bytes;

    [[nodiscard]] bool answers(std::string const& path, std::uint64_t offset, std::uint64_t length) {
        auto file = fs_.open(path, io::access::read_only, io::creation::must_exist);
        std::vector<std::byte> bytes(static_cast<std::size_t>(length));
        return file && file->read(offset, bytes).has_value();
    }
    [[nodiscard]] static result<void> answers_again(std::string const& path, std::uint64_t offset) {
        return failure(
            error{.code = errc::io_error,
                  .message = "the medium could not be read and now answers again: nothing was given up; open once more",
                  .file = path,
                  .offset = offset,
                  .retryable = true});
    }

    void repair(opened_type& out, repair_choice const& choice, manifest_type& manifest) {
        auto const started = clock::now();
        auto done = result<void>{};
        if (out.plan.changes_anything() && !(out.exam.found.lost.empty() && !out.plan.rewrite_manifest)) {
            auto const how = out.plan.what == decision::roll_back ? outcome::rolled_back : outcome::declared_lost;
            for (auto* list : {&out.exam.found.findings, &out.exam.report.findings})
                for (auto& f : *list)
                    if (f.lost != 0) f.done = how;
            auto applied = apply_repair<Config>(fs_, out.exam, out.plan, options_, choice.name, manifest);
            if (applied) {
                out.exam.report.quarantined = applied->quarantined;
                built_ = applied->built;
                if (applied->unfinished) done = failure(*applied->unfinished);
            } else {
                done = failure(applied.error());
            }
        } else if (auto moved = finish_moves(fs_, out.exam.stock); !moved) {
            done = moved;
        }
        auto logged = log_corruption(fs_, paths_, out.exam.report.findings, options_.clock_ns());
        if (done && !logged && !out.exam.found.lost.empty()) done = logged; // what cost nothing must not cost the store
        if (!done) {
            // What verifies is served from where it lies; nothing is written on top of damage that could not be dealt with.
            out.start.read_only = true;
            out.start.reason = "the repair could not be carried out: " + to_string(done.error());
        }
        out.exam.report.repair_time = clock::now() - started;
    }

    void tell(opened_type& out) {
        auto& report = out.exam.report;
        report.lost_records = out.plan.lost_records;
        if (!out.plan.declare.empty()) report.lost_lsn_ranges = out.plan.declare;
        report.corrupted_records = std::max(report.corrupted_records, report.healed_records);
        report.attempts = std::max(attempts_, 1U);
        if (believed_)
            for (auto const& f : report.findings) observer_.on(observe::damage_found{f});
        auto const of_keys = std::ranges::find_if(report.findings, [](finding const& f) {
            return f.done == outcome::declared_lost && f.file.ends_with(".tab");
        });
        if (out.start.reason.empty() && report.lost_records == 0 && of_keys != report.findings.end())
            out.start.reason = of_keys->file + ": " + of_keys->detail;
        if (out.start.reason.empty() && report.damaged())
            out.start.reason = report.lost_records != 0 ? std::to_string(report.lost_records) +
                                                              " acknowledged record(s) were lost; see recovery()"
                                                        : "damage was found that cost no record; see recovery()";
    }

    void finish(opened_type& out, manifest_type manifest) {
        auto& stock = out.exam.stock;
        auto& start = out.start;
        start.last = out.plan.end;
        // What the writer has written and acknowledged to nobody yet may still be taken back.
        if (beside_writer_ && stock.note_is_own)
            start.last = std::max(std::min(start.last, stock.note->accepted), stock.state.floor);
        start.durable = std::min(out.exam.found.horizon, start.last);
        if (stock.note && stock.note_is_own)
            start.durable = std::min(start.durable, std::max(stock.note->durable, stock.state.floor));
        link_to_newest(out, manifest.state());
        // Nothing was kept from there on, so nothing is lost: the next header says so to the frames that say otherwise.
        for (auto const& r : out.exam.found.declared) start.cut_needed = start.cut_needed || r.last > start.last;
        list_parts(out, manifest.state());
        out.keeper = std::make_unique<wal::segment_keeper<C, fs_type>>(fs_, paths_, std::move(manifest), stock.store,
                                                                       stock.branch, segment_bytes_, options_.entropy,
                                                                       options_.clock_ns);
        if (!start.read_only) adopt_spares(out);
        if (notes_ && (attempts_ != 0 || !stock.exists)) {
            auto n = notes_->last();
            n.attempts = 0;
            n.store = stock.store;
            n.branch = stock.branch;
            notes_->write(n);
        }
        stop_at_damaged_tables(out);
        out.lock = std::move(lock_);
        out.notes = std::move(notes_);
        out.exam.report.records = 0;
        for (auto const& c : out.plan.counted) out.exam.report.records += c.range.size();
        set_range(out.exam.report, stock, out.plan.counted);
    }

    /// Keys in a damaged part of a table have no answer, and no repair policy makes one up: what is whole is served, nothing is written.
    static void stop_at_damaged_tables(opened_type& out) {
        auto const no_answer = [](finding const& f) {
            bool const of_table = f.kind == damage::missing_table || f.file.ends_with(".tab");
            bool const is_known = f.done == outcome::healed || f.done == outcome::declared_lost;
            return of_table && f.is_corruption() && !is_known;
        };
        auto const& findings = out.exam.stock.findings;
        auto const first = std::ranges::find_if(findings, no_answer);
        if (first == findings.end()) return;
        out.start.read_only = true;
        out.start.reason = first->file + ": " + first->detail + "; put the file back from a copy or a backup";
    }

    /// Where each counted LSN is read from; a rebuilt segment stands in for the one it replaced.
    void list_parts(opened_type& out, format::manifest_state const& state) {
        auto const& stock = out.exam.stock;
        std::map<segment_id, format::segment_link> links; // as the headers behind them have it
        for (auto const& s : stock.segments)
            if (s.header && s.header->previous.id) links[s.header->previous.id] = s.header->previous;
        std::size_t next_built = 0;
        std::vector<std::optional<segment_id>> stand_in(stock.segments.size());
        for (auto const& r : out.plan.segments)
            if (r.keep_records && next_built < built_.size()) stand_in[r.segment] = built_[next_built++];
        for (std::size_t i = 0; i < stock.segments.size(); ++i) {
            auto const& s = stock.segments[i];
            auto bytes = s.entry.size;
            wal::catalog_part part{.id = s.entry.id,
                                   .place = s.entry.place,
                                   .path = s.path,
                                   .salt = s.entry.salt,
                                   .first = s.geometry.first,
                                   .begin = s.geometry.begin,
                                   .limit = s.geometry.limit};
            auto const* seal = s.entry.seal ? &*s.entry.seal : nullptr;
            if (stand_in[i]) {
                auto const& entry = state.segments.at(*stand_in[i]);
                seal = entry.seal ? &*entry.seal : nullptr;
                part.id = entry.id;
                part.path = paths_.segment(entry.id);
                part.salt = entry.salt;
                part.limit = entry.seal ? entry.seal->data_end : format::frames_limit(entry.size);
                bytes = entry.size;
            }
            for (auto const& c : out.plan.counted)
                if (c.segment == i) part.counted.push_back(c.range);
            if (!state.segments.contains(part.id)) continue;
            part.sealed = seal != nullptr;
            if (seal != nullptr) part.link = format::link_of(*seal, format::segment_end::rolled);
            else if (auto const next = links.find(part.id); next != links.end()) part.link = next->second;
            else if (part.id == out.start.previous.id) part.link = out.start.previous;
            if (!part.counted.empty()) serve_all(out, i, part, bytes, stand_in[i].has_value());
            out.parts->add(std::move(part));
        }
    }
    /// A filter that is not as this library makes them is done without.
    [[nodiscard]] static std::optional<format::segment_section> filter_of(found_segment const& s) {
        auto const filter = s.footer->section(static_cast<std::uint32_t>(format::section_type::filter));
        format::filter_shape const shape{format::block_bytes(s.entry.size), s.entry.seal->count};
        bool const usable = filter && filter->length == shape.bytes() && filter->length != 0 && filter->argument != 0 &&
                            filter->argument <= 32 && filter->offset >= s.entry.seal->data_end &&
                            std::uint64_t{filter->offset} + filter->length <= format::footer_offset(s.entry.size);
        return usable ? filter : std::nullopt;
    }
    /// The chunks of a segment that have an index in it are served each by its own; the rest by what the scan found.
    static void serve_all(opened_type& out, std::size_t i, wal::catalog_part part, std::uint64_t bytes, bool replaced) {
        auto const& s = out.exam.stock.segments[i];
        if (!replaced)
            for (auto const& c : s.chunks) {
                auto chunk = part;
                chunk.begin = c.begin;
                chunk.limit = c.end;
                chunk.counted = within(part.counted, {s.lsn_of(c.first), s.lsn_of(c.last)});
                part.begin = c.end;
                part.counted = within(part.counted, {s.lsn_of(c.last).next(), lsn_max});
                if (!chunk.counted.empty()) out.served.push_back({.what = chunk_of(chunk, bytes, c)});
            }
        if (part.counted.empty()) return;
        served_segment one{.what = closed(part, bytes)};
        if (!replaced && s.mounted) {
            one.what.records = s.entry.seal->count;
            one.what.index = s.footer->section(static_cast<std::uint32_t>(format::section_type::index));
            one.what.filter = filter_of(s);
        } else if (!replaced) {
            one.scanned = i;
        }
        out.served.push_back(std::move(one));
    }
    /// As it is served by the index that stands behind it in the log.
    [[nodiscard]] static wal::closed_segment chunk_of(wal::catalog_part const& part, std::uint64_t bytes,
                                                      format::indexed_chunk const& c) {
        auto out = closed(part, bytes);
        out.records = c.records;
        out.index = {
            .type = static_cast<std::uint32_t>(format::section_type::index),
            .offset = c.blocks,
            .length = static_cast<std::uint32_t>(format::index_shape{format::block_bytes(bytes), c.records}.bytes()),
            .check = c.check,
            .argument = c.shared};
        return out;
    }
    /// `bytes`: the size of the file.
    [[nodiscard]] static wal::closed_segment closed(wal::catalog_part const& part, std::uint64_t bytes) {
        return {.id = part.id,
                .path = part.path,
                .salt = part.salt,
                .first = part.first,
                .begin = part.begin,
                .end = part.limit,
                .segment_bytes = bytes,
                .counted = part.counted};
    }
    [[nodiscard]] static std::vector<lsn_range> within(std::vector<lsn_range> const& ranges, lsn_range bounds) {
        std::vector<lsn_range> out;
        for (auto const& r : ranges) {
            lsn_range const both{std::max(r.first, bounds.first), std::min(r.last, bounds.last)};
            if (!both.empty()) out.push_back(both);
        }
        return out;
    }
    /// What the next header says of the segment before it, and which files may hold bytes that are not on the disk yet.
    void link_to_newest(opened_type& out, format::manifest_state const& state) {
        auto const& stock = out.exam.stock;
        auto& start = out.start;
        start.previous = state.base;
        for (std::size_t i = 0; i < stock.segments.size(); ++i) {
            auto const& s = stock.segments[i];
            auto const& run = out.exam.runs[i];
            auto const known = state.segments.find(s.entry.id);
            if (known == state.segments.end() || !s.present) continue;
            bool const newest = i + 1 == stock.segments.size();
            bool const has_tail = !s.entry.seal && find_tail(out, i);
            // Where the newest one holds nothing unproven, and nothing is, it has what counts of it on the disk.
            bool const to_sync = !s.entry.seal && !has_tail && (!newest || start.last > start.durable);
            if (to_sync) start.unsynced.push_back(s.path);
            if (!newest) continue;
            if (s.entry.seal) {
                start.previous = format::link_of(*s.entry.seal, format::segment_end::rolled);
                continue;
            }
            start.previous = {.id = s.entry.id,
                              .salt = s.entry.salt,
                              .last = start.last,
                              .end = has_tail || to_sync ? kept_end(out, i) : proven_end(out, i),
                              .aggregate = run.aggregate,
                              .chain = s.header ? s.header->previous.chain : 0,
                              .ended = format::segment_end::crashed};
            start.previous_proven = proven_end(out, i);
            start.cut_needed = true;
        }
        for (auto const id : built_) {
            auto const& entry = state.segments.at(id);
            if (entry.place != last_place(stock) || !entry.seal) continue;
            start.previous = {.id = id,
                              .salt = entry.salt,
                              .last = start.last,
                              .end = entry.seal->data_end,
                              .aggregate = entry.seal->aggregate,
                              .chain = entry.seal->chain,
                              .ended = format::segment_end::repaired};
            start.cut_needed = true;
        }
        if (out.plan.what == decision::roll_back && !out.plan.declare.empty()) start.cut_needed = true;
    }
    /// Whether there are records in segment `i` that count and that nothing proves durable, and they can be written again.
    [[nodiscard]] static bool find_tail(opened_type& out, std::size_t i) {
        auto const& s = out.exam.stock.segments[i];
        auto& start = out.start;
        if (start.last <= start.durable || !out.plan.segments.empty()) return false;
        if (start.last.value - start.durable.value > format::mark_unknown / 2) return false; // LSN deltas have 32 bits
        wal::unproven_tail tail{.id = s.entry.id,
                                .path = s.path,
                                .salt = s.entry.salt,
                                .first = s.geometry.first,
                                .proven = std::min(start.durable, out.exam.found.proven[i]),
                                .begin = s.geometry.begin,
                                .end = kept_end(out, i)};
        for (auto const& c : out.plan.counted)
            if (c.segment == i && c.range.last > start.durable) tail.counted.push_back(c.range);
        if (tail.counted.empty()) return false;
        start.tails.push_back(std::move(tail));
        return true;
    }
    [[nodiscard]] static segment_id last_place(inventory const& stock) {
        return stock.segments.empty() ? segment_id{} : stock.segments.back().entry.place;
    }
    /// Behind the last whole batch of segment `i` up to `last`.
    [[nodiscard]] static std::uint64_t batches_end(opened_type const& out, std::size_t i, lsn last) {
        auto end = out.exam.stock.segments[i].geometry.begin;
        for (auto const& e : out.exam.runs[i].extents)
            if (e.range.last <= last) end = std::max(end, e.end);
        return end;
    }
    /// Of what lies behind, marks included, nothing says that it will stay.
    [[nodiscard]] static std::uint64_t proven_end(opened_type const& out, std::size_t i) {
        return batches_end(out, i, std::min(out.plan.end, out.exam.found.proven[i]));
    }
    /// Behind the last frame of segment `i` that counts, or that is a valid mark in front of the cut.
    [[nodiscard]] static std::uint64_t kept_end(opened_type const& out, std::size_t i) {
        auto const& run = out.exam.runs[i];
        auto const end = batches_end(out, i, out.plan.end);
        return run.last <= out.plan.end ? std::max(run.data_end, end) : end;
    }

    void adopt_spares(opened_type& out) {
        std::vector<format::segment_entry> spares;
        for (auto const& s : out.exam.stock.spare)
            if (s.present && out.keeper->state().segments.contains(s.entry.id)) spares.push_back(s.entry);
        out.start.spares = std::move(spares);
        for (auto const& l : out.exam.stock.leftovers)
            if (l.retired) out.start.retired.push_back(*l.retired);
    }

    fs_type& fs_;
    wal::layout paths_;
    std::uint64_t segment_bytes_;
    open_options const& options_;
    typename Config::observer& observer_;
    std::optional<lock_type> lock_{};
    std::optional<wal::notes_file<C, fs_type>> notes_{};
    std::vector<segment_id> built_{};
    unsigned attempts_ = 0;
    bool beside_writer_ = false;
    bool believed_ = true; ///< what is found is told
};

} // namespace detail

/// Opens or creates the store and recovers it. `segment_bytes`: size of the segments it makes from here on. `sinks[i]` was told what
/// segment i of stock.segments verifies; which of it counts stands in plan.counted.
template <class Config, scan_sink Sink>
[[nodiscard]] result<opened<Config>> open_store(typename Config::file_system& fs, std::string directory,
                                                std::uint64_t segment_bytes, open_options const& options,
                                                typename Config::observer& observer, std::vector<Sink>& sinks) {
    return detail::opener<Config>{fs, std::move(directory), segment_bytes, options, observer}.run(sinks);
}

} // namespace keel::inline v0::recovery

#endif
