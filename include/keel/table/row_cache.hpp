// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_ROW_CACHE_HPP
#define KEEL_TABLE_ROW_CACHE_HPP

// A cache of single records of tables. A look-up that finds its key here reads one slot and the record. A look-up in a block reads a dozen
// cache lines. A cached record is the newest version of its key in one table. The id of that table is stored with the record (its source).
// The caller has already looked for newer versions in newer places. While there is room, every record of a block that a look-up loads is
// cached. After that only records that were looked up are cached, and only those that are looked up again stay.
//
// Records lie one behind the other in a ring, as 64-bit words: source | lsn | value bytes, 32 bits, key bytes, 16, tombstone | key, value.
// A position counts the words written since the cache was made. So a position shows whether the ring has come round since. A record that is
// found shortly before it is overwritten is written again. A slot holds 28 bits of the hash and the low 36 bits of a position. A hash
// belongs to one bucket: eight slots, one cache line.
//
// Thread rules: any number of threads. m_ guards adding. A thread that finds it locked does not add its record, so no look-up waits.
// Readers take no lock. Slots and words are atomic; words are written with release and read with acquire. begin_ says what may be
// overwritten. It is moved before the words are written. So a reader that has read any word of a later record also sees the new begin_, and
// therefore it checks begin_ last. A slot table that became too small is kept, because readers may still use it.

#include <keel/detail/prefetch.hpp>
#include <keel/io/large_memory.hpp>
#include <keel/table/entry.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace keel::inline v0::table {

class row_cache {
public:
    /// The most bytes that key and value of a cached record may have together. A block holds only a few records that are larger.
    static constexpr std::size_t row_bytes_max = 512;
    /// A look-up copies the record that it finds into this buffer.
    using row_buffer = std::array<std::uint64_t, row_bytes_max / sizeof(std::uint64_t)>;

    /// Uses about `bytes_max` bytes at most, and takes memory only when it is needed. Less than 64 KiB: nothing is cached.
    explicit row_cache(std::size_t bytes_max) {
        auto const ring = bytes_max - bytes_max / 8; // the rest is for slots
        if (bytes_max < chunks_min * chunk_bytes_min) return;
        buckets_max_ = std::max(buckets_min, std::bit_floor((bytes_max - ring) / sizeof(bucket_type)));
        auto const bytes = std::clamp(std::bit_floor(ring / chunks_min), chunk_bytes_min, io::large_page_bytes);
        chunk_shift_ = static_cast<unsigned>(std::countr_zero(bytes / sizeof(word)));
        chunks_ = std::vector<std::atomic<word*>>(ring / bytes);
    }

    /// Whether it caches anything at all.
    [[nodiscard]] bool enabled() const noexcept { return !chunks_.empty(); }
    /// Whether to add the record that a look-up found. The first few records are not added, so a program with few look-ups does not pay for
    /// a cache.
    [[nodiscard]] bool wants() noexcept {
        return enabled() && (offers_.load(std::memory_order_relaxed) >= offers_passed ||
                             offers_.fetch_add(1, std::memory_order_relaxed) >= offers_passed);
    }
    /// Whether to add all records of a block of `bytes` bytes: there is room for them, and no other record has to go.
    [[nodiscard]] bool wants_block(std::size_t bytes) noexcept {
        return wants() && head_.load(std::memory_order_relaxed) + bytes / 4 <= capacity();
    }

    /// Prefetches the memory that find() reads first.
    void prefetch(std::uint64_t hash) const noexcept {
        if (auto const* in = slots_.load(std::memory_order_acquire)) keel::detail::prefetch(&in->bucket(hash));
    }
    /// Prefetches the record itself, if it is cached.
    void prefetch_row(std::uint64_t hash) const noexcept {
        auto const* in = slots_.load(std::memory_order_acquire);
        if (in == nullptr) return;
        for (auto const& s : in->bucket(hash).slots) {
            auto const seen = s.load(std::memory_order_relaxed);
            if (!may_be(seen, hash)) continue;
            auto const* at = reinterpret_cast<std::byte const*>(address(position_of(seen)));
            if (at != nullptr) keel::detail::prefetch(at, row_ahead);
        }
    }
    /// Finds the newest version of `key` in `source`, if it is cached and not newer than `snapshot`. False: it is not. The record is copied
    /// into `text`, and the views of `into` point there.
    [[nodiscard]] bool find(std::uint64_t source, std::uint64_t hash, std::string_view key, lsn snapshot,
                            row_buffer& text, version& into) {
        auto const* in = slots_.load(std::memory_order_acquire);
        if (in == nullptr) return false;
        for (auto const& s : in->bucket(hash).slots) {
            auto const seen = s.load(std::memory_order_acquire);
            if (!may_be(seen, hash)) continue;
            auto const at = position_of(seen);
            row_head head;
            if (!copy(at, source, key, head, text)) continue;
            if (head.at > snapshot) return false;
            auto const* const begin = reinterpret_cast<char const*>(text.data());
            into = {.key = key,
                    .value = {begin + head.key_bytes, head.value_bytes},
                    .at = head.at,
                    .tombstone = head.tombstone};
            if (is_old(at)) add(source, hash, into);
            return true;
        }
        return false;
    }

    /// Adds records. Adds nothing while another thread is adding.
    class adder {
    public:
        explicit adder(row_cache& to) : to_{&to}, hold_{to.m_, std::try_to_lock} {}
        /// Adds `v`, which is the newest version of its key in `source`. False: it was cached already, is too large, or another thread is
        /// adding.
        bool add(std::uint64_t source, std::uint64_t hash, version const& v) {
            return hold_ && to_->enabled() && fits(v) && to_->put(source, hash, v);
        }

    private:
        row_cache* to_;
        std::unique_lock<std::mutex> hold_;
    };
    bool add(std::uint64_t source, std::uint64_t hash, version const& v) { return adder{*this}.add(source, hash, v); }
    [[nodiscard]] static bool fits(version const& v) noexcept { return v.key.size() + v.value.size() <= row_bytes_max; }

    /// Bytes of the memory that the cache has taken.
    [[nodiscard]] std::size_t bytes() const {
        std::lock_guard const hold{m_};
        auto all = held_.size() * (sizeof(word) << chunk_shift_);
        for (auto const& t : tables_) all += (t->mask + 1) * sizeof(bucket_type);
        return all;
    }

private:
    using word = std::uint64_t;
    static constexpr std::size_t chunks_min = 4;
    static constexpr std::size_t chunk_bytes_min = 16 * KiB;
    static constexpr std::uint32_t offers_passed = 16;
    // enough: the processor prefetches the rest of a sequential copy by itself
    static constexpr std::size_t row_ahead = 192;
    static constexpr unsigned position_bits = 36;
    static constexpr word position_mask = (word{1} << position_bits) - 1;
    static constexpr std::size_t head_words = 3;
    static constexpr std::size_t buckets_min = 64;

    struct row_head {
        lsn at{};
        std::size_t value_bytes = 0;
        std::size_t key_bytes = 0;
        bool tombstone = false;
        [[nodiscard]] std::size_t text_words() const noexcept {
            return (key_bytes + value_bytes + sizeof(word) - 1) / sizeof(word);
        }
    };
    struct alignas(keel::detail::cache_line_bytes) bucket_type {
        std::array<std::atomic<word>, 8> slots{};
    };
    static_assert(std::atomic<word>::is_always_lock_free && sizeof(bucket_type) == keel::detail::cache_line_bytes);
    /// A hash table with a power of two of buckets. The bits of the hash that select the bucket are also in the slots. So the table grows
    /// without reading the records.
    struct slot_table {
        explicit slot_table(std::size_t size)
            : memory{io::allocate_large((size + 1) * sizeof(bucket_type), {})}, mask{size - 1} {
            auto const begin = reinterpret_cast<std::uintptr_t>(memory.get());
            auto const skip = -begin % sizeof(bucket_type);
            buckets = reinterpret_cast<bucket_type*>(memory.get() + skip);
            std::uninitialized_value_construct_n(buckets, size);
        }
        [[nodiscard]] bucket_type& bucket(std::uint64_t hash) const noexcept {
            return buckets[static_cast<std::size_t>(hash >> position_bits) & mask];
        }
        [[nodiscard]] std::size_t slots() const noexcept { return (mask + 1) * 8; }
        io::large_memory memory;
        std::size_t mask;
        bucket_type* buckets = nullptr;
    };

    [[nodiscard]] static bool may_be(word slot, std::uint64_t hash) noexcept {
        return (slot ^ hash) >> position_bits == 0 && slot != 0;
    }
    [[nodiscard]] std::uint64_t capacity() const noexcept {
        return static_cast<std::uint64_t>(chunks_.size()) << chunk_shift_;
    }
    /// The last position at or in front of the head whose low bits are those of the slot.
    [[nodiscard]] std::uint64_t position_of(word slot) const noexcept {
        auto const head = head_.load(std::memory_order_acquire);
        return head - ((head - slot) & position_mask);
    }
    /// nullptr: no memory was taken yet.
    [[nodiscard]] word* address(std::uint64_t at) const noexcept {
        auto* const chunk =
            chunks_[static_cast<std::size_t>(at >> chunk_shift_) % chunks_.size()].load(std::memory_order_acquire);
        return chunk == nullptr ? nullptr : chunk + (at & ((std::uint64_t{1} << chunk_shift_) - 1));
    }
    [[nodiscard]] std::uint64_t chunk_end(std::uint64_t at) const noexcept {
        return ((at >> chunk_shift_) + 1) << chunk_shift_;
    }
    [[nodiscard]] static word read(word* at) noexcept { return std::atomic_ref{*at}.load(std::memory_order_acquire); }
    static void write(word* at, word what) noexcept { std::atomic_ref{*at}.store(what, std::memory_order_release); }

    /// Copies a record and its head. False: the record there is another one, or it was overwritten.
    [[nodiscard]] bool copy(std::uint64_t at, std::uint64_t source, std::string_view key, row_head& head,
                            row_buffer& text) const noexcept {
        if (at < begin_.load(std::memory_order_acquire)) return false;
        auto* from = address(at);
        if (from == nullptr || at + head_words > chunk_end(at) || read(from) != source) return false;
        head.at = {read(from + 1)};
        auto const sizes = read(from + 2);
        head.value_bytes = static_cast<std::uint32_t>(sizes);
        head.key_bytes = static_cast<std::uint16_t>(sizes >> 32);
        head.tombstone = sizes >> 48 != 0;
        if (head.key_bytes != key.size() || head.key_bytes + head.value_bytes > row_bytes_max) return false;
        auto const words = head.text_words();
        if (at + head_words + words > chunk_end(at)) return false;
        from += head_words;
        for (std::size_t i = 0; i < words; ++i) text[i] = read(from + i);
        // checked last: the record may have been overwritten during the copy
        if (at < begin_.load(std::memory_order_relaxed)) return false;
        return key.empty() || std::memcmp(text.data(), key.data(), key.size()) == 0;
    }
    /// Whether the record is in the quarter of the ring that is overwritten next.
    [[nodiscard]] bool is_old(std::uint64_t at) const noexcept {
        return head_.load(std::memory_order_relaxed) - at > capacity() / 4 * 3;
    }

    // ---- under m_ -----------------------------------------------------------------------------------------------------------

    bool put(std::uint64_t source, std::uint64_t hash, version const& v) {
        auto* in = slots_.load(std::memory_order_relaxed);
        if (in == nullptr || (added_in_turn_ * 8 > in->slots() * 5 && in->mask + 1 < buckets_max_)) in = grow();
        auto& bucket = in->bucket(hash);
        auto* slot = &bucket.slots[0];
        std::uint64_t oldest = ~std::uint64_t{0};
        for (auto& s : bucket.slots) {
            auto const seen = s.load(std::memory_order_relaxed);
            auto const at = position_of(seen);
            bool const is_there = may_be(seen, hash) && at >= begin_.load(std::memory_order_relaxed);
            if (is_there && holds(at, source, v.key)) {
                if (!is_old(at)) return false;
                slot = &s;
                break;
            }
            auto const age = seen == 0 ? 0 : at + 1; // a free slot counts as the oldest
            if (age >= oldest) continue;
            oldest = age;
            slot = &s;
        }
        slot->store((hash >> position_bits << position_bits) | (append(source, v) & position_mask),
                    std::memory_order_release);
        ++added_in_turn_;
        return true;
    }
    [[nodiscard]] bool holds(std::uint64_t at, std::uint64_t source, std::string_view key) const noexcept {
        auto const* from = address(at);
        return from != nullptr && from[0] == source && static_cast<std::uint16_t>(from[2] >> 32) == key.size() &&
               std::memcmp(from + head_words, key.data(), key.size()) == 0;
    }
    /// Writes the record at the head of the ring. Returns its position.
    std::uint64_t append(std::uint64_t source, version const& v) {
        row_head const head{
            .at = v.at, .value_bytes = v.value.size(), .key_bytes = v.key.size(), .tombstone = v.tombstone};
        auto const words = head_words + head.text_words();
        auto at = head_.load(std::memory_order_relaxed);
        if (at + words > chunk_end(at)) at = chunk_end(at);
        if (at == chunk_end(at - 1)) enter_chunk(at);
        if (at + words > capacity())
            begin_.store(std::max(begin_.load(std::memory_order_relaxed), at + words - capacity()),
                         std::memory_order_relaxed); // published by the words below: each is stored with release
        auto* const to = address(at);
        write(to, source);
        write(to + 1, v.at.value);
        write(to + 2,
              head.value_bytes | static_cast<word>(head.key_bytes) << 32 | static_cast<word>(head.tombstone) << 48);
        row_buffer text;
        text[head.text_words() == 0 ? 0 : head.text_words() - 1] = 0; // the unused bytes of the last word
        auto* const begin = reinterpret_cast<char*>(text.data());
        if (!v.key.empty()) std::memcpy(begin, v.key.data(), v.key.size());
        if (!v.value.empty()) std::memcpy(begin + v.key.size(), v.value.data(), v.value.size());
        for (std::size_t i = 0; i < head.text_words(); ++i) write(to + head_words + i, text[i]);
        head_.store(at + words, std::memory_order_release);
        return at;
    }
    /// Called when the head enters a chunk. Allocates the chunk the first time. At the begin of the ring it restarts the count of added
    /// records.
    void enter_chunk(std::uint64_t at) {
        auto const chunk = at >> chunk_shift_;
        auto const i = static_cast<std::size_t>(chunk % chunks_.size());
        if (i == 0) added_in_turn_ = 0;
        if (chunks_[i].load(std::memory_order_relaxed) == nullptr) {
            auto const bytes = sizeof(word) << chunk_shift_;
            // The first chunk is ordinary memory, which is taken page by page. A few look-ups need no more.
            held_.push_back(i == 0 ? io::large_memory{static_cast<std::byte*>(::operator new(bytes)), {}}
                                   : io::allocate_large(bytes, {}));
            chunks_[i].store(reinterpret_cast<word*>(held_.back().get()), std::memory_order_release);
        }
        // Slots have only the low bits of a position. Clear slots of overwritten records before their bits could match a later position.
        if (at >> (position_bits - 1) != swept_) {
            swept_ = at >> (position_bits - 1);
            forget_invalid();
        }
    }
    void forget_invalid() noexcept {
        auto const& in = *slots_.load(std::memory_order_relaxed);
        for (std::size_t b = 0; b <= in.mask; ++b)
            for (auto& s : in.buckets[b].slots) {
                auto const seen = s.load(std::memory_order_relaxed);
                if (seen != 0 && position_of(seen) < begin_.load(std::memory_order_relaxed))
                    s.store(0, std::memory_order_relaxed);
            }
    }
    slot_table* grow() {
        auto const* old = slots_.load(std::memory_order_relaxed);
        auto const size = old == nullptr ? buckets_min : std::min((old->mask + 1) * 4, buckets_max_);
        tables_.push_back(std::make_unique<slot_table>(size));
        auto* const bigger = tables_.back().get();
        for (std::size_t b = 0; old != nullptr && b <= old->mask; ++b)
            for (auto const& s : old->buckets[b].slots) {
                auto const seen = s.load(std::memory_order_relaxed);
                if (seen == 0 || position_of(seen) < begin_.load(std::memory_order_relaxed)) continue;
                for (auto& to : bigger->bucket(seen).slots)
                    if (to.load(std::memory_order_relaxed) == 0) {
                        to.store(seen, std::memory_order_relaxed);
                        break;
                    }
            }
        slots_.store(bigger, std::memory_order_release);
        return bigger;
    }

    unsigned chunk_shift_ = 0;
    std::size_t buckets_max_ = 0;
    std::vector<std::atomic<word*>> chunks_{}; ///< memory of the ring; null: not reached yet
    std::atomic<slot_table*> slots_{nullptr};
    std::atomic<std::uint64_t> begin_{0}; ///< records in front of it are overwritten
    std::atomic<std::uint64_t> head_{0};  ///< where the next record is written
    std::atomic<std::uint32_t> offers_{0};
    mutable std::mutex m_;
    std::uint64_t added_in_turn_ = 0; ///< records added since the head was last at the begin of the ring
    std::uint64_t swept_ = 0;
    std::vector<io::large_memory> held_{};
    /// only the last one is used; readers may still be in the others
    std::vector<std::unique_ptr<slot_table>> tables_{};
};

} // namespace keel::inline v0::table

#endif
