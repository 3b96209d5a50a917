// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_STORE_LOCK_HPP
#define KEEL_RECOVERY_STORE_LOCK_HPP

// Finds or creates the folder of a store, and takes its locks. These are the first steps of an opening, before
// anything in the folder is read.
//
// The path is looked up once. From then on all operations go through the folder itself, if the file system can do that
// (io::bind_folder). A symbolic link at the end of the path is followed once, here. If a name on the path is changed later, the
// operations still reach the same folder.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/options.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/store_identity.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// A reader beside a writer examines the store again this often before it believes damage: a quarter of a second in all.
inline constexpr int retries_max = 64;

namespace detail {

inline void wait_a_little(int turn) { std::this_thread::sleep_for(std::chrono::milliseconds{turn / 8}); }

/// The error for a folder that could not be opened. It is not_a_store only if something that is no folder has the name.
template <io::file_system Fs>
[[nodiscard]] error why_no_folder(Fs& fs, wal::layout const& paths, error why) {
    if (why.code == errc::not_found && why.cause != ENOTDIR) {
        why.message = "there is no such folder";
        auto const status = fs.status(paths.root());
        if (status && status->kind == io::file_kind::symlink)
            why.message = "a symbolic link stands here that leads to nothing: create the folder it leads to, or choose "
                          "another path";
        return why;
    }
    bool const no_folder = why.cause == ENOTDIR || (why.code == errc::not_regular && why.cause != ELOOP);
    if (!no_folder) return why;
    auto const status = fs.status(paths.root());
    if (!status && status.error().cause == ENOTDIR) {
        why.code = errc::not_found;
        why.message = "a part of this path is a file where a folder should be: choose another path";
        return why;
    }
    why.code = errc::not_a_store;
    why.message = "this is not a folder, and a store is one: choose another path, or move what is there away";
    return why;
}

/// A handle bound to the store's folder. Errors: invalid_argument, not_found, not_a_store, and the machine's.
template <io::file_system Fs>
[[nodiscard]] result<Fs> bind_store(Fs& fs, wal::layout const& paths) {
    auto const& root = paths.root();
    if (root.empty() || root.find('\0') != std::string::npos)
        return failure(errc::invalid_argument,
                       "the path of a store is not empty and has no zero byte in it: choose one", root);
    auto bound = io::bind_folder(fs, root);
    if (!bound) return failure(why_no_folder(fs, paths, std::move(bound).error()));
    return bound;
}

/// The folder above, as far as the text of the path tells.
[[nodiscard]] inline std::string folder_above(std::string const& path) {
    auto const slash = path.find_last_of('/');
    auto const name = slash == std::string::npos ? path : path.substr(slash + 1);
    if (name == "." || name == "..") return path + "/..";
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// Makes the name of a folder durable in the folder above it.
template <io::file_system Fs>
[[nodiscard]] result<void> sync_above(Fs& fs, std::string const& path) {
    auto above = folder_above(path);
    // A symbolic link at the end of a path is not followed. `path/..` does not end in a link.
    auto const status = fs.status(above);
    if (status && status->kind == io::file_kind::symlink) above = path + "/..";
    return fs.sync_directory(above);
}

/// Creates the missing folders above the store's folder, each durable in the folder above it. Without create_parents the error
/// names the first missing folder.
template <io::file_system Fs>
[[nodiscard]] result<void> make_folders_above(Fs& fs, std::string const& path, open_options const& options) {
    for (auto slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
        auto const above = path.substr(0, slash);
        auto const status = fs.status(above);
        if (status || status.error().code != errc::not_found) continue;
        if (!options.create_parents)
            return failure(errc::not_found,
                           "the folder " + above +
                               " is missing, in which the store was to be made: create it, or open "
                               "with create_parents",
                           above);
        if (auto made = fs.make_directory(above); !made && made.error().code != errc::exists) return made;
        // Without this a power loss can take away everything below after a write was acknowledged.
        KEEL_TRY(sync_above(fs, above));
    }
    return {};
}

/// Creates the store's folder. Its name is synced later, once the folder holds something that must not be lost (sync_parent).
template <io::file_system Fs>
[[nodiscard]] result<void> make_folder(Fs& fs, wal::layout const& paths, open_options const& options) {
    auto made = fs.make_directory(paths.root());
    if (!made && made.error().code == errc::not_found) {
        KEEL_TRY(make_folders_above(fs, paths.root(), options));
        made = fs.make_directory(paths.root());
    }
    if (!made && made.error().code == errc::exists)
        return {}; // another process made it, or it is no folder: bind_store() reports that
    return made;
}

/// Refuses a folder with other files. It is called before the lock file is made, so that such a folder stays as it is.
[[nodiscard]] inline result<void> refuse_foreign(wal::layout const& paths,
                                                 std::vector<io::directory_entry> const& names) {
    for (std::string_view const part : {"manifest.0", "manifest.1", "log"})
        if (std::ranges::any_of(names, [&](auto const& e) { return e.name == part; })) return {};
    if (std::ranges::none_of(names, [](auto const& e) { return wal::layout::is_foreign(e.name); })) return {};
    return failure(errc::not_a_store,
                   "the folder holds other files and no keel store; choose an empty folder or the store's own",
                   paths.root());
}
/// Refuses a folder that has the name of a file of the store. Otherwise a writer would run without its lock or without notes.
[[nodiscard]] inline result<void> refuse_misplaced(wal::layout const& paths,
                                                   std::vector<io::directory_entry> const& names) {
    for (std::string_view const file : {"lock", "readers", "notes"})
        for (auto const& e : names)
            if (e.name == file && e.kind == io::file_kind::directory)
                return failure(errc::not_regular,
                               "a folder stands where the store has a file of its own; move it away, then open again",
                               paths.path(file));
    return {};
}

/// Finds the store's folder, or creates it if the options allow that, and binds the handle to it. Returns whether it was created.
template <io::file_system Fs>
[[nodiscard]] result<bool> find_folder(Fs& fs, wal::layout const& paths, open_options const& options) {
    bool const may_create = options.create_if_missing && !options.read_only;
    auto const missing = [](auto const& got) {
        return !got && got.error().code == errc::not_found && got.error().cause != ENOTDIR;
    };
    // A file system that cannot bind a folder finds out here, by listing it, whether the folder exists.
    auto const look = [&]() -> result<std::vector<io::directory_entry>> {
        KEEL_TRY_LET(bound, bind_store(fs, paths));
        auto names = bound.list(paths.root());
        if (!names) return failure(why_no_folder(fs, paths, std::move(names).error()));
        fs = std::move(bound);
        return names;
    };
    auto names = look();
    bool const make = missing(names) && may_create;
    if (make) {
        KEEL_TRY(make_folder(fs, paths, options));
        names = look();
    } else if (missing(names) && !fs.status(paths.root())) {
        names.error().message = "there is no store here; create it by opening with create_if_missing";
    }
    if (!names) return failure(std::move(names).error());
    KEEL_TRY(refuse_foreign(paths, *names));
    if (!options.read_only) KEEL_TRY(refuse_misplaced(paths, *names));
    return make;
}

/// Syncs the folder above. Without this a power loss can remove the whole new store after its first write was acknowledged. `made`: this
/// opening created the folder. If another process created it, this process may have no permission for the folder above; that is no error.
template <io::file_system Fs>
[[nodiscard]] result<void> sync_parent(Fs& fs, wal::layout const& paths, bool made) {
    auto done = [&] {
        if constexpr (io::binds_folders<Fs>) return fs.sync_directory(paths.path(".."));
        else return sync_above(fs, paths.root());
    }();
    if (!done && !made && done.error().code == errc::no_permission) return {};
    return done;
}

// ---- locks --------------------------------------------------------------------------------------------------------------------

/// While this lock is held, no writer opens the store.
template <io::file_system Fs>
[[nodiscard]] result<wal::double_lock<Fs>> keep_writers_away(Fs& fs, wal::layout const& paths) {
    return wal::double_lock<Fs>::take(fs, paths.root(), paths.lock(), io::lock_mode::shared);
}

/// Takes the store for one writer: while the object lives, no other writer opens it. Errors: locked, and the machine's.
template <io::file_system Fs>
[[nodiscard]] result<std::shared_ptr<wal::store_identity<Fs>>> lock_store(Fs& fs, wal::layout const& paths) {
    auto const take = [&] {
        return wal::double_lock<Fs>::take(fs, paths.root(), paths.lock(), io::lock_mode::exclusive);
    };
    auto held = take();
    // If the lock can be shared, no writer holds it. A reader holds it for a short time, to examine damage. So try again.
    for (int turn = 0; !held && held.error().code == errc::locked && turn < retries_max && keep_writers_away(fs, paths);
         ++turn) {
        wait_a_little(turn);
        held = take();
    }
    if (!held) {
        auto why = std::move(held).error();
        if (why.code == errc::no_permission)
            why.message += "; to look at a store that cannot be written to, open it read_only";
        return failure(std::move(why));
    }
    return std::make_shared<wal::store_identity<Fs>>(fs, paths, std::move(*held));
}

/// While this lock is held, no file of a segment is recycled. A store on a medium without locks is read without this lock.
template <io::file_system Fs>
[[nodiscard]] result<std::optional<wal::double_lock<Fs>>> join_readers(Fs& fs, wal::layout const& paths) {
    for (int turn = 0;; ++turn) {
        auto held = wal::double_lock<Fs>::take(fs, paths.log(), paths.readers(), io::lock_mode::shared);
        if (held) return std::optional{std::move(*held)};
        bool const passes = held.error().retryable; // the lock is held, or no descriptor is left
        if (!passes) return std::optional<wal::double_lock<Fs>>{};
        if (turn == retries_max || held.error().code != errc::locked) return failure(std::move(held).error());
        wait_a_little(turn); // a writer is recycling a file
    }
}

} // namespace detail
} // namespace keel::inline v0::recovery

#endif
