// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_SEAL_PROVEN_HPP
#define KEEL_RECOVERY_SEAL_PROVEN_HPP

// Sealing what earlier crashes left, so that it is mounted from then on instead of scanned by every opening for ever.
//
// Which: a segment without a seal that a later header names as crashed, or rolled, with its last LSN and its end. That header was written
// after all that counts of the segment was synced; so up to that end the bytes are proven, and nothing behind it counts. All of them
// verify, and the LSNs leave none out. Not an abandoned one: behind its end stand copies of records that were acknowledged elsewhere, and
// with a seal nobody would find them there again. Not the newest one: only the segment behind it says where its records end.
// How: index and filter go behind the last tag of this life, so torn bytes stay as evidence; footer; sync; then the manifest's seal edit.
// Until that the footer means nothing, and a crash leaves the segment as it was.
//
// When: while opening, before the scan, one segment after the other, each with an edit of its own. So a recovery that ran out of memory or
// room, was cancelled or killed has not scanned for nothing: the next one goes on behind the last one sealed. Memory: the keys of one.
// The usual recovery, of a log that one crash has left, still writes nothing: the newest segment alone is scanned. A few more are scanned
// rather than sealed, because syncs cost more than reading them; from `unsealed_max` on, or where the log was closed in order and nobody
// waits for a recovery, they are sealed. Behind an opening, as housekeeping, it would cost no opening any time; but then every process
// that dies before it comes to that would leave one more to be scanned.
// Never read-only, never under a policy that refuses (it changes nothing), never while the last repair can still be undone.

#include <keel/error.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/recovery/inventory.hpp>
#include <keel/recovery/options.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/wal/manifest.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// So many segments that crashes left are scanned at each opening before it pays to seal them.
inline constexpr std::size_t unsealed_max = 4;

namespace detail {

/// Takes keys from a scan.
class key_collector {
public:
    void record(lsn, format::frame_view const& frame, std::uint64_t offset) {
        if (frame.header.type == format::frame_type::put || frame.header.type == format::frame_type::erase)
            keys_.add(as_text(frame.key()), offset, frame.header.lsn_delta);
    }
    void batch_end(bool) noexcept {} // one that is not whole is not sealed
    [[nodiscard]] wal::index_builder const& keys() const noexcept { return keys_; }

private:
    wal::index_builder keys_{};
};

template <checksum_policy C, io::file_system Fs>
class proven_sealer {
public:
    using manifest_type = wal::manifest_store<C, Fs>;

    proven_sealer(Fs& fs, inventory& stock, manifest_type& manifest, std::stop_token cancel)
        : fs_{fs}, stock_{stock}, manifest_{manifest}, cancel_{std::move(cancel)} {}

    /// Which may be sealed, as far as headers tell.
    [[nodiscard]] static std::vector<std::size_t> candidates(inventory const& stock) {
        std::vector<std::size_t> out;
        if (!stock.manifest.state || stock.state.edit < stock.manifest.marked) return out;
        auto const links = links_of(stock.segments);
        auto const voids = void_from(stock.segments);
        for (std::size_t i = 0; i + 1 < stock.segments.size(); ++i) {
            auto const& s = stock.segments[i];
            auto const link = links.find(s.entry.id);
            if (link != links.end() && may_be_sealed(s, link->second, voids[i])) out.push_back(i);
        }
        return out;
    }
    /// Whether it is time to seal them.
    [[nodiscard]] static bool is_due(inventory const& stock, std::size_t candidates) {
        return candidates != 0 && (candidates >= unsealed_max || stock.segments.back().entry.seal);
    }

    /// Seals them; how many. An error of the machine ends it early and costs nothing: the rest is scanned. Errors: cancelled.
    [[nodiscard]] result<std::uint64_t> run(std::vector<std::size_t> const& candidates) {
        auto const links = links_of(stock_.segments);
        std::uint64_t done = 0;
        for (auto const i : candidates) {
            auto const sealed = seal(stock_.segments[i], links.at(stock_.segments[i].entry.id));
            if (cancel_.stop_requested())
                return failure(errc::cancelled,
                               "recovery was cancelled; of what crashes had left " + std::to_string(done) +
                                   " segment(s) were sealed, and the next opening goes on behind them",
                               stock_.paths.root());
            if (!sealed) {
                manifest_.retry(); // whether that edit is kept or not, it says what is true
                break;
            }
            done += *sealed;
        }
        if (done != 0) stock_.state = manifest_.state();
        return done;
    }

private:
    [[nodiscard]] static bool may_be_sealed(found_segment const& s, format::segment_link const& link, lsn void_from) {
        using format::segment_end;
        bool const fit = s.registered && s.present && !s.entry.seal && s.header && s.entry.place == s.entry.id &&
                         s.header->state == format::segment_state::active && s.file_bytes == s.entry.size &&
                         s.header->size == s.entry.size;
        return fit && link.salt == s.entry.salt &&
               (link.ended == segment_end::crashed || link.ended == segment_end::rolled) &&
               link.last >= s.geometry.first && link.last < void_from && link.end > s.geometry.begin &&
               link.end <= s.geometry.limit;
    }

    /// False: what lies there is not what the link says, and stays as it is.
    [[nodiscard]] result<bool> seal(found_segment& s, format::segment_link const& link) {
        KEEL_TRY_LET(file, fs_.open(s.path, io::access::read_write, io::creation::must_exist));
        auto where = s.geometry;
        where.known_end = segment_geometry{}.known_end;
        where.limit = link.end;
        key_collector found;
        auto const run = scan_segment<C>(file, where, found, cancel_);
        auto const seal = run.cancelled ? std::nullopt : seal_of(s, link, run);
        if (!seal) return false;
        // Whatever stands behind, valid or torn, keeps its place.
        where.begin = link.end;
        where.limit = s.geometry.limit;
        no_sink nobody;
        auto const behind = scan_segment<C>(file, where, nobody, cancel_);
        if (behind.cancelled) return false;
        auto const size = s.entry.size;
        KEEL_TRY_LET(made, wal::write_sections<C>(file, found.keys(), seal->count, seal->salt,
                                                  std::max(link.end, behind.tag_end), size));
        format::segment_footer footer{.seal = *seal};
        for (auto const& section : {made.index, made.filter})
            if (section) footer.sections[footer.section_count++] = *section;
        KEEL_TRY(file.write(format::footer_offset(size), format::encode<C>(footer)));
        KEEL_TRY(file.sync());
        format::edit_builder edit;
        edit.sealed(*seal);
        KEEL_TRY(manifest_.commit(edit));
        s.entry.seal = *seal;
        s.footer = footer;
        s.geometry.limit = seal->data_end;
        return true;
    }
    [[nodiscard]] static std::optional<format::segment_seal> seal_of(found_segment const& s,
                                                                     format::segment_link const& link,
                                                                     segment_run const& run) {
        lsn_range const all{s.geometry.first, link.last};
        bool const whole = run.bad.empty() && run.broken_batches.empty() && run.unreadable.empty() &&
                           run.losses.empty() && run.extents.size() == 1 && run.extents.front().range == all &&
                           run.records == all.size() && run.data_end == link.end;
        if (!whole) return std::nullopt;
        format::segment_seal out{.id = s.entry.id,
                                 .salt = s.entry.salt,
                                 .range = all,
                                 .count = run.records,
                                 .data_end = link.end,
                                 .first_time_ns = run.first_time_ns,
                                 .last_time_ns = run.last_time_ns,
                                 .aggregate = run.aggregate};
        out.chain = format::chain_value<C>(s.header->previous.chain, out);
        bool const agrees = link.ended != format::segment_end::rolled ||
                            (link.aggregate == out.aggregate && link.chain == out.chain);
        return agrees ? std::optional{out} : std::nullopt;
    }

    Fs& fs_;
    inventory& stock_;
    manifest_type& manifest_;
    std::stop_token cancel_;
};

} // namespace detail

} // namespace keel::inline v0::recovery

#endif
