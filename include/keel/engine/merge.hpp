// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_MERGE_HPP
#define KEEL_ENGINE_MERGE_HPP

// Many sorted parts walked as one, in either direction: every version there is (version_merge), or each key once with the version a
// snapshot sees (merge_cursor). A heap holds the parts by where they stand, so a step costs the logarithm of their number.

#include <keel/detail/short_text.hpp>
#include <keel/engine/levels.hpp>
#include <keel/error.hpp>
#include <keel/format/block.hpp>
#include <keel/table/entry.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace keel::inline v0::detail {

enum class direction : std::uint8_t { forward, backward };

/// Walks the tables of one level, which follow each other by key: one at a time is open.
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
        // The last one that may begin in front of it; where it does not, the one before has the key.
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
        if (at_->valid() || at_->trouble()) return;
        ++i_;
        place(1, [](auto& at) { at.seek({}); });
    }
    /// On to the first version of another key: all of one are in one table.
    void pass() {
        at_->pass();
        if (at_->valid() || at_->trouble()) return;
        ++i_;
        place(1, [](auto& at) { at.seek({}); });
    }
    void previous() {
        at_->previous();
        if (at_->valid() || at_->trouble()) return;
        --i_;
        place(-1, [](auto& at) { at.seek_last(); });
    }

    [[nodiscard]] bool valid() const noexcept { return at_ && at_->valid(); }
    [[nodiscard]] table::version current() const noexcept { return at_->current(); }
    [[nodiscard]] std::optional<error> const& trouble() const noexcept {
        static std::optional<error> const none{};
        return at_ ? at_->trouble() : none;
    }

private:
    /// In the table it is at, or the next one in this direction that has such a key: bounds that were cut short promise too much.
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

/// Every version of every key in some parts of a store: by key, of one key the newest first; or the other way round. One thread's.
/// What is walked must outlive it. The same version may stand in two parts: then it comes twice.
template <class Config>
class version_merge {
public:
    using view_type = level_view<Config>;
    using run = typename view_type::run;
    using table_type = typename view_type::table_type;

    explicit version_merge(direction way) noexcept : way_{way} {}

    /// From the first key not less than `from` on (forward), or from the last key less than `to`, or the last of all, back.
    void add(table::memtable const& part, std::optional<std::string> const& from,
             std::optional<std::string> const& to) {
        enter(memory_part{part}, from, to);
    }
    void add(std::shared_ptr<run const> part, std::optional<std::string> const& from,
             std::optional<std::string> const& to) {
        enter(run_part{std::move(part)}, from, to);
    }
    void add(std::vector<std::shared_ptr<table_type const>> const& level, std::optional<std::string> const& from,
             std::optional<std::string> const& to) {
        if (!level.empty()) enter(level_part{level}, from, to);
    }
    /// One that shares keys with others, as tables of level 0 do.
    void add(std::shared_ptr<table_type const> const& table, std::optional<std::string> const& from,
             std::optional<std::string> const& to) {
        auto const& t = table->entry();
        if ((to && t.smallest >= *to) || (from && t.ends_before(*from))) return;
        enter(table_part{table}, from, to);
    }
    /// All levels. Below the first one, the tables of a level share no key.
    template <class Levels>
    void add_levels(Levels const& levels, std::optional<std::string> const& from,
                    std::optional<std::string> const& to) {
        for (auto const& t : levels.front()) add(t, from, to);
        for (std::size_t n = 1; n < levels.size(); ++n) add(levels[n], from, to);
    }
    /// Behind the last add().
    void begin() {
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            standing now{.what = {}, .part = i};
            if (std::visit([&](auto const& p) { return look(p, now.what); }, parts_[i])) heap_.push_back(now);
        }
        std::ranges::make_heap(heap_, later());
    }

    [[nodiscard]] bool valid() const noexcept { return !heap_.empty() && !trouble_; }
    /// Valid until advance().
    [[nodiscard]] table::version const& top() const noexcept { return heap_.front().what; }
    void advance() {
        auto& first = heap_.front();
        auto const step = [&](auto& p) {
            way_ == direction::forward ? p.next() : p.previous();
            return look(p, first.what);
        };
        if (!std::visit(step, parts_[first.part])) {
            first = heap_.back();
            heap_.pop_back();
        }
        sift_down();
    }
    /// Forward to the next version that is of another key than top().
    void pass() {
        if (heap_.size() == 1) { // as long as it is in one part, nothing is to be put in order
            auto& only = heap_.front();
            auto const step = [&](auto& p) {
                if constexpr (requires { p.pass(); }) p.pass();
                else pass_in(p);
                return look(p, only.what);
            };
            if (!std::visit(step, parts_[only.part])) heap_.clear();
            return;
        }
        passed_.assign(top().key);
        do advance();
        while (valid() && keel::detail::same_text(top().key, passed_.view()));
    }
    [[nodiscard]] std::optional<error> const& trouble() const noexcept { return trouble_; }

private:
    using memory_part = table::memtable::cursor;
    using run_part = typename run::cursor;
    using table_part = typename table_type::cursor;
    using level_part = level_cursor<table_type>;
    using any_part = std::variant<memory_part, run_part, table_part, level_part>;
    struct standing {
        table::version what;
        std::size_t part;
    };

    template <class Part>
    void enter(Part p, std::optional<std::string> const& from, std::optional<std::string> const& to) {
        if (way_ == direction::forward) p.seek(from ? std::string_view{*from} : std::string_view{});
        else if (to) p.seek_before(*to);
        else p.seek_last();
        parts_.emplace_back(std::move(p));
    }
    template <class Part>
    void pass_in(Part& p) {
        passed_.assign(top().key);
        do p.next();
        while (p.valid() && keel::detail::same_text(p.current().key, passed_.view()));
    }
    /// Where a part stands now; false at its end, or where it is in trouble.
    template <class Part>
    [[nodiscard]] bool look(Part const& p, table::version& into) {
        if (p.valid()) [[likely]] {
            into = p.current();
            return true;
        }
        if constexpr (requires { p.trouble(); })
            if (p.trouble()) trouble_ = p.trouble();
        return false;
    }
    /// Heap order: what comes last in the walk is the least.
    [[nodiscard]] auto later() const noexcept {
        return [way = way_](standing const& a, standing const& b) {
            auto const order = a.what.key.compare(b.what.key);
            if (way == direction::forward) return order != 0 ? order > 0 : a.what.at < b.what.at;
            return order != 0 ? order < 0 : a.what.at > b.what.at;
        };
    }
    /// The first one may have become later than those below it.
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
    std::vector<any_part> parts_{};
    std::vector<standing> heap_{};
    format::key_buffer passed_{};
    std::optional<error> trouble_{};
};

/// One thread's. Keeps the view alive. The views it gives are valid until the next step.
template <class Config>
class merge_cursor {
public:
    using view_type = level_view<Config>;

    merge_cursor(std::shared_ptr<view_type const> of, lsn snapshot) : of_{std::move(of)}, snapshot_{snapshot} {}

    /// The first key not less than `from` (forward); the last key less than `to`, or the last of all (backward).
    bool start(direction way, std::optional<std::string> const& from, std::optional<std::string> const& to) {
        way_ = way;
        standing_on_ = false;
        all_.emplace(way);
        for (auto const& m : of_->memory) all_->add(*m, from, to);
        for (auto const& r : of_->runs) all_->add(r, from, to);
        all_->add_levels(of_->tables, from, to);
        all_->begin();
        return step();
    }
    /// On to the next key that has a value; false where there is none, or after an error.
    bool step() {
        if (way_ == direction::backward) return step_back();
        if (std::exchange(standing_on_, false)) all_->pass();
        while (all_->valid()) {
            auto const& top = all_->top();
            if (top.at > snapshot_) { // too new; the next version of this key may be seen
                all_->advance();
                continue;
            }
            if (!top.tombstone && !top.key.empty()) { // no key is empty, whoever wrote it
                seen_ = top;
                return standing_on_ = true;
            }
            all_->pass();
        }
        return false;
    }

    [[nodiscard]] std::string_view key() const noexcept { return seen_.key; }
    [[nodiscard]] std::string_view value() const noexcept { return seen_.value; }
    /// The version's LSN.
    [[nodiscard]] lsn at() const noexcept { return seen_.at; }
    [[nodiscard]] std::optional<error> const& trouble() const noexcept {
        static std::optional<error> const none{};
        return all_ ? all_->trouble() : none;
    }

private:
    /// The newest version that is seen comes last of its key.
    bool step_back() {
        while (all_->valid()) {
            key_.assign(all_->top().key);
            bool alive = false;
            for (; all_->valid() && keel::detail::same_text(all_->top().key, key_.view()); all_->advance()) {
                auto const& top = all_->top();
                if (top.at > snapshot_) continue;
                alive = !top.tombstone && !top.key.empty();
                seen_.at = top.at;
                own_.assign(top.value);
            }
            seen_.key = key_.view();
            seen_.value = own_;
            if (alive && !trouble()) return true;
        }
        return false;
    }

    std::shared_ptr<view_type const> of_;
    lsn snapshot_;
    direction way_ = direction::forward;
    std::optional<version_merge<Config>> all_{};
    bool standing_on_ = false; ///< the walk stands on the version that was given last
    table::version seen_{};    ///< given last
    format::key_buffer key_{}; ///< its key and value on the way back, where the walk is further on already
    std::string own_{};
};

} // namespace keel::inline v0::detail

#endif
