// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_MERGE_HPP
#define KEEL_ENGINE_MERGE_HPP

// Many sorted parts walked as one: each key once, with the version a snapshot sees, in either direction. A heap holds the parts by
// where they stand, so a step costs the logarithm of their number.

#include <keel/engine/levels.hpp>
#include <keel/error.hpp>
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

/// One thread's. Keeps the view alive. The views current() gives are valid until the next step.
template <class Config>
class merge_cursor {
public:
    using view_type = level_view<Config>;

    merge_cursor(std::shared_ptr<view_type const> of, lsn snapshot) : of_{std::move(of)}, snapshot_{snapshot} {}

    /// The first key not less than `from` (forward); the last key less than `to`, or the last of all (backward).
    bool start(direction way, std::optional<std::string> const& from, std::optional<std::string> const& to) {
        way_ = way;
        trouble_.reset();
        parts_.clear();
        heap_.clear();
        for (auto const& m : of_->memory) parts_.emplace_back(std::in_place_type<memory_part>, *m);
        for (auto const& r : of_->runs) parts_.emplace_back(std::in_place_type<run_part>, r);
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            std::visit(
                [&](auto& p) {
                    if (way == direction::forward) p.seek(from ? std::string_view{*from} : std::string_view{});
                    else if (to) p.seek_before(*to);
                    else p.seek_last();
                },
                parts_[i]);
            enter(i);
        }
        return step();
    }
    /// On to the next key that has a value; false where there is none, or after an error.
    bool step() {
        while (!heap_.empty() && !trouble_)
            if (take_key() && !trouble_) return true;
        return false;
    }

    [[nodiscard]] std::string_view key() const noexcept { return key_; }
    [[nodiscard]] std::string_view value() const noexcept { return value_; }
    /// The version's LSN.
    [[nodiscard]] lsn at() const noexcept { return at_; }
    [[nodiscard]] std::optional<error> const& trouble() const noexcept { return trouble_; }

private:
    using memory_part = table::memtable::cursor;
    using run_part = typename view_type::run::cursor;
    using part = std::variant<memory_part, run_part>;
    struct standing {
        table::version what;
        std::size_t part;
    };

    /// Puts a part where it stands now into the heap.
    void enter(std::size_t i) {
        if (auto const* m = std::get_if<memory_part>(&parts_[i])) {
            if (m->valid()) push({m->current(), i});
        } else {
            auto const& r = std::get<run_part>(parts_[i]);
            if (r.valid()) push({r.current(), i});
            else if (r.trouble()) trouble_ = r.trouble();
        }
    }
    void push(standing s) {
        heap_.push_back(s);
        std::ranges::push_heap(heap_, later());
    }
    /// Heap order: what comes last in the walk is the least.
    [[nodiscard]] auto later() const noexcept {
        return [way = way_](standing const& a, standing const& b) {
            auto const order = a.what.key.compare(b.what.key);
            if (way == direction::forward) return order != 0 ? order > 0 : a.what.at < b.what.at;
            return order != 0 ? order < 0 : a.what.at > b.what.at;
        };
    }

    /// Passes all versions of the key that comes next; true where the snapshot sees a value. The newest at or below the snapshot is
    /// the first of them going forward, the last going backward.
    bool take_key() {
        key_.assign(heap_.front().what.key);
        bool seen = false;
        bool alive = false;
        while (!heap_.empty() && heap_.front().what.key == key_ && !trouble_) {
            std::ranges::pop_heap(heap_, later());
            auto const top = heap_.back();
            heap_.pop_back();
            if (top.what.at <= snapshot_ && (way_ == direction::backward || !seen)) {
                seen = true;
                alive = !top.what.tombstone;
                at_ = top.what.at;
                value_.assign(top.what.value);
            }
            std::visit([&](auto& p) { way_ == direction::forward ? p.next() : p.previous(); }, parts_[top.part]);
            enter(top.part);
        }
        return alive;
    }

    std::shared_ptr<view_type const> of_;
    lsn snapshot_;
    direction way_ = direction::forward;
    std::vector<part> parts_{};
    std::vector<standing> heap_{};
    std::string key_{};
    std::string value_{};
    lsn at_{};
    std::optional<error> trouble_{};
};

} // namespace keel::inline v0::detail

#endif
