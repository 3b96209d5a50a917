// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_COMPACTOR_HPP
#define KEEL_ENGINE_COMPACTOR_HPP

// Carries merges out (engine/compaction.hpp chooses them): reads versions in order, drops what nobody can see any more, writes tables,
// and switches.
//
// What is on the disk, step by step: (1) new tables under temporary names, each synced; (2) their final names, the folder synced. A
// crash up to here leaves files that no manifest names; the first merge after it removes them. (3) One manifest edit: new tables in,
// old tables and segments out, the floor. It is there as a whole or not at all. (4) Readers see the new parts; files that nobody
// reads any more are recycled or removed. A crash before that leaves them to the next opening.
//
// What a merge read must account for every LSN between the old floor and the new one but those declared lost; else it stops and
// nothing is switched. What does not verify stops no merge: all else is merged, and of the keys between which it lies a placeholder says that
// they have no answer (engine/merge_damage.hpp). Of the log only records that are batches by themselves are merged away from so, and only
// where the repair policy would give them up, too; else the log is given back up to the damaged segment, and an opening with verify = deep
// deals with that: a batch is there as a whole or not at all.
//
// Thread rules: one merge at a time (m_, held during I/O); the rest of the store goes on meanwhile. The writer's mutex is never held
// when this one is asked for. preparing_ is for the first one, or an ingestion in front of it.

#include <keel/config.hpp>
#include <keel/detail/lock_order.hpp>
#include <keel/engine/compaction.hpp>
#include <keel/engine/merge.hpp>
#include <keel/engine/merge_damage.hpp>
#include <keel/engine/merge_output.hpp>
#include <keel/engine/store_core.hpp>
#include <keel/engine/version_filter.hpp>
#include <keel/engine/version_set.hpp>
#include <keel/error.hpp>
#include <keel/format/manifest.hpp>
#include <keel/observe/concept.hpp>
#include <keel/table/placeholder.hpp>
#include <keel/table/silent_medium.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// What merges did since the store was opened.
struct compaction_counters {
    std::uint64_t merges = 0;
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    std::uint64_t records_dropped = 0; ///< superseded or erased, and seen by nobody
};

template <class Config>
class compactor {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;
    using version_set_type = version_set<reading_config<Config>>;
    using core_type = store_core<writing_config<Config>, version_set_type>;
    using merging = merging_config<Config>;
    using job_type = compaction_job<merging>;
    using table_type = typename version_set_type::table_type;
    using view_type = typename version_set_type::view_type;
    using unread_type = unread_parts<reading_config<Config>>;

    /// `bytes_per_second`: how fast tables are written at most; 0: as fast as the machine does. `gives_up_records`: a damaged record of
    /// the log may be left behind by a merge.
    compactor(core_type& core, version_set_type& parts, std::uint64_t bytes_per_second, bool gives_up_records)
        : core_{core}, versions_{parts}, fs_{core.fs()}, rate_{bytes_per_second}, gives_up_records_{gives_up_records} {}
    compactor(compactor const&) = delete;
    compactor& operator=(compactor const&) = delete;

    /// Carries out the merge the policy wants most; false: it wants none. `quiet`: nothing was written for a while, so that what is left
    /// of the log may go into tables, too. `meanwhile` is called again and again while it merges. Errors: corruption (the log does not
    /// verify), no_space, cancelled, the machine's; nothing is lost by them.
    [[nodiscard]] result<bool> step(std::stop_token const& stop, bool quiet,
                                    std::function<void()> const& meanwhile = {}) {
        KEEL_TAKES(compaction, &core_.pool());
        std::lock_guard const hold{m_};
        meanwhile_ = meanwhile ? &meanwhile : nullptr;
        auto done = guarded([&] { return merge_next(stop, quiet); });
        meanwhile_ = nullptr;
        recycle_or_remove();
        return done;
    }
    /// Merges everything that takes no more records into one level. Errors: as of step(); corruption also where part of the log does not
    /// verify, once all else is merged.
    [[nodiscard]] result<void> all(std::stop_token const& stop = {}) {
        KEEL_TAKES(compaction, &core_.pool());
        std::lock_guard const hold{m_};
        forget_stuck(); // whoever asks wants it tried
        auto const everything = [](compaction_picker<merging>& pick) { return pick.pick_full(); };
        auto done = choose_and_run(stop, everything);
        recycle_or_remove();
        // All of it at once takes room for all of it. What the log gives back piece by piece may be that.
        if (!done && done.error().code == errc::no_space && gain_room(stop)) {
            done = choose_and_run(stop, everything);
            recycle_or_remove();
        }
        if (!done) return failure(std::move(done).error());
        if (!stuck_.empty()) return failure(why_stuck_);
        return {};
    }
    /// On a full disk: merges the log segment by segment, out of the reserve where there is nothing else, and gives each back. False: there
    /// was nothing to merge, or no room even for that.
    [[nodiscard]] bool make_room(std::stop_token const& stop = {}) {
        KEEL_TAKES(compaction, &core_.pool());
        std::lock_guard const hold{m_};
        return gain_room(stop);
    }
    /// Writes the tables that are known to be damaged anew, but for those that wait for the log. What cannot be read of them is left behind.
    /// Errors: as of step().
    [[nodiscard]] result<void> damaged(std::stop_token const& stop = {}) {
        KEEL_TAKES(compaction, &core_.pool());
        std::lock_guard const hold{m_};
        for (;;) {
            auto const done = choose_and_run(
                stop, [](compaction_picker<merging>& pick) { return result<std::optional<job_type>>{pick.damaged()}; });
            recycle_or_remove();
            if (!done) return failure(done.error());
            if (!*done) return {};
        }
    }
    /// Makes the folder of the tables fit for new ones, at the first call; then gives ids for them. Any thread.
    [[nodiscard]] result<table_ids*> ids() {
        if (!ids_.begun()) KEEL_TRY(prepare());
        return &ids_;
    }
    /// Whether what was ingested is so much that it should be merged soon, and waits for the end of the segment that is written to.
    [[nodiscard]] bool ingested_needs_roll_over() const {
        if (Config::compaction::log_bytes == 0) return false;
        auto const parts = core_.parts().all();
        auto on_top = versions_.view()->tables.front();
        auto const begin = parts.empty() || !parts.back()->open ? lsn_max : parts.back()->first;
        std::erase_if(on_top, [&](auto const& t) { return t->entry().lsns.last < begin; });
        return compaction_picker<merging>::ingested_is_due(on_top);
    }
    /// Bytes of log that wait to be merged.
    [[nodiscard]] std::uint64_t log_bytes() const {
        auto const [parts, view, state] = now();
        std::lock_guard const hold{stuck_m_};
        return compaction_picker<merging>{view, parts, *state, true, stuck_}.log_bytes();
    }
    /// About how many bytes the log has, whether they could be merged or not.
    [[nodiscard]] std::uint64_t bytes_in_log() const noexcept { return core_.parts().bytes(); }
    /// Bytes of segments that merges have given back since the store was opened.
    [[nodiscard]] std::uint64_t bytes_given_back() const noexcept {
        return given_back_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] compaction_counters counters() const {
        std::lock_guard const hold{counters_m_};
        return counters_;
    }

private:
    struct present {
        std::vector<std::shared_ptr<wal::catalog_part const>> parts;
        std::shared_ptr<view_type const> view;
        std::shared_ptr<format::manifest_state const> state;
    };
    [[nodiscard]] present now() const {
        auto parts = core_.parts().all(); // first: what is closed in them is in the view
        auto view = versions_.view();
        return {std::move(parts), std::move(view), core_.manifest()};
    }

    [[nodiscard]] bool may_merge() const {
        auto const health = core_.writer().state();
        bool const writes = health == engine_state::healthy || health == engine_state::degraded;
        return writes || (health == engine_state::read_only && core_.writer().lacks_space());
    }
    bool gain_room(std::stop_token const& stop) {
        for (bool gained = false;; gained = true) {
            auto const done = merge_for_room(stop);
            recycle_or_remove();
            if (!done || !*done) return gained;
        }
    }
    /// What frees space on a full disk: one segment of the log at a time, in the end the one that was written to; then all levels, for what
    /// was erased. Where there is no room for the tables they become, the reserve is spent on that.
    result<bool> merge_for_room(std::stop_token const& stop) {
        auto const segment = [](compaction_picker<merging>& pick) { return pick.for_room(); };
        auto done = merge_with_reserve(stop, segment);
        bool const is_urgent = core_.writer().lacks_space();
        if (done && !*done && is_urgent && core_.writer().seal()) done = merge_with_reserve(stop, segment);
        if (done && !*done && is_urgent) {
            std::vector<format::table_id> tables;
            for (auto const& level : versions_.view()->tables)
                for (auto const& t : level) tables.push_back(t->entry().id);
            if (tables == merged_for_room_) return done;
            merged_for_room_ = std::move(tables);
            done = merge_with_reserve(stop, [](compaction_picker<merging>& pick) { return pick.pick_full(); });
        }
        return done;
    }
    template <class Choose>
    result<bool> merge_with_reserve(std::stop_token const& stop, Choose const& choose) {
        auto done = guarded([&] { return choose_and_run(stop, choose); });
        if (done || done.error().code != errc::no_space) return done;
        typename core_type::pool_type::loan const room{core_.pool()};
        if (!room.is_given()) return done;
        done = guarded([&] { return choose_and_run(stop, choose); });
        recycle_or_remove(); // before others take the room
        return done;
    }

    result<bool> merge_next(std::stop_token const& stop, bool quiet) {
        if (Config::compaction::log_bytes == 0) return false; // only when asked
        if (core_.writer().lacks_space()) return merge_for_room(stop);
        auto done = guarded([&] { return merge_due(stop, quiet); });
        if (done || done.error().code != errc::no_space) return done;
        auto const gained = merge_for_room(stop); // before writes stop, too
        return gained && !*gained ? done : gained;
    }
    result<bool> merge_due(std::stop_token const& stop, bool quiet) {
        bool rest = false;
        auto const done = choose_and_run(stop, [&](compaction_picker<merging>& pick) {
            auto job = pick.pick_due(turns_);
            if (!quiet || !job || *job) return job;
            if (auto fewer = pick.fewer_runs(turns_)) return result<std::optional<job_type>>{std::move(fewer)};
            rest = pick.rest_pays(core_.writer().bytes_in_active());
            return job;
        });
        return done && rest ? merge_rest(stop) : done;
    }
    /// What a burst of writes left in the log is merged once nobody writes: readers then have sorted tables, and the segments are free.
    result<bool> merge_rest(std::stop_token const& stop) {
        // Nobody asked for a segment's end: it must not be what finds the disk full, and stops writes.
        if (!core_.pool().make_ready()) return false;
        KEEL_TRY(core_.writer().roll_over());
        return choose_and_run(stop, [](compaction_picker<merging>& pick) { return pick.pick_idle(); });
    }
    template <class Choose>
    result<bool> choose_and_run(std::stop_token const& stop, Choose const& choose) {
        show_switch(); // of a merge that was refused memory for it
        for (;;) {
            if (!may_merge()) return false;
            auto const known = stuck_.size();
            auto const [parts, view, state] = now();
            compaction_picker<merging> pick{view, parts, *state, core_.writer().has_written(), stuck_};
            KEEL_TRY_LET(job, choose(pick));
            auto const done = job ? run(*job, *view, stop) : result<void>{};
            view->tell_damage();
            if (!done && stuck_.size() != known) continue; // without what it is stuck at
            if (!done) return failure(done.error());
            return job.has_value();
        }
    }
    result<void> run(job_type const& job, view_type const& view, std::stop_token const& stop) {
        KEEL_TRY(ids());
        std::vector<format::table_entry> made;
        std::set<format::table_id> damaged; // and kept
        if (job.reads()) {
            unread_type unread;
            auto first = job.log_start_before.next();
            for (auto const& level : job.tables)
                for (auto const& t : level) first = std::min(first, t->entry().lsns.first);
            merge_output<merging> out{fs_, core_.pool(), ids_, job.into, first, made};
            auto done = merge(job, stop, out, unread);
            if (done && !unread.empty()) done = leave_behind(unread, view, made, out);
            if (done) {
                auto noted = note_damaged(job, unread);
                if (noted) damaged = std::move(*noted);
                else done = failure(std::move(noted).error());
            }
            if (done) done = out.name();
            if (!done) {
                out.discard();
                // Whatever is tried again would go to a store that is not this one any more.
                if (auto const ours = core_.pool().check_identity(); !ours)
                    core_.writer().manifest_failed(ours.error());
                return done;
            }
        }
        return switch_over(job, made, damaged);
    }

    /// The folder, and what a crash left in it.
    result<void> prepare() {
        KEEL_TAKES(tables_folder, &core_.pool());
        std::lock_guard const hold{preparing_};
        if (ids_.begun()) return {};
        auto const state = core_.manifest();
        auto const& paths = core_.pool().paths();
        // An edit that a killed process left unsynced may go with the power: until it cannot, what it took out is still needed.
        KEEL_TRY(core_.pool().make_durable());
        if (auto folder = fs_.make_directory(paths.tables()); !folder && folder.error().code != errc::exists)
            return folder;
        // Also where it stood there: whoever made it may have died, or failed, before this.
        KEEL_TRY(fs_.sync_directory(paths.root()));
        KEEL_TRY_LET(names, fs_.list(paths.tables()));
        std::uint64_t next = state->next_table;
        for (auto const& entry : names) {
            auto const path = paths.table_file(entry.name);
            bool const temporary = entry.name.ends_with(".tab.tmp");
            auto const id = wal::layout::table_of(entry.name);
            if (id && !state->tables.contains(*id) && evidence_.has_note(entry.name)) {
                KEEL_TRY(evidence_.move_here(path)); // a crash came between the merge and this
            } else if (temporary || (id && !state->tables.contains(*id) && is_ours(path))) {
                KEEL_TRY(fs_.remove(path));
            } else if (id && id->value < lsn_highest.value) {
                next = std::max(next, id->value + 1); // no table of ours, or damage's only trace: it keeps its name
            }
        }
        ids_.begin_at(next);
        return {};
    }
    [[nodiscard]] bool is_ours(std::string const& path) {
        auto file = fs_.open(path, io::access::read_only, io::creation::must_exist);
        format::header_block block{};
        auto const got = file ? file->read(0, block) : result<std::size_t>{std::size_t{0}};
        if (!got || *got != block.size()) return false;
        auto const h = format::decode_table_header<C>(block);
        return h && h->store == core_.pool().store();
    }

    // ---- writing ------------------------------------------------------------------------------------------------------------

    result<void> merge(job_type const& job, std::stop_token const& stop, merge_output<merging>& out,
                       unread_type& unread) {
        version_filter seen{versions_.snapshots().all([&] { return core_.writer().visible(); })};
        version_merge<reading_config<Config>> in{direction::forward};
        for (auto const& m : job.memory) in.add(*m);
        for (auto const& r : job.runs) in.add(r);
        in.add_levels(job.tables);
        in.begin();
        merge_pace const speed{rate_};
        std::string key;
        lsn last{};
        bool any = false;
        bool superseded = false;
        std::uint64_t from_log = 0;
        std::uint64_t dropped = 0;
        auto const note_unread = [&] {
            unread.take(in, any && superseded ? std::optional<std::string_view>{key} : std::nullopt);
        };
        for (std::uint64_t n = 0; in.valid(); in.advance(), ++n) {
            if (in.has_damage()) [[unlikely]]
                note_unread();
            auto const& v = in.top();
            unread.found(v.at);
            if (n % pace_every == 0) {
                if (stop.stop_requested())
                    return failure(errc::cancelled, "the merge was stopped; nothing was changed");
                speed.keep(out.bytes(), stop);
                if (meanwhile_ != nullptr) (*meanwhile_)();
            }
            if (v.at > job.log_start_lsn) continue; // of an abandoned segment; the one behind it has it, too
            bool const ingested = !job.ingested.empty() && job.ingested.contains(v.at);
            if (!ingested && !job.lost.empty() && job.lost.contains(v.at))
                continue; // readers saw it before a failed sync took it
            bool const new_key = !any || v.key != key;
            if (!new_key && v.at == last) continue; // the same record from two segments
            if (new_key) key.assign(v.key);
            any = true;
            last = v.at;
            from_log += v.at > job.log_start_before && !ingested;
            if (v.key.empty()) continue; // the log's word of something that was ingested
            if (new_key) seen.begin_key();
            bool const forgotten = seen.hides(v.at);
            superseded = seen.hides_all_behind(v.at);
            bool const erased_for_good = superseded && v.tombstone && job.bottom && !stands_above(v.key, job, unread);
            if (forgotten || erased_for_good) {
                ++dropped;
                continue;
            }
            KEEL_TRY(out.add(v, new_key));
        }
        if (in.trouble()) return failure(*in.trouble());
        note_unread();
        KEEL_TRY_LET(left, records_left_behind(job, unread));
        from_log += left;
        if (from_log != job.log_records)
            return failure(errc::corruption,
                           "the log holds " + std::to_string(from_log) + " records from LSN " +
                               std::to_string(job.log_start_before.next().value) + " to " +
                               std::to_string(job.log_start_lsn.value) + " that have a key, and " +
                               std::to_string(job.log_records) +
                               " were expected: it is not merged; run wal-recovery validate",
                           core_.pool().paths().log());
        KEEL_TRY(out.finish());
        std::lock_guard const hold{counters_m_};
        counters_.records_dropped += dropped;
        return {};
    }

    static constexpr std::uint64_t pace_every = 64; ///< records between two looks at the clock

    // ---- what cannot be read --------------------------------------------------------------------------------------------------

    /// Whether an erasure of this key is its answer, in place of what could not be read of it.
    [[nodiscard]] static bool stands_above(std::string_view key, job_type const& job, unread_type const& unread) {
        auto const may_have = [key](auto const& p) { return p->entry().may_have(key); };
        return unread.may_hold(key) || std::ranges::any_of(job.placeholders, may_have);
    }
    /// How many records of the log were not read. Errors: why the merge cannot go on without what it could not read.
    result<std::uint64_t> records_left_behind(job_type const& job, unread_type const& unread) {
        KEEL_TRY(tables_may_be_left(unread));
        std::uint64_t records = 0;
        for (auto const& d : unread.all()) {
            if (!d.run) continue;
            auto const at = d.what.lsns.first;
            bool const counts = at > job.log_start_before && at <= job.log_start_lsn && !job.lost.contains(at) &&
                                !job.ingested.contains(at);
            bool const is_one = d.what.lsns.size() == 1;
            if (is_one && !counts) continue;
            bool const may_be_left = gives_up_records_ && is_one && d.what.is_batch &&
                                     d.what.why.code == errc::corruption && ++records <= records_left_max;
            if (!may_be_left) return get_stuck(d.run->source().id, d.what.why);
        }
        return records;
    }
    /// A medium that does not answer is given time.
    result<void> tables_may_be_left(unread_type const& unread) {
        std::set<format::table_id> silent;
        for (auto const& d : unread.all()) {
            if (!d.tab || d.what.why.code == errc::corruption) continue;
            auto const id = d.tab->entry().id;
            bool const first = silent.insert(id).second;
            bool const may_be_left = d.what.why.code == errc::io_error && (!first || has_been_silent(id));
            if (!may_be_left) return failure(d.what.why);
        }
        std::erase_if(silent_, [&](auto const& s) { return !silent.contains(s.first); });
        return {};
    }
    /// The medium has not answered for so long that it is not waited for any more.
    [[nodiscard]] bool has_been_silent(format::table_id id) {
        using namespace std::chrono_literals;
        return !silent_.try_emplace(id, 3U, std::chrono::seconds{1h}).first->second.may_answer_later();
    }
    tl::unexpected<error> get_stuck(segment_id at, error why) {
        std::lock_guard const hold{stuck_m_};
        stuck_.insert(at);
        why_stuck_ = why;
        return failure(std::move(why));
    }
    void forget_stuck() {
        std::lock_guard const hold{stuck_m_};
        stuck_.clear();
    }
    /// Placeholders for what was not read, and notes of what that was. Before the edit.
    result<void> leave_behind(unread_type const& unread, view_type const& view,
                              std::vector<format::table_entry> const& made, merge_output<merging>& out) {
        auto snapshots = versions_.snapshots().all([&] { return core_.writer().visible(); });
        auto const readable = made.size();
        for (auto const& s : placeholder_plan<reading_config<Config>>{view, std::move(snapshots)}.make(unread.all()))
            KEEL_TRY(out.add_placeholder(s));
        std::vector<format::table_entry> const placeholders(made.begin() + static_cast<std::ptrdiff_t>(readable),
                                                            made.end());
        std::map<std::string, std::vector<table::damaged_range>> files;
        for (auto const& d : unread.all()) files[d.tab ? d.tab->path() : d.run->source().path].push_back(d.what);
        for (auto const& [path, ranges] : files) {
            if (path.ends_with(".seg")) KEEL_TRY(evidence_.copy(path));
            KEEL_TRY(evidence_.note(path, ranges, placeholders, core_.pool().now_ns()));
        }
        return {};
    }
    /// Which tables of the job are evidence of damage. Those that were read whole in spite of it get a note here. Before the edit.
    result<std::set<format::table_id>> note_damaged(job_type const& job, unread_type const& unread) {
        std::set<format::table_id> out;
        for (auto const& d : unread.all())
            if (d.tab) out.insert(d.tab->entry().id);
        for (auto const& level : job.tables)
            for (auto const& t : level)
                if (t->is_damaged() && out.insert(t->entry().id).second)
                    KEEL_TRY(evidence_.note(t->path(), {}, {}, core_.pool().now_ns()));
        return out;
    }

    // ---- switching ----------------------------------------------------------------------------------------------------------

    struct old_segment {
        format::segment_entry entry{};
        std::shared_ptr<void const> file{}; ///< shared with whoever reads it
    };
    struct old_table {
        std::string path{};
        std::shared_ptr<void const> file{};
        bool is_evidence = false; ///< of damage: it is kept
    };
    /// What readers see of a merge, and what becomes of the files it read.
    struct switched {
        std::vector<segment_id> segments{};
        std::vector<format::table_id> out{};
        std::vector<std::shared_ptr<table_type const>> in{};
        std::vector<old_segment> old_segments{};
        std::vector<old_table> old_tables{};
        std::vector<finding> found{}; ///< of what was left behind
    };

    /// Complete before the edit is committed: what follows the commit must not be forgotten for want of memory.
    [[nodiscard]] switched what_changes(job_type const& job, std::vector<format::table_entry> const& made,
                                        std::set<format::table_id> const& damaged) {
        switched all;
        for (auto const& level : job.tables)
            for (auto const& t : level) {
                all.out.push_back(t->entry().id);
                all.old_tables.push_back({t->path(), t->file(), damaged.contains(t->entry().id)});
            }
        for (auto const& t : job.moved) {
            auto entry = t->entry();
            entry.level = job.into;
            all.out.push_back(entry.id);
            all.in.push_back(t->renamed(entry));
        }
        for (auto const& t : made) {
            all.in.push_back(versions_.serve(t, core_.pool().paths()));
            if (t.is_placeholder())
                all.found.push_back(table::finding_of_placeholder(t, core_.pool().paths().table(t.id)));
        }
        for (auto const& e : job.segments) {
            all.segments.push_back(e.id);
            all.old_segments.push_back({.entry = e});
        }
        // Every reader of a segment's file shares one handle of it, whichever view it came by; records in memory need no file.
        for (auto const& r : job.runs)
            for (auto& old : all.old_segments)
                if (r->source().id == old.entry.id) old.file = r->file();
        old_segments_.reserve(old_segments_.size() + all.old_segments.size());
        old_tables_.reserve(old_tables_.size() + all.old_tables.size());
        return all;
    }
    result<void> switch_over(job_type const& job, std::vector<format::table_entry> const& made,
                             std::set<format::table_id> const& damaged) {
        auto all = what_changes(job, made, damaged);
        format::edit_builder edit;
        for (auto const& level : job.tables)
            for (auto const& t : level) edit.remove_table(t->entry().id);
        for (std::size_t i = 0; i < job.moved.size(); ++i) edit.table(all.in[i]->entry());
        for (auto const& t : made) edit.table(t);
        if (!job.segments.empty())
            core_type::pool_type::add_retire_edits(edit, job.segments, job.log_base, job.log_start_lsn);
        edit.next_table_id(ids_.next());
        auto const tables = all.in.size();
        if (auto done = core_.pool().commit(edit); !done) {
            // The edit may be there at the next open: both the old files and the new ones stay.
            core_.writer().manifest_failed(done.error());
            return done;
        }
        switched_.emplace(std::move(all));
        count(job, made);
        show_switch();
        core_.events().push(
            observe::merged{.level = job.into, .tables = tables, .bytes_read = job.bytes, .floor = job.log_start_lsn});
        return {};
    }
    /// Lets readers see what was committed last. Where memory is refused for that they go on with what they have, which is no less right,
    /// and the next merge begins with this.
    void show_switch() {
        if (!switched_) return;
        for (auto const& f : switched_->found) versions_.damage().note(f); // what is noted already is not noted again
        auto const files = versions_.replace(switched_->segments, switched_->out, switched_->in);
        for (auto& old : switched_->old_segments) {
            given_back_.fetch_add(old.entry.size, std::memory_order_relaxed);
            for (auto const& [id, file] : files)
                if (id == old.entry.id) old.file = file;
            core_.parts().retire(old.entry.id);
            old_segments_.push_back(std::move(old)); // there is room for it
        }
        for (auto& old : switched_->old_tables) old_tables_.push_back(std::move(old));
        switched_.reset();
    }
    void count(job_type const& job, std::vector<format::table_entry> const& made) {
        if (!job.reads()) return;
        std::lock_guard const hold{counters_m_};
        ++counters_.merges;
        counters_.bytes_read += job.bytes;
        for (auto const& t : made) counters_.bytes_written += t.size;
    }

    /// Files that the manifest no longer names and no reader holds. One that cannot be removed now is left to the next opening.
    void recycle_or_remove() {
        bool const keeps_no_file = core_.writer().lacks_space(); // to be recycled
        std::erase_if(old_segments_, [&](auto& old) {
            if (old.file.use_count() > 1 || core_.parts().pinned(old.entry.id)) return false;
            old.file.reset();
            static_cast<void>(core_.pool().recycle_or_remove(old.entry, keeps_no_file));
            return true;
        });
        std::erase_if(old_tables_, [&](auto& old) {
            if (old.file.use_count() > 1 || !core_.pool().check_identity()) return false;
            old.file.reset();
            // What is not moved now, the next opening's first merge moves.
            static_cast<void>(old.is_evidence ? evidence_.move_here(old.path) : fs_.remove(old.path));
            return true;
        });
    }

    static constexpr std::uint64_t records_left_max = 32; ///< of the log, by one merge

    core_type& core_;
    version_set_type& versions_;
    fs_type fs_;
    std::uint64_t rate_;
    bool gives_up_records_;
    merge_evidence<merging> evidence_{fs_, core_.pool().paths()};
    std::mutex m_;
    std::mutex preparing_; ///< held during that I/O
    table_ids ids_{};
    std::vector<format::table_id> merged_for_room_{}; ///< tried last, on a full disk: again it would give nothing more
    compaction_turns turns_{};
    std::function<void()> const* meanwhile_ = nullptr; ///< of the step that runs; or nothing
    std::atomic<std::uint64_t> given_back_{0};
    std::vector<old_segment> old_segments_{};
    std::vector<old_table> old_tables_{};
    std::optional<switched> switched_{};                        ///< committed, and not shown to readers yet
    std::map<format::table_id, table::silent_medium> silent_{}; ///< tables that the machine does not read
    mutable std::mutex stuck_m_;                                ///< for who asks without m_
    std::set<segment_id> stuck_{};                              ///< segments with what no merge may leave behind
    error why_stuck_{};
    mutable std::mutex counters_m_;
    compaction_counters counters_{};
};

} // namespace keel::inline v0::detail

#endif
