// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_NOTES_FILE_HPP
#define KEEL_WAL_NOTES_FILE_HPP

// The notes beside the log (format/notes.hpp). Plain stores into a mapping write them after each commit; they are never synced. A killed
// process leaves them behind. They are only a hint, so a store that fails here is no error.

#include <keel/error.hpp>
#include <keel/format/notes.hpp>
#include <keel/io/concept.hpp>

#include <array>
#include <optional>
#include <string>
#include <utility>

namespace keel::inline v0::wal {

template <checksum_policy C, io::file_system Fs>
class notes_file {
public:
    /// Opens or creates the file. Errors: those of the machine; the caller may go on without notes.
    [[nodiscard]] static result<notes_file> open(Fs& fs, std::string const& path) {
        KEEL_TRY_LET(file, fs.open(path, io::access::read_write, io::creation::if_missing));
        KEEL_TRY_LET(status, file.status());
        // Allocate only if the file is too short: an allocation waits for the journal of the file system, which may be busy.
        if (status.size < format::notes_file_bytes) KEEL_TRY(file.allocate(format::notes_file_bytes));
        KEEL_TRY_LET(mapping, file.map(io::access::read_write));
        notes_file out{std::move(mapping), status.identity, fs.boot()};
        if (auto const read = out.mapping_->copy_out(0, out.original_); !read) return failure(read.error());
        if (auto const newest = format::newest_note<C>(out.original_)) {
            out.last_ = *newest;
            // Keep the newer slot until the other slot is whole.
            auto const first = format::decode_note<C>(byte_view{out.original_}.first(format::note_bytes));
            out.slot_ = first && first->sequence == newest->sequence ? 1 : 0;
        }
        return out;
    }

    /// The newest note: as found at open, or as written since then.
    [[nodiscard]] format::note const& last() const noexcept { return last_; }

    /// Stores the note into the older slot. Sequence, boot and identity are filled in here.
    void write(format::note n) {
        n.sequence = last_.sequence + 1;
        n.boot = boot_;
        n.self = self_;
        auto const bytes = format::encode<C>(n);
        if (!mapping_->store(slot_ * format::note_bytes, bytes)) return;
        slot_ ^= 1;
        last_ = n;
    }
    /// Restores both slots as they were at open. For an opening that ended in order and wrote nothing.
    void restore() { static_cast<void>(mapping_->store(0, original_)); }

private:
    notes_file(typename Fs::mapping mapping, io::file_identity self, io::boot_id boot)
        : mapping_{std::move(mapping)}, self_{self}, boot_{boot} {}

    std::optional<typename Fs::mapping> mapping_;
    io::file_identity self_;
    io::boot_id boot_;
    format::note last_{};
    std::array<std::byte, 2 * format::note_bytes> original_{};
    std::uint64_t slot_ = 0;
};

} // namespace keel::inline v0::wal

#endif
