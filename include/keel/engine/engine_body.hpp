// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_ENGINE_BODY_HPP
#define KEEL_ENGINE_ENGINE_BODY_HPP

// The implementation of a store (store.hpp declares it): ordered keys and values over the write-ahead log. The log is level zero: records
// are read from where they were written.
//
// put -> wal/writer (log, group commit) -> table/memtable -> visible to readers. A full segment is sealed with a sorted index and read
// through it (engine/version_set.hpp). In the background, segments and tables are merged into tables (engine/compactor.hpp). Readers take
// no lock that a writer or a merge holds during I/O.

#include <keel/engine/compaction_by_hand.hpp>
#include <keel/engine/compaction_thread.hpp>
#include <keel/engine/compactor.hpp>
#include <keel/engine/found_damage.hpp>
#include <keel/engine/ingestion.hpp>
#include <keel/engine/operations.hpp>
#include <keel/engine/snapshot.hpp>
#include <keel/engine/storage_report.hpp>
#include <keel/engine/store_core.hpp>
#include <keel/engine/store_walk.hpp>
#include <keel/engine/transaction_body.hpp>
#include <keel/engine/verify.hpp>
#include <keel/engine/version_set.hpp>
#include <keel/io/limits.hpp>
#include <keel/io/process.hpp>
#include <keel/io/thread.hpp>
#include <keel/recovery/index_collector.hpp>
#include <keel/wal/store_lifetime.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// A store with one configuration. It does not move. Each public function implements the function of basic_engine with its name, and has
/// the same thread rules and errors.
template <class Config>
class engine_body {
    using reading = reading_config<Config>;
    using version_set_type = version_set<reading>;
    using core_type = store_core<writing_config<Config>, version_set_type>;
    using compactor_type = compactor<Config>;
    using policy = typename Config::compaction;
    using file_system = typename Config::file_system;
    using observer = typename Config::observer;
    using events_type = typename core_type::events_type;

public:
    static constexpr auto erase_batch_bytes = std::min(64 * KiB, core_type::writer_type::batch_bytes_max);

    [[nodiscard]] static result<std::unique_ptr<engine_body>> open(std::string const& directory,
                                                                   open_options const& options, file_system fs,
                                                                   observer told) {
        auto const events = std::make_shared<events_type>(std::move(told));
        auto db = open_beside_writers(directory, options, fs, events);
        events->deliver();
        return db;
    }

    /// Errors: closed.
    [[nodiscard]] result<void> check_open() const { return wal::check_open(lifetime_); }

    engine_body(engine_body const&) = delete;
    engine_body& operator=(engine_body const&) = delete;
    ~engine_body() { release(); }

    [[nodiscard]] result<lsn> put(std::string_view key, std::string_view value) {
        wal::operation const op{.type = format::frame_type::put, .key = as_bytes(key), .value = as_bytes(value)};
        return commit(std::span{&op, 1});
    }
    [[nodiscard]] result<lsn> erase(std::string_view key) {
        wal::operation const op{.type = format::frame_type::erase, .key = as_bytes(key)};
        return commit(std::span{&op, 1});
    }
    [[nodiscard]] result<lsn> write(write_batch const& batch) {
        if (batch.empty()) return failure(errc::invalid_argument, "an empty batch has no LSN");
        auto const operations = operations_of(batch);
        return commit(operations);
    }
    /// Makes a write durable, whatever the durability policy: it survives power loss when this returns.
    [[nodiscard]] result<lsn> kept(result<lsn> written) {
        if (written) KEEL_TRY(core_->writer().make_durable(*written));
        return written;
    }

    /// Starts one call of ingest(). The result refers to this object and must be destroyed before it.
    [[nodiscard]] result<std::unique_ptr<ingestion<Config>>> begin_ingest() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        KEEL_TRY(core_->before_write());
        KEEL_TRY(core_->writer().takes_writes());
        merging_->wait_for_room({});
        KEEL_TRY_LET(ids, merging_->work.ids());
        return std::make_unique<ingestion<Config>>(**core_, **versions_, *ids);
    }
    [[nodiscard]] result<lsn> finish_ingest(ingestion<Config>& all) {
        auto done = all.finish();
        // Level 0 is merged together with the log up to this LSN, so the segment with this LSN must take no more records.
        if (done && merging_->work.ingested_needs_roll_over()) static_cast<void>(core_->writer().roll_over());
        return done;
    }

    [[nodiscard]] result<std::optional<std::string>> get(std::string_view key) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        auto const view = versions_->view(); // before visible(): see the thread rules of version_set.hpp
        return get_at(*view, key, core_->writer().visible());
    }
    [[nodiscard]] result<std::optional<std::string>> get(std::string_view key, keel::snapshot const& as_of) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        if (!as_of.belongs_to(&versions_->snapshots())) return failure(of_another_store());
        return get_at(*versions_->view(), key, as_of.at());
    }

    [[nodiscard]] keel::snapshot snapshot() const {
        if (!is_open()) return {nullptr, nullptr, {}};
        auto held = hold_moment();
        auto const at = held->at();
        return {std::move(held), &versions_->snapshots(), at};
    }
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(
        std::span<std::string_view const> keys) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        auto const view = versions_->view();
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

    [[nodiscard]] result<std::uint64_t> approximate_size(range const& which) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        auto const view = versions_->view();
        auto size = view->approximate_size(which.from, which.to);
        view->tell_damage();
        return size;
    }
    [[nodiscard]] result<recovery_report> verify(verify_depth how = verify_depth::deep) const {
        if (!is_open()) [[unlikely]]
            return why_closed();
        recovery_report report;
        auto const view = versions_->view();
        auto const names = names_to_expect();
        segment_id last{};
        for (auto const& r : view->runs) { // chunks of one segment are neighbours
            report.segments += std::exchange(last, r->source().id) != last;
            KEEL_TRY(verify_segment<reading>(*r, how, names, report));
        }
        if (how == verify_depth::quick) report.mounted_segments = report.segments;
        KEEL_TRY(verify_tables(how, report));
        return report;
    }

    [[nodiscard]] transaction_body<Config> begin() const {
        if (!is_open()) return transaction_body<Config>{lifetime_};
        core_->writer().wait_for_conflict();
        return {*core_, *versions_, hold_moment(), lifetime_, merging_->delay()};
    }
    [[nodiscard]] store_walk<reading> walk_over(range which, keel::snapshot const* as_of, on_damage how) const {
        if (!is_open()) return store_walk<reading>{range_walk<reading>{lifetime_}};
        if (as_of != nullptr && !as_of->belongs_to(&versions_->snapshots())) return no_walk(of_another_store());
        core_->after_read(scan_reads);
        auto view = versions_->view(); // before visible(): see the thread rules of version_set.hpp
        auto const at = as_of != nullptr ? as_of->at() : core_->writer().visible();
        return store_walk<reading>{range_walk<reading>{std::move(view), at, std::move(which), lifetime_, how}};
    }
    /// A walk without keys; its status() is `why`.
    [[nodiscard]] store_walk<reading> no_walk(error why) const {
        return store_walk<reading>{range_walk<reading>{lifetime_, std::move(why)}};
    }

    [[nodiscard]] result<void> compact() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        KEEL_TRY(core_->before_write());
        if (auto const sealed = seal_for_merge(); !sealed) {
            // On a full disk: merging the sealed segments frees space, and then the rest can be sealed.
            if (!core_->writer().lacks_space()) return sealed;
            KEEL_TRY(merging_->work.all());
            KEEL_TRY(core_->writer().resume());
            KEEL_TRY(seal_for_merge());
        }
        KEEL_TRY(merging_->work.all());
        return merging_->work.damaged();
    }
    [[nodiscard]] result<std::uint64_t> repair_tables() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        KEEL_TRY(core_->before_write());
        recovery_report report;
        KEEL_TRY(verify_tables(verify_depth::deep, report));
        auto const found = damaged_tables(0);
        if (found == 0) return found;
        if (damaged_tables(1) != found) { // damaged tables of level 0 are merged together with the log
            KEEL_TRY(seal_for_merge());
            KEEL_TRY(merging_->work.all());
        }
        KEEL_TRY(merging_->work.damaged());
        if (damaged_tables(0) == 0) return found;
        return failure(errc::read_only, "tables stay as they are: " + core_->writer().state_reason());
    }
    [[nodiscard]] storage_report storage() const {
        static_assert(storage_report::levels_max == format::table_levels);
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
        auto const& files = versions_->open_files();
        out.open_files = files.open();
        out.open_files_max = files.limits().files;
        out.mapped_files = files.mapped();
        return out;
    }

    [[nodiscard]] result<void> sync() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        KEEL_TRY(core_->before_write());
        return core_->writer().sync();
    }
    [[nodiscard]] result<void> accept_loss() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        return core_->accept_loss();
    }
    [[nodiscard]] result<void> resume() {
        if (!is_open()) [[unlikely]]
            return why_closed();
        auto done = core_->writer().resume();
        if (done || done.error().code != errc::no_space || core_->read_only()) return done;
        return merging_->work.make_room() ? core_->writer().resume() : done;
    }
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
    [[nodiscard]] recovery_report const& recovery() const noexcept {
        static recovery_report const none{};
        return *core_ ? core_->report() : none;
    }

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
    void abandon() noexcept {
        if (!is_here()) return;
        merging_->stop();
        core_->abandon();
    }

private:
    static constexpr std::size_t scan_reads = 16; ///< the start of a scan counts as so many reads
    /// A read-only opening beside a writer may find that the writer has removed files since.
    [[nodiscard]] file_names names_to_expect() const noexcept {
        return core_->read_only() ? file_names::may_be_gone : file_names::must_stand;
    }
    /// Ends the active segment, so that it can be merged. On a full disk it does so without beginning another one.
    result<void> seal_for_merge() {
        auto done = core_->writer().roll_over();
        return done || !core_->writer().lacks_space() ? done : core_->writer().seal();
    }
    /// Verifies all tables and reports every finding that `report` has then, also earlier ones, to the observer and the corruption log.
    result<void> verify_tables(verify_depth how, recovery_report& report) const {
        auto const view = versions_->view();
        for (auto const& level : view->tables)
            for (auto const& t : level) KEEL_TRY(verify_table<reading>(*t, how, names_to_expect(), report));
        for (auto const& f : report.findings) versions_->damage().note(f);
        view->tell_damage();
        return {};
    }
    /// How many tables are known to be damaged, in this level and the deeper ones. Placeholders do not count.
    [[nodiscard]] std::uint64_t damaged_tables(std::size_t level) const {
        std::uint64_t n = 0;
        auto const view = versions_->view();
        for (; level < view->tables.size(); ++level)
            for (auto const& t : view->tables[level]) n += t->is_damaged() && !t->entry().is_placeholder();
        return n;
    }
    /// Whether the repair policy gives up a record that cannot be healed, and keeps all others.
    [[nodiscard]] static bool gives_up_records(open_options const& options) {
        finding const lost{.kind = damage::corrupt_record, .lost = 1};
        return Config::repair_for(options.repair).decide(lost) == decision::declare_lost;
    }
    /// The merges of a store and their thread. Refers to the core and the version set, so it is destroyed before them. thread_ is set once,
    /// by the first write or after many reads. close() resets it; no other call may run at the same time as close(). awake_ (release)
    /// publishes thread_ (acquire).
    class merging {
    public:
        merging(core_type& core, version_set_type& levels, open_options const& options)
            : work{core, levels, options.merge_bytes_per_second, gives_up_records(options)}, core_{core} {}

        /// Starts the background thread. Errors: the system refuses a thread.
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
        /// Does the thread's work on the calling thread.
        void work_by_hand() noexcept { by_hand_.run(work, core_.writer()); }
        /// Shared with transactions, which may outlive this object. After that it delays no write.
        [[nodiscard]] std::shared_ptr<write_delay> const& delay() const noexcept { return delay_; }

        compactor_type work;

    private:
        using thread_type = compaction_thread<compactor_type, policy, typename core_type::writer_type>;
        core_type& core_;
        std::shared_ptr<write_delay> delay_{std::make_shared<write_delay>(log_bytes_max<policy>)};
        std::atomic<bool> awake_{false};
        std::optional<thread_type> thread_{};
        compaction_by_hand<compactor_type, policy, typename core_type::writer_type> by_hand_{};
    };
    engine_body() = default;

    /// Opens a store. A read-only opening starts over if a writer has removed files since they were listed.
    [[nodiscard]] static result<std::unique_ptr<engine_body>> open_beside_writers(
        std::string const& directory, open_options const& options, file_system& fs,
        std::shared_ptr<events_type> const& events) {
        for (int turn = 0;; ++turn) {
            KEEL_TRY_LET(db, open_once(directory, options, fs, events));
            if (!options.read_only) return db;
            auto held = db->versions_->hold_files();
            if (held) return db;
            // Files that are not held open may be gone when they are read.
            if (is_shortage(held.error().code)) return failure(std::move(held).error());
            // If a file was missing from the start, recovery has reported it. A file that went missing since was removed by a merge of the
            // writer.
            if (held.error().code != errc::not_found || db->recovery().damaged()) return db;
            if (turn == recovery::retries_max) return failure(std::move(held).error());
        }
    }
    [[nodiscard]] static result<std::unique_ptr<engine_body>> open_once(std::string const& directory,
                                                                        open_options const& options, file_system& fs,
                                                                        std::shared_ptr<events_type> const& events) {
        std::vector<recovery::index_collector> collected;
        auto opened = recovery::open_store<recovering_config<Config>>(fs, directory, Config::segment_bytes, options,
                                                                      *events, collected);
        if (!opened) return failure(std::move(opened).error());
        auto const started = std::chrono::steady_clock::now();
        auto bound = opened->fs;
        std::unique_ptr<engine_body> here{new engine_body};
        auto& out = *here;
        auto& records = opened->exam.report.replayed_records;
        KEEL_TRY_LET(parts, recovery::indexed_segments<typename Config::checksum>(bound, std::move(opened->served),
                                                                                  std::move(collected), records));
        *out.versions_ = std::make_shared<version_set_type>(
            bound, static_cast<std::size_t>(options.cache_bytes),
            table::open_file_limits::of(options.open_files, options.read_only, io::open_files_allowed(),
                                        io::address_space_allowed()));
        out.versions_->mount(std::move(parts), opened->exam.stock.state.tables, opened->exam.stock.paths);
        opened->exam.report.replay_time = std::chrono::steady_clock::now() - started;
        *out.core_ = std::make_shared<core_type>(std::move(*opened), **out.versions_, events, options);
        auto told = out.core_->report().findings;
        for (auto& f : told) f.file = out.core_->pool().paths().path(f.file);
        out.versions_->damage().is_known(told);
        out.versions_->damage().tell_to(tellers(*out.core_));
        *out.merging_ = std::make_unique<merging>(**out.core_, **out.versions_, options);
        out.lifetime_ = out.core_->lifetime();
        if constexpr (policy::log_bytes != 0)
            out.core_->on_first_write({.start = [m = (*out.merging_).get()] { return m->start(); },
                                       .by_hand = [m = (*out.merging_).get()] { m->work_by_hand(); }});
        return here;
    }

    /// There is a store, and this process opened it (a forked child may not use it).
    [[nodiscard]] bool is_here() const noexcept { return lifetime_ && lifetime_->is_here(); }
    [[nodiscard]] bool is_open() const noexcept { return lifetime_ && lifetime_->is_open(); }
    [[nodiscard]] tl::unexpected<error> why_closed() const { return wal::why_closed(lifetime_.get()); }
    void release() noexcept {
        if (!is_here()) return;
        merging_->stop(); // now: a transaction that commits may keep the core alive a little longer
        *merging_ = nullptr;
        *core_ = nullptr;
    }
    [[nodiscard]] auto hold_moment() const {
        return versions_->snapshots().take([&] { return core_->writer().visible(); });
    }
    result<lsn> commit(std::span<wal::operation const> batch) {
        if (!is_open()) [[unlikely]]
            return why_closed();
        for (auto const& op : batch) KEEL_TRY(check_record(as_text(op.key), op.value.size()));
        KEEL_TRY(core_->before_write());
        merging_->wait_for_room(batch);
        return core_->writer().write(batch);
    }
    using view_type = typename version_set_type::view_type;
    result<std::optional<std::string>> get_at(view_type const& view, std::string_view key, lsn at) const {
        core_->after_read(1);
        auto found = view.find(key, at);
        view.tell_damage();
        if (!found) return failure(std::move(found).error());
        if (!*found) return std::optional<std::string>{};
        return std::move((*found)->value);
    }
    /// Damage that a read found is reported as an event (R1.3). A scan may outlive the store; then its findings are not reported.
    [[nodiscard]] static found_damage::receiver tellers(std::weak_ptr<core_type> core) {
        return {.found =
                    [core](std::vector<finding> found) {
                        if (auto const here = core.lock()) here->tell(std::move(found));
                    },
                .scan_unchecked =
                    [core](error const& why) {
                        if (auto const here = core.lock()) here->tell_event(observe::scan_unchecked{why});
                    }};
    }

    io::process_bound<std::shared_ptr<version_set_type>> versions_{};
    /// Refers to the version set, so it is destroyed first. Others share it only while a transaction commits.
    io::process_bound<std::shared_ptr<core_type>> core_{};
    io::process_bound<std::unique_ptr<merging>> merging_{};
    std::shared_ptr<wal::store_lifetime const> lifetime_{}; ///< null: moved from
};

} // namespace keel::inline v0::detail

#endif
