// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECORD_LOG_HPP
#define KEEL_RECORD_LOG_HPP

// The write-ahead log on its own: append bytes, read them back by LSN, follow the tail, remove records that are no longer needed. It is for
// applications that keep their own state. The store is built on the same parts. This header only declares, as store.hpp does.

#include <keel/error.hpp>
#include <keel/fwd.hpp>
#include <keel/options.hpp>
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

/// A log over one configuration. Movable, not copyable. Any number of threads may call it at the same time, except that close() and moves
/// run alone.
///
/// Three objects have no log: one that was closed, one that was moved from, and one in a process that was forked from the process that
/// opened it. On them each call that returns a result returns `closed`. In a forked process no call does anything, and neither does the
/// destructor.
template <class Config>
class basic_log {
public:
    /// The configuration, a config<...>.
    using config_type = Config;

    /// The length of the longest record, in bytes. A record fits one segment.
    static constexpr std::uint64_t record_bytes_max = detail::log_record_bytes_max_of<Config>();

    /// Opens the log in this folder and recovers it. Makes a new log if there is none and open_options::create_if_missing is set. Errors:
    /// not_found, not_a_store, wrong_format, wrong_policy, locked, corruption (the repair policy refuses), recovery_attempts, cancelled,
    /// and errors of the machine.
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options = {});
    /// Opens the log through `fs`, a file system of the configuration's type. This call and the one above return invalid_argument if the
    /// observer has no default constructor; then pass one.
    template <class C = Config, class Fs = typename C::file_system>
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options, Fs fs);
    /// Opens the log through `fs`, with the observer `told`. The observer may hold a logger.
    template <class C = Config, class Fs = typename C::file_system, class Observer = typename C::observer>
    [[nodiscard]] static result<basic_log> open(std::string directory, open_options const& options, Fs fs,
                                                Observer told);

    /// Takes the log of another object.
    basic_log(basic_log&& other) noexcept;
    /// Closes the log of this object and takes that of the other one.
    basic_log& operator=(basic_log&& other) noexcept;
    /// Closes the log as close() does. It cannot report a failure.
    ~basic_log();

    /// Appends one record. Returns its LSN once the record is as safe as the durability policy promises. too_large: nothing was written.
    [[nodiscard]] result<lsn> append(slice record);
    /// As append(), and the record survives power loss when the call returns an LSN, under any durability policy. If the sync fails, the
    /// call returns its error, and the record may be there nevertheless.
    [[nodiscard]] result<lsn> append(slice record, durable_t);

    /// Appends records that are there together or not at all. They take consecutive LSNs. Returns the last of these. Errors: as of
    /// append(); invalid_argument: there are no records.
    [[nodiscard]] result<lsn> append_batch(std::span<byte_view const> records);
    /// The same for any other range of records.
    template <slice_range Records>
        requires(!std::convertible_to<Records, std::span<byte_view const>>)
    [[nodiscard]] result<lsn> append_batch(Records&& records) {
        std::vector<byte_view> all;
        for (slice const r : records) all.push_back(r.bytes());
        return append_batch(std::span<byte_view const>{all});
    }
    /// The same for a list in braces.
    [[nodiscard]] result<lsn> append_batch(std::initializer_list<slice> records) {
        return append_batch(std::span{records.begin(), records.size()});
    }

    /// Reads records in LSN order. After the log was closed, reads return `closed`: another process may own the files by then. One thread
    /// for each reader.
    class reader {
    public:
        /// Takes the position of another reader.
        reader(reader&& other) noexcept;
        /// Takes the position of another reader.
        reader& operator=(reader&& other) noexcept;
        /// Destroys the reader. The log stays open.
        ~reader();

        /// The next record. Nothing at the end of the records that are visible now; call again to follow the tail.
        [[nodiscard]] result<std::optional<log_record>> next();
        /// The next record. At the end it waits for one, at most for `patience`.
        [[nodiscard]] result<std::optional<log_record>> next(std::chrono::nanoseconds patience);
        /// The LSN of the next record that next() looks for. 0: the log was closed when the reader was made.
        [[nodiscard]] lsn position() const noexcept;

    private:
        friend basic_log;
        using body = detail::log_reader_body<Config>;
        explicit reader(std::unique_ptr<body> of) noexcept;
        std::unique_ptr<body> body_; ///< null: moved from
    };
    /// A reader that begins at `from`, or at the first record after it.
    [[nodiscard]] reader read_from(lsn from) const;

    /// Returns once all records accepted before the call survive power loss. Errors: read_only, closed, errors of the machine; io_error:
    /// a sync failed earlier and accepted records were lost. The last error is returned until accept_loss().
    [[nodiscard]] result<void> sync();
    /// Recycles or removes the segments whose records all come before `upto`.
    [[nodiscard]] result<void> truncate_before(lsn upto);
    /// Acknowledges all losses that were declared, or may have happened, up to now. They no longer make state() degraded, and later opens
    /// show them as accepted. recovery() still has the findings of this open. Errors after which nothing is accepted: read_only (the log
    /// was opened to be read only), closed, errors of the machine.
    [[nodiscard]] result<void> accept_loss();
    /// Tries to make the log writable again after a failure that left it read-only. Records that were not acknowledged are dropped.
    [[nodiscard]] result<void> resume();
    /// Syncs, marks the orderly end, and releases the lock. The destructor does the same but cannot report a failure. A second call is
    /// harmless. Errors: as of sync(); the log is closed in any case.
    [[nodiscard]] result<void> close();

    /// The oldest LSN in the log; 0 if there is none.
    [[nodiscard]] lsn first_lsn() const;
    /// The newest LSN that readers see. Declared losses count.
    [[nodiscard]] lsn last_lsn() const noexcept;
    /// All records up to this LSN survive power loss. 0 in an object that was moved from, and in a forked process.
    [[nodiscard]] lsn durable_lsn() const;
    /// What the log can do at present.
    [[nodiscard]] engine_state state() const;
    /// Why the log is not healthy, for people; empty if it is healthy.
    [[nodiscard]] std::string state_reason() const;
    /// The findings and repairs of this open. Valid as long as this object, and empty if it was moved from.
    [[nodiscard]] recovery_report const& recovery() const noexcept;

    /// Does the work of the background thread. A program that opened the log without that thread calls it from time to time. `quiet`: there
    /// was no append for a while.
    void housekeep(bool quiet = true);
    /// Releases everything without touching the disk, as a killed process does. For tests.
    void abandon() noexcept;

private:
    using body = detail::log_body<Config>;
    explicit basic_log(std::unique_ptr<body> of) noexcept;
    /// An explicit instantiation of this class leaves out calls that are templates. Their addresses here bring them.
    static detail::log_members_by_pointer<Config> const members_by_pointer_;

    std::unique_ptr<body> body_; ///< null: moved from
};

/// A log with these policies, in any order. An axis that is not named has its default (config.hpp).
template <class... Policies>
using log = basic_log<config<Policies...>>;
/// The same log under a second name. The header cmath declares ::log, so after `using namespace keel` the name `log` alone is ambiguous.
template <class... Policies>
using record_log = log<Policies...>;

} // namespace keel::inline v0

#endif
