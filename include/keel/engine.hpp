// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_HPP
#define KEEL_ENGINE_HPP

// The store: ordered keys and values over the write-ahead log, which is its level zero: records are read from where they were written.
//
// put -> wal/writer (log, group commit) -> table/memtable -> visible to readers; a segment that is full is sealed with a sorted index
// and served from there (engine/levels.hpp). Readers take no lock that is held during I/O of a writer.

#include <keel/engine/batch.hpp>
#include <keel/engine/levels.hpp>
#include <keel/engine/scan.hpp>
#include <keel/engine/transaction.hpp>
#include <keel/engine/verify.hpp>
#include <keel/log.hpp>
#include <keel/recovery/index_collector.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0 {

/// A store over one configuration. Moves; not copyable. All calls may come from several threads at once, close() and moves apart.
template <class Config>
class basic_engine {
public:
    using config_type = Config;
    using transaction = basic_transaction<Config>;
    using key_scan = basic_scan<Config>;
    using file_system = typename Config::file_system;

    /// Opens the store in this folder, or makes one, and recovers it: see recovery() for what was found. Errors: not_found,
    /// not_a_store, wrong_format, wrong_policy, locked, corruption (where the repair policy refuses), recovery_attempts,
    /// cancelled, and the machine's.
    [[nodiscard]] static result<basic_engine> open(std::string directory, open_options const& options = {},
                                                   file_system fs = {}) {
        auto observer = std::make_unique<typename Config::observer>();
        std::vector<recovery::index_collector> collected;
        auto opened = recovery::open_store<Config>(fs, std::move(directory), options, *observer, collected);
        if (!opened) return failure(std::move(opened).error());
        auto const started = std::chrono::steady_clock::now();
        basic_engine out;
        auto& records = opened->exam.report.replayed_records;
        KEEL_TRY_LET(parts,
                     recovery::indexed_segments<Config>(fs, std::move(opened->served), std::move(collected), records));
        out.levels_ = std::make_shared<levels_type>(fs);
        out.levels_->mount(std::move(parts));
        opened->exam.report.replay_time = std::chrono::steady_clock::now() - started;
        out.core_ = std::make_shared<core_type>(std::move(*opened), fs, *out.levels_, std::move(observer), options);
        return out;
    }

    basic_engine(basic_engine&&) noexcept = default;
    basic_engine& operator=(basic_engine&& other) noexcept {
        core_.reset(); // before the levels it writes to
        levels_ = std::move(other.levels_);
        core_ = std::move(other.core_);
        return *this;
    }
    ~basic_engine() { core_.reset(); }

    /// Sets the value of a key. Returns the LSN once the write is as safe as the durability policy says. Errors: invalid_argument
    /// (empty key), too_large (nothing was written), read_only, outcome_unknown, closed.
    [[nodiscard]] result<lsn> put(std::string_view key, std::string_view value) {
        wal::operation const op{.type = format::frame_type::put, .key = as_bytes(key), .value = as_bytes(value)};
        return commit(std::span{&op, 1});
    }
    [[nodiscard]] result<lsn> put(byte_view key, byte_view value) { return put(as_text(key), as_text(value)); }

    /// Removes a key; it need not be there.
    [[nodiscard]] result<lsn> erase(std::string_view key) {
        wal::operation const op{.type = format::frame_type::erase, .key = as_bytes(key)};
        return commit(std::span{&op, 1});
    }

    /// All of the batch or nothing. Returns the LSN of its last operation.
    [[nodiscard]] result<lsn> write(write_batch const& batch) {
        if (batch.empty()) return failure(errc::invalid_argument, "an empty batch has no LSN");
        auto const operations = batch.operations();
        return commit(operations);
    }

    /// The value of a key now, or as of a snapshot; nothing where it has none.
    [[nodiscard]] result<std::optional<std::string>> get(std::string_view key) const {
        return get_at(key, core_->writer().visible());
    }
    [[nodiscard]] result<std::optional<std::string>> get(std::string_view key, snapshot const& as_of) const {
        if (!as_of.belongs_to(levels_.get()))
            return failure(errc::invalid_argument, "the snapshot was taken from another store");
        return get_at(key, as_of.at());
    }

    /// This moment, for reads that must not change. Reading through it needs the store; the data stays alive with it.
    [[nodiscard]] keel::snapshot snapshot() const { return {core_->writer().visible(), levels_}; }

    /// Keys in order: all of them, a range, a prefix; now, or as of a snapshot of this store. What could not be read shows in the scan's
    /// status().
    [[nodiscard]] key_scan scan(range which = {}) const {
        auto const at = core_->writer().visible(); // first this, then the view
        return {levels_->view(), at, std::move(which)};
    }
    [[nodiscard]] key_scan scan(range which, keel::snapshot const& as_of) const {
        KEEL_ASSERT(as_of.belongs_to(levels_.get()));
        // A snapshot of another store has no keys here: an empty scan, never somebody else's data.
        return {levels_->view(), as_of.belongs_to(levels_.get()) ? as_of.at() : lsn{}, std::move(which)};
    }
    [[nodiscard]] key_scan scan(prefix const& which) const { return scan(which.as_range()); }
    [[nodiscard]] key_scan scan(prefix const& which, keel::snapshot const& as_of) const {
        return scan(which.as_range(), as_of);
    }

    /// The values of several keys at one moment, in the order asked for.
    [[nodiscard]] result<std::vector<std::optional<std::string>>> multi_get(
        std::span<std::string_view const> keys) const {
        if (core_->writer().state() == engine_state::closed) return failure(errc::closed, "the store is closed");
        auto const at = core_->writer().visible();
        auto const view = levels_->view();
        std::vector<std::optional<std::string>> out;
        out.reserve(keys.size());
        for (auto const key : keys) {
            auto found = view->find(key, at);
            if (!found) return tell(std::move(found).error());
            out.push_back(*found ? std::move((*found)->value) : std::nullopt);
        }
        return out;
    }

    /// Verifies the segments that take no more records while the store serves: with `deep` every byte of them, with `quick` nothing but
    /// that they are there. Findings are events, make the store degraded and stand in the corruption log; nothing is changed.
    [[nodiscard]] result<recovery_report> verify(verify_depth how = verify_depth::deep) const {
        recovery_report report;
        auto const view = levels_->view();
        for (auto const& r : view->runs) {
            if (how == verify_depth::deep) {
                KEEL_TRY(detail::verify_segment<Config>(core_->fs(), r->source(), report));
                continue;
            }
            KEEL_TRY(file_system{core_->fs()}.status(r->source().path));
            ++report.segments;
            ++report.mounted_segments;
        }
        core_->tell(report.findings);
        return report;
    }

    /// A transaction that reads from this moment (engine/transaction.hpp).
    [[nodiscard]] transaction begin() const { return {core_, levels_, core_->writer().visible()}; }

    /// All writes accepted before the call survive power loss once it returns.
    [[nodiscard]] result<void> sync() { return core_->writer().sync(); }
    /// After a failure that left the store read-only: tries to become writable again.
    [[nodiscard]] result<void> resume() { return core_->writer().resume(); }
    /// Syncs, marks the orderly end, lets the lock go. The destructor does the same and cannot tell of a failure.
    [[nodiscard]] result<void> close() { return core_->close(); }

    [[nodiscard]] lsn last_lsn() const noexcept { return core_->writer().visible(); }
    [[nodiscard]] lsn durable_lsn() const { return core_->writer().durable(); }
    [[nodiscard]] engine_state state() const { return core_->writer().state(); }
    [[nodiscard]] std::string state_reason() const { return core_->writer().state_reason(); }
    /// What this open found and did.
    [[nodiscard]] recovery_report const& recovery() const noexcept { return core_->report(); }

    /// What the background thread does; for programs opened without one. `quiet`: nothing was written for a while.
    void housekeep(bool quiet = true) { core_->writer().housekeep(quiet); }
    /// Lets go of everything without touching the disk, as a killed process does.
    void abandon() noexcept { core_->abandon(); }

private:
    using levels_type = detail::levels<Config>;
    using core_type = detail::log_core<Config, levels_type>;
    basic_engine() = default;

    result<lsn> commit(std::span<wal::operation const> batch) {
        for (auto const& op : batch) KEEL_TRY(detail::check_key(as_text(op.key)));
        return core_->writer().write(batch);
    }
    result<std::optional<std::string>> get_at(std::string_view key, lsn at) const {
        if (core_->writer().state() == engine_state::closed) return failure(errc::closed, "the store is closed");
        auto found = levels_->view()->find(key, at);
        if (!found) return tell(std::move(found).error());
        if (!*found) return std::optional<std::string>{};
        return std::move((*found)->value);
    }
    /// Damage that a read came upon is an event like any other (R1.3).
    tl::unexpected<error> tell(error why) const {
        core_->tell(levels_->take_findings());
        return failure(std::move(why));
    }

    std::shared_ptr<levels_type> levels_{};
    std::shared_ptr<core_type> core_{}; // refers to the levels: goes first; shared for the moment of a commit only
};

/// The store with these policies, in any order, each with a default (config.hpp).
template <class... Policies>
using engine = basic_engine<config<Policies...>>;

} // namespace keel::inline v0

#endif
