// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_MATCH_SEGMENTS_HPP
#define KEEL_RECOVERY_MATCH_SEGMENTS_HPP

// Finds the file of each segment. The manifest lists the segments of the store and their lives (a life is an id and a salt). A file is
// known by its header; its name is a hint. If both headers are gone, the file's name or the marks in it tell which segment it is.
//   | a file                                                       | is                                               |
//   | has the header of a registered life                          | that segment, whatever its name                  |
//   | has no header, and the name of a registered segment          | that segment, if no other file has its header    |
//   | has no header and no such name, but a mark of a              | that segment, if no other file has its header    |
//   |   registered life                                            |   or its name                                    |
//   | was taken out of service by a repair                         | evidence, to be moved                            |
//   | is prepared and not registered; is temporary; was built by a | a leftover of this store: the first write        |
//   |   repair that did not switch to it                           |   removes it                                     |
//   | is not above log_start_lsn                                   | retired: the first write recycles or removes it  |
//   | is of another store; is a second file with a registered      | left alone, and reported                         |
//   |   header                                                     |                                                  |
//   | is in use and not registered                                 | taken back, and reported                         |
// Time: in proportion to the number of files and of manifest entries.

#include <keel/error.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/recovery/inventory.hpp>
#include <keel/recovery/seen_file.hpp>
#include <keel/wal/layout.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery::detail {

template <checksum_policy C, class Fs>
class segment_matcher {
public:
    segment_matcher(Fs& fs, inventory& out, std::vector<seen_file>& files, std::stop_token cancel)
        : fs_{fs}, out_{out}, files_{files}, cancel_{std::move(cancel)}, taken_(files.size(), false),
          marks_read_(files.size(), false) {
        for (std::size_t i = 0; i < files_.size(); ++i) {
            by_name_.emplace(files_[i].name, i);
            if (auto const* h = files_[i].best(); h != nullptr && h->store == out_.store)
                by_life_[{h->id, h->salt}].push_back(i);
        }
        for (auto const& r : out_.state.removed) removed_.emplace(r.id, r.repair);
        knows_all_ = out_.manifest.state && out_.state.edit >= out_.manifest.marked;
    }

    void run() {
        find_headless();
        for (auto const& [id, entry] : out_.state.segments) add_registered(entry);
        classify_unknown();
        keep_names();
        std::ranges::sort(out_.segments, {}, [](found_segment const& s) { return s.entry.place; });
    }

    /// The reason why an existing file could not be opened. Then findings about missing segments may be false.
    [[nodiscard]] std::optional<error> const& refused() const noexcept { return refused_; }

private:
    using life = std::pair<segment_id, std::uint64_t>;

    /// Finds the files without headers whose name is not that of a registered segment. A mark in them may tell which segment they are.
    void find_headless() {
        for (std::size_t i = 0; i < files_.size(); ++i) {
            auto const named = wal::layout::segment_of(files_[i].name);
            if (files_[i].best() == nullptr && !(named && out_.state.segments.contains(*named))) headless_.push_back(i);
        }
    }
    [[nodiscard]] std::vector<format::mark> const& marks_of(std::size_t i) {
        if (!marks_read_[i]) {
            marks_read_[i] = true;
            auto const file = fs_.open(files_[i].path, io::access::read_only, io::creation::must_exist);
            if (file) files_[i].marks = find_marks<C>(*file, files_[i].bytes, cancel_);
            else if (!refused_ && file.error().code != errc::not_found) refused_ = file.error();
        }
        return files_[i].marks;
    }
    [[nodiscard]] std::optional<std::size_t> find_by_mark(format::segment_entry const& entry) {
        if (!by_mark_) {
            by_mark_.emplace();
            for (auto const i : headless_)
                for (auto const& m : marks_of(i)) by_mark_->emplace(life{m.segment, m.salt}, i);
        }
        auto const [first, last] = by_mark_->equal_range({entry.id, entry.salt});
        for (auto at = first; at != last; ++at)
            if (!taken_[at->second]) return at->second;
        return std::nullopt;
    }

    void add_registered(format::segment_entry const& entry) {
        found_segment s;
        s.entry = entry;
        s.registered = true;
        s.path = out_.paths.segment(entry.id);
        auto const expected = wal::layout::segment_name(entry.id);
        auto const named = by_name_.find(expected);
        auto const by_name = named != by_name_.end() ? std::optional{named->second} : std::nullopt;
        auto by_content = find_by_header(entry, by_name);
        if (!by_content && !by_name) by_content = find_by_mark(entry);
        auto const use = by_content ? by_content : by_name;
        if (by_name && !by_content && files_[*by_name].best() != nullptr) {
            complain(damage::wrong_place, files_[*by_name].path,
                     "the file under this name is segment " + wal::layout::segment_name(files_[*by_name].best()->id));
            miss(s);
        } else if (!use) {
            miss(s);
        } else {
            take(s, *use);
            taken_[*use] = true;
            if (by_content && files_[*by_content].name != expected)
                complain(damage::wrong_place, s.path, "this is segment " + expected + ", found by what it holds");
        }
        place(std::move(s));
    }
    /// Finds the file with its header. If several files have it, the one with its name is preferred.
    [[nodiscard]] std::optional<std::size_t> find_by_header(format::segment_entry const& entry,
                                                            std::optional<std::size_t> by_name) const {
        auto const at = by_life_.find({entry.id, entry.salt});
        if (at == by_life_.end()) return std::nullopt;
        auto const& all = at->second;
        return by_name && std::ranges::find(all, *by_name) != all.end() ? by_name : all.front();
    }

    void miss(found_segment& s) {
        // The seal tells which LSNs it held. Without a seal only its neighbours and the horizon tell whether records are gone.
        complain(damage::missing_segment, s.path, "the manifest knows this segment, the folder does not hold it");
        if (s.entry.seal) s.geometry.first = s.entry.seal->range.first;
    }

    void take(found_segment& s, std::size_t i) {
        auto const& file = files_[i];
        s.present = true;
        s.path = file.path;
        s.file_bytes = file.bytes;
        if (auto const* best = file.best(); best != nullptr) {
            s.header = *best;
            for (std::size_t copy = 0; copy < 2; ++copy)
                if (!file.copies[copy].good())
                    complain(damage::header_damaged, file.path,
                             copy == 0 ? "the first header does not verify; the second one serves"
                                       : "the second header does not verify; the first one serves",
                             copy == 0 ? 0 : file.bytes - format::header_bytes, outcome::healed);
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
                      .first = s.header ? s.header->first : first_of(s, i),
                      .begin = format::frames_begin(s.entry.size),
                      .limit = std::min(format::frames_limit(s.entry.size), s.file_bytes)};
        // Without the first LSN the LSN of no frame is known.
        if (s.geometry.limit < s.geometry.begin || !s.geometry.first) s.geometry.limit = s.geometry.begin;
        if (s.entry.seal && s.entry.seal->data_end >= s.geometry.begin)
            s.geometry.limit = std::min(s.geometry.limit, s.entry.seal->data_end);
        if (out_.note && out_.note_is_own && out_.note->segment == s.entry.id) s.geometry.known_end = out_.note->end;
    }

    // Footer and manifest both hold the facts of a seal. If one is lost, the other serves.
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

    [[nodiscard]] lsn first_of(found_segment const& s, std::size_t i) {
        if (s.entry.seal) return s.entry.seal->range.first;
        static_cast<void>(marks_of(i));
        auto const* const m = files_[i].mark_of(s.entry.id, s.entry.salt);
        return m != nullptr ? m->first : lsn{};
    }

    void place(found_segment s) {
        if (s.in_use()) out_.segments.push_back(std::move(s));
        else out_.spare.push_back(std::move(s));
    }

    // Files that match no entry of the manifest.
    void classify_unknown() {
        for (std::size_t i = 0; i < files_.size(); ++i)
            if (!taken_[i]) sort_stranger(i);
    }
    void sort_stranger(std::size_t i) {
        auto const& file = files_[i];
        auto const* h = file.best();
        auto const hint = h != nullptr ? std::optional{h->id} : wal::layout::segment_of(file.name);
        if (hint && removed_.contains(*hint)) {
            out_.leftovers.push_back({.path = file.path, .removed = *hint});
        } else if (h == nullptr && out_.manifest.state) {
            out_.leftovers.push_back({.path = file.path, .is_ours = knows_all_ && is_temporary(file.name)});
        } else if (h == nullptr) {
            adopt_headless(i);
        } else if (h->store != out_.store) {
            complain(damage::wrong_place, file.path, "this segment belongs to another store; it is left alone");
        } else if (out_.state.segments.contains(h->id) && h->state != format::segment_state::prepared) {
            complain(damage::wrong_place, file.path,
                     "a second file with the header of segment " + wal::layout::segment_name(h->id) +
                         "; it is left alone");
            out_.leftovers.push_back({.path = file.path});
        } else if (h->state == format::segment_state::prepared || is_retired(*h)) {
            add_leftover(file, *h);
        } else {
            adopt_unknown(i, *h);
        }
    }
    void add_leftover(seen_file const& file, format::segment_header const& h) {
        leftover_file left{.path = file.path};
        bool const own_name = file.name == wal::layout::segment_name(h.id);
        bool const given_up = h.state != format::segment_state::prepared && h.first <= out_.state.log_start_lsn;
        if (given_up && out_.manifest.state && own_name)
            left.retired = format::segment_entry{.id = h.id, .salt = h.salt, .size = h.size, .place = h.place};
        // A prepared segment that is not registered never held acknowledged records. A segment that a repair built holds copies.
        bool const registered = out_.state.segments.contains(h.id);
        bool const unused = h.state == format::segment_state::prepared && !registered;
        bool const copies = h.state == format::segment_state::rebuilt && !registered && own_name &&
                            out_.state.segments.contains(h.place);
        left.is_ours = knows_all_ && (is_temporary(file.name) || unused || copies);
        out_.leftovers.push_back(std::move(left));
    }
    [[nodiscard]] static bool is_temporary(std::string_view name) noexcept {
        return name.starts_with("prepare") && name.ends_with(".tmp");
    }

    // A new segment must not take the name of an existing file, whatever the file holds. The file may be the only trace of damage, or a
    // segment that lost its own name. There is one exception: a prepared segment that a crash left unregistered may be overwritten.
    void keep_names() {
        constexpr std::uint64_t sane = std::uint64_t{1} << 62; // only a forged name leads to a larger id
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

    // The retire edit is durable before the file is removed. So a retired segment whose file is left does not begin above log_start_lsn.
    // A rebuilt segment belongs to the store only if the manifest lists it.
    [[nodiscard]] bool is_retired(format::segment_header const& h) const noexcept {
        return h.state != format::segment_state::rebuilt ? h.first <= out_.state.log_start_lsn
                                                         : out_.manifest.state.has_value();
    }

    void adopt_unknown(std::size_t i, format::segment_header const& h) {
        if (out_.manifest.state)
            complain(damage::unknown_segment, files_[i].path,
                     "a segment in use that the manifest does not know; it is taken back");
        found_segment s;
        s.entry = {.id = h.id, .salt = h.salt, .size = h.size, .place = h.place};
        take(s, i);
        remember(s);
        place(std::move(s));
    }

    void adopt_headless(std::size_t i) {
        // The first mark is of the newest life: it overwrites older lives from the front.
        auto const& marks = marks_of(i);
        auto const bytes = files_[i].bytes;
        if (marks.empty() || !format::valid_segment_size(bytes)) {
            out_.leftovers.push_back({.path = files_[i].path});
            return;
        }
        auto const m = marks.front();
        found_segment s;
        s.entry = {.id = m.segment, .salt = m.salt, .size = bytes, .place = m.segment};
        take(s, i);
        s.geometry.first = m.first;
        remember(s);
        place(std::move(s));
    }

    void remember(found_segment const& s) {
        out_.state.segments[s.entry.id] = s.entry;
        out_.state.next_segment = std::max(out_.state.next_segment, s.entry.id.value + 1);
    }

    void complain(damage kind, std::string const& path, std::string detail, std::uint64_t offset = 0,
                  outcome done = outcome::reported) {
        out_.findings.push_back({.kind = kind,
                                 .file = out_.paths.inside(path),
                                 .offset = offset,
                                 .length = kind == damage::header_damaged ? format::header_bytes : 0,
                                 .done = done,
                                 .detail = std::move(detail)});
    }

    Fs& fs_;
    inventory& out_;
    std::vector<seen_file>& files_;
    std::stop_token cancel_;
    std::vector<bool> taken_;
    std::optional<error> refused_{};
    std::vector<bool> marks_read_;
    std::map<std::string, std::size_t, std::less<>> by_name_{};
    std::map<life, std::vector<std::size_t>> by_life_{};
    std::map<segment_id, std::uint64_t> removed_{};
    std::vector<std::size_t> headless_{};
    std::optional<std::multimap<life, std::size_t>> by_mark_{}; ///< headless files by life; made on first use
    bool knows_all_ = false; ///< the manifest has every edit that is known to have been durable
};

} // namespace keel::inline v0::recovery::detail

#endif
