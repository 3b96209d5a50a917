// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_STORE_HPP
#define KEEL_STORE_HPP

// The store as a program sees it: ordered keys and values that survive. This header only declares, and compiles in a second. In a program
// whose files include it, one file includes keel/keel.hpp and has the code made:
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
#include <keel/recovery/options.hpp>
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

/// A store over one configuration. Moves; not copyable. All calls may come from several threads at once, close() and moves apart.
/// After close(), in an object that was moved from, and in a process that was forked from the one that opened it, every call says
/// closed; in such a process nothing is done, by the destructor either.
template <class Config>
class basic_engine : public detail::scan_calls<basic_engine<Config>, basic_scan<detail::walk<Config>>,
                                               basic_scan<detail::walk<Config>, std::string_view>> {
public:
    class transaction;
    using config_type = Config;
    using key_scan = basic_scan<detail::walk<Config>>;
    using keys_only = basic_scan<detail::walk<Config>, std::string_view>;

    /// The longest key.
    static constexpr std::uint64_t key_bytes_max = detail::key_bytes_max_of<Config>();
    /// The most bytes that key and value have together: a record fits one segment, and a table.
    static constexpr std::uint64_t record_bytes_max = detail::record_bytes_max_of<Config>();

    /// Opens the store in this folder, or makes one, and recovers it: see recovery() for what was found. With `read_only` it is what the
    /// store was at this moment, whoever writes to it meanwhile, restarts or merges: open again to see more. Errors: not_found,
    /// not_a_store, wrong_format, wrong_policy, locked, corruption (where the repair policy refuses), recovery_attempts,
    /// cancelled, and the machine's.
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options = {});
    /// The same through this file system, of the type that the configuration has. Errors of these two also: invalid_argument, where the
    /// observer has no default constructor; pass one.
    template <class C = Config, class Fs = typename C::file_system>
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options, Fs fs);
    /// The same with an observer of your own, which may hold a logger.
    template <class C = Config, class Fs = typename C::file_system, class Observer = typename C::observer>
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options, Fs fs,
                                                   Observer told);

    basic_engine(basic_engine&& other) noexcept;
    basic_engine& operator=(basic_engine&& other) noexcept;
    ~basic_engine();

    /// Sets the value of a key. Returns the LSN once the write is as safe as the durability policy says. Errors: invalid_argument
    /// (empty key), too_large (nothing was written), read_only, outcome_unknown, closed.
    [[nodiscard]] result<lsn> put(slice key, slice value);
    /// Removes a key; it need not be there.
    [[nodiscard]] result<lsn> erase(slice key);
    /// All of the batch or nothing. Returns the LSN of its last operation.
    [[nodiscard]] result<lsn> write(write_batch const& batch);
    /// The same, and what was written survives power loss when this returns its LSN, whatever the durability policy. On an error of the sync
    /// the write may be there all the same.
    [[nodiscard]] result<lsn> put(slice key, slice value, durable_t);
    [[nodiscard]] result<lsn> erase(slice key, durable_t);
    [[nodiscard]] result<lsn> write(write_batch const& batch, durable_t);

    /// Removes every key of a range that has a value when the call begins; returns how many. Takes time in proportion to them. A batch
    /// removes as many as fit 64 KiB of log, or a smaller segment (1,365 keys of 16 bytes): a range of so many is gone as a whole or not at all.
    /// Of a larger one a crash or an error may leave the end; asking again removes the rest. Errors: those of a write, and of a scan.
    [[nodiscard]] result<std::uint64_t> erase(range const& which);
    [[nodiscard]] result<std::uint64_t> erase(prefix const& which) { return erase(which.as_range()); }

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
        KEEL_TRY_LET(all, begin_ingest());
        for (auto&& kv : sorted) KEEL_TRY(add_sorted(*all, slice{std::get<0>(kv)}, slice{std::get<1>(kv)}));
        if constexpr (requires { result<void>{sorted.status()}; }) KEEL_TRY(sorted.status()); // a scan that ended early
        return finish_ingest(*all);
    }

    /// The value of a key now, or as of a snapshot; nothing where it has none.
    [[nodiscard]] result<std::optional<std::string>> get(slice key) const;
    [[nodiscard]] result<std::optional<std::string>> get(slice key, snapshot const& as_of) const;

    /// This moment, for reads that must not change. Reading through it needs the store, which keeps what it sees as long as it lives.
    [[nodiscard]] keel::snapshot snapshot() const;

    /// The values of several keys at one moment, in the order asked for.
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(
        std::span<std::string_view const> keys) const;
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
    [[nodiscard]] result<std::uint64_t> approximate_size(range const& which) const;
    [[nodiscard]] result<std::uint64_t> approximate_size(prefix const& which) const {
        return approximate_size(which.as_range());
    }

    /// Verifies the segments that take no more records, and the tables, while the store serves: with `deep` every byte of them, with
    /// `quick` nothing but that they are there and can be opened. Findings are events, make the store degraded and stand in the corruption
    /// log; nothing is changed.
    [[nodiscard]] result<recovery_report> verify(verify_depth how = verify_depth::deep) const;

    /// A transaction that reads from this moment. After a commit that said `conflict`, of whatever thread, it waits
    /// until the record that came first is visible: a transaction that reads behind that record would meet it again. That is one sync at
    /// most, and none where no commit has met a record that is on its way to the disk; snapshot() and get() never wait.
    [[nodiscard]] transaction begin() const;

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
    [[nodiscard]] result<void> compact();
    /// Verifies every table as verify() does, and writes those that are damaged anew: what it cannot read is left behind, as by compact().
    /// Gives how many they were. Reads and writes go on meanwhile. Errors: as of compact().
    [[nodiscard]] result<std::uint64_t> repair_tables();
    /// Where the bytes are, and what merging them costs.
    [[nodiscard]] storage_report storage() const;

    /// All writes accepted before the call survive power loss once it returns. Errors: read_only, closed, the machine's; io_error, where
    /// accepted records were lost to a sync that failed before, until accept_loss().
    [[nodiscard]] result<void> sync();
    /// Says that somebody knows of all that was declared lost, or may be lost, up to now: state() is no longer degraded for it, and later
    /// opens show it as accepted. What this open found stays in recovery(). Errors: read_only (of an opening that never writes), closed,
    /// the machine's; then nothing is accepted.
    [[nodiscard]] result<void> accept_loss();
    /// After a failure that left the store read-only: tries to become writable again. Where the disk is full, what of the log is superseded
    /// is given back first, out of the reserve if need be.
    [[nodiscard]] result<void> resume();
    /// Syncs, marks the orderly end, lets the lock go. The destructor does the same and cannot tell of a failure. Safe to call twice.
    /// A scan that is under way ends with `closed` at its next step. Errors: as of sync(); the store is closed all the same.
    [[nodiscard]] result<void> close();

    [[nodiscard]] lsn last_lsn() const noexcept;
    [[nodiscard]] lsn durable_lsn() const;
    [[nodiscard]] engine_state state() const;
    [[nodiscard]] std::string state_reason() const;
    /// What this open found and did.
    [[nodiscard]] recovery_report const& recovery() const noexcept;

    /// What the background thread does; for programs opened without one. `quiet`: nothing was written for a while.
    void housekeep(bool quiet = true);
    /// Lets go of everything without touching the disk, as a killed process does.
    void abandon() noexcept;

private:
    using body = detail::engine_body<Config>;
    using ingest_handle = std::unique_ptr<detail::ingestion<Config>, void (*)(detail::ingestion<Config>*)>;
    friend class detail::scan_calls<basic_engine, key_scan, keys_only>;

    explicit basic_engine(std::unique_ptr<body> of) noexcept;
    /// So that an explicit instantiation of this class brings what is no member of it: calls that are templates, the steps of a scan.
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

    std::unique_ptr<body> body_; ///< nothing: moved from
};

/// One transaction of a store. Ends with commit() or rollback(); one that is let go of is rolled back, and leaves nothing. Moves, is
/// not copyable; one thread at a time. It may outlive its store: once that is closed, reading and committing say closed.
template <class Config>
class basic_engine<Config>::transaction {
public:
    using scan_type = key_scan;

    transaction(transaction&& other) noexcept;
    transaction& operator=(transaction&& other) noexcept;
    ~transaction();

    /// The moment it reads from: the last LSN that was visible when it began.
    [[nodiscard]] lsn moment() const noexcept;

    /// The value of a key: of this transaction's own last write, else as of its moment; nothing where it has none.
    [[nodiscard]] result<std::optional<std::string>> get(slice key);
    /// Errors: invalid_argument (empty key, or the transaction has ended), too_large (the key).
    [[nodiscard]] result<void> put(slice key, slice value);
    [[nodiscard]] result<void> erase(slice key);

    /// Keys in order, its own writes among them. Nothing once the transaction has ended. Views are valid until the iterator moves on or the
    /// transaction writes; the transaction must outlive the scan.
    [[nodiscard]] scan_type scan(range which = {}, on_damage how = on_damage::stop) {
        return scan_type{walk_over(std::move(which), how)};
    }
    [[nodiscard]] scan_type scan(prefix const& which, on_damage how = on_damage::stop) {
        return scan(which.as_range(), how);
    }
    /// From the first bound, below the second: {"a", "b"}; {"a"} goes to the end. invalid_argument, in status(): there are more.
    [[nodiscard]] scan_type scan(std::initializer_list<slice> from_to, on_damage how = on_damage::stop) {
        auto which = detail::range_between(from_to);
        if (!which) return scan_type{no_walk(std::move(which).error())};
        return scan(std::move(*which), how);
    }
    [[nodiscard]] scan_type scan(on_damage how) { return scan(range{}, how); }

    /// Writes everything as one batch and ends the transaction, whatever comes of it. Returns the LSN of its last write, once that is
    /// as safe as the durability policy says; without writes, its moment. Errors: conflict (another one was first: run it again, which
    /// engine::transact() does; `error::at` is the other's LSN, which begin() waits for), invalid_argument (it has ended before), corruption
    /// (whether another was first cannot be told: what would say so does not verify), and those of a write.
    [[nodiscard]] result<lsn> commit();
    /// The same, and what was written survives power loss when this returns, whatever the durability policy. On an error of the sync the
    /// transaction may be there all the same.
    [[nodiscard]] result<lsn> commit(durable_t);
    /// Ends the transaction; nothing of it was written.
    void rollback() noexcept;

private:
    friend basic_engine;
    using body = detail::transaction_body<Config>;
    explicit transaction(std::unique_ptr<body> of) noexcept;
    [[nodiscard]] detail::walk<Config> walk_over(range which, on_damage how);
    [[nodiscard]] detail::walk<Config> no_walk(error why) const;

    std::unique_ptr<body> body_; ///< nothing: moved from
};

/// The store with these policies, in any order, each with a default (config.hpp).
template <class... Policies>
using engine = basic_engine<config<Policies...>>;

} // namespace keel::inline v0

#endif
