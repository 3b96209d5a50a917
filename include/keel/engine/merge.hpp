// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_MERGE_HPP
#define KEEL_ENGINE_MERGE_HPP

// Walks many sorted parts as one, in either direction. version_merge gives every version. merge_cursor gives each key once, with the
// version that a snapshot sees. A heap orders the parts by their current position, so a step costs the logarithm of their number.
//
// If something cannot be read, the walk goes on behind it and records what may be there: the range of keys, the range of LSNs, and the part
// (table/damaged_range.hpp). A key in that range has an answer only if the damage cannot hold a newer version of it. This is proven if the
// newest version that was found and that the snapshot sees
//   - is at least as new as any version in the damage can be (the last LSN of the whole table; the LSN of a log record); or
//   - comes from a newer part: the log and ingested tables are newer than a table of level 1 or deeper; a table is newer than a table of a
//     deeper level (version_set.hpp says why all versions there are older); or
//   - comes from the same level, but from another table, because tables of a level share no key; or from the same table in front of the
//     damage, because the versions of a key are stored newest first; or
//   - has a key that cannot be in the damage: an intact filter excludes it; an index gives the damaged record another key; the header of
//     the damaged record gives another key length.
// The walk does not give any other key in that range: the version found may be stale, or the key may have been erased since. The walk says
// nothing of damage that cannot matter: all its LSNs are newer than the snapshot, or no key of it is in the range, or it holds only one key
// and that key has an answer.

#include <keel/detail/short_text.hpp>
#include <keel/engine/version_set.hpp>
#include <keel/error.hpp>
#include <keel/format/block.hpp>
#include <keel/format/index.hpp>
#include <keel/table/damaged_range.hpp>
#include <keel/table/entry.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace keel::inline v0::detail {

enum class direction : std::uint8_t { forward, backward };

/// Whether a walk must end at this error, because it cannot read anything else either, or not now.
[[nodiscard]] constexpr bool ends_every_walk(errc code) noexcept {
    return code == errc::closed || code == errc::crashed || code == errc::cancelled || is_shortage(code);
}

/// Walks the tables of one level, one after the other: they are in key order and share no key. One cursor is open at a time.
template <class Table>
class level_cursor {
public:
    using tables = std::vector<std::shared_ptr<Table const>>;

    explicit level_cursor(tables const& of) : of_{&of} {}

    void seek(std::string_view key) {
        auto const ends_before = [key](auto const& t) { return t->entry().ends_before(key); };
        i_ = static_cast<std::size_t>(std::ranges::partition_point(*of_, ends_before) - of_->begin());
        place(1, [key](auto& at) { at.seek(key); });
    }
    void seek_before(std::string_view key) {
        // The last table that may begin in front of the key. If that table has no such key, place() goes on to the table before.
        auto const begins_in_front = [key](auto const& t) { return t->entry().smallest < key; };
        i_ = static_cast<std::size_t>(std::ranges::partition_point(*of_, begins_in_front) - of_->begin()) - 1;
        place(-1, [key](auto& at) { at.seek_before(key); });
    }
    void seek_last() {
        i_ = of_->size() - 1;
        place(-1, [](auto& at) { at.seek_last(); });
    }
    void next() {
        at_->next();
        to_next_table();
    }
    /// Moves to the first version of another key. All versions of a key are in one table.
    void pass() {
        at_->pass();
        to_next_table();
    }
    void previous() {
        at_->previous();
        to_previous_table();
    }
    void leave_forward() {
        at_->leave_forward();
        to_next_table();
    }
    void leave_backward() {
        at_->leave_backward();
        to_previous_table();
    }

    [[nodiscard]] bool valid() const noexcept { return at_ && at_->valid(); }
    [[nodiscard]] table::version current() const noexcept { return at_->current(); }
    [[nodiscard]] std::optional<error> const& trouble() const noexcept {
        static std::optional<error> const none{};
        return at_ ? at_->trouble() : none;
    }
    [[nodiscard]] table::damaged_range damaged() const { return at_->damaged(); }
    [[nodiscard]] std::optional<std::string> const& passed() const noexcept { return at_->passed(); }
    /// The table of the current version, or of the trouble.
    [[nodiscard]] std::shared_ptr<Table const> const& table() const noexcept { return (*of_)[i_]; }

private:
    void to_next_table() {
        if (at_->valid() || at_->trouble()) return;
        ++i_;
        place(1, [](auto& at) { at.seek({}); });
    }
    void to_previous_table() {
        if (at_->valid() || at_->trouble()) return;
        --i_;
        place(-1, [](auto& at) { at.seek_last(); });
    }
    /// Places the cursor in the current table, or in the next one in this direction that has such a key. Bounds may be cut short, so a
    /// table may have no key where its bounds say that it may.
    template <class Place>
    void place(int step, Place const& how) {
        for (at_.reset(); i_ < of_->size(); i_ += static_cast<std::size_t>(step)) { // wraps in front of the first one
            at_.emplace((*of_)[i_]);
            how(*at_);
            if (at_->valid() || at_->trouble()) return;
        }
        at_.reset();
    }

    tables const* of_;
    std::size_t i_ = 0;
    std::optional<typename Table::cursor> at_{};
};

/// Damage that a walk has met.
template <class Run, class Table>
struct met_damage {
    table::damaged_range what{};
    std::size_t part = 0;               ///< index of the walk's part that has it
    std::size_t level = 0;              ///< of that part; 0: the log, or an ingested table
    std::uint64_t number = 0;           ///< 1 for the first damage that the walk met, and so on
    std::shared_ptr<Run const> run{};   ///< the damaged segment; or null
    std::shared_ptr<Table const> tab{}; ///< the damaged table; or null

    /// Whether a version of this key may be in it.
    [[nodiscard]] bool may_hold(std::string_view key) const {
        if (!what.may_hold(key)) return false;
        auto const hash = format::filter_hash(key);
        return tab ? tab->may_hold(key, hash) : run->may_hold(hash);
    }
};

/// The versions of all keys in some parts of a store. Forward: in key order, the newest version of a key first. Backward: the reverse. Only
/// a forward walk can give all versions. One thread per object. The added parts must outlive it. A version that two parts have is given
/// twice.
template <class Config>
class version_merge {
public:
    using view_type = store_version<Config>;
    using run = typename view_type::run;
    using table_type = typename view_type::table_type;
    using damage_type = met_damage<run, table_type>;

    /// Forward: begins at the first key not less than `from`. Backward: begins at the last key less than `to`, or at the last of all keys.
    /// The caller decides where to stop. Damage is recorded if its keys are between `from` and `to` and it may hold versions not newer than
    /// `snapshot`. `which`: all versions of each key; or, from each part, at least the newest version that is not newer than `snapshot`.
    explicit version_merge(direction way, std::optional<std::string> from = {}, std::optional<std::string> to = {},
                           lsn snapshot = lsn_max, table::versions which = table::versions::all)
        : way_{way}, from_{std::move(from)}, to_{std::move(to)}, snapshot_{snapshot}, which_{which} {}

    /// So many parts will be added. Reserving them avoids moving cursors later.
    void expect(std::size_t parts) {
        parts_.reserve(parts);
        levels_.reserve(parts);
        heap_.reserve(parts);
    }
    void add(table::memtable const& part) { enter<memory_part>(0, part, snapshot_, which_); }
    void add(std::shared_ptr<run const> part) {
        auto const& counted = part->source().counted;
        bool const any = !counted.empty() && counted.front().first <= snapshot_;
        if (any) enter<run_part>(0, std::move(part), snapshot_, which_);
    }
    /// The tables of one level, which share no key.
    void add(std::vector<std::shared_ptr<table_type const>> const& level, std::size_t number) {
        if (!level.empty()) enter<level_part>(number, level);
    }
    /// Adds a table that may share keys with others: a table of level 0.
    void add(std::shared_ptr<table_type const> const& table) {
        auto const& t = table->entry();
        bool const apart = (to_ && t.smallest >= *to_) || (from_ && t.ends_before(*from_));
        if (!apart && table->oldest() <= snapshot_) enter<table_part>(0, table);
    }
    template <class Levels>
    void add_levels(Levels const& levels) {
        for (auto const& t : levels.front()) add(t);
        for (std::size_t n = 1; n < levels.size(); ++n) add(levels[n], n);
    }
    /// Call it once, after the last add().
    void begin() {
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            standing now{.what = {}, .part = i, .prefix = 0};
            if (std::visit([&](auto& p) { return look(p, now); }, parts_[i])) heap_.push_back(now);
        }
        std::ranges::make_heap(heap_, later());
    }

    [[nodiscard]] bool valid() const noexcept { return !heap_.empty() && !trouble_; }
    /// Valid until advance().
    [[nodiscard]] table::version const& top() const noexcept { return heap_.front().what; }
    /// The index of the part that has top().
    [[nodiscard]] std::size_t part() const noexcept { return heap_.front().part; }
    void advance() {
        step([this](auto& p) { way_ == direction::forward ? p.next() : p.previous(); });
    }
    /// Forward only: moves to the next version of another key. Each part passes its versions of the current key in one step.
    void pass() {
        // A single part needs no ordering. A segment is excepted: after its pass() more versions of the same key may come.
        bool const is_alone = heap_.size() == 1 && !std::holds_alternative<run_part>(parts_[part()]);
        if (is_alone) return step([](auto& p) { p.pass(); });
        passed_.assign(top().key);
        passes_ = true;
        do step([](auto& p) { p.pass(); });
        while (valid() && keel::detail::same_text(top().key, passed_.view()));
        passes_ = false;
    }
    /// The error that ended the walk early; nothing: none.
    [[nodiscard]] std::optional<error> const& trouble() const noexcept { return trouble_; }

    /// The damage met so far. The caller removes an entry once it has dealt with it.
    [[nodiscard]] std::vector<damage_type>& damage() noexcept { return damage_; }
    [[nodiscard]] std::vector<damage_type> const& damage_met() const noexcept { return damage_; }
    [[nodiscard]] bool has_damage() const noexcept { return !damage_.empty(); }
    /// How many damages were met so far, removed ones included.
    [[nodiscard]] std::uint64_t met() const noexcept { return met_; }
    /// Whether the damage may hold a newer version of the key of `v`. `v` was found in `part` (forward: it is top()), when met() was `met`.
    /// The file's leading comment has the rule.
    [[nodiscard]] bool hides(damage_type const& d, table::version const& v, std::size_t part, std::uint64_t met) const {
        if (v.at >= d.what.lsns.last || levels_[part] < d.level) return false;
        if (d.level != 0 && part == d.part) {
            bool const forward = way_ == direction::forward;
            bool const was_met_first = d.number <= met;
            if (was_met_first != forward || (forward && is_in_another_table(d))) return false;
        }
        return d.may_hold(v.key);
    }

private:
    using memory_part = table::memtable::cursor;
    using run_part = typename run::cursor;
    using table_part = typename table_type::cursor;
    using level_part = level_cursor<table_type>;
    using any_part = std::variant<memory_part, run_part, table_part, level_part>;
    struct standing {
        table::version what;
        std::size_t part;
        std::uint64_t prefix; ///< of the key: comparing it first settles most comparisons
    };

    /// Whether top() is from another table than this damage. Both are from the same level.
    [[nodiscard]] bool is_in_another_table(damage_type const& than) const noexcept {
        auto const* const level = std::get_if<level_part>(&parts_[part()]);
        return level != nullptr && than.tab && level->table() != than.tab;
    }
    template <class Part, class... Arguments>
    void enter(std::size_t level, Arguments&&... arguments) {
        levels_.push_back(level);
        auto& added = parts_.emplace_back(std::in_place_type<Part>, std::forward<Arguments>(arguments)...);
        auto& p = *std::get_if<Part>(&added);
        if (way_ == direction::forward) p.seek(from_ ? std::string_view{*from_} : std::string_view{});
        else if (to_) p.seek_before(*to_);
        else p.seek_last();
    }
    /// Moves the part that has top(), and restores the order of the heap.
    template <class Move>
    void step(Move const& move) {
        auto& first = heap_.front();
        auto const moved = [&](auto& p) {
            move(p);
            return look(p, first);
        };
        if (!std::visit(moved, parts_[first.part])) {
            first = heap_.back();
            heap_.pop_back();
        }
        sift_down();
    }
    /// Reads the position of a part into `here`; false at its end.
    template <class Part>
    [[nodiscard]] bool look(Part& p, standing& here) {
        if (p.valid()) [[likely]]
            return stand_on(p, here);
        if constexpr (requires { p.trouble(); })
            if (p.trouble()) return pass_damage(p, here);
        return false;
    }
    template <class Part>
    [[nodiscard]] bool pass_damage(Part& p, standing& here) {
        while (p.trouble()) {
            if (ends_every_walk(p.trouble()->code)) {
                trouble_ = p.trouble();
                return false;
            }
            note(p, here.part);
            way_ == direction::forward ? p.leave_forward() : p.leave_backward();
        }
        return p.valid() && stand_on(p, here);
    }
    template <class Part>
    [[nodiscard]] static bool stand_on(Part const& p, standing& here) {
        here.what = p.current();
        here.prefix = format::key_prefix(here.what.key);
        return true;
    }
    template <class Part>
    void note(Part& p, std::size_t part) {
        damage_type d{.what = p.damaged(), .part = part, .level = levels_[part]};
        d.what.cut_to(from_, to_);
        // While a key is passed, damage can only hold versions of that key that are older than the version found.
        if (passes_) d.what.cut_to(table::key_after(passed_.view()), {});
        if constexpr (requires { p.passed(); })
            if (p.passed()) d.what.cut_to(table::key_after(*p.passed()), {});
        // The log has records with an empty key, which is no user's key. Damage that can only be such a record does not count.
        bool const is_of_a_key = !d.what.to || *d.what.to > std::string_view{"\0", 1};
        if (d.what.empty() || !is_of_a_key || d.what.lsns.first > snapshot_) return; // the walk could see nothing of it
        if constexpr (std::is_same_v<Part, run_part>) d.run = p.source();
        else if constexpr (requires { p.table(); }) d.tab = p.table();
        d.number = ++met_;
        damage_.push_back(std::move(d));
    }
    /// Heap order: the position that comes last in the walk is the least.
    [[nodiscard]] auto later() const noexcept {
        return [way = way_](standing const& a, standing const& b) {
            if (a.prefix != b.prefix) return (a.prefix > b.prefix) == (way == direction::forward);
            auto const order = a.what.key.compare(b.what.key);
            if (way == direction::forward) return order != 0 ? order > 0 : a.what.at < b.what.at;
            return order != 0 ? order < 0 : a.what.at > b.what.at;
        };
    }
    /// Restores the heap after its first element has moved to a later position.
    void sift_down() {
        auto const n = heap_.size();
        auto const is_later = later();
        for (std::size_t i = 0, child = 1; child < n; i = child, child = 2 * i + 1) {
            if (child + 1 < n && is_later(heap_[child], heap_[child + 1])) ++child;
            if (!is_later(heap_[i], heap_[child])) return;
            std::swap(heap_[i], heap_[child]);
        }
    }

    direction way_;
    std::optional<std::string> from_;
    std::optional<std::string> to_;
    lsn snapshot_;
    table::versions which_;
    std::vector<any_part> parts_{};
    std::vector<std::size_t> levels_{}; ///< the level of each part; 0: the log, or an ingested table
    std::vector<standing> heap_{};
    format::key_buffer passed_{};
    bool passes_ = false; ///< pass() is passing the versions of the key passed_
    std::optional<error> trouble_{};
    std::vector<damage_type> damage_{};
    std::uint64_t met_ = 0;
};

/// The keys of a store at one snapshot, with their values. One thread per object. It keeps the store version alive. The views that it gives
/// are valid until the next step.
template <class Config>
class merge_cursor {
public:
    using view_type = store_version<Config>;

    /// `skips`: the cursor goes on behind keys that cannot be read; otherwise it ends there.
    merge_cursor(std::shared_ptr<view_type const> of, lsn snapshot, bool skips)
        : of_{std::move(of)}, snapshot_{snapshot}, skips_{skips} {}

    /// Moves to the first key not less than `from` (forward), or to the last key less than `to` or the last of all keys (backward). False:
    /// there is no key, or an error ended the walk.
    bool start(direction way, std::optional<std::string> const& from, std::optional<std::string> const& to) {
        way_ = way;
        standing_on_ = false;
        stopped_.reset();
        unread_.clear();
        all_.emplace(way, from, to, snapshot_, table::versions::newest_seen);
        all_->expect(of_->memory.size() + of_->runs.size() + of_->tables.front().size() + of_->tables.size());
        for (auto const& m : of_->memory) all_->add(*m);
        for (auto const& r : of_->runs) all_->add(r);
        all_->add_levels(of_->tables);
        all_->begin();
        of_->tell_damage();
        return step();
    }
    /// Moves to the next key that has a value. False: there is none, or an error ended the walk.
    bool step() {
        if (way_ == direction::backward) return step_back();
        if (std::exchange(standing_on_, false)) all_->pass();
        while (all_->valid()) {
            auto const& top = all_->top();
            if (top.at > snapshot_) { // too new; the snapshot may see the next version of this key
                all_->advance();
                continue;
            }
            if (all_->has_damage()) [[unlikely]] {
                bool const answers = is_current(top, {all_->part(), all_->met()});
                if (stopped_) return false;
                if (!answers) {
                    all_->pass();
                    continue;
                }
            }
            if (!top.tombstone && !top.key.empty()) { // a record with an empty key is never given
                seen_ = top;
                return standing_on_ = true;
            }
            all_->pass();
        }
        return at_end();
    }

    /// The references stay valid as long as this object does; the text they refer to changes with each step.
    [[nodiscard]] std::string_view const& key() const noexcept { return seen_.key; }
    [[nodiscard]] std::string_view const& value() const noexcept { return seen_.value; }
    /// The LSN of the current version.
    [[nodiscard]] lsn at() const noexcept { return seen_.at; }
    /// The error that ended the walk early; nothing: none.
    [[nodiscard]] std::optional<error> const& trouble() const noexcept {
        static std::optional<error> const none{};
        if (stopped_) return stopped_;
        return all_ ? all_->trouble() : none;
    }
    /// Whether the walk ended early because of damage, and it does not skip damage.
    [[nodiscard]] bool stopped_at_damage() const noexcept { return stopped_.has_value(); }
    /// The damage that the walk could not pass in silence so far, in the order of the walk.
    [[nodiscard]] std::vector<table::damaged_range> unread() const {
        auto out = unread_;
        if (all_ && !stopped_)
            for (auto const& d : all_->damage_met())
                if (!d.what.is_one_key()) out.push_back(d.what);
        return out;
    }
    [[nodiscard]] view_type const& view() const noexcept { return *of_; }

private:
    using damage_type = typename version_merge<Config>::damage_type;
    /// Where a version was found: the part, and how many damages had been met by then.
    struct found_in {
        std::size_t part = 0;
        std::uint64_t met = 0;
    };

    /// Backward, the newest version of a key comes last, so this reads all versions of the key.
    bool step_back() {
        while (all_->valid()) {
            key_.assign(all_->top().key);
            bool alive = false;
            found_in where{};
            bool any = false;
            for (; all_->valid() && keel::detail::same_text(all_->top().key, key_.view()); all_->advance()) {
                auto const& top = all_->top();
                if (top.at > snapshot_) continue;
                any = true;
                alive = !top.tombstone && !top.key.empty();
                where = {all_->part(), all_->met()};
                seen_.at = top.at;
                own_.assign(top.value);
            }
            seen_.key = key_.view();
            seen_.value = own_;
            if (any && all_->has_damage()) [[unlikely]] {
                alive = is_current(seen_, where) && alive;
                if (stopped_) return false;
            }
            if (alive && !trouble()) return true;
        }
        return at_end();
    }

    /// Whether `v` is the answer for its key in spite of the damage met. Precondition: `v` is the newest version of its key that was found
    /// and that the snapshot sees.
    [[nodiscard]] bool is_current(table::version const& v, found_in where) {
        of_->tell_damage();
        bool answers = true;
        std::erase_if(all_->damage(), [&](damage_type const& d) {
            if (stopped_) return false;
            if (is_passed(d.what, v.key)) return give_up(d.what);
            bool const is_between = (!d.what.from || v.key >= *d.what.from) && (!d.what.to || v.key < *d.what.to);
            if (!is_between) return false;
            bool const one = d.what.is_one_key();
            bool const hidden = all_->hides(d, v, where.part, where.met);
            if (one && !hidden) return true; // it holds only this key, and the key has its answer
            answers = answers && !hidden;
            return (one || !skips_) && give_up(d.what);
        });
        return answers;
    }
    /// Whether the walk, now at this key, is behind the damage.
    [[nodiscard]] bool is_passed(table::damaged_range const& what, std::string_view key) const noexcept {
        return way_ == direction::forward ? what.to && key.compare(*what.to) >= 0
                                          : what.from && key.compare(*what.from) < 0;
    }
    /// Reports the damage as unread: no later version can answer for its keys. Always true: the entry can be removed.
    bool give_up(table::damaged_range const& what) {
        unread_.push_back(what);
        if (!skips_) stopped_ = what.why;
        return true;
    }
    bool at_end() {
        if (all_->has_damage() && !all_->trouble())
            std::erase_if(all_->damage(), [&](damage_type const& d) { return !stopped_ && give_up(d.what); });
        of_->tell_damage();
        return false;
    }

    std::shared_ptr<view_type const> of_;
    lsn snapshot_;
    bool skips_;
    direction way_ = direction::forward;
    std::optional<version_merge<Config>> all_{};
    bool standing_on_ = false;                   ///< forward: all_ is still at the version given last
    table::version seen_{};                      ///< the version given last
    format::key_buffer key_{};                   ///< backward: a copy of its key, because all_ has moved on already
    std::string own_{};                          ///< backward: a copy of its value
    std::vector<table::damaged_range> unread_{}; ///< reported damage
    std::optional<error> stopped_{};             ///< the damage that ended the walk, if it does not skip
};

} // namespace keel::inline v0::detail

#endif
