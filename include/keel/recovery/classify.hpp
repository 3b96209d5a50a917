// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_CLASSIFY_HPP
#define KEEL_RECOVERY_CLASSIFY_HPP

// Runs -> verdict: which records count, where the log ends, which damage is the trace of a crash, and which damage is corruption.
// Pure: touches no file. The rules are those of the design, section 8, "Which bytes count":
//   - A header's void_from voids that LSN and all above in every segment before it. Losses that these segments declare are voided, too.
//   - Horizon: the largest durable mark in anything that is not void. In the boot that wrote the notes, also their accepted LSN.
//   - For each LSN the newest segment with a whole batch wins. A declared loss stays lost, even if its bytes verify again.
//   - A missing LSN at or below the horizon is corruption. Above the horizon the log ends before the first missing LSN. All bytes behind
//     that end are the torn tail, even if they verify.
//
// Bytes that do not verify. Every state is in the table once:
//   | their LSNs                               | finding         |
//   | at least one is lost                     | corrupt_record  |
//   | behind the end of the log                | torn_tail       |
//   | all are whole in another segment         | damaged_copy    |
//   | none (a mark, filler), or declared lost  | damaged_filler  |
//   | none (a block of index or filter)        | damaged_filler  |
//   | judged before: behind the end that a later header or the seal names | none: evidence of an old crash |
// LSNs that are lost without such bytes: missing_records. The end of the log may be gone without a trace: unknown_extent (extent.hpp).
//
// Time: O(n log n) in the number n of extents and damaged places found, even if most of them are damaged.

#include <keel/recovery/extent.hpp>
#include <keel/recovery/inventory.hpp>
#include <keel/recovery/report.hpp>
#include <keel/recovery/scan.hpp>
#include <keel/wal/lsn_set.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

using wal::counted_range;
using wal::lsn_set;

struct verdict {
    lsn horizon{};
    lsn end{};                            ///< the last LSN of the log; no counted record is above it
    lsn highest_seen{};                   ///< the largest LSN of any valid record, counted or not
    std::vector<counted_range> counted{}; ///< in LSN order
    std::vector<lsn_range> lost{};        ///< acknowledged LSNs that no file holds and no loss declares
    /// The part of `lost` whose damaged bytes were found, with their segment. Each LSN is in it once.
    std::vector<counted_range> lost_in{};
    std::vector<lsn_range> declared{}; ///< losses declared by manifest or frames
    std::vector<unknown_extent> unknown{};
    std::vector<finding> findings{};
    std::uint64_t torn_tail_bytes = 0;
    std::uint64_t behind_cut = 0; ///< valid records that do not count
    std::uint64_t healed = 0;     ///< records that do not verify in one segment but do in another
    std::vector<lsn> proven{};    ///< per segment: up to here its bytes were synced, or are in the page cache
    std::vector<std::size_t> damaged_segments{}; ///< segments with bytes that cost records or copies
    bool clean_close = false;
};

/// classify() calls such an object once for each step of its loops. This one does nothing; tests count the steps.
struct uncounted_steps {
    void operator()() const noexcept {}
};

namespace detail {

template <class Steps>
class classifier {
public:
    classifier(inventory const& stock, std::vector<segment_run> const& runs, Steps& step)
        : stock_{stock}, runs_{runs}, step_{step} {}

    [[nodiscard]] verdict run() {
        name_segments();
        find_cuts();
        find_horizon();
        cover();
        find_end();
        judge_bad_bytes();
        judge_missing();
        judge_tails();
        judge_chains();
        judge_extents();
        count();
        return std::move(out_);
    }

private:
    [[nodiscard]] found_segment const& segment(std::size_t i) const { return stock_.segments[i]; }

    void name_segments() {
        for (auto const& s : stock_.segments) {
            step_();
            index_.emplace(s.entry.id, names_.size());
            names_.push_back(stock_.paths.inside(s.path));
        }
        last_corrupt_.assign(names_.size(), 0);
        is_damaged_.assign(names_.size(), false);
        for (auto const& r : stock_.state.removed) removed_.insert(r.id);
    }

    void find_cuts() {
        auto const n = stock_.segments.size();
        void_from_ = void_from(stock_.segments);
        judged_end_.assign(n, lsn_max.value);
        followed_.assign(n, false);
        unchanged_.assign(n, false);
        for (std::size_t i = 0; i < n; ++i) {
            step_();
            if (segment(i).entry.seal) judged_end_[i] = std::min(judged_end_[i], segment(i).entry.seal->data_end);
            auto const& h = segment(i).header;
            auto const named = h ? index_.find(h->previous.id) : index_.end();
            if (named == index_.end() || named->second >= i) continue;
            auto const before = named->second;
            followed_[before] = true;
            unchanged_[before] = h->previous.ended == format::segment_end::crashed &&
                                 h->previous.aggregate == runs_[before].aggregate;
            if (h->previous.ended != format::segment_end::rolled)
                judged_end_[before] = std::min(judged_end_[before], h->previous.end);
        }
    }

    [[nodiscard]] lsn below_cut(lsn at, std::size_t i) const noexcept { return std::min(at, void_from_[i].before()); }

    void find_horizon() {
        auto h = stock_.state.log_start_lsn;
        for (std::size_t i = 0; i < runs_.size(); ++i) {
            h = std::max(h, below_cut(runs_[i].marked, i));
            if (segment(i).header) h = std::max(h, below_cut(segment(i).header->durable_mark, i));
            if (segment(i).entry.seal) h = std::max(h, below_cut(segment(i).entry.seal->range.last, i));
        }
        for (auto const& [id, t] : stock_.state.tables)
            if (t.level == 0) h = std::max(h, t.lsns.last); // it was durable, with all LSNs before it, before this edit
        if (stock_.note) h = std::max(h, stock_.note->durable);
        if (stock_.note && stock_.note_is_own) h = std::max(h, stock_.note->accepted);
        out_.horizon = h;
        for (std::size_t i = 0; i < runs_.size(); ++i) out_.proven.push_back(proven_in(i));
    }

    /// Newest segment first: an LSN that a newer segment covers is not taken from an older one.
    void cover() {
        for (auto const& r : stock_.state.losses) declared_.add(r);
        for (std::size_t i = 0; i < runs_.size(); ++i)
            for (auto const& r : runs_[i].losses) declared_.add({r.first, below_cut(r.last, i)});
        covered_ = declared_;
        for (std::size_t i = runs_.size(); i-- > 0;) {
            for (auto const& e : runs_[i].extents) {
                lsn_range r{std::max(e.range.first, stock_.state.log_start_lsn.next()),
                            std::min(e.range.last, void_from_[i].before())};
                for (auto const& part : covered_.gaps_in(r)) {
                    step_();
                    winners_.push_back({part, i});
                }
                covered_.add(r);
            }
            out_.highest_seen = std::max(out_.highest_seen, runs_[i].last);
        }
        // Ingested records are in tables. If the log's frame for that LSN is gone, no record is lost.
        for (auto const& [id, t] : stock_.state.tables)
            if (t.level == 0 && t.lsns.last > stock_.state.log_start_lsn) covered_.add(t.lsns);
        std::ranges::sort(winners_, {}, [](counted_range const& c) { return c.range.first; });
    }

    void find_end() {
        auto const floor = stock_.state.log_start_lsn;
        out_.lost = covered_.gaps_in({floor.next(), out_.horizon});
        lost_ = wal::lsn_ranges{out_.lost};
        out_.declared = declared_.ranges();
        auto const beyond = covered_.gaps_in({out_.horizon.next(), lsn_max});
        out_.end = beyond.empty() ? out_.horizon : beyond.front().first.before();
        for (auto const& w : winners_)
            if (w.range.first <= out_.end)
                out_.counted.push_back({{w.range.first, std::min(w.range.last, out_.end)}, w.segment});
    }

    void judge_bad_bytes() {
        for (std::size_t i = 0; i < runs_.size(); ++i)
            for (auto const& bad : runs_[i].bad_sections) {
                mark_damaged(i);
                out_.findings.push_back(
                    {.kind = damage::damaged_filler,
                     .file = names_[i],
                     .offset = bad.offset,
                     .length = bad.length,
                     .detail = "the segment's index does not verify; its records do, and it is made of "
                               "them anew when it is needed"});
            }
        for (std::size_t i = 0; i < runs_.size(); ++i)
            for (auto const& bad : runs_[i].bad)
                if (bad.offset < judged_end_[i]) judge(i, bad);
    }

    void judge(std::size_t i, bad_bytes const& bad) {
        step_();
        lsn_range r = bad.lsns;
        bool const open = r.last == lsn_max; // nothing valid follows in this segment
        if (open) r.last = std::max(out_.horizon, r.first.before());
        finding f{.file = names_[i],
                  .offset = bad.offset,
                  .length = bad.length,
                  .lsns = bad.is_data ? r : lsn_range{},
                  .expected = bad.expected,
                  .found = bad.found};
        auto const lost_here = bad.is_data ? lost_.count_in(r) : 0;
        if (lost_here != 0) {
            explain(r, i);
            f.kind = damage::corrupt_record;
            if (open) f.lsns = lost_.ends_in(r); // other segments hold the LSNs behind the last lost one
            f.lost = lost_here;
            f.detail = std::to_string(lost_here) + " acknowledged record(s) do not verify and no other copy is left";
        } else if (is_crash_trace(i, bad, open) || unchanged_[i]) {
            traces_.push_back(
                {i, bad.offset, bad.length}); // of the torn tail, which judge_tail() reports once, or of an old tail
            return;
        } else if (bad.is_data && !r.empty() && bad.exact && !declared_.contains(r.first)) {
            f.kind = damage::damaged_copy;
            f.done = outcome::healed;
            f.detail = "does not verify here; another segment holds the same record";
            ++out_.healed;
        } else {
            f.kind = damage::damaged_filler;
            f.detail = "bytes between records do not verify; no record is missing";
        }
        if (bad.unreadable) f.kind = lost_here != 0 ? f.kind : damage::unreadable;
        if (bad.unreadable) f.detail += " (the medium could not read them)";
        bool const unused_end = open && !segment(i).entry.seal && !followed_[i];
        if (f.kind != damage::damaged_filler || !unused_end) {
            mark_damaged(i);
            if (f.kind == damage::corrupt_record) last_corrupt_[i] = std::max(last_corrupt_[i], f.offset);
            out_.findings.push_back(std::move(f));
        }
    }
    /// Notes that the lost LSNs in `r` were in segment `i`, except those that other damaged bytes account for.
    void explain(lsn_range r, std::size_t i) {
        for (auto const& gap : explained_.gaps_in(r))
            lost_.each_in(gap, [&](lsn_range part) {
                step_();
                out_.lost_in.push_back({part, i});
            });
        explained_.add(r);
    }

    // A segment is synced completely before it is sealed, and before the next segment is used. So a crash tears nothing in a
    // sealed or followed segment. In other segments the bytes up to the last LSN proven in this file were synced, and a crash
    // may tear the bytes behind them.
    [[nodiscard]] bool is_crash_trace(std::size_t i, bad_bytes const& bad, bool open) const noexcept {
        if (segment(i).entry.seal || followed_[i]) return false;
        auto const proven = out_.proven[i];
        if (!bad.is_data || bad.lsns.empty()) return bad.after >= proven || bad.after >= void_from_[i].before();
        return bad.lsns.first > proven || bad.lsns.first >= void_from_[i] || (open && i + 1 == runs_.size());
    }

    /// The largest LSN whose bytes in segment `i` are known to have been written whole. The horizon does not prove that: after a failed
    /// sync or a crash, records are copied into the next segment, and a crash may tear the copies of records that were proven elsewhere.
    /// Frames behind the copies have a larger mark than the header. Without such a frame nothing in the file is proven.
    [[nodiscard]] lsn proven_in(std::size_t i) const noexcept {
        if (segment(i).entry.seal) return segment(i).entry.seal->range.last;
        auto const& h = segment(i).header;
        auto proven = h && runs_[i].marked <= h->durable_mark ? lsn{} : runs_[i].marked;
        if (stock_.note && stock_.note_is_own && stock_.note->segment == segment(i).entry.id)
            proven = std::max(proven, stock_.note->accepted);
        return proven;
    }

    void mark_damaged(std::size_t i) {
        if (is_damaged_[i]) return;
        is_damaged_[i] = true;
        out_.damaged_segments.push_back(i);
    }

    /// First the lost records that verify but whose batch is not whole. Then the lost LSNs without a trace.
    void judge_missing() {
        for (std::size_t i = 0; i < runs_.size(); ++i)
            for (auto const& b : runs_[i].broken_batches) {
                step_();
                lost_.each_in(b.range, [&](lsn_range both) {
                    step_();
                    if (!explained_.touches(both)) judge_broken(i, b, both);
                });
            }
        for (auto const& l : out_.lost)
            for (auto const& gap : explained_.gaps_in(l)) {
                step_();
                out_.findings.push_back({.kind = damage::missing_records,
                                         .file = "log",
                                         .lsns = gap,
                                         .lost = gap.size(),
                                         .detail = "acknowledged, and no file holds them or a trace of them"});
            }
    }
    void judge_broken(std::size_t i, extent const& batch, lsn_range lost) {
        explain(lost, i);
        mark_damaged(i);
        last_corrupt_[i] = std::max(last_corrupt_[i], batch.begin);
        out_.findings.push_back(
            {.kind = damage::corrupt_record,
             .file = names_[i],
             .offset = batch.begin,
             .length = batch.end - batch.begin,
             .lsns = lost,
             .lost = lost.size(),
             .detail = "these records verify, but their batch is not whole: other records of it are damaged"});
    }

    /// Valid but uncounted records, and torn bytes, in the segments whose end no later header and no seal has fixed.
    void judge_tails() {
        auto next = traces_.cbegin(); // in the order of the segments
        for (std::size_t i = 0; i < runs_.size(); ++i) {
            auto const first = next;
            for (; next != traces_.cend() && next->segment == i; ++next) step_();
            if (judged_end_[i] == lsn_max.value) judge_tail(i, {first, next});
        }
        for (auto const& run : runs_)
            for (auto const& b : run.broken_batches) out_.behind_cut += b.range.size();
    }
    struct trace {
        std::size_t segment;
        std::uint64_t offset;
        std::uint64_t length;
    };
    void judge_tail(std::size_t i, std::span<trace const> traces) {
        auto const& run = runs_[i];
        auto const last = std::min(out_.end, void_from_[i].before());
        auto end = kept_end(i);
        for (auto const& e : run.extents)
            if (e.range.last > last)
                out_.behind_cut += e.range.last.value - std::max(last, e.range.first.before()).value;
        // Mark frames behind the last record are not a torn tail. If no record was cut, everything up to the last valid frame stays.
        bool const cut_any = run.last > out_.end || !std::ranges::all_of(run.broken_batches, [&](auto const& b) {
                                 return b.range.last <= out_.horizon;
                             });
        if (!cut_any) end = std::max(end, run.data_end);
        // A power loss may also tear bytes in front of records that it left whole.
        for (auto const& t : traces) {
            step_();
            if (t.offset < end) cut_tail(i, t.offset, std::min(t.length, end - t.offset));
        }
        // Bytes that were reported as corruption are not reported again as a torn tail.
        if (run.tag_end > end && (cut_any || last_corrupt_[i] < end)) cut_tail(i, end, run.tag_end - end);
    }
    /// Offset behind the last record of segment `i` that counts.
    [[nodiscard]] std::uint64_t kept_end(std::size_t i) const noexcept {
        auto const last = std::min(out_.end, void_from_[i].before());
        auto end = segment(i).geometry.begin;
        for (auto const& e : runs_[i].extents) {
            if (e.range.last <= last) end = std::max(end, e.end);
            else if (e.range.first <= last) end = std::max(end, e.begin);
        }
        return end;
    }

    void cut_tail(std::size_t i, std::uint64_t offset, std::uint64_t length) {
        out_.torn_tail_bytes += length;
        out_.findings.push_back({.kind = damage::torn_tail,
                                 .file = names_[i],
                                 .offset = offset,
                                 .length = length,
                                 .done = outcome::cut,
                                 .detail = "never acknowledged; the bytes stay where they are"});
    }

    /// The frames of a sealed segment must give its aggregate. The segment before each segment must be the one that its header names.
    void judge_chains() {
        for (std::size_t i = 0; i < runs_.size(); ++i) {
            step_();
            auto const& s = segment(i);
            auto const& run = runs_[i];
            bool const quiet = run.bad.empty() && s.present;
            if (s.entry.seal && quiet &&
                (run.aggregate != s.entry.seal->aggregate || run.data_end != s.entry.seal->data_end))
                chain_finding(damage::seal_mismatch, i,
                              "its frames verify one by one but do not add up to what was sealed");
            if (!s.header || !s.header->previous.id || s.entry.place != s.entry.id) continue;
            auto const& link = s.header->previous;
            if (auto const before = stock_.state.segments.find(link.id); before != stock_.state.segments.end()) {
                auto const& seal = before->second.seal;
                if (before->second.salt != link.salt ||
                    (seal && link.ended == format::segment_end::rolled && seal->chain != link.chain))
                    chain_finding(damage::chain_broken, i, "the segment before is not the one its header names");
            } else if (link.id.value > stock_.state.log_base.id.value && !removed_.contains(link.id) &&
                       !was_empty(*s.header) && stock_.manifest.state) {
                // Segments up to the base were retired. A segment whose header names an older one was given up before it was used.
                chain_finding(damage::chain_broken, i,
                              "the segment before it is gone and the manifest has no word of it");
            }
        }
    }
    // A crash may undo the activation of a segment in which no record counted. Then it was a spare again, and it has been used up since.
    [[nodiscard]] bool was_empty(format::segment_header const& next) const {
        auto const& link = next.previous;
        bool const stopped = link.ended == format::segment_end::crashed || link.ended == format::segment_end::abandoned;
        return stopped && link.end <= format::frames_begin(next.size);
    }
    void chain_finding(damage kind, std::size_t i, std::string detail) {
        out_.findings.push_back({.kind = kind, .file = names_[i], .detail = std::move(detail)});
    }

    /// Reports where the end of the log may be gone and nothing says how much of it.
    void judge_extents() {
        if (!stock_.exists) return;
        auto const links = links_of(stock_.segments);
        for (std::size_t i = 0; i < stock_.segments.size(); ++i) judge_extent(segment(i), i, links);
        for (auto const& s : stock_.spare) judge_extent(s, runs_.size(), links);
        // Without a complete manifest nothing shows that the newest segment present is the newest segment of the log.
        bool const all_registered = stock_.manifest.state && stock_.state.edit >= stock_.manifest.marked;
        if (!all_registered && !notes_tell())
            add_unknown({}, "manifest.0",
                        "both manifests were lost, and with them the word of which segments there were");
    }
    void judge_extent(found_segment const& s, std::size_t run, segment_links const& links) {
        step_();
        auto const facts = facts_of(s, run, links);
        if (prove_extent(facts) == extent_proof::none)
            add_unknown(s.entry.id, stock_.paths.inside(s.path), std::string{why_unknown(facts)});
    }
    /// `run`: the number of its run; runs_.size() if it has none.
    [[nodiscard]] extent_facts facts_of(found_segment const& s, std::size_t run, segment_links const& links) const {
        extent_facts f{.sealed = s.entry.seal.has_value(),
                       .named = links.contains(s.entry.id),
                       .later_in_use = !stock_.segments.empty() && stock_.segments.back().entry.place > s.entry.place,
                       .notes_tell = notes_tell(),
                       .present = s.present};
        if (s.header)
            f.use = s.header->state == format::segment_state::prepared ? use_seen::prepared : use_seen::active;
        f.whole = s.file_bytes >= s.entry.size;
        f.readable = run == runs_.size() || std::ranges::none_of(runs_[run].unreadable, [&](wal::byte_range const& u) {
                         return u.offset + u.length > kept_end(run);
                     });
        return f;
    }
    [[nodiscard]] bool notes_tell() const noexcept { return stock_.note && stock_.note_is_own; }
    void add_unknown(segment_id id, std::string file, std::string why) {
        out_.findings.push_back({.kind = damage::unknown_extent,
                                 .file = file,
                                 .detail = why + ": how many acknowledged records behind LSN " +
                                           std::to_string(out_.end.value) + " were lost is not known"});
        out_.unknown.push_back({.segment = id, .file = std::move(file), .after = out_.end, .why = std::move(why)});
    }

    void count() {
        // Closed in order: the newest segment ends in a close mark, and nothing is torn.
        out_.clean_close = !runs_.empty() && runs_.back().closed && out_.torn_tail_bytes == 0;
    }

    inventory const& stock_;
    std::vector<segment_run> const& runs_;
    Steps& step_;
    std::map<segment_id, std::size_t> index_{};
    std::vector<std::string> names_{};
    std::set<segment_id> removed_{};
    std::vector<std::uint64_t> last_corrupt_{}; ///< per segment: where the last corrupt_record begins
    std::vector<bool> is_damaged_{};
    std::vector<lsn> void_from_{};
    std::vector<std::uint64_t> judged_end_{}; ///< an earlier recovery, or the seal, left out the bytes behind it
    /// After a crash a later header noted the aggregate of the segment, and it is still the same: bytes that do not
    /// verify now did not verify then.
    std::vector<bool> unchanged_{};
    std::vector<bool> followed_{}; ///< a later header names the segment: it was synced before the later one was used
    std::vector<trace> traces_{};  ///< bytes that do not verify because of a crash
    lsn_set covered_{};
    lsn_set declared_{};
    wal::lsn_ranges lost_{};
    lsn_set explained_{}; ///< LSNs that damaged bytes account for, lost or not
    std::vector<counted_range> winners_{};
    verdict out_{};
};

} // namespace detail

/// Judges everything that was found. `runs[i]` belongs to `stock.segments[i]`. Calls `step()` once for each step of its loops.
template <class Steps>
[[nodiscard]] verdict classify(inventory const& stock, std::vector<segment_run> const& runs, Steps& step) {
    return detail::classifier<Steps>{stock, runs, step}.run();
}
[[nodiscard]] inline verdict classify(inventory const& stock, std::vector<segment_run> const& runs) {
    uncounted_steps none;
    return classify(stock, runs, none);
}

} // namespace keel::inline v0::recovery

#endif
