// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_LOCK_HPP
#define KEEL_IO_DETAIL_POSIX_LOCK_HPP

// Who may use a store: a lock on a file or a folder, held by a descriptor. Two layers.
//  - On a file an open-file-description lock. It belongs to the descriptor, so closing another one of the same file drops
//    nothing (a classic POSIX lock would be gone), a shared one needs read access only, and two descriptors of one
//    process exclude each other as two processes do. flock(2) has the same properties: it stands in where the system has
//    none of them, and it is what locks a folder.
//  - A table of this process by device and inode. It makes the message say that the other holder is in this very
//    process, and holds where the file system's locks are a fiction. There is one per program, or one per shared object
//    where symbols are hidden or loaded RTLD_LOCAL; two such objects exclude each other through the first layer all the
//    same.
// A file's lock is the file's, not the name's: after locking, the name must still lead to that file.
//
// A forked child has no part in its parent's locks: its copies of the descriptors are closed as it begins, so that a child which lives on
// does not keep a store locked that its parent died with, and its table is empty.

#include <keel/io/detail/posix_descriptor.hpp>
#include <keel/io/process.hpp>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <pthread.h>
#include <sys/file.h>

namespace keel::inline v0::io::detail {

/// Which files and folders this process has locked. Thread-safe.
class lock_table {
public:
    /// `number`: the descriptor that is to hold the lock. False where somebody in this process has it.
    [[nodiscard]] bool enter(file_identity const& what, lock_mode mode, int number) {
        std::lock_guard const hold{mutex_};
        auto const found = holders_.find(what);
        auto const before = found == holders_.end() ? 0 : found->second;
        if (before == exclusive || (before != 0 && mode == lock_mode::exclusive)) return false;
        numbers_.reserve(numbers_.size() + 1); // from here on only holders_ may throw, and then nothing has changed
        holders_[what] = mode == lock_mode::exclusive ? exclusive : before + 1;
        numbers_.push_back(number);
        return true;
    }
    void leave(file_identity const& what, int number) noexcept {
        std::lock_guard const hold{mutex_};
        std::erase(numbers_, number);
        auto const found = holders_.find(what);
        if (found == holders_.end()) return;
        if (found->second == exclusive || --found->second == 0) holders_.erase(found);
    }
    /// Never destroyed: a store that lives in a static object may let go of its lock after this function's statics are gone.
    [[nodiscard]] static lock_table& of_this_process() {
        auto* there = current_.load(std::memory_order_acquire);
        while (there == nullptr || !there->mark_.is_here()) {
            auto* const fresh = new lock_table;
            fresh->older_ = there;
            if (current_.compare_exchange_strong(there, fresh, std::memory_order_acq_rel)) {
                if (fresh->older_ == nullptr) ::pthread_atfork(&before_fork, &in_parent, &in_child);
                return *fresh;
            }
            delete fresh;
        }
        return *there;
    }

private:
    lock_table() = default;

    /// So that no other thread is in the middle of a change. A table of a process above this one may be: it is left alone.
    static void before_fork() noexcept {
        auto* const table = current_.load(std::memory_order_acquire);
        if (!table->mark_.is_here()) return;
        table->mutex_.lock();
        forking_ = table;
    }
    static void in_parent() noexcept {
        if (auto* const table = std::exchange(forking_, nullptr); table != nullptr) table->mutex_.unlock();
    }
    /// The parent goes on holding what it holds: closing a copy of a descriptor drops no lock.
    static void in_child() noexcept {
        auto* const table = std::exchange(forking_, nullptr);
        if (table == nullptr) return;
        for (auto const number : table->numbers_) ::close(number);
        table->numbers_.clear();
        table->mutex_.unlock();
    }

    static constexpr int exclusive = -1;
    static inline constinit std::atomic<lock_table*> current_{nullptr};
    static inline constinit lock_table* forking_ = nullptr; ///< under its mutex

    process_mark mark_{};
    lock_table* older_ = nullptr; ///< of the process this one was forked from
    std::mutex mutex_;
    std::map<file_identity, int> holders_;
    std::vector<int> numbers_; ///< descriptors that hold a lock
};

/// errno, or 0. EAGAIN: somebody else has it.
[[nodiscard]] inline int lock_by_flock(int number, lock_mode mode) noexcept {
    auto const operation = (mode == lock_mode::exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
    if (uninterrupted([&] { return ::flock(number, operation); }) == 0) return 0;
    auto const cause = errno;
    return cause == EWOULDBLOCK ? EAGAIN : cause;
}

/// The same. EAGAIN and EACCES of the system: somebody else has it.
[[nodiscard]] inline int lock_description(int number, lock_mode mode) noexcept {
#if defined(F_OFD_SETLK)
    struct flock whole {};
    whole.l_type = static_cast<short>(mode == lock_mode::exclusive ? F_WRLCK : F_RDLCK);
    whole.l_whence = SEEK_SET;
    if (uninterrupted([&] { return ::fcntl(number, F_OFD_SETLK, &whole); }) == 0) return 0;
    auto const cause = errno;
    if (cause != EINVAL) return cause == EACCES ? EAGAIN : cause;
#endif
    return lock_by_flock(number, mode);
}

inline void unlock_description(int number) noexcept {
#if defined(F_OFD_SETLK)
    struct flock whole {};
    whole.l_type = F_UNLCK;
    whole.l_whence = SEEK_SET;
    static_cast<void>(::fcntl(number, F_OFD_SETLK, &whole));
#endif
    static_cast<void>(::flock(number, LOCK_UN));
}

[[nodiscard]] inline auto locked_failure(std::string const& path, std::string_view holder) {
    std::string message{holder};
    message += " holds the lock. Close the store there, or end that process, then try again; the file itself need not "
               "be removed.";
    return failure(
        error{.code = errc::locked, .message = std::move(message), .file = path, .cause = EAGAIN, .retryable = true});
}

/// A held lock; lets go when it dies. A child made by fork() has none of it.
class posix_lock {
public:
    posix_lock(posix_lock&& other) noexcept
        : file_{std::move(other.file_)}, identity_{other.identity_}, process_{other.process_} {}
    posix_lock& operator=(posix_lock&& other) noexcept {
        if (this == &other) return *this;
        release();
        file_ = std::move(other.file_);
        identity_ = other.identity_;
        process_ = other.process_;
        return *this;
    }
    ~posix_lock() { release(); }

    [[nodiscard]] file_identity const& identity() const noexcept { return identity_; }

    [[nodiscard]] static result<posix_lock> take(posix_place const& place, std::string const& path, lock_mode mode) {
        auto const how = mode == lock_mode::exclusive ? access::read_write : access::read_only;
        auto const make = mode == lock_mode::exclusive ? creation::if_missing : creation::must_exist;
        // Where the name leads elsewhere afterwards, a cleaner took the file away between open and lock: begin again.
        for (int attempt = 0; attempt < 8; ++attempt) {
            KEEL_TRY_LET(opened, open_regular(place, path, how, make));
            auto const identity = opened.status.identity;
            KEEL_TRY_LET(held, lock_opened(std::move(opened.file), identity, path, mode, &lock_description));
            auto const named = status_at(place, path);
            if (named && named->identity == identity) return held;
        }
        return locked_failure(path, "Somebody keeps replacing this file and");
    }
    /// Locks a folder itself. Errors: unsupported, where this file system has no such locks.
    [[nodiscard]] static result<posix_lock> take_folder(posix_place const& place, std::string const& path,
                                                        lock_mode mode) {
        KEEL_TRY_LET(folder, open_folder(place, path));
        KEEL_TRY_LET(status, status_of(folder, path));
        return lock_opened(std::move(folder), status.identity, path, mode, &lock_by_flock);
    }

private:
    using lock_call = int (*)(int, lock_mode) noexcept;

    posix_lock(descriptor file, file_identity const& identity) noexcept : file_{std::move(file)}, identity_{identity} {}

    [[nodiscard]] static result<posix_lock> lock_opened(descriptor file, file_identity const& identity,
                                                        std::string const& path, lock_mode mode, lock_call lock) {
        auto const number = file.get();
        if (!lock_table::of_this_process().enter(identity, mode, number))
            return locked_failure(path, "Another object in this process");
        posix_lock held{std::move(file), identity};
        auto const cause = lock(number, mode);
        if (cause == 0) return held;
        if (cause == EAGAIN) return locked_failure(path, "Another process");
        // NFS makes a flock of a folder a lock that needs write access, which no descriptor of a folder has.
        bool const no_such_locks = cause == EBADF || cause == EINVAL || cause == ENOLCK;
        return os_failure(lock == &lock_by_flock && no_such_locks ? EOPNOTSUPP : cause, "cannot lock it", path);
    }

    void release() noexcept {
        if (!process_.is_here()) {
            // Closed as the child began, and perhaps another file's by now.
            static_cast<void>(file_.release());
        } else if (file_) {
            // In this order: whoever finds the table free finds the file free too.
            unlock_description(file_.get());
            lock_table::of_this_process().leave(identity_, file_.get());
        }
        file_ = descriptor{};
    }

    descriptor file_;
    file_identity identity_;
    process_mark process_{};
};

} // namespace keel::inline v0::io::detail

#endif
