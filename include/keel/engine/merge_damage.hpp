// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_MERGE_DAMAGE_HPP
#define KEEL_ENGINE_MERGE_DAMAGE_HPP

// Damage that a merge met. Everything that verifies is merged. For each range of keys that could not be read, a placeholder
// (table/placeholder.hpp) is added to level 0. It gives these keys the answer that they had before: an error, unless a newer version is
// found. The damaged file is kept as evidence.
//
// The steps on the disk: (1) Before the merge's edit, quarantine/merged/<name>.json is written. It says which keys could not be read and
// which placeholders stand for them. A damaged segment is copied into the same folder, because the log recycles its files. (2) The edit
// removes the damaged files from the manifest and adds the placeholders. (3) After the edit, a damaged table is moved into that folder,
// once no reader uses it. A crash before the edit leaves a note about a merge that did not happen. A crash after the edit leaves the move
// to the first merge of the next opening, which does not remove a table if there is a note about it.
//
// The manifest names the placeholders as tables, in a form that every reader of format 1 understands. So each opening has the bounds
// without reading another file, and no crash can separate the merged data from the record of its damage.

#include <keel/engine/merge.hpp>
#include <keel/engine/version_set.hpp>
#include <keel/error.hpp>
#include <keel/format/index.hpp>
#include <keel/format/manifest.hpp>
#include <keel/observe/json.hpp>
#include <keel/table/damaged_range.hpp>
#include <keel/table/placeholder.hpp>
#include <keel/types.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/whole_file.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// The damage that one merge met. One thread per object.
template <class Config>
class unread_parts {
public:
    using view_type = store_version<Config>;
    using merge_type = version_merge<Config>;
    using damage_type = typename merge_type::damage_type;

    /// Takes over the damage that the walk has met since the last call. `done`: the key that the walk was at, if all older versions of that
    /// key are superseded.
    void take(merge_type& from, std::optional<std::string_view> done) {
        for (auto& d : from.damage()) {
            // The damage lies behind the versions found of that key, so its versions of the key are superseded.
            if (done && d.what.from == *done) d.what.from = table::key_after(*done);
            if (d.run && d.what.lsns.size() == 1) records_.insert(d.what.lsns.first);
            all_.push_back(std::move(d));
        }
        from.damage().clear();
    }
    /// A record was read. If the same record is damaged in another segment, that damage no longer counts.
    void found(lsn at) {
        if (records_.empty() || records_.erase(at) == 0) return;
        std::erase_if(all_, [at](damage_type const& d) { return d.run && d.what.lsns == lsn_range{at, at}; });
    }

    /// All damage. An entry with an empty key range is superseded: only the fact that there was damage counts.
    [[nodiscard]] std::vector<damage_type> const& all() const noexcept { return all_; }
    [[nodiscard]] bool empty() const noexcept { return all_.empty(); }
    [[nodiscard]] bool may_hold(std::string_view key) const {
        return std::ranges::any_of(all_, [key](damage_type const& d) { return d.what.may_hold(key); });
    }

private:
    std::vector<damage_type> all_{};
    std::set<lsn> records_{}; ///< the LSNs of damaged records of the log
};

/// The contents of one placeholder.
struct unread_stretch {
    table::damaged_range range{};
    table::filter_lines filter{};
};

/// Works out the placeholders for the damage, so that every key keeps the answers that it has in `view`. `snapshots`: the snapshots in use,
/// in order. Every later read uses one of these, or a snapshot newer than the last of them.
template <class Config>
class placeholder_plan {
public:
    using view_type = store_version<Config>;
    using damage_type = typename version_merge<Config>::damage_type;
    static constexpr std::size_t stretches_max = 32; ///< most placeholders for one table

    placeholder_plan(view_type const& view, std::vector<lsn> snapshots)
        : view_{view}, snapshots_{std::move(snapshots)} {}

    [[nodiscard]] std::vector<unread_stretch> make(std::vector<damage_type> const& unread) {
        std::map<format::table_id, std::vector<damage_type const*>> by_table;
        for (auto const& d : unread) {
            if (d.what.empty() || is_invisible(d)) continue;
            if (d.run) add_record(d);
            else by_table[d.tab->entry().id].push_back(&d);
        }
        for (auto const& [t, damage] : by_table) add_table(damage);
        return std::move(out_);
    }

private:
    /// Whether the damage can hold only one key, and every snapshot has an answer for that key.
    [[nodiscard]] bool is_invisible(damage_type const& d) const {
        return d.what.is_one_key() && has_answer(*d.what.from);
    }
    [[nodiscard]] bool has_answer(std::string_view key) const {
        return std::ranges::all_of(snapshots_, [&](lsn at) { return view_.find(key, at).has_value(); });
    }
    [[nodiscard]] static table::filter_lines filter_of(table::damaged_range const& range) {
        return range.is_one_key() ? table::filter_lines::of(*range.from) : table::filter_lines{};
    }
    void add_record(damage_type const& d) {
        std::vector<table::damaged_range> ranges{d.what};
        // A filter and the length of the key may exclude more keys, but a placeholder cannot hold these facts.
        if (!d.what.is_one_key()) split_around_answered(ranges, d, d.what.lsns.last);
        for (auto& r : ranges) {
            auto filter = filter_of(r);
            add(std::move(r), std::move(filter));
        }
    }
    void add_table(std::vector<damage_type const*> const& damage) {
        auto const& t = *damage.front()->tab;
        std::vector<table::damaged_range> ranges;
        for (auto const* d : damage) {
            bool const touches = !ranges.empty() &&
                                 (!ranges.back().to || *ranges.back().to >= d->what.from.value_or(""));
            if (!touches) ranges.push_back(d->what);
            else if (ranges.back().to && (!d->what.to || *ranges.back().to < *d->what.to))
                ranges.back().to = d->what.to;
        }
        auto const newest = t.entry().lsns.last;
        if (!t.entry().is_placeholder() && t.entry().level != 0) split_around_answered(ranges, *damage.front(), newest);
        merge_nearest(ranges);
        auto const filter = t.filter();
        for (auto& r : ranges) add(std::move(r), filter);
    }
    /// Leaves out the keys that have an answer because of their level, although the damaged part may have newer LSNs.
    void split_around_answered(std::vector<table::damaged_range>& ranges, damage_type const& of, lsn newest) const {
        std::vector<table::damaged_range> parts;
        for (auto& whole : ranges) {
            auto rest = std::move(whole);
            for (auto const& key : answered_in(rest, of, newest)) {
                auto front = rest;
                front.to = key;
                if (!front.empty()) parts.push_back(std::move(front));
                rest.from = table::key_after(key);
            }
            if (!rest.empty()) parts.push_back(std::move(rest));
        }
        ranges = std::move(parts);
    }
    [[nodiscard]] std::vector<std::string> answered_in(table::damaged_range const& range, damage_type const& of,
                                                       lsn newest) const {
        version_merge<Config> in{direction::forward, range.from, range.to};
        for (auto const& m : view_.memory) in.add(*m);
        for (auto const& r : view_.runs) in.add(r);
        in.add_levels(view_.tables);
        in.begin();
        std::vector<std::string> out;
        for (; in.valid() && out.size() + 1 < stretches_max; in.pass()) {
            auto const& v = in.top();
            if (range.to && v.key >= *range.to) break;
            bool const is_newer = v.at >= newest && v.at <= snapshots_.front();
            // The placeholder gets the same filter, so it excludes this key without a split.
            bool const is_denied = of.tab && !of.tab->may_hold(v.key, format::filter_hash(v.key));
            if (!is_newer && !is_denied && has_answer(v.key)) out.emplace_back(v.key);
        }
        return out;
    }
    static void merge_nearest(std::vector<table::damaged_range>& ranges) {
        while (ranges.size() > stretches_max) {
            std::vector<table::damaged_range> fewer;
            for (std::size_t i = 0; i < ranges.size(); i += 2) {
                fewer.push_back(std::move(ranges[i]));
                if (i + 1 < ranges.size()) fewer.back().to = std::move(ranges[i + 1].to);
            }
            ranges = std::move(fewer);
        }
    }
    void add(table::damaged_range range, table::filter_lines filter) {
        out_.push_back({std::move(range), std::move(filter)});
    }

    view_type const& view_;
    std::vector<lsn> snapshots_;
    std::vector<unread_stretch> out_{};
};

/// Keeps evidence of the files that a merge takes out of service although it could not read all of them. The checksum policy's digest of a
/// file is in its note.
template <class Config>
class merge_evidence {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;

    merge_evidence(fs_type fs, wal::layout paths) : fs_{std::move(fs)}, paths_{std::move(paths)} {}

    /// Writes the note about the file at `path`, before the edit: which keys could not be read, and which placeholders stand for them.
    /// Durable when it returns.
    result<void> note(std::string const& path, std::vector<table::damaged_range> const& unread,
                      std::vector<format::table_entry> const& placeholders, std::uint64_t now_ns) {
        KEEL_TRY(make_folder());
        std::string ranges;
        for (auto const& r : unread) {
            observe::json_object o;
            if (r.from) o.text("from", *r.from);
            if (r.to) o.text("to", *r.to);
            o.number("offset", r.why.offset).text("why", to_string(r.why));
            ranges += (ranges.empty() ? "" : ",") + o.str();
        }
        std::string names;
        for (auto const& p : placeholders)
            names += (names.empty() ? "\"" : ",\"") + paths_.inside(paths_.table(p.id)) + '"';
        auto const sum = digest(path);
        observe::json_object o;
        o.text("time", observe::utc_text(now_ns)).text("file", paths_.inside(path));
        o.number("bytes", sum.bytes).text("digest_policy", C::name).hex("digest", sum.value);
        o.raw("unread_keys", "[" + ranges + "]").raw("placeholders", "[" + names + "]");
        KEEL_TRY(wal::put_file(fs_, path_of_note(name_in(path)), as_bytes(o.str() + "\n")));
        return fs_.sync_directory(folder());
    }
    /// Makes a durable copy of the file. Parts that cannot be read are zeros in the copy.
    result<void> copy(std::string const& path) {
        KEEL_TRY(make_folder());
        KEEL_TRY_LET(status, fs_.status(path));
        KEEL_TRY_LET(target, wal::put_file(fs_, folder() + '/' + std::string{name_in(path)}));
        KEEL_TRY(wal::each_part(fs_, path, status.size,
                                [&](std::uint64_t at, byte_view part) { return target.write(at, part); }));
        KEEL_TRY(target.sync());
        return fs_.sync_directory(folder());
    }
    /// Whether there is a note about a file with this name.
    [[nodiscard]] bool has_note(std::string_view name) { return fs_.status(path_of_note(name)).has_value(); }
    /// Moves a file into the folder of the evidence, after the edit.
    result<void> move_here(std::string const& path) {
        KEEL_TRY(fs_.rename(path, folder() + '/' + std::string{name_in(path)}));
        KEEL_TRY(fs_.sync_directory(folder()));
        return fs_.sync_directory(path.substr(0, path.rfind('/')));
    }

private:
    struct sum_of_file {
        std::uint64_t value = 0;
        std::uint64_t bytes = 0;
    };

    [[nodiscard]] std::string folder() const { return paths_.quarantine() + "/merged"; }
    [[nodiscard]] std::string path_of_note(std::string_view name) const {
        return folder() + '/' + std::string{name} + ".json";
    }
    [[nodiscard]] static std::string_view name_in(std::string_view path) { return path.substr(path.rfind('/') + 1); }

    result<void> make_folder() {
        for (auto const& [path, in] :
             {std::pair{paths_.quarantine(), paths_.root()}, {folder(), paths_.quarantine()}}) {
            auto made = fs_.make_directory(path);
            if (!made && made.error().code != errc::exists) return made;
            KEEL_TRY(fs_.sync_directory(in));
        }
        return {};
    }
    /// The checksum policy's sum over the file as it is. Unreadable sectors count as zeros. Zero on an error.
    [[nodiscard]] sum_of_file digest(std::string const& path) {
        auto const status = fs_.status(path);
        if (!status) return {};
        C sum;
        auto const done = wal::each_part(fs_, path, status->size, [&](std::uint64_t, byte_view part) -> result<void> {
            sum.update(part);
            return {};
        });
        return done ? sum_of_file{sum.value(), status->size} : sum_of_file{};
    }

    fs_type fs_;
    wal::layout paths_;
};

} // namespace keel::inline v0::detail

#endif
