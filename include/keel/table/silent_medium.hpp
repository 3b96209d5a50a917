// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SILENT_MEDIUM_HPP
#define KEEL_TABLE_SILENT_MEDIUM_HPP

// How long what a medium does not give is taken for a passing trouble. A part of a file that leads to others and cannot be read makes every
// look-up behind it an error that may be tried again. After a minute without an answer it counts as damaged: then all that can be found
// without it is served.

#include <chrono>
#include <optional>

namespace keel::inline v0::table {

/// One file's. Guarded by whoever has it.
class silent_medium {
public:
    /// Called each time it gave no answer: whether it may answer a later call.
    [[nodiscard]] bool may_answer_later() {
        auto const now = std::chrono::steady_clock::now();
        if (!since_) since_ = now;
        return ++tries_ < tries_max || now - *since_ < patience;
    }

private:
    static constexpr unsigned tries_max = 32;
    static constexpr std::chrono::seconds patience{60};
    std::optional<std::chrono::steady_clock::time_point> since_{};
    unsigned tries_ = 0;
};

} // namespace keel::inline v0::table

#endif
