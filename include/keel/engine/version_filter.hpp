// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_VERSION_FILTER_HPP
#define KEEL_ENGINE_VERSION_FILTER_HPP

// Which versions of a key a merge keeps. A moment sees of each key the newest version at or below it. So a version is seen if a moment lies
// at or behind it and in front of the next newer version of its key. Moments that are held later lie at or behind the last one here, so
// everything that is newer than that is kept. All other versions are forgotten, also between two snapshots.
//
// The newest version of a key is always kept by this, so a commit that asks whether a key was changed finds the same answer.

#include <keel/detail/assert.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// One thread's. A version costs the logarithm of the number of snapshots.
class version_filter {
public:
    /// `snapshots`: all that are held, in order, and last the one which no later one is before.
    explicit version_filter(std::vector<lsn> snapshots) : snapshots_{std::move(snapshots)}, end_{snapshots_.size()} {
        KEEL_ASSERT(!snapshots_.empty());
    }

    /// The next version is the newest one of another key.
    void begin_key() noexcept {
        end_ = snapshots_.size();
        newer_ = {};
    }
    /// The versions of a key, the newest first. Whether no moment sees this one.
    [[nodiscard]] bool hides(lsn at) noexcept {
        auto const newer = std::exchange(newer_, at);
        if (!newer || at > snapshots_.back()) return false;
        auto const first = snapshots_.begin();
        auto const sees_newer = std::lower_bound(first, first + static_cast<std::ptrdiff_t>(end_), newer);
        end_ = static_cast<std::size_t>(sees_newer - first);
        return end_ == 0 || snapshots_[end_ - 1] < at;
    }
    /// Whether every moment sees this version or a newer one of its key, so that all older ones are hidden.
    [[nodiscard]] bool hides_all_behind(lsn at) const noexcept { return at <= snapshots_.front(); }

private:
    std::vector<lsn> snapshots_;
    std::size_t end_; ///< the snapshots in front of it do not see the last version asked about, but perhaps older ones
    lsn newer_{};     ///< the last version asked about; 0: none of this key
};

} // namespace keel::inline v0::detail

#endif
