// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_STORE_LIFETIME_HPP
#define KEEL_WAL_STORE_LIFETIME_HPP

// Whether a store may still be used: it is open, and this process opened it. The store shares this object with all objects that read from
// it (scans, transactions, readers of the log). They may outlive the store or be copied into a forked child.
//
// Thread rules: any number of threads may call. A call costs two loads.

#include <keel/error.hpp>
#include <keel/io/process.hpp>

#include <atomic>
#include <memory>

namespace keel::inline v0::wal {

class store_lifetime {
public:
    /// Whether this process opened the store. Another process may touch no part of it: no mutex, no thread, no file.
    [[nodiscard]] bool is_here() const noexcept { return process_.is_here(); }
    [[nodiscard]] bool is_open() const noexcept { return is_here() && open_.load(std::memory_order_acquire); }
    /// From here on every call to the store returns `closed`.
    void end() noexcept { open_.store(false, std::memory_order_release); }

private:
    io::process_mark process_{};
    std::atomic<bool> open_{true}; // release: a thread that sees the end sees all changes before it
};

/// The error for a store that may not be used: `closed`, with the reason. `of`: null in an object that was moved from.
[[nodiscard]] inline tl::unexpected<error> why_closed(store_lifetime const* of) {
    if (of == nullptr) return failure(errc::closed, "this object was moved from, and has no store");
    if (!of->is_here())
        return failure(errc::closed,
                       "this process is a fork of the one that opened the store, and may not use it: open the "
                       "store in this process once the other one has closed it");
    return failure(errc::closed, "the store is closed");
}
/// Whether a store may be used. `of`: null in an object that was moved from. Errors: closed.
[[nodiscard]] inline result<void> check_open(std::shared_ptr<store_lifetime const> const& of) {
    if (of && of->is_open()) [[likely]]
        return {};
    return why_closed(of.get());
}

} // namespace keel::inline v0::wal

#endif
