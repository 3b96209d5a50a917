// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_STORE_CORE_HPP
#define KEEL_ENGINE_STORE_CORE_HPP

// The common part of a store and a log: recovered segments, the writer, the catalog, the background thread.

#include <keel/config.hpp>
#include <keel/detail/guarded.hpp>
#include <keel/detail/lock_order.hpp>
#include <keel/error.hpp>
#include <keel/io/process.hpp>
#include <keel/io/thread.hpp>
#include <keel/observe/event_queue.hpp>
#include <keel/recovery/opening.hpp>
#include <keel/recovery/read_back.hpp>
#include <keel/recovery/report.hpp>
#include <keel/wal/log_thread.hpp>
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

/// A recovered store with its writer, its catalog and its background thread: the common part of log and engine.
/// It is on the heap and does not move, because the writer has references into it.
template <class Config, wal::record_sink Sink>
class store_core {
public:
    using fs_type = typename Config::file_system;
    using writer_type = wal::writer<Config, Sink>;
    using pool_type = typename writer_type::pool_type;
    using events_type = typename writer_type::events_type;

    template <class Opened>
    store_core(Opened opened, Sink& sink, std::shared_ptr<events_type> events, open_options const& options)
        : fs_{std::move(opened.fs)}, clock_ns_{options.clock_ns}, read_only_{options.read_only},
          events_{std::move(events)}, identity_{std::move(opened.identity)}, readers_{std::move(opened.readers)},
          pool_{std::move(opened.pool)}, parts_{std::move(opened.parts)}, report_{std::move(opened.exam.report)},
          ledger_{std::move(opened.ledger)}, gone_{std::move(opened.gone)},
          writer_{*pool_, *parts_, sink, *events_, std::move(opened.notes), std::move(opened.start), options} {
        background_ = options.background_thread && !options.read_only;
        if constexpr (writer_type::reads_sealed_back) writer_.after_seal([this] { read_sealed_back(); });
    }
    ~store_core() { static_cast<void>(close()); }
    store_core(store_core const&) = delete;
    store_core& operator=(store_core const&) = delete;

    /// Called by readers. `keys`: about how many keys were read. After reads_much reads on a thread the background threads start, even if
    /// nothing was written.
    void after_read(std::size_t keys) {
        static thread_local std::size_t read = 0; // counts reads of all stores: a rough count is enough
        if ((read += keys) < reads_much) [[likely]]
            return;
        read = 0;
        if (awake_.load(std::memory_order_acquire)) [[likely]]
            return;
        KEEL_TAKES(starting, &*pool_);
        std::lock_guard const hold{starting_};
        start_background();
    }
    /// Called before every write. The first call starts the background threads, so that opening a store starts no thread. If the system
    /// refuses a thread, later calls try again, at most once a second. Until a thread starts, these calls do its work themselves, one piece
    /// at a time.
    result<void> before_write() {
        if (awake_.load(std::memory_order_acquire)) [[likely]]
            return {};
        KEEL_TAKES(starting, &*pool_);
        std::unique_lock hold{starting_};
        start_background();
        auto const now = std::chrono::steady_clock::now();
        if (awake_.load(std::memory_order_relaxed) || now < next_turn_) return {};
        KEEL_TAKES(by_hand, &*pool_);
        std::unique_lock const turn{by_hand_, std::try_to_lock}; // not owned: another writer does the work now
        if (!turn.owns_lock()) return {};
        next_turn_ = now + turn_every;
        bool const keeps_log = !thread_;
        auto const other = other_work_;
        hold.unlock();
        if (keeps_log) keel::detail::if_memory_lasts([this] { housekeep(false); });
        if (other && other->by_hand) other->by_hand();
        return {};
    }
    /// Further work that runs in the background.
    struct background_work {
        std::function<result<void>()> start{}; ///< starts its thread. Errors: those of io::start_thread()
        /// Does a piece of the work on the calling thread, while there is no thread for it. Does not throw.
        std::function<void()> by_hand{};
    };
    /// Sets further work, which starts with the first write, too.
    void on_first_write(background_work other) {
        auto const shared = std::make_shared<background_work const>(std::move(other));
        KEEL_TAKES(starting, &*pool_);
        std::lock_guard const hold{starting_};
        other_work_ = shared;
    }
    /// When this returns, the further work does not start any more and no thread does it by hand. `stop()` makes a thread that does it by
    /// hand end soon.
    template <class Stop>
    void forget_other_work(Stop const& stop) noexcept {
        {
            KEEL_TAKES(starting, &*pool_);
            std::lock_guard const hold{starting_};
            other_work_ = nullptr;
        }
        stop();
        std::lock_guard const nobody{by_hand_};
    }

    /// Ends the background threads, closes the writer and releases the locks. Never throws. Errors: those of writer::close().
    result<void> close() noexcept {
        lifetime_->end();
        stop_threads();
        auto done = writer_.close();
        if constexpr (writer_type::reads_sealed_back) read_sealed_back(); // before unlock()
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
    /// Shared with all objects that read from the store.
    [[nodiscard]] std::shared_ptr<wal::store_lifetime const> lifetime() const noexcept { return lifetime_; }

    [[nodiscard]] writer_type& writer() noexcept { return writer_; }
    [[nodiscard]] writer_type const& writer() const noexcept { return writer_; }
    [[nodiscard]] recovery_report const& report() const noexcept { return report_; }
    [[nodiscard]] events_type& events() noexcept { return *events_; }
    [[nodiscard]] wal::catalog& parts() noexcept { return *parts_; }
    [[nodiscard]] pool_type& pool() noexcept { return *pool_; }
    [[nodiscard]] fs_type const& fs() const noexcept { return fs_; }
    [[nodiscard]] bool read_only() const noexcept { return read_only_; }
    [[nodiscard]] std::shared_ptr<format::manifest_state const> manifest() const { return pool_->state(); }

    /// Reports damage that was found after opening: to the corruption log, to the observer, and as the reason for the state `degraded`.
    void tell(std::vector<finding> found) {
        if (!lifetime_->is_open()) return; // after the close another process may change the files: not damage
        tell_of_own(std::move(found), "while reading");
    }
    /// Reports another event to the observer.
    template <class Event>
    void tell_event(Event const& what) {
        if (!lifetime_->is_here()) return;
        events_->push(what);
        if (!has_thread_.load(std::memory_order_acquire)) events_->deliver(); // no thread does it
    }
    /// The work of the background thread. A program without that thread calls it itself. `quiet`: nothing was written for a while.
    /// `prepares`: false: do not try to prepare segments in this call.
    void housekeep(bool quiet, bool prepares = true) {
        writer_.housekeep(quiet, prepares);
        if constexpr (writer_type::reads_sealed_back) read_sealed_back(); // segments left over for want of memory
        events_->deliver();
    }

    /// Notes durably that the user has accepted all known losses. Later openings do not report them again. Errors: closed, read_only, and
    /// those of the file system.
    result<void> accept_loss() {
        KEEL_TAKES(acceptance, &*pool_);
        std::lock_guard const hold{accepting_};
        if (writer_.state() == engine_state::closed) return failure(errc::closed, "the store is closed");
        if (read_only_)
            return failure(errc::read_only, "the store was opened read-only: open it for writing to accept its losses, "
                                            "or use wal-recovery accept-loss");
        auto const known = pool_->state();
        format::edit_builder edit;
        for (auto const id : gone_)
            if (known->segments.contains(id)) edit.retired(id);
        if (!edit.empty()) KEEL_TRY(pool_->commit(edit));
        KEEL_TRY(pool_->check_identity());
        auto const next = recovery::accepted_now(ledger_, known->losses, report_);
        KEEL_TRY(recovery::write_ledger<typename Config::checksum>(fs_, pool_->paths(), pool_->store(), next));
        ledger_ = next;
        writer_.accept_losses(known->losses);
        writer_.end_condition(state_cause::unknown_extent);
        if (!has_thread_.load(std::memory_order_acquire)) events_->deliver(); // no thread does it
        return {};
    }

    /// Releases the oldest whole segments that have no record at or above `upto`. After an error of the manifest nothing is released now;
    /// the next opening finds either all of it released or nothing. After an error of removing a file the segments are released, and the
    /// next opening removes the file.
    result<void> truncate_before(lsn upto) {
        KEEL_TAKES(retention, &*pool_);
        std::lock_guard const hold{retention_};
        if (writer_.state() == engine_state::closed) return failure(errc::closed, "the log is closed");
        auto const gone = oldest_in_front_of(upto);
        if (gone.segments.empty()) return {};
        format::edit_builder edit;
        pool_type::add_retire_edits(edit, gone.segments, gone.log_base, gone.log_start_lsn);
        KEEL_TRY(pool_->commit(edit));
        for (auto const& e : gone.segments) parts_->retire(e.id);
        result<void> done;
        for (auto const& e : gone.segments)
            if (auto disposed = pool_->recycle_or_remove(e, parts_->pinned(e.id)); !disposed && done) done = disposed;
        return done;
    }

private:
    static constexpr std::size_t reads_much = 4096;
    static constexpr auto retry_after = std::chrono::seconds(1); ///< after a thread was refused
    /// How often a writer does the work of a missing thread; the threads look for work as often.
    static constexpr auto turn_every = std::chrono::milliseconds(20);

    /// Precondition: starting_ is held. If a thread cannot be started, state() says so, and a later call tries again.
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

    /// Precondition: the files are this store's. `when`: a text for people that says when the damage was found.
    void tell_of_own(std::vector<finding> found, char const* when) {
        if (found.empty()) return;
        for (auto& f : found) f.file = pool_->paths().inside(f.file);
        {
            std::lock_guard const hold{telling_};
            // The store works on if the corruption log cannot be written.
            if (!read_only_ && pool_->check_identity())
                static_cast<void>(recovery::log_corruption(fs_, pool_->paths(), found, clock_ns_()));
        }
        for (auto const& f : found) events_->push(observe::damage_found{f});
        writer_.add_condition(state_cause::damage, std::string{"damage was found "} + when + ": " + found.front().file +
                                                       " at " + std::to_string(found.front().offset) +
                                                       "; see the corruption log");
        if (!has_thread_.load(std::memory_order_acquire)) events_->deliver(); // no thread does it
    }
    /// Reads the segments that were sealed since the last call back from the medium, verifies them, and reports damage. If memory is
    /// refused, the next call goes on.
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
        format::segment_link log_base{}; ///< of the last of them
        lsn log_start_lsn{};
    };
    /// The oldest segments, as far as they have no record at or above `upto`. A segment that a crash left without a seal is released like
    /// the others once this opening has written: its records that count are durable then, and it gets no further records.
    [[nodiscard]] given_up oldest_in_front_of(lsn upto) const {
        auto const known = pool_->state();
        bool const proven = writer_.has_written();
        given_up out{.log_base = known->log_base, .log_start_lsn = known->log_start_lsn};
        auto base = out.log_base;
        auto start = out.log_start_lsn;
        std::size_t take = 0;
        for (auto const& part : parts_->all()) {
            auto const at = known->segments.find(part->id);
            if (at == known->segments.end()) continue;
            auto const last = part->counted.empty() ? lsn{} : part->counted.back().last;
            auto const& seal = at->second.seal;
            if (part->open || part->id == writer_.active_segment() || last >= upto || (!seal && !proven)) break;
            auto const link = seal ? format::link_of(*seal, format::segment_end::rolled) : wal::link_of(*part);
            if (link.id) base = link;
            start = std::max({start, last, seal ? seal->range.last : lsn{}});
            out.segments.push_back(at->second);
            // Recovery recognises a retired file by first_lsn <= log_start_lsn, so an empty segment stays until log_start_lsn passes it.
            if (part->first > start) continue;
            take = out.segments.size();
            out.log_base = base;
            out.log_start_lsn = start;
        }
        out.segments.resize(take);
        return out;
    }

    void stop_threads() noexcept {
        KEEL_TAKES(starting, &*pool_);
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
    std::unique_ptr<pool_type> pool_;
    std::unique_ptr<wal::catalog> parts_;
    recovery_report report_;
    std::mutex accepting_; ///< one accept_loss() at a time; guards ledger_ and gone_
    recovery::loss_ledger ledger_;
    /// Segments that the manifest names, but whose files are missing. They may have had records.
    std::vector<segment_id> gone_;
    std::mutex retention_; ///< one truncate_before() at a time
    writer_type writer_;
    std::mutex starting_;                 ///< guards the members that follow
    bool background_ = false;             ///< threads may be started
    std::atomic<bool> awake_{false};      // release: a thread that sees true need not call start_background()
    std::atomic<bool> has_thread_{false}; // release: the thread that delivers events was started
    std::chrono::steady_clock::time_point next_try_{};  ///< to start a refused thread
    std::chrono::steady_clock::time_point next_turn_{}; ///< of work by hand
    bool is_told_ = false;                              ///< state() says that a thread was refused
    std::shared_ptr<background_work const> other_work_{};
    /// Held by the thread that does background work by hand. It is locked while starting_ is held, and kept after starting_ is unlocked.
    std::mutex by_hand_;
    std::optional<wal::log_thread<store_core, typename Config::durability>> thread_{};
};

} // namespace detail

} // namespace keel::inline v0

#endif
