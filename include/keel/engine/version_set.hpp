// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_VERSION_SET_HPP
#define KEEL_ENGINE_VERSION_SET_HPP

// Where an engine's records are: in memory for the segment being written, in the sealed segments themselves for what came before, in
// tables for what was merged. The log tells of every step (wal::record_sink): records as they become visible, a segment that begins,
// one that is sealed and from then on served from where it lies. Compaction tells of tables that take the place of others.
//
// Of any key, every version in memory or a segment is newer than all in the tables of level 1, and every version there is newer than
// all in the tables of higher levels. Tables of one of these levels share no key. Tables of level 0 were ingested beside the log: each is
// at one LSN, they may share keys, and are newer than all in level 1; a merge takes them as soon as it takes the log up to their LSN.
//
// Thread rules: the log's writer, under its mutex, and compaction change, each in one step under change_; any number read, each through a view() that
// stays what it is while it is held. A reader without a snapshot takes the view first and asks for the log's visible LSN then: what
// compaction had forgotten when the view was made was superseded at or below that LSN. Whatever the view lacks of what became visible
// since is newer than all it has. A snapshot is held (snapshot_list.hpp) before its view is taken.
//
// Where a part cannot be read, what it may hold of a key is between two LSNs: a version from a newer part, or one that is newer than those,
// answers all the same, and nothing older does (a stale value is a wrong value).

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
#include <keel/table/sealed_segment_reader.hpp>
#include <keel/table/sstable_reader.hpp>
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
    using level = std::vector<std::shared_ptr<table_type const>>; ///< by key

    std::vector<std::shared_ptr<table::memtable const>> memory{}; ///< in the order they were begun
    std::vector<std::shared_ptr<run const>> runs{};               ///< by their newest LSN, the largest first
    std::array<level, format::table_levels> tables{};             ///< of level 0 the newest first
    std::shared_ptr<found_damage> damage{};                       ///< where its parts note what does not verify

    /// Tells of what readers of any of the parts found: behind whatever reads. Not with a mutex held that the writer needs.
    void tell_damage() const {
        if (damage && damage->any()) [[unlikely]]
            damage->tell();
    }

    /// Once the tables of each level are in order.
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
        std::optional<std::string> value{}; ///< nothing: erased
    };
    [[nodiscard]] result<std::optional<found>> find(std::string_view key, lsn snapshot) const {
        look_up one{*this, key};
        one.ask_memory(snapshot);
        one.ask_for_row();
        one.ask_runs(snapshot);
        one.ask_tables(snapshot);
        return one.answer();
    }
    /// The same for several keys, answer(i, found) for each: side by side they wait for memory together.
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

    /// Whether all that is newer than `since` is in memory.
    [[nodiscard]] bool is_in_memory_since(lsn since) const noexcept {
        if (!runs.empty() && runs.front()->newest() > since) return false;
        for (auto const& l : tables)
            for (auto const& t : l)
                if (t->entry().lsns.last > since) return false;
        return true;
    }
    /// The LSN of a version of `key` behind `since`; 0 where there is none. Reads no part that has nothing so new.
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
    /// The LSN of some version behind `since` of a key from `from` on and in front of `to`; 0 where there is none. Takes time in
    /// proportion to what was written in the range since then, and to what the same segments hold of it.
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

    /// About how many bytes on the disk hold versions of keys in a range; the segment being written is not counted.
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
    /// From where the cursor stands up to `to`.
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
    /// The newest version in level 0 that is not newer than `snapshot`, and newer than `than`.
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
    /// One key's look-up, in steps that ask for the memory of the next one. View and key outlive it.
    class look_up {
    public:
        /// Asks for what memory will be asked for, and every filter.
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
        /// Asks for the record, where the tables' records are kept by themselves.
        void ask_for_row() const noexcept {
            for (std::size_t n = 1; n < behind_.size(); ++n)
                if (behind_[n] != 0) return in_->tables[n][behind_[n] - 1]->prefetch_row(hash_);
        }
        /// Steps to the first segment that may have it, else the first table: of what is asked below the first part, done ahead. What cannot be
        /// read here is told when it is asked for its answer.
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
                if (!t.entry().may_have(key_)) continue; // whatever is wrong with that table
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
        /// What the tables have that is newer than what the log has; those below the first level only if that has nothing.
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
        /// Errors: what could not be read may be newer than what was found.
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
        /// What one part says, in next_. `newest()`: no version in that part is newer.
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
        /// Of the tables that find_in() asks.
        [[nodiscard]] lsn newest_in(level const& in, std::size_t behind) const noexcept {
            lsn newest{};
            for (auto t = behind; t-- > 0 && in[t]->entry().may_have(key_);)
                newest = std::max(newest, in[t]->entry().lsns.last);
            return newest;
        }
        /// Nothing newer is in this run, or further down.
        [[nodiscard]] bool done_with(run const& r) const noexcept { return best_ && r.newest() <= best_->at; }

        store_version const* in_;
        std::string_view key_;
        std::uint64_t hash_;
        std::array<std::size_t, format::table_levels> behind_{}; ///< where each level has the key, if it has it
        std::size_t level_ = 1;                                  ///< those in front of it do not have it
        std::size_t run_ = 0;                                    ///< likewise
        std::optional<table::version> best_{};
        table::read_version kept_{};
        table::read_version next_{};
        std::optional<error> unread_{};                ///< why some part has no answer,
        lsn unread_up_to_{};                           ///< and how new one from there could be
        table::row_cache::row_buffer row_;             ///< a record that was kept by itself
        std::optional<typename run::lookup> in_run_{}; ///< what was located ahead
        std::optional<typename table_type::lookup> in_table_{};
    };
    /// Bounds may be cut short, so that two tables may have the key; all versions of it are in one. `than`: tables that have nothing newer
    /// are not asked.
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
        // What writes needs a descriptor more than a reader that can open its file again.
        io::make_room_with(fs_, [files = std::weak_ptr{open_files_}] {
            auto const here = files.lock();
            return here && here->close_one();
        });
    }

    [[nodiscard]] std::shared_ptr<view_type const> view() const { return now_.get(); }
    /// The snapshots that readers hold.
    [[nodiscard]] snapshot_list& snapshots() const noexcept { return *held_; }

    /// What opening found. Before anybody reads or writes. `scanned` belongs to the segments that have no index on the disk.
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

    /// Opens every file there is, to be kept open: a writer beside this one, which does not know of it, may remove any of them. What cannot be
    /// opened does not keep the others from being. Errors: no_descriptor, where they are more than may be open; not_found where the
    /// writer has removed one since it was listed; else that of the first file that cannot be opened.
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

    /// A table as this store reads it.
    [[nodiscard]] std::shared_ptr<table_type const> serve(format::table_entry const& entry,
                                                          wal::layout const& paths) const {
        return std::make_shared<table_type const>(fs_, paths.table(entry.id), entry, cache_, listener_, open_files_);
    }
    /// Takes tables and the records of whole segments out and puts other tables in, in one step. What comes back is the files of the
    /// segments, as far as any reader had them.
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

    /// Puts tables on top of the others: all at one LSN, behind which nothing was applied yet. By whoever tells of records.
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
        // Begun, and given up before it took a record.
        std::erase_if(next.memory, [](auto const& m) { return m->empty(); });
        auto fresh = std::make_shared<table::memtable>(segment, pages_);
        next.memory.push_back(fresh);
        publish(std::move(next));
        writing_ = std::move(fresh);
        staged_in_ = writing_; // what is still staged for the segment before is staged here again, or never applied
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

    /// The segment is served from where it lies from here on, if it has an index: else from memory, as before. So it is where memory for
    /// the change is refused.
    void sealed(wal::closed_segment segment) noexcept {
        if (!segment.index) return;
        if_memory_lasts([&] {
            std::lock_guard const hold{change_};
            auto next = *view();
            auto const served = std::erase_if(next.memory, [&](auto const& m) { return m->segment() == segment.id; });
            if (served == 0) return; // a merge was quicker, and has given the segment back
            next.runs.push_back(serve(std::move(segment), nullptr));
            publish(std::move(next));
        });
    }
    /// The records of `old` after `last` were written anew and are in the segment begun last. Where memory for the change is refused a walk
    /// meets them twice, which it is used to, and a look-up finds the newer ones first.
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
    /// Findings since the last call. Cheap where there are none.
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
            // Bounds that were cut short may be alike: such tables come from one merge, which wrote them in order.
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
    std::shared_ptr<io::large_page_pool> pages_{std::make_shared<io::large_page_pool>()}; ///< from segment to segment
    std::shared_ptr<table::memtable> writing_{}; ///< takes what is staged from here on
    std::shared_ptr<table::memtable>
        staged_in_{};   ///< has what is staged and not applied; writing_, but for the moment of an ingestion
    std::mutex change_; ///< one change of the view at a time; not held during I/O
    published<view_type> now_;
};

} // namespace keel::inline v0::detail

#endif
