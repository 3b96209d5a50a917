// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_DUMP_HPP
#define KEEL_TOOL_DETAIL_DUMP_HPP

// `wal-recovery dump`: every record there is, one per line: those in tables by key, the deepest level first; then those of the log that
// count, in LSN order. Records are read again and verified again on the way out; memory is one window for each segment whose LSNs
// overlap, whatever the store holds.

#include <keel/format/text.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/table/check_table.hpp>
#include <keel/tool/detail/survey.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// Walks one segment forward. It takes what the scan took: a believed header is stepped over, LSNs only grow.
template <checksum_policy C, class File>
class segment_walk {
public:
    segment_walk(File file, recovery::segment_geometry const& geometry, std::uint64_t from)
        : file_{std::make_unique<File>(std::move(file))}, geo_{geometry}, in_{*file_, geometry.limit}, offset_{from} {}

    /// The record with this LSN, which is behind every one asked for before. The views are valid until the next call.
    [[nodiscard]] result<format::record_view> next(lsn at) {
        while (offset_ + format::frame_header_bytes <= geo_.limit) {
            auto const seen = look();
            if (seen.state == format::frame_state::absent || seen.state == format::frame_state::broken) {
                offset_ = wal::find_tag(in_, static_cast<std::uint32_t>(geo_.salt), offset_ + format::frame_alignment,
                                        geo_.limit);
                continue;
            }
            auto const here = lsn{geo_.first.value - 1 + seen.header.lsn_delta};
            bool const ours = seen.state == format::frame_state::intact && format::takes_lsn(seen.header.type);
            if (ours && here > at) break;
            offset_ += seen.bytes();
            if (ours && here == at)
                return format::record_view{at, seen.header.type, seen.header.flags, seen.key(), seen.value()};
        }
        error why{.code = errc::corruption,
                  .message = "the record did verify and does not any more; validate the store",
                  .file = file_->path()};
        why.offset = offset_;
        why.at = at;
        return failure(std::move(why));
    }

private:
    [[nodiscard]] format::frame_view look() {
        format::frame_place const place{geo_.salt, offset_};
        auto const head = in_.at(offset_, format::frame_header_bytes);
        auto const peek = format::peek_frame(head.data(), place, geo_.limit - offset_);
        if (peek.state != format::frame_state::intact) return peek;
        return format::read_frame<C>(in_.at(offset_, static_cast<std::size_t>(peek.bytes())), place);
    }

    std::unique_ptr<File> file_; // the window refers to it
    recovery::segment_geometry geo_;
    wal::window<File> in_;
    std::uint64_t offset_;
};

/// Gives the records that count, one after the other.
template <checksum_policy C, class Fs>
class counted_records {
public:
    counted_records(Fs fs, recovery::examination const& exam, lsn from) : fs_{std::move(fs)}, exam_{exam}, from_{from} {
        for (auto const& c : exam.found.counted) {
            auto& last = last_of_[c.segment];
            last = std::max(last, c.range.last);
        }
    }

    /// Calls to(record) for each; stops where it returns false.
    template <class F>
    [[nodiscard]] result<void> each(F const& to) {
        for (auto const& c : exam_.found.counted) {
            if (c.range.last < from_) continue;
            for (auto at = std::max(c.range.first, from_); at <= c.range.last; at = at.next()) {
                KEEL_TRY_LET(walk, walk_in(c.segment, at));
                KEEL_TRY_LET(found, walk->next(at));
                if (!to(found)) return {};
            }
            if (c.range.last == last_of_[c.segment]) walks_.erase(c.segment);
        }
        return {};
    }

private:
    using walk_type = segment_walk<C, typename Fs::file>;

    result<walk_type*> walk_in(std::size_t segment, lsn at) {
        if (auto const known = walks_.find(segment); known != walks_.end()) return &known->second;
        auto const& s = exam_.stock.segments[segment];
        KEEL_TRY_LET(file, fs_.open(s.path, io::access::read_only, io::creation::must_exist));
        auto const& extents = exam_.runs[segment].extents;
        auto const extent = std::ranges::lower_bound(extents, at, {},
                                                     [](recovery::extent const& e) { return e.range.last; });
        auto const begin = extent == extents.end() ? s.geometry.begin : extent->begin;
        return &walks_.emplace(segment, walk_type{std::move(file), s.geometry, begin}).first->second;
    }

    Fs fs_;
    recovery::examination const& exam_;
    lsn from_;
    std::map<std::size_t, lsn> last_of_{};
    std::map<std::size_t, walk_type> walks_{};
};

/// Gives the records in tables, with each its own LSN; those that do not verify stand in the survey's findings.
template <checksum_policy C, compression_policy P, class Fs, class F>
[[nodiscard]] result<void> each_table_record(Fs fs, recovery::inventory const& stock, lsn from, F const& to) {
    std::vector<format::table_entry const*> tables;
    for (auto const& [id, t] : stock.state.tables)
        if (std::ranges::find(stock.missing_tables, id) == stock.missing_tables.end()) tables.push_back(&t);
    std::ranges::sort(tables, [](auto const* a, auto const* b) {
        if (a->level != b->level) return a->level > b->level;
        // Those of level 0 may have the same keys: the older ones first.
        if (a->level == 0) return std::tie(a->lsns.last, a->id) < std::tie(b->lsns.last, b->id);
        return std::tie(a->smallest, a->id) < std::tie(b->smallest, b->id);
    });
    for (auto const* t : tables) {
        auto const path = stock.paths.table(t->id);
        auto const put = [&](table::version const& v) {
            if (v.at < from) return;
            static_cast<void>(to({v.at, v.tombstone ? format::frame_type::erase : format::frame_type::put,
                                  format::whole_batch, as_bytes(v.key), as_bytes(v.value)}));
        };
        KEEL_TRY_LET(seen, (table::check_table<C, P>(fs, path, path, *t, put)));
    }
    return {};
}

inline void add_bytes(json& o, char const* name, byte_view bytes) {
    auto const text = as_text(bytes);
    if (is_utf8(text)) {
        o[name] = text;
        return;
    }
    std::string digits;
    digits.reserve(2 * text.size());
    for (auto const b : bytes) {
        digits += "0123456789abcdef"[std::to_integer<unsigned>(b) >> 4];
        digits += "0123456789abcdef"[std::to_integer<unsigned>(b) & 15];
    }
    o[std::string{name} + "_hex"] = std::move(digits);
}

/// One record as one line of JSON.
[[nodiscard]] inline std::string json_line(format::record_view const& r) {
    json o;
    o["lsn"] = r.at.value;
    o["type"] = format::name_of(r.type);
    o["begins_batch"] = (r.flags & format::begins_batch) != 0;
    o["ends_batch"] = (r.flags & format::ends_batch) != 0;
    if (r.type != format::frame_type::message || !r.key.empty()) add_bytes(o, "key", r.key);
    if (r.type != format::frame_type::erase || !r.value.empty()) add_bytes(o, "value", r.value);
    return o.dump();
}

template <class Config>
[[nodiscard]] result<int> dump(typename Config::file_system& fs, command_line const& line, console& to) {
    using through = view<typename Config::file_system>;
    wal::layout const paths{line.directory};
    KEEL_TRY_LET(held, lock_store(fs, paths, io::lock_mode::shared));
    KEEL_TRY_LET(seen, look_at<Config>(fs, line, to));
    std::string text;
    auto const put = [&](format::record_view const& r) {
        text.clear();
        if (line.json) text = json_line(r);
        else format::append_text(text, r);
        text += '\n';
        to.out << text;
        return to.out.good();
    };
    KEEL_TRY((each_table_record<typename Config::checksum, typename Config::compression>(through{fs}, seen.exam.stock,
                                                                                         line.from, put)));
    counted_records<typename Config::checksum, through> records{through{fs}, seen.exam, line.from};
    KEEL_TRY(records.each(put));
    to.out.flush();
    if (!to.out) return failure(errc::io_error, "the dump could not be written; is there room where it goes?");
    bool left_out = false;
    for (auto const& f : seen.findings)
        if ((f.kind == damage::corrupt_block && f.done != outcome::healed) || f.kind == damage::missing_table) {
            left_out = true;
            to.err << "wal-recovery: not in this dump: what " << printable(f.file) << " holds at " << f.offset << ": "
                   << printable(f.detail) << '\n';
        }
    if (seen.exam.found.lost.empty()) return left_out ? exit_damage : exit_done;
    to.err << "wal-recovery: not in this dump, because they do not verify: LSN " << text_of(seen.exam.found.lost)
           << '\n';
    return exit_damage;
}

} // namespace keel::inline v0::tool::detail

#endif
