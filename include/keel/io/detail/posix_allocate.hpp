// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_ALLOCATE_HPP
#define KEEL_IO_DETAIL_POSIX_ALLOCATE_HPP

// Makes a file own its blocks before they are written. A later write then cannot run out of space and does not change the file's metadata.
// This uses fallocate(2) where the file system has it. Otherwise zeros are written into every hole and up to the new end. posix_fallocate
// of the C library is not used: where the file system has no fallocate, it rewrites existing bytes while another thread may be writing
// them.
//
// punch_hole() does the opposite: it gives back blocks in the middle of a file, where the file system can.

#include <keel/io/detail/posix_descriptor.hpp>

#include <array>

namespace keel::inline v0::io::detail {

/// Covers [0, bytes) with calls of `reserve(offset, length)`, which answers like fallocate(2). Returns errno, or 0. If signals keep
/// interrupting the calls, the pieces get smaller. Some file systems undo all of an interrupted request, so a large request would never
/// end.
template <class Reserve>
[[nodiscard]] int reserve_in_pieces(std::uint64_t bytes, Reserve&& reserve) {
    constexpr std::uint64_t piece_min = 256 * KiB;
    std::uint64_t done = 0;
    std::uint64_t piece = bytes;
    while (done < bytes) {
        auto const length = std::min(piece, bytes - done);
        auto const answer = reserve(done, length);
        auto const cause = errno;
        if (answer == 0) {
            done += length;
        } else if (cause == EINTR) {
            piece = std::max(piece / 2, piece_min);
        } else {
            return cause;
        }
    }
    return 0;
}

/// Asks the file system for the blocks. Returns errno, or 0.
[[nodiscard]] inline int reserve_blocks([[maybe_unused]] descriptor const& file,
                                        [[maybe_unused]] std::uint64_t bytes) noexcept {
#if defined(__linux__)
    return reserve_in_pieces(bytes, [&](std::uint64_t offset, std::uint64_t length) {
        return ::fallocate(file.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(length));
    });
#else
    return EOPNOTSUPP;
#endif
}

/// Writes zeros over [from, to).
[[nodiscard]] inline result<void> write_zeros(descriptor const& file, std::string const& path, std::uint64_t from,
                                              std::uint64_t to) {
    // Not const: a const array would be stored in the program's file.
    static constinit std::array<std::byte, 64 * KiB> zeros{};
    while (from < to) {
        auto const length = std::min<std::uint64_t>(zeros.size(), to - from);
        KEEL_TRY(write_at(file, path, from, byte_view{zeros}.first(static_cast<std::size_t>(length))));
        from += length;
    }
    return {};
}

/// Writes zeros into every hole below `size`, and from `size` to `bytes`.
[[nodiscard]] inline result<void> fill_holes(descriptor const& file, std::string const& path, std::uint64_t size,
                                             std::uint64_t bytes) {
#if defined(SEEK_HOLE) && defined(SEEK_DATA)
    std::uint64_t at = 0;
    while (at < std::min(size, bytes)) {
        auto const hole = ::lseek(file.get(), static_cast<off_t>(at), SEEK_HOLE);
        if (hole < 0 || static_cast<std::uint64_t>(hole) >= size) break;
        auto const data = ::lseek(file.get(), hole, SEEK_DATA);
        auto const end = data < 0 ? size : static_cast<std::uint64_t>(data);
        KEEL_TRY(write_zeros(file, path, static_cast<std::uint64_t>(hole), end));
        at = end;
    }
#endif
    return write_zeros(file, path, size, bytes);
}

/// Makes the file at least `bytes` long, and lets it own its blocks up to there.
[[nodiscard]] inline result<void> allocate_blocks(descriptor const& file, std::string const& path,
                                                  std::uint64_t bytes) {
    KEEL_TRY(check_range(0, bytes, path));
    if (bytes > file_bytes_allowed()) return os_failure(EFBIG, bytes_text("cannot allocate", bytes), path);
    auto const cause = reserve_blocks(file, bytes);
    if (cause == 0) return {};
    if (cause != EOPNOTSUPP && cause != ENOSYS) return os_failure(cause, bytes_text("cannot allocate", bytes), path);
    KEEL_TRY_LET(status, status_of(file, path));
    return fill_holes(file, path, status.size, bytes);
}

/// Gives back the blocks of [offset, offset + bytes). The file keeps its size. Does nothing if the file system cannot do that.
inline void punch_hole([[maybe_unused]] descriptor const& file, [[maybe_unused]] std::uint64_t offset,
                       [[maybe_unused]] std::uint64_t bytes) noexcept {
#if defined(__linux__) && defined(FALLOC_FL_PUNCH_HOLE)
    while (::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                       static_cast<off_t>(bytes)) != 0)
        if (errno != EINTR) return;
#endif
}

} // namespace keel::inline v0::io::detail

#endif
