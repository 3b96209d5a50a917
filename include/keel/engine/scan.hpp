// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SCAN_HPP
#define KEEL_ENGINE_SCAN_HPP

// Reading many keys in order: which ones (range, prefix), as of when (snapshot), and the loop over them.

#include <keel/table/memtable.hpp>
#include <keel/types.hpp>

#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

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

/// A moment of a store's history: reads through it never change. Small; copies share the moment. Outlives nothing: using it with
/// another store, or with a later opening of the same one, is invalid_argument.
class snapshot {
public:
    [[nodiscard]] lsn at() const noexcept { return at_; }

    snapshot(lsn at, std::shared_ptr<void const> store) noexcept : at_{at}, store_{std::move(store)} {}
    [[nodiscard]] bool belongs_to(void const* store) const noexcept { return store_.get() == store; }

private:
    lsn at_;
    std::shared_ptr<void const> store_; // keeps the data it speaks of
};

/// What a scan gives: `for (auto&& [key, value] : db->scan(...))`. Views are valid until the iterator moves on; the scan keeps
/// its data alive, also beyond close(). One pass, one thread.
class key_scan {
public:
    using value_type = std::pair<std::string_view, std::string_view>;

    key_scan(std::shared_ptr<table::memtable const> of, lsn snapshot, range which)
        : of_{std::move(of)}, which_{std::move(which)}, cursor_{*of_, snapshot} {}

    class iterator {
    public:
        using iterator_concept = std::input_iterator_tag;
        using value_type = key_scan::value_type;
        using difference_type = std::ptrdiff_t;

        iterator() = default;
        explicit iterator(key_scan* of) noexcept : of_{of} {}
        [[nodiscard]] value_type operator*() const noexcept {
            return {of_->cursor_.current().key, of_->cursor_.current().value};
        }
        iterator& operator++() noexcept {
            of_->advance();
            return *this;
        }
        void operator++(int) noexcept { ++*this; }
        [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept { return of_ == nullptr || !of_->valid_; }

    private:
        key_scan* of_ = nullptr;
    };

    [[nodiscard]] iterator begin() noexcept {
        start();
        return iterator{this};
    }
    [[nodiscard]] static std::default_sentinel_t end() noexcept { return {}; }

private:
    void start() noexcept {
        if (which_.reverse) valid_ = which_.to ? cursor_.seek_before(*which_.to) : cursor_.seek_last();
        else valid_ = cursor_.seek(which_.from ? std::string_view{*which_.from} : std::string_view{});
        check();
    }
    void advance() noexcept {
        valid_ = which_.reverse ? cursor_.previous() : cursor_.next();
        check();
    }
    void check() noexcept {
        if (!valid_) return;
        auto const key = cursor_.current().key;
        if (which_.reverse ? which_.from && key < *which_.from : which_.to && key >= *which_.to) valid_ = false;
    }

    std::shared_ptr<table::memtable const> of_;
    range which_;
    table::memtable::cursor cursor_;
    bool valid_ = false;
};

} // namespace keel::inline v0

#endif
