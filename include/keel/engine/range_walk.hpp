// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_RANGE_WALK_HPP
#define KEEL_ENGINE_RANGE_WALK_HPP

// The walk behind a scan. It ends when the store is closed. It also finds callers that overlook damage: a loop ends the same way at damage
// and after the last key. If a walk ended early because of damage, and the caller asked neither status() nor gaps() before the walk is
// destroyed or restarted, the observer gets observe::scan_unchecked, and in debug builds an assertion fails.

#include <keel/detail/assert.hpp>
#include <keel/engine/found_damage.hpp>
#include <keel/engine/merge.hpp>
#include <keel/engine/range.hpp>
#include <keel/error.hpp>
#include <keel/io/process.hpp>
#include <keel/types.hpp>
#include <keel/wal/store_lifetime.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// The fact that a scan ended early because of damage, until its caller asks for it.
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
    /// The caller can no longer ask: reports the damage, if it was never asked for.
    void forget() noexcept {
        auto const why = std::exchange(why_, std::nullopt);
        if (!why) return;
        try {
            if (to_) to_->scan_unchecked(*why);
        } catch (...) { // no memory for the report
        }
        // A scan ended early because of damage, and its caller did not check status() after the loop. An exception that passes is an
        // excuse.
        bool const nobody_asked_its_status = std::uncaught_exceptions() == 0;
        KEEL_ASSERT(!nobody_asked_its_status);
        static_cast<void>(nobody_asked_its_status);
    }

private:
    std::shared_ptr<found_damage> to_{};
    std::optional<error> why_{};
};

/// A walk over the keys of a range as one snapshot sees them; a scan is built on it (engine/scan.hpp). It keeps its data alive. One thread
/// per object.
template <class Config>
class range_walk {
public:
    range_walk(std::shared_ptr<store_version<Config> const> of, lsn snapshot, range which,
               std::shared_ptr<wal::store_lifetime const> lifetime, on_damage how = on_damage::stop)
        : which_{std::move(which)}, at_{merge_cursor<Config>{std::move(of), snapshot, how == on_damage::skip}},
          lifetime_{std::move(lifetime)} {}
    /// A walk without keys, because of `why`, or because the store may not be used. `lifetime`: that of the store, or null.
    explicit range_walk(std::shared_ptr<wal::store_lifetime const> lifetime, std::optional<error> why = {})
        : range_walk{nullptr, {}, {}, std::move(lifetime)} {
        refused_ = std::move(why);
        closed_ = true;
    }

    /// Moves to the first key of the range.
    void start() { start(which_); }
    /// Moves to `key`, or to the first key behind it in the direction of the walk, within the range.
    void seek(std::string_view key) { start(rest_of(which_, key)); }
    [[gnu::always_inline]] void advance() {
        if (may_go_on()) valid_ = at_->step();
        check();
    }
    [[nodiscard]] bool valid() const noexcept { return valid_; }
    [[nodiscard]] std::string_view const& key() const noexcept { return at_->key(); }
    [[nodiscard]] std::string_view const& value() const noexcept { return at_->value(); }
    [[nodiscard]] bool ended_early() const noexcept { return closed_ || at_->trouble().has_value(); }

    /// Whether the walk reached its end: check it after the loop. With on_damage::stop, success means that no key is missing. Errors:
    /// corruption, closed, and those of the file system.
    [[nodiscard]] result<void> status() const {
        unasked_->asked();
        if (refused_) return failure(*refused_);
        if (closed_ || !is_here()) return wal::why_closed(lifetime_.get());
        if (at_->trouble()) return failure(*at_->trouble());
        return {};
    }
    /// The ranges of keys that could not be read, in the order of the scan; empty: no key is missing. With on_damage::stop it has the
    /// range at which the scan ended. Gaps may touch.
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
    void start(range const& part) {
        unasked_->forget();
        if (may_go_on())
            valid_ = at_->start(part.reverse ? direction::backward : direction::forward, part.from, part.to);
        check();
    }
    [[nodiscard]] bool is_here() const noexcept { return lifetime_ && lifetime_->is_here(); }
    [[nodiscard, gnu::always_inline]] bool may_go_on() noexcept {
        if (!closed_ && lifetime_ && lifetime_->is_open()) [[likely]]
            return true;
        closed_ = true;
        return valid_ = false;
    }
    [[gnu::always_inline]] void check() {
        // Once the store is closed, another process may change the files. So an error met after that is `closed`, not damage.
        if (!valid_ && !closed_ && at_->trouble()) closed_ = !lifetime_->is_open();
        if (!valid_) {
            if (!closed_ && at_->stopped_at_damage()) unasked_->ended(at_->view().damage, *at_->trouble());
            return;
        }
        auto const key = at_->key();
        if (which_.reverse ? which_.from && key < *which_.from : which_.to && key >= *which_.to) valid_ = false;
    }

    range which_;
    io::process_bound<merge_cursor<Config>> at_;
    std::shared_ptr<wal::store_lifetime const> lifetime_; ///< null: of an object that was moved from
    bool valid_ = false;
    bool closed_ = false;            ///< the walk ended because the store was closed, or it never began
    std::optional<error> refused_{}; ///< why it never began
    mutable io::process_bound<unasked_damage> unasked_{};
};

} // namespace keel::inline v0::detail

#endif
