// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_SALVAGE_HPP
#define KEEL_TOOL_DETAIL_SALVAGE_HPP

// `wal-recovery dump` of a store that has tables but has lost both manifests. No repair can know which of the tables count, so all of
// them are read. For each key the dump has the newest version that verifies, by its LSN, in any file. The records in tables come first,
// sorted by key. Then come those of the log, in LSN order. Every range of keys that does not verify is named.
//
// Two facts are not known without a manifest, and the tool says so. A table may have been merged into others before; then a key that was
// erased later may appear again. The LSN of an ingested table is unknown; every other version of its keys is taken as newer.
//
// Memory: one block of each table, and the keys of the log.

#include <keel/engine/merge.hpp>
#include <keel/engine/version_set.hpp>
#include <keel/format/key_text.hpp>
#include <keel/format/table.hpp>
#include <keel/format/text.hpp>
#include <keel/recovery/examine.hpp>
#include <keel/table/read_cache.hpp>
#include <keel/tool/detail/command_line.hpp>
#include <keel/tool/detail/console.hpp>
#include <keel/tool/detail/counted_records.hpp>
#include <keel/tool/detail/survey.hpp>
#include <keel/tool/detail/view.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/lsn_set.hpp>
#include <keel/wal/window.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// Whether the inventory failed with `why` because no manifest has a state although the store has tables.
template <class Config>
[[nodiscard]] bool needs_salvage(typename Config::file_system fs, wal::layout const& paths, error const& why) {
    bool const by_manifest = (why.code == errc::corruption || why.code == errc::not_a_store) &&
                             why.file == paths.manifest(0);
    if (!by_manifest && why.code != errc::not_found) return false;
    auto const names = fs.list(paths.tables());
    return names &&
           std::ranges::any_of(*names, [](auto const& e) { return wal::layout::table_of(e.name).has_value(); });
}

template <class Config>
class salvage {
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;
    using through = view<fs_type>;
    using reading = keel::detail::reading_config<Config>; // that of the tool's engine, so the code is shared
    using table_type = typename keel::detail::store_version<reading>::table_type;

public:
    salvage(fs_type fs, command_line const& line, console& to)
        : fs_{std::move(fs)}, paths_{line.directory}, from_{line.from}, to_{to} {}

    /// Calls put(record) for each record until it returns false. Returns the exit code.
    template <class Put>
    [[nodiscard]] result<int> run(Put const& put) {
        say("neither manifest is left: this is what verifies in all tables and the log. A key that was erased may be "
            "among it.");
        KEEL_TRY(look_at_log());
        KEEL_TRY(open_tables());
        bool goes_on = true;
        KEEL_TRY(put_tables(put, goes_on));
        if (goes_on && log_) KEEL_TRY(put_log(put));
        if (log_) tell_lost();
        return exit_unknown;
    }

private:
    /// Reports the LSNs that are neither in the log nor possibly in a table.
    void tell_lost() {
        wal::lsn_set known;
        for (auto const& t : tables_) known.add(t->entry().lsns);
        std::vector<lsn_range> lost;
        for (auto const& r : log_->found.lost)
            for (auto const& gap : known.gaps_in(r)) lost.push_back(gap);
        if (!lost.empty())
            say("not in this dump: LSN " + text_of(lost) + ", which no table and no segment that is left has");
    }
    void say(std::string const& what) { to_.err << "wal-recovery: " << printable(what) << '\n'; }

    result<void> look_at_log() {
        // Without a manifest, the log is examined as if the store had no tables.
        through alone{fs_, tool::detail::reading::cached, shown::without_tables};
        open_options options;
        options.read_only = true;
        auto exam = recovery::examine<looking<Config>>(alone, paths_.root(), options);
        if (!exam) {
            if (keel::detail::ends_every_walk(exam.error().code)) return failure(std::move(exam).error());
            say("the log is not in this dump: " + to_string(exam.error()));
            return {};
        }
        if (!exam->stock.exists) return {};
        store_ = exam->stock.store;
        log_.emplace(std::move(*exam));
        return each_of_log(lsn{1}, [&](format::record_view const& r) {
            auto& newest = newest_[std::string{as_text(r.key)}];
            newest = std::max(newest, r.at);
            return true;
        });
    }
    template <class F>
    result<void> each_of_log(lsn from, F const& to) {
        return counted_records<C, through>{through{fs_}, *log_, from}.each(to);
    }

    result<void> open_tables() {
        through fs{fs_};
        KEEL_TRY_LET(names, fs.list(paths_.tables()));
        for (auto const& e : names) {
            if (!wal::layout::table_of(e.name)) continue;
            auto const path = paths_.table_file(e.name);
            auto entry = entry_of(fs, path);
            if (entry)
                tables_.push_back(std::make_shared<table_type const>(fs_, path, std::move(*entry), cache_, listener_));
            else say("not in this dump: " + paths_.inside(path) + ", " + entry.error());
        }
        return {};
    }
    /// The manifest entry of a table, as far as the table has it; or the reason why the table is left out.
    tl::expected<format::table_entry, std::string> entry_of(through& fs, std::string const& path) {
        auto const file = fs.open(path, io::access::read_only, io::creation::must_exist);
        if (!file) return tl::unexpected{to_string(file.error())};
        auto const header = header_of(*file);
        if (!header) return tl::unexpected{std::string{"neither header verifies"}};
        if (store_ && header->store != *store_) return tl::unexpected{std::string{"another store's"}};
        auto const packed_by = compression_of(*file, *header);
        if (!Config::compression::reads(packed_by))
            return tl::unexpected{"packed with " + compression::name_of(packed_by) +
                                  ", which this program does not read"};
        store_ = header->store;
        if (header->lsns == lsn_range{format::ingested_lsn, format::ingested_lsn})
            say(paths_.inside(path) +
                " was ingested, and nothing says when: any other version of its keys is taken for newer");
        return format::table_entry{.id = header->id,
                                   .salt = header->salt,
                                   .size = header->size,
                                   .lsns = header->lsns,
                                   .records = header->records,
                                   .level = 0,
                                   .compression = packed_by,
                                   .ends_open = true};
    }
    /// The header of a table. A truncated table has one, too; the rest of its records count.
    [[nodiscard]] static std::optional<format::table_header> header_of(typename through::file const& file) {
        auto const status = file.status();
        if (!status || status->size < format::header_bytes) return std::nullopt;
        for (auto const at : {std::uint64_t{0}, status->size - format::header_bytes}) {
            format::header_block block{};
            auto const got = file.read(at, block);
            auto const h = got && *got == block.size() ? format::decode_table_header<C>(block) : std::nullopt;
            if (h && (at == 0 || h->size == status->size)) return h;
        }
        return std::nullopt;
    }
    /// The compression of a table. Besides the manifest, only compressed blocks have it.
    [[nodiscard]] static std::uint8_t compression_of(typename through::file const& file,
                                                     format::table_header const& h) {
        wal::window<typename through::file> in{file, h.blocks_end};
        for (auto at = format::table_frames_begin; at + format::frame_header_bytes <= h.blocks_end;) {
            format::frame_place const place{h.salt, at};
            auto seen = format::peek_frame(in.at(at, format::frame_header_bytes).data(), place, h.blocks_end - at);
            if (seen.state == format::frame_state::intact)
                seen = format::read_frame<C>(in.at(at, static_cast<std::size_t>(seen.bytes())), place);
            bool const is_whole = seen.state == format::frame_state::intact;
            if (is_whole && seen.header.type == format::frame_type::packed)
                if (auto const head = format::decode_packed_head(seen.payload)) return head->compression;
            at = is_whole ? at + seen.bytes()
                          : wal::find_tag(in, static_cast<std::uint32_t>(h.salt), at + format::frame_alignment,
                                          h.blocks_end);
        }
        return 0;
    }

    template <class Put>
    result<void> put_tables(Put const& put, bool& goes_on) {
        keel::detail::version_merge<reading> in{keel::detail::direction::forward};
        for (auto const& t : tables_) in.add(t);
        std::string key;
        bool any = false;
        for (in.begin(); in.valid() && goes_on; in.advance()) {
            tell_damage(in);
            auto const& v = in.top();
            if (any && v.key == key) continue;
            any = true;
            key.assign(v.key);
            if (v.key.empty() || !is_newest(key, v.at) || v.tombstone || v.at < from_) continue;
            goes_on = put({v.at, format::frame_type::put, format::whole_batch, as_bytes(v.key), as_bytes(v.value)});
        }
        tell_damage(in);
        if (in.trouble()) return failure(*in.trouble());
        return {};
    }
    template <class Merge>
    void tell_damage(Merge& in) {
        for (auto const& d : in.damage())
            say("not in this dump: what " + paths_.inside(d.what.why.file) + " holds at " +
                std::to_string(d.what.why.offset) + ": " + format::text_of_keys(d.what.from, d.what.to));
        in.damage().clear();
    }
    /// Whether no newer version of the key is known. Remembers this version as the newest, for the records of the log that follow.
    [[nodiscard]] bool is_newest(std::string const& key, lsn at) {
        auto const known = newest_.find(key);
        if (known == newest_.end()) return true;
        if (known->second >= at) return false;
        known->second = at;
        return true;
    }
    template <class Put>
    result<void> put_log(Put const& put) {
        return each_of_log(from_, [&](format::record_view const& r) {
            bool const counts = r.type == format::frame_type::put && newest_.at(std::string{as_text(r.key)}) == r.at;
            return !counts || put({r.at, r.type, format::whole_batch, r.key, r.value});
        });
    }

    fs_type fs_;
    wal::layout paths_;
    lsn from_;
    console& to_;
    std::optional<format::store_id> store_{};
    std::optional<recovery::examination> log_{};
    std::map<std::string, lsn>
        newest_{}; ///< for each key in the log, the LSN of its newest version, in the log or in a table
    std::vector<std::shared_ptr<table_type const>> tables_{};
    std::shared_ptr<table::read_cache> cache_{std::make_shared<table::read_cache>(0)};
    std::shared_ptr<table::damage_listener const> listener_{};
};

} // namespace keel::inline v0::tool::detail

#endif
