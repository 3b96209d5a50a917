// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_COMPACTOR_HPP
#define KEEL_ENGINE_COMPACTOR_HPP

// Carries out merges (engine/compaction.hpp chooses them): reads versions in key order, drops the versions that no reader can see any more,
// writes tables, and switches readers to them.
//
// The steps on the disk: (1) New tables are written under temporary names, each is synced. (2) They get their final names, and the folder
// is synced. A crash up to here leaves files that no manifest names; the first merge after it removes them. (3) One manifest edit adds the
// new tables, removes the old tables and segments, and sets log_start_lsn. A crash keeps the whole edit or nothing of it. (4) Readers see
// the new parts. Files that no reader uses any more are recycled or removed. A crash before that leaves them to the next opening.
//
// The records that a merge has read must account for every LSN between the old and the new log_start_lsn, except for declared losses and
// ingested tables. If they do not, the merge stops and nothing is switched. Damaged data does not stop a merge: everything else is merged,
// and a placeholder covers the keys of the damage, so that reading them is an error (engine/merge_damage.hpp). A damaged log record is
// left behind only if it is a batch by itself (a batch counts as a whole or not at all) and the repair policy would give it up, too.
// Otherwise the log is released only up to the damaged segment, and an opening with verify = deep repairs that.
//
// Thread rules: one merge at a time (m_, held during I/O). The rest of the store works meanwhile. No thread takes m_ while it holds the
// writer's mutex. preparing_ protects the first preparation of the tables' folder, by a merge or by an ingestion.

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

/// Sums over all merges since the store was opened.
struct compaction_counters {
    std::uint64_t merges = 0;
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    std::uint64_t records_dropped = 0; ///< superseded or erased versions that no reader can see
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

    /// `bytes_per_second`: the highest rate at which tables are written; 0: no limit. `gives_up_records`: a merge may leave a damaged
    /// record of the log behind. `core` and `parts` must outlive this object.
    compactor(core_type& core, version_set_type& parts, std::uint64_t bytes_per_second, bool gives_up_records)
        : core_{core}, versions_{parts}, fs_{core.fs()}, rate_{bytes_per_second}, gives_up_records_{gives_up_records} {}
    compactor(compactor const&) = delete;
    compactor& operator=(compactor const&) = delete;

    /// Carries out the merge that the policy wants most. False: it wants none. `quiet`: nothing was written for a while, so a log that is
    /// too short to be due may be merged, too. `meanwhile` is called repeatedly during the merge, by this thread. Errors: corruption (the
    /// log does not verify), no_space, cancelled, and those of the file system. No data is lost by an error. Any thread; calls wait for
    /// each other.
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
    /// Merges the segments that take no more records, and the tables, into one level. Errors: those of step(). If part of the log does not
    /// verify, everything that can be is merged before this returns corruption.
    [[nodiscard]] result<void> all(std::stop_token const& stop = {}) {
        KEEL_TAKES(compaction, &core_.pool());
        std::lock_guard const hold{m_};
        forget_stuck(); // an explicit call tries the damaged segments again
        auto const everything = [](compaction_picker<merging>& pick) { return pick.pick_full(); };
        auto done = choose_and_run(stop, everything);
        recycle_or_remove();
        // A merge of everything needs space for all of its output. Merging the log segment by segment may free so much.
        if (!done && done.error().code == errc::no_space && gain_room(stop)) {
            done = choose_and_run(stop, everything);
            recycle_or_remove();
        }
        if (!done) return failure(std::move(done).error());
        if (!stuck_.empty()) return failure(why_stuck_);
        return {};
    }
    /// For a full disk: merges the log segment by segment and releases each one; if writes are stopped for want of space, it then merges
    /// all levels, too. If there is no other space, it uses the reserve. False: there was nothing to merge, or not even the reserve was
    /// enough.
    [[nodiscard]] bool make_room(std::stop_token const& stop = {}) {
        KEEL_TAKES(compaction, &core_.pool());
        std::lock_guard const hold{m_};
        return gain_room(stop);
    }
    /// Rewrites the tables that are known to be damaged, except for those of level 0, which are merged together with the log. Parts that
    /// cannot be read are left behind; placeholders stand for them. Errors: those of step().
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
    /// Gives the ids for new tables. The first call prepares the folder of the tables. Any thread. Errors: those of the preparation.
    [[nodiscard]] result<table_ids*> ids() {
        if (!ids_.begun()) KEEL_TRY(prepare());
        return &ids_;
    }
    /// Whether so many tables were ingested that they should be merged soon, and that merge has to wait for the end of the active segment.
    [[nodiscard]] bool ingested_needs_roll_over() const {
        if (Config::compaction::log_bytes == 0) return false;
        auto const parts = core_.parts().all();
        auto on_top = versions_.view()->tables.front();
        auto const begin = parts.empty() || !parts.back()->open ? lsn_max : parts.back()->first;
        std::erase_if(on_top, [&](auto const& t) { return t->entry().lsns.last < begin; });
        return compaction_picker<merging>::ingested_is_due(on_top);
    }
    /// Bytes of the log that could be merged now.
    [[nodiscard]] std::uint64_t log_bytes() const {
        auto const [parts, view, state] = now();
        std::lock_guard const hold{stuck_m_};
        return compaction_picker<merging>{view, parts, *state, true, stuck_}.log_bytes();
    }
    /// About how many bytes the log has, mergeable or not.
    [[nodiscard]] std::uint64_t bytes_in_log() const noexcept { return core_.parts().bytes(); }
    /// Bytes of the segments that merges have released since the store was opened.
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
        auto parts = core_.parts().all(); // before the view: so the view has all records of the closed parts
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
    /// One merge that frees space on a full disk. Each call takes the oldest segment of the log. If none is left and writes are stopped for
    /// want of space, it seals and takes the active segment; after that it merges all levels, which frees the space of erased records. If
    /// there is no space for the new tables, it uses the reserve.
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
        recycle_or_remove(); // before the loan ends and others take the space
        return done;
    }

    result<bool> merge_next(std::stop_token const& stop, bool quiet) {
        if (Config::compaction::log_bytes == 0) return false; // this policy merges only on an explicit call
        if (core_.writer().lacks_space()) return merge_for_room(stop);
        auto done = guarded([&] { return merge_due(stop, quiet); });
        if (done || done.error().code != errc::no_space) return done;
        auto const gained = merge_for_room(stop); // now, before the full disk stops writes
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
    /// Merges the rest of the log in an idle time: readers then have sorted tables, and the segments become free.
    result<bool> merge_rest(std::stop_token const& stop) {
        // No caller asked to end this segment. So do it only if the next segment is ready: a full disk found here would stop writes.
        if (!core_.pool().make_ready()) return false;
        KEEL_TRY(core_.writer().roll_over());
        return choose_and_run(stop, [](compaction_picker<merging>& pick) { return pick.pick_idle(); });
    }
    template <class Choose>
    result<bool> choose_and_run(std::stop_token const& stop, Choose const& choose) {
        show_switch(); // a former merge may be committed but not shown to readers, because memory was refused
        for (;;) {
            if (!may_merge()) return false;
            auto const known = stuck_.size();
            auto const [parts, view, state] = now();
            compaction_picker<merging> pick{view, parts, *state, core_.writer().has_written(), stuck_};
            KEEL_TRY_LET(job, choose(pick));
            auto const done = job ? run(*job, *view, stop) : result<void>{};
            view->tell_damage();
            if (!done && stuck_.size() != known) continue; // choose again, without the segment that cannot be merged
            if (!done) return failure(done.error());
            return job.has_value();
        }
    }
    result<void> run(job_type const& job, view_type const& view, std::stop_token const& stop) {
        KEEL_TRY(ids());
        std::vector<format::table_entry> made;
        std::set<format::table_id> damaged; // the files of these tables are kept as evidence
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
                // If another store has taken this folder, a retry would write into that store.
                if (auto const ours = core_.pool().check_identity(); !ours)
                    core_.writer().manifest_failed(ours.error());
                return done;
            }
        }
        return switch_over(job, made, damaged);
    }

    /// Creates the folder, and clears away the files that a crash left in it.
    result<void> prepare() {
        KEEL_TAKES(tables_folder, &core_.pool());
        std::lock_guard const hold{preparing_};
        if (ids_.begun()) return {};
        auto const state = core_.manifest();
        auto const& paths = core_.pool().paths();
        // A killed process may have left a manifest edit unsynced, and a power loss may undo that edit. Sync it before this removes files:
        // without the edit, the manifest still names the tables that the edit removed.
        KEEL_TRY(core_.pool().make_durable());
        if (auto folder = fs_.make_directory(paths.tables()); !folder && folder.error().code != errc::exists)
            return folder;
        // Also if the folder was there: the process that made it may have died, or failed, before this sync.
        KEEL_TRY(fs_.sync_directory(paths.root()));
        KEEL_TRY_LET(names, fs_.list(paths.tables()));
        std::uint64_t next = state->next_table;
        for (auto const& entry : names) {
            auto const path = paths.table_file(entry.name);
            bool const temporary = entry.name.ends_with(".tab.tmp");
            auto const id = wal::layout::table_of(entry.name);
            if (id && !state->tables.contains(*id) && evidence_.has_note(entry.name)) {
                KEEL_TRY(evidence_.move_here(path)); // a crash came between the merge and its move
            } else if (temporary || (id && !state->tables.contains(*id) && is_ours(path))) {
                KEEL_TRY(fs_.remove(path));
            } else if (id && id->value < lsn_highest.value) {
                // The file keeps its name. It is a table of the manifest or of another store, or its header is damaged and the file may
                // be the only trace of that damage.
                next = std::max(next, id->value + 1);
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
            if (v.at > job.log_start_lsn) continue; // from an abandoned segment; the next segment has this record, too
            bool const ingested = !job.ingested.empty() && job.ingested.contains(v.at);
            if (!ingested && !job.lost.empty() && job.lost.contains(v.at))
                continue; // readers saw it before a failed sync lost it
            bool const new_key = !any || v.key != key;
            if (!new_key && v.at == last) continue; // two segments have this record
            if (new_key) key.assign(v.key);
            any = true;
            last = v.at;
            from_log += v.at > job.log_start_before && !ingested;
            if (v.key.empty()) continue; // the log's record for the LSN of an ingestion
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

    static constexpr std::uint64_t pace_every = 64; ///< records between two checks of the rate and of `stop`

    // ---- what cannot be read --------------------------------------------------------------------------------------------------

    /// Whether a tombstone of this key must be kept, because damage or a placeholder may hold older versions of the key: with the
    /// tombstone the key is erased, without it reading the key would be an error.
    [[nodiscard]] static bool stands_above(std::string_view key, job_type const& job, unread_type const& unread) {
        auto const may_have = [key](auto const& p) { return p->entry().may_have(key); };
        return unread.may_hold(key) || std::ranges::any_of(job.placeholders, may_have);
    }
    /// How many records of the log were not read and may be left behind. Errors: why some part that could not be read may not be left
    /// behind.
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
    /// Fails if a table could not be read for another reason than damage. After an io_error the merge is tried again for some time, because
    /// the medium may answer later; after that the keys are left behind.
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
    /// Whether the medium has not answered for so long (an hour, and three attempts) that the table counts as damaged.
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
    /// Writes placeholders for the keys that were not read, and notes about the damage. Before the edit: a crash must not keep the edit
    /// without them.
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
    /// Returns the tables of the job that are evidence of damage. A damaged table that could be read completely gets its note here. Before
    /// the edit.
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
        std::shared_ptr<void const> file{}; ///< shared with its readers
    };
    struct old_table {
        std::string path{};
        std::shared_ptr<void const> file{};
        bool is_evidence = false; ///< of damage: the file is kept
    };
    /// The changes that a merge makes for readers, and the files that it no longer needs.
    struct switched {
        std::vector<segment_id> segments{};
        std::vector<format::table_id> out{};
        std::vector<std::shared_ptr<table_type const>> in{};
        std::vector<old_segment> old_segments{};
        std::vector<old_table> old_tables{};
        std::vector<finding> found{}; ///< about the data that was left behind
    };

    /// Called before the edit is committed, because it allocates. After the commit nothing may fail for want of memory: the steps that
    /// follow would be forgotten.
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
        // All readers of a segment's file share one handle, in whichever view they found it. Records in memory need no file.
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
            // The next opening may find the edit or not, so both the old and the new files stay.
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
    /// Shows the last committed merge to readers. If memory is refused, readers keep the old parts, which have the same records, and the
    /// next merge begins with this call.
    void show_switch() {
        if (!switched_) return;
        for (auto const& f : switched_->found) versions_.damage().note(f); // a repeated call does not note it twice
        auto const files = versions_.replace(switched_->segments, switched_->out, switched_->in);
        for (auto& old : switched_->old_segments) {
            given_back_.fetch_add(old.entry.size, std::memory_order_relaxed);
            for (auto const& [id, file] : files)
                if (id == old.entry.id) old.file = file;
            core_.parts().retire(old.entry.id);
            old_segments_.push_back(std::move(old)); // what_changes() has reserved the memory
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

    /// Disposes of the files that the manifest no longer names and no reader holds. A file that cannot be removed now is left to the next
    /// opening.
    void recycle_or_remove() {
        bool const keeps_no_file =
            core_.writer().lacks_space(); // a full disk: remove files instead of keeping them for reuse
        std::erase_if(old_segments_, [&](auto& old) {
            if (old.file.use_count() > 1 || core_.parts().pinned(old.entry.id)) return false;
            old.file.reset();
            static_cast<void>(core_.pool().recycle_or_remove(old.entry, keeps_no_file));
            return true;
        });
        std::erase_if(old_tables_, [&](auto& old) {
            if (old.file.use_count() > 1 || !core_.pool().check_identity()) return false;
            old.file.reset();
            // If this fails, the first merge of the next opening does it.
            static_cast<void>(old.is_evidence ? evidence_.move_here(old.path) : fs_.remove(old.path));
            return true;
        });
    }

    static constexpr std::uint64_t records_left_max = 32; ///< damaged log records that one merge may leave behind

    core_type& core_;
    version_set_type& versions_;
    fs_type fs_;
    std::uint64_t rate_;
    bool gives_up_records_;
    merge_evidence<merging> evidence_{fs_, core_.pool().paths()};
    std::mutex m_;
    std::mutex preparing_; ///< held during the I/O of prepare()
    table_ids ids_{};
    /// The tables at the last merge of all levels on a full disk. The same merge of the same tables would free nothing more.
    std::vector<format::table_id> merged_for_room_{};
    compaction_turns turns_{};
    std::function<void()> const* meanwhile_ = nullptr; ///< of the step() that runs; null: none
    std::atomic<std::uint64_t> given_back_{0};
    std::vector<old_segment> old_segments_{};
    std::vector<old_table> old_tables_{};
    std::optional<switched> switched_{}; ///< a merge that is committed and not shown to readers yet
    std::map<format::table_id, table::silent_medium> silent_{}; ///< tables that the last merge met an io_error in
    mutable std::mutex stuck_m_;   ///< guards stuck_ for log_bytes(), which does not take m_
    std::set<segment_id> stuck_{}; ///< segments with damage that no merge may leave behind
    error why_stuck_{};
    mutable std::mutex counters_m_;
    compaction_counters counters_{};
};

} // namespace keel::inline v0::detail

#endif
