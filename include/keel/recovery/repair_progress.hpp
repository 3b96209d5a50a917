// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_REPAIR_PROGRESS_HPP
#define KEEL_RECOVERY_REPAIR_PROGRESS_HPP

// The progress of a repair. It is kept beside the evidence in quarantine/<number>/: `progress`, a block of 512 bytes, and
// `journal.jsonl`, one line for each thing done. With them an interrupted repair (no space, no memory, cancelled, killed)
// continues behind its last committed step. Undo reads there which manifest edit the repair led to. So it undoes the repair, and
// nothing that was written since.
//
//   Progress: 0 magic u64 | 8 version u32 | 12 checksum_id u32 | 16 store_id 16 | 32 repair u64 | 40 edit it began on u64
//             48 edit of the last step known to be committed u64, and 56 bytes of the journal up to there u64
//             64 edit of the step under way u64, 72 bytes of the journal with it u64, 80 next segment id behind it u64
//             88 records lost up to there u64, 96 and with the step under way u64 | 104 finished u8      | 504 check u64
// The block is written before each step is committed. A step is committed if the manifest's newest edit has the step's edit number, and
// the manifest's next segment id is the one noted here. The edit number alone does not prove it: after a crash another edit may have
// taken the number. Such an edit raises the next segment id by one, or not at all; a step raises it by two.

#include <keel/error.hpp>
#include <keel/format/endian.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/checksum/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/whole_file.hpp>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace keel::inline v0::recovery {

inline constexpr std::uint64_t repair_magic = 0x0A706572'6C65656BULL; // "keelrep\n"
inline constexpr std::uint32_t repair_version = 1;
inline constexpr std::uint64_t journal_bytes_max = 256 * MiB; ///< of a longer journal only the beginning is read back

struct repair_progress {
    format::store_id store{};
    std::uint64_t number = 0;       ///< of the repair
    std::uint64_t begun_on = 0;     ///< newest edit when it began
    std::uint64_t done_edit = 0;    ///< edit of the last step known to be committed
    std::uint64_t done_bytes = 0;   ///< bytes of the journal up to there
    std::uint64_t next_edit = 0;    ///< edit of the step under way; 0: there is none
    std::uint64_t next_bytes = 0;   ///< bytes of the journal with it
    std::uint64_t next_segment = 0; ///< next segment id after it
    std::uint64_t done_lost = 0;    ///< records declared lost by the committed steps
    std::uint64_t next_lost = 0;    ///< and with the step under way
    bool finished = false;
    bool operator==(repair_progress const&) const = default;

    /// Whether the step under way is committed in the state `now`.
    [[nodiscard]] bool is_committed(format::manifest_state const& now) const noexcept {
        return next_edit != 0 && now.edit == next_edit && now.next_segment == next_segment;
    }
    /// Whether nothing but this repair has changed the store since it began.
    [[nodiscard]] bool is_newest(format::manifest_state const& now) const noexcept {
        return now.edit == done_edit || is_committed(now);
    }
    /// The progress without a step under way. That step counts as done if it is committed in the state `now`. Otherwise it is dropped.
    [[nodiscard]] repair_progress settled(format::manifest_state const& now) const noexcept {
        auto out = *this;
        if (is_committed(now)) {
            out.done_edit = next_edit;
            out.done_bytes = next_bytes;
            out.done_lost = next_lost;
        }
        out.next_edit = out.next_bytes = out.next_segment = out.next_lost = 0;
        return out;
    }
};

template <checksum_policy C>
[[nodiscard]] format::header_block encode(repair_progress const& p) noexcept {
    format::header_block block{};
    format::field_writer out{block};
    out.put(repair_magic).put(repair_version).put(checksum_id{C::id}.value).put(byte_view{p.store});
    out.put(p.number).put(p.begun_on).put(p.done_edit).put(p.done_bytes);
    out.put(p.next_edit).put(p.next_bytes).put(p.next_segment);
    out.put(p.done_lost).put(p.next_lost).put(std::uint8_t{p.finished});
    format::detail::seal_block<C>(block);
    return block;
}
template <checksum_policy C>
[[nodiscard]] std::optional<repair_progress> decode_repair_progress(byte_view block) noexcept {
    if (!format::detail::block_verifies<C>(block)) return std::nullopt;
    format::field_reader in{block};
    if (in.get<std::uint64_t>() != repair_magic || in.get<std::uint32_t>() != repair_version) return std::nullopt;
    static_cast<void>(in.get<std::uint32_t>());
    repair_progress p;
    p.store = in.bytes<16>();
    p.number = in.get<std::uint64_t>();
    p.begun_on = in.get<std::uint64_t>();
    p.done_edit = in.get<std::uint64_t>();
    p.done_bytes = in.get<std::uint64_t>();
    p.next_edit = in.get<std::uint64_t>();
    p.next_bytes = in.get<std::uint64_t>();
    p.next_segment = in.get<std::uint64_t>();
    p.done_lost = in.get<std::uint64_t>();
    p.next_lost = in.get<std::uint64_t>();
    p.finished = in.get<std::uint8_t>() != 0;
    return p;
}

/// The file names in quarantine/<number>/.
class repair_folder {
public:
    repair_folder(wal::layout const& paths, std::uint64_t number) : path_{paths.quarantine(number)} {}
    [[nodiscard]] std::string const& path() const noexcept { return path_; }
    [[nodiscard]] std::string file(std::string_view name) const { return path_ + '/' + std::string{name}; }
    [[nodiscard]] std::string manifest(int copy) const { return file(copy == 0 ? "manifest.0" : "manifest.1"); }
    [[nodiscard]] std::string progress() const { return file("progress"); }
    [[nodiscard]] std::string journal() const { return file("journal.jsonl"); }
    [[nodiscard]] std::string receipt() const { return file("receipt.json"); }
    [[nodiscard]] std::string undone_receipt() const { return file("receipt.undone.json"); }
    [[nodiscard]] std::string undone_journal() const { return file("journal.undone.jsonl"); }

    /// Whether an undo left a file of this name. A later repair may take the same number.
    [[nodiscard]] static bool is_undone(std::string_view name) noexcept {
        return name == "receipt.undone.json" || name == "journal.undone.jsonl";
    }

private:
    std::string path_;
};

/// Reads the progress of a repair of this store. Nothing if it is missing, does not verify, or is of another store.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] std::optional<repair_progress> read_progress(Fs& fs, repair_folder const& folder,
                                                           format::store_id const& store) {
    auto const file = fs.open(folder.progress(), io::access::read_only, io::creation::must_exist);
    format::header_block block{};
    auto const got = file ? file->read(0, block) : result<std::size_t>{std::size_t{0}};
    if (!got || *got != block.size()) return std::nullopt;
    auto const p = decode_repair_progress<C>(block);
    return p && p->store == store ? p : std::nullopt;
}

/// Replaces the progress file in one step.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] result<void> write_progress(Fs& fs, repair_folder const& folder, repair_progress const& p) {
    return wal::replace_file(fs, folder.progress(), encode<C>(p));
}

/// The newest repair, if it is unfinished and nothing else was written since. The next repair continues it.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] std::optional<repair_progress> unfinished_repair(Fs& fs, wal::layout const& paths,
                                                               format::store_id const& store,
                                                               format::manifest_state const& on_disk) {
    // The first step of a repair raises next_repair. Before that step the number of the repair is next_repair itself.
    for (auto const number : {on_disk.next_repair - 1, on_disk.next_repair}) {
        if (number == 0) continue;
        auto const p = read_progress<C>(fs, repair_folder{paths, number}, store);
        if (p && p->number == number && !p->finished && p->is_newest(on_disk)) return p;
    }
    return std::nullopt;
}

/// The segments that a repair planned to replace: the numbers in the lines {"planned":[...]} of its journal.
[[nodiscard]] inline std::set<segment_id> planned_segments(std::string_view journal) {
    constexpr std::string_view begins = "{\"planned\":[";
    std::set<segment_id> out;
    while (!journal.empty()) {
        auto line = journal.substr(0, journal.find('\n'));
        journal.remove_prefix(std::min(line.size() + 1, journal.size()));
        if (!line.starts_with(begins)) continue;
        line.remove_prefix(begins.size());
        for (segment_id id;;) {
            auto const [end, failed] = std::from_chars(line.data(), line.data() + line.size(), id.value);
            if (failed != std::errc{}) break;
            if (id) out.insert(id);
            line.remove_prefix(static_cast<std::size_t>(end - line.data()));
            if (!line.starts_with(',')) break;
            line.remove_prefix(1);
        }
    }
    return out;
}

/// The segments that an earlier try of the newest repair planned to replace and did not reach. Empty if there is no repair to continue.
/// Only journal lines of committed steps count.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] std::set<segment_id> rest_of_repair(Fs& fs, wal::layout const& paths, format::store_id const& store,
                                                  format::manifest_state const& on_disk) {
    std::set<segment_id> out;
    if (on_disk.next_repair < 2) return out; // no step of a repair was ever committed
    auto const p = unfinished_repair<C>(fs, paths, store, on_disk);
    if (!p || p->number + 1 != on_disk.next_repair) return out;
    auto const file = fs.open(repair_folder{paths, p->number}.journal(), io::access::read_only,
                              io::creation::must_exist);
    if (!file) return out;
    std::string text(static_cast<std::size_t>(std::min(p->settled(on_disk).done_bytes, journal_bytes_max)), ' ');
    auto const got = file->read(0, std::as_writable_bytes(std::span{text}));
    text.resize(got ? *got : 0);
    out = planned_segments(text);
    std::erase_if(out, [&](segment_id id) { return !on_disk.segments.contains(id); });
    return out;
}

} // namespace keel::inline v0::recovery

#endif
