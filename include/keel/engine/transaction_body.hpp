// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_TRANSACTION_BODY_HPP
#define KEEL_ENGINE_TRANSACTION_BODY_HPP

// Transactions: reads as of one LSN, the transaction's own writes on top of them, and a commit that is one batch of the log. They are
// optimistic: a running transaction locks nothing. The check for conflicts is made when the batch gets its LSNs, under the writer's mutex,
// so that no other write gets an LSN meanwhile. If a key was written since the transaction began, the store's newest view has it with a
// newer LSN, even after a seal or a merge; or it is among the records that are encoded and not visible yet.
//
// The records that are visible when the commit begins are checked first, without the mutex, because they may be in files. Under the mutex
// only later records are checked, and these are in memory. If a seal or a merge has moved them into a file meanwhile, the check without the
// mutex is repeated. Parts that have nothing newer than the transaction's LSN are not read, so damage in them does not matter.

#include <keel/config.hpp>
#include <keel/engine/operations.hpp>
#include <keel/engine/range.hpp>
#include <keel/engine/snapshot_list.hpp>
#include <keel/engine/store_core.hpp>
#include <keel/engine/store_walk.hpp>
#include <keel/engine/write_delay.hpp>
#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/io/process.hpp>
#include <keel/policy/isolation/concept.hpp>
#include <keel/types.hpp>
#include <keel/wal/group.hpp>
#include <keel/wal/store_lifetime.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::detail {

/// One transaction of a store. It ends with commit() or rollback(). If it is destroyed before, nothing of it is written. It can be moved,
/// not copied. One thread at a time. It may outlive its store: once the store is closed, reads and commits return `closed`.
template <class Config>
class transaction_body {
    using reading = reading_config<Config>;

public:
    using isolation = typename Config::isolation;
    using version_set_type = version_set<reading>;
    using core_type = store_core<writing_config<Config>, version_set_type>;

    transaction_body(std::weak_ptr<core_type> core, std::shared_ptr<version_set_type const> levels,
                     std::shared_ptr<snapshot_list::pinned_snapshot const> held,
                     std::shared_ptr<wal::store_lifetime const> lifetime, std::shared_ptr<write_delay> delay)
        : core_{std::move(core)}, versions_{std::move(levels)}, moment_{held->at()}, held_{std::move(held)},
          lifetime_{std::move(lifetime)}, delay_{std::move(delay)} {}
    /// A transaction of a store that may not be used. `lifetime`: that of the store, or null.
    explicit transaction_body(std::shared_ptr<wal::store_lifetime const> lifetime) : lifetime_{std::move(lifetime)} {}
    transaction_body(transaction_body&&) noexcept = default;
    transaction_body& operator=(transaction_body&&) noexcept = default;
    transaction_body(transaction_body const&) = delete;
    transaction_body& operator=(transaction_body const&) = delete;

    /// The LSN that it reads at: the last LSN that was visible when it began.
    [[nodiscard]] lsn moment() const noexcept { return moment_; }

    /// The value of a key: that of this transaction's own last write, else the value as of moment(). Nothing if the key has no value.
    /// Errors: those of reading; closed, invalid_argument (the transaction has ended).
    [[nodiscard]] result<std::optional<std::string>> get(std::string_view key) {
        if (ended_ || !lifetime_ || !lifetime_->is_open()) [[unlikely]]
            return failure(goes_on().error());
        if (auto const mine = writes_.find(key); mine != writes_.end()) return mine->second;
        if constexpr (isolation::validates_reads) read_.emplace(key);
        auto const view = versions_->view();
        auto found = view->find(key, moment_);
        view->tell_damage();
        if (!found) return failure(std::move(found).error());
        return *found ? std::move((*found)->value) : std::optional<std::string>{};
    }
    /// Errors: invalid_argument (empty key, or the transaction has ended), too_large (the key).
    [[nodiscard]] result<void> put(std::string_view key, std::string_view value) {
        return change(key, std::string{value});
    }
    [[nodiscard]] result<void> erase(std::string_view key) { return change(key, std::nullopt); }

    /// A walk over keys in order, with its own writes. It has no keys once the transaction has ended.
    [[nodiscard]] store_walk<reading> walk_over(range which, on_damage how) {
        using base = range_walk<reading>;
        if (!lifetime_ || !lifetime_->is_open()) return {base{lifetime_}, writes_, {}};
        if (!*versions_) return {base{std::make_shared<store_version<reading>>(), {}, {}, lifetime_}, writes_, {}};
        if constexpr (isolation::validates_reads) scanned_.push_back(which);
        return {base{versions_->view(), moment_, which, lifetime_, how}, writes_, which};
    }
    [[nodiscard]] store_walk<reading> no_walk(error why) const {
        return {range_walk<reading>{lifetime_, std::move(why)}, writes_, {}};
    }

    /// Writes everything as one batch and ends the transaction, also on an error. Returns the LSN of its last write once that is as safe as
    /// the durability policy says; without writes it returns moment(). Errors: conflict (another commit came first: run the transaction
    /// again, as engine::transact() does; `error::at` is the LSN of the other commit, and begin() waits until it is visible),
    /// invalid_argument (the transaction has ended), corruption (damaged data may have a conflicting write), and those of a write.
    [[nodiscard]] result<lsn> commit() {
        if (auto const goes = goes_on(); !goes) {
            rollback();
            return failure(goes.error());
        }
        ended_ = true;
        auto const levels = std::exchange(*versions_, nullptr);
        auto const held = std::exchange(*held_, nullptr);
        auto const core = core_.lock();
        if (!core) return failure(errc::closed, "the store is closed; the transaction was not committed");
        if (writes_.empty()) return moment_;
        std::vector<wal::operation> batch;
        batch.reserve(writes_.size());
        for (auto const& [key, value] : writes_)
            batch.push_back({.type = value ? format::frame_type::put : format::frame_type::erase,
                             .key = as_bytes(key),
                             .value = value ? as_bytes(*value) : byte_view{}});
        KEEL_TRY(core->before_write());
        delay_->wait(batch);
        auto done = write_if_unchanged(*core, *levels, batch);
        if (!done && done.error().code == errc::conflict) core->writer().note_conflict(done.error().at);
        levels->view()->tell_damage();
        writes_.clear();
        return done;
    }
    /// The same. The writes also survive power loss when this returns, whatever the durability policy. After an error of the sync the
    /// transaction may still have been committed.
    [[nodiscard]] result<lsn> commit(durable_t) {
        auto const core = core_.lock();
        KEEL_TRY_LET(at, commit());
        if (core && at) KEEL_TRY(core->writer().make_durable(at));
        return at;
    }
    /// Ends the transaction without writing anything.
    void rollback() noexcept {
        ended_ = true;
        versions_ = {};
        held_ = {};
        writes_.clear();
    }

private:
    static tl::unexpected<error> ended() {
        return failure(errc::invalid_argument, "the transaction has ended; begin another one");
    }
    [[nodiscard]] result<void> goes_on() const {
        KEEL_TRY(wal::check_open(lifetime_));
        return ended_ ? ended() : result<void>{};
    }
    static tl::unexpected<error> conflict(lsn with) {
        return failure(
            error{.code = errc::conflict,
                  .message = "another write came first; nothing of this transaction was written: run it again",
                  .at = with,
                  .retryable = true});
    }

    result<void> change(std::string_view key, std::optional<std::string> value) {
        if (!lifetime_ || !lifetime_->is_here()) return wal::why_closed(lifetime_.get());
        if (ended_) return ended(); // a closed store is reported by commit()
        KEEL_TRY(check_record(key, value ? value->size() : 0));
        writes_.insert_or_assign(std::string{key}, std::move(value));
        return {};
    }

    result<lsn> write_if_unchanged(core_type& core, version_set_type const& levels,
                                   std::vector<wal::operation> const& batch) const {
        auto checked = moment_; // nothing it reads or writes was changed up to here
        for (int turns_left = retries_max;; --turns_left) {
            auto const visible = core.writer().visible(); // before the view: so the view has all records up to it
            KEEL_TRY(check(*levels.view(), checked));
            checked = std::max(checked, visible);
            bool again = false;
            auto done = core.writer().write_if(batch, [&](auto const& each_pending) -> result<void> {
                auto const view = levels.view();
                again = turns_left > 0 && !view->is_in_memory_since(checked);
                if (again) return conflict(checked);
                KEEL_TRY(check(*view, checked));
                return check_pending(each_pending);
            });
            if (!again) return done;
        }
    }
    /// Fails with `conflict` if a key or range of the transaction was written after `since`.
    result<void> check(store_version<reading> const& view, lsn since) const {
        for (auto const& [key, value] : writes_) KEEL_TRY(unchanged(view, key, since));
        for (auto const& key : read_) KEEL_TRY(unchanged(view, key, since));
        for (auto const& which : scanned_) {
            KEEL_TRY_LET(at, view.any_write_after(which.from, which.to, since));
            if (at) return conflict(at);
        }
        return {};
    }
    /// The same for the records that are not visible yet. Called with the writer's mutex held, so that no write gets an LSN meanwhile.
    template <class EachPending>
    result<void> check_pending(EachPending const& each_pending) const {
        lsn with{};
        each_pending([&](lsn at, std::string_view key) {
            if (concerns(key)) with = at; // keep the newest: a retry would meet it again until it is visible
        });
        if (with) return conflict(with);
        return {};
    }
    [[nodiscard]] result<void> unchanged(store_version<reading> const& view, std::string_view key, lsn since) const {
        KEEL_TRY_LET(at, view.lsn_after(key, since));
        if (at) return conflict(at);
        return {};
    }
    [[nodiscard]] bool concerns(std::string_view key) const {
        if (writes_.contains(key) || read_.contains(key)) return true;
        for (auto const& which : scanned_)
            if (lies_in(which, key)) return true;
        return false;
    }

    /// So often a commit repeats the check of files without the writer's mutex. After that it reads files with the mutex held.
    static constexpr int retries_max = 4;

    std::weak_ptr<core_type> core_{};
    /// Null once the transaction has ended, and for a closed store. The same for held_.
    io::process_bound<std::shared_ptr<version_set_type const>> versions_{};
    lsn moment_{};
    io::process_bound<std::shared_ptr<snapshot_list::pinned_snapshot const>> held_{};
    std::shared_ptr<wal::store_lifetime const> lifetime_{};
    std::shared_ptr<write_delay> delay_{}; ///< null: the store may not be used
    bool ended_ = false;
    own_writes writes_{};
    // Keys and ranges that were read. Used only if the isolation policy validates reads.
    std::set<std::string, std::less<>> read_{};
    std::vector<range> scanned_{};
};

} // namespace keel::inline v0::detail

#endif
