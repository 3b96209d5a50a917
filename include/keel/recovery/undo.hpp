// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_UNDO_HPP
#define KEEL_RECOVERY_UNDO_HPP

// Undoes the last repair, also an interrupted one: every file is again as it was, byte for byte. This is refused if anything else was
// written since. The progress file beside the evidence tells: it holds the manifest edit that the repair led to (repair_progress.hpp).
//
// After a crash in the middle the undo can be run again: first the files go back, then the manifests, and then the files
// that the repair built are removed.

#include <keel/recovery/repair.hpp>
#include <keel/recovery/repair_progress.hpp>
#include <keel/wal/manifest.hpp>
#include <keel/wal/whole_file.hpp>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What keel does when it opens a store: find damage, decide, repair.
namespace keel::inline v0::recovery {

namespace detail {

template <class Config>
class repair_undoer {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;

    repair_undoer(fs_type& fs, std::string const& directory) : fs_{fs}, paths_{directory} {}

    result<std::uint64_t> run() {
        now_ = wal::load_manifest<C>(fs_, paths_);
        for (auto const& copy : now_.copies)
            if (copy.present && !copy.opened) return failure(*copy.refused);
        if (!now_.state || now_.header() == nullptr || now_.state->next_repair < 2)
            return failure(errc::not_found, "no repair is on record here: nothing to undo", paths_.root());
        auto const number = now_.state->next_repair - 1;
        folder_.emplace(paths_, number);
        auto names = fs_.list(folder_->path());
        if (!names)
            return failure(errc::not_found, "the quarantine of the last repair is gone: it cannot be undone",
                           folder_->path());
        KEEL_TRY(refuse_after_writes());
        KEEL_TRY(write_undone_receipt());
        KEEL_TRY(put_files_back(*names));
        for (int i = 0; i < 2; ++i) KEEL_TRY(put_manifest_back(i));
        KEEL_TRY(remove_built());
        KEEL_TRY(forget());
        return number;
    }

private:
    result<void> refuse_after_writes() {
        before_.copies[0] = wal::read_manifest_copy<C>(fs_, folder_->manifest(0));
        before_.copies[1] = wal::read_manifest_copy<C>(fs_, folder_->manifest(1));
        wal::assemble(before_);
        auto const progress = read_progress<C>(fs_, *folder_, now_.header()->store);
        if (!progress || progress->number != now_.state->next_repair - 1)
            return failure(errc::corruption,
                           "what the last repair noted of itself is gone or does not verify: whether anything was "
                           "written since cannot be told, so it is not undone; its evidence stays in quarantine",
                           folder_->progress());
        if (!progress->is_newest(*now_.state))
            return failure(errc::conflict,
                           "the store was written to since the repair: undoing it would lose those writes",
                           paths_.root());
        progress_ = progress->settled(*now_.state);
        return {};
    }

    /// Keeps the receipt under another name. An interrupted repair has no receipt yet, so it is written here.
    result<void> write_undone_receipt() {
        if (auto done = fs_.rename(folder_->receipt(), folder_->undone_receipt());
            !done && done.error().code != errc::not_found)
            return done;
        if (progress_.finished) return fs_.sync_directory(folder_->path());
        return repairer<Config>::write_receipt(fs_, *folder_, progress_, system_clock_ns(), folder_->undone_receipt());
    }

    result<void> put_files_back(std::vector<io::directory_entry> const& names) {
        bool tables = false;
        for (auto const& entry : names)
            if (wal::layout::segment_of(entry.name)) {
                KEEL_TRY(fs_.rename(folder_->file(entry.name), paths_.log_file(entry.name)));
            } else if (wal::layout::table_of(entry.name)) {
                KEEL_TRY(fs_.rename(folder_->file(entry.name), paths_.table_file(entry.name)));
                tables = true;
            }
        if (tables) KEEL_TRY(fs_.sync_directory(paths_.tables()));
        return fs_.sync_directory(paths_.log());
    }

    result<void> put_manifest_back(int i) {
        auto saved = read_file(fs_, folder_->manifest(i));
        if (saved) {
            KEEL_TRY(wal::put_file(fs_, paths_.manifest_temporary(i), *saved));
            KEEL_TRY(fs_.rename(paths_.manifest_temporary(i), paths_.manifest(i)));
        } else if (saved.error().code != errc::not_found) {
            return failure(saved.error());
        } else if (auto gone = fs_.remove(paths_.manifest(i)); !gone && gone.error().code != errc::not_found) {
            return gone; // before the repair this manifest did not exist
        }
        return fs_.sync_directory(paths_.root());
    }

    /// Removes the files that the journal names as built, and files that a step built without getting to its journal line.
    result<void> remove_built() {
        auto const journal = read_file(fs_, folder_->journal());
        auto const named = journal ? built_by(as_text(*journal)) : std::set<std::string, std::less<>>{};
        KEEL_TRY_LET(names, fs_.list(paths_.log()));
        for (auto const& entry : names)
            if (named.contains(entry.name) || is_unfinished(entry.name))
                KEEL_TRY(fs_.remove(paths_.log_file(entry.name)));
        return fs_.sync_directory(paths_.log());
    }
    [[nodiscard]] static std::set<std::string, std::less<>> built_by(std::string_view journal) {
        constexpr std::string_view before = "\"replaced_by\":\"log/";
        std::set<std::string, std::less<>> out;
        for (auto at = journal.find(before); at != std::string_view::npos; at = journal.find(before, at)) {
            at += before.size();
            auto const name = journal.substr(at, wal::layout::segment_name({}).size());
            if (wal::layout::segment_of(name)) out.emplace(name);
        }
        return out;
    }
    [[nodiscard]] bool is_unfinished(std::string const& name) {
        auto const id = wal::layout::segment_of(name);
        if (!id || !before_.state || id->value < before_.state->next_segment) return false;
        auto const file = fs_.open(paths_.log_file(name), io::access::read_only, io::creation::must_exist);
        format::header_block block{};
        auto const got = file ? file->read(0, block) : result<std::size_t>{std::size_t{0}};
        if (!got || *got != block.size()) return false;
        auto const read = format::decode_segment_header<C>(block);
        return read.good() && read.header.store == now_.header()->store &&
               read.header.state == format::segment_state::rebuilt;
    }

    /// Removes what a repair needs to continue. The files left in the folder show that there was a repair and that it was undone.
    result<void> forget() {
        auto kept = fs_.rename(folder_->journal(), folder_->undone_journal());
        if (!kept && kept.error().code != errc::not_found) return kept;
        for (auto const& path : {folder_->progress(), folder_->manifest(0), folder_->manifest(1)})
            if (auto gone = fs_.remove(path); !gone && gone.error().code != errc::not_found) return gone;
        return fs_.sync_directory(folder_->path());
    }

    fs_type& fs_;
    wal::layout paths_;
    std::optional<repair_folder> folder_{};
    wal::manifest_load now_{};
    wal::manifest_load before_{};
    repair_progress progress_{};
};

} // namespace detail

/// Undoes the last repair: every file is again as it was, byte for byte. Returns its number. Errors: not_found (there is no repair, or
/// its quarantine is gone), conflict (the store was written to since), corruption (its progress file is gone or does not verify), the
/// machine's. The caller holds the store's lock exclusively.
template <class Config>
[[nodiscard]] result<std::uint64_t> undo_repair(typename Config::file_system& fs, std::string const& directory) {
    return detail::repair_undoer<Config>{fs, directory}.run();
}

} // namespace keel::inline v0::recovery

#endif
