// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_COMPACTION_HPP
#define KEEL_ENGINE_COMPACTION_HPP

// Chooses the next merge: which segments and tables it reads, and which level it writes. Pure: it reads a version of the store, the
// catalog's parts and the manifest's state. The only file access is for the first and the last key of a segment.
//
// The log is released from its oldest end, whole segments at a time. So one LSN, the manifest's log_start_lsn, says which records the
// tables hold: all at or below it. A segment is merged when it takes no more records and all of its records that count are durable. A
// merge into a level includes all tables of that level that it overlaps, so tables of one level share no key. Ingested tables (level 0)
// are merged together with the log, up to the LSN that the merge takes the log to. An ingested table that shares its keys with nothing
// else is not rewritten: it moves down a level.
//
// While the log is due (long enough to be merged) it is merged a slice at a time. Each slice should find level 1 empty, because a merge
// into a full level 1 rewrites all of that level. So whole levels move down by one without a merge, as long as a level further down is
// empty; a move costs one manifest edit. Before the last empty level is used, one level is drained: the level that is cheapest to merge
// into the next one is merged into it, table by table, between the slices. The share after each slice is chosen so that the drain ends
// when the last empty level is used. Under load the levels are therefore sorted runs of like size, as in a tiered tree. In idle times
// they become a leveled tree. (Mao et al., "Experimental evaluation of bounded-depth LSM merge policies", 2019, has both.)

#include <keel/config.hpp>
#include <keel/engine/version_set.hpp>
#include <keel/error.hpp>
#include <keel/format/manifest.hpp>
#include <keel/policy/compaction/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/lsn_set.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// The key range of some records or tables. It may be wider than their keys, never narrower.
class key_span {
public:
    void include(std::string_view first, std::string_view last, bool ends_open) {
        if (none_ || first < first_) first_ = first;
        // An open end includes every key that begins with `last`, so it lies behind all of them.
        bool const takes_in = ends_open && last_.starts_with(last);
        bool const behind = last > last_ && !(ends_open_ && last.starts_with(last_));
        if (none_ || takes_in || behind) {
            last_ = last;
            ends_open_ = ends_open;
        }
        none_ = false;
    }
    void include(format::table_entry const& t) { include(t.smallest, t.largest, t.ends_open); }

    [[nodiscard]] bool touches(format::table_entry const& t) const {
        if (none_ || t.ends_before(first_)) return false;
        return t.smallest <= last_ || (ends_open_ && t.smallest.starts_with(last_));
    }

private:
    std::string first_{};
    std::string last_{};
    bool ends_open_ = false;
    bool none_ = true;
};

/// State that the picker keeps from one choice to the next.
struct compaction_turns {
    std::array<std::string, format::table_levels> next_key{}; ///< key at which a level's next merge begins
    std::size_t draining = 0; ///< the level that is drained while the log is due; 0: none
    double cost = 1;          ///< bytes read for each byte of that level
    std::uint64_t owed = 0;   ///< bytes that the drain has to read before the next slice of the log
};

/// One merge: which parts it reads and replaces.
template <class Config>
struct compaction_job {
    using view_type = store_version<reading_config<Config>>;

    std::vector<std::shared_ptr<table::memtable const>> memory{};
    std::vector<std::shared_ptr<typename view_type::run const>> runs{};
    std::array<typename view_type::level, format::table_levels> tables{};
    std::vector<format::segment_entry> segments{}; ///< released by the merge
    format::segment_link log_base{};               ///< of the last released segment
    lsn log_start_before{};                        ///< log_start_lsn before the merge
    lsn log_start_lsn{};           ///< log_start_lsn after it: all records at or below it are in tables then
    std::uint64_t log_records = 0; ///< how many LSNs between the two are neither lost nor ingested
    wal::lsn_set lost{};           ///< all LSNs that are declared lost, also outside of the merged segments
    wal::lsn_set ingested{}; ///< LSNs of ingested tables of level 0: the log has only a record without a key there
    std::uint8_t into = 1;   ///< the level that the merge writes
    bool bottom = false;     ///< no table of a deeper level (a larger number) has any of the keys
    typename view_type::level moved{}; ///< tables that go to that level without being rewritten
    /// All placeholders of level 0. A tombstone of a key that they may hold must be kept: it is the key's answer.
    typename view_type::level placeholders{};
    std::uint64_t bytes = 0; ///< of the segments and tables that are read

    /// False: the job only moves tables, or releases segments without records.
    [[nodiscard]] bool reads() const noexcept {
        auto const any = [](auto const& level) { return !level.empty(); };
        return !memory.empty() || !runs.empty() || std::ranges::any_of(tables, any);
    }
};

template <class Config>
class compaction_picker {
public:
    using job_type = compaction_job<Config>;
    using view_type = store_version<reading_config<Config>>;
    using policy = typename Config::compaction;

    /// `proven`: all records that opening found are durable. Precondition: the view was taken after the parts, so the view has all
    /// records of each part that takes no more. `stuck`: segments that cannot be merged; the log is released only up to the first of
    /// them. The object keeps a reference to `state`.
    compaction_picker(std::shared_ptr<view_type const> view,
                      std::vector<std::shared_ptr<wal::catalog_part const>> parts, format::manifest_state const& state,
                      bool proven, std::set<segment_id> const& stuck = {})
        : view_{std::move(view)}, state_{state} {
        take_log(std::move(parts), proven, stuck);
    }

    /// Whether these tables of level 0 are reason enough to merge even a short log.
    [[nodiscard]] static bool ingested_is_due(typename view_type::level const& on_top) noexcept {
        auto const counts = [](auto const& t) { return !t->entry().is_placeholder(); };
        auto const tables = static_cast<std::size_t>(std::ranges::count_if(on_top, counts));
        return tables != 0 && (bytes_of(on_top) >= policy::log_bytes || tables >= on_top_max);
    }
    /// Bytes of the log that could be merged now.
    [[nodiscard]] std::uint64_t log_bytes() const noexcept { return log_bytes_; }

    /// The merge that the policy wants next; nothing if it wants none. Errors: those of reading a segment's first and last key.
    [[nodiscard]] result<std::optional<job_type>> pick_due(compaction_turns& turns) {
        if (policy::log_bytes == 0) return std::optional<job_type>{};
        if (!log_.empty() && log_is_due()) return under_load(turns);
        turns.draining = 0;
        turns.owed = 0;
        if (auto joined = small_tables(small_together)) return joined;
        std::size_t worst = 0;
        double most = 1;
        for (std::size_t n = 1; n + 1 < view_->tables.size(); ++n) {
            auto const full = static_cast<double>(bytes_of(view_->tables[n])) / static_cast<double>(target(n));
            if (full > most) {
                most = full;
                worst = n;
            }
        }
        if (worst == 0) return std::optional<job_type>{};
        return std::optional{of_level(worst, turns.next_key[worst])};
    }
    /// For idle times: part of the merge of two neighbouring levels of like size, so that readers get one sorted run less.
    [[nodiscard]] std::optional<job_type> fewer_runs(compaction_turns& turns) const {
        if (policy::log_bytes == 0) return {};
        auto const n = worth_draining();
        if (n == 0 || drain_cost(n) > cheap) return {};
        return of_level(n, turns.next_key[n]);
    }

    /// Whether a log that is too short to be due is worth merging in idle times. `open`: bytes of records in the active segment. The
    /// limits have two reasons. A table of level 1 is rewritten at most as often as under steady writes (`fanout` times the bytes that
    /// it takes in). A store that gets a few writes now and then keeps them in the log.
    [[nodiscard]] bool rest_pays(std::uint64_t open) const noexcept {
        if (policy::log_bytes == 0) return false;
        auto bytes = open;
        for (auto const& p : log_) bytes += p->limit - p->begin;
        return bytes >= policy::log_bytes / 16 && bytes * policy::fanout >= bytes_of(view_->tables[1]);
    }
    /// For a full disk: merges only the oldest segment of the log (or the oldest few, if they can leave the log only together). A level 1
    /// that is larger than the segment is moved down first, if a level is free. So the merge takes the least space, no more than the
    /// reserve has for it, and it releases the segment.
    [[nodiscard]] result<std::optional<job_type>> for_room() const {
        if (log_.empty()) return std::optional<job_type>{};
        // A small level 1 is not moved down. Merging the segment with it takes less space, because superseded records are dropped.
        bool const in_the_way = bytes_of(view_->tables[1]) > state_.segments.at(log_.front()->id).size;
        if (auto const free = first_empty(); in_the_way && free < levels_end) return std::optional{one_down(free - 1)};
        std::size_t count = 1;
        while (count < log_.size() && may_leave(log_, count) == 0) ++count;
        return of_log(may_leave(log_, count) != 0 ? may_leave(log_, count) : log_.size());
    }
    /// A slice of the log, even if the log is short; nothing if no segment can be merged.
    [[nodiscard]] result<std::optional<job_type>> pick_idle() {
        if (log_.empty()) return std::optional<job_type>{};
        return of_log(slice());
    }

    /// Everything that can be merged, into one level; nothing if all of it is in one level already.
    [[nodiscard]] result<std::optional<job_type>> pick_full() {
        std::size_t in_use = 0;
        std::uint64_t bytes = log_bytes_;
        std::uint8_t deepest = 1;
        for (std::size_t n = 1; n < view_->tables.size(); ++n) {
            if (view_->tables[n].empty()) continue;
            ++in_use;
            bytes += bytes_of(view_->tables[n]);
            deepest = static_cast<std::uint8_t>(n);
        }
        if (log_.empty() && in_use < 2) return std::optional<job_type>{};
        job_type job;
        add_log(job, log_.size());
        job.tables = view_->tables;
        job.tables.front() = ingested_up_to(job.log_start_lsn);
        bytes += bytes_of(job.tables.front());
        while (deepest + 1U < view_->tables.size() && target(deepest) < bytes) ++deepest;
        job.into = deepest;
        job.bottom = true;
        add_placeholders(job);
        job.bytes = bytes;
        return std::optional{std::move(job)};
    }

    /// A merge that rewrites one table that is known to be damaged, within its level; nothing if there is none. Damaged tables of level 0
    /// are merged together with the log.
    [[nodiscard]] std::optional<job_type> damaged() const {
        for (std::size_t n = 1; n < view_->tables.size(); ++n)
            for (auto const& t : view_->tables[n]) {
                if (!t->is_damaged()) continue;
                auto job = of_tables();
                job.into = static_cast<std::uint8_t>(n);
                key_span keys;
                keys.include(t->entry());
                add_overlap(job, keys);
                finish_job(job, keys, 0);
                return job;
            }
        return {};
    }

private:
    /// The most bytes that a level should have.
    [[nodiscard]] static std::uint64_t target(std::size_t level) noexcept {
        auto bytes = std::max<std::uint64_t>(policy::log_bytes, policy::table_bytes);
        for (std::size_t n = 1; n < level; ++n) bytes *= policy::fanout;
        return bytes;
    }
    [[nodiscard]] static std::uint64_t bytes_of(typename view_type::level const& level) noexcept {
        std::uint64_t sum = 0;
        for (auto const& t : level) sum += t->entry().size;
        return sum;
    }

    using part_list = std::vector<std::shared_ptr<wal::catalog_part const>>;

    void take_log(part_list parts, bool proven, std::set<segment_id> const& stuck) {
        std::size_t n = 0;
        for (; n < parts.size(); ++n) {
            auto const& p = *parts[n];
            if (p.open || (!p.sealed && !proven) || !state_.segments.contains(p.id) || stuck.contains(p.id)) break;
        }
        n = may_leave(parts, n);
        first_kept_ = lsn_max;
        for (auto i = n; i < parts.size(); ++i) first_kept_ = std::min(first_kept_, first_of(*parts[i]));
        parts.resize(n);
        log_ = std::move(parts);
        for (auto const& p : log_) log_bytes_ += state_.segments.at(p->id).size;
    }
    /// How many of the first `n` parts may leave the log together. The parts that stay must have no LSN at or below the last LSN of these.
    [[nodiscard]] std::size_t may_leave(part_list const& parts, std::size_t n) const {
        auto const last_in_front_of = [&](std::size_t end) {
            auto last = state_.log_start_lsn;
            for (std::size_t i = 0; i < end; ++i) last = std::max(last, last_of(*parts[i]));
            return last;
        };
        auto first_kept = first_kept_; // the first LSN of the parts that stay
        for (auto i = n; i < parts.size(); ++i) first_kept = std::min(first_kept, first_of(*parts[i]));
        while (n > 0 && last_in_front_of(n) >= first_kept) first_kept = std::min(first_kept, first_of(*parts[--n]));
        // Recovery recognises a retired file by first_lsn <= log_start_lsn, so an empty segment stays until log_start_lsn passes it.
        while (n > 0 && parts[n - 1]->first > last_in_front_of(n)) --n;
        return n;
    }
    /// How many parts of the log one merge takes: slice_bytes of them, and as few more as needed so that they may leave the log together.
    [[nodiscard]] std::size_t slice() const {
        std::uint64_t bytes = 0;
        for (std::size_t n = 0; n < log_.size(); ++n) {
            bytes += state_.segments.at(log_[n]->id).size;
            if (bytes < slice_bytes && n + 1 < log_.size()) continue;
            if (auto const together = may_leave(log_, n + 1); together != 0) return together;
        }
        return log_.size();
    }
    [[nodiscard]] static lsn first_of(wal::catalog_part const& p) noexcept {
        return p.counted.empty() ? lsn_max : p.counted.front().first;
    }
    [[nodiscard]] static lsn last_of(wal::catalog_part const& p) noexcept {
        return p.counted.empty() ? lsn{} : p.counted.back().last;
    }

    /// With so many tables in level 0 the log is merged even if it is short, because a reader may have to search each of these tables.
    static constexpr std::size_t on_top_max = 8;
    /// Bytes of the log that one merge takes. None of these segments is released before the merge is done.
    static constexpr std::uint64_t slice_bytes = 2 * policy::log_bytes;
    /// With so few empty levels left, one more level is drained.
    static constexpr std::uint64_t empty_least = 2;
    /// The most bytes that a drain reads between two slices, as a multiple of the slice's bytes. Writers wait during that time.
    static constexpr std::uint64_t owed_most = 6;
    /// A merge of two levels is cheap if it reads at most so many bytes for each byte that goes down a level. In idle times all cheap
    /// merges of two levels are done.
    static constexpr double cheap = 3;
    /// Small tables are joined if at least so many of them are neighbours.
    static constexpr std::ptrdiff_t small_together = 8;
    /// With so many small tables in a level they are joined even while the log is due: each table makes every reader's search of the bounds
    /// longer, and takes a descriptor.
    static constexpr std::ptrdiff_t small_most = 64;

    [[nodiscard]] bool log_is_due() const {
        auto last = state_.log_start_lsn;
        for (auto const& p : log_) last = std::max(last, last_of(*p));
        auto const on_top = ingested_up_to(last);
        return log_bytes_ >= policy::log_bytes || ingested_is_due(on_top);
    }
    [[nodiscard]] typename view_type::level ingested_up_to(lsn last) const {
        typename view_type::level out;
        for (auto const& t : view_->tables.front())
            if (t->entry().lsns.last <= last && !t->entry().is_placeholder()) out.push_back(t);
        return out;
    }
    void add_placeholders(job_type& job) const {
        for (auto const& t : view_->tables.front())
            if (t->entry().is_placeholder()) job.placeholders.push_back(t);
    }

    /// Adds the first `count` parts of the log.
    void add_log(job_type& job, std::size_t count) const {
        job.log_start_before = job.log_start_lsn = state_.log_start_lsn;
        job.log_base = state_.log_base;
        for (std::size_t i = 0; i < count; ++i) {
            auto const& p = log_[i];
            job.segments.push_back(state_.segments.at(p->id));
            if (auto const link = wal::link_of(*p); link.id) job.log_base = link;
            job.log_start_lsn = std::max(job.log_start_lsn, last_of(*p));
            for (auto const& m : view_->memory)
                if (m->segment() == p->id) job.memory.push_back(m);
            for (auto const& r : view_->runs)
                if (r->source().id == p->id) job.runs.push_back(r);
        }
        for (auto const& l : state_.losses) job.lost.add(l);
        auto others = job.lost;
        for (auto const& t : view_->tables.front()) {
            if (t->entry().is_placeholder()) continue; // the LSN of a placeholder belongs to another record
            job.ingested.add(t->entry().lsns);
            others.add(t->entry().lsns);
        }
        for (auto const& gap : others.gaps_in({job.log_start_before.next(), job.log_start_lsn}))
            job.log_records += gap.size();
    }

    result<std::optional<job_type>> of_log(std::size_t count) const {
        job_type job;
        add_log(job, count);
        job.into = 1;
        key_span keys;
        for (auto const& m : job.memory) {
            table::memtable::cursor at{*m};
            KEEL_TRY(include_ends(keys, at));
        }
        for (auto const& r : job.runs) {
            typename view_type::run::cursor at{r};
            KEEL_TRY(include_ends(keys, at));
        }
        add_ingested(job, keys);
        std::uint64_t bytes = 0;
        for (auto const& s : job.segments) bytes += s.size;
        finish_job(job, keys, bytes);
        return std::optional{std::move(job)};
    }
    static result<void> include_ends(key_span& keys, table::memtable::cursor& at) {
        for (bool const last : {false, true}) {
            last ? at.seek_last() : at.seek(first_key);
            if (at.valid() && !at.current().key.empty()) keys.include(at.current().key, at.current().key, false);
        }
        return {};
    }
    /// If the first or the last key cannot be read, the range takes the widest bounds that the key may have.
    static result<void> include_ends(key_span& keys, typename view_type::run::cursor& at) {
        for (bool const last : {false, true}) {
            last ? at.seek_last() : at.seek(first_key);
            for (; at.trouble(); last ? at.leave_backward() : at.leave_forward()) {
                if (at.trouble()->code != errc::corruption) return failure(*at.trouble());
                auto const range = at.damaged();
                keys.include(range.from.value_or(std::string{first_key}),
                             range.to.value_or(std::string(format::key_bytes_max, '\xFF')), false);
            }
            if (at.valid() && !at.current().key.empty()) keys.include(at.current().key, at.current().key, false);
        }
        return {};
    }

    // ---- while the log is due -----------------------------------------------------------------------------------------------

    [[nodiscard]] result<std::optional<job_type>> under_load(compaction_turns& turns) const {
        if (turns.draining != 0 && view_->tables[turns.draining].empty())
            turns.draining = 0; // done; the level is about to be filled again
        if (auto joined = small_tables(small_most)) return joined;
        auto const free = first_empty();
        bool const in_the_way = 2 * bytes_of(view_->tables[1]) > std::min(log_bytes_, slice_bytes);
        if (in_the_way && free < levels_end) {
            if (turns.draining == free - 1) turns.draining = free;
            return std::optional{one_down(free - 1)};
        }
        if (turns.owed != 0 && turns.draining != 0) {
            auto job = of_level(turns.draining, turns.next_key[turns.draining]);
            turns.owed -= std::min(turns.owed, std::max<std::uint64_t>(job.bytes, 1));
            return std::optional{std::move(job)};
        }
        KEEL_TRY_LET(job, of_log(slice()));
        plan_drain(turns, job->bytes);
        return job;
    }
    /// Records of the log go into the levels from 1 up to, but not including, this one.
    static constexpr std::size_t levels_end = format::table_levels;
    [[nodiscard]] std::size_t first_empty() const noexcept {
        std::size_t n = 1;
        while (n < levels_end && !view_->tables[n].empty()) ++n;
        return n;
    }
    [[nodiscard]] std::uint64_t empty_levels() const noexcept {
        std::uint64_t n = 0;
        for (std::size_t i = 1; i < levels_end; ++i) n += view_->tables[i].empty();
        return n;
    }
    /// Moves all tables of a level to the empty level below it, without a merge.
    [[nodiscard]] job_type one_down(std::size_t n) const {
        auto job = of_tables();
        job.into = static_cast<std::uint8_t>(n + 1);
        job.moved = view_->tables[n];
        add_placeholders(job);
        return job;
    }
    /// Bytes read for each byte of level n that is merged into the next one.
    [[nodiscard]] double drain_cost(std::size_t n) const noexcept {
        return 1 + static_cast<double>(bytes_of(view_->tables[n + 1])) /
                       static_cast<double>(std::max<std::uint64_t>(bytes_of(view_->tables[n]), 1));
    }
    /// The level to drain, so that one more level becomes empty. Among the levels that are cheap to drain it is the one with the fewest
    /// bytes to merge. If none is cheap, it is the one that costs least for each of its bytes. Among equal ones it is the deepest. 0: no
    /// two neighbouring levels have tables.
    [[nodiscard]] std::size_t worth_draining() const noexcept {
        std::size_t best = 0;
        std::pair<double, double> least{};
        for (std::size_t n = 1; n + 1 < levels_end; ++n) {
            if (view_->tables[n].empty() || view_->tables[n + 1].empty()) continue;
            auto const cost = drain_cost(n);
            auto const work = static_cast<double>(bytes_of(view_->tables[n]) + bytes_of(view_->tables[n + 1]));
            auto const rank = cost <= cheap ? std::pair{0.0, work} : std::pair{cost, work};
            if (best != 0 && rank > least) continue;
            best = n;
            least = rank;
        }
        return best;
    }
    /// After a slice of so many bytes is chosen: decides how much a drain has to read before the next slice.
    void plan_drain(compaction_turns& turns, std::uint64_t slice) const {
        auto const empty = empty_levels(); // the slice uses one of them
        if (turns.draining == 0 && empty <= empty_least) {
            turns.draining = worth_draining();
            if (turns.draining != 0) turns.cost = drain_cost(turns.draining);
        }
        turns.owed = 0;
        if (turns.draining == 0) return;
        auto const left = turns.cost * static_cast<double>(bytes_of(view_->tables[turns.draining]));
        turns.owed =
            std::min(static_cast<std::uint64_t>(left / static_cast<double>(std::max<std::uint64_t>(empty, 1))) + 1,
                     owed_most * slice);
    }

    // ---- small tables -------------------------------------------------------------------------------------------------------

    /// Joins neighbouring small tables of a level that has at least `from` of them; nothing if no level has. Tables are joined with tables
    /// of their own size class, so that each byte is rewritten only a few times per class.
    [[nodiscard]] std::optional<job_type> small_tables(std::ptrdiff_t from) const {
        for (std::size_t n = 1; n < levels_end; ++n) {
            auto const is_small = [](auto const& t) { return t->entry().size < policy::table_bytes / 2; };
            if (std::ranges::count_if(view_->tables[n], is_small) < from) continue;
            for (auto size = std::max<std::uint64_t>(policy::table_bytes >> 15, 1); size <= policy::table_bytes / 2;
                 size *= 8)
                if (auto job = small_tables(n, size)) return job;
            if (auto job = small_tables(n, policy::table_bytes / 2)) return job;
        }
        return {};
    }
    /// The same for the tables of one level that are smaller than `size` bytes.
    [[nodiscard]] std::optional<job_type> small_tables(std::size_t n, std::uint64_t size) const {
        auto const& level = view_->tables[n];
        std::size_t begin = 0;
        std::uint64_t bytes = 0;
        for (std::size_t i = 0; i <= level.size(); ++i) {
            bool const small = i < level.size() && level[i]->entry().size < size && !level[i]->is_damaged();
            bool const full = bytes >= policy::table_bytes && static_cast<std::ptrdiff_t>(i - begin) >= small_together;
            if (small && !full) {
                bytes += level[i]->entry().size;
                continue;
            }
            if (static_cast<std::ptrdiff_t>(i - begin) >= small_together) return joined(n, begin, i);
            begin = small ? i : i + 1;
            bytes = small ? level[i]->entry().size : 0;
        }
        return {};
    }
    [[nodiscard]] job_type joined(std::size_t n, std::size_t begin, std::size_t end) const {
        auto job = of_tables();
        job.into = static_cast<std::uint8_t>(n);
        key_span keys;
        for (auto i = begin; i < end; ++i) keys.include(view_->tables[n][i]->entry());
        add_overlap(job, keys);
        finish_job(job, keys, 0);
        return job;
    }

    /// A job that reads no segment: the start of the log stays as it is.
    [[nodiscard]] job_type of_tables() const {
        job_type job;
        job.log_start_before = job.log_start_lsn = state_.log_start_lsn;
        job.log_base = state_.log_base;
        return job;
    }
    /// A job that takes one table of level `n` down: the tables take turns, in key order. The table is moved without a rewrite if the next
    /// level has no table that overlaps it.
    [[nodiscard]] job_type of_level(std::size_t n, std::string& next_key) const {
        auto const& level = view_->tables[n];
        auto const behind = [&](auto const& t) { return t->entry().smallest >= next_key; };
        auto at = std::ranges::find_if(level, behind);
        if (at == level.end()) at = level.begin();
        next_key = (*at)->entry().largest + '\0';
        auto job = of_tables();
        job.into = static_cast<std::uint8_t>(n + 1);
        key_span keys;
        keys.include((*at)->entry());
        add_overlap(job, keys);
        (job.tables[job.into].empty() ? job.moved : job.tables[n]).push_back(*at);
        finish_job(job, keys, 0);
        return job;
    }

    /// Adds the tables ingested up to the job's log_start_lsn, and the tables that overlap the job. An ingested table that shares its keys
    /// with no other part of the job and no table of the target level is only moved.
    void add_ingested(job_type& job, key_span& keys) const {
        job.moved = ingested_up_to(job.log_start_lsn);
        auto const shared = [&](auto const& t) {
            key_span own;
            own.include(t->entry());
            auto const touched = [&](auto const& other) { return other != t && own.touches(other->entry()); };
            return keys.touches(t->entry()) || std::ranges::any_of(job.moved, touched) ||
                   std::ranges::any_of(view_->tables[job.into], touched);
        };
        for (;;) {
            add_overlap(job, keys);
            auto const at = std::ranges::find_if(job.moved, shared);
            if (at == job.moved.end()) return;
            keys.include((*at)->entry());
            job.tables.front().push_back(*at);
            job.moved.erase(at);
        }
    }
    /// Adds all tables of the target level that overlap the job's keys.
    void add_overlap(job_type& job, key_span& keys) const {
        // Repeat until no further table overlaps. Long bounds are cut short, so tables that have no key in common may have the same bound.
        // Such tables are in order only if one merge has written all of them.
        auto& level = job.tables[job.into];
        for (std::size_t known = ~std::size_t{0}; known != level.size();) {
            known = level.size();
            level.clear();
            for (auto const& t : view_->tables[job.into])
                if (keys.touches(t->entry())) level.push_back(t);
            for (auto const& t : level) keys.include(t->entry());
        }
    }
    /// Fills in the other fields, once the segments and tables of the job are chosen.
    void finish_job(job_type& job, key_span const& keys, std::uint64_t log_bytes) const {
        add_placeholders(job);
        job.bytes = log_bytes;
        for (auto const& level : job.tables) job.bytes += bytes_of(level);
        job.bottom = true;
        for (std::size_t n = job.into + 1U; n < view_->tables.size(); ++n)
            for (auto const& t : view_->tables[n]) job.bottom = job.bottom && !keys.touches(t->entry());
    }

    static constexpr std::string_view first_key{"\0", 1}; ///< the smallest key that a user can have

    std::shared_ptr<view_type const> view_;
    format::manifest_state const& state_;
    std::vector<std::shared_ptr<wal::catalog_part const>> log_{}; ///< oldest first
    std::uint64_t log_bytes_ = 0;
    lsn first_kept_ = lsn_max; ///< the first LSN of the parts that cannot be merged now
};

} // namespace keel::inline v0::detail

#endif
