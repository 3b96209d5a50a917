// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_STORE_IDENTITY_HPP
#define KEEL_WAL_STORE_IDENTITY_HPP

// Who has a store, and whether what stands under its names is still what this process has.
//
// The lock does not hang on a name. It is taken on the folder itself, which nobody can replace unseen: another folder is another store.
// Where the file system has no such locks (NFS), and for libraries that only know that one, the file `lock` is locked, too.
// A cleaner may remove that file, an operator move a folder away or mount another file system above it. So before anything is renamed,
// removed or switched over, check() compares: writing goes on only into what this process has, never into what has taken its name.

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

/// Locks on a folder and on a file, taken together. Lets go of both when it dies.
template <io::file_system Fs>
class double_lock {
public:
    std::optional<typename Fs::lock_type> folder{}; ///< nothing where the file system does not lock folders
    std::optional<typename Fs::lock_type> file{};   ///< nothing where it is missing, and a shared lock was asked for

    /// Never waits. Where the machine has no locks for folders, or does not allow them, the file's has to do. Errors: locked, where
    /// somebody has one of them; those of Fs::lock().
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

/// The store's lock, held exclusively. Any thread; m_ is held during I/O.
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

    /// Whether this process may go on changing files. A lock file that was removed is made and locked anew. Errors: locked (somebody else
    /// has taken the store), not_a_store (something else stands under one of its names), closed.
    [[nodiscard]] result<void> check() {
        std::lock_guard const hold{m_};
        if (!held_) return failure(errc::closed, "the store is closed");
        if constexpr (!io::binds_folders<Fs>) KEEL_TRY(still_stands(paths_.root(), root_));
        KEEL_TRY(still_stands(paths_.log(), log_));
        return check_lock();
    }
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

    /// A name that cannot be looked at proves nothing; the folder's lock does.
    [[nodiscard]] result<void> cannot_tell(error const& why) const {
        return held_->folder ? result<void>{} : result<void>{failure(why)};
    }
    [[nodiscard]] result<void> still_stands(std::string const& path, std::optional<io::file_identity>& known) {
        auto const now = fs_.status(path);
        if (!now && now.error().code != errc::not_found) return cannot_tell(now.error());
        if (now && !known) known = now->identity; // the log's folder of a new store
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
        if (again.error().code != errc::locked) return {}; // nobody can have it, and the folder's lock is held
        auto why = std::move(again).error();
        why.message = "the file was replaced, and somebody else holds the new one: " + why.message;
        why.retryable = false;
        return failure(std::move(why));
    }

    std::mutex m_;
    Fs fs_;
    layout paths_;
    std::optional<double_lock<Fs>> held_;
    std::optional<io::file_identity> root_{}; ///< only where names are looked up anew each time
    std::optional<io::file_identity> lock_{};
    std::optional<io::file_identity> log_{};
};

} // namespace keel::inline v0::wal

#endif
