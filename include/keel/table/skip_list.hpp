// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SKIP_LIST_HPP
#define KEEL_TABLE_SKIP_LIST_HPP

// Versions in order of key, newest first within a key. One thread inserts at a time; any number read meanwhile, without a lock:
// a node is linked bottom level first with release stores, so who sees it (acquire) sees it whole. Nothing is ever removed.
// After W. Pugh, "Skip lists: a probabilistic alternative to balanced trees", CACM 33(6), 1990.

#include <keel/format/index.hpp>
#include <keel/table/arena.hpp>
#include <keel/table/entry.hpp>
#include <keel/types.hpp>

#include <array>
#include <atomic>
#include <cstring>
#include <new>
#include <string_view>

namespace keel::inline v0::table {

class skip_list {
public:
    static constexpr int height_max = 16;

    struct node {
        std::uint64_t prefix;
        lsn at;
        std::uint32_t value_bytes;
        std::uint16_t key_bytes;
        bool tombstone;
        std::uint8_t height;

        [[nodiscard]] std::atomic<node*>* links() noexcept {
            return std::launder(reinterpret_cast<std::atomic<node*>*>(this + 1));
        }
        [[nodiscard]] std::atomic<node*> const* links() const noexcept {
            return std::launder(reinterpret_cast<std::atomic<node*> const*>(this + 1));
        }
        [[nodiscard]] node* next(int level) const noexcept { return links()[level].load(std::memory_order_acquire); }
        [[nodiscard]] std::string_view key() const noexcept { return {text(), key_bytes}; }
        [[nodiscard]] version view() const noexcept {
            return {.key = key(), .value = {text() + key_bytes, value_bytes}, .at = at, .tombstone = tombstone};
        }
        [[nodiscard]] char const* text() const noexcept {
            return reinterpret_cast<char const*>(this + 1) + sizeof(std::atomic<node*>) * height;
        }
    };

    skip_list() : head_{make_node({}, height_max)} {}

    /// One thread at a time.
    void insert(version const& v) {
        auto const prefix = format::key_prefix(v.key);
        std::array<node*, height_max> before{};
        auto* at = head_;
        for (int level = height_max - 1; level >= 0; --level) {
            for (node* next = at->next(level); next != nullptr && less(*next, prefix, v.key, v.at);
                 next = at->next(level))
                at = next;
            before[static_cast<std::size_t>(level)] = at;
        }
        auto* const fresh = make_node(v, random_height());
        for (int level = 0; level < fresh->height; ++level) {
            auto& link = before[static_cast<std::size_t>(level)]->links()[level];
            fresh->links()[level].store(link.load(std::memory_order_relaxed), std::memory_order_relaxed);
            link.store(fresh, std::memory_order_release);
        }
    }

    /// The first version not in front of (key, at): the newest one of `key` that is not newer than `at`, or of a later key.
    [[nodiscard]] node const* lower_bound(std::string_view key, lsn at) const noexcept {
        return around(key, at).behind;
    }
    [[nodiscard]] node const* first() const noexcept { return head_->next(0); }
    /// The last version in front of (key, at); nothing where there is none.
    [[nodiscard]] node const* last_before(std::string_view key, lsn at) const noexcept {
        auto const* n = around(key, at).before;
        return n == head_ ? nullptr : n;
    }
    [[nodiscard]] node const* last() const noexcept {
        node const* at = head_;
        for (int level = height_max - 1; level >= 0; --level)
            for (node const* next = at->next(level); next != nullptr; next = at->next(level)) at = next;
        return at == head_ ? nullptr : at;
    }
    [[nodiscard]] std::size_t used_bytes() const noexcept { return memory_.used_bytes(); }

private:
    [[nodiscard]] static bool less(node const& n, std::uint64_t prefix, std::string_view key, lsn at) noexcept {
        if (n.prefix != prefix) return n.prefix < prefix;
        auto const order = n.key().compare(key);
        return order != 0 ? order < 0 : n.at > at;
    }
    struct place {
        node const* before;
        node const* behind;
    };
    /// Where (key, at) stands. `behind` is the node that was compared: to load the link of `before` once more could give one that was
    /// inserted meanwhile, in front of the key.
    [[nodiscard]] place around(std::string_view key, lsn at) const noexcept {
        auto const prefix = format::key_prefix(key);
        node const* n = head_;
        node const* next = nullptr;
        for (int level = height_max - 1; level >= 0; --level)
            for (next = n->next(level); next != nullptr && less(*next, prefix, key, at); next = n->next(level))
                n = next;
        return {n, next};
    }
    [[nodiscard]] node* make_node(version const& v, int height) {
        auto const links = sizeof(std::atomic<node*>) * static_cast<std::size_t>(height);
        auto* const memory = memory_.allocate(sizeof(node) + links + v.key.size() + v.value.size());
        auto* const n = new (memory) node{.prefix = format::key_prefix(v.key),
                                          .at = v.at,
                                          .value_bytes = static_cast<std::uint32_t>(v.value.size()),
                                          .key_bytes = static_cast<std::uint16_t>(v.key.size()),
                                          .tombstone = v.tombstone,
                                          .height = static_cast<std::uint8_t>(height)};
        for (int level = 0; level < height; ++level)
            new (memory + sizeof(node) + sizeof(std::atomic<node*>) * static_cast<std::size_t>(level))
                std::atomic<node*>{nullptr};
        auto* const text = memory + sizeof(node) + links;
        if (!v.key.empty()) std::memcpy(text, v.key.data(), v.key.size());
        if (!v.value.empty()) std::memcpy(text + v.key.size(), v.value.data(), v.value.size());
        return n;
    }
    [[nodiscard]] int random_height() noexcept {
        random_ ^= random_ << 13;
        random_ ^= random_ >> 7;
        random_ ^= random_ << 17;
        int height = 1;
        for (auto bits = random_; height < height_max && (bits & 3) == 0; bits >>= 2) ++height;
        return height;
    }

    arena memory_{};
    std::uint64_t random_ = 0x2545F4914F6CDD1DULL;
    node* head_;
};

} // namespace keel::inline v0::table

#endif
