// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_CONCEPT_HPP
#define KEEL_IO_CONCEPT_HPP

// The machine, as keel sees it: the contract of the file-system axis. Three models: posix.hpp (the real one), memory.hpp (keeps
// what a crash would keep), fault.hpp (wraps another and makes it fail). Everything keel does to a disk goes through here, stores
// into mapped files included, so that the crash simulation sees each of them.
//
// A file system `Fs` is a small copyable handle (memory and faulty: shared state behind it). Paths are plain
// strings with '/' between names; the last name is never followed when it is a symlink (errc::not_regular).
// Every call may fail with: io_error, no_space, no_permission, not_found, exists, not_regular, locked, unsupported, crashed,
// no_descriptor; the error carries path, offset and errno. Interrupted calls and short transfers are dealt with inside.
//
//   fs.open(path, access, creation)  result<Fs::file>        close-on-exec; a regular file or not_regular
//   fs.lock(path, lock_mode)         result<Fs::lock_type>   never waits; `locked` where somebody (this process included) has it.
//                                                            exclusive: creates the file if missing, needs write access;
//                                                            shared: needs read access only, not_found where it is missing.
//                                                            Held until the object dies; closing other descriptors does not drop it.
//                                                            It may have identity(), the file_identity of what is locked
//   fs.list(path)                    result<vector<directory_entry>>  sorted by name, without . and ..
//   fs.status(path)                  result<file_status>     of the name itself: a symlink is a symlink
//   fs.make_directory(path)          result<void>            `exists` where the name is taken; the parent must be there
//   fs.rename(from, to)              result<void>            atomic; replaces a file at `to`; durable after sync_directory
//   fs.remove(path)                  result<void>            a file, or an empty folder; durable after sync_directory
//   fs.sync_directory(path)          result<void>            names created, renamed and removed in it survive power loss after this
//   fs.boot()                        boot_id                 differs after each start of the machine; all zeros: not known
//   fs.bind_folder(path)             result<Fs>              may be left out; the folder that stands at `path` now, to which a
//                                                            symlink at its end may lead. In the handle that is returned, every path
//                                                            that begins with `path` is looked for in that folder, and it and the
//                                                            folders in it that were used stay the same ones whatever becomes of
//                                                            their names. Below it no link is followed. There, and only there,
//                                                            sync_directory(path + "/..") syncs the folder above. not_found, and
//                                                            not_regular or ENOTDIR where it is no folder. Without it paths are
//                                                            looked up anew each time
//   fs.make_room_with(close_one)     void                    may be left out; of a handle that bind_folder() gave and its copies: where a
//                                                            call of theirs finds that no more files may be open, bool close_one() is
//                                                            called, which closes one that can be opened again and says whether it
//                                                            did, and the call is tried again. From any thread
//   fs.lock_folder(path, lock_mode)  result<Fs::lock_type>   may be left out; as lock(), of a folder that is there. `unsupported`
//                                                            where this file system has no such locks. Without it the lock on a
//                                                            file has to do, whose name can be taken away
//
//   file: moves, closes in its destructor. Positional calls may come from several threads.
//   f.read(offset, span)             result<size_t>          as many as asked for; fewer only at the end of the file
//   f.read_uncached(offset, span)    result<size_t>          the same, past the page cache where the machine can (R5.8)
//   f.write(offset, bytes)           result<void>            all of them, or an error after which any part may be there
//   f.sync()                         result<void>            bytes and size survive power loss after this (fdatasync). After one
//                                                            failure nothing unsynced in this file may be believed again
//   f.allocate(bytes)                result<void>            the file is at least so long and owns its blocks; new bytes are zero
//   f.status()                       result<file_status>
//   f.begin_sync(mapping, offset, bytes)  void               may be left out; a hint that these bytes of a mapping of it change no more:
//                                                            writing them may begin, and a later sync tells what went wrong
//   f.write_back(offset, bytes)      void                    may be left out; a hint that these bytes, which were written, change no
//                                                            more: they begin to go to the disk, and those just before them have
//                                                            gone when it returns. A later sync waits for less, as do others' syncs
//   f.punch_hole(offset, bytes)      void                    may be left out; the file needs no blocks for these bytes: they are zero
//                                                            from here on, or as they were where this file system cannot, and the
//                                                            size stays. Nobody reads or writes them meanwhile. A write there may
//                                                            want of room, until allocate()
//   f.map(access)                    result<Fs::mapping>     the whole file as long as it is now; outlives f
//   f.path()                         std::string const&
//
//   mapping: moves, unmaps in its destructor. Never hands out a pointer. A bad sector, a file cut short or a full copy-on-write
//   disk under it is an error with file and offset, not a signal. Out-of-range offsets are invalid_argument.
//   m.size()                         uint64_t
//   m.store(offset, bytes)           result<void>            plain stores; survive the process, not power loss before m.sync().
//                                                            The caller orders stores to the same bytes
//   m.publish(offset, word)          result<void>            one aligned 32-bit word, released: who reads it sees all stores before
//   m.copy_out(offset, span)         result<void>
//   m.prefetch(offset, bytes)        void                    may be left out; a hint that these bytes will be copied out soon
//   m.verify(offset, length, sum)    result<void>            feeds the bytes to a checksum without copying them
//   m.sync()                         result<void>            like file::sync(), stores included
//   m.path()                         std::string const&

#include <keel/error.hpp>
#include <keel/types.hpp>

#include <array>
#include <compare>
#include <concepts>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::io {

enum class access : std::uint8_t { read_only, read_write };
enum class creation : std::uint8_t { must_exist, must_not_exist, if_missing };
enum class lock_mode : std::uint8_t { shared, exclusive };
enum class file_kind : std::uint8_t { regular, directory, symlink, other };

[[nodiscard]] constexpr std::string_view name_of(file_kind kind) noexcept {
    switch (kind) {
    case file_kind::regular: return "regular";
    case file_kind::directory: return "directory";
    case file_kind::symlink: return "symlink";
    case file_kind::other: return "other";
    }
    return "unknown";
}

/// Which file it really is, whatever its name. A recycled file keeps it; a copy has another.
struct file_identity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    constexpr auto operator<=>(file_identity const&) const noexcept = default;
};

struct file_status {
    file_kind kind = file_kind::other;
    std::uint64_t size = 0; ///< bytes
    std::uint64_t link_count = 0;
    file_identity identity{};
};

struct directory_entry {
    std::string name; ///< without the folder
    file_kind kind = file_kind::other;
    auto operator<=>(directory_entry const&) const = default;
};

/// One start of the machine. Bytes that were never synced can be believed only within the boot that wrote them.
struct boot_id {
    std::array<std::byte, 16> bytes{};
    constexpr auto operator<=>(boot_id const&) const noexcept = default;
    [[nodiscard]] constexpr bool known() const noexcept { return *this != boot_id{}; }
};

template <class M>
concept file_mapping = std::movable<M> && requires(M m, M const& c, std::uint64_t offset, byte_view in, byte_span out,
                                                   std::uint32_t word) {
    { c.size() } noexcept -> std::same_as<std::uint64_t>;
    { m.store(offset, in) } -> std::same_as<result<void>>;
    { m.publish(offset, word) } -> std::same_as<result<void>>;
    { c.copy_out(offset, out) } -> std::same_as<result<void>>;
    { m.sync() } -> std::same_as<result<void>>;
    { c.path() } noexcept -> std::same_as<std::string const&>;
};

template <class F>
concept file_handle = std::movable<F> &&
                      requires(F f, F const& c, std::uint64_t offset, byte_view in, byte_span out, access how) {
                          { c.read(offset, out) } -> std::same_as<result<std::size_t>>;
                          { c.read_uncached(offset, out) } -> std::same_as<result<std::size_t>>;
                          { f.write(offset, in) } -> std::same_as<result<void>>;
                          { f.sync() } -> std::same_as<result<void>>;
                          { f.allocate(offset) } -> std::same_as<result<void>>;
                          { c.status() } -> std::same_as<result<file_status>>;
                          { c.path() } noexcept -> std::same_as<std::string const&>;
                          requires file_mapping<typename decltype(f.map(how))::value_type>;
                      };

/// The file-system axis; the calls are described at the head of this file.
template <class Fs>
concept file_system = std::copyable<Fs> && std::default_initializable<Fs> && file_handle<typename Fs::file> &&
                      file_mapping<typename Fs::mapping> && std::movable<typename Fs::lock_type> &&
                      requires(Fs fs, std::string const& path, access how, creation make, lock_mode mode) {
                          { fs.open(path, how, make) } -> std::same_as<result<typename Fs::file>>;
                          { fs.lock(path, mode) } -> std::same_as<result<typename Fs::lock_type>>;
                          { fs.list(path) } -> std::same_as<result<std::vector<directory_entry>>>;
                          { fs.status(path) } -> std::same_as<result<file_status>>;
                          { fs.make_directory(path) } -> std::same_as<result<void>>;
                          { fs.rename(path, path) } -> std::same_as<result<void>>;
                          { fs.remove(path) } -> std::same_as<result<void>>;
                          { fs.sync_directory(path) } -> std::same_as<result<void>>;
                          { fs.boot() } -> std::same_as<boot_id>;
                      };

/// Has handles that work through a folder rather than its name.
template <class Fs>
concept binds_folders = file_system<Fs> && requires(Fs fs, std::string const& path) {
    { fs.bind_folder(path) } -> std::same_as<result<Fs>>;
};

/// Can lock a folder itself.
template <class Fs>
concept locks_folders = file_system<Fs> && requires(Fs fs, std::string const& path, lock_mode mode) {
    { fs.lock_folder(path, mode) } -> std::same_as<result<typename Fs::lock_type>>;
};

/// Can give blocks in the middle of a file back.
template <class F>
concept punches_holes = file_handle<F> && requires(F f, std::uint64_t offset) {
    { f.punch_hole(offset, offset) } -> std::same_as<void>;
};

/// A handle bound to the folder at `path`, where the file system has such; else the handle as it is, and nothing is looked at.
template <file_system Fs>
[[nodiscard]] result<Fs> bind_folder(Fs& fs, std::string const& path) {
    if constexpr (binds_folders<Fs>) return fs.bind_folder(path);
    else return fs;
}

/// `close_one` is asked where the handle finds no descriptor, if it can do that.
template <file_system Fs>
void make_room_with(Fs const& fs, std::function<bool()> close_one) {
    if constexpr (requires { fs.make_room_with(std::move(close_one)); }) fs.make_room_with(std::move(close_one));
}

} // namespace keel::inline v0::io

#endif
