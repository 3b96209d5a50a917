// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_OPEN_FILES_HPP
#define KEEL_TABLE_OPEN_FILES_HPP

// The files that a store has open to read its tables and segments. All tables and segments share one bound on their number. Where one more
// file is opened, a file that was not used lately is closed (the CLOCK algorithm: each use sets a bit, the search for a victim clears it).
// The next read that needs a closed file opens it again.
//
// Mappings have a bound of their own. A mapping needs no descriptor once it is made, and reading through it is fast. So a mapping is never
// taken back, and files beyond the bound are read through their descriptors. The system allows a process about 65,000 mappings. Where its
// address space is limited (ulimit -v), mapped files must leave room for the host's memory.
//
// Thread rules: any number of threads. m_ guards the list. It is locked when a file is opened, closed or forgotten, and during the search
// for a victim. A read of an open file never locks it. Lock order: an entry's mutex, then m_. While m_ is held, the mutexes of other
// entries are only tried.

#include <keel/types.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

/// How many files and mappings one store may have at a time.
struct open_file_limits {
    std::uint64_t files = 256;
    std::uint64_t mappings = 16384;
    std::uint64_t mapped_bytes = std::numeric_limits<std::uint64_t>::max();

    /// Computes the limits. `wanted`: open_options::open_files; 0: take a part of `allowed`, the process's own limit on open files.
    /// `keeps_all`: files are never closed, as in a store that was opened read-only. `address_space`: the process's limit on its address
    /// space, in bytes.
    [[nodiscard]] static constexpr open_file_limits of(std::uint64_t wanted, bool keeps_all, std::uint64_t allowed,
                                                       std::uint64_t address_space) noexcept {
        open_file_limits out;
        out.files = wanted != 0 ? wanted : keeps_all ? allowed - allowed / 4 : allowed / 4;
        if (out.files < files_least) out.files = files_least;
        if (address_space != std::numeric_limits<std::uint64_t>::max()) out.mapped_bytes = address_space / 4;
        return out;
    }
    static constexpr std::uint64_t files_least = 2;
};

class open_file_list {
public:
    /// One file. Its owner calls forget() before it destroys the entry.
    struct entry {
        std::mutex m; ///< held while the file is opened; guards `file` and `keepers`
        /// nullptr: closed. A reader with a share reads on after the list closed the file.
        std::shared_ptr<void> file{};
        std::uint64_t keepers = 0;           ///< while it is not 0, the file is not closed
        std::atomic<bool> is_used{false};    ///< used since the search for a victim last passed; relaxed: a hint
        std::atomic<bool> was_closed{false}; ///< closed once, to make room for another file; relaxed: a hint
        std::size_t place = not_listed;      ///< position in the list; guarded by the list's mutex
        static constexpr auto not_listed = std::numeric_limits<std::size_t>::max();
    };

    explicit open_file_list(open_file_limits limits = {}) noexcept : limits_{limits} {}
    open_file_list(open_file_list const&) = delete;
    open_file_list& operator=(open_file_list const&) = delete;

    [[nodiscard]] open_file_limits const& limits() const noexcept { return limits_; }
    /// Number of open files.
    [[nodiscard]] std::uint64_t open() const {
        std::lock_guard const hold{m_};
        return listed_.size();
    }
    /// Number of mappings.
    [[nodiscard]] std::uint64_t mapped() const noexcept { return mappings_.load(std::memory_order_relaxed); }

    /// Called before a file is opened. Closes other files until one more fits. If all are in use, there is one file too many for a while.
    void make_room() noexcept {
        for (;;) {
            {
                std::lock_guard const hold{m_};
                if (listed_.size() < limits_.files) return;
            }
            if (!close_one()) return;
        }
    }
    /// Adds a file that is now open. The thread that opened it calls this with the entry's mutex held. Throws std::bad_alloc; the file is
    /// not in the list then.
    void add(entry& e) {
        std::lock_guard const hold{m_};
        listed_.push_back(&e);
        e.place = listed_.size() - 1;
    }
    /// Takes the file off the list. Its owner does not use it again.
    void forget(entry& e) noexcept {
        std::lock_guard const hold{m_};
        if (e.place != entry::not_listed) drop(e);
    }
    /// Closes a file that was not used lately; false: all files are in use.
    bool close_one() noexcept {
        std::shared_ptr<void> victim; // released after the mutex: closing may take a while
        std::lock_guard const hold{m_};
        for (auto steps = 2 * listed_.size(); steps != 0 && !victim; --steps) victim = look_at_next();
        return victim != nullptr;
    }

    /// Whether a file may be mapped. If so, it counts as mapped until give_mapping().
    [[nodiscard]] bool take_mapping(std::uint64_t bytes) noexcept {
        auto const before = mapped_bytes_.fetch_add(bytes, std::memory_order_relaxed);
        bool const fits = before <= limits_.mapped_bytes && bytes <= limits_.mapped_bytes - before;
        if (mappings_.fetch_add(1, std::memory_order_relaxed) < limits_.mappings && fits) return true;
        give_mapping(bytes);
        return false;
    }
    void give_mapping(std::uint64_t bytes) noexcept {
        mappings_.fetch_sub(1, std::memory_order_relaxed);
        mapped_bytes_.fetch_sub(bytes, std::memory_order_relaxed);
    }

private:
    /// Moves to the next file. Returns it if it can be closed, else nullptr. Called with m_ held.
    [[nodiscard]] std::shared_ptr<void> look_at_next() noexcept {
        if (hand_ >= listed_.size()) hand_ = 0;
        auto& e = *listed_[hand_];
        std::unique_lock const alone{e.m, std::try_to_lock};
        if (!alone.owns_lock() || e.keepers != 0 || e.is_used.exchange(false, std::memory_order_relaxed)) {
            ++hand_;
            return nullptr;
        }
        drop(e);
        e.was_closed.store(true, std::memory_order_relaxed);
        return std::exchange(e.file, nullptr);
    }
    void drop(entry& e) noexcept {
        listed_[e.place] = listed_.back();
        listed_[e.place]->place = e.place;
        listed_.pop_back();
        e.place = entry::not_listed;
    }

    open_file_limits limits_;
    mutable std::mutex m_;
    std::vector<entry*> listed_{};               ///< the open files, in no order
    std::size_t hand_ = 0;                       ///< where the search for a victim continues
    std::atomic<std::uint64_t> mappings_{0};     // relaxed: where two threads ask at once, both may be refused
    std::atomic<std::uint64_t> mapped_bytes_{0}; // relaxed: likewise
};

} // namespace keel::inline v0::table

#endif
