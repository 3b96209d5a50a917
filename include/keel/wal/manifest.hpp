// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_MANIFEST_HPP
#define KEEL_WAL_MANIFEST_HPP

// The manifest in its two files: reading both into one state, and committing edits to both.
//
// An edit is synced in copy 0, then in copy 1; it counts once one copy holds it whole, and "durable in both" is what commit()
// promises. A copy that is damaged, behind or ends in torn bytes is never appended to: it is written anew (temporary file, sync,
// rename, sync of the folder), one copy after the other, so that one whole copy stands at every moment.

#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/manifest.hpp>
#include <keel/io/concept.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/store_identity.hpp>

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

struct manifest_edit {
    format::frame_type type = format::frame_type::edit;
    std::vector<std::byte> payload{};
};

/// What one manifest file holds.
struct manifest_copy {
    bool present = false;
    bool readable = false;
    std::optional<error> refused{}; ///< the machine did not let it be read
    std::string trouble{};          ///< why it is not; empty where all is well
    format::header_problem problem = format::header_problem::damaged;
    bool verifies = false;  ///< what `problem` says of the header is what was written
    checksum_id checksum{}; ///< as it stands there, for the message about another policy
    std::uint32_t format = 0;
    format::manifest_header header{};
    std::map<std::uint64_t, manifest_edit> edits{};
    std::uint64_t marked = 0; ///< largest edit known durable
    std::uint64_t last = 0;   ///< offset of the last valid frame,
    std::uint64_t end = 0;    ///< and behind it
    std::uint64_t file_bytes = 0;
    bool whole = false;           ///< no bad bytes, no torn ones
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
}

} // namespace detail

/// Reads one copy. Damage is told in the result; only what stops the whole store (no memory, a crash) is not.
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
    copy.present = true;
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

/// Both copies, and the state they add up to.
struct manifest_load {
    std::array<manifest_copy, 2> copies{};
    std::optional<format::manifest_state> state{}; ///< nothing: no snapshot survives in either
    std::uint64_t marked = 0;                      ///< largest edit known durable, from either
    std::array<bool, 2> current{};                 ///< the copy alone, as it is, gives the state and may be appended to

    [[nodiscard]] bool any_present() const noexcept { return copies[0].present || copies[1].present; }
    [[nodiscard]] format::manifest_header const* header() const noexcept {
        for (auto const& c : copies)
            if (c.readable) return &c.header;
        return nullptr;
    }
};

namespace detail {
using edit_finder = std::function<manifest_edit const*(std::uint64_t)>;

/// The newest state that a snapshot and an unbroken run of edits lead to.
[[nodiscard]] inline std::optional<format::manifest_state> roll_forward(std::vector<std::uint64_t> snapshots,
                                                                        edit_finder const& find,
                                                                        edit_finder const& find_snapshot) {
    std::ranges::sort(snapshots, std::greater<>{});
    for (auto const first : snapshots) {
        auto const* snapshot = find_snapshot(first);
        auto state = format::applied({}, snapshot->type, first, snapshot->payload);
        if (!state) continue;
        while (auto const* next = find(state->edit + 1)) {
            auto after = format::applied(*state, next->type, state->edit + 1, next->payload);
            if (!after) break;
            state = std::move(after);
        }
        return state;
    }
    return std::nullopt;
}
} // namespace detail

/// Works out the state that the copies, already read, add up to.
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

/// Commits edits. One thread at a time.
template <checksum_policy C, io::file_system Fs>
class manifest_store {
public:
    manifest_store(Fs fs, layout paths, format::store_id store, std::uint64_t branch, std::uint64_t (*entropy)(),
                   std::uint64_t (*clock_ns)())
        : fs_{std::move(fs)}, paths_{std::move(paths)}, store_{store}, branch_{branch}, entropy_{entropy},
          clock_ns_{clock_ns} {}

    /// Nothing is written while the store's names lead elsewhere. Before the first edit.
    void belongs_to(std::shared_ptr<store_identity<Fs>> who) noexcept { identity_ = std::move(who); }
    [[nodiscard]] result<void> check_identity() const { return identity_ ? identity_->check() : result<void>{}; }

    [[nodiscard]] format::manifest_state const& state() const noexcept { return state_; }
    /// The newest edit that both copies are known to hold durably; 0: none is known to be.
    [[nodiscard]] std::uint64_t durable_edit() const noexcept { return durable_edit_; }

    /// Starts from a state read back. Copies that are not current are written anew before the next edit.
    void adopt(format::manifest_state state, manifest_load const& load) {
        state_ = std::move(state);
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

    /// Makes both files hold this state as a snapshot, whatever was there before.
    [[nodiscard]] result<void> create(format::manifest_state state) {
        state_ = std::move(state);
        if (state_.edit == 0) state_.edit = 1;
        KEEL_TRY(rewrite(0));
        KEEL_TRY(rewrite(1));
        durable_edit_ = state_.edit;
        return {};
    }

    /// Makes the state that was adopted durable in both copies: a killed process may have left any of it unsynced.
    [[nodiscard]] result<void> settle() {
        KEEL_TRY(check_identity());
        KEEL_TRY(check_copies());
        if (!names_synced_) {
            if (auto done = fs_.sync_directory(paths_.root()); !done) return give_up(std::move(done).error());
            names_synced_ = true;
        }
        for (int i = 0; i < 2; ++i)
            if (auto done = make_current(i); !done) return give_up(std::move(done).error());
        durable_edit_ = state_.edit;
        return {};
    }

    /// Durable in both copies when it returns. After an error the edit may or may not be there at the next open; the state here
    /// is as before, and no further edit is taken.
    [[nodiscard]] result<void> commit(format::edit_builder const& edit) {
        if (failed_)
            return failure(errc::read_only, "an earlier manifest edit failed: open the store again",
                           paths_.manifest(0));
        auto after = format::applied(state_, format::frame_type::edit, state_.edit + 1, edit.payload());
        if (!after)
            return failure(errc::invalid_argument, "a manifest edit that contradicts the state", paths_.manifest(0));
        KEEL_TRY(settle());
        auto const before = std::exchange(state_, std::move(*after));
        for (int i = 0; i < 2; ++i) {
            if (append(i, edit.payload())) continue;
            // What a failed sync left of that file is not to be believed: write it anew, with the edit in its snapshot.
            if (auto done = rewrite(i); !done) {
                state_ = before;
                return give_up(std::move(done).error());
            }
        }
        durable_edit_ = state_.edit;
        return {};
    }

    /// After a failed commit: forgets both files, so that the next edit writes them anew. Numbers that the failed edit may have
    /// taken are skipped, so whatever is left of it is older.
    void retry() {
        if (!failed_) return;
        failed_ = false;
        state_.edit += 2;
        copies_ = {};
    }

private:
    struct copy {
        format::manifest_header header{};
        std::optional<typename Fs::file> file{};
        std::uint64_t end = 0;
        std::vector<std::byte> newest{}; ///< the last frame of one that was read back
        bool good = false;
        io::file_identity identity{}; ///< all zeros: not known
    };

    auto give_up(error why) {
        failed_ = true;
        return failure(std::move(why));
    }

    /// A file that is written to must still stand under its name: one that was removed is written anew.
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
            // Whoever wrote it may have seen its sync fail: then it is in the page cache only, which looks clean, and a sync of ours alone
            // would prove nothing. Edits before it are in both copies by a sync that returned.
            KEEL_TRY(file.write(c.end - c.newest.size(), c.newest));
            KEEL_TRY(file.sync());
            c.newest.clear();
            // A union of file systems may have copied it for this.
            if (auto const status = file.status()) c.identity = status->identity;
            c.file.emplace(std::move(file));
        }
        return {};
    }

    [[nodiscard]] bool append(int i, byte_view payload) {
        auto& c = copies_[static_cast<std::size_t>(i)];
        auto const bytes = format::frame_bytes(payload.size());
        if (!c.file || c.end + bytes > c.header.size) return false;
        auto const frame = encode(c, format::frame_type::edit, payload);
        if (!c.file->write(c.end, frame) || !c.file->sync()) {
            c.good = false;
            return false;
        }
        c.end += bytes;
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
        auto const needed = format::manifest_frames_begin + format::frame_bytes(snapshot.payload().size());
        c.header = {.checksum = checksum_id{C::id},
                    .store = store_,
                    .salt = entropy_() | 1,
                    .branch = branch_,
                    .first_edit = state_.edit,
                    .size = format::rounded_up(std::max(2 * needed, format::manifest_bytes_min), 4 * KiB),
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
        return {};
    }

public:
    /// A new file with these parts one after the other, synced; whatever an earlier attempt left under the name is replaced. Its
    /// name is not synced.
    template <class... Parts>
    [[nodiscard]] static result<typename Fs::file> put_file(Fs& fs, std::string const& path, Parts const&... parts) {
        if (auto gone = fs.remove(path); !gone && gone.error().code != errc::not_found) return failure(gone.error());
        KEEL_TRY_LET(file, fs.open(path, io::access::read_write, io::creation::must_not_exist));
        result<void> done;
        std::uint64_t at = 0;
        [[maybe_unused]] auto const put = [&](byte_view part) {
            if (done && !part.empty()) done = file.write(at, part);
            at += part.size();
        };
        (put(part_view(parts)), ...);
        KEEL_TRY(done);
        KEEL_TRY(file.sync());
        return file;
    }

private:
    [[nodiscard]] static byte_view part_view(byte_view part) noexcept { return part; }
    Fs fs_;
    layout paths_;
    format::store_id store_;
    std::uint64_t branch_;
    std::uint64_t (*entropy_)();
    std::uint64_t (*clock_ns_)();
    std::shared_ptr<store_identity<Fs>> identity_{};
    format::manifest_state state_{};
    std::array<copy, 2> copies_{};
    std::uint64_t durable_edit_ = 0;
    bool names_synced_ = false;
    bool failed_ = false;
};

} // namespace keel::inline v0::wal

#endif
