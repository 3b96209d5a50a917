// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_RECORD_INDEX_HPP
#define KEEL_TABLE_RECORD_INDEX_HPP

// Records in memory, found by key and walked in order. An insertion costs one place in a hash table; order is made when somebody
// asks for it: a walk sorts what came since the last one and merges it with what was sorted before. So a program that only puts never
// pays for order, and one that walks pays for each record a few times at most.
//
// An insertion has two steps. stage() copies the record and makes sure of all memory that it will need: it may throw, and then nothing has
// changed. publish() makes the record visible and cannot fail. So a record can be written to the log between the two, and nothing that the
// log holds is missing here for want of memory.
//
// Thread rules: one thread stages and publishes, any number look up and walk. Nodes never change once they are published: a slot, the
// table and newest_ are stored with release and loaded with acquire. m_ guards the sorted pieces; walkers take it, an insertion never does.

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

class record_index {
public:
    /// One version of one key; key and value lie behind it.
    struct node {
        std::uint64_t hash;
        lsn at;
        union {
            node const* older; ///< the version of the same key before this one
            node* next_staged; ///< until it is published: what is staged behind it
        };
        node const* before; ///< what was inserted before this, whatever its key
        std::uint32_t value_bytes;
        std::uint16_t key_bytes;
        bool tombstone;
        bool is_nothing; ///< only counted while it is staged

        [[nodiscard]] std::string_view key() const noexcept { return {text(), key_bytes}; }
        [[nodiscard]] version view() const noexcept {
            return {.key = key(), .value = {text() + key_bytes, value_bytes}, .at = at, .tombstone = tombstone};
        }
        [[nodiscard]] char const* text() const noexcept { return reinterpret_cast<char const*>(this + 1); }
    };

private:
    /// Where the newest version of one key is, and beside it sixteen bits of the key's hash, so that most slots of other keys are passed
    /// without a look at what they lead to. Addresses have 48 bits: Linux gives out larger ones only to those who ask for them.
    class tagged {
    public:
        tagged() = default; ///< of no key
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

    /// Open addressing.
    struct hash_table {
        using slot = std::atomic<tagged>;
        static_assert(slot::is_always_lock_free);
        hash_table(std::size_t size, std::shared_ptr<io::large_page_pool> const& pages)
            : memory{io::allocate_large(size * sizeof(slot), pages)}, slots{new(memory.get()) slot[size]{}, size} {}
        io::large_memory memory;
        std::span<slot> slots;
    };
    /// The slot of the key: its own, or the free one it would take.
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
    /// `pages`: where large pieces of its memory come from and go to; nothing: the heap.
    explicit record_index(std::shared_ptr<io::large_page_pool> pages = {}) : pages_{std::move(pages)} { grow(); }

    /// Copies a record that publish() will insert, behind those that are staged already; its LSN is given then. Throws std::bad_alloc, and
    /// nothing has changed.
    void stage(std::string_view key, std::string_view value, bool tombstone) {
        while ((count_ + staged_count_ + 1) * 2 >= tables_.back()->slots.size()) grow();
        auto* const fresh = make_node(key, value, tombstone);
        (staged_last_ != nullptr ? staged_last_->next_staged : staged_first_) = fresh;
        staged_last_ = fresh;
        ++staged_count_;
    }
    /// Takes a place among the staged records for one that has no key: publish() passes over it.
    void stage_nothing() {
        stage({}, {}, false);
        staged_last_->is_nothing = true;
    }
    [[nodiscard]] std::size_t staged() const noexcept { return staged_count_; }
    /// Forgets what was staged after the first `count`. Their memory is given back with the index.
    void unstage(std::size_t count) noexcept {
        if (count >= staged_count_) return;
        auto* last = count == 0 ? nullptr : staged_first_;
        for (std::size_t i = 1; i < count; ++i) last = last->next_staged;
        (last != nullptr ? last->next_staged : staged_first_) = nullptr;
        staged_last_ = last;
        staged_count_ = count;
    }
    /// Inserts the first `count` staged records under the LSNs from `first` on. LSNs of one key grow, or come again with the same record.
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

    /// Asks for the memory that a key is looked for in first. `hash`: its filter_hash.
    void prefetch(std::uint64_t hash) const noexcept {
        auto const& slots = table_.load(std::memory_order_acquire)->slots;
        keel::detail::prefetch(&slots[static_cast<std::size_t>(hash) & (slots.size() - 1)]);
    }
    [[nodiscard]] bool empty() const noexcept { return newest_.load(std::memory_order_acquire) == nullptr; }

    /// The newest version of `key` that is not newer than `snapshot`; nothing where there is none.
    [[nodiscard]] node const* find(std::string_view key, std::uint64_t hash, lsn snapshot) const noexcept {
        auto const& table = *table_.load(std::memory_order_acquire);
        auto const* n = slot_of(table, hash, key).load(std::memory_order_acquire).get();
        while (n != nullptr && n->at > snapshot) n = n->older;
        return n;
    }

    /// Walks versions, by key and the newest first, in either direction, over all that was inserted before it was made.
    class cursor {
    public:
        explicit cursor(record_index const& of) : pieces_{of.sorted()} {
            for (auto const& p : pieces_)
                if (!p->empty()) standing_.push_back({p->data(), p->data(), p->data() + p->size()});
        }

        void seek(std::string_view key) {
            place(key);
            choose_next();
        }
        void seek_before(std::string_view key) {
            place(key);
            choose_previous();
        }
        void seek_last() {
            for (auto& s : standing_) s.at = s.end;
            choose_previous();
        }
        void next() {
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
        friend record_index;
        struct sortable {
            std::uint64_t high; ///< the first sixteen bytes of the key: most keys differ there
            std::uint64_t low;
            node const* what;
        };
        using piece = std::vector<sortable>;
        struct stand {
            sortable const* begin;
            sortable const* at; ///< forward: the next one; backward: behind it
            sortable const* end;
        };

        [[nodiscard]] static sortable sortable_of(node const* n) noexcept {
            auto const key = n->key();
            return {format::key_prefix(key), format::key_prefix(key, 8), n};
        }
        [[nodiscard]] static bool in_front(sortable const& a, sortable const& b) noexcept {
            if (a.high != b.high) return a.high < b.high;
            if (a.low != b.low) return a.low < b.low;
            auto const order = a.what->key().compare(b.what->key());
            return order != 0 ? order < 0 : a.what->at > b.what->at;
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
        void choose_next() noexcept {
            now_ = nullptr;
            for (std::size_t i = 0; i < standing_.size(); ++i) {
                auto const& s = standing_[i];
                if (s.at == s.end || (now_ != nullptr && !in_front(*s.at, *standing_[chosen_].at))) continue;
                chosen_ = i;
                now_ = s.at->what;
            }
        }
        void choose_previous() noexcept {
            now_ = nullptr;
            for (std::size_t i = 0; i < standing_.size(); ++i) {
                auto const& s = standing_[i];
                if (s.at == s.begin || (now_ != nullptr && !in_front(standing_[chosen_].at[-1], s.at[-1]))) continue;
                chosen_ = i;
                now_ = s.at[-1].what;
            }
        }

        std::vector<std::shared_ptr<piece const>> pieces_;
        std::vector<stand> standing_{};
        std::size_t chosen_ = 0;
        node const* now_ = nullptr;
    };

private:
    using sortable = cursor::sortable;
    using piece = cursor::piece;

    static constexpr std::size_t first_slots = 256;
    static constexpr std::size_t small_piece = 64;     ///< so few are sorted for one walk and not kept
    static constexpr std::size_t published_ahead = 16; ///< of a batch: slots that are asked for before they are written

    /// Readers may stand in a smaller table meanwhile: it stays, and has all that they may see.
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
                                          .next_staged = nullptr,
                                          .before = nullptr,
                                          .value_bytes = static_cast<std::uint32_t>(value.size()),
                                          .key_bytes = static_cast<std::uint16_t>(key.size()),
                                          .tombstone = tombstone,
                                          .is_nothing = false};
        auto* const text = memory + sizeof(node);
        if (!key.empty()) std::memcpy(text, key.data(), key.size());
        if (!value.empty()) std::memcpy(text + key.size(), value.data(), value.size());
        return n;
    }
    /// stage() has made the table large enough.
    void publish_first(lsn at) noexcept {
        auto* const n = staged_first_;
        staged_first_ = n->next_staged;
        if (--staged_count_ == 0) staged_last_ = nullptr;
        if (n->is_nothing) return;
        auto& slot = slot_of(*tables_.back(), n->hash, n->key());
        n->older = slot.load(std::memory_order_relaxed).get();
        n->before = newest_.load(std::memory_order_relaxed);
        n->at = at;
        count_ += n->older == nullptr;
        slot.store({n, n->hash}, std::memory_order_release);
        newest_.store(n, std::memory_order_release);
    }

    /// Everything inserted so far, as sorted pieces, few of them. New records become a piece of their own, and pieces of like size one.
    [[nodiscard]] std::vector<std::shared_ptr<piece const>> sorted() const {
        std::lock_guard const hold{m_};
        auto const* const newest = newest_.load(std::memory_order_acquire);
        auto fresh = std::make_shared<piece>();
        for (auto const* n = newest; n != sorted_upto_; n = n->before) fresh->push_back(cursor::sortable_of(n));
        std::ranges::sort(*fresh, cursor::in_front);
        bool const keep = fresh->size() > small_piece;
        auto out = pieces_;
        out.push_back(std::move(fresh));
        if (!keep) return out;
        while (out.size() > 1 && out[out.size() - 2]->size() < 2 * out.back()->size()) {
            auto both = std::make_shared<piece>();
            both->reserve(out[out.size() - 2]->size() + out.back()->size());
            std::ranges::merge(*out[out.size() - 2], *out.back(), std::back_inserter(*both), cursor::in_front);
            out.pop_back();
            out.back() = std::move(both);
        }
        pieces_ = out;
        sorted_upto_ = newest;
        return out;
    }

    std::shared_ptr<io::large_page_pool> pages_;
    arena memory_{pages_};
    std::size_t count_ = 0; ///< keys
    node* staged_first_ = nullptr;
    node* staged_last_ = nullptr;
    std::size_t staged_count_ = 0;
    std::vector<std::unique_ptr<hash_table>> tables_{}; ///< the last one is used
    std::atomic<hash_table const*> table_{nullptr};
    std::atomic<node const*> newest_{nullptr};
    mutable std::mutex m_;
    mutable std::vector<std::shared_ptr<piece const>> pieces_{};
    mutable node const* sorted_upto_ = nullptr; ///< newest of what is in the pieces
};

} // namespace keel::inline v0::table

#endif
