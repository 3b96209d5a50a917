// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SNAPSHOT_HPP
#define KEEL_ENGINE_SNAPSHOT_HPP

// A moment of a store's history, for reads that must not change.

#include <keel/error.hpp>
#include <keel/io/process.hpp>
#include <keel/types.hpp>

#include <memory>
#include <utility>

namespace keel::inline v0 {

/// A moment of a store's history: reads through it never change. Small; copies share the moment. Outlives nothing: using it with
/// another store, or with a later opening of the same one, is invalid_argument. While it lives the store keeps the versions it sees.
class snapshot {
public:
    /// `held`: keeps the moment as long as it lives. `of`: where the store has its snapshots.
    snapshot(std::shared_ptr<void const> held, void const* of, lsn at) noexcept
        : held_{std::move(held)}, of_{of}, at_{at} {}

    /// 0: it was taken from a store that was closed.
    [[nodiscard]] lsn at() const noexcept { return *held_ ? at_ : lsn{}; }
    /// `of`: where a store has its snapshots.
    [[nodiscard]] bool belongs_to(void const* of) const noexcept { return *held_ && of_ == of; }

private:
    io::process_bound<std::shared_ptr<void const>> held_;
    void const* of_;
    lsn at_;
};

namespace detail {
[[nodiscard]] inline error of_another_store() {
    return {.code = errc::invalid_argument,
            .message = "the snapshot was taken from another store, or from an earlier opening of this one"};
}
} // namespace detail

} // namespace keel::inline v0

#endif
