// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECORD_LOG_HPP
#define KEEL_RECORD_LOG_HPP

// The write-ahead log on its own, as a program sees it: append bytes, read them back by LSN, follow the tail, give up what is no longer
// needed. For applications that keep their own state; the store stands on the same parts. This header only declares, as store.hpp does.

#include <keel/error.hpp>
#include <keel/fwd.hpp>
#include <keel/recovery/options.hpp>
#include <keel/recovery/report.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>
#include <keel/wal/log_record.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace keel::inline v0 {

namespace detail {
template <class Config>
class log_body;
template <class Config>
struct log_reader_body;
template <class Config>
struct log_members_by_pointer;
template <class Config>
[[nodiscard]] constexpr std::uint64_t log_record_bytes_max_of() noexcept;
} // namespace detail

/// The log over one configuration. Moves; not copyable. All calls may come from several threads at once, close() and moves apart.
/// After close(), in an object that was moved from, and in a process that was forked from the one that opened it, every call says
/// closed; in such a process nothing is done, by the destructor either.
template <class Config>
class basic_log {
public:
    using config_type = Config;

    /// The longest record: it fits one segment.
    static constexpr std::uint64_t record_bytes_max = detail::log_record_bytes_max_of<Config>();

    /// Opens the log in this folder, or makes one, and recovers it. Errors: not_found, not_a_store, wrong_format, wrong_policy,
    /// locked, corruption (where the repair policy refuses), recovery_attempts, cancelled, and the machine's.
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options = {});
    /// The same through this file system, of the type that the configuration has. Errors of these two also: invalid_argument, where the
    /// observer has no default constructor; pass one.
    template <class C = Config, class Fs = typename C::file_system>
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options, Fs fs);
    /// The same with an observer of your own, which may hold a logger.
    template <class C = Config, class Fs = typename C::file_system, class Observer = typename C::observer>
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options, Fs fs,
                                                Observer told);

    basic_log(basic_log&& other) noexcept;
    basic_log& operator=(basic_log&& other) noexcept;
    ~basic_log();

    /// Appends one record. Returns its LSN, once it is as safe as the durability policy says. too_large: nothing was written.
    [[nodiscard]] result<lsn> append(slice record);
    /// The same, and the record survives power loss when this returns its LSN, whatever the durability policy. On an error of the sync the
    /// record may be there all the same.
    [[nodiscard]] result<lsn> append(slice record, durable_t);

    /// Appends records that are there together or not at all; they take consecutive LSNs, the last of which is returned.
    [[nodiscard]] result<lsn> append_batch(std::span<byte_view const> records);
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
        reader(reader&& other) noexcept;
        reader& operator=(reader&& other) noexcept;
        ~reader();

        /// The next record; nothing at the end of what is visible now (call again to follow the tail).
        [[nodiscard]] result<std::optional<log_record>> next();
        /// The next record, waiting for one as long as `patience`.
        [[nodiscard]] result<std::optional<log_record>> next(std::chrono::nanoseconds patience);
        [[nodiscard]] lsn position() const noexcept;

    private:
        friend basic_log;
        using body = detail::log_reader_body<Config>;
        explicit reader(std::unique_ptr<body> of) noexcept;
        std::unique_ptr<body> body_; ///< nothing: moved from
    };
    /// A reader that begins at the first record at or behind `from`.
    [[nodiscard]] reader read_from(lsn from) const;

    /// All records accepted before the call survive power loss once it returns. Errors: read_only, closed, the machine's; io_error, where
    /// accepted records were lost to a sync that failed before, until accept_loss().
    [[nodiscard]] result<void> sync();
    /// Records in front of `upto` are no longer needed: whole segments of them are recycled or removed.
    [[nodiscard]] result<void> truncate_before(lsn upto);
    /// Says that somebody knows of all that was declared lost, or may be lost, up to now: state() is no longer degraded for it, and later
    /// opens show it as accepted. What this open found stays in recovery(). Errors: read_only (of an opening that never writes), closed,
    /// the machine's; then nothing is accepted.
    [[nodiscard]] result<void> accept_loss();
    /// After a failure that left the log read-only: tries to become writable again. What was not acknowledged is given up.
    [[nodiscard]] result<void> resume();
    /// Syncs, marks the orderly end, lets the lock go. The destructor does the same and cannot tell of a failure. Safe to call twice.
    /// Errors: as of sync(); the log is closed all the same.
    [[nodiscard]] result<void> close();

    /// The oldest record there is; 0 where there is none.
    [[nodiscard]] lsn first_lsn() const;
    /// The newest record readers see; declared losses count.
    [[nodiscard]] lsn last_lsn() const noexcept;
    /// All up to here survives power loss.
    [[nodiscard]] lsn durable_lsn() const;
    [[nodiscard]] engine_state state() const;
    [[nodiscard]] std::string state_reason() const;
    [[nodiscard]] recovery_report const& recovery() const noexcept;

    /// What the background thread does; for programs opened without one. `quiet`: nothing was appended for a while.
    void housekeep(bool quiet = true);
    /// Lets go of everything without touching the disk, as a killed process does.
    void abandon() noexcept;

private:
    using body = detail::log_body<Config>;
    explicit basic_log(std::unique_ptr<body> of) noexcept;
    /// So that an explicit instantiation of this class brings the calls that are templates.
    static detail::log_members_by_pointer<Config> const members_by_pointer_;

    std::unique_ptr<body> body_; ///< nothing: moved from
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
