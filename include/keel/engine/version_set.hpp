// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_VERSION_SET_HPP
#define KEEL_ENGINE_VERSION_SET_HPP

// The parts of a store that have its records: memtables for the active segment, sealed segments for the older part of the log, and tables
// for the merged records. The log reports every change (wal::record_sink): records that become visible, a new segment, a sealed segment,
// which is then read from its file. Compaction replaces segments and tables by new tables.
//
// For each key, every version in memory or in a segment is newer than all versions in tables of level 1, and every version in a table is
// newer than all versions in deeper levels (with larger numbers). Tables of one level from 1 on share no key. Tables of level 0 were
// ingested beside the log: each has one LSN, they may share keys, and they are newer than all of level 1. A merge that takes the log up
// to their LSN takes them, too.
//
// Thread rules: The log's writer (under its mutex) and compaction change the set, each change in one step under change_. Any number of
// threads read. Each reader takes a view(), whose list of parts does not change. A reader without a snapshot takes the view first and reads
// the log's visible LSN after that. The order matters: a version that compaction had dropped when the view was made was superseded at or
// below that LSN. Records that became visible later and are missing in the view are newer than all records in the view. A reader with a
// snapshot registers the snapshot (snapshot_list.hpp) before it takes the view.
//
// If a part cannot be read, the LSNs of its versions of a key are known to be within a range. A version from a newer part, or newer than
// that range, is still the answer. An older version is not: a stale value is a wrong value.

#include <keel/detail/guarded.hpp>
#include <keel/detail/published.hpp>
#include <keel/engine/found_damage.hpp>
#include <keel/engine/snapshot_list.hpp>
#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/manifest.hpp>
#include <keel/io/large_memory.hpp>
#include <keel/table/fence_list.hpp>
#include <keel/table/memtable.hpp>
#include <keel/table/open_files.hpp>
#include <keel/table/read_cache.hpp>
#include <keel/table/sealed_segment.hpp>
#include <keel/table/sstable.hpp>
#include <keel/types.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// The parts of a store as one reader sees them.
template <class Config>
struct store_version {
    using run = table::sealed_segment_reader<typename Config::checksum, typename Config::file_system>;
    using table_type = table::sstable_reader<typename Config::checksum, typename Config::compression,
                                             typename Config::table_access, typename Config::file_system>;
    using level = std::vector<std::shared_ptr<table_type const>>; ///< in key order

    std::vector<std::shared_ptr<table::memtable const>> memory{}; ///< in the order in which they were begun
    std::vector<std::shared_ptr<run const>> runs{};               ///< ordered by newest LSN, the largest first
    std::array<level, format::table_levels> tables{};             ///< level 0 is ordered by LSN, the newest first
    std::shared_ptr<found_damage> damage{};                       ///< collects the damage that reads find

    /// Reports the damage that readers of the parts have found. Call it after every read. The caller must not hold a mutex that the writer
    /// needs.
    void tell_damage() const {
        if (damage && damage->any()) [[unlikely]]
            damage->tell();
    }

    /// Builds the search arrays. Precondition: the tables of each level are in order.
    void finish() {
        for (std::size_t n = 1; n < tables.size(); ++n) {
            begins_[n] = {};
            for (auto const& t : tables[n]) begins_[n].add(t->entry().smallest, {});
            begins_[n].finish();
        }
    }

    /// The newest version of a key that is not newer than `snapshot`.
    struct found {
        lsn at{};
        std::optional<std::string> value{}; ///< nothing: the key is erased
    };
    [[nodiscard]] result<std::optional<found>> find(std::string_view key, lsn snapshot) const {
        look_up one{*this, key};
        one.ask_memory(snapshot);
        one.ask_for_row();
        one.ask_runs(snapshot);
        one.ask_tables(snapshot);
        return one.answer();
    }
    /// The same for several keys; calls answer(i, found) for each. The look-ups run in steps side by side, so that their cache misses
    /// overlap.
    template <class Answer>
    [[nodiscard]] result<void> find_all(std::span<std::string_view const> keys, lsn snapshot,
                                        Answer const& answer) const {
        constexpr std::size_t together = 16;
        for (std::size_t begin = 0; begin < keys.size(); begin += together) {
            auto const part = keys.subspan(begin, std::min(together, keys.size() - begin));
            std::array<std::optional<look_up>, together> all;
            for (std::size_t i = 0; i < part.size(); ++i) all[i].emplace(*this, part[i]);
            for (std::size_t i = 0; i < part.size(); ++i) all[i]->ask_memory(snapshot);
            for (std::size_t i = 0; i < part.size(); ++i) all[i]->ask_for_row();
            for (std::size_t i = 0; i < part.size(); ++i) all[i]->locate(snapshot);
            for (std::size_t i = 0; i < part.size(); ++i) all[i]->ask_for_block();
            for (std::size_t i = 0; i < part.size(); ++i) all[i]->search();
            for (std::size_t i = 0; i < part.size(); ++i) {
                all[i]->ask_runs(snapshot);
                all[i]->ask_tables(snapshot);
                KEEL_TRY_LET(newest, all[i]->answer());
                answer(begin + i, std::move(newest));
            }
        }
        return {};
    }

    /// Whether all records newer than `since` are in memory.
    [[nodiscard]] bool is_in_memory_since(lsn since) const noexcept {
        if (!runs.empty() && runs.front()->newest() > since) return false;
        for (auto const& l : tables)
            for (auto const& t : l)
                if (t->entry().lsns.last > since) return false;
        return true;
    }
    /// The LSN of a version of `key` newer than `since`; 0 if there is none. Reads only parts that have LSNs above `since`.
    [[nodiscard]] result<lsn> lsn_after(std::string_view key, lsn since) const {
        auto const hash = format::filter_hash(key);
        for (auto const& m : memory)
            if (auto const v = m->find(key, hash, lsn_max); v && v->at > since) return v->at;
        table::read_version there;
        for (auto const& r : runs) {
            if (r->newest() <= since) break;
            KEEL_TRY_LET(any, r->find(key, hash, lsn_max, there, since));
            if (any) return there.what.at;
        }
        KEEL_TRY_LET(on_top, find_level0(key, hash, lsn_max, since, there));
        if (on_top) return there.what.at;
        for (std::size_t n = 1; n < tables.size(); ++n) {
            KEEL_TRY_LET(any, find_in(tables[n], begins_behind(n, key), key, hash, lsn_max, there, nullptr, since));
            if (any) return there.what.at > since ? there.what.at : lsn{};
        }
        return lsn{};
    }
    /// The LSN of some version newer than `since` of a key from `from` (included) to `to` (not included); 0 if there is none. The time is
    /// in proportion to the records of the range in the parts that were written since.
    [[nodiscard]] result<lsn> any_write_after(std::optional<std::string> const& from,
                                              std::optional<std::string> const& to, lsn since) const {
        for (auto const& m : memory) {
            table::memtable::cursor at{*m};
            at.seek(from ? std::string_view{*from} : std::string_view{});
            if (auto const any = first_newer(at, to, since)) return any;
        }
        for (auto const& r : runs) {
            if (r->newest() <= since) break;
            typename run::cursor at{r};
            KEEL_TRY_LET(any, first_newer_on_disk(at, from, to, since));
            if (any) return any;
        }
        for (auto const& l : tables)
            for (auto const& t : l) {
                bool const apart = (to && t->entry().smallest >= *to) || (from && t->entry().ends_before(*from));
                if (apart || t->entry().lsns.last <= since) continue;
                typename table_type::cursor at{t};
                KEEL_TRY_LET(any, first_newer_on_disk(at, from, to, since));
                if (any) return any;
            }
        return lsn{};
    }

    /// About how many bytes on the disk hold versions of the keys of a range. The active segment is not counted.
    [[nodiscard]] result<std::uint64_t> approximate_size(std::optional<std::string> const& from,
                                                         std::optional<std::string> const& to) const {
        std::uint64_t bytes = 0;
        for (auto const& r : runs) {
            KEEL_TRY_LET(part, r->bytes_between(from, to));
            bytes += part;
        }
        for (auto const& l : tables)
            for (auto const& t : l) {
                if ((to && t->entry().smallest >= *to) || (from && t->entry().ends_before(*from))) continue;
                KEEL_TRY_LET(part, t->bytes_between(from, to));
                bytes += part;
            }
        return bytes;
    }

private:
    /// The LSN of the first version newer than `since`, from the cursor's position up to `to`; 0 if there is none.
    template <class Cursor>
    [[nodiscard]] static lsn first_newer(Cursor& at, std::optional<std::string> const& to, lsn since) {
        for (; at.valid(); at.pass()) { // the newest version of a key comes first
            auto const v = at.current();
            if (to && v.key >= *to) break;
            if (v.at > since && !v.key.empty()) return v.at;
        }
        return {};
    }
    template <class Cursor>
    [[nodiscard]] static result<lsn> first_newer_on_disk(Cursor& at, std::optional<std::string> const& from,
                                                         std::optional<std::string> const& to, lsn since) {
        at.seek(from ? std::string_view{*from} : std::string_view{});
        for (;; at.leave_forward()) {
            if (auto const any = first_newer(at, to, since)) return any;
            if (!at.trouble()) return lsn{};
            auto range = at.damaged();
            range.cut_to(from, to);
            if (range.lsns.last > since && !range.empty()) return failure(*at.trouble());
        }
    }
    /// Finds the newest version in level 0 that is newer than `than` and not newer than `snapshot`.
    [[nodiscard]] result<bool> find_level0(std::string_view key, std::uint64_t hash, lsn snapshot, lsn than,
                                           table::read_version& into) const {
        for (auto const& t : tables.front()) {
            if (t->entry().lsns.last <= than) break;
            if (!t->entry().may_have(key)) continue;
            KEEL_TRY_LET(there, t->find(key, hash, snapshot, into));
            if (there) return true;
        }
        return false;
    }
    /// The first table of level `n` that begins behind the key.
    [[nodiscard]] std::size_t begins_behind(std::size_t n, std::string_view key) const noexcept {
        auto const& begins = begins_[n];
        auto i = begins.first_not_less(key);
        while (i < begins.size() && begins.key(i) == key) ++i;
        return i;
    }
    /// The look-up of one key, in steps. Each step prefetches the memory that the next step reads. View and key must outlive it.
    class look_up {
    public:
        /// Prefetches the memtables' indexes and every filter.
        look_up(store_version const& in, std::string_view key) : in_{&in}, key_{key}, hash_{format::filter_hash(key)} {
            for (auto const& m : in.memory) m->prefetch(hash_);
            for (auto const& r : in.runs) r->prefetch(hash_);
            for (std::size_t n = 1; n < in.tables.size(); ++n) {
                behind_[n] = in.begins_behind(n, key);
                if (behind_[n] != 0) in.tables[n][behind_[n] - 1]->prefetch(hash_);
            }
        }
        void ask_memory(lsn snapshot) {
            for (auto const& m : in_->memory)
                if (auto const v = m->find(key_, hash_, snapshot); v && (!best_ || v->at > best_->at)) best_ = v;
        }
        /// Prefetches the record in the row cache, if the tables have one.
        void ask_for_row() const noexcept {
            for (std::size_t n = 1; n < behind_.size(); ++n)
                if (behind_[n] != 0) return in_->tables[n][behind_[n] - 1]->prefetch_row(hash_);
        }
        /// Does the first part of ask_runs() and ask_tables() ahead: finds the first segment that may have the key, or else the first
        /// table. An error met here is reported by those functions, when they read the part.
        void locate(lsn snapshot) {
            for (; run_ < in_->runs.size() && !done_with(*in_->runs[run_]); ++run_) {
                in_run_.emplace(*in_->runs[run_], key_, snapshot);
                if (in_run_->locate(hash_)) return;
                in_run_.reset();
            }
            for (; !best_ && level_ < in_->tables.size(); ++level_) {
                if (behind_[level_] == 0) continue;
                auto const& level = in_->tables[level_];
                auto const& t = *level[behind_[level_] - 1];
                if (!t.entry().may_have(key_)) continue; // damage in that table does not matter then
                in_table_.emplace(t, key_, hash_, snapshot, &row_);
                auto const may_be = in_table_->locate();
                if (may_be && *may_be) return;
                in_table_.reset();
                if (!may_be) return;
                if (behind_[level_] > 1 && level[behind_[level_] - 2]->entry().may_have(key_)) return;
            }
        }
        void ask_for_block() const {
            if (in_run_) in_run_->ask_for_block();
            else if (in_table_) in_table_->ask_for_block();
        }
        void search() {
            if (in_run_) static_cast<void>(in_run_->search());
            else if (in_table_ && !in_table_->search()) in_table_.reset();
        }
        void ask_runs(lsn snapshot) {
            for (; run_ < in_->runs.size() && !done_with(*in_->runs[run_]); ++run_) {
                auto const& r = *in_->runs[run_];
                bool const located = in_run_.has_value();
                if (!located) in_run_.emplace(r, key_, snapshot);
                if (located || in_run_->locate(hash_)) take(in_run_->finish(next_, than()), [&] { return r.newest(); });
                in_run_.reset();
            }
        }
        /// Takes a version from level 0 if it is newer than the version in the log. Asks the deeper levels only if both have no version.
        void ask_tables(lsn snapshot) {
            if (!in_->tables.front().empty()) ask_on_top(snapshot);
            if (best_) return;
            if (in_table_) {
                auto const& t = in_->tables[level_][behind_[level_] - 1]->entry();
                take(in_table_->finish(next_), [&] { return t.lsns.last; });
                if (best_) return;
            }
            for (; !best_ && level_ < in_->tables.size(); ++level_) {
                auto const& level = in_->tables[level_];
                take(find_in(level, behind_[level_], key_, hash_, snapshot, next_, &row_),
                     [&] { return newest_in(level, behind_[level_]); });
            }
        }
        /// The version found. Errors: some part could not be read, and it may hold a newer version than the one found.
        [[nodiscard]] result<std::optional<found>> answer() const {
            if (unread_ && than() < unread_up_to_) [[unlikely]]
                return failure(*unread_);
            if (!best_ || key_.empty()) return std::nullopt;
            found out{.at = best_->at};
            if (!best_->tombstone) out.value.emplace(best_->value);
            return out;
        }

    private:
        [[nodiscard]] lsn than() const noexcept { return best_ ? best_->at : lsn{}; }
        void ask_on_top(lsn snapshot) {
            for (auto const& t : in_->tables.front()) {
                if (t->entry().lsns.last <= than()) return;
                if (!t->entry().may_have(key_)) continue;
                take(t->find(key_, hash_, snapshot, next_), [&] { return t->entry().lsns.last; });
            }
        }
        /// Takes over the answer of one part, which is in next_. `newest()`: no version in that part is newer than this LSN.
        template <class Newest>
        void take(result<bool> const& there, Newest const& newest) {
            if (!there) [[unlikely]]
                return note_unread(there.error(), newest());
            if (!*there || (best_ && next_.what.at <= best_->at)) return;
            std::swap(kept_, next_);
            best_ = kept_.what;
        }
        void note_unread(error const& why, lsn newest) {
            if (why.at) newest = why.at;
            if (unread_ && newest <= unread_up_to_) return;
            unread_ = why;
            unread_up_to_ = newest;
        }
        /// The newest LSN in the tables that find_in() asks.
        [[nodiscard]] lsn newest_in(level const& in, std::size_t behind) const noexcept {
            lsn newest{};
            for (auto t = behind; t-- > 0 && in[t]->entry().may_have(key_);)
                newest = std::max(newest, in[t]->entry().lsns.last);
            return newest;
        }
        /// Whether neither this segment nor the segments after it have a newer version than the one found.
        [[nodiscard]] bool done_with(run const& r) const noexcept { return best_ && r.newest() <= best_->at; }

        store_version const* in_;
        std::string_view key_;
        std::uint64_t hash_;
        /// For each level, the index of the first table that begins behind the key. The table in front of it may have the key.
        std::array<std::size_t, format::table_levels> behind_{};
        std::size_t level_ = 1; ///< the levels from 1 up to, not including, this one do not have the key
        std::size_t run_ = 0;   ///< the runs in front of this one do not have the key
        std::optional<table::version> best_{};
        table::read_version kept_{};
        table::read_version next_{};
        std::optional<error> unread_{};                ///< why some part could not be read
        lsn unread_up_to_{};                           ///< no version in that part is newer
        table::row_cache::row_buffer row_;             ///< a record from the row cache
        std::optional<typename run::lookup> in_run_{}; ///< from locate()
        std::optional<typename table_type::lookup> in_table_{};
    };
    /// Finds a key in one level. Bounds may be cut short, so more than one table may have the key by its bounds; but one table has all of
    /// its versions. `than`: tables that have nothing newer are not read.
    [[nodiscard]] static result<bool> find_in(level const& in, std::size_t behind, std::string_view key,
                                              std::uint64_t hash, lsn snapshot, table::read_version& into,
                                              table::row_cache::row_buffer* row = nullptr, lsn than = {}) {
        for (auto t = behind; t-- > 0;) {
            if (!in[t]->entry().may_have(key)) return false;
            if (in[t]->entry().lsns.last <= than) continue;
            KEEL_TRY_LET(there, in[t]->find(key, hash, snapshot, into, row));
            if (there) return true;
        }
        return false;
    }

    std::array<table::fence_list, format::table_levels> begins_{}; ///< the smallest key of each table
};

template <class Config>
class version_set {
public:
    using view_type = store_version<Config>;
    using run = typename view_type::run;

    using table_type = typename view_type::table_type;
    using fs_type = typename Config::file_system;

    explicit version_set(fs_type fs, std::size_t cache_bytes, table::open_file_limits open_files = {})
        : fs_{std::move(fs)}, open_files_{std::make_shared<table::open_file_list>(open_files)},
          cache_{std::make_shared<table::read_cache>(cache_bytes, Config::table_access::caches_blocks)},
          now_{std::make_shared<view_type const>(empty_view(damage_))} {
        // If no descriptor is left, close a file that is open for reading: a reader can open its file again, but a write would fail.
        io::make_room_with(fs_, [files = std::weak_ptr{open_files_}] {
            auto const here = files.lock();
            return here && here->close_one();
        });
    }

    [[nodiscard]] std::shared_ptr<view_type const> view() const { return now_.get(); }
    /// The snapshots that readers hold.
    [[nodiscard]] snapshot_list& snapshots() const noexcept { return *held_; }

    /// Sets the segments and tables that opening has found. Called before the first read or write. A segment without an index on the disk
    /// comes with the index that was made while it was scanned.
    void mount(std::vector<std::pair<wal::closed_segment, std::shared_ptr<wal::sorted_index const>>> parts,
               std::map<format::table_id, format::table_entry> const& tables, wal::layout const& paths) {
        std::lock_guard const hold{change_};
        auto next = empty_view(damage_);
        std::shared_ptr<table::lazy_file<fs_type> const> file; // chunks of one segment share it
        for (auto& [segment, scanned] : parts) {
            if (!file || file->path() != segment.path)
                file = std::make_shared<table::lazy_file<fs_type> const>(fs_, segment.path, open_files_);
            next.runs.push_back(
                std::make_shared<run const>(file, std::move(segment), std::move(scanned), cache_, listener_));
        }
        for (auto const& [id, entry] : tables) next.tables[entry.level].push_back(serve(entry, paths));
        publish(std::move(next));
    }

    /// For read-only openings: opens every file and keeps it open, because a writer in another process may remove any of them. If a file
    /// cannot be opened, the others are opened all the same; only out_of_memory and no_descriptor end the call at once. Errors:
    /// no_descriptor (also if there are more files than may be open); not_found (the writer has removed a file since it was listed); else
    /// the error of the first file that could not be opened.
    [[nodiscard]] result<void> hold_files() const {
        auto const now = view();
        std::set<std::string_view> names; // chunks of one segment share a file
        for (auto const& r : now->runs) names.insert(r->source().path);
        for (auto const& level : now->tables)
            for (auto const& t : level) names.insert(t->path());
        auto const most = open_files_->limits().files;
        if (names.size() > most) return more_files_than(most, names.size());
        result<void> all;
        auto const hold = [&all](auto const& part) -> result<void> {
            auto held = part->keep_open_for_good();
            if (!held && is_shortage(held.error().code)) return held;
            if (!held && (all || held.error().code == errc::not_found)) all = std::move(held);
            return {};
        };
        for (auto const& r : now->runs) KEEL_TRY(hold(r));
        for (auto const& level : now->tables)
            for (auto const& t : level) KEEL_TRY(hold(t));
        return all;
    }
    /// The files that are open to be read from.
    [[nodiscard]] table::open_file_list const& open_files() const noexcept { return *open_files_; }

    /// Makes the reader of a table, with this store's cache and list of open files.
    [[nodiscard]] std::shared_ptr<table_type const> serve(format::table_entry const& entry,
                                                          wal::layout const& paths) const {
        return std::make_shared<table_type const>(fs_, paths.table(entry.id), entry, cache_, listener_, open_files_);
    }
    /// Replaces tables, and the records of whole segments, by other tables, in one step. Returns the files of those segments that were read
    /// from their files. A segment whose records were in memory has none.
    [[nodiscard]] std::vector<std::pair<segment_id, std::shared_ptr<void const>>> replace(
        std::vector<segment_id> const& segments, std::vector<format::table_id> const& out,
        std::vector<std::shared_ptr<table_type const>> const& in) {
        std::lock_guard const hold{change_};
        auto next = *view();
        auto const gone = [&](segment_id id) { return std::ranges::find(segments, id) != segments.end(); };
        std::erase_if(next.memory, [&](auto const& m) { return gone(m->segment()); });
        std::vector<std::pair<segment_id, std::shared_ptr<void const>>> files;
        for (auto const& r : next.runs)
            if (gone(r->source().id)) files.emplace_back(r->source().id, r->file());
        std::erase_if(next.runs, [&](auto const& r) { return gone(r->source().id); });
        for (auto& level : next.tables)
            std::erase_if(level, [&](auto const& t) { return std::ranges::find(out, t->entry().id) != out.end(); });
        for (auto const& t : in) next.tables[t->entry().level].push_back(t);
        publish(std::move(next));
        return files;
    }

    /// Adds ingested tables to level 0. They all have one LSN, and no record with a later LSN is applied yet. Called by the thread that
    /// applies records.
    void add_level0(std::vector<std::shared_ptr<table_type const>> const& in) {
        std::lock_guard const hold{change_};
        auto next = *view();
        next.tables.front().insert(next.tables.front().end(), in.begin(), in.end());
        // A new memtable: otherwise a reader with an older view would see later writes but not these tables.
        auto fresh = std::make_shared<table::memtable>(writing_->segment(), pages_);
        next.memory.push_back(fresh);
        publish(std::move(next));
        writing_ = std::move(fresh);
    }

    // ---- wal::record_sink ---------------------------------------------------------------------------------------------------

    void begin(segment_id segment) {
        std::lock_guard const hold{change_};
        auto next = *view();
        // The memtable of a segment that was begun and abandoned before it took a record.
        std::erase_if(next.memory, [](auto const& m) { return m->empty(); });
        auto fresh = std::make_shared<table::memtable>(segment, pages_);
        next.memory.push_back(fresh);
        publish(std::move(next));
        writing_ = std::move(fresh);
        staged_in_ = writing_; // records staged for the former segment are staged here again, or are never applied
    }
    void stage(format::frame_type type, std::string_view key, std::string_view value) {
        if (staged_in_ != writing_ && (!staged_in_ || staged_in_->staged() == 0)) staged_in_ = writing_;
        staged_in_->stage(type, key, value);
    }
    [[nodiscard]] std::size_t staged() const noexcept { return staged_in_ ? staged_in_->staged() : 0; }
    void unstage(std::size_t count) noexcept {
        if (staged_in_) staged_in_->unstage(count);
    }
    void apply(lsn first, std::size_t count) noexcept { staged_in_->apply(first, count); }

    /// From here on readers read the segment from its file. If it has no index, or memory for the change is refused, they go on reading its
    /// records in memory.
    void sealed(wal::closed_segment segment) noexcept {
        if (!segment.index) return;
        if_memory_lasts([&] {
            std::lock_guard const hold{change_};
            auto next = *view();
            auto const served = std::erase_if(next.memory, [&](auto const& m) { return m->segment() == segment.id; });
            if (served == 0) return; // a merge has released the segment already
            next.runs.push_back(serve(std::move(segment), nullptr));
            publish(std::move(next));
        });
    }
    /// The records of segment `old` after `last` were written again, and the segment begun last has them. Readers stop reading them in
    /// `old`. If memory for the change is refused, a walk meets these records twice, which it handles, and a look-up finds the new copies
    /// first.
    void moved(segment_id old, lsn last) noexcept {
        if_memory_lasts([&] {
            std::lock_guard const hold{change_};
            auto next = *view();
            for (auto& r : next.runs)
                if (r->source().id == old) r = r->up_to(last);
            publish(std::move(next));
        });
    }

    // ---- damage found while reading -----------------------------------------------------------------------------------------

    [[nodiscard]] found_damage& damage() const noexcept { return *damage_; }
    /// The findings since the last call. Cheap if there are none.
    [[nodiscard]] std::vector<finding> take_findings() const {
        return damage_->any() ? damage_->take() : std::vector<finding>{};
    }

private:
    [[nodiscard]] static tl::unexpected<error> more_files_than(std::uint64_t most, std::size_t there) {
        return failure(
            errc::no_descriptor,
            "an opening that only reads keeps all files of the store open, which are " + std::to_string(there) +
                ", and may open " + std::to_string(most) +
                ": raise the limit of open files (ulimit -n), or open_options::open_files where that is set");
    }
    [[nodiscard]] static view_type empty_view(std::shared_ptr<found_damage> damage) {
        view_type none;
        none.damage = std::move(damage);
        return none;
    }
    [[nodiscard]] std::shared_ptr<run const> serve(wal::closed_segment segment,
                                                   std::shared_ptr<wal::sorted_index const> scanned) const {
        return std::make_shared<run const>(fs_, std::move(segment), std::move(scanned), cache_, listener_, open_files_);
    }
    void publish(view_type next) {
        std::ranges::sort(next.runs, std::ranges::greater{}, [](auto const& r) {
            return std::pair{r->newest(), r->source().id};
        });
        auto const by_key = [](auto const& t) {
            // Bounds that were cut short may be equal. Such tables come from one merge, which gave them ids in key order.
            return std::tie(t->entry().smallest, t->entry().largest, t->entry().ends_open, t->entry().id);
        };
        for (std::size_t n = 1; n < next.tables.size(); ++n) std::ranges::sort(next.tables[n], {}, by_key);
        std::ranges::sort(next.tables.front(), std::ranges::greater{},
                          [](auto const& t) { return t->entry().lsns.last; });
        next.finish();
        now_.set(std::make_shared<view_type const>(std::move(next)));
    }

    fs_type fs_;
    std::shared_ptr<table::open_file_list> open_files_;
    std::shared_ptr<found_damage> damage_{std::make_shared<found_damage>()};
    std::shared_ptr<table::damage_listener const> listener_{std::make_shared<table::damage_listener const>(
        [noted = damage_](finding what) { noted->note(std::move(what)); })};
    std::shared_ptr<table::read_cache> cache_;
    std::shared_ptr<snapshot_list> held_{std::make_shared<snapshot_list>()};
    /// Memory for memtables, reused from segment to segment.
    std::shared_ptr<io::large_page_pool> pages_{std::make_shared<io::large_page_pool>()};
    std::shared_ptr<table::memtable> writing_{}; ///< takes the records that are staged from now on
    /// Has the records that are staged and not applied. It is writing_, except for a short time after an ingestion.
    std::shared_ptr<table::memtable> staged_in_{};
    std::mutex change_; ///< one change of the view at a time; not held during I/O
    published<view_type> now_;
};

} // namespace keel::inline v0::detail

#endif
