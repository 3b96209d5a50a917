// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_STORE_HPP
#define KEEL_STORE_HPP

// The store as a program uses it: ordered keys and values that survive a crash. This header only declares, so it compiles in about a
// second. In a program whose files include it, one source file includes keel/keel.hpp and instantiates the definitions:
//
//   using store = keel::engine<keel::durability::every_write>;
//   template class keel::basic_engine<store::config_type>;
//
// A program that includes keel/keel.hpp everywhere needs no such line.

#include <keel/engine/batch.hpp>
#include <keel/engine/range.hpp>
#include <keel/engine/scan.hpp>
#include <keel/engine/scan_calls.hpp>
#include <keel/engine/snapshot.hpp>
#include <keel/engine/storage_report.hpp>
#include <keel/engine/transact.hpp>
#include <keel/error.hpp>
#include <keel/fwd.hpp>
#include <keel/options.hpp>
#include <keel/recovery/report.hpp>
#include <keel/state.hpp>
#include <keel/types.hpp>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace keel::inline v0 {

namespace detail {
template <class Config>
class engine_body;
template <class Config>
class transaction_body;
template <class Config>
class ingestion;
template <class Config>
struct members_by_pointer;
template <class Config>
[[nodiscard]] constexpr std::uint64_t record_bytes_max_of() noexcept;
template <class Config>
[[nodiscard]] constexpr std::uint64_t key_bytes_max_of() noexcept;
} // namespace detail

/// A store over one configuration. Movable, not copyable. Any number of threads may call it at the same time, except that close() and moves
/// run alone.
///
/// Three objects have no store: one that was closed, one that was moved from, and one in a process that was forked from the process that
/// opened it. On them each call that returns a result returns `closed`. In a forked process no call does anything, and neither does the
/// destructor.
template <class Config>
class basic_engine : public detail::scan_calls<basic_engine<Config>, basic_scan<detail::walk<Config>>,
                                               basic_scan<detail::walk<Config>, std::string_view>> {
public:
    /// One transaction of the store.
    class transaction;
    /// The configuration, a config<...>.
    using config_type = Config;
    /// A scan over keys and values.
    using key_scan = basic_scan<detail::walk<Config>>;
    /// A scan over keys without their values.
    using keys_only = basic_scan<detail::walk<Config>, std::string_view>;

    /// The length of the longest key, in bytes.
    static constexpr std::uint64_t key_bytes_max = detail::key_bytes_max_of<Config>();
    /// The largest sum of key and value, in bytes. A record fits one segment and one table.
    static constexpr std::uint64_t record_bytes_max = detail::record_bytes_max_of<Config>();

    /// Opens the store in this folder and recovers it; recovery() has the findings. Makes a new store if there is none and
    /// open_options::create_if_missing is set.
    ///
    /// With `read_only` the object shows the store as it was at this moment. A writer may go on, restart or compact meanwhile. To see newer
    /// records, open again.
    ///
    /// Errors: not_found, not_a_store, wrong_format, wrong_policy, locked, corruption (the repair policy refuses), recovery_attempts,
    /// cancelled, and errors of the machine.
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options = {});
    /// Opens the store through `fs`, a file system of the configuration's type. This call and the one above return invalid_argument if the
    /// observer has no default constructor; then pass one.
    template <class C = Config, class Fs = typename C::file_system>
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options, Fs fs);
    /// Opens the store through `fs`, with the observer `told`. The observer may hold a logger.
    template <class C = Config, class Fs = typename C::file_system, class Observer = typename C::observer>
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options, Fs fs,
                                                   Observer told);

    /// Takes the store of another object. Open scans, transactions and snapshots stay valid.
    basic_engine(basic_engine&& other) noexcept;
    /// Closes the store of this object and takes that of the other one.
    basic_engine& operator=(basic_engine&& other) noexcept;
    /// Closes the store as close() does. It cannot report a failure.
    ~basic_engine();

    /// Sets the value of a key. Returns the LSN once the write is as safe as the durability policy promises. Errors: invalid_argument
    /// (empty key), too_large (nothing was written), read_only, outcome_unknown, closed.
    [[nodiscard]] result<lsn> put(slice key, slice value);
    /// Removes a key. It is no error if the key has no value. Errors: as of put().
    [[nodiscard]] result<lsn> erase(slice key);
    /// Writes the whole batch or nothing of it. Returns the LSN of its last operation. Errors: as of put(); invalid_argument also for a
    /// batch without operations.
    [[nodiscard]] result<lsn> write(write_batch const& batch);
    /// As put(), and the write survives power loss when the call returns an LSN, under any durability policy. If the sync fails, the call
    /// returns its error, and the write may be there nevertheless.
    [[nodiscard]] result<lsn> put(slice key, slice value, durable_t);
    /// As erase(), with the guarantee of put() with `durable`.
    [[nodiscard]] result<lsn> erase(slice key, durable_t);
    /// As write(), with the guarantee of put() with `durable`.
    [[nodiscard]] result<lsn> write(write_batch const& batch, durable_t);

    /// Removes every key of a range that has a value when the call begins. Returns the number of these keys. The time is proportional to
    /// that number. The keys are removed in batches. A batch has as many as fit 64 KiB of log, or the segment if that is smaller: 1,365
    /// keys of 16 bytes. A range that fits one batch is removed as a whole or not at all. In a larger range a crash or an error may leave
    /// the keys at the end; call again to remove them. Errors: those of a write and of a scan.
    [[nodiscard]] result<std::uint64_t> erase(range const& which);
    /// Removes every key with this prefix, as erase(range).
    [[nodiscard]] result<std::uint64_t> erase(prefix const& which) { return erase(which.as_range()); }

    /// Adds sorted data in one step. The data goes directly into tables and not through the log. All of it has one LSN, which is
    /// returned. It is there as a whole or not at all, survives power loss under any durability policy, and replaces the values of its
    /// keys.
    ///
    /// `sorted`: an input range of pairs of key and value, each text or bytes (slice). The keys are in bytewise order, and no key occurs
    /// twice.
    ///
    /// Writers wait only during the last step, a few syncs. Memory: for one table at a time, a key of each block and 8 bytes for each key.
    ///
    /// Errors after which nothing was ingested: invalid_argument (not in order, an empty key, or no element), too_large, no_space,
    /// read_only, closed, and the errors of `sorted`, if that is a scan. Error outcome_unknown: the store is read-only; the next open
    /// shows whether the data is there.
    template <std::ranges::input_range Sorted>
        requires requires(std::ranges::range_reference_t<Sorted> kv) {
            slice{std::get<0>(kv)};
            slice{std::get<1>(kv)};
        }
    [[nodiscard]] result<lsn> ingest(Sorted&& sorted) {
        KEEL_TRY_LET(all, begin_ingest());
        for (auto&& kv : sorted) KEEL_TRY(add_sorted(*all, slice{std::get<0>(kv)}, slice{std::get<1>(kv)}));
        if constexpr (requires { result<void>{sorted.status()}; }) KEEL_TRY(sorted.status()); // a scan that ended early
        return finish_ingest(*all);
    }

    /// The present value of a key, or nothing if the key has none. Errors: corruption, closed, and errors of the machine.
    [[nodiscard]] result<std::optional<std::string>> get(slice key) const;
    /// The value that a key has in the snapshot. Errors: as of get(key); invalid_argument: the snapshot belongs to another store, or to an
    /// earlier opening of this one.
    [[nodiscard]] result<std::optional<std::string>> get(slice key, snapshot const& as_of) const;

    /// A snapshot of this moment: reads through it do not change. Such reads need this object. The store keeps the versions that a snapshot
    /// sees for as long as the snapshot lives.
    [[nodiscard]] keel::snapshot snapshot() const;

    /// The values of several keys at one moment, in the order of the keys. Errors: as of get().
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(
        std::span<std::string_view const> keys) const;
    /// The same for any other range of keys.
    template <slice_range Keys>
        requires(!std::convertible_to<Keys, std::span<std::string_view const>>)
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(Keys&& keys) const {
        std::vector<std::string_view> texts;
        for (slice const key : keys) texts.push_back(key.text());
        return multi_get(std::span<std::string_view const>{texts});
    }
    /// The same for a list in braces.
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(std::initializer_list<slice> keys) const {
        return multi_get(std::span{keys.begin(), keys.size()});
    }

    /// An estimate of the bytes on the disk that hold the keys of a range, with all their versions. It is exact to about a block for each
    /// file. The call reads indexes and no records. The newest records, which are also in memory, are not counted.
    [[nodiscard]] result<std::uint64_t> approximate_size(range const& which) const;
    /// The same for the keys with this prefix.
    [[nodiscard]] result<std::uint64_t> approximate_size(prefix const& which) const {
        return approximate_size(which.as_range());
    }

    /// Verifies the tables and the segments that take no more records, while the store serves. `deep`: every byte of them. `quick`:
    /// whether the files are there and can be opened. Each finding is an event, makes the store degraded, and is added to the corruption
    /// log. The call changes nothing. Errors: closed, and errors of the machine.
    [[nodiscard]] result<recovery_report> verify(verify_depth how = verify_depth::deep) const;

    /// Begins a transaction that reads from this moment.
    ///
    /// After a commit on any thread has returned `conflict`, the call waits until the record that came first is visible. Otherwise the new
    /// transaction would read from before that record and conflict with it again. The wait is at most one sync. There is none unless a
    /// commit has met a record that is still on its way to the disk. snapshot() and get() never wait.
    [[nodiscard]] transaction begin() const;

    /// Runs `fn(transaction&)` and commits the transaction. If another commit came first, it runs `fn` again after a short pause, in a new
    /// transaction that sees the other commit. `how` limits the number of runs. `fn` returns T or result<T>; T may be void:
    ///
    ///     void, result<void>   result<lsn>            the LSN of the last write, as of transaction::commit()
    ///     T, result<T>         result<committed<T>>   the value, and that LSN
    ///
    /// If `fn` returns an error, the call returns the same error, and nothing was written. If `fn` throws, the exception passes, and
    /// nothing was written. `fn` may run several times; an effect of it outside of the transaction happens as often. It must not end the
    /// transaction.
    ///
    /// No lock is held while `fn` runs, and `fn` may call the store. Any thread may call. Threads that change the same keys take turns.
    ///
    /// Errors: those of `fn`; conflict (another commit came first in every run); invalid_argument (`fn` ended the transaction); those of
    /// a write.
    template <std::invocable<transaction&> Fn>
    [[nodiscard]] auto transact(Fn&& fn, transact_options const& how = {}) {
        return run_transaction(fn, how, [](transaction& tx) { return tx.commit(); });
    }
    /// As above, and the writes survive power loss when the call returns a value, under any durability policy. If the sync fails, the
    /// writes may be there nevertheless, and `fn` is not run again.
    template <std::invocable<transaction&> Fn>
    [[nodiscard]] auto transact(Fn&& fn, transact_options const& how, durable_t) {
        return run_transaction(fn, how, [](transaction& tx) { return tx.commit(durable); });
    }
    /// As above, with the default transact_options.
    template <std::invocable<transaction&> Fn>
    [[nodiscard]] auto transact(Fn&& fn, durable_t) {
        return transact(fn, transact_options{}, durable);
    }

    /// Replaces the value of a key. `fn(std::optional<std::string> const& old)` returns the new value, or an optional one; nothing erases
    /// the key. It may return either in a result; then an error of it is returned, and nothing was written. No other write of the key
    /// happens between the read and the write; see transact(). Returns the LSN of the write.
    template <std::invocable<std::optional<std::string> const&> Fn>
    [[nodiscard]] result<lsn> update(slice key, Fn&& fn, transact_options const& how = {}) {
        return transact([&](transaction& tx) { return change_value(tx, key, fn); }, how);
    }
    /// As above, and the write survives power loss when the call returns an LSN, under any durability policy.
    template <std::invocable<std::optional<std::string> const&> Fn>
    [[nodiscard]] result<lsn> update(slice key, Fn&& fn, transact_options const& how, durable_t) {
        return transact([&](transaction& tx) { return change_value(tx, key, fn); }, how, durable);
    }
    /// As above, with the default transact_options.
    template <std::invocable<std::optional<std::string> const&> Fn>
    [[nodiscard]] result<lsn> update(slice key, Fn&& fn, durable_t) {
        return update(key, fn, transact_options{}, durable);
    }

    /// Merges all records into the tables of one level, whatever the compaction policy is, and frees the segments of the log. Reads and
    /// writes go on meanwhile; the call does not wait for writes that begin later. A file with unreadable records goes to quarantine/,
    /// and the keys of these records keep their answer, an error. Errors: corruption (a part of the log does not verify and stays, after
    /// all other records were merged), no_space, those of a write. An error loses nothing.
    [[nodiscard]] result<void> compact();
    /// Verifies every table as verify() does, and rewrites the damaged ones. Unreadable records are treated as by compact(). Returns the
    /// number of damaged tables. Reads and writes go on meanwhile. Errors: as of compact().
    [[nodiscard]] result<std::uint64_t> repair_tables();
    /// The number of bytes in each part of the store, and the cost of compaction since the store was opened.
    [[nodiscard]] storage_report storage() const;

    /// Returns once all writes accepted before the call survive power loss. Errors: read_only, closed, errors of the machine; io_error: a
    /// sync failed earlier and accepted records were lost. The last error is returned until accept_loss().
    [[nodiscard]] result<void> sync();
    /// Acknowledges all losses that were declared, or may have happened, up to now. They no longer make state() degraded, and later opens
    /// show them as accepted. recovery() still has the findings of this open. Errors after which nothing is accepted: read_only (the
    /// store was opened to be read only), closed, errors of the machine.
    [[nodiscard]] result<void> accept_loss();
    /// Tries to make the store writable again after a failure that left it read-only. On a full disk it first frees superseded parts of
    /// the log, if necessary with the reserve.
    [[nodiscard]] result<void> resume();
    /// Syncs, marks the orderly end, and releases the lock. The destructor does the same but cannot report a failure. A second call is
    /// harmless. A scan under way ends with `closed` at its next step. Errors: as of sync(); the store is closed in any case.
    [[nodiscard]] result<void> close();

    /// The newest LSN that readers see. Declared losses count.
    [[nodiscard]] lsn last_lsn() const noexcept;
    /// All records up to this LSN survive power loss. 0 in an object that was moved from, and in a forked process.
    [[nodiscard]] lsn durable_lsn() const;
    /// What the store can do at present.
    [[nodiscard]] engine_state state() const;
    /// Why the store is not healthy, for people; empty if it is healthy.
    [[nodiscard]] std::string state_reason() const;
    /// The findings and repairs of this open. Valid as long as this object, and empty if it was moved from.
    [[nodiscard]] recovery_report const& recovery() const noexcept;

    /// Does the work of the background thread. A program that opened the store without that thread calls it from time to time. `quiet`:
    /// there was no write for a while.
    void housekeep(bool quiet = true);
    /// Releases everything without touching the disk, as a killed process does. For tests.
    void abandon() noexcept;

private:
    using body = detail::engine_body<Config>;
    using ingest_handle = std::unique_ptr<detail::ingestion<Config>, void (*)(detail::ingestion<Config>*)>;
    friend class detail::scan_calls<basic_engine, key_scan, keys_only>;

    explicit basic_engine(std::unique_ptr<body> of) noexcept;
    /// An explicit instantiation of this class leaves out calls that are templates and the steps of a scan. Their addresses here bring
    /// them.
    static detail::members_by_pointer<Config> const members_by_pointer_;

    [[nodiscard]] detail::walk<Config> walk_over(range which, keel::snapshot const* as_of, on_damage how) const;
    [[nodiscard]] detail::walk<Config> no_walk(error why) const;
    [[nodiscard]] result<ingest_handle> begin_ingest();
    [[nodiscard]] static result<void> add_sorted(detail::ingestion<Config>& to, slice key, slice value);
    [[nodiscard]] result<lsn> finish_ingest(detail::ingestion<Config>& all);
    [[nodiscard]] result<void> check_open() const;
    static void pause_before_run(transact_options const& how, unsigned runs, lsn conflict);

    template <class Fn, class Commit>
    [[nodiscard]] auto run_transaction(Fn& fn, transact_options const& how, Commit const& commit) {
        auto const run = [&] {
            return detail::run_until_committed([this] { return begin(); }, fn, commit,
                                               [&](unsigned runs, lsn met) { pause_before_run(how, runs, met); }, how);
        };
        if (auto open = check_open(); !open) [[unlikely]]
            return decltype(run()){failure(std::move(open).error())};
        return run();
    }
    template <class Fn>
    [[nodiscard]] static result<void> change_value(transaction& tx, slice key, Fn& fn) {
        KEEL_TRY_LET(const old, tx.get(key));
        auto made = detail::call_for_result(fn, old);
        if (!made) return failure(std::move(made).error());
        std::optional<std::string> const next{*std::move(made)};
        return next ? tx.put(key, *next) : tx.erase(key);
    }

    std::unique_ptr<body> body_; ///< null: moved from
};

/// One transaction of a store. It ends with commit() or rollback(). The destructor rolls it back; then nothing of it remains. Movable, not
/// copyable. One thread at a time. It may outlive its store: after the store was closed, reads and commits return `closed`.
template <class Config>
class basic_engine<Config>::transaction {
public:
    /// A scan over keys and values.
    using scan_type = key_scan;

    /// Takes the transaction of another object.
    transaction(transaction&& other) noexcept;
    /// Rolls this transaction back and takes that of the other object.
    transaction& operator=(transaction&& other) noexcept;
    /// Rolls the transaction back if it has not ended.
    ~transaction();

    /// The LSN that the transaction reads from: the newest one visible when it began.
    [[nodiscard]] lsn moment() const noexcept;

    /// The value of a key: the last write of this transaction, else the value at moment(). Nothing if the key has no value.
    [[nodiscard]] result<std::optional<std::string>> get(slice key);
    /// Sets the value of a key at commit. Errors: invalid_argument (an empty key, or the transaction has ended), too_large (the key).
    [[nodiscard]] result<void> put(slice key, slice value);
    /// Removes a key at commit. Errors: as of put().
    [[nodiscard]] result<void> erase(slice key);

    /// Keys in order, with the writes of this transaction. No keys after the transaction has ended. The views are valid until the
    /// iterator moves on or the transaction writes. The transaction must outlive the scan.
    [[nodiscard]] scan_type scan(range which = {}, on_damage how = on_damage::stop) {
        return scan_type{walk_over(std::move(which), how)};
    }
    /// The keys that begin with the prefix.
    [[nodiscard]] scan_type scan(prefix const& which, on_damage how = on_damage::stop) {
        return scan(which.as_range(), how);
    }
    /// {"a", "b"}: the keys from "a" (included) to "b" (not included). {"a"}: the keys from "a" to the end. With more bounds, status()
    /// returns invalid_argument.
    [[nodiscard]] scan_type scan(std::initializer_list<slice> from_to, on_damage how = on_damage::stop) {
        auto which = detail::range_between(from_to);
        if (!which) return scan_type{no_walk(std::move(which).error())};
        return scan(std::move(*which), how);
    }
    /// All keys.
    [[nodiscard]] scan_type scan(on_damage how) { return scan(range{}, how); }

    /// Writes everything as one batch and ends the transaction, in any case. Returns the LSN of the last write once the batch is as safe
    /// as the durability policy promises; without writes it returns moment().
    ///
    /// Errors: conflict: another commit came first; run the transaction again, as engine::transact() does. `error::at` is the LSN of the
    /// other commit, which begin() waits for. invalid_argument: the transaction ended before. corruption: bytes that would show whether
    /// another commit came first do not verify. And the errors of a write.
    [[nodiscard]] result<lsn> commit();
    /// As commit(), and the writes survive power loss when the call returns an LSN, under any durability policy. If the sync fails, the
    /// writes may be there nevertheless.
    [[nodiscard]] result<lsn> commit(durable_t);
    /// Ends the transaction without writing.
    void rollback() noexcept;

private:
    friend basic_engine;
    using body = detail::transaction_body<Config>;
    explicit transaction(std::unique_ptr<body> of) noexcept;
    [[nodiscard]] detail::walk<Config> walk_over(range which, on_damage how);
    [[nodiscard]] detail::walk<Config> no_walk(error why) const;

    std::unique_ptr<body> body_; ///< null: moved from
};

/// A store with these policies, in any order. An axis that is not named has its default (config.hpp).
template <class... Policies>
using engine = basic_engine<config<Policies...>>;

} // namespace keel::inline v0

#endif
