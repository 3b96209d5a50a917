// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_LOCK_ORDER_HPP
#define KEEL_DETAIL_LOCK_ORDER_HPP

// The order in which the mutexes of one store are taken. A thread that holds one of them takes only those below it in this list. So no two
// threads can wait for each other.
//
//   starting       store_core::starting_      while the background work is started
//   by_hand        store_core::by_hand_       while a writer does the background work, because there is no thread for it
//   compaction     compactor::m_              during a compaction
//   tables_folder  compactor::preparing_      while the folder of the tables is made
//   retention      store_core::retention_     one truncate_before() at a time
//   acceptance     store_core::accepting_     one accept_loss() at a time
//   writer         write_state::m             during the I/O of a roll-over; readers never take it
//   segment_pool   segment_pool::m_           files of the log, and the manifest; held during I/O
//
// All other mutexes of a store are leaves: those of the version set, the catalog, the health, the event queue, the caches and the files. A
// thread that holds a leaf takes none of the mutexes above.
//
// KEEL_TAKES(rank, store) stands in front of each place that takes one of these mutexes, and is valid until the end of the block.
// `store`: the address of the store's segment pool. Without NDEBUG it asserts the order. Its data is on the stack, so that files compiled
// with and without NDEBUG agree on every type.

#include <keel/detail/assert.hpp>

#include <cstdint>

namespace keel::inline v0::detail {

/// The mutexes of the list above, in the same order.
enum class lock_rank : std::uint8_t {
    starting,
    by_hand,
    compaction,
    tables_folder,
    retention,
    acceptance,
    writer,
    segment_pool,
};

/// Records that this thread takes a mutex. Objects are destroyed in the opposite order of their construction.
class taken_lock {
public:
    taken_lock(lock_rank rank, void const* store) noexcept : before_{newest()}, store_{store}, rank_{rank} {
        for (auto const* one = before_; one != nullptr; one = one->before_)
            KEEL_ASSERT(one->store_ != store || one->rank_ < rank);
        newest() = this;
    }
    taken_lock(taken_lock const&) = delete;
    taken_lock& operator=(taken_lock const&) = delete;
    ~taken_lock() { newest() = before_; }

private:
    [[nodiscard]] static taken_lock const*& newest() noexcept {
        static constinit thread_local taken_lock const* of_thread = nullptr;
        return of_thread;
    }

    taken_lock const* before_;
    void const* store_;
    lock_rank rank_;
};

} // namespace keel::inline v0::detail

#define KEEL_DETAIL_TAKES2(line) keel_takes_##line
#define KEEL_DETAIL_TAKES(line) KEEL_DETAIL_TAKES2(line)
#ifdef NDEBUG
#define KEEL_TAKES(rank, store) static_cast<void>(0)
#else
#define KEEL_TAKES(rank, store)                                                                                        \
    ::keel::detail::taken_lock const KEEL_DETAIL_TAKES(__LINE__) { ::keel::detail::lock_rank::rank, store }
#endif

#endif
