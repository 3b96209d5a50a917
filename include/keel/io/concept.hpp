// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_CONCEPT_HPP
#define KEEL_IO_CONCEPT_HPP

// The contract of the file-system axis. Three models: posix.hpp (the real machine), memory.hpp (a simulated disk that knows what a crash
// would keep), fault.hpp (wraps another model and makes it fail). keel does everything to a disk through this contract, stores into mapped
// files included. So the crash simulation sees each of these steps.
//
// A file system `Fs` is a small handle that can be copied. (Copies of memory and faulty share one state.) Paths are plain strings with '/'
// between names. If the last name is a symbolic link, it is never followed (errc::not_regular). Every call may fail with: io_error,
// no_space, no_permission, not_found, exists, not_regular, locked, unsupported, crashed, no_descriptor. The error has path, offset and
// errno. The model repeats interrupted calls and completes short transfers by itself.
//
//  fs.open(path, access, creation)  result<Fs::file>        close-on-exec; a regular file or not_regular
//  fs.lock(path, lock_mode)         result<Fs::lock_type>   never waits; `locked` if another holder, in this process or another, has it.
//                                                           exclusive: creates the file if it is missing; needs write access.
//                                                           shared: needs read access only; not_found if the file is missing.
//                                                           The lock lasts as long as the object. Closing other descriptors of the
//                                                           file does not drop it. The object may have identity(): the file_identity
//                                                           of the locked file
//  fs.list(path)                    result<vector<directory_entry>>  sorted by name, without . and ..
//  fs.status(path)                  result<file_status>     of the name itself: a symbolic link is reported as a symbolic link
//  fs.make_directory(path)          result<void>            `exists` if the name is taken; the parent folder must exist
//  fs.rename(from, to)              result<void>            atomic; replaces a file at `to`; durable after sync_directory
//  fs.remove(path)                  result<void>            a file, or an empty folder; durable after sync_directory
//  fs.sync_directory(path)          result<void>            after this, names created, renamed and removed in the folder survive power loss
//  fs.boot()                        boot_id                 differs after each start of the machine; all zeros: not known
//  fs.bind_folder(path)             result<Fs>              optional. Returns a handle that holds the folder which is at `path` now; a
//                                                           symbolic link at the end of `path` is followed. The new handle looks up
//                                                           every path that begins with `path` in this folder. The folder, and folders
//                                                           in it that were used, stay the same even if their names change. Below the
//                                                           folder no link is followed. With this handle, and only with it,
//                                                           sync_directory(path + "/..") syncs the folder above. Errors: not_found;
//                                                           if `path` is no folder, not_regular or not_found with cause ENOTDIR.
//                                                           Without this call every path is looked up each time
//  fs.make_room_with(close_one)     void                    optional. For a handle from bind_folder() and its copies. If a call finds
//                                                           that no more files may be open, bool close_one() is called. It closes one
//                                                           file that can be opened again, and returns whether it did. Then the call
//                                                           is tried again. Any thread may call close_one()
//  fs.lock_folder(path, lock_mode)  result<Fs::lock_type>   optional. As lock(), for a folder that exists. `unsupported` if this file
//                                                           system has no such locks. Without it keel locks a file only, and the name
//                                                           of a file can be removed
//
//  file: movable, closes in its destructor. Several threads may make positional calls at once.
//  f.read(offset, span)             result<size_t>          all bytes asked for; fewer only at the end of the file
//  f.read_uncached(offset, span)    result<size_t>          the same, past the page cache where the machine can (R5.8)
//  f.write(offset, bytes)           result<void>            all bytes; after an error any part of them may be written
//  f.sync()                         result<void>            after this, bytes and size survive power loss (fdatasync). After one
//                                                           failure no unsynced byte of this file may be believed again
//  f.allocate(bytes)                result<void>            the file is at least `bytes` long and owns its blocks; new bytes are zero
//  f.status()                       result<file_status>
//  f.begin_sync(mapping, offset, bytes)  void               optional. A hint: these bytes of a mapping of the file no longer change, so
//                                                           writing them may begin. A later sync reports the errors
//  f.write_back(offset, bytes)      result<void>            optional. These written bytes no longer change. Writing them to the disk
//                                                           begins. When the call returns, the bytes just before them have been
//                                                           written, but not durably. A later sync of this file waits for less, and
//                                                           so do syncs of other files. After an error the file must not be believed:
//                                                           as after a failed sync, a later sync need not return it again
//  f.punch_hole(offset, bytes)      void                    optional. The file needs no blocks for these bytes. They are zero from here
//                                                           on; where the file system cannot do it, they stay as they were. The size
//                                                           stays. Nothing may read or write these bytes during the call. A later
//                                                           write there may fail for want of space, until allocate()
//  f.map(access)                    result<Fs::mapping>     the whole file, as long as it is now; may outlive f
//  f.path()                         std::string const&
//
//  mapping: movable, unmaps in its destructor. It never gives out a pointer. A bad sector, a file that was cut short, or a full
//  copy-on-write disk is an error with file and offset, not a signal. An offset outside of the mapping is invalid_argument.
//  m.size()                         uint64_t                bytes
//  m.store(offset, bytes)           result<void>            plain stores. They survive the process. They survive power loss only after
//                                                           m.sync(). The caller orders stores to the same bytes
//  m.publish(offset, word)          result<void>            stores one aligned 32-bit word with release: a reader that sees the word
//                                                           sees all stores before it
//  m.copy_out(offset, span)         result<void>            copies bytes of the mapping into the span
//  m.prefetch(offset, bytes)        void                    optional. A hint: these bytes will be copied out soon
//  m.verify(offset, length, sum)    result<void>            feeds the bytes to a checksum without copying them
//  m.sync()                         result<void>            like file::sync(), stores included
//  m.path()                         std::string const&

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

/// The machine: the contract of a file system, its models, and the threads, limits and random numbers of the process.
namespace keel::inline v0::io {

/// How a file is opened or mapped.
enum class access : std::uint8_t { read_only, read_write };
/// What open() does with the name: the file must exist, must not exist, or is created if it is missing.
enum class creation : std::uint8_t { must_exist, must_not_exist, if_missing };
/// Many holders may share a lock, or one holder has it alone.
enum class lock_mode : std::uint8_t { shared, exclusive };
/// What stands under a name.
enum class file_kind : std::uint8_t { regular, directory, symlink, other };

/// The kind's name, for example "regular".
[[nodiscard]] constexpr std::string_view name_of(file_kind kind) noexcept {
    switch (kind) {
    case file_kind::regular: return "regular";
    case file_kind::directory: return "directory";
    case file_kind::symlink: return "symlink";
    case file_kind::other: return "other";
    }
    return "unknown";
}

/// Identifies a file independently of its name. A recycled file keeps its identity; a copy has a new one.
struct file_identity {
    std::uint64_t device = 0; ///< the number of the device
    std::uint64_t inode = 0;  ///< the number of the file on it
    /// Compares `device`, then `inode`.
    constexpr auto operator<=>(file_identity const&) const noexcept = default;
};

/// What the file system tells about a name or an open file.
struct file_status {
    file_kind kind = file_kind::other; ///< what stands under the name
    std::uint64_t size = 0;            ///< bytes
    std::uint64_t link_count = 0;      ///< names of the file
    file_identity identity{};          ///< which file it is
};

/// One name in a folder.
struct directory_entry {
    std::string name;                  ///< without the folder
    file_kind kind = file_kind::other; ///< what stands under the name
    /// Compares `name`, then `kind`.
    auto operator<=>(directory_entry const&) const = default;
};

/// Identifies one start of the machine. Bytes that were never synced can be believed only within the boot in which they were written.
struct boot_id {
    std::array<std::byte, 16> bytes{}; ///< as the machine gives them; all zeros: not known
    /// Compares the bytes.
    constexpr auto operator<=>(boot_id const&) const noexcept = default;
    /// Whether the machine has told its boot.
    [[nodiscard]] constexpr bool known() const noexcept { return *this != boot_id{}; }
};

/// A mapped file. The head of this file describes the calls. Two calls are not checked here: prefetch() is optional, and verify() is a
/// template.
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

/// An open file. The head of this file describes the calls. Optional calls are not checked here.
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

/// The file-system axis. The head of this file describes the calls.
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

/// The optional bind_folder(): the file system has handles that hold a folder instead of looking up its name each time.
template <class Fs>
concept binds_folders = file_system<Fs> && requires(Fs fs, std::string const& path) {
    { fs.bind_folder(path) } -> std::same_as<result<Fs>>;
};

/// The optional lock_folder(): the file system can lock a folder itself.
template <class Fs>
concept locks_folders = file_system<Fs> && requires(Fs fs, std::string const& path, lock_mode mode) {
    { fs.lock_folder(path, mode) } -> std::same_as<result<typename Fs::lock_type>>;
};

/// The optional punch_hole(): the file can give back blocks in its middle.
template <class F>
concept punches_holes = file_handle<F> && requires(F f, std::uint64_t offset) {
    { f.punch_hole(offset, offset) } -> std::same_as<void>;
};

/// Returns a handle bound to the folder at `path`, if the file system has such handles. Otherwise returns a copy of `fs` and does not look
/// at the folder.
template <file_system Fs>
[[nodiscard]] result<Fs> bind_folder(Fs& fs, std::string const& path) {
    if constexpr (binds_folders<Fs>) return fs.bind_folder(path);
    else return fs;
}

/// Passes `close_one` to the handle, if the file system has make_room_with(). Otherwise does nothing.
template <file_system Fs>
void make_room_with(Fs const& fs, std::function<bool()> close_one) {
    if constexpr (requires { fs.make_room_with(std::move(close_one)); }) fs.make_room_with(std::move(close_one));
}

} // namespace keel::inline v0::io

#endif
