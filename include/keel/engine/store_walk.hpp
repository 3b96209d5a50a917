// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_STORE_WALK_HPP
#define KEEL_ENGINE_STORE_WALK_HPP

// The walk of every scan: the store as of one LSN, and for a transaction also its own writes, which hide the store's.

#include <keel/engine/range_walk.hpp>
#include <keel/types.hpp>

#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// The writes of a transaction: key and value; no value: the key is erased.
using own_writes = std::map<std::string, std::optional<std::string>, std::less<>>;

[[nodiscard]] inline bool lies_in(range const& which, std::string_view key) noexcept {
    return (!which.from || key >= *which.from) && (!which.to || key < *which.to);
}

/// One pass, one thread. Keys and values are valid until it moves on. In a transaction, the transaction's writes must outlive the walk, and
/// keys and values are valid only until the transaction writes.
template <class Config>
class store_walk {
public:
    explicit store_walk(range_walk<Config> base) : base_{std::move(base)} {}
    store_walk(range_walk<Config> base, own_writes const& own, range which)
        : base_{std::move(base)}, own_{&own}, which_{std::move(which)} {}

    void start() {
        if (own_ != nullptr) place(which_);
        base_.start();
        if (own_ != nullptr) settle();
    }
    void seek(std::string_view key) {
        if (own_ != nullptr) place(rest_of(which_, key));
        base_.seek(key);
        if (own_ != nullptr) settle();
    }
    [[gnu::always_inline]] void step() {
        if (own_ == nullptr) return base_.advance();
        if (from_own_) pass_own();
        else base_.advance();
        settle();
    }
    [[nodiscard]] bool valid() const noexcept { return own_ == nullptr ? base_.valid() : valid_; }
    /// Both references are valid until the next step.
    [[nodiscard]] std::string_view const& key() const noexcept { return from_own_ ? own_key_ : base_.key(); }
    [[nodiscard]] std::string_view const& value() const noexcept { return from_own_ ? own_value_ : base_.value(); }
    [[nodiscard]] result<void> status() const { return base_.status(); }
    /// The transaction's own writes are never missing.
    [[nodiscard]] std::vector<key_gap> gaps() const { return base_.gaps(); }

private:
    void place(range const& part) {
        first_ = part.from ? own_->lower_bound(*part.from) : own_->begin();
        last_ = part.to ? own_->lower_bound(*part.to) : own_->end();
        if (part.from && part.to && *part.to < *part.from) last_ = first_;
    }
    [[nodiscard]] own_writes::const_iterator own() const noexcept { return which_.reverse ? std::prev(last_) : first_; }
    void pass_own() noexcept {
        if (which_.reverse) --last_;
        else ++first_;
    }
    /// Chooses the next key of store and own writes. If both have the key, the transaction's own write counts.
    void settle() {
        for (;;) {
            bool const has_base = base_.valid();
            bool const has_own = first_ != last_;
            // If the store's walk ended in an error, its next key is unknown. So the scan ends there, too.
            valid_ = (has_base || has_own) && !base_.ended_early();
            from_own_ = false;
            if (!valid_) return;
            from_own_ = has_own && (!has_base || !comes_first(base_.key(), own()->first));
            if (!from_own_) return;
            if (has_base && base_.key() == own()->first) base_.advance();
            if (own()->second) {
                own_key_ = own()->first;
                own_value_ = *own()->second;
                return;
            }
            pass_own();
        }
    }
    [[nodiscard]] bool comes_first(std::string_view a, std::string_view b) const noexcept {
        return which_.reverse ? a > b : a < b;
    }

    range_walk<Config> base_;
    own_writes const* own_ = nullptr; ///< null: a walk outside of transactions
    range which_{};
    own_writes::const_iterator first_{}; // the own writes that are not passed yet: [first_, last_)
    own_writes::const_iterator last_{};
    std::string_view own_key_{}; // the current key, if it is from an own write
    std::string_view own_value_{};
    bool valid_ = false;
    bool from_own_ = false;
};

} // namespace keel::inline v0::detail

#endif
