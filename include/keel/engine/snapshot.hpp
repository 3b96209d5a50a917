// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SNAPSHOT_HPP
#define KEEL_ENGINE_SNAPSHOT_HPP

// A snapshot: a moment of a store's history, for reads whose results must not change.

#include <keel/error.hpp>
#include <keel/io/process.hpp>
#include <keel/types.hpp>

#include <memory>
#include <utility>

namespace keel::inline v0 {

/// A moment of a store's history: reads with it never change. It is small; copies share the moment. Use it only with the store that made
/// it: with another store, or a later opening of the same one, reads return invalid_argument. While a copy exists, the store keeps the
/// versions that the snapshot sees, and their disk space.
class snapshot {
public:
    /// For the store. `held`: pins the moment while it exists. `of`: the store's snapshot list, used only for comparison.
    snapshot(std::shared_ptr<void const> held, void const* of, lsn at) noexcept
        : held_{std::move(held)}, of_{of}, at_{at} {}

    /// The last LSN that the snapshot sees. 0: it was taken from a closed store.
    [[nodiscard]] lsn at() const noexcept { return *held_ ? at_ : lsn{}; }
    /// Whether the store with the snapshot list `of` made it.
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
