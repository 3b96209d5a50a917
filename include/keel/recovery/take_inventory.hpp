// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_TAKE_INVENTORY_HPP
#define KEEL_RECOVERY_TAKE_INVENTORY_HPP

// Taking stock of a store's folder (inventory.hpp): reads a few hundred bytes per file, writes nothing. A file is known by its header; its
// name is a hint, and the manifest says which lives of which files belong to the store.

#include <keel/error.hpp>
#include <keel/format/key_text.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/mark.hpp>
#include <keel/format/notes.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/recovery/inventory.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/manifest.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

namespace detail {

struct seen_file {
    std::string path{};
    std::string name{};
    std::uint64_t bytes = 0;
    std::array<format::header_read, 2> copies{};
    format::footer_read footer{};
    [[nodiscard]] format::segment_header const* best() const noexcept {
        // Both may verify and differ: a crash during activation. The one in use is the newer.
        if (copies[0].good() && (!copies[1].good() || copies[0].header.state >= copies[1].header.state))
            return &copies[0].header;
        return copies[1].good() ? &copies[1].header : nullptr;
    }
};

/// A mark frame anywhere in a file whose headers are gone, its salt unknown: tells what the headers told.
template <checksum_policy C, class File>
[[nodiscard]] std::optional<format::mark> find_mark(File const& file, std::uint64_t file_bytes,
                                                    std::uint64_t known_salt = 0) {
    constexpr auto length = static_cast<std::size_t>(format::frame_bytes(format::mark_bytes));
    wal::window<File> in{file, file_bytes};
    for (std::uint64_t at = 512; at + length <= file_bytes; at += format::frame_alignment) {
        auto const bytes = in.at(at, length);
        if (format::read_frame_header(bytes.data()).type != format::frame_type::mark) continue;
        auto const m = format::decode_mark(bytes.subspan(format::frame_header_bytes, format::mark_bytes));
        if (!m || (known_salt != 0 && m->salt != known_salt)) continue;
        if (format::read_frame<C>(bytes, {m->salt, at}).state == format::frame_state::intact) return m;
    }
    return std::nullopt;
}

template <class Config>
class stock_taker {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;

    stock_taker(fs_type& fs, inventory& out) : fs_{fs}, out_{out} {}

    result<void> run() {
        KEEL_TRY(look_at_folder());
        read_notes(); // first of all: a writer beside this may be ahead of them, they are never ahead of the log
        out_.manifest = wal::load_manifest<C>(fs_, out_.paths);
        note_refused_manifests();
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
        match_segments();
        sort_strangers();
        keep_names();
        std::ranges::sort(out_.segments, {}, [](found_segment const& s) { return s.entry.place; });
        return {};
    }

private:
    // A folder with other people's files in it is not turned into a store.
    result<void> look_at_folder() {
        auto names = fs_.list(out_.paths.root());
        if (!names) {
            auto why = names.error();
            if (why.code == errc::not_found) why.message = "there is no such folder";
            else if (why.code == errc::not_regular || why.cause == 20) {
                why.code = errc::not_a_store;
                why.message = "is not a folder; a store is one";
            }
            return failure(std::move(why));
        }
        bool foreign = false;
        for (auto const& entry : *names) {
            if (entry.name == "manifest.0" || entry.name == "manifest.1") out_.exists = true;
            else if (entry.name == "log") has_log_ = true;
            else if (entry.name == "tables") has_tables_ = true;
            else if (!wal::layout::is_own_name(entry.name)) foreign = true;
        }
        if (!out_.exists && !has_log_ && foreign)
            return failure(errc::not_a_store,
                           "the folder holds other files and no keel store; choose an empty folder or the store's own",
                           out_.paths.root());
        return {};
    }

    void note_refused_manifests() {
        for (int i = 0; i < 2; ++i) {
            auto const& copy = out_.manifest.copies[static_cast<std::size_t>(i)];
            if (copy.refused) out_.refused.push_back({out_.paths.manifest(i), 0, copy.file_bytes});
        }
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
            if (!got) got = file.read(at, block); // once more, before the second copy is asked
            if (!got) out_.refused.push_back({seen.path, at, block.size()});
            return got && *got == block.size();
        };
        if (read(0)) seen.copies[0] = format::decode_segment_header<C>(block);
        if (read(seen.bytes - format::header_bytes)) seen.copies[1] = format::decode_segment_header<C>(block);
        if (seen.bytes >= format::segment_bytes_min && read(format::footer_offset(seen.bytes)))
            seen.footer = format::decode_segment_footer<C>(block);
        return {};
    }

    /// Another format or another checksum is told apart from damage: nothing here verifies, and what stands there names another.
    result<void> check_identity() {
        if (!out_.exists && any_in_use_) out_.exists = true;
        // A header that verifies and names another format was written so: whatever else is here, the store is a newer library's.
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
        if (out_.exists && files_.empty() && (out_.manifest.copies[0].trouble.empty() == false))
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

    /// What this program cannot unpack it must not call damaged.
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

    /// Which tables are there. Which of them count only the manifest knows: without it a table that was merged away would bring back
    /// what was erased since.
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
                "neither manifest holds a whole state, and only it knows which of the tables count: restore a "
                "backup, or put a copy of a manifest back; nothing was changed",
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

    /// What merges could not read is known from then on, at each opening.
    void note_placeholders() {
        for (auto const& [id, t] : out_.state.tables) {
            if (!t.is_placeholder()) continue;
            complain(damage::corrupt_block, out_.paths.table(id),
                     "stands for what could not be read when it was merged: no answer for " + format::text_of_keys(t),
                     format::table_frames_begin, outcome::declared_lost);
            out_.findings.back().length = format::frame_header_bytes;
        }
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
            // A copy one edit behind, or with a torn last edit, is what a crash leaves; more than that is damage.
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
        if (!file) return;
        std::array<std::byte, 2 * format::note_bytes> bytes{};
        if (auto const got = file->read(0, bytes); !got) return;
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

    void match_segments() {
        taken_.assign(files_.size(), false);
        for (auto const& [id, entry] : out_.state.segments) add_registered(entry);
    }

    void add_registered(format::segment_entry const& entry) {
        found_segment s;
        s.entry = entry;
        s.registered = true;
        s.path = out_.paths.segment(entry.id);
        auto const expected = wal::layout::segment_name(entry.id);
        std::optional<std::size_t> by_name;
        std::optional<std::size_t> by_content;
        for (std::size_t i = 0; i < files_.size(); ++i) {
            bool const named = files_[i].name == expected;
            if (named) by_name = i;
            auto const* h = files_[i].best();
            bool const same = h != nullptr && h->id == entry.id && h->salt == entry.salt && h->store == out_.store;
            if (same && (!by_content || named)) by_content = i;
        }
        if (!by_content && !by_name) by_content = find_by_mark(entry);
        auto const use = by_content ? by_content : by_name;
        if (by_name && !by_content && files_[*by_name].best() != nullptr) {
            complain(damage::wrong_place, files_[*by_name].path,
                     "the file under this name is segment " + wal::layout::segment_name(files_[*by_name].best()->id));
            miss(s);
        } else if (!use) {
            miss(s);
        } else {
            take(s, files_[*use]);
            taken_[*use] = true;
            if (by_content && files_[*by_content].name != expected)
                complain(damage::wrong_place, s.path, "this is segment " + expected + ", found by what it holds");
        }
        place(std::move(s));
    }

    /// A file without headers that stands under no registered segment's name: one of its marks may say that it is this segment.
    [[nodiscard]] std::optional<std::size_t> find_by_mark(format::segment_entry const& entry) {
        for (std::size_t i = 0; i < files_.size(); ++i) {
            auto const named = wal::layout::segment_of(files_[i].name);
            if (taken_[i] || files_[i].best() != nullptr || (named && out_.state.segments.contains(*named))) continue;
            auto const file = fs_.open(files_[i].path, io::access::read_only, io::creation::must_exist);
            auto const m = file ? find_mark<C>(*file, files_[i].bytes, entry.salt) : std::nullopt;
            if (m && m->segment == entry.id) return i;
        }
        return std::nullopt;
    }

    void miss(found_segment& s) {
        // Where the seal is known so is what it held; else only its neighbours and the horizon can tell whether records are gone.
        complain(damage::missing_segment, s.path, "the manifest knows this segment, the folder does not hold it");
        if (s.entry.seal) s.geometry.first = s.entry.seal->range.first;
    }

    void take(found_segment& s, seen_file const& file) {
        s.present = true;
        s.path = file.path;
        s.file_bytes = file.bytes;
        if (auto const* best = file.best(); best != nullptr) {
            s.header = *best;
            for (std::size_t i = 0; i < 2; ++i)
                if (!file.copies[i].good())
                    complain(damage::header_damaged, file.path,
                             i == 0 ? "the first header does not verify; the second one serves"
                                    : "the second header does not verify; the first one serves",
                             i == 0 ? 0 : file.bytes - format::header_bytes, outcome::healed);
        } else {
            complain(damage::headers_lost, file.path,
                     file.bytes == 0 ? "the file is empty; put it back from a copy, or repair without it"
                                     : "neither header verifies; the manifest and the frames serve");
        }
        check_footer(s, file);
        if (s.file_bytes != s.entry.size)
            complain(damage::wrong_size, file.path,
                     "is " + std::to_string(s.file_bytes) + " bytes long, " + std::to_string(s.entry.size) +
                         " were written");
        s.geometry = {.id = s.entry.id,
                      .salt = s.entry.salt,
                      .first = s.header ? s.header->first : first_of(s),
                      .begin = format::frames_begin(s.entry.size),
                      .limit = std::min(format::frames_limit(s.entry.size), s.file_bytes)};
        // Without the first LSN no frame's LSN is known.
        if (s.geometry.limit < s.geometry.begin || !s.geometry.first) s.geometry.limit = s.geometry.begin;
        if (s.entry.seal && s.entry.seal->data_end >= s.geometry.begin)
            s.geometry.limit = std::min(s.geometry.limit, s.entry.seal->data_end);
        if (out_.note && out_.note_is_own && out_.note->segment == s.entry.id) s.geometry.known_end = out_.note->end;
    }

    // The facts of a seal stand in the footer and in the manifest: either gives the other back.
    void check_footer(found_segment& s, seen_file const& file) {
        auto const& footer = file.footer;
        bool const own = footer.good && footer.footer.seal.id == s.entry.id && footer.footer.seal.salt == s.entry.salt;
        if (s.entry.seal && own && footer.footer.seal == *s.entry.seal) {
            s.footer = footer.footer;
        } else if (!s.entry.seal && own && !out_.manifest.state) {
            s.entry.seal = footer.footer.seal;
        } else if (s.entry.seal && (!own || footer.footer.seal != *s.entry.seal)) {
            complain(damage::header_damaged, file.path, "the footer does not verify; the manifest has what it said",
                     file.bytes >= format::segment_bytes_min ? format::footer_offset(file.bytes) : 0, outcome::healed);
        }
    }

    [[nodiscard]] lsn first_of(found_segment const& s) {
        if (s.entry.seal) return s.entry.seal->range.first;
        auto file = fs_.open(s.path, io::access::read_only, io::creation::must_exist);
        if (!file) return {};
        auto const m = find_mark<C>(*file, s.file_bytes, s.entry.salt);
        return m ? m->first : lsn{};
    }

    void place(found_segment s) {
        if (s.in_use()) out_.segments.push_back(std::move(s));
        else out_.spare.push_back(std::move(s));
    }

    // Files that no entry of the manifest claims.
    void sort_strangers() {
        for (std::size_t i = 0; i < files_.size(); ++i) {
            if (taken_[i]) continue;
            auto const& file = files_[i];
            auto const* h = file.best();
            auto const hint = h != nullptr ? std::optional{h->id} : wal::layout::segment_of(file.name);
            auto const removed = std::ranges::find_if(out_.state.removed,
                                                      [&](auto const& r) { return hint && r.id == *hint; });
            if (removed != out_.state.removed.end()) {
                out_.leftovers.push_back({.path = file.path, .removed = removed->id});
            } else if (h == nullptr && out_.manifest.state) {
                out_.leftovers.push_back({.path = file.path});
            } else if (h == nullptr) {
                adopt_headless(file);
            } else if (h->store != out_.store) {
                complain(damage::wrong_place, file.path, "this segment belongs to another store; it is left alone");
            } else if (auto const known = out_.state.segments.find(h->id);
                       known != out_.state.segments.end() && h->state != format::segment_state::prepared) {
                complain(damage::wrong_place, file.path,
                         "a second file with the header of segment " + wal::layout::segment_name(h->id) +
                             "; it is left alone");
                out_.leftovers.push_back({.path = file.path});
            } else if (h->state == format::segment_state::prepared || is_retired(*h)) {
                out_.leftovers.push_back({.path = file.path});
                bool const given_up = h->state != format::segment_state::prepared && h->first <= out_.state.floor;
                if (given_up && out_.manifest.state && file.path == out_.paths.segment(h->id))
                    out_.leftovers.back().retired =
                        format::segment_entry{.id = h->id, .salt = h->salt, .size = h->size, .place = h->place};
            } else {
                adopt_stranger(file, *h);
            }
        }
    }

    // No new segment takes a name under which a file stands, whatever that holds: it may be damage's only trace, or a segment that
    // lost its own name. What a crash left of an unregistered preparation is the one thing to write over.
    void keep_names() {
        constexpr std::uint64_t sane = std::uint64_t{1} << 62; // above, only a hostile name leads
        for (std::size_t i = 0; i < files_.size(); ++i) {
            auto const id = wal::layout::segment_of(files_[i].name);
            auto const* h = files_[i].best();
            bool const half_prepared = !taken_[i] && h != nullptr && h->state == format::segment_state::prepared &&
                                       h->store == out_.store && id == h->id;
            if (id && id->value < sane && !half_prepared)
                out_.state.next_segment = std::max(out_.state.next_segment, id->value + 1);
        }
        auto const counts = [this](auto const& list) {
            auto const temporary = out_.paths.segment_temporary();
            return std::ranges::any_of(list, [&](found_segment const& s) { return s.present && s.path == temporary; });
        };
        for (unsigned n = 1; counts(out_.segments) || counts(out_.spare); ++n) out_.paths.avoid_temporary(n);
    }

    // Retiring makes its edit durable before the file goes: what is left then is below the floor.
    [[nodiscard]] bool is_retired(format::segment_header const& h) const noexcept {
        return h.state != format::segment_state::rebuilt ? h.first <= out_.state.floor
                                                         : out_.manifest.state.has_value();
    }

    void adopt_stranger(seen_file const& file, format::segment_header const& h) {
        if (out_.manifest.state)
            complain(damage::unknown_segment, file.path,
                     "a segment in use that the manifest does not know; it is taken back");
        found_segment s;
        s.entry = {.id = h.id, .salt = h.salt, .size = h.size, .place = h.place};
        take(s, file);
        remember(s);
        place(std::move(s));
    }

    void adopt_headless(seen_file const& file) {
        auto opened = fs_.open(file.path, io::access::read_only, io::creation::must_exist);
        if (!opened) return;
        auto const m = find_mark<C>(*opened, file.bytes);
        if (!m || !format::valid_segment_size(file.bytes)) {
            out_.leftovers.push_back({.path = file.path});
            return;
        }
        found_segment s;
        s.entry = {.id = m->segment, .salt = m->salt, .size = file.bytes, .place = m->segment};
        take(s, file);
        s.geometry.first = m->first;
        remember(s);
        place(std::move(s));
    }

    void remember(found_segment const& s) {
        out_.state.segments[s.entry.id] = s.entry;
        out_.state.next_segment = std::max(out_.state.next_segment, s.entry.id.value + 1);
    }

    void complain(damage kind, std::string const& path, std::string detail, std::uint64_t offset = 0,
                  outcome done = outcome::reported) {
        finding f{
            .kind = kind, .file = out_.paths.inside(path), .offset = offset, .done = done, .detail = std::move(detail)};
        if (kind == damage::header_damaged) f.length = format::header_bytes;
        out_.findings.push_back(std::move(f));
    }

    fs_type& fs_;
    inventory& out_;
    std::vector<seen_file> files_{};
    std::vector<bool> taken_{};
    bool has_log_ = false;
    bool has_tables_ = false;
    bool any_in_use_ = false;
};

} // namespace detail

/// Takes stock of the folder. Errors: not_found, not_a_store, wrong_format, wrong_policy, not_regular, or the machine's.
template <class Config>
[[nodiscard]] result<inventory> take_inventory(typename Config::file_system& fs, std::string directory) {
    inventory out{wal::layout{std::move(directory)}};
    KEEL_TRY(detail::stock_taker<Config>{fs, out}.run());
    return out;
}

} // namespace keel::inline v0::recovery

#endif
