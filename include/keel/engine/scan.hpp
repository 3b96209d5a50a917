// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SCAN_HPP
#define KEEL_ENGINE_SCAN_HPP

// Reading many keys in order: which ones (range, prefix), as of when (snapshot), and the loop over them:
//
//   auto all = db.scan();
//   for (auto&& [key, value] : all) ...
//   if (auto whole = all.status(); !whole) ...     the loop ended early: a key could not be read
//
// A loop cannot notice by itself that it ended early. So a scan that did, because of damage, and that is let go of without having been
// asked for its status() or its gaps(), tells the observer (observe::scan_unchecked), and is an assertion that fails in debug builds.

#include <keel/detail/assert.hpp>
#include <keel/engine/found_damage.hpp>
#include <keel/engine/merge.hpp>
#include <keel/engine/moments.hpp>
#include <keel/error.hpp>
#include <keel/io/process.hpp>
#include <keel/types.hpp>
#include <keel/wal/store_lifetime.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace keel::inline v0 {

/// Keys from `from` (included) to `to` (not included); without one, from the first or to the last. `reverse`: largest first.
struct range {
    std::optional<std::string> from{};
    std::optional<std::string> to{};
    bool reverse = false;
};

/// Keys that begin with `text`.
struct prefix {
    std::string text{};
    bool reverse = false;

    /// The same as a range: up to the first key that is larger than every key with this prefix.
    [[nodiscard]] range as_range() const {
        range r{.from = text, .to = text, .reverse = reverse};
        while (!r.to->empty() && static_cast<unsigned char>(r.to->back()) == 0xFF) r.to->pop_back();
        if (r.to->empty()) r.to.reset();
        else r.to->back() = static_cast<char>(static_cast<unsigned char>(r.to->back()) + 1);
        return r;
    }
};

/// What a scan does where keys cannot be read.
enum class on_damage : std::uint8_t {
    stop, ///< ends there: it gave all keys up to that place, and status() says why there are no more
    skip, ///< goes on behind it; gaps() says which keys may be missing
};
[[nodiscard]] constexpr std::string_view name_of(on_damage what) noexcept {
    return what == on_damage::stop ? "stop" : "skip";
}

/// Keys that a scan could not give. Every key that is missing from a scan which skips lies in one of its gaps. A key of a gap that the scan
/// gave all the same has the right value: something newer than the damage was found. Of the others nobody knows whether they are there:
/// an older version of them is never given for the current one, and get() answers with the same error.
struct key_gap {
    std::optional<std::string> from{}; ///< the first key that may be missing (included); none: the first of all
    std::optional<std::string> to{};   ///< the first one behind the gap (not included); none: it goes to the end
    std::string file{};                ///< what could not be read,
    std::uint64_t offset = 0;          ///< where in it,
    error why{};                       ///< and why

    [[nodiscard]] bool contains(std::string_view key) const noexcept {
        return (!from || key >= *from) && (!to || key < *to);
    }
};

namespace detail {

/// That a scan ended early because of damage, until somebody asks.
class unasked_damage {
public:
    unasked_damage() = default;
    unasked_damage(unasked_damage&& other) noexcept
        : to_{std::move(other.to_)}, why_{std::exchange(other.why_, std::nullopt)} {}
    unasked_damage& operator=(unasked_damage&& other) noexcept {
        forget();
        to_ = std::move(other.to_);
        why_ = std::exchange(other.why_, std::nullopt);
        return *this;
    }
    ~unasked_damage() { forget(); }

    void ended(std::shared_ptr<found_damage> to, error why) {
        to_ = std::move(to);
        why_ = std::move(why);
    }
    void asked() noexcept { why_.reset(); }
    /// Nobody can ask any more.
    void forget() noexcept {
        auto const why = std::exchange(why_, std::nullopt);
        if (!why) return;
        try {
            if (to_) to_->scan_unchecked(*why);
        } catch (...) { // no memory to tell with
        }
        // A scan ended early because of damage, and was let go of without a look at its status(): ask behind the loop.
        bool const nobody_asked_its_status = std::uncaught_exceptions() == 0;
        KEEL_ASSERT(!nobody_asked_its_status);
        static_cast<void>(nobody_asked_its_status);
    }

private:
    std::shared_ptr<found_damage> to_{};
    std::optional<error> why_{};
};

/// {from} or {from, to}; none: all keys. Errors: invalid_argument, where there are more.
[[nodiscard]] inline result<range> range_between(std::initializer_list<slice> from_to) {
    if (from_to.size() > 2)
        return failure(errc::invalid_argument,
                       "a scan has two bounds at most, {from, to}; use multi_get() for several keys");
    range out;
    if (from_to.size() > 0) out.from = std::string{from_to.begin()->text()};
    if (from_to.size() > 1) out.to = std::string{from_to.begin()[1].text()};
    return out;
}

/// What a walk over a range has before it when it stands in front of `key`, or on it.
[[nodiscard]] inline range rest_of(range which, std::string_view key) {
    if (which.reverse) {
        std::string behind{key};
        behind += '\0'; // the next key there can be
        if (!which.to || behind < *which.to) which.to = std::move(behind);
    } else if (!which.from || *which.from < key) {
        which.from = key;
    }
    return which;
}

} // namespace detail

namespace detail {
[[nodiscard]] inline error of_another_store() {
    return {.code = errc::invalid_argument,
            .message = "the snapshot was taken from another store, or from an earlier opening of this one"};
}
} // namespace detail

/// A moment of a store's history: reads through it never change. Small; copies share the moment. Outlives nothing: using it with
/// another store, or with a later opening of the same one, is invalid_argument. While it lives the store keeps the versions it sees.
class snapshot {
public:
    explicit snapshot(std::shared_ptr<detail::moments::hold const> held) noexcept : held_{std::move(held)} {}

    /// 0: it was taken from a store that was closed.
    [[nodiscard]] lsn at() const noexcept { return *held_ ? held_->at() : lsn{}; }
    [[nodiscard]] bool belongs_to(detail::moments const& of) const noexcept { return *held_ && held_->of() == &of; }

private:
    io::process_bound<std::shared_ptr<detail::moments::hold const>> held_;
};

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
template <class Config, class Row = key_and_value>
class basic_scan {
public:
    using iterator = scan_iterator<basic_scan>;
    using value_type = Row;

    basic_scan(std::shared_ptr<detail::level_view<Config> const> of, lsn snapshot, range which,
               std::shared_ptr<wal::store_lifetime const> lifetime, on_damage how = on_damage::stop)
        : which_{std::move(which)}, at_{detail::merge_cursor<Config>{std::move(of), snapshot, how == on_damage::skip}},
          lifetime_{std::move(lifetime)} {}
    /// One that has no keys, because of `why`, or of a store that may not be used. `lifetime`: nothing, or of that store.
    explicit basic_scan(std::shared_ptr<wal::store_lifetime const> lifetime, std::optional<error> why = {})
        : basic_scan{nullptr, {}, {}, std::move(lifetime)} {
        refused_ = std::move(why);
        closed_ = true;
    }

    [[nodiscard]] iterator begin() { return start(which_); }
    /// At the first key that is not in front of `key` in the direction of the scan, within its range.
    [[nodiscard]] iterator seek(slice key) { return start(detail::rest_of(which_, key.text())); }
    [[nodiscard]] static std::default_sentinel_t end() noexcept { return {}; }

    /// Whether it went to its end: look at it behind the loop. With on_damage::stop that means that all keys were seen that there are. Errors:
    /// corruption, closed, and the machine's.
    [[nodiscard]] result<void> status() const {
        unasked_->asked();
        if (refused_) return failure(*refused_);
        if (closed_ || !is_here()) return wal::why_closed(lifetime_.get());
        if (at_->trouble()) return failure(*at_->trouble());
        return {};
    }
    /// What could not be read on the way, in the order of the scan; nothing: no key is missing. With on_damage::stop it has where the
    /// scan ended. Gaps may touch.
    [[nodiscard]] std::vector<key_gap> gaps() const {
        unasked_->asked();
        std::vector<key_gap> out;
        if (!is_here()) return out;
        for (auto& u : at_->unread()) {
            auto file = u.why.file;
            auto const offset = u.why.offset;
            out.push_back({std::move(u.from), std::move(u.to), std::move(file), offset, std::move(u.why)});
        }
        return out;
    }

private:
    friend iterator;
    template <class>
    friend class transaction_scan;
    [[nodiscard]] bool valid() const noexcept { return valid_; }
    [[nodiscard]] bool ended_early() const noexcept { return closed_ || at_->trouble().has_value(); }
    [[nodiscard]] value_type current() const noexcept {
        if constexpr (std::is_same_v<Row, key_and_value>) return {at_->key(), at_->value()};
        else return at_->key();
    }
    [[nodiscard]] iterator start(range const& part) {
        unasked_->forget();
        if (may_go_on())
            valid_ = at_->start(part.reverse ? detail::direction::backward : detail::direction::forward, part.from,
                                part.to);
        check();
        return iterator{this};
    }
    void advance() {
        if (may_go_on()) valid_ = at_->step();
        check();
    }
    [[nodiscard]] bool is_here() const noexcept { return lifetime_ && lifetime_->is_here(); }
    [[nodiscard]] bool may_go_on() noexcept {
        if (!closed_ && lifetime_ && lifetime_->is_open()) [[likely]]
            return true;
        closed_ = true;
        return valid_ = false;
    }
    void check() {
        // Trouble met while the store was closed may be another process's work on the files.
        if (!valid_ && !closed_ && at_->trouble()) closed_ = !lifetime_->is_open();
        if (!valid_) {
            if (!closed_ && at_->stopped_at_damage()) unasked_->ended(at_->view().damage, *at_->trouble());
            return;
        }
        auto const key = at_->key();
        if (which_.reverse ? which_.from && key < *which_.from : which_.to && key >= *which_.to) valid_ = false;
    }

    range which_;
    io::process_bound<detail::merge_cursor<Config>> at_;
    std::shared_ptr<wal::store_lifetime const> lifetime_; ///< nothing: of an object that was moved from
    bool valid_ = false;
    bool closed_ = false;            ///< it ended because the store was closed, or never began
    std::optional<error> refused_{}; ///< why it never began
    mutable io::process_bound<detail::unasked_damage> unasked_{};
};

} // namespace keel::inline v0

#endif
