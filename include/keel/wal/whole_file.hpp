// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_WHOLE_FILE_HPP
#define KEEL_WAL_WHOLE_FILE_HPP

// Files that are written or read as a whole: manifests, receipts, notes of evidence, copies of damaged files.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/window.hpp>

#include <cstdint>
#include <string>

namespace keel::inline v0::wal {

/// Creates a file with these parts one after the other, and syncs it. A file that an earlier attempt left under this name is replaced. The
/// name itself is not synced: the caller syncs the directory.
template <io::file_system Fs, class... Parts>
[[nodiscard]] result<typename Fs::file> put_file(Fs& fs, std::string const& path, Parts const&... parts) {
    if (auto gone = fs.remove(path); !gone && gone.error().code != errc::not_found) return failure(gone.error());
    KEEL_TRY_LET(file, fs.open(path, io::access::read_write, io::creation::must_not_exist));
    result<void> done;
    std::uint64_t at = 0;
    [[maybe_unused]] auto const put = [&](byte_view part) {
        if (done && !part.empty()) done = file.write(at, part);
        at += part.size();
    };
    (put(byte_view{parts}), ...);
    KEEL_TRY(done);
    KEEL_TRY(file.sync());
    return file;
}

/// Puts these bytes under `path` in one step, through the file `path`.tmp. They are durable when this returns. After an error the old file
/// is still there, with one exception: if only the sync of the directory failed, the new file is there, and a power loss may bring the old
/// one back.
template <io::file_system Fs>
[[nodiscard]] result<void> replace_file(Fs& fs, std::string const& path, byte_view bytes) {
    auto const temporary = path + ".tmp";
    KEEL_TRY(put_file(fs, temporary, bytes));
    KEEL_TRY(fs.rename(temporary, path));
    return fs.sync_directory(path.substr(0, path.rfind('/')));
}

/// Calls visit(offset, part) for the bytes of the file up to `bytes`. Bytes that cannot be read are zeros. Errors: the file cannot be
/// opened; an error of `visit`, which ends the call.
template <io::file_system Fs, class Visit>
[[nodiscard]] result<void> each_part(Fs& fs, std::string const& path, std::uint64_t bytes, Visit const& visit) {
    KEEL_TRY_LET(file, fs.open(path, io::access::read_only, io::creation::must_exist));
    window<typename Fs::file> in{file, bytes};
    for (std::uint64_t at = 0; at < bytes;) {
        auto const part = in.from(at, 1);
        KEEL_TRY(visit(at, part));
        at += part.size();
    }
    return {};
}

} // namespace keel::inline v0::wal

#endif
