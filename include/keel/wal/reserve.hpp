// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_RESERVE_HPP
#define KEEL_WAL_RESERVE_HPP

// Space that is kept for the time when the disk is full: a file of zeros that are really written. It is removed when an operation needs
// space and finds none, if that operation frees space (retiring segments) or saves acknowledged records from a failed segment. Ordinary
// writes never use it, and they resume only after it is back. Its content has no meaning. A file that an earlier run left is kept, and it
// is extended if it is too short.
//
// On copy-on-write, thin or quota-bound storage, removing it may free nothing. Then the store serves only reads until there is space.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// The reserve of one store. One thread at a time.
template <io::file_system Fs>
class space_reserve {
public:
    space_reserve(Fs fs, std::string path) : fs_{std::move(fs)}, path_{std::move(path)} {}

    /// Creates the file if it is missing, and extends it if it is shorter than `bytes`. The new bytes are written, not only allocated.
    /// Errors: no_space, and those of the machine; an existing file stays then.
    [[nodiscard]] result<void> make(std::uint64_t bytes) {
        if (written_ >= bytes) return {};
        auto there = written_;
        if (claimed_ == 0) there = size();
        if (there < bytes) {
            auto done = fill(there, bytes);
            // Remove a new file that is only half written: it would take the last free space and be of no use.
            if (!done && there == 0 && claimed_ == 0) static_cast<void>(fs_.remove(path_));
            KEEL_TRY(done);
        }
        written_ = std::max(there, bytes);
        return {};
    }
    /// Only allocates the blocks, which is quick; make() writes them. Errors: as make().
    [[nodiscard]] result<void> claim(std::uint64_t bytes) {
        if (std::max(written_, claimed_) >= bytes) return {};
        if (auto const there = size(); claimed_ == 0 && there != 0) written_ = there; // from an earlier run
        if (written_ >= bytes) return {};
        KEEL_TRY_LET(file, fs_.open(path_, io::access::read_write, io::creation::if_missing));
        auto done = file.allocate(bytes);
        if (!done && written_ == 0 && claimed_ == 0) static_cast<void>(fs_.remove(path_));
        KEEL_TRY(done);
        claimed_ = bytes;
        return {};
    }

    /// Removes the file, so that its space is free. False: there was no file. Also removes a file that an earlier run left, even before
    /// make().
    [[nodiscard]] bool spend() {
        written_ = 0;
        claimed_ = 0;
        return fs_.remove(path_).has_value();
    }

private:
    static constexpr std::uint64_t write_bytes = 256 * KiB;

    [[nodiscard]] std::uint64_t size() {
        auto const status = fs_.status(path_);
        return status && status->kind == io::file_kind::regular ? status->size : 0;
    }
    result<void> fill(std::uint64_t from, std::uint64_t bytes) {
        std::vector<std::byte> const zeros(static_cast<std::size_t>(std::min(bytes - from, write_bytes)));
        KEEL_TRY_LET(file, fs_.open(path_, io::access::read_write, io::creation::if_missing));
        KEEL_TRY(file.allocate(bytes));
        for (auto at = from; at < bytes; at += zeros.size())
            KEEL_TRY(file.write(at, byte_view{zeros}.first(
                                        static_cast<std::size_t>(std::min<std::uint64_t>(zeros.size(), bytes - at)))));
        return file.sync(); // before this some file systems have only promised the blocks
    }

    Fs fs_;
    std::string path_;
    std::uint64_t written_ = 0; ///< bytes that are written; 0: the file is not known to exist
    std::uint64_t claimed_ = 0; ///< bytes whose blocks are allocated, and may not be written; 0: none
};

} // namespace keel::inline v0::wal

#endif
