// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_FENCE_LIST_HPP
#define KEEL_TABLE_FENCE_LIST_HPP

// An index of a table in memory: the place of each block, by the largest key in the block. A search compares eight bytes of each key, taken
// behind the prefix that all keys share. These eight bytes lie together in memory. The full keys are compared only where the eight bytes
// are equal.

#include <keel/format/block.hpp>
#include <keel/format/index.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::table {

/// Built by one thread, then read by any number of threads.
class fence_list {
public:
    /// Adds the next block. A search needs keys that do not decrease: see in_order().
    void add(std::string_view largest, format::block_place where) {
        keys_.append(largest);
        fences_.push_back({where, static_cast<std::uint32_t>(keys_.size())});
    }
    /// Called once, after the last add() and before any search.
    void finish() {
        if (empty()) return;
        auto const first = key(0);
        auto const last = key(size() - 1);
        common_ = static_cast<std::size_t>(std::ranges::mismatch(first, last).in1 - first.begin());
        prefixes_.reserve(size());
        for (std::size_t i = 0; i < size(); ++i) prefixes_.push_back(format::key_prefix(key(i), common_));
    }

    [[nodiscard]] bool empty() const noexcept { return fences_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return fences_.size(); }
    [[nodiscard]] format::block_place where(std::size_t i) const noexcept { return fences_[i].where; }
    [[nodiscard]] std::string_view key(std::size_t i) const noexcept {
        auto const begin = i == 0 ? 0 : fences_[i - 1].key_end;
        return std::string_view{keys_}.substr(begin, fences_[i].key_end - begin);
    }
    /// Whether the keys do not decrease. Otherwise the list must not be searched.
    [[nodiscard]] bool in_order() const noexcept {
        for (std::size_t i = 1; i < size(); ++i)
            if (key(i) < key(i - 1)) return false;
        return true;
    }

    /// The first block whose offset is larger than `offset`; size() if there is none. The blocks of the list must be in file order.
    [[nodiscard]] std::size_t first_behind(std::uint32_t offset) const noexcept {
        auto const lies_behind = [offset](fence const& f) { return f.where.offset > offset; };
        return static_cast<std::size_t>(std::ranges::find_if(fences_, lies_behind) - fences_.begin());
    }

    /// The first block whose largest key is not less than `wanted`; size() if there is none.
    [[nodiscard]] std::size_t first_not_less(std::string_view wanted) const noexcept {
        if (empty()) return 0;
        auto const shared = key(0).substr(0, common_);
        if (auto const order = wanted.substr(0, common_).compare(shared); order != 0) return order < 0 ? 0 : size();
        auto const prefix = format::key_prefix(wanted, common_);
        auto const first = std::lower_bound(prefixes_.begin(), prefixes_.end(), prefix);
        auto low = static_cast<std::size_t>(first - prefixes_.begin());
        if (first == prefixes_.end() || *first != prefix) return low;
        auto high = static_cast<std::size_t>(std::upper_bound(first, prefixes_.end(), prefix) - prefixes_.begin());
        while (low < high) {
            auto const middle = low + (high - low) / 2;
            if (key(middle) < wanted) low = middle + 1;
            else high = middle;
        }
        return low;
    }

private:
    struct fence {
        format::block_place where;
        std::uint32_t key_end; ///< where the key ends in keys_
    };
    std::string keys_{};
    std::vector<fence> fences_{};
    std::vector<std::uint64_t> prefixes_{};
    std::size_t common_ = 0;
};

} // namespace keel::inline v0::table

#endif
