// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WINDOW_HPP
#define KEEL_WAL_WINDOW_HPP

// A window that slides over a file. All code that reads frames reads them through a window. So memory is bounded by the window, or by one
// frame if a frame is longer. A sector that cannot be read becomes zeros and is listed in unreadable(); reading goes on. One thread per
// window.

#include <keel/format/endian.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <iterator>
#include <vector>

namespace keel::inline v0::wal {

struct byte_range {
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
};

template <class File>
class window {
public:
    static constexpr std::size_t default_bytes = 256 * KiB;
    static constexpr std::size_t sector_bytes = 512;

    /// Reads `file` from 0 to `end`. Bytes behind the real end of the file read as zeros. The file must outlive the window.
    window(File const& file, std::uint64_t end, std::size_t bytes = default_bytes)
        : file_{&file}, end_{end}, bytes_{static_cast<std::size_t>(std::min<std::uint64_t>(bytes, end))} {}

    /// The bytes [offset, offset + length), valid until the next call. offset + length must not be greater than the end. Unreadable sectors
    /// are zeros and are listed in unreadable().
    [[nodiscard]] byte_view at(std::uint64_t offset, std::size_t length) {
        if (offset < begin_ || offset + length > begin_ + filled_) fill(offset, length);
        return byte_view{buffer_}.subspan(static_cast<std::size_t>(offset - begin_), length);
    }
    /// All bytes that the window holds from `offset` on, at least `length`. Valid until the next call.
    [[nodiscard]] byte_view from(std::uint64_t offset, std::size_t length) {
        static_cast<void>(at(offset, length));
        return byte_view{buffer_}.first(filled_).subspan(static_cast<std::size_t>(offset - begin_));
    }
    /// Reads the same bytes again, past the page cache, and keeps the new bytes. True if they differ from the old ones.
    [[nodiscard]] bool reread(std::uint64_t offset, std::size_t length) {
        static_cast<void>(at(offset, length));
        byte_span const held{buffer_.data() + (offset - begin_), length};
        std::vector<std::byte> again(length);
        auto const got = file_->read_uncached(offset, again);
        if (!got || *got != length || std::ranges::equal(held, again)) return false;
        std::ranges::copy(again, held.begin());
        return true;
    }

    /// The next call reads the file again.
    void forget() noexcept { filled_ = 0; }

    [[nodiscard]] std::vector<byte_range> const& unreadable() const noexcept { return unreadable_; }
    [[nodiscard]] std::uint64_t end() const noexcept { return end_; }

private:
    void fill(std::uint64_t offset, std::size_t length) {
        auto const wanted = std::min<std::uint64_t>(std::max(length, bytes_), end_ - offset);
        if (buffer_.size() < wanted) buffer_.resize(static_cast<std::size_t>(wanted));
        begin_ = offset;
        filled_ = static_cast<std::size_t>(wanted);
        byte_span const all{buffer_.data(), filled_};
        auto const got = file_->read(offset, all);
        if (got) std::ranges::fill(all.subspan(*got), std::byte{0});
        else fill_by_sector(all);
    }
    void fill_by_sector(byte_span all) {
        for (std::size_t done = 0; done < all.size();) {
            auto const offset = begin_ + done;
            auto const to_border = sector_bytes - static_cast<std::size_t>(offset % sector_bytes);
            auto const part = all.subspan(done, std::min(to_border, all.size() - done));
            auto const got = file_->read(offset, part);
            std::ranges::fill(part.subspan(got ? *got : 0), std::byte{0});
            if (!got) note_unreadable({offset, part.size()});
            done += part.size();
        }
    }
    /// Keeps the list in order and without overlaps, in whatever order the file is read.
    void note_unreadable(byte_range bad) {
        auto at = std::ranges::upper_bound(unreadable_, bad.offset, {}, &byte_range::offset);
        if (at != unreadable_.begin() && std::prev(at)->offset + std::prev(at)->length >= bad.offset) {
            --at;
            at->length = std::max(at->length, bad.offset + bad.length - at->offset);
        } else {
            at = unreadable_.insert(at, bad);
        }
        auto const behind = std::next(at);
        if (behind == unreadable_.end() || behind->offset > at->offset + at->length) return;
        at->length = std::max(at->length, behind->offset + behind->length - at->offset);
        unreadable_.erase(behind);
    }

    File const* file_;
    std::uint64_t end_;
    std::size_t bytes_;
    std::vector<std::byte> buffer_{};
    std::uint64_t begin_ = 0;
    std::size_t filled_ = 0;
    std::vector<byte_range> unreadable_{};
};

/// The next offset at or after `from` that holds the tag; `limit` if there is none. `from` is a multiple of 8, and only multiples of 8 are
/// searched.
template <class File>
[[nodiscard]] std::uint64_t find_tag(window<File>& in, std::uint32_t tag, std::uint64_t from, std::uint64_t limit) {
    while (from + 8 <= limit) {
        auto const bytes = in.from(from, 8);
        auto const steps = std::min<std::uint64_t>(bytes.size(), limit - from) / 8;
        std::byte const* at = bytes.data();
        std::uint64_t i = 0;
        for (; i + 8 <= steps; i += 8, at += 64) {
            // Compare eight positions at once, without a branch: this loop runs at the speed of memory.
            std::uint32_t hit = 0;
            for (std::size_t k = 0; k < 8; ++k)
                hit |= static_cast<std::uint32_t>(format::load<std::uint32_t>(at + 8 * k) == tag);
            if (hit != 0) break;
        }
        for (; i < steps; ++i, at += 8) {
            if (format::load<std::uint32_t>(bytes.data() + 8 * i) == tag) return from + 8 * i;
        }
        from += 8 * steps;
    }
    return limit;
}

} // namespace keel::inline v0::wal

#endif
