// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_BLOCK_CACHE_HPP
#define KEEL_TABLE_BLOCK_CACHE_HPP

// Verified blocks of segment indexes and tables. Many look-ups share one read and one verification of a block. The cache is bounded in
// bytes. The name of a block decides which set of eight slots it may use. Eviction uses the CLOCK algorithm: a block that was used since
// the hand last passed it gets a second chance. A look-up touches two or three cache lines and moves no block.
//
// Thread rules: any number of threads. Each shard has one mutex. It is held during a look-up or an insertion, never during I/O. An evicted
// block stays alive as long as a reader holds it.

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

/// A block of bytes with shared ownership. The bytes do not change once the block is shared. Reference count and bytes are one allocation.
class shared_block {
public:
    shared_block() = default;
    /// Allocates `bytes` uninitialised bytes. Fill them through writable() before another thread gets the block. Throws std::bad_alloc.
    explicit shared_block(std::size_t bytes)
        : bytes_{std::make_shared_for_overwrite<std::byte[]>(bytes)}, size_{bytes} {}

    [[nodiscard]] explicit operator bool() const noexcept { return bytes_ != nullptr; }
    [[nodiscard]] std::byte const* data() const noexcept { return bytes_.get(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] byte_view view() const noexcept { return {bytes_.get(), size_}; }
    [[nodiscard]] byte_span writable() noexcept { return {bytes_.get(), size_}; }
    /// Prefetches the parts of a table block that a look-up reads first: the reference count just in front of the bytes, the heads of the
    /// records, and the list of restarts at the end (format/block.hpp).
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
    /// The name of a block: the salt of its file and its offset in the file. A recycled file has a new salt, so a block of its former
    /// content is never found.
    struct name {
        std::uint64_t salt = 0;
        std::uint64_t offset = 0;
        bool operator==(name const&) const = default;
    };

    explicit block_cache(std::size_t bytes_max) : shard_bytes_max_{bytes_max / shards} {}

    /// Returns the block, or an empty block if it is not cached. Counts the block as used.
    [[nodiscard]] block find(name which) {
        auto const h = hash_of(which);
        auto& s = shard_of(h);
        std::lock_guard const hold{s.m};
        if (s.sets.empty()) return {};
        auto& set = s.set_of(h);
        keel::detail::prefetch(set.blocks.data(), sizeof set.blocks); // loads while the names are compared
        for (std::size_t i = 0; i < ways; ++i)
            if (set.names[i] == which && set.blocks[i]) {
                // Prefetch first: copying the pointer increments the reference count and waits for that cache line.
                set.blocks[i].prefetch();
                set.used |= static_cast<std::uint8_t>(1U << i);
                return set.blocks[i];
            }
        return {};
    }
    /// Prefetches the memory that find() reads.
    void prefetch(name which) noexcept {
        auto const h = hash_of(which);
        auto& s = shard_of(h);
        std::lock_guard const hold{s.m}; // another thread may be growing the sets
        if (!s.sets.empty()) keel::detail::prefetch(&s.set_of(h), sizeof(set_type));
    }
    /// Prefetches the block itself, if it is cached. This does not count it as used; the next find() does.
    void prefetch_block(name which) {
        auto const h = hash_of(which);
        auto& s = shard_of(h);
        std::lock_guard const hold{s.m};
        if (s.sets.empty()) return;
        auto const& set = s.set_of(h);
        for (std::size_t i = 0; i < ways; ++i)
            if (set.names[i] == which && set.blocks[i]) return set.blocks[i].prefetch();
    }
    /// Adds a block, and evicts others while its shard is too large. Ignores a block that is larger than a shard, or is cached already.
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
    /// Bytes of all cached blocks.
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
        std::uint8_t used = 0; ///< one bit per slot: used since the hand last passed
        std::uint8_t next = 0; ///< the slot where the hand is

        /// A free slot, or else the slot whose block is to be replaced.
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
        std::vector<set_type> sets{}; ///< their number is a power of two
        std::size_t held = 0;
        std::size_t bytes = 0;
        std::size_t hand = 0; ///< the set from which the next block is evicted

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
                // set.next may be a free slot. Evict the next occupied slot.
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
