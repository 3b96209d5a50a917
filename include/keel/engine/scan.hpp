// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SCAN_HPP
#define KEEL_ENGINE_SCAN_HPP

// Scans: reading many keys in order, in a loop.
//
//   auto all = db.scan();
//   for (auto&& [key, value] : all) ...
//   if (auto whole = all.status(); !whole) ...     the loop ended early, for instance because a key could not be read

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

/// The position of a scan. It keeps pointers to the current key and value, so reading them needs no call; only a step is a call.
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

    handle body_; ///< null: moved from
    /// Pointers into the body, because a copy of a view that was just written there would have to wait for that write.
    std::string_view const* key_ = nullptr;
    std::string_view const* value_ = nullptr;
    bool valid_ = false;
};

} // namespace detail

/// The iterator of every scan. Single pass. It shares the position of its scan. The scan must outlive it and must not be moved.
template <class Scan>
class scan_iterator {
public:
    /// A scan can be read once.
    using iterator_concept = std::input_iterator_tag;
    /// The element type of the scan.
    using value_type = typename Scan::value_type;
    /// As the standard library asks for; no distance is computed.
    using difference_type = std::ptrdiff_t;

    /// An iterator at the end.
    scan_iterator() = default;
    /// An iterator at the current key of the scan.
    explicit scan_iterator(Scan* of) noexcept : of_{of} {}
    /// Key and value, or the key alone. The views are valid until the iterator moves on.
    [[nodiscard]] value_type operator*() const noexcept { return of_->current(); }
    /// Moves the scan to the next key. Views that the iterator gave before are no longer valid.
    scan_iterator& operator++() {
        of_->advance();
        return *this;
    }
    /// As ++it.
    void operator++(int) { ++*this; }
    /// Whether there are no more keys.
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return of_ == nullptr || !of_->valid(); }

private:
    Scan* of_ = nullptr;
};

/// A key of a scan with its value.
using key_and_value = std::pair<std::string_view, std::string_view>;

/// A scan: `for (auto&& [key, value] : scan)`, or `for (auto key : scan)` for db->keys(...). It keeps its data alive. One pass, one thread.
/// begin() and seek() start it again, and older iterators then have the new position, too. If a record does not verify or cannot be read,
/// the scan ends early or goes on behind it, as on_damage says; status() and gaps() report it. After the store was closed, the scan ends at
/// its next step, because another process may then overwrite or remove the files; status() reports that, too. The views that an iterator
/// gave stay valid until it moves on. `Walk`: the type of its position (detail::walk).
template <class Walk, class Row = key_and_value>
class basic_scan {
public:
    /// The iterator of this scan.
    using iterator = scan_iterator<basic_scan>;
    /// Key and value, or the key alone.
    using value_type = Row;

    /// A scan over the keys of `walk`.
    explicit basic_scan(Walk walk) noexcept : walk_{std::move(walk)} {}

    /// At the first key. Starts the scan again if it was started before.
    [[nodiscard]] iterator begin() {
        walk_.start();
        return iterator{this};
    }
    /// Moves to `key`, or to the first key behind it in the direction of the scan, within the range.
    [[nodiscard]] iterator seek(slice key) {
        walk_.seek(key);
        return iterator{this};
    }
    /// The end of every scan.
    [[nodiscard]] static std::default_sentinel_t end() noexcept { return {}; }

    /// Whether the scan reached its end: check it after the loop. With on_damage::stop, success means that no key is missing. Errors:
    /// corruption, closed, invalid_argument (of the call that made the scan), and those of the file system.
    [[nodiscard]] result<void> status() const { return walk_.status(); }
    /// The ranges of keys that could not be read, in the order of the scan; empty: no key is missing. With on_damage::stop it has the
    /// range at which the scan ended. Gaps may touch.
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
