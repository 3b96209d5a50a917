// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_LOCK_HPP
#define KEEL_IO_DETAIL_POSIX_LOCK_HPP

// Locks that decide which process may use a store. A lock is on a file or a folder, and a descriptor holds it. There are two layers.
//  - On a file: an open-file-description lock. It belongs to the descriptor, so closing another descriptor of the same file drops nothing
//    (a classic POSIX lock would be lost). A shared lock needs read access only. Two descriptors of one process exclude each other like two
//    processes. flock(2) has the same properties. It is used where the system has no open-file-description locks, and for folders.
//  - A table in this process, by device and inode. With it the error message can tell that the other holder is in this process. It also
//    works where the file system's locks do nothing. There is one table per program, or one per shared object if symbols are hidden or the
//    object is loaded with RTLD_LOCAL. Two such objects still exclude each other through the first layer.
// A lock on a file is on the file, not on its name. So after locking, the name must still lead to that file.
//
// A forked child has no part in the locks of its parent. Its copies of the descriptors are closed when the child begins. Otherwise a child
// that lives on would keep a store locked after its parent died. The child's table is empty.

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

/// The files and folders that this process has locked. Thread-safe.
class lock_table {
public:
    /// Enters a lock. `number`: the descriptor that will hold it. False: another holder in this process has it. Throws std::bad_alloc;
    /// nothing has changed then.
    [[nodiscard]] bool enter(file_identity const& what, lock_mode mode, int number) {
        std::lock_guard const hold{mutex_};
        auto const found = holders_.find(what);
        auto const before = found == holders_.end() ? 0 : found->second;
        if (before == exclusive || (before != 0 && mode == lock_mode::exclusive)) return false;
        numbers_.reserve(numbers_.size() + 1); // after this only holders_ may throw, and then nothing has changed
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
    /// The table is never destroyed: a store in a static object may release its lock after the statics of this function are gone.
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

    /// Called before fork(): locks the table, so that no other thread is changing it. The table of a parent process may be locked by a
    /// thread that does not exist here, so it is left alone.
    static void before_fork() noexcept {
        auto* const table = current_.load(std::memory_order_acquire);
        if (!table->mark_.is_here()) return;
        table->mutex_.lock();
        forking_ = table;
    }
    static void in_parent() noexcept {
        if (auto* const table = std::exchange(forking_, nullptr); table != nullptr) table->mutex_.unlock();
    }
    /// Called in the child: closes its copies of the descriptors. That drops no lock of the parent.
    static void in_child() noexcept {
        auto* const table = std::exchange(forking_, nullptr);
        if (table == nullptr) return;
        for (auto const number : table->numbers_) ::close(number);
        table->numbers_.clear();
        table->mutex_.unlock();
    }

    static constexpr int exclusive = -1;
    static inline constinit std::atomic<lock_table*> current_{nullptr};
    static inline constinit lock_table* forking_ = nullptr; ///< guarded by its mutex

    process_mark mark_{};
    lock_table* older_ = nullptr; ///< the table of the process that this one was forked from
    std::mutex mutex_;
    std::map<file_identity, int> holders_;
    std::vector<int> numbers_; ///< descriptors that hold a lock
};

/// Returns errno, or 0. EAGAIN: another holder has the lock.
[[nodiscard]] inline int lock_by_flock(int number, lock_mode mode) noexcept {
    auto const operation = (mode == lock_mode::exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
    if (uninterrupted([&] { return ::flock(number, operation); }) == 0) return 0;
    auto const cause = errno;
    return cause == EWOULDBLOCK ? EAGAIN : cause;
}

/// The same with an open-file-description lock. If the system answers EAGAIN or EACCES, another holder has the lock.
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

/// A held lock. The destructor releases it. A child made by fork() does not hold it.
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
        // If the name leads to another file afterwards, the locked file was removed between open and lock. Then begin again.
        for (int attempt = 0; attempt < 8; ++attempt) {
            KEEL_TRY_LET(opened, open_regular(place, path, how, make));
            auto const identity = opened.status.identity;
            KEEL_TRY_LET(held, lock_opened(std::move(opened.file), identity, path, mode, &lock_description));
            auto const named = status_at(place, path);
            if (named && named->identity == identity) return held;
        }
        return locked_failure(path, "Somebody keeps replacing this file and");
    }
    /// Locks a folder itself. Errors: unsupported, if this file system has no such locks.
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
        // NFS turns flock of a folder into a lock that needs write access. A descriptor of a folder never has that.
        bool const no_such_locks = cause == EBADF || cause == EINVAL || cause == ENOLCK;
        return os_failure(lock == &lock_by_flock && no_such_locks ? EOPNOTSUPP : cause, "cannot lock it", path);
    }

    void release() noexcept {
        if (!process_.is_here()) {
            // The descriptor was closed when the child began. Its number may belong to another file now.
            static_cast<void>(file_.release());
        } else if (file_) {
            // In this order: when another caller finds the table free, the file is free too.
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
