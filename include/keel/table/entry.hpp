// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_ENTRY_HPP
#define KEEL_TABLE_ENTRY_HPP

// One version of one key, as everything in memory, every run and every table hands it out.

#include <keel/policy/repair/finding.hpp>
#include <keel/table/block_cache.hpp>
#include <keel/types.hpp>

#include <functional>
#include <memory>
#include <string_view>

namespace keel::inline v0::table {

struct version {
    std::string_view key{};
    std::string_view value{};
    lsn at{};
    bool tombstone = false;
};

/// A version that was read from a file. The views point into memory it holds, and keeps when it moves.
struct read_version {
    version what{};
    block_cache::block block{}; ///< what the views point into, where that is a block

    /// Room for so many bytes of its own; what was in it is gone.
    [[nodiscard]] byte_span room(std::size_t bytes) {
        if (bytes > capacity_) {
            memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
            capacity_ = bytes;
        }
        return {memory_.get(), bytes};
    }

private:
    std::unique_ptr<std::byte[]> memory_{};
    std::size_t capacity_ = 0;
};

/// Told of what does not verify, from whichever thread reads; must not call back into the store.
using damage_listener = std::function<void(finding)>;

} // namespace keel::inline v0::table

#endif
