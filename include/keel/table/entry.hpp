// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_ENTRY_HPP
#define KEEL_TABLE_ENTRY_HPP

// One version of one key. Memtables, segments and tables all return it in this form.

#include <keel/policy/repair/finding.hpp>
#include <keel/table/block_cache.hpp>
#include <keel/types.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>

namespace keel::inline v0::table {

/// A version of a key. `key` and `value` are views. The object that returned the version says how long they stay valid.
struct version {
    std::string_view key{};
    std::string_view value{};
    lsn at{};
    bool tombstone = false;
};

/// Which versions of a key a cursor visits.
enum class versions : std::uint8_t {
    all,
    newest_seen, ///< the newest version that is not newer than the cursor's snapshot
};

/// A block held by one reader: a share of a cached block, or bytes in the reader's own memory. That memory is used again for the next
/// block. Views into the block stay valid when the object is moved. One thread's.
class pinned_block {
public:
    pinned_block() = default;
    pinned_block(pinned_block&& other) noexcept
        : shared_{std::move(other.shared_)}, memory_{std::move(other.memory_)},
          capacity_{std::exchange(other.capacity_, 0)}, view_{std::exchange(other.view_, {})} {}
    pinned_block& operator=(pinned_block&& other) noexcept {
        shared_ = std::move(other.shared_);
        memory_ = std::move(other.memory_);
        capacity_ = std::exchange(other.capacity_, 0);
        view_ = std::exchange(other.view_, {});
        return *this;
    }

    [[nodiscard]] explicit operator bool() const noexcept { return !view_.empty(); }
    [[nodiscard]] byte_view view() const noexcept { return view_; }
    void share(block_cache::block what) noexcept {
        shared_ = std::move(what);
        view_ = shared_.view();
    }
    /// Returns `bytes` bytes of the reader's own memory. The previous content is lost.
    [[nodiscard]] byte_span room(std::size_t bytes) {
        release();
        if (bytes > capacity_) {
            memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
            capacity_ = bytes;
        }
        view_ = {memory_.get(), bytes};
        return {memory_.get(), bytes};
    }
    /// Makes the object empty. Its own memory is kept for the next block.
    void release() noexcept {
        shared_ = {};
        view_ = {};
    }

private:
    block_cache::block shared_{};
    std::unique_ptr<std::byte[]> memory_{};
    std::size_t capacity_ = 0;
    byte_view view_{};
};

/// A version that was read from a file. The views in `what` point into `bytes` and stay valid when the object is moved. A look-up in a
/// table may point the key to the caller's key, and all of `what` into a cached record's copy (sstable_reader::find).
struct read_version {
    version what{};
    pinned_block bytes{};
};

/// Called with each finding of bytes that do not verify, on the thread that reads them. It must not call back into the store.
using damage_listener = std::function<void(finding)>;

} // namespace keel::inline v0::table

#endif
