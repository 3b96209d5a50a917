// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_STORE_LOCK_HPP
#define KEEL_RECOVERY_STORE_LOCK_HPP

// How a store's folder is found, or made, and whose it is from then on: the first steps of opening, before anything in it is read.
//
// The path is looked up once. From there on all goes through the folder itself, where the file system can (io::bind_folder): a symbolic
// link at the end of the path is followed here and never again, and no later change of a name leads anywhere else.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/recovery/options.hpp>
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

/// How often whoever reads beside a writer looks again before it believes what it sees: a quarter of a second in all.
inline constexpr int retries_max = 64;

namespace detail {

inline void wait_a_little(int turn) { std::this_thread::sleep_for(std::chrono::milliseconds{turn / 8}); }

/// A folder that could not be opened: told as what it is. Only what is no folder is no store.
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

/// A handle bound to the store's folder. Errors: not_found, not_a_store, and the machine's.
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

/// The folder above, as far as the path tells.
[[nodiscard]] inline std::string folder_above(std::string const& path) {
    auto const slash = path.find_last_of('/');
    auto const name = slash == std::string::npos ? path : path.substr(slash + 1);
    if (name == "." || name == "..") return path + "/..";
    return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// Makes a folder's name durable in the one above it.
template <io::file_system Fs>
[[nodiscard]] result<void> sync_above(Fs& fs, std::string const& path) {
    auto above = folder_above(path);
    // A link is not followed at the end of a path; `..` is none.
    auto const status = fs.status(above);
    if (status && status->kind == io::file_kind::symlink) above = path + "/..";
    return fs.sync_directory(above);
}

/// Makes the folders above the store's own that are missing, each durable in the one above it; or names the first of them.
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

/// Makes the store's folder. Its name is synced once there is something in it that must not be lost (sync_parent).
template <io::file_system Fs>
[[nodiscard]] result<void> make_folder(Fs& fs, wal::layout const& paths, open_options const& options) {
    auto made = fs.make_directory(paths.root());
    if (!made && made.error().code == errc::not_found) {
        KEEL_TRY(make_folders_above(fs, paths.root(), options));
        made = fs.make_directory(paths.root());
    }
    if (!made && made.error().code == errc::exists)
        return {}; // by somebody else, or something that binding will tell of
    return made;
}

/// Before the lock file is made: a folder of other files stays as it is.
[[nodiscard]] inline result<void> refuse_foreign(wal::layout const& paths,
                                                 std::vector<io::directory_entry> const& names) {
    for (std::string_view const part : {"manifest.0", "manifest.1", "log"})
        if (std::ranges::any_of(names, [&](auto const& e) { return e.name == part; })) return {};
    if (std::ranges::none_of(names, [](auto const& e) { return wal::layout::is_foreign(e.name); })) return {};
    return failure(errc::not_a_store,
                   "the folder holds other files and no keel store; choose an empty folder or the store's own",
                   paths.root());
}
/// Nor does whoever writes go without a lock or without notes because a folder has taken the name.
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

/// Finds the store's folder, or makes it where the options say so, and binds the handle to it. Gives whether it was made.
template <io::file_system Fs>
[[nodiscard]] result<bool> find_folder(Fs& fs, wal::layout const& paths, open_options const& options) {
    bool const may_create = options.create_if_missing && !options.read_only;
    auto const missing = [](auto const& got) {
        return !got && got.error().code == errc::not_found && got.error().cause != ENOTDIR;
    };
    // A handle that cannot be bound finds out here whether there is a folder.
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

/// Without this a power loss can take the whole new store away after its first write was acknowledged. `made`: the folder was made by
/// this opening. Where it was not, whoever made it may be the only one who has a right to the folder above.
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

/// As long as this is held nobody writes.
template <io::file_system Fs>
[[nodiscard]] result<wal::double_lock<Fs>> keep_writers_away(Fs& fs, wal::layout const& paths) {
    return wal::double_lock<Fs>::take(fs, paths.root(), paths.lock(), io::lock_mode::shared);
}

/// The store is this object's alone. Errors: locked, and the machine's.
template <io::file_system Fs>
[[nodiscard]] result<std::shared_ptr<wal::store_identity<Fs>>> lock_store(Fs& fs, wal::layout const& paths) {
    auto const take = [&] {
        return wal::double_lock<Fs>::take(fs, paths.root(), paths.lock(), io::lock_mode::exclusive);
    };
    auto held = take();
    // Where it can be shared no writer has it: somebody who reads looks for trouble, and will be done.
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

/// As long as this is held no file is written over. A store on a medium that takes no locks is read without.
template <io::file_system Fs>
[[nodiscard]] result<std::optional<wal::double_lock<Fs>>> join_readers(Fs& fs, wal::layout const& paths) {
    for (int turn = 0;; ++turn) {
        auto held = wal::double_lock<Fs>::take(fs, paths.log(), paths.readers(), io::lock_mode::shared);
        if (held) return std::optional{std::move(*held)};
        bool const passes = held.error().retryable; // a lock that is held, no descriptor left
        if (!passes) return std::optional<wal::double_lock<Fs>>{};
        if (turn == retries_max || held.error().code != errc::locked) return failure(std::move(held).error());
        wait_a_little(turn); // a writer gives a file its new life
    }
}

} // namespace detail
} // namespace keel::inline v0::recovery

#endif
