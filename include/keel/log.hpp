// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_LOG_HPP
#define KEEL_LOG_HPP

// The write-ahead log on its own: append bytes, read them back by LSN, follow the tail, give up what is no longer needed.
// `keel::log<Policies...>` for applications that keep their own state; the engine stands on the same parts.

#include <keel/config.hpp>
#include <keel/detail/guarded.hpp>
#include <keel/error.hpp>
#include <keel/io/process.hpp>
#include <keel/io/thread.hpp>
#include <keel/observe/event_queue.hpp>
#include <keel/recovery/opening.hpp>
#include <keel/recovery/read_back.hpp>
#include <keel/recovery/report.hpp>
#include <keel/wal/keeper_thread.hpp>
#include <keel/wal/reader.hpp>
#include <keel/wal/store_identity.hpp>
#include <keel/wal/store_lifetime.hpp>
#include <keel/wal/writer.hpp>

#include <atomic>
#include <chrono>
#include <concepts>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0 {

namespace detail {

/// A recovered store with its writer, its catalog and its background thread: what log and engine have in common.
/// Lives on the heap and does not move, because the writer refers into it.
template <class Config, wal::record_sink Sink>
class log_core {
public:
    using fs_type = typename Config::file_system;
    using writer_type = wal::writer<Config, Sink>;
    using keeper_type = typename writer_type::keeper_type;
    using events_type = typename writer_type::events_type;

    template <class Opened>
    log_core(Opened opened, Sink& sink, std::shared_ptr<events_type> events, open_options const& options)
        : fs_{std::move(opened.fs)}, clock_ns_{options.clock_ns}, read_only_{options.read_only},
          events_{std::move(events)}, identity_{std::move(opened.identity)}, readers_{std::move(opened.readers)},
          keeper_{std::move(opened.keeper)}, parts_{std::move(opened.parts)}, report_{std::move(opened.exam.report)},
          ledger_{std::move(opened.ledger)}, gone_{std::move(opened.gone)},
          writer_{*keeper_, *parts_, sink, *events_, std::move(opened.notes), std::move(opened.start), options} {
        background_ = options.background_thread && !options.read_only;
        if constexpr (writer_type::reads_sealed_back) writer_.after_seal([this] { read_sealed_back(); });
    }
    ~log_core() { static_cast<void>(close()); }
    log_core(log_core const&) = delete;
    log_core& operator=(log_core const&) = delete;

    /// Called by readers, with how much they read about: who reads much gets what runs in the background, too, without having written.
    void after_read(std::size_t keys) {
        static thread_local std::size_t read = 0; // in any store: it is no more than a sign that one is used
        if ((read += keys) < reads_much) [[likely]]
            return;
        read = 0;
        if (awake_.load(std::memory_order_acquire)) [[likely]]
            return;
        std::lock_guard const hold{starting_};
        start_background();
    }
    /// Called in front of whatever writes: the first call starts what runs in the background, so that opening starts no thread. Where the
    /// machine gives none, later calls try again, at most once a second, and until then do that work themselves, a piece at a time.
    result<void> before_write() {
        if (awake_.load(std::memory_order_acquire)) [[likely]]
            return {};
        std::unique_lock hold{starting_};
        start_background();
        auto const now = std::chrono::steady_clock::now();
        if (awake_.load(std::memory_order_relaxed) || now < next_turn_) return {};
        std::unique_lock const turn{by_hand_, std::try_to_lock}; // else another writer is at it
        if (!turn.owns_lock()) return {};
        next_turn_ = now + turn_every;
        bool const keeps_log = !thread_;
        auto const other = other_work_;
        hold.unlock();
        if (keeps_log) keel::detail::if_memory_lasts([this] { housekeep(false); });
        if (other && other->by_hand) other->by_hand();
        return {};
    }
    /// What else runs in the background.
    struct background_work {
        std::function<result<void>()> start{}; ///< its thread. Errors: as of io::start_thread()
        std::function<void()>
            by_hand{}; ///< does a piece of it on the calling thread, because it has none; does not throw
    };
    /// That starts with the first write, too.
    void on_first_write(background_work other) {
        auto const shared = std::make_shared<background_work const>(std::move(other));
        std::lock_guard const hold{starting_};
        other_work_ = shared;
    }
    /// Nothing more starts, and nobody does that work when this returns. `stop()` makes whoever does it end soon.
    template <class Stop>
    void forget_other_work(Stop const& stop) noexcept {
        {
            std::lock_guard const hold{starting_};
            other_work_ = nullptr;
        }
        stop();
        std::lock_guard const nobody{by_hand_};
    }

    /// Never throws.
    result<void> close() noexcept {
        lifetime_->end();
        stop_threads();
        auto done = writer_.close();
        if constexpr (writer_type::reads_sealed_back) read_sealed_back(); // as long as the lock is held
        unlock();
        events_->deliver();
        return done;
    }
    void abandon() noexcept {
        lifetime_->end();
        stop_threads();
        writer_.abandon();
        unlock();
    }
    /// Shared by all that reads from the store.
    [[nodiscard]] std::shared_ptr<wal::store_lifetime const> lifetime() const noexcept { return lifetime_; }

    [[nodiscard]] writer_type& writer() noexcept { return writer_; }
    [[nodiscard]] writer_type const& writer() const noexcept { return writer_; }
    [[nodiscard]] recovery_report const& report() const noexcept { return report_; }
    [[nodiscard]] events_type& events() noexcept { return *events_; }
    [[nodiscard]] wal::catalog& parts() noexcept { return *parts_; }
    [[nodiscard]] keeper_type& keeper() noexcept { return *keeper_; }
    [[nodiscard]] fs_type const& fs() const noexcept { return fs_; }
    [[nodiscard]] bool read_only() const noexcept { return read_only_; }
    [[nodiscard]] std::shared_ptr<format::manifest_state const> manifest() const { return keeper_->state(); }

    /// Damage that was met after opening: logged, told to the observer, and the reason for being degraded.
    void tell(std::vector<finding> found) {
        if (!lifetime_->is_open()) return; // read after the end: what was found may be another process's work
        tell_of_own(std::move(found), "while reading");
    }
    /// One of the other events.
    template <class Event>
    void tell_event(Event const& what) {
        if (!lifetime_->is_here()) return;
        events_->push(what);
        if (!has_thread_.load(std::memory_order_acquire)) events_->deliver(); // nobody else may
    }
    /// What the background thread does, or a program without one.
    void housekeep(bool quiet, bool prepares = true) {
        writer_.housekeep(quiet, prepares);
        if constexpr (writer_type::reads_sealed_back) read_sealed_back(); // what its writer had no memory for
        events_->deliver();
    }

    /// Notes that somebody knows of every loss there is, so that no later open shows it.
    result<void> accept_loss() {
        std::lock_guard const hold{accepting_};
        if (writer_.state() == engine_state::closed) return failure(errc::closed, "the store is closed");
        if (read_only_)
            return failure(errc::read_only, "the store was opened read-only: open it for writing to accept its losses, "
                                            "or use wal-recovery accept-loss");
        auto const known = keeper_->state();
        format::edit_builder edit;
        for (auto const id : gone_)
            if (known->segments.contains(id)) edit.retired(id);
        if (!edit.empty()) KEEL_TRY(keeper_->commit(edit));
        KEEL_TRY(keeper_->check_identity());
        auto const next = recovery::accepted_now(ledger_, known->losses, report_);
        KEEL_TRY(recovery::write_ledger<typename Config::checksum>(fs_, keeper_->paths(), keeper_->store(), next));
        ledger_ = next;
        writer_.accept_losses(known->losses);
        writer_.end_condition(state_cause::unknown_extent);
        if (!has_thread_.load(std::memory_order_acquire)) events_->deliver(); // nobody else may
        return {};
    }

    /// Gives up whole segments in front of `upto`. On an error of the manifest nothing is given up, or all of it once the log is opened
    /// again; on one of a file that could not be removed it is, and the next opening removes the file.
    result<void> truncate_before(lsn upto) {
        std::lock_guard const hold{retention_};
        if (writer_.state() == engine_state::closed) return failure(errc::closed, "the log is closed");
        auto const gone = oldest_in_front_of(upto);
        if (gone.segments.empty()) return {};
        format::edit_builder edit;
        keeper_type::give_up(edit, gone.segments, gone.base, gone.floor);
        KEEL_TRY(keeper_->commit(edit));
        for (auto const& e : gone.segments) parts_->retire(e.id);
        result<void> done;
        for (auto const& e : gone.segments)
            if (auto disposed = keeper_->dispose(e, parts_->pinned(e.id)); !disposed && done) done = disposed;
        return done;
    }

private:
    static constexpr std::size_t reads_much = 4096;
    static constexpr auto retry_after = std::chrono::seconds(1); ///< a thread that was refused
    static constexpr auto turn_every =
        std::chrono::milliseconds(20); ///< what threads would do, by a writer: as often as they look

    /// With starting_ held. What cannot be started is told in state(), and tried again by a later call.
    void start_background() noexcept {
        auto const now = std::chrono::steady_clock::now();
        if (awake_.load(std::memory_order_relaxed) || now < next_try_) return;
        next_try_ = now + retry_after;
        auto const started = keel::detail::guarded([this]() -> result<void> {
            if (!background_) return {};
            if (!thread_) KEEL_TRY(io::start_thread([this] { thread_.emplace(*this); }));
            return other_work_ && other_work_->start ? other_work_->start() : result<void>{};
        });
        bool const by_hand = background_ && !thread_;
        has_thread_.store(thread_.has_value(), std::memory_order_release);
        writer_.sync_writes(by_hand);
        if (by_hand) writer_.mark_due();
        if (started) {
            if (std::exchange(is_told_, false)) writer_.end_condition(state_cause::resources);
            awake_.store(true, std::memory_order_release);
            return;
        }
        is_told_ = true;
        keel::detail::if_memory_lasts([&] {
            writer_.add_condition(state_cause::resources,
                                  "writers do what runs in the background, until a thread for it can be started: " +
                                      to_string(started.error()));
        });
    }

    /// The files are this process's. `when`: for people.
    void tell_of_own(std::vector<finding> found, char const* when) {
        if (found.empty()) return;
        for (auto& f : found) f.file = keeper_->paths().inside(f.file);
        {
            std::lock_guard const hold{telling_};
            // The store goes on without the log of it.
            if (!read_only_ && keeper_->check_identity())
                static_cast<void>(recovery::log_corruption(fs_, keeper_->paths(), found, clock_ns_()));
        }
        for (auto const& f : found) events_->push(observe::damage_found{f});
        writer_.add_condition(state_cause::damage, std::string{"damage was found "} + when + ": " + found.front().file +
                                                       " at " + std::to_string(found.front().offset) +
                                                       "; see the corruption log");
        if (!has_thread_.load(std::memory_order_acquire)) events_->deliver(); // nobody else may
    }
    /// Verifies the segments that were sealed since, on the medium, and tells what is wrong with them. Where memory is refused the next call
    /// goes on.
    void read_sealed_back() noexcept {
        for (auto one = writer_.take_sealed(); !one.empty(); one = writer_.take_sealed()) {
            auto const& s = one.front();
            using reading = recovery::segment_read_back<typename Config::checksum, typename fs_type::file>;
            auto const done = keel::detail::guarded([&]() -> result<void> {
                tell_of_own(reading{*s.file, s.what, s.seal}.run(), "when a segment was read back after its seal");
                return {};
            });
            if (!done) return writer_.give_back_sealed(std::move(one));
        }
    }

    struct given_up {
        std::vector<format::segment_entry> segments{};
        format::segment_link base{}; ///< the last one of them
        lsn floor{};
    };
    /// The oldest segments, as many as hold nothing at or behind `upto`. One that a crash left without a seal goes like the others once
    /// this opening has written: what counts of it is durable then, and nothing more comes to it.
    [[nodiscard]] given_up oldest_in_front_of(lsn upto) const {
        auto const known = keeper_->state();
        bool const proven = writer_.has_written();
        given_up out{.base = known->base, .floor = known->floor};
        auto base = out.base;
        auto floor = out.floor;
        std::size_t take = 0;
        for (auto const& part : parts_->all()) {
            auto const at = known->segments.find(part->id);
            if (at == known->segments.end()) continue;
            auto const last = part->counted.empty() ? lsn{} : part->counted.back().last;
            auto const& seal = at->second.seal;
            if (part->open || part->id == writer_.active_segment() || last >= upto || (!seal && !proven)) break;
            auto const link = seal ? format::link_of(*seal, format::segment_end::rolled) : wal::link_of(*part);
            if (link.id) base = link;
            floor = std::max({floor, last, seal ? seal->range.last : lsn{}});
            out.segments.push_back(at->second);
            // A file below the floor is known to be given up by its header's first LSN: one that holds nothing waits for those behind it.
            if (part->first > floor) continue;
            take = out.segments.size();
            out.base = base;
            out.floor = floor;
        }
        out.segments.resize(take);
        return out;
    }

    void stop_threads() noexcept {
        std::lock_guard const hold{starting_};
        background_ = false;
        thread_.reset();
        has_thread_.store(false, std::memory_order_release);
    }
    void unlock() noexcept {
        if (identity_) identity_->release();
        readers_.reset();
    }

    std::shared_ptr<wal::store_lifetime> lifetime_{std::make_shared<wal::store_lifetime>()};
    fs_type fs_;
    std::uint64_t (*clock_ns_)();
    bool read_only_;
    std::mutex telling_; ///< one entry in the corruption log at a time
    std::shared_ptr<events_type> events_;
    std::shared_ptr<wal::store_identity<fs_type>> identity_;
    std::optional<wal::double_lock<fs_type>> readers_;
    std::unique_ptr<keeper_type> keeper_;
    std::unique_ptr<wal::catalog> parts_;
    recovery_report report_;
    std::mutex accepting_; ///< one accept_loss at a time; guards what follows
    recovery::loss_ledger ledger_;
    std::vector<segment_id> gone_; ///< segments that are registered, gone, and may have held records
    std::mutex retention_;         ///< one truncate_before at a time
    writer_type writer_;
    std::mutex starting_;                               ///< guards what follows
    bool background_ = false;                           ///< threads may be started
    std::atomic<bool> awake_{false};                    // release: a thread that sees it need not ask again
    std::atomic<bool> has_thread_{false};               // release: the thread that delivers events is there
    std::chrono::steady_clock::time_point next_try_{};  ///< to start what was refused
    std::chrono::steady_clock::time_point next_turn_{}; ///< of what is done by hand meanwhile
    bool is_told_ = false;                              ///< that this is so
    std::shared_ptr<background_work const> other_work_{};
    std::mutex by_hand_; ///< one thread at a time; taken with starting_ held, and held behind it
    std::optional<wal::keeper_thread<log_core, typename Config::durability>> thread_{};
};

} // namespace detail

/// The log over one configuration. Moves; not copyable. All calls may come from several threads at once, close() and moves apart.
/// After close(), in an object that was moved from, and in a process that was forked from the one that opened it, every call says
/// closed; in such a process nothing is done, by the destructor either.
template <class Config>
class basic_log {
    using core_type = detail::log_core<detail::writing_config<Config>, wal::discard_records>;
    using lifetime_type = std::shared_ptr<wal::store_lifetime const>;

public:
    using config_type = Config;
    using file_system = typename Config::file_system;
    using observer = typename Config::observer;

    /// The longest record: it fits one segment.
    static constexpr std::uint64_t record_bytes_max = wal::record_bytes_max_of(Config::segment_bytes);

    /// Opens the log in this folder, or makes one, and recovers it. Errors: not_found, not_a_store, wrong_format, wrong_policy,
    /// locked, corruption (where the repair policy refuses), recovery_attempts, cancelled, and the machine's.
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options = {},
                                                file_system fs = {})
        requires std::default_initializable<observer>
    {
        return open(std::move(directory), options, std::move(fs), observer{});
    }
    /// The same with an observer of your own, which may hold a logger.
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options, file_system fs,
                                                observer told) {
        auto events = std::make_shared<typename core_type::events_type>(std::move(told));
        std::vector<recovery::no_sink> sinks;
        auto opened = recovery::open_store<detail::recovering_config<Config>>(
            fs, std::move(directory), Config::segment_bytes, options, *events, sinks);
        if (!opened) {
            events->deliver();
            return failure(std::move(opened).error());
        }
        basic_log out;
        *out.sink_ = std::make_unique<wal::discard_records>();
        *out.core_ = std::make_unique<core_type>(std::move(*opened), **out.sink_, events, options);
        out.lifetime_ = out.core_->lifetime();
        events->deliver();
        return out;
    }

    /// Appends one record. Returns its LSN, once it is as safe as the durability policy says. too_large: nothing was written.
    [[nodiscard]] result<lsn> append(slice record) {
        auto const bytes = record.bytes();
        return append_batch(std::span{&bytes, 1});
    }
    /// The same, and the record survives power loss when this returns its LSN, whatever the durability policy. On an error of the sync the
    /// record may be there all the same.
    [[nodiscard]] result<lsn> append(slice record, durable_t) {
        KEEL_TRY_LET(at, append(record));
        KEEL_TRY(core_->writer().make_durable(at));
        return at;
    }

    /// Appends records that are there together or not at all; they take consecutive LSNs, the last of which is returned.
    [[nodiscard]] result<lsn> append_batch(std::span<byte_view const> records) {
        KEEL_TRY(wal::check_open(lifetime_));
        if (records.empty()) return failure(errc::invalid_argument, "an empty batch has no LSN");
        std::vector<wal::operation> batch;
        batch.reserve(records.size());
        for (auto const& r : records) batch.push_back({.type = format::frame_type::message, .value = r});
        KEEL_TRY(core_->before_write());
        return core_->writer().write(batch);
    }
    /// The same for any other range of records, and for a list in braces.
    template <slice_range Records>
        requires(!std::convertible_to<Records, std::span<byte_view const>>)
    [[nodiscard]] result<lsn> append_batch(Records&& records) {
        std::vector<byte_view> all;
        for (slice const r : records) all.push_back(r.bytes());
        return append_batch(std::span<byte_view const>{all});
    }
    [[nodiscard]] result<lsn> append_batch(std::initializer_list<slice> records) {
        return append_batch(std::span{records.begin(), records.size()});
    }

    /// Reads records in LSN order. Once the log is closed it says closed: its files may be another process's by then. One thread per
    /// reader.
    class reader {
    public:
        /// The next record; nothing at the end of what is visible now (call again to follow the tail).
        [[nodiscard]] result<std::optional<log_record>> next() {
            KEEL_TRY(wal::check_open(lifetime_));
            auto record = inner_->next(core_->writer().visible());
            if (!record) KEEL_TRY(wal::check_open(lifetime_)); // what was read meanwhile may be another process's
            return record;
        }
        /// The next record, waiting for one as long as `patience`.
        [[nodiscard]] result<std::optional<log_record>> next(std::chrono::nanoseconds patience) {
            auto record = next();
            if (!record || *record) return record;
            static_cast<void>(core_->writer().wait_visible(position().before(), patience));
            return next();
        }
        [[nodiscard]] lsn position() const noexcept { return *inner_ ? inner_->position() : lsn{}; }

    private:
        friend basic_log;
        using inner_type = std::optional<wal::reader<typename Config::checksum, file_system>>;
        reader(inner_type inner, core_type* core, lifetime_type lifetime)
            : inner_{std::move(inner)}, core_{core}, lifetime_{std::move(lifetime)} {}
        io::process_bound<inner_type> inner_; ///< nothing: the log was closed already
        core_type* core_;
        lifetime_type lifetime_;
    };

    /// A reader that begins at the first record at or behind `from`.
    [[nodiscard]] reader read_from(lsn from) const {
        if (!lifetime_ || !lifetime_->is_open()) return reader{std::nullopt, nullptr, lifetime_};
        return reader{wal::reader<typename Config::checksum, file_system>{core_->fs(), core_->parts(), from},
                      (*core_).get(), lifetime_};
    }

    /// All records accepted before the call survive power loss once it returns. Errors: read_only, closed, the machine's; io_error, where
    /// accepted records were lost to a sync that failed before, until accept_loss().
    [[nodiscard]] result<void> sync() {
        KEEL_TRY(wal::check_open(lifetime_));
        KEEL_TRY(core_->before_write());
        return core_->writer().sync();
    }
    /// Records in front of `upto` are no longer needed: whole segments of them are recycled or removed.
    [[nodiscard]] result<void> truncate_before(lsn upto) {
        KEEL_TRY(wal::check_open(lifetime_));
        return core_->truncate_before(upto);
    }
    /// Says that somebody knows of all that was declared lost, or may be lost, up to now: state() is no longer degraded for it, and later
    /// opens show it as accepted. What this open found stays in recovery(). Errors: read_only (of an opening that never writes), closed,
    /// the machine's; then nothing is accepted.
    [[nodiscard]] result<void> accept_loss() {
        KEEL_TRY(wal::check_open(lifetime_));
        return core_->accept_loss();
    }
    /// After a failure that left the log read-only: tries to become writable again. What was not acknowledged is given up.
    [[nodiscard]] result<void> resume() {
        KEEL_TRY(wal::check_open(lifetime_));
        return core_->writer().resume();
    }
    /// Syncs, marks the orderly end, lets the lock go. The destructor does the same and cannot tell of a failure. Safe to call twice.
    /// Errors: as of sync(); the log is closed all the same.
    [[nodiscard]] result<void> close() {
        if (!is_here()) return wal::why_closed(lifetime_.get());
        return core_->close();
    }

    /// The oldest record there is; 0 where there is none.
    [[nodiscard]] lsn first_lsn() const {
        if (!is_here()) return {};
        auto const first = core_->parts().next_counted(lsn{1});
        return first > last_lsn() ? lsn{} : first;
    }
    /// The newest record readers see; declared losses count.
    [[nodiscard]] lsn last_lsn() const noexcept { return lifetime_ ? core_->writer().visible() : lsn{}; }
    /// All up to here survives power loss.
    [[nodiscard]] lsn durable_lsn() const { return is_here() ? core_->writer().durable() : lsn{}; }
    [[nodiscard]] engine_state state() const { return is_here() ? core_->writer().state() : engine_state::closed; }
    [[nodiscard]] std::string state_reason() const {
        return is_here() ? core_->writer().state_reason() : wal::why_closed(lifetime_.get()).value().message;
    }
    [[nodiscard]] recovery_report const& recovery() const noexcept {
        static recovery_report const none{};
        return *core_ ? core_->report() : none;
    }

    /// What the background thread does; for programs opened without one. `quiet`: nothing was appended for a while.
    void housekeep(bool quiet = true) {
        if (lifetime_ && lifetime_->is_open()) core_->housekeep(quiet);
    }
    /// Lets go of everything without touching the disk, as a killed process does.
    void abandon() noexcept {
        if (is_here()) core_->abandon();
    }

private:
    basic_log() = default;
    /// There is a log, and this is the process that opened it.
    [[nodiscard]] bool is_here() const noexcept { return lifetime_ && lifetime_->is_here(); }

    io::process_bound<std::unique_ptr<wal::discard_records>> sink_{};
    io::process_bound<std::unique_ptr<core_type>> core_{}; // refers to the sink: goes first
    lifetime_type lifetime_{};
};

/// The log with these policies, in any order, each with a default (config.hpp).
template <class... Policies>
using log = basic_log<config<Policies...>>;
/// The same under a name that collides with nothing: under `using namespace keel` the name `log` alone is ambiguous once <cmath>, which has
/// a ::log, was included.
template <class... Policies>
using record_log = log<Policies...>;

} // namespace keel::inline v0

#endif
