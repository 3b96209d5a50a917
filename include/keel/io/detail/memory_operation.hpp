// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_MEMORY_OPERATION_HPP
#define KEEL_IO_DETAIL_MEMORY_OPERATION_HPP

// The events that io::memory reports to its hook: the changes of a simulated disk. They are also the points where it can crash.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace keel::inline v0::io {

/// The changes of a simulated disk.
enum class operation_kind : std::uint8_t {
    write,
    store,
    publish,
    sync,
    mapping_sync,
    allocate,
    create, ///< by open, or by an exclusive lock
    rename,
    remove,
    make_directory,
    sync_directory,
    punch_hole,
};

/// The kind's name, for example "sync_directory".
[[nodiscard]] constexpr std::string_view name_of(operation_kind kind) noexcept {
    constexpr std::string_view names[] = {"write",        "store",          "publish",        "sync",
                                          "mapping_sync", "allocate",       "create",         "rename",
                                          "remove",       "make_directory", "sync_directory", "punch_hole"};
    return names[static_cast<std::size_t>(kind)];
}

/// A change that was just made to the disk, wholly or in part.
struct operation {
    /// When the hook of memory::on_operation() is called.
    enum class phase : std::uint8_t {
        partly, ///< a prefix of a write (whole sectors) or of a store (whole words of 8 bytes) was made
        done,
    };
    operation_kind kind = operation_kind::write; ///< the change
    std::string path;                            ///< as the caller named it; of a rename the old name
    std::uint64_t offset = 0;                    ///< of a write, a store or a hole
    std::uint64_t length = 0;                    ///< likewise; of an allocation the size asked for
    phase at = phase::done;                      ///< half-way through the change, or after it
    std::uint64_t index = 0; ///< 1 for the first change on this disk; both phases of a change have the same
};

} // namespace keel::inline v0::io

#endif
