// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_HPP
#define KEEL_ENGINE_HPP

// The store: ordered keys and values over the write-ahead log, which is its level zero: records are read from where they were written.
//
// put -> wal/writer (log, group commit) -> table/memtable -> visible to readers; a segment that is full is sealed with a sorted index
// and served from there (engine/levels.hpp); behind, segments and tables are merged into tables (engine/compactor.hpp). Readers take
// no lock that is held during I/O of a writer or a merge.

#include <keel/engine/batch.hpp>
#include <keel/engine/compaction_by_hand.hpp>
#include <keel/engine/compaction_thread.hpp>
#include <keel/engine/compactor.hpp>
#include <keel/engine/found_damage.hpp>
#include <keel/engine/ingestion.hpp>
#include <keel/engine/levels.hpp>
#include <keel/engine/scan.hpp>
#include <keel/engine/scan_calls.hpp>
#include <keel/engine/storage_report.hpp>
#include <keel/engine/transact.hpp>
#include <keel/engine/transaction.hpp>
#include <keel/engine/verify.hpp>
#include <keel/io/limits.hpp>
#include <keel/io/process.hpp>
#include <keel/io/thread.hpp>
#include <keel/log.hpp>
#include <keel/recovery/index_collector.hpp>
#include <keel/wal/store_lifetime.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <concepts>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0 {

/// A store over one configuration. Moves; not copyable. All calls may come from several threads at once, close() and moves apart.
/// After close(), in an object that was moved from, and in a process that was forked from the one that opened it, every call says
/// closed; in such a process nothing is done, by the destructor either.
template <class Config>
class basic_engine : public detail::scan_calls<basic_engine<Config>, basic_scan<detail::reading_config<Config>>,
                                               basic_scan<detail::reading_config<Config>, std::string_view>> {
    using reading = detail::reading_config<Config>;

public:
    using config_type = Config;
    using transaction = basic_transaction<Config>;
    using key_scan = basic_scan<reading>;
    using keys_only = basic_scan<reading, std::string_view>;
    using file_system = typename Config::file_system;
    using observer = typename Config::observer;

    /// The longest key.
    static constexpr std::uint64_t key_bytes_max = format::key_bytes_max;
    /// The most bytes that key and value have together: a record fits one segment, and a table.
    static constexpr std::uint64_t record_bytes_max = std::min(wal::record_bytes_max_of(Config::segment_bytes),
                                                               format::record_bytes_max);

    /// Opens the store in this folder, or makes one, and recovers it: see recovery() for what was found. With `read_only` it is what the
    /// store was at this moment, whoever writes to it meanwhile, restarts or merges: open again to see more. Errors: not_found,
    /// not_a_store, wrong_format, wrong_policy, locked, corruption (where the repair policy refuses), recovery_attempts,
    /// cancelled, and the machine's.
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options = {},
                                                   file_system fs = {})
        requires std::default_initializable<observer>
    {
        return open(std::move(directory), options, std::move(fs), observer{});
    }
    /// The same with an observer of your own, which may hold a logger.
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options, file_system fs,
                                                   observer told) {
        auto const events = std::make_shared<events_type>(std::move(told));
        auto db = open_beside_writers(directory, options, fs, events);
        events->deliver();
        return db;
    }

    basic_engine(basic_engine&&) noexcept = default;
    basic_engine& operator=(basic_engine&& other) noexcept {
        let_go(); // before the levels it writes to
        levels_ = std::move(other.levels_);
        core_ = std::move(other.core_);
        merging_ = std::move(other.merging_);
        lifetime_ = std::move(other.lifetime_);
        return *this;
    }
    ~basic_engine() { let_go(); }

    /// Sets the value of a key. Returns the LSN once the write is as safe as the durability policy says. Errors: invalid_argument
    /// (empty key), too_large (nothing was written), read_only, outcome_unknown, closed.
    [[nodiscard]] result<lsn> put(slice key, slice value) {
        wal::operation const op{.type = format::frame_type::put, .key = key.bytes(), .value = value.bytes()};
        return commit(std::span{&op, 1});
    }
    /// Removes a key; it need not be there.
    [[nodiscard]] result<lsn> erase(slice key) {
        wal::operation const op{.type = format::frame_type::erase, .key = key.bytes()};
        return commit(std::span{&op, 1});
    }
    /// The same, and what was written survives power loss when this returns its LSN, whatever the durability policy. On an error of the sync
    /// the write may be there all the same.
    [[nodiscard]] result<lsn> put(slice key, slice value, durable_t) { return kept(put(key, value)); }
    [[nodiscard]] result<lsn> erase(slice key, durable_t) { return kept(erase(key)); }
    [[nodiscard]] result<lsn> write(write_batch const& batch, durable_t) { return kept(write(batch)); }

    /// Removes every key of a range that has a value when the call begins; returns how many. Takes time in proportion to them. As many as
    /// fit go in one batch: a range of a few hundred keys is gone as a whole or not at all, of a larger one a crash or an error may
    /// leave the end; asking again removes the rest. Errors: those of a write, and of a scan.
    [[nodiscard]] result<std::uint64_t> erase(range const& which) {
        auto all = this->keys(which);
        write_batch part;
        std::uint64_t part_bytes = 0; // of the log
        std::uint64_t done = 0;
        auto const commit_part = [&]() -> result<void> {
            if (part.empty()) return {};
            auto const count = part.size();
            KEEL_TRY(write(part));
            done += count;
            part.clear();
            part_bytes = 0;
            return {};
        };
        for (auto const key : all) {
            auto const bytes = format::frame_bytes(key.size());
            if (part_bytes + bytes > erase_batch_bytes) KEEL_TRY(commit_part());
            part.erase(key);
            part_bytes += bytes;
        }
        KEEL_TRY(all.status());
        KEEL_TRY(commit_part());
        return done;
    }
    [[nodiscard]] result<std::uint64_t> erase(prefix const& which) { return erase(which.as_range()); }

    /// All of the batch or nothing. Returns the LSN of its last operation.
    [[nodiscard]] result<lsn> write(write_batch const& batch) {
        if (batch.empty()) return failure(errc::invalid_argument, "an empty batch has no LSN");
        auto const operations = batch.operations();
        return commit(operations);
    }

    /// Adds sorted data in one step, without the log: written once, into tables, with one LSN for all of it, which is returned. It is there
    /// as a whole or not at all, survives power loss whatever the durability policy, and takes the place of what its keys had. `sorted` is
    /// an input range of pairs of key and value, each text or bytes (slice), in bytewise order of the keys, each key once.
    /// Writers wait only for the last step, a few syncs. Memory: a key of each block, and 8 bytes a key, of one table at a time.
    /// Errors: invalid_argument (out of order, an empty key, no element), too_large, no_space, read_only, closed, and those of a scan that is
    /// ingested: nothing was ingested;
    /// outcome_unknown: the store is read-only, and the next open tells.
    template <std::ranges::input_range Sorted>
        requires requires(std::ranges::range_reference_t<Sorted> kv) {
            slice{std::get<0>(kv)};
            slice{std::get<1>(kv)};
        }
    [[nodiscard]] result<lsn> ingest(Sorted&& sorted) {
        if (!is_open()) [[unlikely]]
            return why_closed();
        KEEL_TRY(core_->before_write());
        KEEL_TRY(core_->writer().takes_writes());
        merging_->wait_for_room({});
        KEEL_TRY_LET(ids, merging_->work.ids());
        detail::ingestion<Config> all{**core_, **levels_, *ids};
        for (auto&& kv : sorted) KEEL_TRY(all.add(slice{std::get<0>(kv)}.text(), slice{std::get<1>(kv)}.text()));
        if constexpr (requires { result<void>{sorted.status()}; }) KEEL_TRY(sorted.status()); // a scan that ended early
        auto done = all.finish();
        // Level 0 is merged with the log up to there, which has to take no more records for it.
        if (done && merging_->work.ingested_needs_roll_over()) static_cast<void>(core_->writer().roll_over());
        return done;
    }

    /// The value of a key now, or as of a snapshot; nothing where it has none.
    [[nodiscard]] result<std::optional<std::string>> get(slice key) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        auto const view = levels_->view(); // first this, then the moment
        return get_at(*view, key.text(), core_->writer().visible());
    }
    [[nodiscard]] result<std::optional<std::string>> get(slice key, snapshot const& as_of) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        if (!as_of.belongs_to(levels_->held())) return failure(detail::of_another_store());
        return get_at(*levels_->view(), key.text(), as_of.at());
    }

    /// This moment, for reads that must not change. Reading through it needs the store, which keeps what it sees as long as it lives.
    [[nodiscard]] keel::snapshot snapshot() const { return keel::snapshot{is_open() ? hold_moment() : nullptr}; }

    /// The values of several keys at one moment, in the order asked for.
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(
        std::span<std::string_view const> keys) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        auto const view = levels_->view();
        auto const at = core_->writer().visible();
        core_->after_read(keys.size());
        std::vector<std::optional<std::string>> out(keys.size());
        auto done = view->find_all(keys, at, [&](std::size_t i, auto found) {
            if (found) out[i] = std::move(found->value);
        });
        view->tell_damage();
        if (!done) return failure(std::move(done).error());
        return out;
    }

    /// The same for any other range of keys, and for a list in braces.
    template <slice_range Keys>
        requires(!std::convertible_to<Keys, std::span<std::string_view const>>)
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(Keys&& keys) const {
        std::vector<std::string_view> texts;
        for (slice const key : keys) texts.push_back(key.text());
        return multi_get(std::span<std::string_view const>{texts});
    }
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(std::initializer_list<slice> keys) const {
        return multi_get(std::span{keys.begin(), keys.size()});
    }

    /// About how many bytes on the disk hold the keys of a range, all their versions among them, to a block or so for each file. Reads
    /// indexes, no records. What was written last and is in memory, too, is not counted.
    [[nodiscard]] result<std::uint64_t> approximate_size(range const& which) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        auto const view = levels_->view();
        auto size = view->approximate_size(which.from, which.to);
        view->tell_damage();
        return size;
    }
    [[nodiscard]] result<std::uint64_t> approximate_size(prefix const& which) const {
        return approximate_size(which.as_range());
    }

    /// Verifies the segments that take no more records, and the tables, while the store serves: with `deep` every byte of them, with
    /// `quick` nothing but that they are there and can be opened. Findings are events, make the store degraded and stand in the corruption
    /// log; nothing is changed.
    [[nodiscard]] result<recovery_report> verify(verify_depth how = verify_depth::deep) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        recovery_report report;
        auto const view = levels_->view();
        auto const names = file_names();
        segment_id last{};
        for (auto const& r : view->runs) { // chunks of one segment stand together
            report.segments += std::exchange(last, r->source().id) != last;
            KEEL_TRY(detail::verify_segment<reading>(*r, how, names, report));
        }
        if (how == verify_depth::quick) report.mounted_segments = report.segments;
        KEEL_TRY(verify_tables(how, report));
        return report;
    }

    /// A transaction that reads from this moment (engine/transaction.hpp). After a commit that said `conflict`, of whatever thread, it waits
    /// until the record that came first is visible: a transaction that reads behind that record would meet it again. That is one sync at
    /// most, and none where no commit has met a record that is on its way to the disk; snapshot() and get() never wait.
    [[nodiscard]] transaction begin() const {
        if (!is_open()) return transaction{lifetime_};
        core_->writer().wait_for_conflict();
        return {*core_, *levels_, hold_moment(), lifetime_, merging_->delay()};
    }

    /// Runs `fn(transaction&)` and commits what it did; where another commit came first, runs it again in a new transaction that sees that one,
    /// after a short pause, as often as `how` says. `fn` returns T or result<T>, and T may be void:
    ///   void, result<void>   result<lsn>            the LSN of the last write, as transaction::commit() has it
    ///   T, result<T>         result<committed<T>>   the value, and that LSN
    /// An error that `fn` returns is the answer, as it is, and nothing was written; an exception of it passes, and nothing was written. `fn` may
    /// run several times, so what it does to anything but its transaction it does several times. It must not end the transaction.
    /// It holds no lock, and may call the store. Any thread; threads that change the same keys take turns.
    /// Errors: those of `fn`; conflict (another commit came first in each run); invalid_argument (`fn` ended the transaction); those of a write.
    template <std::invocable<transaction&> Fn>
    [[nodiscard]] auto transact(Fn&& fn, transact_options const& how = {}) {
        return run_transaction(fn, how, [](transaction& tx) { return tx.commit(); });
    }
    /// The same, and what was written survives power loss when this returns, whatever the durability policy. On an error of the sync it may
    /// be there all the same; it is not run again then.
    template <std::invocable<transaction&> Fn>
    [[nodiscard]] auto transact(Fn&& fn, transact_options const& how, durable_t) {
        return run_transaction(fn, how, [](transaction& tx) { return tx.commit(durable); });
    }
    template <std::invocable<transaction&> Fn>
    [[nodiscard]] auto transact(Fn&& fn, durable_t) {
        return transact(fn, transact_options{}, durable);
    }

    /// Sets a key to what `fn` makes of its value: `fn(std::optional<std::string> const& old)` gives the new value, or an optional one, where
    /// nothing erases the key; either may be in a result, whose error is the answer, and nothing was written. Nothing comes between
    /// the read and the write: as of transact(). Returns the LSN of the write.
    template <std::invocable<std::optional<std::string> const&> Fn>
    [[nodiscard]] result<lsn> update(slice key, Fn&& fn, transact_options const& how = {}) {
        return transact([&](transaction& tx) { return change_value(tx, key, fn); }, how);
    }
    template <std::invocable<std::optional<std::string> const&> Fn>
    [[nodiscard]] result<lsn> update(slice key, Fn&& fn, transact_options const& how, durable_t) {
        return transact([&](transaction& tx) { return change_value(tx, key, fn); }, how, durable);
    }
    template <std::invocable<std::optional<std::string> const&> Fn>
    [[nodiscard]] result<lsn> update(slice key, Fn&& fn, durable_t) {
        return update(key, fn, transact_options{}, durable);
    }

    /// Merges all records into the tables of one level, whatever the compaction policy says, and gives the log's segments back. Reads
    /// and writes go on meanwhile; what they write is not waited for. What cannot be read is left behind: the damaged file goes to
    /// quarantine/, and its keys keep the answer they had, an error. Errors: corruption (part of the log does not verify and stays,
    /// once all else is merged), no_space, those of a write. Nothing is lost by them.
    [[nodiscard]] result<void> compact() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        KEEL_TRY(core_->before_write());
        if (auto const sealed = seal_for_merge(); !sealed) {
            // On a full disk: what is sealed already gives room, and then the rest can be.
            if (!core_->writer().lacks_space()) return sealed;
            KEEL_TRY(merging_->work.all());
            KEEL_TRY(core_->writer().resume());
            KEEL_TRY(seal_for_merge());
        }
        KEEL_TRY(merging_->work.all());
        return merging_->work.damaged();
    }
    /// Verifies every table as verify() does, and writes those that are damaged anew: what it cannot read is left behind, as by compact().
    /// Gives how many they were. Reads and writes go on meanwhile. Errors: as of compact().
    [[nodiscard]] result<std::uint64_t> repair_tables() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        KEEL_TRY(core_->before_write());
        recovery_report report;
        KEEL_TRY(verify_tables(verify_depth::deep, report));
        auto const found = damaged_tables(0);
        if (found == 0) return found;
        if (damaged_tables(1) != found) { // those of level 0 go down with the log
            KEEL_TRY(seal_for_merge());
            KEEL_TRY(merging_->work.all());
        }
        KEEL_TRY(merging_->work.damaged());
        if (damaged_tables(0) == 0) return found;
        return failure(errc::read_only, "tables stay as they are: " + core_->writer().state_reason());
    }
    /// Where the bytes are, and what merging them costs.
    [[nodiscard]] storage_report storage() const {
        storage_report out;
        if (!is_here()) return out;
        auto const manifest = core_->manifest();
        for (auto const& [id, s] : manifest->segments) {
            ++out.segments;
            out.log_bytes += s.size;
        }
        for (auto const& [id, t] : manifest->tables) {
            ++out.levels[t.level].tables;
            out.levels[t.level].bytes += t.size;
            out.levels[t.level].records += t.records;
        }
        auto const done = merging_->work.counters();
        out.merges = done.merges;
        out.merge_bytes_read = done.bytes_read;
        out.merge_bytes_written = done.bytes_written;
        out.records_dropped = done.records_dropped;
        auto const delay = merging_->delay()->report();
        out.stalled_writes = delay.waits;
        out.stalled_time = delay.waited;
        out.write_rate = delay.rate;
        out.log_waiting = merging_->work.log_bytes();
        auto const& files = levels_->open_files();
        out.open_files = files.open();
        out.open_files_max = files.limits().files;
        out.mapped_files = files.mapped();
        return out;
    }

    /// All writes accepted before the call survive power loss once it returns. Errors: read_only, closed, the machine's; io_error, where
    /// accepted records were lost to a sync that failed before, until accept_loss().
    [[nodiscard]] result<void> sync() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        KEEL_TRY(core_->before_write());
        return core_->writer().sync();
    }
    /// Says that somebody knows of all that was declared lost, or may be lost, up to now: state() is no longer degraded for it, and later
    /// opens show it as accepted. What this open found stays in recovery(). Errors: read_only (of an opening that never writes), closed,
    /// the machine's; then nothing is accepted.
    [[nodiscard]] result<void> accept_loss() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        return core_->accept_loss();
    }
    /// After a failure that left the store read-only: tries to become writable again. Where the disk is full, what of the log is superseded
    /// is given back first, out of the reserve if need be.
    [[nodiscard]] result<void> resume() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        auto done = core_->writer().resume();
        if (done || done.error().code != errc::no_space || core_->read_only()) return done;
        return merging_->work.make_room() ? core_->writer().resume() : done;
    }
    /// Syncs, marks the orderly end, lets the lock go. The destructor does the same and cannot tell of a failure. Safe to call twice.
    /// A scan that is under way ends with `closed` at its next step. Errors: as of sync(); the store is closed all the same.
    [[nodiscard]] result<void> close() {
        if (!is_here()) return why_closed();
        merging_->stop();
        return core_->close();
    }

    [[nodiscard]] lsn last_lsn() const noexcept { return lifetime_ ? core_->writer().visible() : lsn{}; }
    [[nodiscard]] lsn durable_lsn() const { return is_here() ? core_->writer().durable() : lsn{}; }
    [[nodiscard]] engine_state state() const { return is_here() ? core_->writer().state() : engine_state::closed; }
    [[nodiscard]] std::string state_reason() const {
        return is_here() ? core_->writer().state_reason() : why_closed().value().message;
    }
    /// What this open found and did.
    [[nodiscard]] recovery_report const& recovery() const noexcept {
        static recovery_report const none{};
        return *core_ ? core_->report() : none;
    }

    /// What the background thread does; for programs opened without one. `quiet`: nothing was written for a while.
    void housekeep(bool quiet = true) {
        if (!is_open()) return;
        core_->housekeep(quiet);
        if (core_->writer().state() == engine_state::closed || core_->read_only()) return;
        auto const done = merging_->work.step({}, quiet);
        if (!done)
            core_->writer().add_condition(state_cause::compaction,
                                          "merging the log into tables failed: " + to_string(done.error()));
        else if (*done) core_->writer().end_condition(state_cause::compaction);
        core_->events().deliver();
    }
    /// Lets go of everything without touching the disk, as a killed process does.
    void abandon() noexcept {
        if (!is_here()) return;
        merging_->stop();
        core_->abandon();
    }

private:
    using levels_type = detail::levels<reading>;
    using core_type = detail::log_core<detail::writing_config<Config>, levels_type>;
    using compactor_type = detail::compactor<Config>;
    using policy = typename Config::compaction;
    static constexpr std::size_t scan_reads = 16; ///< keys that beginning a scan is worth
    static constexpr auto erase_batch_bytes = std::min(64 * KiB, core_type::writer_type::batch_bytes_max);
    /// Who reads beside a writer finds files that are gone since.
    [[nodiscard]] detail::file_names file_names() const noexcept {
        return core_->read_only() ? detail::file_names::may_be_gone : detail::file_names::must_stand;
    }
    /// Ends the segment that is written to, so that it can be merged: on a full disk without a fresh one.
    result<void> seal_for_merge() {
        auto done = core_->writer().roll_over();
        return done || !core_->writer().lacks_space() ? done : core_->writer().seal();
    }
    /// Tells of all that the report has then.
    result<void> verify_tables(verify_depth how, recovery_report& report) const {
        auto const view = levels_->view();
        for (auto const& level : view->tables)
            for (auto const& t : level) KEEL_TRY(detail::verify_table<reading>(*t, how, file_names(), report));
        for (auto const& f : report.findings) levels_->damage().note(f);
        view->tell_damage();
        return {};
    }
    /// How many are known to be, from this level on.
    [[nodiscard]] std::uint64_t damaged_tables(std::size_t level) const {
        std::uint64_t n = 0;
        auto const view = levels_->view();
        for (; level < view->tables.size(); ++level)
            for (auto const& t : view->tables[level]) n += t->is_damaged() && !t->entry().is_placeholder();
        return n;
    }
    /// Whether the repair policy gives up a record that nothing can heal, and keeps all others.
    [[nodiscard]] static bool gives_up_records(open_options const& options) {
        finding const lost{.kind = damage::corrupt_record, .lost = 1};
        return Config::repair_for(options.repair).decide(lost) == decision::declare_lost;
    }
    /// Refers to core and levels: goes first. thread_ is set once, by the first write or many reads, and let go of by close(), which no
    /// other call may run beside; awake_ (release) publishes it (acquire).
    class merging {
    public:
        merging(core_type& core, levels_type& levels, open_options const& options)
            : work{core, levels, options.merge_bytes_per_second, gives_up_records(options)}, core_{core} {}

        /// Errors: the machine gives no thread.
        [[nodiscard]] result<void> start() {
            KEEL_TRY(io::start_thread([this] { thread_.emplace(work, core_.writer(), *delay_); }));
            by_hand_.leave();
            awake_.store(true, std::memory_order_release);
            return {};
        }
        void stop() noexcept {
            core_.forget_other_work([this] { by_hand_.stop(); });
            awake_.store(false, std::memory_order_relaxed);
            thread_.reset();
        }
        void wait_for_room(std::span<wal::operation const> batch) {
            if (awake_.load(std::memory_order_acquire)) delay_->wait(batch);
            else by_hand_.wait_for_room();
        }
        /// What the thread would do now.
        void work_by_hand() noexcept { by_hand_.run(work, core_.writer()); }
        /// Shared with transactions, which may outlive this: then it makes nobody wait.
        [[nodiscard]] std::shared_ptr<detail::write_delay> const& delay() const noexcept { return delay_; }

        compactor_type work;

    private:
        using thread_type = detail::compaction_thread<compactor_type, policy, typename core_type::writer_type>;
        core_type& core_;
        std::shared_ptr<detail::write_delay> delay_{
            std::make_shared<detail::write_delay>(detail::log_bytes_max<policy>)};
        std::atomic<bool> awake_{false};
        std::optional<thread_type> thread_{};
        detail::compaction_by_hand<compactor_type, policy, typename core_type::writer_type> by_hand_{};
    };
    basic_engine() = default;

    using events_type = typename core_type::events_type;

    /// One that only reads starts over where a writer beside it has removed files since they were listed.
    [[nodiscard]] static result<basic_engine> open_beside_writers(std::string const& directory,
                                                                  open_options const& options, file_system& fs,
                                                                  std::shared_ptr<events_type> const& events) {
        for (int turn = 0;; ++turn) {
            KEEL_TRY_LET(db, open_once(directory, options, fs, events));
            if (!options.read_only) return db;
            auto held = db.levels_->hold_files();
            if (held) return db;
            // What is not held may be gone when it is asked for.
            if (is_shortage(held.error().code)) return failure(std::move(held).error());
            // A missing file was found and told of; one that has gone since is a merge beside this.
            if (held.error().code != errc::not_found || db.recovery().damaged()) return db;
            if (turn == recovery::looks_max) return failure(std::move(held).error());
        }
    }
    [[nodiscard]] static result<basic_engine> open_once(std::string const& directory, open_options const& options,
                                                        file_system& fs, std::shared_ptr<events_type> const& events) {
        std::vector<recovery::index_collector> collected;
        auto opened = recovery::open_store<detail::recovering_config<Config>>(fs, directory, Config::segment_bytes,
                                                                              options, *events, collected);
        if (!opened) return failure(std::move(opened).error());
        auto const started = std::chrono::steady_clock::now();
        auto bound = opened->fs;
        basic_engine out;
        auto& records = opened->exam.report.replayed_records;
        KEEL_TRY_LET(parts, recovery::indexed_segments<typename Config::checksum>(bound, std::move(opened->served),
                                                                                  std::move(collected), records));
        *out.levels_ = std::make_shared<levels_type>(bound, static_cast<std::size_t>(options.cache_bytes),
                                                     table::open_file_limits::of(options.open_files, options.read_only,
                                                                                 io::open_files_allowed(),
                                                                                 io::address_space_allowed()));
        out.levels_->mount(std::move(parts), opened->exam.stock.state.tables, opened->exam.stock.paths);
        opened->exam.report.replay_time = std::chrono::steady_clock::now() - started;
        *out.core_ = std::make_shared<core_type>(std::move(*opened), **out.levels_, events, options);
        auto told = out.core_->report().findings;
        for (auto& f : told) f.file = out.core_->keeper().paths().path(f.file);
        out.levels_->damage().is_known(told);
        out.levels_->damage().tell_to(tellers(*out.core_));
        *out.merging_ = std::make_unique<merging>(**out.core_, **out.levels_, options);
        out.lifetime_ = out.core_->lifetime();
        if constexpr (policy::log_bytes != 0)
            out.core_->on_first_write({.start = [m = (*out.merging_).get()] { return m->start(); },
                                       .by_hand = [m = (*out.merging_).get()] { m->work_by_hand(); }});
        return out;
    }

    /// There is a store, and this is the process that opened it.
    [[nodiscard]] bool is_here() const noexcept { return lifetime_ && lifetime_->is_here(); }
    [[nodiscard]] bool is_open() const noexcept { return lifetime_ && lifetime_->is_open(); }
    [[nodiscard]] tl::unexpected<error> why_closed() const { return wal::why_closed(lifetime_.get()); }
    void let_go() noexcept {
        if (!is_here()) return;
        merging_->stop(); // a transaction may still hold the core for its commit
        *merging_ = nullptr;
        *core_ = nullptr;
    }
    friend class detail::scan_calls<basic_engine, key_scan, keys_only>;
    template <class Scan>
    [[nodiscard]] Scan walk(range which, keel::snapshot const* as_of, on_damage how) const {
        if (!is_open()) return Scan{lifetime_};
        if (as_of != nullptr && !as_of->belongs_to(levels_->held())) return refuse<Scan>(detail::of_another_store());
        core_->after_read(scan_reads);
        auto view = levels_->view(); // first this, then the moment
        auto const at = as_of != nullptr ? as_of->at() : core_->writer().visible();
        return {std::move(view), at, std::move(which), lifetime_, how};
    }
    template <class Scan>
    [[nodiscard]] Scan refuse(error why) const {
        return Scan{lifetime_, std::move(why)};
    }
    template <class Fn, class Commit>
    [[nodiscard]] auto run_transaction(Fn& fn, transact_options const& how, Commit const& commit) {
        using answer = decltype(detail::run_until_committed([this] { return begin(); }, fn, commit, how));
        if (!is_open()) [[unlikely]]
            return answer{why_closed()};
        return detail::run_until_committed([this] { return begin(); }, fn, commit, how);
    }
    template <class Fn>
    [[nodiscard]] static result<void> change_value(transaction& tx, slice key, Fn& fn) {
        KEEL_TRY_LET(const old, tx.get(key));
        auto made = detail::call_for_result(fn, old);
        if (!made) return failure(std::move(made).error());
        std::optional<std::string> const next{*std::move(made)};
        return next ? tx.put(key, *next) : tx.erase(key);
    }
    /// A write that has to survive power loss.
    result<lsn> kept(result<lsn> written) {
        if (written) KEEL_TRY(core_->writer().make_durable(*written));
        return written;
    }
    [[nodiscard]] auto hold_moment() const {
        return levels_->held().take([&] { return core_->writer().visible(); });
    }
    result<lsn> commit(std::span<wal::operation const> batch) {
        if (!is_open()) [[unlikely]]
            return why_closed();
        for (auto const& op : batch) KEEL_TRY(detail::check_record(as_text(op.key), op.value.size()));
        KEEL_TRY(core_->before_write());
        merging_->wait_for_room(batch);
        return core_->writer().write(batch);
    }
    using view_type = typename levels_type::view_type;
    result<std::optional<std::string>> get_at(view_type const& view, std::string_view key, lsn at) const {
        core_->after_read(1);
        auto found = view.find(key, at);
        view.tell_damage();
        if (!found) return failure(std::move(found).error());
        if (!*found) return std::optional<std::string>{};
        return std::move((*found)->value);
    }
    /// Damage that a read came upon is an event like any other (R1.3). A scan may outlive the store: then nobody is told.
    [[nodiscard]] static detail::found_damage::receiver tellers(std::weak_ptr<core_type> core) {
        return {.found =
                    [core](std::vector<finding> found) {
                        if (auto const here = core.lock()) here->tell(std::move(found));
                    },
                .scan_unchecked =
                    [core](error const& why) {
                        if (auto const here = core.lock()) here->tell_event(observe::scan_unchecked{why});
                    }};
    }

    io::process_bound<std::shared_ptr<levels_type>> levels_{};
    /// Refers to the levels: goes first; shared for the moment of a commit only.
    io::process_bound<std::shared_ptr<core_type>> core_{};
    io::process_bound<std::unique_ptr<merging>> merging_{};
    std::shared_ptr<wal::store_lifetime const> lifetime_{}; ///< nothing: moved from
};

/// The store with these policies, in any order, each with a default (config.hpp).
template <class... Policies>
using engine = basic_engine<config<Policies...>>;

} // namespace keel::inline v0

#endif
