// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_RESERVE_HPP
#define KEEL_WAL_RESERVE_HPP

// Room kept for the day the disk is full: a file of zeros, really written, that is removed when what frees space (retiring segments,
// saving acknowledged records from a segment that failed) finds none. Ordinary writes never draw on it, and resume only once it is
// back. It holds nothing: whatever a crash leaves of it is written anew.
//
// On copy-on-write, thin or quota-bound storage removing it may free nothing; then the store serves reads only until there is room.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// One thread at a time.
template <io::file_system Fs>
class space_reserve {
public:
    space_reserve(Fs fs, std::string path) : fs_{std::move(fs)}, path_{std::move(path)} {}

    /// Makes the file where it is missing, and makes it longer where it is shorter than `bytes`. Errors: no_space, and the machine's; then
    /// what was there is there still.
    [[nodiscard]] result<void> make(std::uint64_t bytes) {
        if (written_ >= bytes) return {};
        auto there = written_;
        if (claimed_ == 0) there = size();
        if (there < bytes) {
            auto done = fill(there, bytes);
            // Half of a first one would only take what room there is.
            if (!done && there == 0 && claimed_ == 0) static_cast<void>(fs_.remove(path_));
            KEEL_TRY(done);
        }
        written_ = std::max(there, bytes);
        return {};
    }
    /// Takes the blocks only, which is quick; make() writes them. Errors: as of make().
    [[nodiscard]] result<void> claim(std::uint64_t bytes) {
        if (std::max(written_, claimed_) >= bytes) return {};
        if (auto const there = size(); claimed_ == 0 && there != 0) written_ = there; // an earlier run's
        if (written_ >= bytes) return {};
        KEEL_TRY_LET(file, fs_.open(path_, io::access::read_write, io::creation::if_missing));
        auto done = file.allocate(bytes);
        if (!done && written_ == 0 && claimed_ == 0) static_cast<void>(fs_.remove(path_));
        KEEL_TRY(done);
        claimed_ = bytes;
        return {};
    }

    /// Gives the room back. False: there was none to give. Also what an earlier run left, though nobody asked for it yet.
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
        return file.sync(); // until then some file systems have only promised the blocks
    }

    Fs fs_;
    std::string path_;
    std::uint64_t written_ = 0; ///< bytes of it that were; 0: it is not known to be there
    std::uint64_t claimed_ = 0; ///< bytes whose blocks were taken, and may not be written; 0: none
};

} // namespace keel::inline v0::wal

#endif
