// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_TAKE_INVENTORY_HPP
#define KEEL_RECOVERY_TAKE_INVENTORY_HPP

// Takes the inventory of a store's folder (inventory.hpp). It reads the manifests, the notes, and headers and footer of each segment
// file; a file whose headers are gone may be read whole. It writes nothing. match_segments.hpp finds the file of each segment.

#include <keel/error.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/notes.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/recovery/inventory.hpp>
#include <keel/recovery/match_segments.hpp>
#include <keel/recovery/seen_file.hpp>
#include <keel/recovery/store_lock.hpp>
#include <keel/table/placeholder.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/manifest.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

namespace detail {

template <class Config>
class stock_taker {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;

    stock_taker(fs_type& fs, inventory& out, std::stop_token cancel) : fs_{fs}, out_{out}, cancel_{std::move(cancel)} {}

    result<void> run() {
        KEEL_TRY(look_at_folder());
        read_notes(); // first: a writer may run beside this, and the notes must not be newer than the log that is read
        out_.manifest = wal::load_manifest<C>(fs_, out_.paths);
        KEEL_TRY(note_refused_manifests());
        KEEL_TRY(look_at_segments());
        KEEL_TRY(check_identity());
        if (!out_.exists) return {};
        take_state();
        KEEL_TRY(check_compression());
        KEEL_TRY(look_at_tables());
        note_missing_tables();
        note_placeholders();
        note_manifest_damage();
        forget_foreign_note();
        segment_matcher<C, fs_type> matcher{fs_, out_, files_, cancel_};
        matcher.run();
        if (matcher.refused()) return failure(*matcher.refused());
        return {};
    }

private:
    // A folder with foreign files is not turned into a store.
    result<void> look_at_folder() {
        auto names = fs_.list(out_.paths.root());
        if (!names) return failure(why_no_folder(fs_, out_.paths, std::move(names).error()));
        bool foreign = false;
        for (auto const& entry : *names) {
            if (entry.name == "manifest.0" || entry.name == "manifest.1") out_.exists = true;
            else if (entry.name == "log") has_log_ = true;
            else if (entry.name == "tables") has_tables_ = true;
            else if (wal::layout::is_foreign(entry.name)) foreign = true;
        }
        if (!out_.exists && !has_log_ && foreign)
            return failure(errc::not_a_store,
                           "the folder holds other files and no keel store; choose an empty folder or the store's own",
                           out_.paths.root());
        return {};
    }

    /// A manifest that the machine cannot open (no permission, no descriptor left) is not damaged, so it must not be rebuilt. If it can
    /// be opened but not read to its end, its bytes count as damaged. They are read once more before anything is given up for them.
    result<void> note_refused_manifests() {
        for (int i = 0; i < 2; ++i) {
            auto const& copy = out_.manifest.copies[static_cast<std::size_t>(i)];
            if (!copy.refused) continue;
            if (!copy.opened && copy.refused->code != errc::not_regular) return failure(*copy.refused);
            out_.refused.push_back({out_.paths.manifest(i), 0, copy.file_bytes});
        }
        return {};
    }

    result<void> look_at_segments() {
        if (!has_log_) return {};
        auto names = fs_.list(out_.paths.log());
        if (!names) return failure(std::move(names).error());
        for (auto const& entry : *names) {
            seen_file seen;
            seen.name = entry.name;
            seen.path = out_.paths.log_file(entry.name);
            if (entry.kind != io::file_kind::regular) {
                if (!wal::layout::segment_of(entry.name)) continue;
                return failure(errc::not_regular,
                               "a segment of the log must be a regular file; put the real file back in its place",
                               seen.path);
            }
            KEEL_TRY(read_headers(seen));
            if (seen.best() != nullptr && seen.best()->state != format::segment_state::prepared) any_in_use_ = true;
            files_.push_back(std::move(seen));
        }
        return {};
    }

    result<void> read_headers(seen_file& seen) {
        KEEL_TRY_LET(file, fs_.open(seen.path, io::access::read_only, io::creation::must_exist));
        KEEL_TRY_LET(status, file.status());
        seen.bytes = status.size;
        if (seen.bytes < format::header_bytes) return {};
        format::header_block block{};
        auto const read = [&](std::uint64_t at) {
            auto got = file.read(at, block);
            if (!got) got = file.read(at, block); // try once more before this copy counts as unreadable
            if (!got) out_.refused.push_back({seen.path, at, block.size()});
            return got && *got == block.size();
        };
        if (read(0)) seen.copies[0] = format::decode_segment_header<C>(block);
        if (read(seen.bytes - format::header_bytes)) seen.copies[1] = format::decode_segment_header<C>(block);
        if (seen.bytes >= format::segment_bytes_min && read(format::footer_offset(seen.bytes)))
            seen.footer = format::decode_segment_footer<C>(block);
        return {};
    }

    /// Tells another format or another checksum from damage: no header verifies, and the headers name another format or checksum.
    result<void> check_identity() {
        if (!out_.exists && any_in_use_) out_.exists = true;
        // A header that verifies and names another format is not damaged. So the store belongs to a newer library, whatever else is here.
        for (auto const& copy : out_.manifest.copies)
            if (copy.verifies && copy.problem == format::header_problem::other_format) return other_format(copy.format);
        for (auto const& f : files_)
            for (auto const& copy : f.copies)
                if (copy.verifies && copy.problem == format::header_problem::other_format)
                    return other_format(copy.format);
        bool any_good = false;
        for (auto const& copy : out_.manifest.copies) any_good = any_good || copy.readable;
        for (auto const& f : files_) any_good = any_good || f.best() != nullptr;
        if (any_good) return {};
        for (auto const& copy : out_.manifest.copies) {
            if (copy.problem == format::header_problem::other_format) return other_format(copy.format);
            if (copy.problem == format::header_problem::other_checksum)
                return failure(errc::wrong_policy,
                               "the store was made with checksum '" + letters(copy.checksum) +
                                   "', this program uses '" + letters(checksum_id{C::id}) + "' (" +
                                   std::string{C::name} + "): open it with the policy it was made with",
                               out_.paths.root());
        }
        bool const none_is_read = out_.exists && files_.empty() && !out_.manifest.copies[0].trouble.empty();
        if (none_is_read && has_tables_)
            return failure(
                errc::corruption,
                "neither manifest can be read and there is no segment to rebuild them from: wal-recovery dump "
                "gives what the tables hold, or restore a backup",
                out_.paths.manifest(0));
        if (none_is_read)
            return failure(
                errc::not_a_store,
                "neither manifest can be read and there is no segment to rebuild them from; restore a backup",
                out_.paths.manifest(0));
        return {};
    }

    [[nodiscard]] result<void> other_format(std::uint32_t found) const {
        return failure(errc::wrong_format,
                       "the store has format " + std::to_string(found) + ", this library reads format " +
                           std::to_string(format::format_number) + ": use a library that knows it",
                       out_.paths.root());
    }
    [[nodiscard]] static std::string letters(checksum_id id) {
        std::string text;
        for (int shift = 0; shift < 32; shift += 8) {
            auto const c = static_cast<char>(id.value >> shift & 0xFF);
            text += c >= ' ' && c <= '~' ? c : '?';
        }
        return text;
    }

    void take_state() {
        if (auto const* header = out_.manifest.header(); header != nullptr) {
            out_.store = header->store;
            out_.branch = header->branch;
        } else {
            // If no header is left at all, the notes still tell which store this is.
            if (out_.note) {
                out_.store = out_.note->store;
                out_.branch = out_.note->branch;
            }
            for (auto const& f : files_)
                if (auto const* h = f.best(); h != nullptr) {
                    out_.store = h->store;
                    out_.branch = h->branch;
                }
        }
        if (out_.manifest.state) out_.state = *out_.manifest.state;
        for (auto const& f : files_)
            if (auto const* h = f.best(); h != nullptr && h->store == out_.store)
                out_.manifest.marked = std::max(out_.manifest.marked, h->durable_edit);
    }

    /// Refuses tables whose blocks this program cannot unpack. Otherwise it would report them as damaged.
    [[nodiscard]] result<void> check_compression() const {
        using P = typename Config::compression;
        for (auto const& [id, t] : out_.state.tables)
            if (!P::reads(t.compression))
                return failure(errc::wrong_policy,
                               "the table's blocks are packed with " + compression::name_of(t.compression) +
                                   ", this program reads " + compression::names_read_by<P>() +
                                   ": open the store with a compression policy that reads both, as "
                                   "compression::any_of does",
                               out_.paths.table(id));
        return {};
    }

    /// Lists the tables present. Only the manifest tells which of them count. Without it a table that was merged away would bring
    /// back keys that were erased since.
    result<void> look_at_tables() {
        if (!has_tables_) return {};
        KEEL_TRY_LET(names, fs_.list(out_.paths.tables()));
        bool any = false;
        std::vector<format::table_id> there;
        for (auto const& entry : names)
            if (auto const id = wal::layout::table_of(entry.name)) {
                any = true;
                if (entry.kind == io::file_kind::regular) there.push_back(*id);
            }
        if (any && (!out_.manifest.state || out_.state.edit < out_.manifest.marked))
            return failure(
                errc::corruption,
                "neither manifest holds a whole state, and only it knows which of the tables count: put a copy of a "
                "manifest back, or restore a backup; where there is none, wal-recovery dump prints what verifies of "
                "all of them, and load makes a store of that; nothing was changed",
                out_.paths.manifest(0));
        std::ranges::sort(there);
        for (auto const& [id, t] : out_.state.tables)
            if (!std::ranges::binary_search(there, id)) out_.missing_tables.push_back(id);
        return {};
    }

    void note_missing_tables() {
        if (!has_tables_)
            for (auto const& [id, t] : out_.state.tables) out_.missing_tables.push_back(id);
        for (auto const id : out_.missing_tables)
            if (!out_.state.tables.at(id).is_placeholder())
                complain(damage::missing_table, out_.paths.table(id),
                         "the manifest knows this table, the folder does not hold it: its keys have no answer");
    }

    /// Reports, at each opening, the versions that compaction could not read.
    void note_placeholders() {
        for (auto const& [id, t] : out_.state.tables)
            if (t.is_placeholder())
                out_.findings.push_back(table::finding_of_placeholder(t, out_.paths.inside(out_.paths.table(id))));
    }

    void note_manifest_damage() {
        bool const behind = out_.manifest.state && out_.state.edit < out_.manifest.marked;
        if (!out_.manifest.state || behind) {
            out_.findings.push_back(
                {.kind = damage::manifest_lost,
                 .file = "manifest.0",
                 .detail = behind ? "edits up to " + std::to_string(out_.manifest.marked) + " were durable, " +
                                        std::to_string(out_.state.edit) +
                                        " is the newest left: completed from the segments' headers"
                                  : "neither copy holds a whole state: rebuilt from the segments' headers"});
            return;
        }
        for (int i = 0; i < 2; ++i) {
            auto const& copy = out_.manifest.copies[static_cast<std::size_t>(i)];
            std::string why = copy.trouble;
            if (why.empty() && copy.file_bytes != copy.header.size)
                why = "is " + std::to_string(copy.file_bytes) + " bytes long, " + std::to_string(copy.header.size) +
                      " were written";
            // A crash may leave a copy that is one edit behind or has a torn last edit. Anything beyond that is damage.
            if (why.empty() && !out_.manifest.current[static_cast<std::size_t>(i)]) {
                auto const known = edits_known(i);
                for (auto n = std::max(copy.header.first_edit, std::uint64_t{1}); n <= known && why.empty(); ++n)
                    if (!copy.edits.contains(n)) why = "edit " + std::to_string(n) + " does not verify";
                if (why.empty() && copy.header.first_edit > known && copy.edits.empty())
                    why = "its snapshot does not verify";
            }
            if (!why.empty() && !(i == 1 && !copy.present && out_.state.edit == 1))
                out_.findings.push_back({.kind = damage::manifest_damaged,
                                         .file = out_.paths.inside(out_.paths.manifest(i)),
                                         .done = outcome::healed,
                                         .detail = why + "; the other copy serves"});
        }
    }

    // An edit is written to copy 1 only after its sync in copy 0 returned.
    [[nodiscard]] std::uint64_t edits_known(int copy) const {
        auto known = std::max(out_.manifest.marked, std::uint64_t{1});
        auto const& second = out_.manifest.copies[1].edits;
        if (copy == 0 && !second.empty()) known = std::max(known, std::min(second.rbegin()->first, out_.state.edit));
        return known;
    }

    void read_notes() {
        auto file = fs_.open(out_.paths.notes(), io::access::read_only, io::creation::must_exist);
        std::array<std::byte, 2 * format::note_bytes> bytes{};
        if (!file) {
            auto const code = file.error().code;
            if (code != errc::not_found && code != errc::not_regular) out_.notes_refused = file.error();
            return;
        }
        auto got = file->read(0, bytes);
        if (!got) got = file->read(0, bytes);
        if (!got) return out_.refused.push_back({out_.paths.notes(), 0, bytes.size()});
        out_.note = format::newest_note<C>(bytes);
        auto const status = file->status();
        auto const boot = fs_.boot();
        out_.note_is_own = out_.note && boot.known() && out_.note->boot == boot && status &&
                           out_.note->self == status->identity;
    }
    void forget_foreign_note() {
        if (out_.note && out_.note->store == out_.store && out_.note->branch == out_.branch) return;
        out_.note.reset();
        out_.note_is_own = false;
    }

    void complain(damage kind, std::string const& path, std::string detail) {
        out_.findings.push_back({.kind = kind, .file = out_.paths.inside(path), .detail = std::move(detail)});
    }

    fs_type& fs_;
    inventory& out_;
    std::stop_token cancel_;
    std::vector<seen_file> files_{};
    bool has_log_ = false;
    bool has_tables_ = false;
    bool any_in_use_ = false;
};

} // namespace detail

/// Takes the inventory of the folder. Errors: not_found, not_a_store, wrong_format, wrong_policy, not_regular,
/// corruption, or the machine's. A stop request ends the longest part, the search for marks, early. Then the result is
/// incomplete, and the caller must not use it.
template <class Config>
[[nodiscard]] result<inventory> take_inventory(typename Config::file_system& fs, std::string directory,
                                               std::stop_token cancel = {}) {
    inventory out{wal::layout{std::move(directory)}};
    KEEL_TRY(detail::stock_taker<Config>{fs, out, std::move(cancel)}.run());
    return out;
}

} // namespace keel::inline v0::recovery

#endif
