// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_ROW_CACHE_HPP
#define KEEL_TABLE_ROW_CACHE_HPP

// Records that look-ups asked tables for, each by itself: a look-up that finds its key here touches a slot and the record, where one in
// a block touches a dozen cache lines. A record is the newest version of its key in one table, whose id goes with it (its source);
// whether anything newer is elsewhere is asked before. While there is room a block that a look-up loads is taken apart and all of it
// kept here; from then on only what was asked for, and of that what is asked for again stays.
//
// Records lie one behind the other in a ring, as 64-bit words: source | lsn | value bytes, 32 bits, key bytes, 16, tombstone | key, value.
// A position counts words since the beginning, so it says whether the ring has come round since; one that is asked for when that is near
// is written anew. A slot is 28 bits of the hash and the low 36 of a position; eight slots, a cache line, are where a hash may be.
//
// Thread rules: any number of threads. m_ guards adding; who finds it held goes without, so nobody waits. Readers take no lock: slots
// and words are atomic, words are written with release and read with acquire, and begin_, which says what may be overwritten, is moved
// before the words are: a reader that has seen any word of a later record sees that in begin_, which it asks last. A table of slots that
// was outgrown stays for who stands in it.

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
    /// Key and value of a record that is kept here have so many bytes at most: of larger ones a block holds few.
    static constexpr std::size_t row_bytes_max = 512;
    /// Where a look-up gets a record copied to.
    using row_buffer = std::array<std::uint64_t, row_bytes_max / sizeof(std::uint64_t)>;

    /// Takes about so many bytes at most, and none before they are needed. Less than 64 KiB: nothing is kept.
    explicit row_cache(std::size_t bytes_max) {
        auto const ring = bytes_max - bytes_max / 8; // the rest is for slots
        if (bytes_max < chunks_min * chunk_bytes_min) return;
        buckets_max_ = std::max(buckets_min, std::bit_floor((bytes_max - ring) / sizeof(bucket_type)));
        auto const bytes = std::clamp(std::bit_floor(ring / chunks_min), chunk_bytes_min, io::large_page_bytes);
        chunk_shift_ = static_cast<unsigned>(std::countr_zero(bytes / sizeof(word)));
        chunks_ = std::vector<std::atomic<word*>>(ring / bytes);
    }

    /// Whether it keeps anything at all.
    [[nodiscard]] bool enabled() const noexcept { return !chunks_.empty(); }
    /// Whether to add what a look-up found. Not what the first few do: who looks up little pays for nothing.
    [[nodiscard]] bool wants() noexcept {
        return enabled() && (offers_.load(std::memory_order_relaxed) >= offers_passed ||
                             offers_.fetch_add(1, std::memory_order_relaxed) >= offers_passed);
    }
    /// Whether to add all that is in a block of so many bytes: it has room then without giving up others.
    [[nodiscard]] bool wants_block(std::size_t bytes) noexcept {
        return wants() && head_.load(std::memory_order_relaxed) + bytes / 4 <= capacity();
    }

    /// Asks for the memory that find() looks at first.
    void prefetch(std::uint64_t hash) const noexcept {
        if (auto const* in = slots_.load(std::memory_order_acquire)) keel::detail::prefetch(&in->bucket(hash));
    }
    /// Asks for the record itself, if there is one.
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
    /// The newest version of `key` in `source`, if it is here and not newer than `snapshot`. The views of `into` point into `text`.
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

    /// Adds records; nothing where somebody else does so just now.
    class adder {
    public:
        explicit adder(row_cache& to) : to_{&to}, hold_{to.m_, std::try_to_lock} {}
        /// The newest version of its key in `source`. False: it was there.
        bool add(std::uint64_t source, std::uint64_t hash, version const& v) {
            return hold_ && to_->enabled() && fits(v) && to_->put(source, hash, v);
        }

    private:
        row_cache* to_;
        std::unique_lock<std::mutex> hold_;
    };
    bool add(std::uint64_t source, std::uint64_t hash, version const& v) { return adder{*this}.add(source, hash, v); }
    [[nodiscard]] static bool fits(version const& v) noexcept { return v.key.size() + v.value.size() <= row_bytes_max; }

    /// Of memory that it has taken.
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
    static constexpr std::size_t row_ahead = 192; // processors see by themselves how a copy goes on
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
    /// A power of two of buckets, found by bits of the hash that the slots hold: so it grows without a look at the records.
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
    /// The last one at or in front of the head that ends in these bits.
    [[nodiscard]] std::uint64_t position_of(word slot) const noexcept {
        auto const head = head_.load(std::memory_order_acquire);
        return head - ((head - slot) & position_mask);
    }
    /// Nothing where no memory was taken yet.
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

    /// False: no such record is there, or not any more.
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
        if (at < begin_.load(std::memory_order_relaxed)) return false; // last: it may have been overwritten meanwhile
        return key.empty() || std::memcmp(text.data(), key.data(), key.size()) == 0;
    }
    /// In the last quarter in front of what goes next.
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
            auto const age = seen == 0 ? 0 : at + 1; // a free one is older than any
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
    /// Where it stands now.
    std::uint64_t append(std::uint64_t source, version const& v) {
        row_head const head{
            .at = v.at, .value_bytes = v.value.size(), .key_bytes = v.key.size(), .tombstone = v.tombstone};
        auto const words = head_words + head.text_words();
        auto at = head_.load(std::memory_order_relaxed);
        if (at + words > chunk_end(at)) at = chunk_end(at);
        if (at == chunk_end(at - 1)) enter_chunk(at);
        if (at + words > capacity())
            begin_.store(std::max(begin_.load(std::memory_order_relaxed), at + words - capacity()),
                         std::memory_order_relaxed); // the words below carry it: each is a release
        auto* const to = address(at);
        write(to, source);
        write(to + 1, v.at.value);
        write(to + 2,
              head.value_bytes | static_cast<word>(head.key_bytes) << 32 | static_cast<word>(head.tombstone) << 48);
        row_buffer text;
        text[head.text_words() == 0 ? 0 : head.text_words() - 1] = 0; // what the last word has behind the end
        auto* const begin = reinterpret_cast<char*>(text.data());
        if (!v.key.empty()) std::memcpy(begin, v.key.data(), v.key.size());
        if (!v.value.empty()) std::memcpy(begin + v.key.size(), v.value.data(), v.value.size());
        for (std::size_t i = 0; i < head.text_words(); ++i) write(to + head_words + i, text[i]);
        head_.store(at + words, std::memory_order_release);
        return at;
    }
    /// Memory for it, once; at the ring's beginning the count of what a turn takes begins anew.
    void enter_chunk(std::uint64_t at) {
        auto const chunk = at >> chunk_shift_;
        auto const i = static_cast<std::size_t>(chunk % chunks_.size());
        if (i == 0) added_in_turn_ = 0;
        if (chunks_[i].load(std::memory_order_relaxed) == nullptr) {
            auto const bytes = sizeof(word) << chunk_shift_;
            // The first one is taken page by page: few look-ups need no more.
            held_.push_back(i == 0 ? io::large_memory{static_cast<std::byte*>(::operator new(bytes)), {}}
                                   : io::allocate_large(bytes, {}));
            chunks_[i].store(reinterpret_cast<word*>(held_.back().get()), std::memory_order_release);
        }
        // Slots know a position's low bits only: those that are not valid go before they could be taken for later ones.
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
    std::vector<std::atomic<word*>> chunks_{}; ///< memory of the ring, as far as it was reached once
    std::atomic<slot_table*> slots_{nullptr};
    std::atomic<std::uint64_t> begin_{0}; ///< records in front of it are not there any more
    std::atomic<std::uint64_t> head_{0};  ///< where the next one goes
    std::atomic<std::uint32_t> offers_{0};
    mutable std::mutex m_;
    std::uint64_t added_in_turn_ = 0; ///< records since the ring began anew
    std::uint64_t swept_ = 0;
    std::vector<io::large_memory> held_{};
    std::vector<std::unique_ptr<slot_table>> tables_{}; ///< the last one is used
};

} // namespace keel::inline v0::table

#endif
