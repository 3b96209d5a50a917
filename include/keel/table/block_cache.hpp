// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_BLOCK_CACHE_HPP
#define KEEL_TABLE_BLOCK_CACHE_HPP

// Verified blocks of indexes and tables, so that a block is read and verified once for many look-ups. Bounded in bytes. A block has one
// of eight places, by its name; which of those goes when there is no room is decided as by a clock: one that was used since it was last
// considered gets a second chance. So a look-up touches two or three cache lines and moves nothing.
//
// Thread rules: any number of threads. One mutex per shard, held for a look-up or an insertion, never during I/O. A block that
// somebody holds stays alive when the cache lets it go.

#include <keel/detail/prefetch.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

/// Bytes that are shared and no longer change. Count and bytes are one allocation.
class shared_block {
public:
    shared_block() = default;
    /// So many bytes, to be filled through writable() before anybody else gets it.
    explicit shared_block(std::size_t bytes)
        : bytes_{std::make_shared_for_overwrite<std::byte[]>(bytes)}, size_{bytes} {}

    [[nodiscard]] explicit operator bool() const noexcept { return bytes_ != nullptr; }
    [[nodiscard]] std::byte const* data() const noexcept { return bytes_.get(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] byte_view view() const noexcept { return {bytes_.get(), size_}; }
    [[nodiscard]] byte_span writable() noexcept { return {bytes_.get(), size_}; }
    /// Asks for what a look-up in a block of a table reads first: the count, which stands in front, the heads of its records, and the
    /// places at its end.
    void prefetch() const noexcept {
        auto const begin = reinterpret_cast<std::uintptr_t>(bytes_.get());
        keel::detail::prefetch(reinterpret_cast<void const*>(begin - keel::detail::cache_line_bytes / 2),
                               std::min(size_, heads_bytes));
        if (size_ > heads_bytes) keel::detail::prefetch(bytes_.get() + size_ - keel::detail::cache_line_bytes);
    }

private:
    static constexpr std::size_t heads_bytes = 640;

    std::shared_ptr<std::byte[]> bytes_{};
    std::size_t size_ = 0;
};

class block_cache {
public:
    using block = shared_block;
    /// Which block: the file's life (its salt) and the offset in it.
    struct name {
        std::uint64_t salt = 0;
        std::uint64_t offset = 0;
        bool operator==(name const&) const = default;
    };

    explicit block_cache(std::size_t bytes_max) : shard_bytes_max_{bytes_max / shards} {}

    /// Nothing where it is not held.
    [[nodiscard]] block find(name which) {
        auto const h = hash_of(which);
        auto& s = shard_of(h);
        std::lock_guard const hold{s.m};
        if (s.sets.empty()) return {};
        auto& set = s.set_of(h);
        keel::detail::prefetch(set.blocks.data(), sizeof set.blocks); // beside the names
        for (std::size_t i = 0; i < ways; ++i)
            if (set.names[i] == which && set.blocks[i]) {
                set.blocks[i].prefetch(); // ahead of counting it, which waits for its first line
                set.used |= static_cast<std::uint8_t>(1U << i);
                return set.blocks[i];
            }
        return {};
    }
    /// Asks for the memory that find() looks at.
    void prefetch(name which) noexcept {
        auto const h = hash_of(which);
        auto& s = shard_of(h);
        std::lock_guard const hold{s.m}; // the sets may be growing
        if (!s.sets.empty()) keel::detail::prefetch(&s.set_of(h), sizeof(set_type));
    }
    /// Asks for the block itself, where it is held; the next find() counts it.
    void prefetch_block(name which) {
        auto const h = hash_of(which);
        auto& s = shard_of(h);
        std::lock_guard const hold{s.m};
        if (s.sets.empty()) return;
        auto const& set = s.set_of(h);
        for (std::size_t i = 0; i < ways; ++i)
            if (set.names[i] == which && set.blocks[i]) return set.blocks[i].prefetch();
    }
    void add(name which, block what) {
        auto const h = hash_of(which);
        auto& s = shard_of(h);
        std::lock_guard const hold{s.m};
        if (what.size() > shard_bytes_max_) return;
        if (s.held * 2 >= s.sets.size() * ways) s.grow();
        for (std::size_t i = 0; i < ways; ++i)
            if (auto const& set = s.set_of(h); set.names[i] == which && set.blocks[i]) return;
        s.put(h, which, std::move(what));
        while (s.bytes > shard_bytes_max_) s.let_one_go();
    }
    [[nodiscard]] std::size_t bytes() const {
        std::size_t all = 0;
        for (auto const& s : shards_) {
            std::lock_guard const hold{s.m};
            all += s.bytes;
        }
        return all;
    }

private:
    static constexpr std::size_t shards = 16;
    static constexpr std::size_t ways = 8;
    static constexpr std::size_t first_sets = 8;

    [[nodiscard]] static std::uint64_t hash_of(name const& n) noexcept {
        auto h = n.salt ^ n.offset * 0x9E3779B97F4A7C15ULL;
        h ^= h >> 32;
        return h * 0xD6E8FEB86659FD93ULL;
    }
    struct alignas(64) set_type {
        std::array<name, ways> names{};
        std::array<block, ways> blocks{};
        std::uint8_t used = 0; ///< since they were last considered, a bit each
        std::uint8_t next = 0; ///< the one considered next

        /// Where room is, or is made.
        [[nodiscard]] std::size_t choose() noexcept {
            for (std::size_t i = 0; i < ways; ++i)
                if (!blocks[i]) return i;
            for (;; next = static_cast<std::uint8_t>((next + 1U) % ways)) {
                auto const bit = static_cast<std::uint8_t>(1U << next);
                if ((used & bit) == 0) return next;
                used = static_cast<std::uint8_t>(used & ~bit);
            }
        }
    };
    struct alignas(64) shard {
        mutable std::mutex m;
        std::vector<set_type> sets{}; ///< a power of two of them
        std::size_t held = 0;
        std::size_t bytes = 0;
        std::size_t hand = 0; ///< the set that gives one up next

        [[nodiscard]] set_type& set_of(std::uint64_t h) noexcept {
            return sets[static_cast<std::size_t>(h >> 8) & (sets.size() - 1)];
        }
        void put(std::uint64_t h, name which, block what) {
            auto& set = set_of(h);
            auto const i = set.choose();
            forget(set, i);
            bytes += what.size();
            ++held;
            set.names[i] = which;
            set.blocks[i] = std::move(what);
        }
        void forget(set_type& set, std::size_t i) noexcept {
            if (!set.blocks[i]) return;
            bytes -= set.blocks[i].size();
            --held;
            set.blocks[i] = {};
        }
        void grow() {
            auto old = std::exchange(sets, std::vector<set_type>(sets.empty() ? first_sets : sets.size() * 4));
            held = bytes = 0;
            for (auto& set : old)
                for (std::size_t i = 0; i < ways; ++i)
                    if (set.blocks[i]) put(hash_of(set.names[i]), set.names[i], std::move(set.blocks[i]));
        }
        void let_one_go() noexcept {
            for (;; ++hand) {
                auto& set = sets[hand & (sets.size() - 1)];
                bool any = false;
                for (auto const& b : set.blocks) any = any || b;
                if (!any) continue;
                // choose() may point at a free place: here the next one that holds something goes.
                for (std::size_t turns = 0; turns < 2 * ways; ++turns) {
                    auto const i = set.next;
                    auto const bit = static_cast<std::uint8_t>(1U << i);
                    set.next = static_cast<std::uint8_t>((i + 1U) % ways);
                    if (!set.blocks[i]) continue;
                    if ((set.used & bit) == 0) {
                        forget(set, i);
                        ++hand;
                        return;
                    }
                    set.used = static_cast<std::uint8_t>(set.used & ~bit);
                }
            }
        }
    };
    [[nodiscard]] shard& shard_of(std::uint64_t h) noexcept { return shards_[h >> 60]; }

    std::size_t shard_bytes_max_;
    std::array<shard, shards> shards_{};
};

} // namespace keel::inline v0::table

#endif
