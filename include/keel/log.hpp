// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_LOG_HPP
#define KEEL_LOG_HPP

// The write-ahead log on its own: append bytes, read them back by LSN, follow the tail, give up what is no longer needed.
// `keel::log<Policies...>` for applications that keep their own state; the engine stands on the same parts.

#include <keel/config.hpp>
#include <keel/error.hpp>
#include <keel/recovery/opening.hpp>
#include <keel/recovery/report.hpp>
#include <keel/wal/keeper_thread.hpp>
#include <keel/wal/reader.hpp>
#include <keel/wal/writer.hpp>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
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

    template <class Opened>
    log_core(Opened opened, fs_type fs, Sink& sink, std::unique_ptr<typename Config::observer> observer,
             open_options const& options)
        : fs_{std::move(fs)}, clock_ns_{options.clock_ns}, read_only_{options.read_only},
          observer_{std::move(observer)}, lock_{std::move(opened.lock)}, keeper_{std::move(opened.keeper)},
          parts_{std::move(opened.parts)}, report_{std::move(opened.exam.report)},
          writer_{*keeper_, *parts_, sink, *observer_, std::move(opened.notes), std::move(opened.start), options} {
        background_ = options.background_thread && !options.read_only;
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
        try {
            before_write();
        } catch (std::system_error const&) { // no thread to be had: whoever writes is told
        }
    }
    /// Called in front of whatever writes: the first call starts what runs in the background, so that opening starts no thread.
    void before_write() {
        if (awake_.load(std::memory_order_acquire)) [[likely]]
            return;
        std::lock_guard const hold{starting_};
        if (awake_.load(std::memory_order_relaxed)) return;
        if (background_) thread_.emplace(writer_);
        if (background_ && on_first_write_) on_first_write_();
        awake_.store(true, std::memory_order_release);
    }
    /// What else starts then; nothing: nothing more.
    void on_first_write(std::function<void()> start) {
        std::lock_guard const hold{starting_};
        on_first_write_ = std::move(start);
    }

    result<void> close() {
        stop_threads();
        auto done = writer_.close();
        lock_.reset();
        return done;
    }
    void abandon() noexcept {
        stop_threads();
        writer_.abandon();
        lock_.reset();
    }

    [[nodiscard]] writer_type& writer() noexcept { return writer_; }
    [[nodiscard]] writer_type const& writer() const noexcept { return writer_; }
    [[nodiscard]] recovery_report const& report() const noexcept { return report_; }
    [[nodiscard]] wal::catalog& parts() noexcept { return *parts_; }
    [[nodiscard]] keeper_type& keeper() noexcept { return *keeper_; }
    [[nodiscard]] fs_type const& fs() const noexcept { return fs_; }
    [[nodiscard]] bool read_only() const noexcept { return read_only_; }
    [[nodiscard]] format::manifest_state manifest() const { return keeper_->state(); }

    /// Damage that was come upon after opening: logged, told to the observer, and the reason for being degraded.
    void tell(std::vector<finding> found) {
        if (found.empty() || writer_.state() == engine_state::closed) return; // the folder may be another one's by now
        for (auto& f : found) f.file = keeper_->paths().inside(f.file);
        std::lock_guard const hold{telling_};
        // That it was logged is not what keeps the store going.
        if (!read_only_) static_cast<void>(recovery::log_corruption(fs_, keeper_->paths(), found, clock_ns_()));
        writer_.tell(found);
    }

    /// Gives up whole segments in front of `upto`.
    result<void> truncate_before(lsn upto) {
        std::lock_guard const hold{retention_};
        if (writer_.state() == engine_state::closed) return failure(errc::closed, "the log is closed");
        auto const known = keeper_->state();
        auto base = known.base;
        auto floor = known.floor;
        std::vector<format::segment_entry> gone;
        for (auto const& part : parts_->wholly_at_or_below(upto.before())) {
            auto const at = known.segments.find(part.id);
            if (at == known.segments.end() || part.id == writer_.active_segment()) continue;
            // Records in front of a segment that stays, or one without a seal, keep it: retention goes from the oldest on.
            if (!at->second.seal) break;
            gone.push_back(at->second);
            auto const& seal = *at->second.seal;
            floor = std::max(floor, seal.range.last);
            base = format::link_of(seal, format::segment_end::rolled);
        }
        if (gone.empty()) return {};
        for (auto const& e : gone) parts_->retire(e.id);
        format::edit_builder edit;
        keeper_type::give_up(edit, gone, base, floor);
        KEEL_TRY(keeper_->commit(edit));
        for (auto const& e : gone) KEEL_TRY(keeper_->dispose(e, parts_->pinned(e.id)));
        return {};
    }

private:
    static constexpr std::size_t reads_much = 4096;

    void stop_threads() noexcept {
        std::lock_guard const hold{starting_};
        background_ = false;
        thread_.reset();
    }

    fs_type fs_;
    std::uint64_t (*clock_ns_)();
    bool read_only_;
    std::mutex telling_; ///< one entry in the corruption log at a time
    std::unique_ptr<typename Config::observer> observer_;
    std::optional<typename fs_type::lock_type> lock_;
    std::unique_ptr<keeper_type> keeper_;
    std::unique_ptr<wal::catalog> parts_;
    recovery_report report_;
    std::mutex retention_; ///< one truncate_before at a time
    writer_type writer_;
    std::mutex starting_;            ///< guards what follows
    bool background_ = false;        ///< threads may be started
    std::atomic<bool> awake_{false}; // release: who sees it need not ask again
    std::function<void()> on_first_write_{};
    std::optional<wal::keeper_thread<writer_type, typename Config::durability>> thread_{};
};

} // namespace detail

/// The log over one configuration. Moves; not copyable. All calls may come from several threads at once, close() and moves apart.
template <class Config>
class basic_log {
    using core_type = detail::log_core<detail::writing_config<Config>, wal::discard_records>;

public:
    using config_type = Config;
    using file_system = typename Config::file_system;

    /// Opens the log in this folder, or makes one, and recovers it. Errors: not_found, not_a_store, wrong_format, wrong_policy,
    /// locked, corruption (where the repair policy refuses), recovery_attempts, cancelled, and the machine's.
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options = {},
                                                file_system fs = {}) {
        auto observer = std::make_unique<typename Config::observer>();
        std::vector<recovery::no_sink> sinks;
        auto opened = recovery::open_store<detail::recovering_config<Config>>(
            fs, std::move(directory), Config::segment_bytes, options, *observer, sinks);
        if (!opened) return failure(std::move(opened).error());
        basic_log out;
        out.sink_ = std::make_unique<wal::discard_records>();
        out.core_ = std::make_unique<core_type>(std::move(*opened), fs, *out.sink_, std::move(observer), options);
        return out;
    }

    /// Appends one record. Returns its LSN, once it is as safe as the durability policy says. too_large: nothing was written.
    [[nodiscard]] result<lsn> append(byte_view bytes) { return append_batch(std::span{&bytes, 1}); }
    [[nodiscard]] result<lsn> append(std::string_view text) { return append(as_bytes(text)); }

    /// Appends records that are there together or not at all; they take consecutive LSNs, the last of which is returned.
    [[nodiscard]] result<lsn> append_batch(std::span<byte_view const> records) {
        if (records.empty()) return failure(errc::invalid_argument, "an empty batch has no LSN");
        std::vector<wal::operation> batch;
        batch.reserve(records.size());
        for (auto const& r : records) batch.push_back({.type = format::frame_type::message, .value = r});
        core_->before_write();
        return core_->writer().write(batch);
    }

    /// Reads records in LSN order. Must not outlive the log. One thread per reader.
    class reader {
    public:
        /// The next record; nothing at the end of what is visible now (call again to follow the tail).
        [[nodiscard]] result<std::optional<log_record>> next() { return inner_.next(core_->writer().visible()); }
        /// The next record, waiting for one as long as `patience`.
        [[nodiscard]] result<std::optional<log_record>> next(std::chrono::nanoseconds patience) {
            auto record = next();
            if (!record || *record) return record;
            static_cast<void>(core_->writer().wait_visible(inner_.position().before(), patience));
            return next();
        }
        [[nodiscard]] lsn position() const noexcept { return inner_.position(); }

    private:
        friend basic_log;
        reader(wal::reader<typename Config::checksum, file_system> inner, core_type& core)
            : inner_{std::move(inner)}, core_{&core} {}
        wal::reader<typename Config::checksum, file_system> inner_;
        core_type* core_;
    };

    /// A reader that begins at the first record at or behind `from`.
    [[nodiscard]] reader read_from(lsn from) const { return reader{{core_->fs(), core_->parts(), from}, *core_}; }

    /// All records accepted before the call survive power loss once it returns.
    [[nodiscard]] result<void> sync() {
        core_->before_write();
        return core_->writer().sync();
    }
    /// Records in front of `upto` are no longer needed: whole segments of them are recycled or removed.
    [[nodiscard]] result<void> truncate_before(lsn upto) { return core_->truncate_before(upto); }
    /// After a failure that left the log read-only: tries to become writable again. What was not acknowledged is given up.
    [[nodiscard]] result<void> resume() { return core_->writer().resume(); }
    /// Syncs, marks the orderly end, lets the lock go. The destructor does the same and cannot tell of a failure.
    [[nodiscard]] result<void> close() { return core_->close(); }

    /// The oldest record there is; 0 where there is none.
    [[nodiscard]] lsn first_lsn() const {
        auto const first = core_->parts().next_counted(lsn{1});
        return first > last_lsn() ? lsn{} : first;
    }
    /// The newest record readers see; declared losses count.
    [[nodiscard]] lsn last_lsn() const noexcept { return core_->writer().visible(); }
    /// All up to here survives power loss.
    [[nodiscard]] lsn durable_lsn() const { return core_->writer().durable(); }
    [[nodiscard]] engine_state state() const { return core_->writer().state(); }
    [[nodiscard]] std::string state_reason() const { return core_->writer().state_reason(); }
    [[nodiscard]] recovery_report const& recovery() const noexcept { return core_->report(); }

    /// What the background thread does; for programs opened without one. `quiet`: nothing was appended for a while.
    void housekeep(bool quiet = true) { core_->writer().housekeep(quiet); }
    /// Lets go of everything without touching the disk, as a killed process does.
    void abandon() noexcept { core_->abandon(); }

private:
    basic_log() = default;
    std::unique_ptr<wal::discard_records> sink_{};
    std::unique_ptr<core_type> core_{};
};

/// The log with these policies, in any order, each with a default (config.hpp).
template <class... Policies>
using log = basic_log<config<Policies...>>;

} // namespace keel::inline v0

#endif
