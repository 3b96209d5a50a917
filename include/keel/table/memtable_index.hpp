// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_MEMTABLE_INDEX_HPP
#define KEEL_TABLE_MEMTABLE_INDEX_HPP

// Records in memory, found by key and visited in order. An insertion costs one slot of a hash table. Order is made only when a cursor needs
// it: the cursor sorts the keys that were inserted since the last cursor was made, and merges them with the keys sorted before. Each key is
// sorted once, however often it is written. So a program that only puts never pays for order. A program that scans pays a few times per key
// at most. A cursor takes one step per key, not one per version.
//
// An insertion has two steps. stage() copies the record and takes all memory that the insertion needs. It may throw, and then nothing has
// changed. publish() makes the record visible and cannot fail. The record is written to the log between the two. So no record that the log
// holds is missing here for want of memory.
//
// Thread rules: one thread stages and publishes. Any number of threads look up and use cursors. m_ guards the sorted pieces. A cursor locks
// it when it is made; an insertion never does. A published node does not change, except for the link from a key's first version to its
// newest. That link, the slots, the table and newest_key_ are stored with release after the node is complete, and loaded with acquire. So a
// reader that reaches a node through one of them sees the whole node. It also sees all older versions of the key, because their links were
// stored before.
//
// A cursor goes from a key's first version to the version that is newest when the cursor stands on the key. That version may have been
// published after the cursor was made, and may be newer than its snapshot. Then the cursor goes on to older versions. It never starts at a
// version older than the one the snapshot sees: the snapshot is an LSN that was read with acquire after everything up to that LSN was
// published, and the link never goes back to an older version.

#include <keel/detail/assert.hpp>
#include <keel/detail/prefetch.hpp>
#include <keel/format/index.hpp>
#include <keel/io/large_memory.hpp>
#include <keel/table/arena.hpp>
#include <keel/table/entry.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

class memtable_index {
public:
    /// One version of one key. The bytes of key and value lie directly behind the node. The versions of a key form a ring: each version
    /// links to the one before it, and the first version links to the newest.
    struct node {
        enum class place : std::uint8_t {
            nothing, ///< no record; only counted while it is staged
            first,   ///< the first version of its key
            later,
        };

        std::uint64_t hash;
        lsn at;
        std::atomic<node const*> ring;
        union {
            node const* first; ///< in a later version: the key's first version
            /// In a first version: the first version of the key that was inserted before this key.
            node const* key_before;
            node* next_staged; ///< before it is published: the next staged node
        };
        std::uint32_t value_bytes;
        std::uint16_t key_bytes;
        bool tombstone;
        place in_ring;

        [[nodiscard]] std::string_view key() const noexcept { return {text(), key_bytes}; }
        [[nodiscard]] version view() const noexcept {
            return {.key = key(), .value = {text() + key_bytes, value_bytes}, .at = at, .tombstone = tombstone};
        }
        [[nodiscard]] char const* text() const noexcept { return reinterpret_cast<char const*>(this + 1); }
        /// The version of the same key before this one; nullptr: there is none.
        [[nodiscard]] node const* older() const noexcept {
            return in_ring == place::first ? nullptr : ring.load(std::memory_order_relaxed);
        }
        /// The newest version of the key at this moment. Precondition: this is the key's first version.
        [[nodiscard]] node const* newest() const noexcept { return ring.load(std::memory_order_acquire); }
        /// The first version, from this one on to older ones, that is not newer than `snapshot`; nullptr: there is none.
        [[nodiscard]] node const* seen_from(lsn snapshot) const noexcept {
            auto const* n = this;
            while (n != nullptr && n->at > snapshot) n = n->older();
            return n;
        }
    };

private:
    /// A pointer to the newest version of a key, with sixteen bits of the key's hash. These bits let a look-up skip most slots of other
    /// keys without reading the nodes. Addresses have 48 bits: Linux gives out larger addresses only on request.
    class tagged {
    public:
        tagged() = default; ///< a free slot
        tagged(node const* to, std::uint64_t hash) noexcept
            : bits_{reinterpret_cast<std::uintptr_t>(to) | hash >> address_bits << address_bits} {
            KEEL_ASSERT(reinterpret_cast<std::uintptr_t>(to) >> address_bits == 0);
        }
        [[nodiscard]] node const* get() const noexcept {
            return reinterpret_cast<node const*>(bits_ & ((std::uintptr_t{1} << address_bits) - 1));
        }
        [[nodiscard]] bool may_be(std::uint64_t hash) const noexcept { return (bits_ ^ hash) >> address_bits == 0; }

    private:
        static constexpr unsigned address_bits = 48;
        static_assert(sizeof(std::uintptr_t) == 8);
        std::uintptr_t bits_ = 0;
    };

    /// A hash table with open addressing.
    struct hash_table {
        using slot = std::atomic<tagged>;
        static_assert(slot::is_always_lock_free);
        hash_table(std::size_t size, std::shared_ptr<io::large_page_pool> const& pages)
            : memory{io::allocate_large(size * sizeof(slot), pages)}, slots{new(memory.get()) slot[size]{}, size} {}
        io::large_memory memory;
        std::span<slot> slots;
    };
    /// The slot of the key, or the free slot that the key would take.
    template <class Table>
    [[nodiscard]] static auto& slot_of(Table& table, std::uint64_t hash, std::string_view key) noexcept {
        auto const mask = table.slots.size() - 1;
        for (auto i = static_cast<std::size_t>(hash) & mask;; i = (i + 1) & mask) {
            auto const there = table.slots[i].load(std::memory_order_acquire);
            auto const* const n = there.get();
            if (n == nullptr || (there.may_be(hash) && n->hash == hash && n->key() == key)) return table.slots[i];
        }
    }

public:
    /// `pages`: the pool for large pieces of its memory; null: the heap. Throws std::bad_alloc.
    explicit memtable_index(std::shared_ptr<io::large_page_pool> pages = {}) : pages_{std::move(pages)} { grow(); }

    /// Copies a record and queues it behind the records staged before. publish() inserts it and gives it its LSN. Throws std::bad_alloc;
    /// nothing has changed then.
    void stage(std::string_view key, std::string_view value, bool tombstone) {
        while ((count_ + staged_count_ + 1) * 2 >= tables_.back()->slots.size()) grow();
        auto* const fresh = make_node(key, value, tombstone);
        (staged_last_ != nullptr ? staged_last_->next_staged : staged_first_) = fresh;
        staged_last_ = fresh;
        ++staged_count_;
    }
    /// Queues a record without a key. It takes an LSN, and publish() skips it.
    void stage_nothing() {
        stage({}, {}, false);
        staged_last_->in_ring = node::place::nothing;
    }
    /// Number of staged records.
    [[nodiscard]] std::size_t staged() const noexcept { return staged_count_; }
    /// Discards the records staged after the first `count`. Their memory is freed with the index.
    void unstage(std::size_t count) noexcept {
        if (count >= staged_count_) return;
        auto* last = count == 0 ? nullptr : staged_first_;
        for (std::size_t i = 1; i < count; ++i) last = last->next_staged;
        (last != nullptr ? last->next_staged : staged_first_) = nullptr;
        staged_last_ = last;
        staged_count_ = count;
    }
    /// Inserts the first `count` staged records with the LSNs from `first` on. The LSNs of a key grow, or the same record comes again with
    /// its LSN.
    void publish(lsn first, std::size_t count) noexcept {
        KEEL_ASSERT(count <= staged_count_);
        auto const* ahead = staged_first_;
        std::size_t asked = 0;
        for (std::size_t i = 0; i < count; ++i, first = first.next()) {
            for (; count > 1 && asked < std::min(count, i + published_ahead); ++asked, ahead = ahead->next_staged)
                prefetch(ahead->hash);
            publish_first(first);
        }
    }

    /// Prefetches the memory that a look-up of a key reads first. `hash`: the key's filter_hash.
    void prefetch(std::uint64_t hash) const noexcept {
        auto const& slots = table_.load(std::memory_order_acquire)->slots;
        keel::detail::prefetch(&slots[static_cast<std::size_t>(hash) & (slots.size() - 1)]);
    }
    [[nodiscard]] bool empty() const noexcept { return newest_key_.load(std::memory_order_acquire) == nullptr; }

    /// The newest version of `key` that is not newer than `snapshot`; nullptr if there is none. `hash`: the key's filter_hash.
    [[nodiscard]] node const* find(std::string_view key, std::uint64_t hash, lsn snapshot) const noexcept {
        auto const& table = *table_.load(std::memory_order_acquire);
        auto const* const newest = slot_of(table, hash, key).load(std::memory_order_acquire).get();
        return newest != nullptr ? newest->seen_from(snapshot) : nullptr;
    }

    /// Visits keys in order, in either direction. It visits all keys that were inserted before the cursor was made, if they have a version
    /// not newer than `snapshot`. Of each key it gives the newest such version; with versions::all it gives all such versions, the newest
    /// first, and goes forward only.
    class cursor {
    public:
        explicit cursor(memtable_index const& of, lsn snapshot = lsn_max, versions which = versions::newest_seen)
            : pieces_{of.sorted()}, snapshot_{snapshot}, which_{which} {
            standing_.reserve(pieces_->size());
            for (auto const& p : *pieces_) standing_.push_back({p->data(), p->data(), p->data() + p->size()});
        }

        /// Goes to the first key that is not less than `key`.
        void seek(std::string_view key) {
            place(key);
            choose_next();
        }
        /// Goes to the last key that is less than `key`.
        void seek_before(std::string_view key) {
            KEEL_ASSERT(which_ == versions::newest_seen);
            place(key);
            choose_previous();
        }
        /// Goes to the last key.
        void seek_last() {
            KEEL_ASSERT(which_ == versions::newest_seen);
            for (auto& s : standing_) s.at = s.end;
            choose_previous();
        }
        void next() {
            if (which_ == versions::all && (now_ = now_->older()) != nullptr) return;
            pass();
        }
        /// Goes on to the next key.
        void pass() {
            ++standing_[chosen_].at;
            choose_next();
        }
        void previous() {
            --standing_[chosen_].at;
            choose_previous();
        }

        [[nodiscard]] bool valid() const noexcept { return now_ != nullptr; }
        [[nodiscard]] version current() const noexcept { return now_->view(); }

    private:
        friend memtable_index;
        struct sortable {
            std::uint64_t high; ///< the first sixteen bytes of the key, with `low`: most keys differ there
            std::uint64_t low;
            node const* what; ///< the first version of the key
        };
        using piece = std::vector<sortable>;
        using piece_list = std::vector<std::shared_ptr<piece const>>;
        struct stand {
            sortable const* begin;
            sortable const* at; ///< forward: the next key; backward: one behind it
            sortable const* end;
        };

        [[nodiscard]] static sortable sortable_of(node const* n) noexcept {
            auto const key = n->key();
            return {format::key_prefix(key), format::key_prefix(key, 8), n};
        }
        [[nodiscard]] static bool in_front(sortable const& a, sortable const& b) noexcept {
            if (a.high != b.high) return a.high < b.high;
            if (a.low != b.low) return a.low < b.low;
            return a.what->key() < b.what->key();
        }

        void place(std::string_view key) {
            auto const high = format::key_prefix(key);
            auto const low = format::key_prefix(key, 8);
            auto const less = [&](sortable const& s) {
                if (s.high != high) return s.high < high;
                if (s.low != low) return s.low < low;
                return s.what->key() < key;
            };
            for (auto& s : standing_) s.at = std::partition_point(s.begin, s.end, less);
        }
        /// Goes to the next key that has a version the snapshot sees. A key is in one piece only.
        void choose_next() noexcept {
            for (stand* first = nullptr;; ++first->at, first = nullptr) {
                for (auto& s : standing_)
                    if (s.at != s.end && (first == nullptr || in_front(*s.at, *first->at))) first = &s;
                now_ = nullptr;
                if (first == nullptr) return;
                chosen_ = static_cast<std::size_t>(first - standing_.data());
                if (first->end - first->at > ahead) keel::detail::prefetch(first->at[ahead].what);
                now_ = first->at->what->newest()->seen_from(snapshot_);
                if (now_ != nullptr) return;
            }
        }
        void choose_previous() noexcept {
            for (stand* last = nullptr;; --last->at, last = nullptr) {
                for (auto& s : standing_)
                    if (s.at != s.begin && (last == nullptr || in_front(last->at[-1], s.at[-1]))) last = &s;
                now_ = nullptr;
                if (last == nullptr) return;
                chosen_ = static_cast<std::size_t>(last - standing_.data());
                if (last->at - last->begin > ahead) keel::detail::prefetch(last->at[-1 - ahead].what);
                now_ = last->at[-1].what->newest()->seen_from(snapshot_);
                if (now_ != nullptr) return;
            }
        }

        static constexpr std::ptrdiff_t ahead = 4; ///< how many keys ahead memory is prefetched

        std::shared_ptr<piece_list const> pieces_;
        lsn snapshot_;
        versions which_;
        std::vector<stand> standing_{};
        std::size_t chosen_ = 0;
        node const* now_ = nullptr;
    };

private:
    using sortable = cursor::sortable;
    using piece = cursor::piece;
    using piece_list = cursor::piece_list;

    static constexpr std::size_t first_slots = 256;
    /// Smaller pieces are always merged. Larger pieces are merged with pieces of similar size.
    static constexpr std::size_t small_piece = 64;
    /// Of a batch: slots that are prefetched before they are written.
    static constexpr std::size_t published_ahead = 16;

    /// Makes a larger table. Readers may still use a smaller one. So the smaller one is kept; it has every key that such a reader may see.
    void grow() {
        auto bigger = std::make_unique<hash_table>(tables_.empty() ? first_slots : tables_.back()->slots.size() * 4,
                                                   pages_);
        auto const mask = bigger->slots.size() - 1;
        tables_.reserve(tables_.size() + 1);
        if (!tables_.empty())
            for (auto const& slot : tables_.back()->slots) {
                auto const moved = slot.load(std::memory_order_relaxed);
                if (moved.get() == nullptr) continue;
                auto i = static_cast<std::size_t>(moved.get()->hash) & mask;
                while (bigger->slots[i].load(std::memory_order_relaxed).get() != nullptr) i = (i + 1) & mask;
                bigger->slots[i].store(moved, std::memory_order_relaxed);
            }
        tables_.push_back(std::move(bigger));
        table_.store(tables_.back().get(), std::memory_order_release);
    }

    [[nodiscard]] node* make_node(std::string_view key, std::string_view value, bool tombstone) {
        auto* const memory = memory_.allocate(sizeof(node) + key.size() + value.size());
        auto* const n = new (memory) node{.hash = format::filter_hash(key),
                                          .at = {},
                                          .ring = nullptr,
                                          .next_staged = nullptr,
                                          .value_bytes = static_cast<std::uint32_t>(value.size()),
                                          .key_bytes = static_cast<std::uint16_t>(key.size()),
                                          .tombstone = tombstone,
                                          .in_ring = node::place::first};
        auto* const text = memory + sizeof(node);
        if (!key.empty()) std::memcpy(text, key.data(), key.size());
        if (!value.empty()) std::memcpy(text + key.size(), value.data(), value.size());
        return n;
    }
    /// Inserts the first staged record. stage() has made the table large enough.
    void publish_first(lsn at) noexcept {
        auto* const n = staged_first_;
        staged_first_ = n->next_staged;
        if (--staged_count_ == 0) staged_last_ = nullptr;
        if (n->in_ring == node::place::nothing) return;
        n->at = at;
        auto& slot = slot_of(*tables_.back(), n->hash, n->key());
        if (auto const* const before = slot.load(std::memory_order_relaxed).get(); before != nullptr) {
            // The index owns its nodes, and they were not created const.
            auto* const first = const_cast<node*>(before->in_ring == node::place::first ? before : before->first);
            n->in_ring = node::place::later;
            n->first = first;
            n->ring.store(before, std::memory_order_relaxed);
            slot.store({n, n->hash}, std::memory_order_release);
            first->ring.store(n, std::memory_order_release);
            return;
        }
        n->ring.store(n, std::memory_order_relaxed);
        n->key_before = newest_key_.load(std::memory_order_relaxed);
        ++count_;
        slot.store({n, n->hash}, std::memory_order_release);
        newest_key_.store(n, std::memory_order_release);
    }

    /// All keys inserted so far, as a small number of sorted pieces.
    [[nodiscard]] std::shared_ptr<piece_list const> sorted() const {
        std::lock_guard const hold{m_};
        auto const* const newest = newest_key_.load(std::memory_order_acquire);
        if (newest == sorted_upto_) return pieces_;
        auto fresh = std::make_shared<piece>();
        for (auto const* n = newest; n != sorted_upto_; n = n->key_before) fresh->push_back(cursor::sortable_of(n));
        std::ranges::sort(*fresh, cursor::in_front);
        auto next = std::make_shared<piece_list>(*pieces_);
        next->push_back(std::move(fresh));
        while (next->size() > 1 && joins((*next)[next->size() - 2]->size(), next->back()->size())) {
            auto const& larger = *(*next)[next->size() - 2];
            auto both = std::make_shared<piece>();
            both->reserve(larger.size() + next->back()->size());
            std::ranges::merge(larger, *next->back(), std::back_inserter(*both), cursor::in_front);
            next->pop_back();
            next->back() = std::move(both);
        }
        pieces_ = std::move(next);
        sorted_upto_ = newest;
        return pieces_;
    }
    /// Whether a piece is merged with the one behind it. Large pieces are merged only with pieces of similar size.
    [[nodiscard]] static constexpr bool joins(std::size_t size, std::size_t behind) noexcept {
        return size < std::max(small_piece, 2 * behind);
    }

    std::shared_ptr<io::large_page_pool> pages_;
    arena memory_{pages_};
    std::size_t count_ = 0; ///< number of keys
    node* staged_first_ = nullptr;
    node* staged_last_ = nullptr;
    std::size_t staged_count_ = 0;
    /// Only the last one is used; readers may still be in the others.
    std::vector<std::unique_ptr<hash_table>> tables_{};
    std::atomic<hash_table const*> table_{nullptr};
    std::atomic<node const*> newest_key_{nullptr}; ///< first version of the key that was inserted last
    mutable std::mutex m_;
    mutable std::shared_ptr<piece_list const> pieces_{std::make_shared<piece_list const>()};
    mutable node const* sorted_upto_ = nullptr; ///< newest_key_ when the pieces were made
};

} // namespace keel::inline v0::table

#endif
