// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_COMPACTION_HPP
#define KEEL_ENGINE_COMPACTION_HPP

// Which parts of a store are merged next, and where to. Pure: looks at a view, the catalog and the manifest's state, touches no file
// but for the first and last key of a segment.
//
// The log is given back from its oldest end on, whole segments at a time, so that one LSN (the manifest's log_start_lsn) says what tables hold.
// A segment takes part when it takes no more records and all that counts of it is durable. Everything merged into a level takes the
// tables of that level with it that it overlaps, so tables of one level share no key. What was ingested goes with the log as far as that
// goes: merged, or down a level as it is where it shares its keys with nothing else.
//
// While the log is due it is merged a slice at a time, and each slice should meet an empty first level: merged into a full one it would
// cost the whole of that again. So levels are moved down by one as they are, as long as one further down is empty (that costs an edit).
// Before none is, the level that is cheapest to merge into the next one is merged into it, table by table, between the slices, so much
// behind each slice that it is done when the last empty level is taken. Levels are then sorted runs of like size, as in a tiered tree,
// and become a leveled one when there is time (Mao et al., "Experimental evaluation of bounded-depth LSM merge policies", 2019, has both).

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

/// Which keys something has, at most.
class key_span {
public:
    void include(std::string_view first, std::string_view last, bool ends_open) {
        if (none_ || first < first_) first_ = first;
        // An open end is behind everything that begins with it.
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

/// What is remembered from one choice to the next.
struct compaction_turns {
    std::array<std::string, format::table_levels> next_key{}; ///< where each level was left off
    std::size_t draining = 0; ///< the level that is merged into the next one while the log is due; 0: none
    double cost = 1;          ///< bytes read for each byte of it
    std::uint64_t owed = 0;   ///< bytes of it to be read before the next slice of the log
};

/// One merge: what it reads and what it puts in its place.
template <class Config>
struct compaction_job {
    using view_type = store_version<reading_config<Config>>;

    std::vector<std::shared_ptr<table::memtable const>> memory{};
    std::vector<std::shared_ptr<typename view_type::run const>> runs{};
    std::array<typename view_type::level, format::table_levels> tables{};
    std::vector<format::segment_entry> segments{}; ///< given up
    format::segment_link log_base{};               ///< the last one of them
    lsn log_start_before{};
    lsn log_start_lsn{};                      ///< all records at or below it are in tables afterwards
    std::uint64_t log_records = 0;            ///< how many between the two
    wal::lsn_set lost{};                      ///< declared so, there or elsewhere
    wal::lsn_set ingested{};                  ///< LSNs of tables of level 0: the log has nothing but their place
    std::uint8_t into = 1;                    ///< level
    bool bottom = false;                      ///< no table of a higher level has any of the keys
    typename view_type::level moved{};        ///< go there as they are
    typename view_type::level placeholders{}; ///< an erased key of theirs must not be forgotten: it is the answer
    std::uint64_t bytes = 0;                  ///< of what is read

    /// Whether there is anything to read.
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

    /// `proven`: all that opening found is durable. The view was taken after the parts: what takes no more records in these is in that.
    /// `stuck`: segments that cannot be merged; the log is given back up to the first of them.
    compaction_picker(std::shared_ptr<view_type const> view,
                      std::vector<std::shared_ptr<wal::catalog_part const>> parts, format::manifest_state const& state,
                      bool proven, std::set<segment_id> const& stuck = {})
        : view_{std::move(view)}, state_{state} {
        take_log(std::move(parts), proven, stuck);
    }

    /// Whether these tables of level 0 are reason enough to merge, however short the log.
    [[nodiscard]] static bool ingested_is_due(typename view_type::level const& on_top) noexcept {
        auto const counts = [](auto const& t) { return !t->entry().is_placeholder(); };
        auto const tables = static_cast<std::size_t>(std::ranges::count_if(on_top, counts));
        return tables != 0 && (bytes_of(on_top) >= policy::log_bytes || tables >= on_top_max);
    }
    /// Bytes of the log that could be merged now.
    [[nodiscard]] std::uint64_t log_bytes() const noexcept { return log_bytes_; }

    /// What the policy wants merged next; nothing where all is as it should be.
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
    /// While nobody writes: one sorted run less, where two of like size stand above each other.
    [[nodiscard]] std::optional<job_type> fewer_runs(compaction_turns& turns) const {
        if (policy::log_bytes == 0) return {};
        auto const n = worth_draining();
        if (n == 0 || drain_cost(n) > cheap) return {};
        return of_level(n, turns.next_key[n]);
    }

    /// Whether the log, too short to be due, is worth merging while nobody writes. `open`: bytes of records in the segment that is
    /// written to. A table of the first level is written again at most as often as it would be under steady writes (`fanout` times the
    /// bytes it takes in), and a store that gets a little now and then keeps it in the log.
    [[nodiscard]] bool rest_pays(std::uint64_t open) const noexcept {
        if (policy::log_bytes == 0) return false;
        auto bytes = open;
        for (auto const& p : log_) bytes += p->limit - p->begin;
        return bytes >= policy::log_bytes / 16 && bytes * policy::fanout >= bytes_of(view_->tables[1]);
    }
    /// On a full disk: the oldest segment of the log alone, into a first level that is no larger, where one can be had. That takes least room,
    /// no more than the reserve has for it, and gives the segment back.
    [[nodiscard]] result<std::optional<job_type>> for_room() const {
        if (log_.empty()) return std::optional<job_type>{};
        // Merged with a small first level it takes less room than beside it: what is superseded goes.
        bool const in_the_way = bytes_of(view_->tables[1]) > state_.segments.at(log_.front()->id).size;
        if (auto const free = first_empty(); in_the_way && free < levels_end) return std::optional{one_down(free - 1)};
        std::size_t count = 1;
        while (count < log_.size() && may_leave(log_, count) == 0) ++count;
        return of_log(may_leave(log_, count) != 0 ? may_leave(log_, count) : log_.size());
    }
    /// The log, however short.
    [[nodiscard]] result<std::optional<job_type>> pick_idle() {
        if (log_.empty()) return std::optional<job_type>{};
        return of_log(slice());
    }

    /// Everything, into one level; nothing where it is there already.
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

    /// One table that is known to be damaged, written anew in the level it is in; nothing where there is none. Those of level 0 go with the
    /// log.
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
    /// Bytes a level should have at most.
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
    /// How many of the first `n` parts may leave the log together: no other part has an LSN at or below their last.
    [[nodiscard]] std::size_t may_leave(part_list const& parts, std::size_t n) const {
        auto const last_in_front_of = [&](std::size_t end) {
            auto last = state_.log_start_lsn;
            for (std::size_t i = 0; i < end; ++i) last = std::max(last, last_of(*parts[i]));
            return last;
        };
        auto first_kept = first_kept_; // the first LSN of what stays
        for (auto i = n; i < parts.size(); ++i) first_kept = std::min(first_kept, first_of(*parts[i]));
        while (n > 0 && last_in_front_of(n) >= first_kept) first_kept = std::min(first_kept, first_of(*parts[--n]));
        // Recovery knows a retired file by its first LSN, which is not above log_start_lsn. So an empty segment stays until the start passes it.
        while (n > 0 && parts[n - 1]->first > last_in_front_of(n)) --n;
        return n;
    }
    /// How many parts of the log are merged at a time: those of slice_bytes, or as few more as may leave it together.
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

    /// Where readers would ask too many tables of level 0, they are taken before the log is long enough.
    static constexpr std::size_t on_top_max = 8;
    /// Of the log, at a time. Until it is merged nothing of it is given back.
    static constexpr std::uint64_t slice_bytes = 2 * policy::log_bytes;
    /// With so few empty levels left one is made empty.
    static constexpr std::uint64_t empty_least = 2;
    /// So many times a slice's bytes are merged further down before the next one at most: writers wait for that.
    static constexpr std::uint64_t owed_most = 6;
    /// Bytes read for each byte that goes down a level, up to which that is cheap. While nobody writes no two levels stay so alike.
    static constexpr double cheap = 3;
    /// So many small tables side by side are made one.
    static constexpr std::ptrdiff_t small_together = 8;
    /// With so many in a level that is done while the log is due, too: each costs every reader a look at its bounds, and a descriptor.
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

    /// The first `count` parts of it.
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
            if (t->entry().is_placeholder()) continue; // its LSN is another record's
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
    /// What cannot be read at the ends may lie as far out as is known of it.
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
            turns.draining = 0; // before it is filled again
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
    /// Tables of the log go into levels from 1 up to, and without, this one.
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
    /// All tables of a level, to the empty one below it.
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
    /// Which level is merged into the next one, to have one more empty: of those that are cheap to merge the one with the least to do,
    /// else the one that costs least for each of its bytes; of equal ones the deepest. 0: no two levels that follow each other have tables.
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
    /// How much is merged further down before the next slice, now that one of so many bytes is merged.
    void plan_drain(compaction_turns& turns, std::uint64_t slice) const {
        auto const empty = empty_levels(); // one of them is taken by the slice
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

    /// Small tables that stand side by side, as one, where a level has `from` of them or more; nothing where none has. A table takes part
    /// beside others of its size class: so no byte is written more than a few times for each class.
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
    /// Of one level, each smaller than so many bytes.
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

    /// A job that takes nothing of the log.
    [[nodiscard]] job_type of_tables() const {
        job_type job;
        job.log_start_before = job.log_start_lsn = state_.log_start_lsn;
        job.log_base = state_.log_base;
        return job;
    }
    /// One table of a level that is too large, in turn by key.
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

    /// What was ingested up to the job's log_start_lsn, and what it overlaps. Those that share their keys with nothing else are only moved.
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
    /// All tables of the level it goes into that the job's keys touch.
    void add_overlap(job_type& job, key_span& keys) const {
        // Until no more are touched: bounds that were cut short may be shared by tables that have no key in common, and such tables are in
        // order only as long as one merge writes them all.
        auto& level = job.tables[job.into];
        for (std::size_t known = ~std::size_t{0}; known != level.size();) {
            known = level.size();
            level.clear();
            for (auto const& t : view_->tables[job.into])
                if (keys.touches(t->entry())) level.push_back(t);
            for (auto const& t : level) keys.include(t->entry());
        }
    }
    /// What is left to say once it is known what is read.
    void finish_job(job_type& job, key_span const& keys, std::uint64_t log_bytes) const {
        add_placeholders(job);
        job.bytes = log_bytes;
        for (auto const& level : job.tables) job.bytes += bytes_of(level);
        job.bottom = true;
        for (std::size_t n = job.into + 1U; n < view_->tables.size(); ++n)
            for (auto const& t : view_->tables[n]) job.bottom = job.bottom && !keys.touches(t->entry());
    }

    static constexpr std::string_view first_key{"\0", 1}; ///< that a user can have

    std::shared_ptr<view_type const> view_;
    format::manifest_state const& state_;
    std::vector<std::shared_ptr<wal::catalog_part const>> log_{}; ///< oldest first
    std::uint64_t log_bytes_ = 0;
    lsn first_kept_ = lsn_max; ///< the first LSN of what stays in the log in any case
};

} // namespace keel::inline v0::detail

#endif
