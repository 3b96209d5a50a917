// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SILENT_MEDIUM_HPP
#define KEEL_TABLE_SILENT_MEDIUM_HPP

// How long a failed read counts as a passing trouble of the medium, and not as damage.
//  - An index or header may be unreadable. Every look-up that needs it is then an error, and the caller may try again. After a minute and
//    32 tries without an answer, that part counts as damaged. Then the store serves all that can be found without it.
//  - A merge fails when it cannot read a table, and is tried again. After an hour and 3 tries the merge leaves the unreadable keys out, as
//    damage. The time is this long because a passing trouble must not cost data.

#include <chrono>
#include <optional>

namespace keel::inline v0::table {

/// Counts the failed reads of one file. Not thread-safe: its owner guards it.
class silent_medium {
public:
    /// For an index or header: 32 tries and 60 seconds.
    silent_medium() = default;
    /// After a failed read the medium gets at least `tries_least` tries and at least the time `patience`.
    silent_medium(unsigned tries_least, std::chrono::seconds patience)
        : tries_least_{tries_least}, patience_{patience} {}

    /// Called after each failed read. Returns whether a later read may still succeed.
    [[nodiscard]] bool may_answer_later() {
        auto const now = std::chrono::steady_clock::now();
        if (!since_) since_ = now;
        return ++tries_ < tries_least_ || now - *since_ < patience_;
    }

private:
    unsigned tries_least_ = 32;
    std::chrono::seconds patience_{60};
    std::optional<std::chrono::steady_clock::time_point> since_{};
    unsigned tries_ = 0;
};

} // namespace keel::inline v0::table

#endif
