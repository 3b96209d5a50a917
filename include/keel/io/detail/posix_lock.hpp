// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_LOCK_HPP
#define KEEL_IO_DETAIL_POSIX_LOCK_HPP

// Who may use a store: a lock on a file, held by a descriptor. Two layers.
//  - Open-file-description locks. They belong to the descriptor, so closing another one of the same file drops nothing
//    (a classic POSIX lock would be gone), a shared one needs read access only, and two descriptors of one process
//    exclude each other as two processes do. flock(2) has the same properties and stands in where the system has none
//    of them.
//  - A table of this process by device and inode. It makes the message say that the other holder is in this very
//    process, and holds where the file system's locks are a fiction. There is one per program, or one per shared object
//    where symbols are hidden or loaded RTLD_LOCAL; two such objects exclude each other through the first layer all the
//    same.
// The lock is the file's, not the name's: after locking, the name must still lead to that file.

#include <keel/io/detail/posix_descriptor.hpp>

#include <map>
#include <mutex>
#include <string>
#include <utility>

#include <sys/file.h>

namespace keel::inline v0::io::detail {

/// Which files this process has locked. Thread-safe.
class lock_table {
public:
    [[nodiscard]] bool enter(file_identity const& file, lock_mode mode) {
        std::lock_guard const hold{mutex_};
        auto& holders = holders_[file];
        if (holders == exclusive || (holders != 0 && mode == lock_mode::exclusive)) return false;
        holders = mode == lock_mode::exclusive ? exclusive : holders + 1;
        return true;
    }
    void leave(file_identity const& file) noexcept {
        std::lock_guard const hold{mutex_};
        auto const found = holders_.find(file);
        if (found == holders_.end()) return;
        if (found->second == exclusive || --found->second == 0) holders_.erase(found);
    }
    [[nodiscard]] static lock_table& of_this_process() {
        // Never destroyed: a store that lives in a static object may let go of its lock after this function's statics
        // are gone.
        static auto* const table = new lock_table;
        return *table;
    }

private:
    static constexpr int exclusive = -1;
    std::mutex mutex_;
    std::map<file_identity, int> holders_;
};

/// errno, or 0. EAGAIN and EACCES: somebody else has it.
[[nodiscard]] inline int lock_description(int number, lock_mode mode) noexcept {
#if defined(F_OFD_SETLK)
    struct flock whole {};
    whole.l_type = static_cast<short>(mode == lock_mode::exclusive ? F_WRLCK : F_RDLCK);
    whole.l_whence = SEEK_SET;
    if (uninterrupted([&] { return ::fcntl(number, F_OFD_SETLK, &whole); }) == 0) return 0;
    if (errno != EINVAL) return errno == EACCES ? EAGAIN : errno;
#endif
    auto const operation = (mode == lock_mode::exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
    return uninterrupted([&] { return ::flock(number, operation); }) == 0 ? 0 : errno;
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

/// A held lock; lets go when it dies. A child made by fork() shares it: the child's copy lets go of nothing, while the
/// parent's end frees the file even if the child still runs.
class posix_lock {
public:
    posix_lock(posix_lock&& other) noexcept
        : file_{std::move(other.file_)}, identity_{other.identity_}, owner_{std::exchange(other.owner_, 0)} {}
    posix_lock& operator=(posix_lock&& other) noexcept {
        if (this == &other) return *this;
        let_go();
        file_ = std::move(other.file_);
        identity_ = other.identity_;
        owner_ = std::exchange(other.owner_, 0);
        return *this;
    }
    ~posix_lock() { let_go(); }

    [[nodiscard]] static result<posix_lock> take(std::string const& path, lock_mode mode) {
        auto const how = mode == lock_mode::exclusive ? access::read_write : access::read_only;
        auto const make = mode == lock_mode::exclusive ? creation::if_missing : creation::must_exist;
        // Where the name leads elsewhere afterwards, a cleaner took the file away between open and lock: begin again.
        for (int attempt = 0; attempt < 8; ++attempt) {
            KEEL_TRY_LET(file, open_regular(path, how, make));
            KEEL_TRY_LET(status, status_of(file, path));
            auto& table = lock_table::of_this_process();
            if (!table.enter(status.identity, mode)) return locked_failure(path, "Another object in this process");
            posix_lock held{std::move(file), status.identity};
            auto const cause = lock_description(held.file_.get(), mode);
            if (cause == EAGAIN) return locked_failure(path, "Another process");
            if (cause != 0) return os_failure(cause, "cannot lock the file", path);
            auto const named = status_at(path);
            if (named && named->identity == status.identity) return held;
        }
        return locked_failure(path, "Somebody keeps replacing this file and");
    }

private:
    posix_lock(descriptor file, file_identity const& identity) noexcept
        : file_{std::move(file)}, identity_{identity}, owner_{::getpid()} {}

    void let_go() noexcept {
        if (owner_ != 0) {
            // In this order: whoever finds the table free finds the file free too.
            if (owner_ == ::getpid()) unlock_description(file_.get());
            lock_table::of_this_process().leave(identity_);
        }
        owner_ = 0;
        file_ = descriptor{};
    }

    descriptor file_;
    file_identity identity_;
    pid_t owner_;
};

} // namespace keel::inline v0::io::detail

#endif
