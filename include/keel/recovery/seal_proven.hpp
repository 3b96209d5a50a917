// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_SEAL_PROVEN_HPP
#define KEEL_RECOVERY_SEAL_PROVEN_HPP

// Seals segments that earlier crashes left. A sealed segment is mounted from then on. Without a seal every later opening would scan it.
//
// Which segments: a segment without a seal that a later header names as crashed or rolled, with its last LSN and its end. That header was
// written after all counted records of the segment were synced. So the bytes up to that end are proven, and nothing behind that end
// counts. All these bytes must verify, and no LSN may be missing. An abandoned segment is not sealed: behind its end it holds copies of
// records that were acknowledged in another segment, and with a seal no scan would find these copies. The newest segment is not sealed:
// only a later header tells where its records end.
// How: index and filter are written behind the last tag of this life, so torn bytes stay as evidence. Then the footer is
// written, the file is synced, and the manifest gets the seal edit. Before that edit the footer has no effect, and a
// crash leaves the segment as it was.
//
// When: in an opening, before the scan, one segment after the other, each with its own edit. So an interrupted recovery (no
// memory, no space, cancelled, killed) has not scanned in vain: the next one continues behind the last segment sealed.
// Memory: the keys of one segment.
// After a single crash recovery writes nothing: it scans the newest segment alone. A few more unsealed segments are scanned, not sealed,
// because a sync costs more than reading them. They are sealed if there are `unsealed_max` of them, or if the log was closed in order,
// because then no caller waits for a recovery. Sealing could also run after the opening, as housekeeping, and would cost the opening no
// time. But then each process that dies before it would leave one more segment to scan.
// Nothing is sealed in a read-only opening, under a policy that refuses (it changes nothing), or while the
// last repair can still be undone.

#include <keel/error.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/options.hpp>
#include <keel/recovery/inventory.hpp>
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

/// From this number of unsealed segments on, sealing them pays. Fewer are scanned at each opening.
inline constexpr std::size_t unsealed_max = 4;

namespace detail {

/// A scan_sink that collects keys.
class key_collector {
public:
    void record(lsn, format::frame_view const& frame, std::uint64_t offset) {
        if (frame.header.type == format::frame_type::put || frame.header.type == format::frame_type::erase)
            keys_.add(as_text(frame.key()), offset, frame.header.lsn_delta);
    }
    void batch_end(bool) noexcept {} // a segment with a broken batch is not sealed
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

    /// The segments that may be sealed, as far as headers tell.
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

    /// Seals the candidates and returns how many it sealed. An error of the machine ends it early and does no harm: the other segments
    /// are scanned. Errors: cancelled.
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
                manifest_.retry(); // the edit may be durable or not; both states of the manifest are true
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

    /// Returns false if the records are not those that the link names. Then the segment stays as it is.
    [[nodiscard]] result<bool> seal(found_segment& s, format::segment_link const& link) {
        KEEL_TRY_LET(file, fs_.open(s.path, io::access::read_write, io::creation::must_exist));
        auto where = s.geometry;
        where.known_end = segment_geometry{}.known_end;
        where.limit = link.end;
        key_collector found;
        auto const run = scan_segment<C>(file, where, found, cancel_);
        auto const seal = run.cancelled ? std::nullopt : seal_of(s, link, run);
        if (!seal) return false;
        // Bytes behind the end, valid or torn, are evidence and must not be overwritten.
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
