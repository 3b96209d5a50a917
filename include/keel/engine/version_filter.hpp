// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_VERSION_FILTER_HPP
#define KEEL_ENGINE_VERSION_FILTER_HPP

// Decides which versions of a key a merge keeps. A snapshot sees, for each key, the newest version at or below the snapshot's LSN. So a
// version is visible if there is a snapshot at or above its LSN and below the LSN of the next newer version of its key. Snapshots taken
// later are not below the last snapshot given here, so all versions newer than that one are kept. All other versions are dropped, also
// those between two snapshots.
//
// This always keeps the newest version of a key, so a commit that checks whether a key was changed gets the same answer as before the
// merge.

#include <keel/detail/assert.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// One thread per object. Each version costs a binary search in the snapshots.
class version_filter {
public:
    /// `snapshots`: all snapshots in use, in order, and at the end an LSN that no later snapshot is below. Not empty.
    explicit version_filter(std::vector<lsn> snapshots) : snapshots_{std::move(snapshots)}, end_{snapshots_.size()} {
        KEEL_ASSERT(!snapshots_.empty());
    }

    /// The next version is the newest one of another key.
    void begin_key() noexcept {
        end_ = snapshots_.size();
        newer_ = {};
    }
    /// Whether no snapshot sees this version. Call it for the versions of a key in order, the newest first.
    [[nodiscard]] bool hides(lsn at) noexcept {
        auto const newer = std::exchange(newer_, at);
        if (!newer || at > snapshots_.back()) return false;
        auto const first = snapshots_.begin();
        auto const sees_newer = std::lower_bound(first, first + static_cast<std::ptrdiff_t>(end_), newer);
        end_ = static_cast<std::size_t>(sees_newer - first);
        return end_ == 0 || snapshots_[end_ - 1] < at;
    }
    /// Whether every snapshot sees this version or a newer one of its key, so that no snapshot sees an older one.
    [[nodiscard]] bool hides_all_behind(lsn at) const noexcept { return at <= snapshots_.front(); }

private:
    std::vector<lsn> snapshots_;
    std::size_t end_; ///< index: the snapshots in front of it may see versions older than newer_
    lsn newer_{};     ///< the version of the last call of hides(); 0: no call for this key yet
};

} // namespace keel::inline v0::detail

#endif
