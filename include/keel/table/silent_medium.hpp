// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SILENT_MEDIUM_HPP
#define KEEL_TABLE_SILENT_MEDIUM_HPP

// How long what a medium does not give is taken for a passing trouble.
//  - A part of a file that leads to others and cannot be read makes every look-up behind it an error that may be tried again. After a minute
//    without an answer it counts as damaged: then all that can be found without it is served.
//  - A merge that cannot read a table fails, and is tried again. After an hour it leaves the keys behind, as damage: a passing trouble must
//    not cost data.

#include <chrono>
#include <optional>

namespace keel::inline v0::table {

/// One file's. Guarded by whoever has it.
class silent_medium {
public:
    /// Of a part that leads to others.
    silent_medium() = default;
    /// So many tries, and so long.
    silent_medium(unsigned tries_least, std::chrono::seconds patience)
        : tries_least_{tries_least}, patience_{patience} {}

    /// Called each time it gave no answer: whether it may answer a later call.
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
