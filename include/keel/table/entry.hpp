// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_ENTRY_HPP
#define KEEL_TABLE_ENTRY_HPP

// One version of one key, as everything in memory, every run and every table hands it out.

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

struct version {
    std::string_view key{};
    std::string_view value{};
    lsn at{};
    bool tombstone = false;
};

/// Which versions of a key a walk comes upon.
enum class versions : std::uint8_t {
    all,
    newest_seen, ///< the newest one that is not newer than the walk's snapshot
};

/// A block as one reader holds it: a share of one in the cache, or bytes in memory of its own, which it uses again. Views into it stay
/// what they are when it is moved.
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
    /// So many bytes of its own; what was in it is gone.
    [[nodiscard]] byte_span room(std::size_t bytes) {
        release();
        if (bytes > capacity_) {
            memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
            capacity_ = bytes;
        }
        view_ = {memory_.get(), bytes};
        return {memory_.get(), bytes};
    }
    /// Empty from here on; memory of its own is kept for the next one.
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

/// A version that was read from a file. The views point into what it holds, and keeps when it moves.
struct read_version {
    version what{};
    pinned_block bytes{};
};

/// Told of what does not verify, from whichever thread reads; must not call back into the store.
using damage_listener = std::function<void(finding)>;

} // namespace keel::inline v0::table

#endif
