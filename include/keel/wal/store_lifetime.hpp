// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_STORE_LIFETIME_HPP
#define KEEL_WAL_STORE_LIFETIME_HPP

// Whether a store may still be used: it is open, and this is the process that opened it. Shared by the store and all that reads from it
// (scans, transactions, readers of the log), which may outlive it or be carried into a forked child.
//
// Thread rules: any number of threads; asking costs two loads.

#include <keel/error.hpp>
#include <keel/io/process.hpp>

#include <atomic>
#include <memory>

namespace keel::inline v0::wal {

class store_lifetime {
public:
    /// Whether this is the process that opened the store. Elsewhere nothing of it may be touched: no mutex, no thread, no file.
    [[nodiscard]] bool is_here() const noexcept { return process_.is_here(); }
    [[nodiscard]] bool is_open() const noexcept { return is_here() && open_.load(std::memory_order_acquire); }
    /// From here on the store answers `closed`.
    void end() noexcept { open_.store(false, std::memory_order_release); }

private:
    io::process_mark process_{};
    std::atomic<bool> open_{true}; // release: whoever sees the end sees what led to it
};

/// Why a store may not be used. Errors: closed.
[[nodiscard]] inline tl::unexpected<error> why_closed(store_lifetime const* of) {
    if (of == nullptr) return failure(errc::closed, "this object was moved from, and has no store");
    if (!of->is_here())
        return failure(errc::closed,
                       "this process is a fork of the one that opened the store, and may not use it: open the "
                       "store in this process once the other one has closed it");
    return failure(errc::closed, "the store is closed");
}
/// Whether a store may be used; `of` is empty in an object that was moved from. Errors: closed.
[[nodiscard]] inline result<void> check_open(std::shared_ptr<store_lifetime const> const& of) {
    if (of && of->is_open()) [[likely]]
        return {};
    return why_closed(of.get());
}

} // namespace keel::inline v0::wal

#endif
