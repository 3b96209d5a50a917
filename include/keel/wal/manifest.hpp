// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_MANIFEST_HPP
#define KEEL_WAL_MANIFEST_HPP

// The manifest in its two files. This file reads both into one state, and commits edits to both.
//
// An edit is synced in copy 0, then in copy 1. It counts as soon as one copy holds it whole. commit() promises more: the edit is durable in
// both. A copy that is damaged, outdated or torn at its end is never appended to. It is written anew: temporary file, sync, rename, sync of
// the directory. The copies are replaced one after the other, so that one whole copy exists at every moment.

#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/manifest_editor.hpp>
#include <keel/io/concept.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/store_identity.hpp>
#include <keel/wal/whole_file.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// One frame of a manifest file: a snapshot or an edit.
struct manifest_edit {
    format::frame_type type = format::frame_type::edit;
    std::vector<std::byte> payload{};
};

/// The content of one manifest file.
struct manifest_copy {
    bool present = false;
    /// The file could be opened. If it is present and not opened, `refused` is an error of the machine and proves nothing about its bytes.
    bool opened = false;
    bool readable = false;
    std::optional<error> refused{}; ///< the machine's error, if it refused to open or read the file
    std::string trouble{};          ///< why the copy is not readable; empty if it is readable
    format::header_problem problem = format::header_problem::damaged;
    bool verifies = false;  ///< the header's check holds, so its content is as it was written
    checksum_id checksum{}; ///< as the file has it, for the message about another policy
    std::uint32_t format = 0;
    format::manifest_header header{};
    std::map<std::uint64_t, manifest_edit> edits{};
    std::uint64_t marked = 0; ///< the largest edit number known to be durable
    std::uint64_t last = 0;   ///< offset of the last valid frame
    std::uint64_t end = 0;    ///< offset behind the last valid frame
    std::uint64_t file_bytes = 0;
    bool whole = false;           ///< no damaged frames, no torn bytes, and the right size
    io::file_identity identity{}; ///< of the file that was read
};

namespace detail {

template <checksum_policy C>
void collect_edits(manifest_copy& copy, byte_view file) {
    auto const limit = std::min<std::uint64_t>(file.size(), copy.header.size);
    std::uint64_t at = format::manifest_frames_begin;
    copy.end = at;
    copy.whole = file.size() == copy.header.size;
    while (at + format::frame_header_bytes <= limit) {
        format::frame_place const place{copy.header.salt, at};
        auto const seen = format::read_frame<C>(file.subspan(at, limit - at), place);
        if (seen.state == format::frame_state::absent) {
            at += format::frame_alignment;
            continue;
        }
        if (seen.state == format::frame_state::broken) copy.whole = false;
        if (seen.state == format::frame_state::broken) at += format::frame_alignment;
        if (seen.state == format::frame_state::damaged) copy.whole = false;
        if (seen.state == format::frame_state::damaged) at += seen.bytes();
        if (seen.state != format::frame_state::intact) continue;
        if (at != copy.end) copy.whole = false;
        auto const number = copy.header.first_edit - 1 + seen.header.lsn_delta;
        if (seen.header.mark_delta <= number) copy.marked = std::max(copy.marked, number - seen.header.mark_delta);
        copy.edits[number] = {seen.header.type, {seen.payload.begin(), seen.payload.end()}};
        copy.last = at;
        at += seen.bytes();
        copy.end = at;
    }
    // Behind the last frame all bytes must be zero. A part of an edit that a crash tore must not stay there. The next edit takes the same
    // place and number, so it may have the same header. If only its first sector reached the disk, that sector and the rest of the old edit
    // would verify together.
    auto const rest = file.first(static_cast<std::size_t>(limit)).subspan(static_cast<std::size_t>(copy.end));
    if (std::ranges::any_of(rest, [](std::byte b) { return b != std::byte{0}; })) copy.whole = false;
}

} // namespace detail

/// Reads one copy. Damage, and errors of the machine, are reported in the result. Exceptions pass through.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] manifest_copy read_manifest_copy(Fs& fs, std::string const& path) {
    manifest_copy copy;
    auto file = fs.open(path, io::access::read_only, io::creation::must_exist);
    if (!file) {
        copy.present = file.error().code != errc::not_found;
        if (copy.present) copy.refused = file.error();
        copy.trouble = to_string(file.error());
        return copy;
    }
    copy.present = copy.opened = true;
    auto const status = file->status();
    if (!status || status->size < format::header_bytes || status->size > format::manifest_bytes_max) {
        copy.trouble = status ? "is " + std::to_string(status->size) + " bytes long, which no manifest is"
                              : to_string(status.error());
        return copy;
    }
    copy.file_bytes = status->size;
    copy.identity = status->identity;
    std::vector<std::byte> bytes(static_cast<std::size_t>(status->size));
    auto got = file->read(0, bytes);
    if (!got) got = file->read(0, bytes);
    if (!got) {
        copy.refused = got.error();
        copy.trouble = to_string(got.error());
        return copy;
    }
    auto const kind = format::peek_file_kind(bytes);
    copy.checksum = kind.checksum;
    copy.format = kind.format;
    auto const head = format::decode_manifest_header<C>(byte_view{bytes}.first(format::header_bytes));
    copy.problem = head.problem;
    copy.verifies = head.verifies;
    if (!head.good()) {
        copy.trouble = "its header does not verify";
        return copy;
    }
    copy.readable = true;
    copy.header = head.header;
    detail::collect_edits<C>(copy, bytes);
    return copy;
}

/// Both copies, and the state that they give together.
struct manifest_load {
    std::array<manifest_copy, 2> copies{};
    std::optional<format::manifest_state> state{}; ///< nothing: neither copy has a usable snapshot
    std::uint64_t marked = 0;                      ///< the largest edit number known to be durable, from either
    std::array<bool, 2> current{};                 ///< this copy alone gives the state and may be appended to

    [[nodiscard]] bool any_present() const noexcept { return copies[0].present || copies[1].present; }
    [[nodiscard]] format::manifest_header const* header() const noexcept {
        for (auto const& c : copies)
            if (c.readable) return &c.header;
        return nullptr;
    }
};

namespace detail {
using edit_finder = std::function<manifest_edit const*(std::uint64_t)>;

/// The newest state that a snapshot and the edits after it give. The edits must follow without a gap.
[[nodiscard]] inline std::optional<format::manifest_state> roll_forward(std::vector<std::uint64_t> snapshots,
                                                                        edit_finder const& find,
                                                                        edit_finder const& find_snapshot) {
    std::ranges::sort(snapshots, std::greater<>{});
    for (auto const first : snapshots) {
        format::manifest_state state;
        format::manifest_editor editor{state};
        if (!editor.apply(first, find_snapshot(first)->payload)) continue;
        while (auto const* next = find(state.edit + 1))
            if (!editor.apply(state.edit + 1, next->payload)) break;
        return state;
    }
    return std::nullopt;
}
} // namespace detail

/// Computes the state from the copies, which were read before.
inline void assemble(manifest_load& out) {
    std::vector<std::uint64_t> snapshots;
    auto const find = [&out](format::frame_type type) {
        return [&out, type](std::uint64_t number) -> manifest_edit const* {
            for (auto const& copy : out.copies)
                if (auto const at = copy.edits.find(number); at != copy.edits.end() && at->second.type == type)
                    return &at->second;
            return nullptr;
        };
    };
    for (auto const& copy : out.copies) {
        out.marked = std::max(out.marked, copy.marked);
        for (auto const& [number, edit] : copy.edits)
            if (edit.type == format::frame_type::snapshot) snapshots.push_back(number);
    }
    out.state = detail::roll_forward(snapshots, find(format::frame_type::edit), find(format::frame_type::snapshot));
    for (std::size_t i = 0; out.state && i < 2; ++i) {
        auto const& copy = out.copies[i];
        out.current[i] = copy.readable && copy.whole && copy.edits.contains(out.state->edit) &&
                         copy.edits.rbegin()->first == out.state->edit &&
                         copy.edits.size() == out.state->edit - copy.edits.begin()->first + 1 &&
                         copy.edits.begin()->second.type == format::frame_type::snapshot;
    }
}

template <checksum_policy C, io::file_system Fs>
[[nodiscard]] manifest_load load_manifest(Fs& fs, layout const& paths) {
    manifest_load out;
    for (int i = 0; i < 2; ++i) out.copies[static_cast<std::size_t>(i)] = read_manifest_copy<C>(fs, paths.manifest(i));
    assemble(out);
    return out;
}

/// Keeps the state of the manifest and commits edits to both copies. One thread at a time.
template <checksum_policy C, io::file_system Fs>
class manifest_store {
public:
    /// `bytes_max`: the largest manifest file that is written, in bytes.
    manifest_store(Fs fs, layout paths, format::store_id store, std::uint64_t branch, std::uint64_t (*entropy)(),
                   std::uint64_t (*clock_ns)(), std::uint64_t bytes_max = format::manifest_bytes_max)
        : fs_{std::move(fs)}, paths_{std::move(paths)}, store_{store}, branch_{branch}, entropy_{entropy},
          clock_ns_{clock_ns}, bytes_max_{bytes_max} {}

    /// Sets the identity of the store. Nothing is written while the store's names lead to other files. Call it before the first edit.
    void belongs_to(std::shared_ptr<store_identity<Fs>> who) noexcept { identity_ = std::move(who); }
    [[nodiscard]] result<void> check_identity() const { return identity_ ? identity_->check() : result<void>{}; }

    [[nodiscard]] format::manifest_state const& state() const noexcept { return state_; }
    /// The newest edit that both copies are known to hold durably; 0 if none is known.
    [[nodiscard]] std::uint64_t durable_edit() const noexcept { return durable_edit_; }
    /// The largest size that a snapshot of the state can have, in bytes.
    [[nodiscard]] std::uint64_t snapshot_bytes() const noexcept { return snapshot_bytes_; }

    /// Starts from a state that was read back. Copies that are not current are written anew before the next edit.
    void adopt(format::manifest_state state, manifest_load const& load) {
        state_ = std::move(state);
        snapshot_bytes_ = format::snapshot_of(state_).payload().size();
        for (std::size_t i = 0; i < 2; ++i) {
            copies_[i] = {};
            if (!load.current[i] || load.state->edit != state_.edit) continue;
            auto& c = copies_[i];
            c.header = load.copies[i].header;
            c.identity = load.copies[i].identity;
            c.end = load.copies[i].last;
            auto const& newest = load.copies[i].edits.at(state_.edit);
            c.newest = encode(c, newest.type, newest.payload);
            c.end = load.copies[i].end;
            c.good = true;
        }
    }

    /// Writes this state to both files as a snapshot and replaces their content. After an error the state in memory is as before, and the
    /// next open may find either state.
    [[nodiscard]] result<void> create(format::manifest_state state) {
        if (state.edit == 0) state.edit = 1;
        if (!fits(format::snapshot_of(state).payload().size())) return too_large();
        replacement current{*this, std::move(state)};
        for (int i = 0; i < 2; ++i)
            if (auto done = rewrite(i); !done) return mark_failed(std::move(done).error());
        current.done = true;
        durable_edit_ = state_.edit;
        return {};
    }

    /// Makes the adopted state durable in both copies. A killed process may have left any part of it unsynced.
    [[nodiscard]] result<void> make_durable() {
        KEEL_TRY(check_identity());
        KEEL_TRY(check_copies());
        if (!names_synced_) {
            if (auto done = fs_.sync_directory(paths_.root()); !done) return mark_failed(std::move(done).error());
            names_synced_ = true;
        }
        for (int i = 0; i < 2; ++i)
            if (auto done = make_current(i); !done) return mark_failed(std::move(done).error());
        durable_edit_ = state_.edit;
        return {};
    }

    /// When this returns, the edit is durable in both copies. After an error the state in memory is as before. Errors: too_large and
    /// invalid_argument, and then nothing was written. After any other error, the next open may or may not find the edit, and no further
    /// edit is taken before retry(); until then each commit returns the first cause.
    [[nodiscard]] result<void> commit(format::edit_builder const& edit) {
        if (failed_) return failure(not_repeated());
        KEEL_TRY(make_durable());
        format::manifest_editor editor{state_};
        attempt current{*this, editor};
        if (!editor.apply(state_.edit + 1, edit.payload()))
            return failure(errc::invalid_argument, "a manifest edit that contradicts the state", paths_.manifest(0));
        auto const bytes = snapshot_bound(edit);
        if (!fits(bytes)) return too_large();
        // Encode before the first write: if memory is refused here, only this edit fails.
        std::array<std::vector<std::byte>, 2> const frames{frame_for(0, edit), frame_for(1, edit)};
        current.begun = true;
        bool appended = true;
        for (int i = 0; i < 2; ++i) {
            if (append(i, frames[static_cast<std::size_t>(i)])) continue;
            appended = false;
            // After a failed sync the bytes of that file cannot be trusted. Write the file anew; its snapshot includes the edit.
            if (auto done = rewrite(i); !done) {
                current.why = done.error();
                return done;
            }
        }
        current.done = true;
        if (appended) snapshot_bytes_ = bytes; // else rewrite() has set the exact size
        durable_edit_ = state_.edit;
        return {};
    }

    /// True after a failed commit, until retry().
    [[nodiscard]] bool failed() const noexcept { return failed_.has_value(); }
    /// After a failed commit: forgets both files, so that the next edit writes them anew. Skips the numbers that the failed edit may have
    /// taken, so that any remains of it on the disk are older than the next edit.
    void retry() {
        if (!failed_) return;
        failed_.reset();
        state_.edit += 2;
        copies_ = {};
    }

private:
    struct copy {
        format::manifest_header header{};
        std::optional<typename Fs::file> file{};
        std::uint64_t end = 0;
        std::vector<std::byte> newest{}; ///< the last frame of a file that was read back
        bool good = false;
        io::file_identity identity{}; ///< all zeros: not known
    };

    /// An edit that is applied in memory and on its way to the files. If it does not complete, the destructor restores the state, also when
    /// memory is refused. If it fails after its first write, it is unknown which part of the edit the files hold.
    struct attempt {
        manifest_store& of;
        format::manifest_editor& editor;
        std::uint64_t const snapshot_bytes;
        bool begun = false;
        bool done = false;
        error why{.code = errc::out_of_memory, .message = "no memory"};

        attempt(manifest_store& store, format::manifest_editor& edit)
            : of{store}, editor{edit}, snapshot_bytes{store.snapshot_bytes_} {}
        attempt(attempt const&) = delete;
        attempt& operator=(attempt const&) = delete;
        ~attempt() {
            if (done) return;
            editor.take_back();
            of.snapshot_bytes_ = snapshot_bytes;
            if (begun && !of.failed_) of.failed_.emplace(std::move(why));
        }
    };

    /// A state that replaces the whole old state. If it does not reach both files, the destructor restores the old state.
    struct replacement {
        manifest_store& of;
        format::manifest_state before;
        std::uint64_t const snapshot_bytes;
        bool done = false;

        replacement(manifest_store& store, format::manifest_state state)
            : of{store}, before{std::exchange(store.state_, std::move(state))}, snapshot_bytes{store.snapshot_bytes_} {}
        replacement(replacement const&) = delete;
        replacement& operator=(replacement const&) = delete;
        ~replacement() {
            if (done) return;
            std::swap(of.state_, before);
            of.snapshot_bytes_ = snapshot_bytes;
            if (!of.failed_) of.failed_.emplace(error{.code = errc::out_of_memory, .message = "no memory"});
        }
    };

    auto mark_failed(error why) {
        if (!failed_) failed_ = why;
        return failure(std::move(why));
    }
    [[nodiscard]] error not_repeated() const {
        auto why = *failed_;
        why.message = "an earlier manifest edit failed and was not repeated yet: " + why.message;
        return why;
    }

    [[nodiscard]] bool fits(std::uint64_t snapshot) const noexcept { return file_bytes(snapshot) <= bytes_max_; }
    [[nodiscard]] auto too_large() const {
        return failure(errc::too_large,
                       "the manifest would grow beyond what can be read again; nothing was changed: merge tables or "
                       "accept losses, so that it has less to say",
                       paths_.manifest(0));
    }
    /// The size of a file that begins with a snapshot of this size.
    [[nodiscard]] static std::uint64_t file_bytes(std::uint64_t snapshot) noexcept {
        auto const needed = format::manifest_frames_begin + format::frame_bytes(snapshot);
        return format::rounded_up(std::max(2 * needed, format::manifest_bytes_min), 4 * KiB);
    }
    /// The largest size of a snapshot after this edit, which is applied already. An operation takes no more bytes in a snapshot than in an
    /// edit. The exact size is computed only close to the limit.
    [[nodiscard]] std::uint64_t snapshot_bound(format::edit_builder const& edit) const {
        constexpr std::uint64_t next_table_bytes = 10; // a new table can add this operation to the snapshot
        auto const bound = snapshot_bytes_ + edit.payload().size() + next_table_bytes;
        return fits(bound) ? bound : format::snapshot_of(state_).payload().size();
    }

    /// A file that is written to must still have its name. A file that was removed is written anew. Errors: not_a_store, if another file
    /// has the name.
    [[nodiscard]] result<void> check_copies() {
        for (int i = 0; identity_ && i < 2; ++i) {
            auto& c = copies_[static_cast<std::size_t>(i)];
            if (!c.good || c.identity == io::file_identity{}) continue;
            auto const named = fs_.status(paths_.manifest(i));
            if (!named && named.error().code == errc::not_found) c = {};
            if (named && named->identity != c.identity)
                return failure(
                    errc::not_a_store,
                    "another file stands here than the manifest that this store works with: put that one back "
                    "and call resume(), or close the store and open it again",
                    paths_.manifest(i));
        }
        return {};
    }

    [[nodiscard]] result<void> make_current(int i) {
        auto& c = copies_[static_cast<std::size_t>(i)];
        if (!c.good) return rewrite(i);
        if (!c.file) {
            KEEL_TRY_LET(file, fs_.open(paths_.manifest(i), io::access::read_write, io::creation::must_exist));
            // The process that wrote the last frame may have seen its sync fail. Then the frame is only in the page cache, which looks
            // clean, and a sync of ours would prove nothing. So write the frame again. All edits before it are in both copies, by a sync
            // that returned.
            KEEL_TRY(file.write(c.end - c.newest.size(), c.newest));
            KEEL_TRY(file.sync());
            c.newest.clear();
            // A union of file systems may have copied the file because of this write. Then its identity is new.
            if (auto const status = file.status()) c.identity = status->identity;
            c.file.emplace(std::move(file));
        }
        return {};
    }

    /// The frame of the edit for copy `i`; empty if the copy is to be written anew or has no room.
    [[nodiscard]] std::vector<std::byte> frame_for(int i, format::edit_builder const& edit) const {
        auto const& c = copies_[static_cast<std::size_t>(i)];
        auto const payload = edit.payload();
        if (!c.file || c.end + format::frame_bytes(payload.size()) > c.header.size) return {};
        return encode(c, format::frame_type::edit, payload);
    }
    [[nodiscard]] bool append(int i, std::vector<std::byte> const& frame) {
        auto& c = copies_[static_cast<std::size_t>(i)];
        if (frame.empty()) return false;
        if (!c.file->write(c.end, frame) || !c.file->sync()) {
            c.good = false;
            return false;
        }
        c.end += frame.size();
        return true;
    }

    [[nodiscard]] std::vector<std::byte> encode(copy const& c, format::frame_type type, byte_view payload) const {
        std::vector<std::byte> frame(static_cast<std::size_t>(format::frame_bytes(payload.size())));
        std::ranges::copy(payload, frame.begin() + format::frame_header_bytes);
        bool const after_snapshot = type == format::frame_type::edit;
        format::finish_frame<C>(frame.data(), {c.header.salt, c.end},
                                {.payload_bytes = static_cast<std::uint32_t>(payload.size()),
                                 .type = type,
                                 .flags = format::whole_batch,
                                 .lsn_delta = static_cast<std::uint32_t>(state_.edit - c.header.first_edit + 1),
                                 .mark_delta = after_snapshot ? 1 : format::mark_unknown});
        return frame;
    }

    [[nodiscard]] result<void> rewrite(int i) {
        KEEL_TRY(check_identity());
        copy c;
        auto const snapshot = format::snapshot_of(state_);
        auto const bytes = snapshot.payload().size();
        c.header = {.checksum = checksum_id{C::id},
                    .store = store_,
                    .salt = entropy_() | 1,
                    .branch = branch_,
                    .first_edit = state_.edit,
                    .size = file_bytes(bytes),
                    .created_ns = clock_ns_()};
        c.end = format::manifest_frames_begin;
        auto const frame = encode(c, format::frame_type::snapshot, snapshot.payload());
        std::vector<std::byte> const zeros(static_cast<std::size_t>(c.header.size - c.end - frame.size()));
        KEEL_TRY_LET(file, put_file(fs_, paths_.manifest_temporary(i), format::encode<C>(c.header), frame, zeros));
        KEEL_TRY(fs_.rename(paths_.manifest_temporary(i), paths_.manifest(i)));
        // Without this a power loss can bring the old copy back after the next edit was acknowledged in the new one.
        KEEL_TRY(fs_.sync_directory(paths_.root()));
        if (auto const status = file.status()) c.identity = status->identity;
        c.file.emplace(std::move(file));
        c.end += frame.size();
        c.good = true;
        copies_[static_cast<std::size_t>(i)] = std::move(c);
        snapshot_bytes_ = bytes;
        return {};
    }

    Fs fs_;
    layout paths_;
    format::store_id store_;
    std::uint64_t branch_;
    std::uint64_t (*entropy_)();
    std::uint64_t (*clock_ns_)();
    std::uint64_t bytes_max_;
    std::shared_ptr<store_identity<Fs>> identity_{};
    format::manifest_state state_{};
    std::uint64_t snapshot_bytes_ = 0; ///< of the state, or slightly larger
    std::array<copy, 2> copies_{};
    std::uint64_t durable_edit_ = 0;
    bool names_synced_ = false;
    std::optional<error> failed_{}; ///< the first cause of a failed commit
};

} // namespace keel::inline v0::wal

#endif
