// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SCAN_HPP
#define KEEL_ENGINE_SCAN_HPP

// Reading many keys in order, and the loop over them:
//
//   auto all = db.scan();
//   for (auto&& [key, value] : all) ...
//   if (auto whole = all.status(); !whole) ...     the loop ended early: a key could not be read

#include <keel/engine/range.hpp>
#include <keel/error.hpp>
#include <keel/types.hpp>

#include <cstddef>
#include <iterator>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace keel::inline v0 {

namespace detail {

template <class Config>
struct walk_body;

/// What a scan walks with. Knows where what it stands on is, so that only a step is a call.
template <class Config>
class walk {
public:
    using handle = std::unique_ptr<walk_body<Config>, void (*)(walk_body<Config>*)>;
    explicit walk(handle of) noexcept : body_{std::move(of)} {}

    void start();
    void seek(slice key);
    void step();
    [[nodiscard]] bool valid() const noexcept { return valid_; }
    [[nodiscard]] std::string_view key() const noexcept { return *key_; }
    [[nodiscard]] std::string_view value() const noexcept { return *value_; }
    [[nodiscard]] result<void> status() const;
    [[nodiscard]] std::vector<key_gap> gaps() const;

private:
    void look() noexcept;

    handle body_; ///< nothing: moved from
    std::string_view const* key_ =
        nullptr; ///< in the body: a copy of what was just written there would have to wait for it
    std::string_view const* value_ = nullptr;
    bool valid_ = false;
};

} // namespace detail

/// The iterator of every scan: single pass, in step with its scan, which must outlive it and stay where it is.
template <class Scan>
class scan_iterator {
public:
    using iterator_concept = std::input_iterator_tag;
    using value_type = typename Scan::value_type;
    using difference_type = std::ptrdiff_t;

    scan_iterator() = default;
    explicit scan_iterator(Scan* of) noexcept : of_{of} {}
    /// Key and value, or the key alone; the views are valid until the iterator moves on.
    [[nodiscard]] value_type operator*() const noexcept { return of_->current(); }
    scan_iterator& operator++() {
        of_->advance();
        return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return of_ == nullptr || !of_->valid(); }

private:
    Scan* of_ = nullptr;
};

/// Each key of a scan with its value.
using key_and_value = std::pair<std::string_view, std::string_view>;

/// What a scan gives: `for (auto&& [key, value] : scan)`; of db->keys(...), `for (auto key : scan)`. The scan keeps its data alive. One
/// pass, one thread; begin() and seek() start it anew, and iterators of before go along. Where a record does not verify or cannot be read
/// it ends early, or goes on behind it, as on_damage says: status() and gaps() tell. At the next step after the store was closed it ends,
/// because from then on another process may write over the files or remove them: status() says so, too. What an iterator gave before
/// stays valid until it moves on.
/// `Walk` is what it walks with (detail::walk).
template <class Walk, class Row = key_and_value>
class basic_scan {
public:
    using iterator = scan_iterator<basic_scan>;
    using value_type = Row;

    explicit basic_scan(Walk walk) noexcept : walk_{std::move(walk)} {}

    [[nodiscard]] iterator begin() {
        walk_.start();
        return iterator{this};
    }
    /// At the first key that is not in front of `key` in the direction of the scan, within its range.
    [[nodiscard]] iterator seek(slice key) {
        walk_.seek(key);
        return iterator{this};
    }
    [[nodiscard]] static std::default_sentinel_t end() noexcept { return {}; }

    /// Whether it went to its end: look at it behind the loop. With on_damage::stop that means that all keys were seen that there are. Errors:
    /// corruption, closed, and the machine's.
    [[nodiscard]] result<void> status() const { return walk_.status(); }
    /// What could not be read on the way, in the order of the scan; nothing: no key is missing. With on_damage::stop it has where the
    /// scan ended. Gaps may touch.
    [[nodiscard]] std::vector<key_gap> gaps() const { return walk_.gaps(); }

private:
    friend iterator;
    [[nodiscard]] bool valid() const noexcept { return walk_.valid(); }
    [[nodiscard]] value_type current() const noexcept {
        if constexpr (std::is_same_v<Row, key_and_value>) return {walk_.key(), walk_.value()};
        else return walk_.key();
    }
    void advance() { walk_.step(); }

    Walk walk_;
};

} // namespace keel::inline v0

#endif
