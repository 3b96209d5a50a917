// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_MEMORY_CONTENT_HPP
#define KEEL_IO_DETAIL_MEMORY_CONTENT_HPP

// The bytes of one simulated file, and what a power loss may make of them. Bytes are stored in pages of 4 KiB, created when they are first
// written. A page that does not exist reads as zeros. A page may have a past: for each 512-byte sector all versions since the last sync,
// the oldest first. The newest version is the page itself.
//   no past            the medium holds the bytes that are read
//   past, dirty        the next sync makes the newest version durable; until then a power loss leaves any version
//   past, not dirty    a sync of the sector failed. The sector looks clean, so no later sync writes it. The medium holds one of the
//                      versions, and it is not known which. A power loss or evict() chooses it. A write makes the sector dirty again
// The size has a past of the same kind. Bytes beyond the size are zero in every page.

#include <keel/io/detail/memory_choice.hpp>
#include <keel/io/detail/memory_cow.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace keel::inline v0::io::detail {

inline constexpr std::size_t memory_sector_bytes = 512;
inline constexpr std::size_t memory_page_bytes = 4096;
inline constexpr std::size_t memory_page_sectors = memory_page_bytes / memory_sector_bytes;
/// The largest size of a file: the table of its pages is in memory.
inline constexpr std::uint64_t memory_file_bytes_max = 64 * GiB;

class memory_content {
public:
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    /// Calls f(view) for the bytes [offset, offset + length) in order. The views are valid until the next change.
    template <class F>
    void each_piece(std::uint64_t offset, std::uint64_t length, F&& f) const {
        while (length > 0) {
            auto const in_page = static_cast<std::size_t>(offset % memory_page_bytes);
            auto const piece = static_cast<std::size_t>(std::min<std::uint64_t>(length, memory_page_bytes - in_page));
            f(byte_view{page_at(offset / memory_page_bytes).data() + in_page, piece});
            offset += piece;
            length -= piece;
        }
    }

    void copy_out(std::uint64_t offset, byte_span out) const {
        each_piece(offset, out.size(), [to = out.data()](byte_view piece) mutable {
            std::memcpy(to, piece.data(), piece.size());
            to += piece.size();
        });
    }

    /// Writes `bytes` at `offset`. Each sector remembers its old content, at most `versions_max` versions in all.
    void write(std::uint64_t offset, byte_view bytes, std::size_t versions_max) {
        make_readable(offset, bytes.size());
        grow(offset + bytes.size(), versions_max);
        while (!bytes.empty()) {
            auto const in_page = static_cast<std::size_t>(offset % memory_page_bytes);
            auto const piece = std::min(bytes.size(), memory_page_bytes - in_page);
            write_page(static_cast<std::size_t>(offset / memory_page_bytes), in_page, bytes.first(piece), versions_max);
            offset += piece;
            bytes = bytes.subspan(piece);
        }
    }

    /// Makes the file at least `size` bytes long. The new size is a version like a new content.
    void grow(std::uint64_t size, std::size_t versions_max) {
        if (size <= size_) return;
        if (versions_max > 1) {
            sizes_.push_back(size_);
            thin(sizes_, versions_max);
            size_dirty_ = true;
        }
        size_ = size;
    }

    void sync() {
        if (size_dirty_) sizes_.clear();
        size_dirty_ = false;
        std::erase_if(pages_with_past_, [this](std::size_t number) { return settle(pages_[number].past); });
    }

    /// A failed sync: dirty sectors look clean from now on.
    void fail_sync() {
        size_dirty_ = false;
        for (auto const number : pages_with_past_)
            for (auto& one : pages_[number].past.edit()) one.dirty = false;
    }

    /// Each unsynced sector, and an unsynced size, takes one of its versions. After that nothing is unsynced.
    void lose_power(survivor_choice& choice) {
        std::sort(pages_with_past_.begin(), pages_with_past_.end());
        for (auto const number : pages_with_past_) {
            auto const past = std::exchange(pages_[number].past, {});
            for (std::size_t s = 0; s < memory_page_sectors; ++s) {
                auto const& older = (*past)[s].older;
                auto const kept = older.empty() ? 0 : choice.version(older.size() + 1);
                if (kept < older.size()) revert(number, s, older[kept]);
            }
        }
        pages_with_past_.clear();
        auto const kept = sizes_.empty() ? 0 : choice.version(sizes_.size() + 1);
        if (kept < sizes_.size()) size_ = sizes_[kept];
        sizes_.clear();
        size_dirty_ = false;
        drop_beyond_size();
    }

    /// Some sectors whose sync failed are read from the medium again. They take one of their older versions, durably.
    void evict(seeded& random) {
        std::sort(pages_with_past_.begin(), pages_with_past_.end());
        for (auto const number : pages_with_past_) {
            for (std::size_t s = 0; s < memory_page_sectors; ++s) {
                auto const& one = (*pages_[number].past)[s];
                if (one.dirty || one.older.empty() || random.below(2) == 0) continue;
                revert(number, s, one.older[static_cast<std::size_t>(random.below(one.older.size()))]);
                pages_[number].past.edit()[s].older.clear();
            }
        }
        std::erase_if(pages_with_past_, [this](std::size_t number) { return drop_empty(pages_[number].past); });
    }

    [[nodiscard]] bool has_past() const noexcept { return !pages_with_past_.empty() || !sizes_.empty(); }

    /// Changes the medium: calls change(byte&, index) for each byte of the range, in every version.
    template <class F>
    void damage(std::uint64_t offset, std::uint64_t length, F change) {
        for (std::uint64_t i = 0; i < length; ++i) {
            auto const at = offset + i;
            auto const number = static_cast<std::size_t>(at / memory_page_bytes);
            auto const in_page = static_cast<std::size_t>(at % memory_page_bytes);
            make_page(number);
            change(pages_[number].bytes.edit()[in_page], i);
            if (!pages_[number].past) continue;
            for (auto& version : pages_[number].past.edit()[in_page / memory_sector_bytes].older) {
                if (!version) version = cow<sector>::make();
                change(version.edit()[in_page % memory_sector_bytes], i);
            }
        }
    }

    /// Makes `bytes` the whole, durable content.
    void replace(byte_view bytes) {
        *this = {};
        write(0, bytes, 1);
    }

    /// Sets the durable size. Bytes beyond it are lost in every version.
    void cut(std::uint64_t size) {
        size_ = size;
        sizes_.clear();
        size_dirty_ = false;
        drop_beyond_size();
    }

    void mark_unreadable(std::uint64_t offset, std::uint64_t length) {
        for (auto s = offset / memory_sector_bytes; s * memory_sector_bytes < offset + length; ++s) {
            auto const place = std::lower_bound(unreadable_.begin(), unreadable_.end(), s);
            if (place == unreadable_.end() || *place != s) unreadable_.insert(place, s);
        }
    }

    /// The first offset in [offset, offset + length) that cannot be read; std::nullopt: there is none.
    [[nodiscard]] std::optional<std::uint64_t> first_unreadable(std::uint64_t offset,
                                                                std::uint64_t length) const noexcept {
        if (unreadable_.empty() || length == 0) return {};
        auto const place = std::lower_bound(unreadable_.begin(), unreadable_.end(), offset / memory_sector_bytes);
        if (place == unreadable_.end() || *place * memory_sector_bytes >= offset + length) return {};
        return std::max(offset, *place * memory_sector_bytes);
    }

    /// The first offset at which a write fails; std::nullopt: there is none. A write fails if it covers only a part of an unreadable
    /// sector, because it would have to read the sector first.
    [[nodiscard]] std::optional<std::uint64_t> first_unwritable(std::uint64_t offset,
                                                                std::uint64_t length) const noexcept {
        for (auto at = first_unreadable(offset, length); at;) {
            auto const start = *at / memory_sector_bytes * memory_sector_bytes;
            auto const end = start + memory_sector_bytes;
            if (offset > start || offset + length < std::min(end, size_)) return at;
            if (end >= offset + length) return {};
            at = first_unreadable(end, offset + length - end);
        }
        return {};
    }

    /// Number of blocks that the file owns, in pages: written or reserved.
    [[nodiscard]] std::uint64_t pages_owned() const noexcept { return reserved_ + loose_ - punched_.size(); }

    /// How many bytes of [offset, offset + length) can be written if `pages` new blocks are free.
    [[nodiscard]] std::uint64_t affordable(std::uint64_t offset, std::uint64_t length,
                                           std::uint64_t pages) const noexcept {
        auto const end = offset + length;
        for (auto p = offset / memory_page_bytes; p * memory_page_bytes < end; ++p) {
            if (owns(p)) continue;
            if (pages-- == 0) return std::max(offset, p * memory_page_bytes) - offset;
        }
        return length;
    }

    /// How many new blocks reserve(size) takes.
    [[nodiscard]] std::uint64_t pages_to_reserve(std::uint64_t size) const noexcept {
        auto const wanted = pages_of(size);
        auto const holes = static_cast<std::uint64_t>(std::distance(punched_.begin(), punched_.lower_bound(wanted)));
        return holes + (wanted <= reserved_ ? 0 : wanted - reserved_ - made_between(reserved_, wanted));
    }

    /// Makes the file own the blocks of its first `size` bytes.
    void reserve(std::uint64_t size) noexcept {
        auto const wanted = pages_of(size);
        punched_.erase(punched_.begin(), punched_.lower_bound(wanted));
        if (wanted <= reserved_) return;
        loose_ -= made_between(reserved_, wanted);
        reserved_ = wanted;
    }

    /// Makes these bytes zero; this is a version like any other. The file gives up the pages that lie wholly in the range.
    void punch_hole(std::uint64_t offset, std::uint64_t length, std::size_t versions_max) {
        length = std::min(length, size_ - std::min(offset, size_));
        make_readable(offset, length);
        while (length > 0) {
            auto const number = offset / memory_page_bytes;
            auto const in_page = static_cast<std::size_t>(offset % memory_page_bytes);
            auto const piece = static_cast<std::size_t>(std::min<std::uint64_t>(length, memory_page_bytes - in_page));
            bool const gone = !owns(number) || piece == memory_page_bytes;
            if (has_page(number))
                write_page(static_cast<std::size_t>(number), in_page, byte_view{zeros_}.first(piece), versions_max);
            if (gone && owns(number)) punched_.insert(number);
            offset += piece;
            length -= piece;
        }
    }

    [[nodiscard]] bool same_bytes(memory_content const& other) const noexcept {
        if (size_ != other.size_) return false;
        for (std::uint64_t p = 0; p < pages_of(size_); ++p) {
            auto const &mine = page_at(p), &theirs = other.page_at(p);
            if (mine.data() != theirs.data() && mine != theirs) return false;
        }
        return true;
    }

private:
    using page = std::array<std::byte, memory_page_bytes>;
    using sector = std::array<std::byte, memory_sector_bytes>;
    struct sector_past {
        std::vector<cow<sector>> older; // an empty pointer means a sector of zeros
        bool dirty = false;
    };
    using page_past = std::array<sector_past, memory_page_sectors>;
    struct page_slot {
        cow<page> bytes;
        cow<page_past> past;
    };

    static constexpr page zeros_{};

    [[nodiscard]] static std::uint64_t pages_of(std::uint64_t bytes) noexcept {
        return (bytes + memory_page_bytes - 1) / memory_page_bytes;
    }
    [[nodiscard]] bool has_page(std::uint64_t number) const noexcept {
        return number < pages_.size() && pages_[static_cast<std::size_t>(number)].bytes;
    }
    [[nodiscard]] bool owns(std::uint64_t number) const noexcept {
        return (number < reserved_ || has_page(number)) && !punched_.contains(number);
    }
    [[nodiscard]] page const& page_at(std::uint64_t number) const noexcept {
        return has_page(number) ? *pages_[static_cast<std::size_t>(number)].bytes : zeros_;
    }
    [[nodiscard]] std::uint64_t made_between(std::uint64_t first, std::uint64_t last) const noexcept {
        std::uint64_t made = 0;
        for (auto p = first; p < std::min<std::uint64_t>(last, pages_.size()); ++p) made += has_page(p) ? 1U : 0U;
        return made;
    }

    void make_page(std::size_t number) {
        if (pages_.size() <= number) pages_.resize(number + 1);
        if (pages_[number].bytes) return;
        pages_[number].bytes = cow<page>::make();
        if (number >= reserved_) ++loose_;
    }

    void write_page(std::size_t number, std::size_t in_page, byte_view bytes, std::size_t versions_max) {
        bool const is_new = !has_page(number);
        make_page(number);
        punched_.erase(number);
        auto& slot = pages_[number];
        for (std::size_t done = 0; done < bytes.size();) {
            auto const at = in_page + done;
            auto const piece = std::min(bytes.size() - done, memory_sector_bytes - at % memory_sector_bytes);
            bool const same = std::memcmp(slot.bytes->data() + at, bytes.data() + done, piece) == 0;
            if (versions_max > 1) remember(number, at / memory_sector_bytes, same, is_new, versions_max);
            if (!same) std::memcpy(slot.bytes.edit().data() + at, bytes.data() + done, piece);
            done += piece;
        }
    }

    /// Called before a write to a sector. A write that changes nothing adds no version. But it makes a sector dirty again whose sync had
    /// failed.
    void remember(std::size_t number, std::size_t s, bool same, bool is_new, std::size_t versions_max) {
        auto& slot = pages_[number];
        if (same) {
            if (slot.past && !(*slot.past)[s].older.empty()) slot.past.edit()[s].dirty = true;
            return;
        }
        if (!slot.past) {
            slot.past = cow<page_past>::make();
            pages_with_past_.push_back(number);
        }
        auto& mine = slot.past.edit()[s];
        mine.dirty = true;
        mine.older.push_back(is_new ? cow<sector>{} : copy_of(*slot.bytes, s));
        thin(mine.older, versions_max);
    }

    [[nodiscard]] static cow<sector> copy_of(page const& bytes, std::size_t s) {
        auto copy = cow<sector>::make();
        std::memcpy(copy.edit().data(), bytes.data() + s * memory_sector_bytes, memory_sector_bytes);
        return copy;
    }

    /// Removes a random version if there are too many, but never the oldest. (The newest is not in `older`.)
    template <class T>
    void thin(std::vector<T>& older, std::size_t versions_max) {
        if (older.size() < versions_max) return;
        auto const victim = 1 + mixed(++thinned_) % (older.size() - 1);
        older.erase(older.begin() + static_cast<std::ptrdiff_t>(victim));
    }

    void revert(std::size_t number, std::size_t s, cow<sector> const& version) {
        auto* const to = pages_[number].bytes.edit().data() + s * memory_sector_bytes;
        if (version) std::memcpy(to, version->data(), memory_sector_bytes);
        else std::memset(to, 0, memory_sector_bytes);
    }

    /// Called after a successful sync: removes the versions of sectors that are durable now. True: the page has no past left.
    static bool settle(cow<page_past>& past) {
        auto const failed = [](sector_past const& one) { return !one.dirty && !one.older.empty(); };
        if (std::none_of(past->begin(), past->end(), failed)) {
            past = {};
            return true;
        }
        for (auto& one : past.edit())
            if (one.dirty) one = {};
        return false;
    }

    static bool drop_empty(cow<page_past>& past) {
        if (!std::all_of(past->begin(), past->end(), [](sector_past const& one) { return one.older.empty(); }))
            return false;
        past = {};
        return true;
    }

    void drop_beyond_size() {
        auto const pages = static_cast<std::size_t>(pages_of(size_));
        if (pages_.size() > pages) pages_.resize(pages);
        std::erase_if(pages_with_past_, [&](std::size_t number) { return number >= pages; });
        auto const rest = pages * memory_page_bytes - static_cast<std::size_t>(size_);
        if (rest > 0 && has_page(pages - 1)) damage(size_, rest, [](std::byte& b, std::uint64_t) { b = {}; });
        punched_.erase(punched_.lower_bound(pages), punched_.end());
        reserved_ = std::min<std::uint64_t>(reserved_, pages);
        loose_ = made_between(reserved_, pages_.size());
    }

    /// The sectors that this write covers can be read again.
    void make_readable(std::uint64_t offset, std::uint64_t length) {
        if (unreadable_.empty()) return;
        std::erase_if(unreadable_, [&](std::uint64_t s) {
            auto const start = s * memory_sector_bytes;
            return start >= offset && start < offset + length;
        });
    }

    std::uint64_t size_ = 0;
    bool size_dirty_ = false;
    std::vector<std::uint64_t> sizes_; // older sizes, the oldest first
    std::vector<page_slot> pages_;
    std::vector<std::size_t> pages_with_past_;
    std::vector<std::uint64_t> unreadable_; // numbers of sectors, sorted
    std::uint64_t reserved_ = 0;            // number of pages, from the start of the file, that it owns, written or not
    std::uint64_t loose_ = 0;               // number of pages created beyond these
    std::set<std::uint64_t> punched_;       // pages of both kinds that the file owns no longer
    std::uint64_t thinned_ = 0;
};

} // namespace keel::inline v0::io::detail

#endif
