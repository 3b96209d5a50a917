// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_OPENING_HPP
#define KEEL_RECOVERY_OPENING_HPP

// Opens a store: lock, inventory, scan, verdict, and a repair if the policy says so. The engine and the log start from the result.
// If a store is whole, or only torn by a crash, opening writes nothing: the first write does the necessary work before it
// (wal/writer.hpp). There are three exceptions: the attempt counter in the notes, which an opening that fails in order restores; repairs;
// and the seals of segments that several crashes left (seal_proven.hpp).

#include <keel/observe/event_queue.hpp>
#include <keel/recovery/carry_out.hpp>
#include <keel/recovery/examine.hpp>
#include <keel/recovery/hand_over.hpp>
#include <keel/recovery/loss_ledger.hpp>
#include <keel/recovery/plan.hpp>
#include <keel/recovery/repair_progress.hpp>
#include <keel/recovery/seal_proven.hpp>
#include <keel/recovery/store_lock.hpp>
#include <keel/wal/catalog.hpp>
#include <keel/wal/notes_file.hpp>
#include <keel/wal/segment_pool.hpp>
#include <keel/wal/store_identity.hpp>
#include <keel/wal/writer_start.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace keel::inline v0::recovery {

/// A store that is open and recovered, before anything is written to it.
template <class Config>
struct opened {
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;

    opened(examination what, fs_type through) : exam{std::move(what)}, fs{std::move(through)} {}

    examination exam;
    fs_type fs; ///< bound to the store's folder, if the file system can do that; all later operations go through it
    repair_plan plan{};
    loss_ledger ledger{};
    std::vector<segment_id> gone{}; ///< registered segments whose file is gone and that may have held records
    std::shared_ptr<wal::store_identity<fs_type>> identity{}; ///< of a writer: the store's lock
    std::optional<wal::double_lock<fs_type>> readers{};       ///< of a reader: the lock on `readers`
    std::optional<wal::notes_file<C, fs_type>> notes{};
    std::unique_ptr<wal::segment_pool<C, fs_type>> pool{};
    std::unique_ptr<wal::catalog> parts{std::make_unique<wal::catalog>()};
    wal::writer_start start{};
    std::vector<served_segment> served{};
};

namespace detail {

template <class Config>
class opener {
public:
    using fs_type = typename Config::file_system;
    using C = typename Config::checksum;
    using manifest_type = wal::manifest_store<C, fs_type>;
    using opened_type = opened<Config>;

    opener(fs_type const& fs, std::string directory, std::uint64_t segment_bytes, open_options const& options,
           observe::event_queue<typename Config::observer>& events)
        : fs_{fs}, paths_{std::move(directory)}, segment_bytes_{segment_bytes}, options_{options}, events_{events} {}

    template <scan_sink Sink>
    result<opened_type> run(std::vector<Sink>& sinks) {
        KEEL_TRY_LET(made, find_folder(fs_, paths_, options_));
        made_folder_ = made;
        if (options_.read_only) return look(sinks);
        KEEL_TRY_LET(held, lock_store(fs_, paths_));
        identity_ = std::move(held);
        auto done = recover(sinks);
        if (!done && attempts_ != 0) notes_->restore();
        return done;
    }

private:
    // ---- read-only, perhaps beside a writer -----------------------------------------------------------------------------------

    /// Opens without writing. Damage that a reader sees beside a writer may be a change in progress. So the reader examines the store
    /// again. It believes the damage once no writer could write meanwhile, or after the last retry.
    template <scan_sink Sink>
    result<opened_type> look(std::vector<Sink>& sinks) {
        KEEL_TRY_LET(readers, join_readers(fs_, paths_));
        for (int turn = 0;; ++turn) {
            // Keep writers away only after damage was seen: a writer that opens waits for this lock (lock_store).
            std::optional<result<wal::double_lock<fs_type>>> away;
            if (turn == 0) {
                beside_writer_ = somebody_writes();
            } else {
                away.emplace(keep_writers_away(fs_, paths_));
                beside_writer_ = is_held(*away);
            }
            bool const alone = !beside_writer_ && turn != 0;
            believed_ = alone || turn == retries_max;
            auto done = recover(sinks);
            bool const clear = done ? done->exam.report.findings.empty() : done.error().code == errc::cancelled;
            if (believed_ || (clear && (beside_writer_ || !somebody_writes()))) {
                if (done) done->readers = std::move(readers);
                return done;
            }
            sinks.clear();
            wait_a_little(turn);
        }
    }
    [[nodiscard]] bool somebody_writes() { return is_held(keep_writers_away(fs_, paths_)); }
    [[nodiscard]] static bool is_held(result<wal::double_lock<fs_type>> const& lock) noexcept {
        return !lock && lock.error().code == errc::locked;
    }

    // ---- recovery -----------------------------------------------------------------------------------------------------------

    template <scan_sink Sink>
    result<opened_type> recover(std::vector<Sink>& sinks) {
        auto const choice = Config::repair_for(options_.repair);
        auto const before_scan = [&](inventory& stock) -> result<std::uint64_t> {
            manifest_.reset();
            KEEL_TRY(count_attempt(stock));
            return seal_proven(stock, choice);
        };
        KEEL_TRY_LET(exam, examine<Config>(fs_, paths_.root(), options_, sinks, before_scan));
        if (!exam.stock.exists) return create(std::move(exam));
        paths_ = exam.stock.paths;
        opened_type out{std::move(exam), fs_};
        auto& stock = out.exam.stock;
        // The extent may be unknown only because existing notes could not be opened. That is an error of the machine, not damage.
        if (!out.exam.found.unknown.empty() && stock.notes_refused) return failure(*stock.notes_refused);
        KEEL_TRY_LET(ledger, (read_ledger<C>(fs_, paths_, stock.store)));
        out.ledger = std::move(ledger);
        out.plan = plan_repair(out.exam, choice, repair_scope::what_is_lost, begun_before(stock, choice));
        out.exam.report.notice = out.plan.notice;
        KEEL_TRY(refuse_if_asked(out, choice));
        auto& manifest = manifest_of(stock);
        if (options_.read_only) {
            out.start.read_only = true;
            out.start.cause = state_cause::opened_read_only;
            out.start.reason = "opened read-only";
        } else {
            KEEL_TRY(ask_the_medium_again<Config>(fs_, out.exam, out.plan));
            repair(out, choice, manifest);
            // Nobody needs the records that a sink received from a file that the repair replaced: free them.
            for (auto const& r : out.plan.segments)
                if (!manifest.state().segments.contains(stock.segments[r.segment].entry.id)) sinks[r.segment] = Sink{};
        }
        for (auto const id : out.plan.not_ingested) stock.state.tables.erase(id);
        tell(out, manifest.state());
        finish(out, std::move(manifest));
        return out;
    }

    /// The one manifest object for all edits of this opening.
    [[nodiscard]] manifest_type& manifest_of(inventory const& stock) {
        if (!manifest_) manifest_.emplace(adopted_manifest<Config>(fs_, stock, options_, identity_));
        return *manifest_;
    }

    /// Seals segments that crashes left. Returns how many were sealed.
    result<std::uint64_t> seal_proven(inventory& stock, repair_choice const& choice) {
        using sealer = proven_sealer<C, fs_type>;
        if (options_.read_only || !stock.exists || choice.decide({}) == decision::refuse) return std::uint64_t{0};
        auto const candidates = sealer::candidates(stock);
        if (!sealer::is_due(stock, candidates.size()) || can_be_undone(stock)) return std::uint64_t{0};
        return sealer{fs_, stock, manifest_of(stock), options_.cancel}.run(candidates);
    }
    /// Whether the last repair can still be undone, because nothing was written since. An edit that only saves time must not end that.
    [[nodiscard]] bool can_be_undone(inventory const& stock) {
        if (stock.state.next_repair < 2) return false;
        auto const p = read_progress<C>(fs_, repair_folder{stock.paths, stock.state.next_repair - 1}, stock.store);
        return p && p->is_newest(stock.state);
    }
    /// The segments that an interrupted repair has not replaced yet.
    [[nodiscard]] std::set<segment_id> begun_before(inventory const& stock, repair_choice const& choice) {
        bool const changes_nothing = options_.read_only || choice.decide({}) == decision::refuse;
        if (changes_nothing || !stock.manifest.state) return {};
        return rest_of_repair<C>(fs_, stock.paths, stock.store, *stock.manifest.state);
    }

    /// Ends a crash loop inside recovery. The count of attempts survives a killed process. An orderly end
    /// takes this attempt off the count.
    result<void> count_attempt(inventory const& stock) {
        if (options_.read_only || !stock.exists) return {};
        auto file = wal::notes_file<C, fs_type>::open(fs_, paths_.notes());
        if (!file) return {}; // the notes are a hint: without them attempts are not counted
        notes_.emplace(std::move(*file));
        // Without anything to scan or to repair, recovery has no work in which it could die. So nothing is written.
        if (stock.findings.empty() && std::ranges::all_of(stock.segments, &found_segment::mounted)) return {};
        auto last = notes_->last();
        bool const ours = last.store == stock.store && last.branch == stock.branch;
        if (!ours) last = {};
        auto const most = options_.max_recovery_attempts.value_or(Config::recovery_attempts::recovery_attempts_max);
        if (most != 0 && last.attempts >= most) {
            notes_.reset();
            return failure(errc::recovery_attempts,
                           "recovery was begun " + std::to_string(last.attempts) +
                               " times without coming to an end; look at the store with wal-recovery validate, then "
                               "raise max_recovery_attempts or repair it",
                           paths_.root());
        }
        attempts_ = last.attempts + 1;
        last.attempts = attempts_;
        last.store = stock.store;
        last.branch = stock.branch;
        notes_->write(signed_anew(last, stock.note_is_own));
        return {};
    }

    /// The note to write again under the id of this boot. Only the durable LSN is valid in any boot. The accepted LSN, its segment and
    /// its end describe page caches, which a power loss has emptied. If they were written again, a later opening would stop its search
    /// for the log's end in front of records that were acknowledged since.
    [[nodiscard]] static format::note signed_anew(format::note n, bool of_this_boot) noexcept {
        if (of_this_boot) return n;
        n.accepted = n.durable;
        n.segment = {};
        n.end = 0;
        n.newest_index = 0;
        return n;
    }

    result<opened_type> create(examination exam) {
        if (!options_.create_if_missing || options_.read_only)
            return failure(errc::not_found, "there is no store here; create it by opening with create_if_missing",
                           paths_.root());
        auto& stock = exam.stock;
        auto const high = options_.entropy();
        auto const low = options_.entropy();
        format::store(stock.store.data(), high);
        format::store(stock.store.data() + 8, low);
        stock.branch = 1;
        auto made = fs_.make_directory(paths_.log());
        if (!made && made.error().code != errc::exists) return failure(std::move(made).error());
        auto notes = wal::notes_file<C, fs_type>::open(fs_, paths_.notes());
        manifest_type manifest{fs_, paths_, stock.store, stock.branch, options_.entropy, options_.clock_ns};
        manifest.belongs_to(identity_);
        KEEL_TRY(sync_parent(fs_, paths_, made_folder_));
        KEEL_TRY(fs_.sync_directory(paths_.root())); // a power loss must not leave a manifest without a log folder
        KEEL_TRY(manifest.create({}));
        static_cast<void>(fs_.lock(paths_.readers(), io::lock_mode::exclusive)); // creates the file for readers to lock
        opened_type out{std::move(exam), fs_};
        if (notes) notes_.emplace(std::move(*notes));
        finish(out, std::move(manifest));
        return out;
    }

    /// Refuses the opening if the policy says so. An unknown extent that is in the ledger is no reason: an earlier opening went on
    /// behind it, as behind a declared loss.
    result<void> refuse_if_asked(opened_type& out, repair_choice const& choice) {
        auto const& found = out.exam.found;
        auto const is_new = [&](unknown_extent const& u) { return !out.ledger.knows(u.segment); };
        auto const unknown = std::ranges::find_if(found.unknown, is_new);
        if (out.plan.what != decision::refuse || (found.lost.empty() && unknown == found.unknown.end())) return {};
        auto why = found.lost.empty() ? unknown_refused(*unknown, choice) : loss_refused(out, choice);
        for (auto f : found.findings) {
            f.done = outcome::refused;
            if (believed_) events_.push(observe::damage_found{f});
        }
        return failure(std::move(why));
    }
    [[nodiscard]] error loss_refused(opened_type const& out, repair_choice const& choice) const {
        auto const& found = out.exam.found;
        error why{.code = errc::corruption,
                  .message =
                      std::to_string(out.plan.lost_records) + " acknowledged record(s) are damaged, the first is LSN " +
                      std::to_string(found.lost.front().first.value) + ", and the repair policy '" +
                      std::string{choice.name} +
                      "' changes nothing: restore a backup, or run wal-recovery repair with a strategy of your choice",
                  .at = found.lost.front().first};
        auto const at = [&](finding const& f) { return f.lost != 0 && f.lsns.contains(why.at); };
        if (auto const first = std::ranges::find_if(found.findings, at); first != found.findings.end()) {
            why.file = paths_.path(first->file);
            why.offset = first->offset;
        }
        return why;
    }
    [[nodiscard]] error unknown_refused(unknown_extent const& what, repair_choice const& choice) const {
        return {.code = errc::corruption,
                .message = what.why + ": how many acknowledged records behind LSN " + std::to_string(what.after.value) +
                           " were lost is not known, and the repair policy '" + std::string{choice.name} +
                           "' changes nothing: put the file back, restore a backup, or run wal-recovery repair with a "
                           "strategy of your choice",
                .file = paths_.path(what.file)};
    }

    void repair(opened_type& out, repair_choice const& choice, manifest_type& manifest) {
        auto const started = clock::now();
        auto& report = out.exam.report;
        auto carried = carry_out_repair<Config>(fs_, out.exam, out.plan, options_, choice.name, manifest,
                                                report.findings);
        if (carried.done) {
            report.quarantined = carried.done->quarantined;
            built_ = std::move(carried.done->built);
        }
        // Note an unknown end of the log before anything is written behind it.
        if (carried.outcome) carried.outcome = remember_unknown<Config>(fs_, out.exam, out.ledger);
        if (!carried.outcome) {
            // Serve the records that verify from their old files. Write nothing behind damage that could not be repaired.
            out.start.read_only = true;
            out.start.reason = "the repair could not be carried out: " + to_string(carried.outcome.error());
        }
        report.repair_time = clock::now() - started;
    }

    void tell(opened_type& out, format::manifest_state const& now) {
        auto& report = out.exam.report;
        report.lost_records = out.plan.lost_records;
        if (!out.plan.declare.empty()) report.lost_lsn_ranges = out.plan.declare;
        report.corrupted_records = std::max(report.corrupted_records, report.healed_records);
        report.attempts = std::max(attempts_, 1U);
        auto declared = out.exam.found.declared;
        declared.insert(declared.end(), now.losses.begin(), now.losses.end());
        show_losses(report, declared, out.plan.end, out.ledger);
        if (believed_)
            for (auto const& f : report.findings) events_.push(observe::damage_found{f});
        out.start.conditions = conditions_of(report);
    }

    void finish(opened_type& out, manifest_type manifest) {
        auto& stock = out.exam.stock;
        auto& start = out.start;
        start.last = out.plan.end;
        // A writer may still take back records that it has not acknowledged. A reader beside it must not show them.
        if (beside_writer_ && stock.note_is_own)
            start.last = std::max(std::min(start.last, stock.note->accepted), stock.state.log_start_lsn);
        start.durable = std::min(out.exam.found.horizon, start.last);
        if (stock.note && stock.note_is_own)
            start.durable = std::min(start.durable, std::max(stock.note->durable, stock.state.log_start_lsn));
        hand_over const all{out.exam, out.plan, manifest.state(), built_, paths_};
        all.link_to_newest(start);
        // Loss frames above the end of the log must become void: write `void_from`.
        for (auto const& r : out.exam.found.declared) start.voids_needed = start.voids_needed || r.last > start.last;
        all.list_parts(start, *out.parts, out.served);
        out.pool = std::make_unique<wal::segment_pool<C, fs_type>>(fs_, paths_, std::move(manifest), stock.store,
                                                                   stock.branch, segment_bytes_, options_.entropy,
                                                                   options_.clock_ns);
        if (!start.read_only) adopt_spares(out);
        // This run could not open the notes, so it cannot update them. Remove them: they must not be taken for notes of this run.
        if (!notes_ && !options_.read_only) static_cast<void>(fs_.remove(paths_.notes()));
        if (notes_ && (attempts_ != 0 || !stock.exists)) {
            auto n = stock.exists ? notes_->last() : format::note{};
            n.attempts = 0;
            n.store = stock.store;
            n.branch = stock.branch;
            notes_->write(n);
        }
        stop_at_damaged_tables(out);
        out.identity = std::move(identity_);
        out.notes = std::move(notes_);
        out.exam.report.records = 0;
        for (auto const& c : out.plan.counted) out.exam.report.records += c.range.size();
        set_range(out.exam.report, stock, out.plan.counted);
    }

    /// Keys in a damaged part of a table have no answer, and no repair policy invents one. The store serves all
    /// other keys and turns read-only.
    static void stop_at_damaged_tables(opened_type& out) {
        auto const no_answer = [](finding const& f) {
            bool const of_table = f.kind == damage::missing_table || f.file.ends_with(".tab");
            bool const is_known = f.done == outcome::healed || f.done == outcome::declared_lost;
            return of_table && f.is_corruption() && !is_known;
        };
        auto const& findings = out.exam.stock.findings;
        auto const first = std::ranges::find_if(findings, no_answer);
        if (first == findings.end()) return;
        out.start.read_only = true;
        out.start.cause = state_cause::damage;
        out.start.reason = first->file + ": " + first->detail + "; put the file back from a copy or a backup";
    }

    /// Lists the spare segments that the first write takes over, and the files that it removes. A spare segment whose file is gone is
    /// retired then, too. If it is unknown whether the segment was a spare, it stays in the manifest until its loss is accepted.
    void adopt_spares(opened_type& out) {
        auto const known = out.pool->state();
        auto const& unknown = out.exam.found.unknown;
        auto const is_known = [&](segment_id id) {
            return std::ranges::find(unknown, id, &unknown_extent::segment) == unknown.end();
        };
        std::vector<segment_id> never_used;
        for (auto const& s : out.exam.stock.spare) {
            if (!known->segments.contains(s.entry.id)) continue;
            if (s.present) out.start.spares.push_back(s.entry);
            else if (is_known(s.entry.id)) never_used.push_back(s.entry.id);
            else out.gone.push_back(s.entry.id);
        }
        std::vector<std::string> leftovers;
        for (auto const& l : out.exam.stock.leftovers) {
            if (l.retired) out.start.retired.push_back(*l.retired);
            else if (l.is_ours) leftovers.push_back(l.path);
        }
        out.pool->tidy_later(std::move(leftovers), std::move(never_used));
    }

    fs_type fs_;
    wal::layout paths_;
    std::uint64_t segment_bytes_;
    open_options const& options_;
    observe::event_queue<typename Config::observer>& events_;
    std::shared_ptr<wal::store_identity<fs_type>> identity_{};
    std::optional<wal::notes_file<C, fs_type>> notes_{};
    std::optional<manifest_type> manifest_{};
    std::vector<built_segment> built_{};
    unsigned attempts_ = 0;
    bool made_folder_ = false;
    bool beside_writer_ = false;
    bool believed_ = true; ///< findings are final: they are reported as events
};

} // namespace detail

/// Opens or creates the store and recovers it. `segment_bytes`: size of the segments made from now on. `sinks[i]` received the verified
/// records of segment i of stock.segments. plan.counted tells which of them count.
template <class Config, scan_sink Sink>
[[nodiscard]] result<opened<Config>> open_store(typename Config::file_system const& fs, std::string directory,
                                                std::uint64_t segment_bytes, open_options const& options,
                                                observe::event_queue<typename Config::observer>& events,
                                                std::vector<Sink>& sinks) {
    return detail::opener<Config>{fs, std::move(directory), segment_bytes, options, events}.run(sinks);
}

} // namespace keel::inline v0::recovery

#endif
