// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_LOG_BODY_HPP
#define KEEL_ENGINE_LOG_BODY_HPP

// The implementation of a log (record_log.hpp declares it).

#include <keel/config.hpp>
#include <keel/engine/store_core.hpp>
#include <keel/error.hpp>
#include <keel/io/process.hpp>
#include <keel/recovery/opening.hpp>
#include <keel/types.hpp>
#include <keel/wal/log_record.hpp>
#include <keel/wal/reader.hpp>
#include <keel/wal/store_lifetime.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// A log with one configuration. It does not move. Each public function implements the function of basic_log with its name, and has the
/// same thread rules and errors.
template <class Config>
class log_body {
    using core_type = store_core<writing_config<Config>, wal::discard_records>;
    using lifetime_type = std::shared_ptr<wal::store_lifetime const>;

    using file_system = typename Config::file_system;
    using observer = typename Config::observer;

public:
    [[nodiscard]] static result<std::unique_ptr<log_body>> open(std::string directory, open_options const& options,
                                                                file_system fs, observer told) {
        auto events = std::make_shared<typename core_type::events_type>(std::move(told));
        std::vector<recovery::no_sink> sinks;
        auto opened = recovery::open_store<recovering_config<Config>>(fs, std::move(directory), Config::segment_bytes,
                                                                      options, *events, sinks);
        if (!opened) {
            events->deliver();
            return failure(std::move(opened).error());
        }
        std::unique_ptr<log_body> out{new log_body};
        *out->sink_ = std::make_unique<wal::discard_records>();
        *out->core_ = std::make_unique<core_type>(std::move(*opened), **out->sink_, events, options);
        out->lifetime_ = out->core_->lifetime();
        events->deliver();
        return out;
    }

    [[nodiscard]] result<lsn> append(byte_view record) { return append_batch(std::span{&record, 1}); }
    /// Makes a write durable, whatever the durability policy: it survives power loss when this returns.
    [[nodiscard]] result<lsn> kept(result<lsn> written) {
        if (written) KEEL_TRY(core_->writer().make_durable(*written));
        return written;
    }
    [[nodiscard]] result<lsn> append_batch(std::span<byte_view const> records) {
        KEEL_TRY(wal::check_open(lifetime_));
        if (records.empty()) return failure(errc::invalid_argument, "an empty batch has no LSN");
        std::vector<wal::operation> batch;
        batch.reserve(records.size());
        for (auto const& r : records) batch.push_back({.type = format::frame_type::message, .value = r});
        KEEL_TRY(core_->before_write());
        return core_->writer().write(batch);
    }
    class reader {
    public:
        /// The next record; nothing at the end of the records that are visible now. Call it again later to follow the tail.
        [[nodiscard]] result<std::optional<log_record>> next() {
            KEEL_TRY(wal::check_open(lifetime_));
            auto record = inner_->next(core_->writer().visible());
            // If the log was closed meanwhile, another process may have changed the files; then the error is `closed`, not damage.
            if (!record) KEEL_TRY(wal::check_open(lifetime_));
            return record;
        }
        /// The next record. If there is none yet, waits for one, at most as long as `patience`.
        [[nodiscard]] result<std::optional<log_record>> next(std::chrono::nanoseconds patience) {
            auto record = next();
            if (!record || *record) return record;
            static_cast<void>(core_->writer().wait_visible(position().before(), patience));
            return next();
        }
        [[nodiscard]] lsn position() const noexcept { return *inner_ ? inner_->position() : lsn{}; }

    private:
        friend log_body;
        using inner_type = std::optional<wal::reader<typename Config::checksum, file_system>>;
        reader(inner_type inner, core_type* core, lifetime_type lifetime)
            : inner_{std::move(inner)}, core_{core}, lifetime_{std::move(lifetime)} {}
        io::process_bound<inner_type> inner_; ///< nothing: the log was closed when the reader was made
        core_type* core_;
        lifetime_type lifetime_;
    };

    /// A reader that begins at the first record whose LSN is not below `from`.
    [[nodiscard]] reader read_from(lsn from) const {
        if (!lifetime_ || !lifetime_->is_open()) return reader{std::nullopt, nullptr, lifetime_};
        return reader{wal::reader<typename Config::checksum, file_system>{core_->fs(), core_->parts(), from},
                      (*core_).get(), lifetime_};
    }

    [[nodiscard]] result<void> sync() {
        KEEL_TRY(wal::check_open(lifetime_));
        KEEL_TRY(core_->before_write());
        return core_->writer().sync();
    }
    [[nodiscard]] result<void> truncate_before(lsn upto) {
        KEEL_TRY(wal::check_open(lifetime_));
        return core_->truncate_before(upto);
    }
    [[nodiscard]] result<void> accept_loss() {
        KEEL_TRY(wal::check_open(lifetime_));
        return core_->accept_loss();
    }
    [[nodiscard]] result<void> resume() {
        KEEL_TRY(wal::check_open(lifetime_));
        return core_->writer().resume();
    }
    [[nodiscard]] result<void> close() {
        if (!is_here()) return wal::why_closed(lifetime_.get());
        return core_->close();
    }

    /// The LSN of the oldest record; 0 if there is none.
    [[nodiscard]] lsn first_lsn() const {
        if (!is_here()) return {};
        auto const first = core_->parts().next_counted(lsn{1});
        return first > last_lsn() ? lsn{} : first;
    }
    /// The LSN of the newest record that readers see. Declared losses count as records.
    [[nodiscard]] lsn last_lsn() const noexcept { return lifetime_ ? core_->writer().visible() : lsn{}; }
    /// All records up to this LSN survive power loss.
    [[nodiscard]] lsn durable_lsn() const { return is_here() ? core_->writer().durable() : lsn{}; }
    [[nodiscard]] engine_state state() const { return is_here() ? core_->writer().state() : engine_state::closed; }
    [[nodiscard]] std::string state_reason() const {
        return is_here() ? core_->writer().state_reason() : wal::why_closed(lifetime_.get()).value().message;
    }
    [[nodiscard]] recovery_report const& recovery() const noexcept {
        static recovery_report const none{};
        return *core_ ? core_->report() : none;
    }

    /// Does the work of the background thread, for logs opened without one. `quiet`: nothing was appended for a while.
    void housekeep(bool quiet = true) {
        if (lifetime_ && lifetime_->is_open()) core_->housekeep(quiet);
    }
    /// Releases everything without touching the disk, like a process that is killed.
    void abandon() noexcept {
        if (is_here()) core_->abandon();
    }

private:
    log_body() = default;
    /// There is a log, and this process opened it (a forked child may not use it).
    [[nodiscard]] bool is_here() const noexcept { return lifetime_ && lifetime_->is_here(); }

    io::process_bound<std::unique_ptr<wal::discard_records>> sink_{};
    io::process_bound<std::unique_ptr<core_type>> core_{}; // refers to the sink, so it is destroyed first
    lifetime_type lifetime_{};
};

} // namespace keel::inline v0::detail

#endif
