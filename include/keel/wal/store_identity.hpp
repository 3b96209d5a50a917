// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_STORE_IDENTITY_HPP
#define KEEL_WAL_STORE_IDENTITY_HPP

// Which process has a store, and whether the store's names still lead to the files of this process.
//
// The lock does not depend on a name. It is taken on the directory itself, and nobody can replace a directory unnoticed: another directory
// is another store. The file `lock` is locked as well, for file systems without directory locks (NFS) and for versions of the library that
// know only this file. A cleaner may remove that file. An operator may move the directory away or mount another file system over it. So
// before anything is renamed, removed or switched over, check() compares identities. Writing goes on only in files that this process
// opened, never in files that have taken their names.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/layout.hpp>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace keel::inline v0::wal {

/// Locks on a directory and on a file, taken together. The destructor releases both.
template <io::file_system Fs>
class double_lock {
public:
    std::optional<typename Fs::lock_type> folder{}; ///< nothing if the file system does not lock directories
    std::optional<typename Fs::lock_type> file{};   ///< nothing if the file is missing and a shared lock was wanted

    /// Takes the locks and never waits. If the system cannot lock directories, or does not allow it, the file lock is enough. Errors:
    /// locked, if another process has one of them; those of Fs::lock().
    [[nodiscard]] static result<double_lock> take(Fs& fs, std::string const& folder, std::string const& file,
                                                  io::lock_mode mode) {
        double_lock out;
        bool const shared = mode == io::lock_mode::shared;
        if constexpr (io::locks_folders<Fs>) {
            auto held = fs.lock_folder(folder, mode);
            if (held) out.folder.emplace(std::move(*held));
            else if (!may_do_without(held.error().code, mode)) return failure(std::move(held).error());
        }
        auto held = fs.lock(file, mode);
        if (held) out.file.emplace(std::move(*held));
        else if (!shared || held.error().code != errc::not_found || !out.folder)
            return failure(std::move(held).error());
        return out;
    }

private:
    [[nodiscard]] static bool may_do_without(errc why, io::lock_mode mode) noexcept {
        return why == errc::unsupported || why == errc::no_permission ||
               (mode == io::lock_mode::shared && why == errc::not_found);
    }
};

/// The store's lock, held exclusively. Any thread may call. m_ is held during I/O.
template <io::file_system Fs>
class store_identity {
public:
    store_identity(Fs fs, layout paths, double_lock<Fs> held)
        : fs_{std::move(fs)}, paths_{std::move(paths)}, held_{std::move(held)} {
        if constexpr (!io::binds_folders<Fs>) root_ = identity_at(paths_.root());
        lock_ = identity_of_lock();
        log_ = identity_at(paths_.log());
    }
    store_identity(store_identity const&) = delete;
    store_identity& operator=(store_identity const&) = delete;

    /// Whether this process may go on changing files. If the lock file was removed, it is created and locked again. Errors: locked (another
    /// process has taken the store), not_a_store (another file or directory has one of its names), closed.
    [[nodiscard]] result<void> check() {
        std::lock_guard const hold{m_};
        if (!held_) return failure(errc::closed, "the store is closed");
        if constexpr (!io::binds_folders<Fs>) KEEL_TRY(still_stands(paths_.root(), root_));
        KEEL_TRY(still_stands(paths_.log(), log_));
        return check_lock();
    }
    /// Releases the lock. check() returns `closed` from then on.
    void release() noexcept {
        std::lock_guard const hold{m_};
        held_.reset();
    }

private:
    [[nodiscard]] std::optional<io::file_identity> identity_at(std::string const& path) {
        auto const status = fs_.status(path);
        return status ? std::optional{status->identity} : std::nullopt;
    }
    [[nodiscard]] std::optional<io::file_identity> identity_of_lock() {
        if constexpr (requires { held_->file->identity(); }) return held_->file->identity();
        else return identity_at(paths_.lock());
    }

    /// If a name cannot be examined, that proves nothing. The lock on the directory is proof enough; without that lock, this is an error.
    [[nodiscard]] result<void> cannot_tell(error const& why) const {
        return held_->folder ? result<void>{} : result<void>{failure(why)};
    }
    [[nodiscard]] result<void> still_stands(std::string const& path, std::optional<io::file_identity>& known) {
        auto const now = fs_.status(path);
        if (!now && now.error().code != errc::not_found) return cannot_tell(now.error());
        if (now && !known) known = now->identity; // the log's directory, in a new store
        if (!known || (now && now->identity == *known)) return {};
        return failure(
            errc::not_a_store,
            std::string{now ? "another folder stands here than the one this store works in: it was replaced, or "
                              "another file system was mounted above it"
                            : "the folder this store works in was moved away"} +
                "; put it back and call resume(), or close the store and open it again",
            path);
    }
    [[nodiscard]] result<void> check_lock() {
        auto const now = fs_.status(paths_.lock());
        if (now && lock_ && now->identity == *lock_) return {};
        if (!now && now.error().code != errc::not_found) return cannot_tell(now.error());
        if (!held_->folder)
            return failure(
                errc::locked,
                "the file was removed or replaced, so another process may have opened the store: close it here and "
                "open it again",
                paths_.lock());
        auto again = fs_.lock(paths_.lock(), io::lock_mode::exclusive);
        if (again) {
            held_->file.emplace(std::move(*again));
            lock_ = identity_of_lock();
            return {};
        }
        if (again.error().code != errc::locked) return {}; // no other process has it, and the directory's lock is held
        auto why = std::move(again).error();
        why.message = "the file was replaced, and somebody else holds the new one: " + why.message;
        why.retryable = false;
        return failure(std::move(why));
    }

    std::mutex m_;
    Fs fs_;
    layout paths_;
    std::optional<double_lock<Fs>> held_;
    std::optional<io::file_identity> root_{}; ///< only if each call looks up the path again
    std::optional<io::file_identity> lock_{};
    std::optional<io::file_identity> log_{};
};

} // namespace keel::inline v0::wal

#endif
