// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_LOSS_LEDGER_HPP
#define KEEL_RECOVERY_LOSS_LEDGER_HPP

// The ledger of losses for the operator: which declared losses were accepted, and where an unknown number of records may be lost. A loss
// is reported at every opening until it is accepted. The ledger is the file quarantine/losses. It is replaced in one step (temporary
// file, sync, rename, sync of the folder). If it is gone or does not verify, no loss counts as accepted.
//    0 magic u64 | 8 version u32 | 12 checksum_id u32 | 16 store_id 16 | 32 accepted ranges u64 | 40 unknown extents u64
//   48 bytes behind this header u64 | 56 check u64 over those bytes                               | 504 check u64 over bytes 0..503
//   then each range { first u64, last u64 }, then each extent { segment u64, after u64, bytes of the text u16, text }

#include <keel/error.hpp>
#include <keel/format/endian.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/checksum/concept.hpp>
#include <keel/recovery/report.hpp>
#include <keel/types.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/lsn_set.hpp>
#include <keel/wal/whole_file.hpp>
#include <keel/wal/writer_start.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

inline constexpr std::uint64_t ledger_magic = 0x0A736F6C'6C65656BULL; // "keellos\n"
inline constexpr std::uint32_t ledger_version = 1;
inline constexpr std::uint64_t ledger_bytes_max = 64 * MiB;
inline constexpr std::size_t ledger_unknown_max = 1000;
inline constexpr std::size_t ledger_text_max = 500;

struct loss_ledger {
    std::vector<lsn_range> accepted{};     ///< in order, none touches another
    std::vector<unknown_extent> unknown{}; ///< not accepted yet; `file` is not stored, it follows from the id
    bool operator==(loss_ledger const&) const = default;

    [[nodiscard]] bool knows(segment_id id) const noexcept {
        return std::ranges::any_of(unknown, [id](unknown_extent const& u) { return u.segment == id; });
    }
};

template <checksum_policy C>
[[nodiscard]] std::vector<std::byte> encode(loss_ledger const& ledger, format::store_id const& store) {
    auto const unknown = std::min(ledger.unknown.size(), ledger_unknown_max);
    std::vector<std::byte> out(format::header_bytes + ledger.accepted.size() * 16 + unknown * (18 + ledger_text_max));
    format::field_writer body{byte_span{out}.subspan(format::header_bytes)};
    for (auto const& r : ledger.accepted) body.put(r.first).put(r.last);
    for (std::size_t i = 0; i < unknown; ++i) {
        auto const& u = ledger.unknown[i];
        auto const text = std::string_view{u.why}.substr(0, ledger_text_max);
        body.put(u.segment).put(u.after).put(static_cast<std::uint16_t>(text.size())).put(as_bytes(text));
    }
    out.resize(format::header_bytes + body.written());
    format::header_block head{};
    format::field_writer h{head};
    h.put(ledger_magic).put(ledger_version).put(checksum_id{C::id}.value).put(byte_view{store});
    h.put(std::uint64_t{ledger.accepted.size()}).put(std::uint64_t{unknown}).put(std::uint64_t{body.written()});
    h.put(checksum::over<C>(byte_view{out}.subspan(format::header_bytes)));
    format::detail::seal_block<C>(head);
    std::ranges::copy(head, out.begin());
    return out;
}

/// Returns nothing if the bytes are not a ledger of this store, or do not verify.
template <checksum_policy C>
[[nodiscard]] std::optional<loss_ledger> decode_ledger(byte_view bytes, format::store_id const& store) {
    if (bytes.size() < format::header_bytes || bytes.size() > ledger_bytes_max ||
        !format::detail::block_verifies<C>(bytes.first(format::header_bytes)))
        return std::nullopt;
    format::field_reader h{bytes.first(format::header_bytes)};
    if (h.get<std::uint64_t>() != ledger_magic || h.get<std::uint32_t>() != ledger_version) return std::nullopt;
    static_cast<void>(h.get<std::uint32_t>());
    if (h.bytes<16>() != store) return std::nullopt;
    auto const accepted = h.get<std::uint64_t>();
    auto const unknown = h.get<std::uint64_t>();
    auto const body = bytes.subspan(format::header_bytes);
    if (h.get<std::uint64_t>() != body.size() || h.get<std::uint64_t>() != checksum::over<C>(body) ||
        accepted > body.size() / 16 || unknown > ledger_unknown_max)
        return std::nullopt;
    loss_ledger out;
    format::field_reader in{body};
    lsn last{};
    for (std::uint64_t i = 0; i < accepted; ++i) {
        lsn_range r;
        r.first = in.get_lsn();
        r.last = in.get_lsn();
        if (r.empty() || r.first <= last || r.last > lsn_highest) return std::nullopt;
        last = r.last;
        out.accepted.push_back(r);
    }
    for (std::uint64_t i = 0; i < unknown; ++i) {
        unknown_extent u;
        u.segment = in.get_segment();
        u.after = in.get_lsn();
        u.why = as_text(in.view(in.get<std::uint16_t>()));
        if (!in.ok()) return std::nullopt;
        out.unknown.push_back(std::move(u));
    }
    if (!in.ok() || in.left() != 0) return std::nullopt;
    return out;
}

/// Reads the ledger. Returns an empty ledger if the file is missing or does not verify. Errors: the machine's, if
/// it cannot open an existing file.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] result<loss_ledger> read_ledger(Fs& fs, wal::layout const& paths, format::store_id const& store) {
    auto file = fs.open(paths.losses(), io::access::read_only, io::creation::must_exist);
    if (!file) {
        auto const code = file.error().code;
        if (code == errc::not_found || code == errc::not_regular) return loss_ledger{};
        return failure(std::move(file).error());
    }
    KEEL_TRY_LET(status, file->status());
    if (status.size > ledger_bytes_max) return loss_ledger{};
    std::vector<std::byte> bytes(static_cast<std::size_t>(status.size));
    auto const got = file->read(0, bytes);
    auto ledger = got && *got == bytes.size() ? decode_ledger<C>(bytes, store) : std::nullopt;
    if (!ledger) return loss_ledger{};
    for (auto& u : ledger->unknown) u.file = paths.inside(u.segment ? paths.segment(u.segment) : paths.manifest(0));
    return std::move(*ledger);
}

/// Replaces the ledger. The new one is durable when this returns. Errors: too_large, the machine's. Then the old ledger is still there.
template <checksum_policy C, io::file_system Fs>
[[nodiscard]] result<void> write_ledger(Fs& fs, wal::layout const& paths, format::store_id const& store,
                                        loss_ledger const& ledger) {
    auto const bytes = encode<C>(ledger, store);
    if (bytes.size() > ledger_bytes_max)
        return failure(errc::too_large, "so many losses cannot be accepted one by one", paths.losses());
    auto made = fs.make_directory(paths.quarantine());
    if (!made && made.error().code != errc::exists) return failure(std::move(made).error());
    KEEL_TRY(fs.sync_directory(paths.root()));
    return wal::replace_file(fs, paths.losses(), bytes);
}

/// Sets the declared losses in a report, up to `end`: the accepted ones and the others. Adds the unknown extents of the ledger.
inline void show_losses(recovery_report& report, std::vector<lsn_range> const& declared, lsn end,
                        loss_ledger const& ledger) {
    wal::lsn_set all;
    for (auto const& r : declared) all.add({r.first, std::min(r.last, end)});
    wal::lsn_set accepted;
    for (auto const& r : ledger.accepted) accepted.add(r);
    wal::lsn_set open;
    for (auto const& r : all.ranges())
        for (auto const& gap : accepted.gaps_in(r)) open.add(gap);
    report.declared_lost_lsn_ranges = open.ranges();
    report.declared_lost_records = open.count();
    report.accepted_lost_lsn_ranges.clear();
    for (auto const& r : all.ranges())
        for (auto const& gap : open.gaps_in(r)) report.accepted_lost_lsn_ranges.push_back(gap);
    // The first note of an extent counts: the log may have gone on since, so a new one would name a later LSN.
    for (auto const& u : ledger.unknown) {
        auto const known = std::ranges::find(report.unknown_extents, u.segment, &unknown_extent::segment);
        if (known != report.unknown_extents.end()) *known = u;
        else report.unknown_extents.push_back(u);
    }
}

/// The ledger after all losses declared so far, and all unknown extents, are accepted.
[[nodiscard]] inline loss_ledger accepted_now(loss_ledger const& before, std::vector<lsn_range> const& declared,
                                              recovery_report const& found) {
    wal::lsn_set all;
    for (auto const* list : {&before.accepted, &declared, &found.declared_lost_lsn_ranges})
        for (auto const& r : *list) all.add(r);
    return {.accepted = all.ranges()};
}

/// The reasons why a store with this report is not healthy, one for each cause. Empty: it is healthy.
[[nodiscard]] inline std::vector<wal::start_condition> conditions_of(recovery_report const& r) {
    std::vector<wal::start_condition> out;
    auto const lost = std::to_string(std::max(r.lost_records, r.declared_lost_records)) +
                      " acknowledged record(s) were ";
    if (r.lost_records != 0) {
        out.push_back({state_cause::loss, lost + "lost; see recovery()"});
    } else if (r.declared_lost_records != 0) {
        out.push_back({state_cause::loss, lost + "declared lost by an earlier repair, the first is LSN " +
                                              std::to_string(r.declared_lost_lsn_ranges.front().first.value) +
                                              "; see recovery(); accept_loss() says that somebody knows"});
    }
    std::string unknown;
    for (auto const& u : r.unknown_extents)
        if (unknown.size() < 1000)
            unknown += u.why + ": how many acknowledged records after LSN " + std::to_string(u.after.value) +
                       " were lost is not known (" + u.file + "); ";
    if (!unknown.empty()) out.push_back({state_cause::unknown_extent, unknown + "see recovery()"});
    // A missing file is not reported twice: the unknown extent, or the loss, covers it already.
    auto const is_told = [&](finding const& f) {
        bool const gone = f.kind == damage::missing_segment || f.kind == damage::chain_broken;
        bool const is_unknown = std::ranges::find(r.unknown_extents, f.file, &unknown_extent::file) !=
                                r.unknown_extents.end();
        return f.lost != 0 || f.kind == damage::unknown_extent || (gone && (is_unknown || r.lost_records != 0));
    };
    auto const costs_nothing = [&](finding const& f) { return f.is_corruption() && !is_told(f); };
    // Keys that compaction could not read have no answer from then on.
    auto const of_keys = std::ranges::find_if(
        r.findings, [](finding const& f) { return f.done == outcome::declared_lost && f.file.ends_with(".tab"); });
    if (of_keys != r.findings.end()) out.push_back({state_cause::damage, of_keys->file + ": " + of_keys->detail});
    else if (r.healed_records != 0 || std::ranges::any_of(r.findings, costs_nothing))
        out.push_back({state_cause::damage, "damage was found that cost no record; see recovery()"});
    return out;
}

} // namespace keel::inline v0::recovery

#endif
