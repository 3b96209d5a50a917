// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_TRANSACTION_BODY_HPP
#define KEEL_ENGINE_TRANSACTION_BODY_HPP

// Transactions: reads of one moment, writes of one's own on top, and a commit that is one batch of the log. Optimistic: nothing is
// locked while a transaction runs. Whether it may commit is decided at the moment its batch takes its LSNs, when the writer's mutex
// keeps all others from taking theirs: a key written since has a newer LSN in the store's newest view, wherever a seal or a merge has
// put it, or is among the records that were encoded and are not visible yet.
//
// What was visible when the commit began is looked at before that, without the mutex: it may be in files. Under the mutex only what came
// since is asked for, which is in memory; where a seal or a merge has put it into a file meanwhile, the look without the mutex is
// repeated. Parts that have nothing newer than the transaction's moment are not read at all, damaged or not.

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

/// One transaction of a store. Ends with commit() or rollback(); one that is let go of is rolled back, and leaves nothing. Moves, is
/// not copyable; one thread at a time. It may outlive its store: once that is closed, reading and committing say closed.
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
    /// One of a store that may not be used. `lifetime`: nothing, or of that store.
    explicit transaction_body(std::shared_ptr<wal::store_lifetime const> lifetime) : lifetime_{std::move(lifetime)} {}
    transaction_body(transaction_body&&) noexcept = default;
    transaction_body& operator=(transaction_body&&) noexcept = default;
    transaction_body(transaction_body const&) = delete;
    transaction_body& operator=(transaction_body const&) = delete;

    /// The moment it reads from: the last LSN that was visible when it began.
    [[nodiscard]] lsn moment() const noexcept { return moment_; }

    /// The value of a key: of this transaction's own last write, else as of its moment; nothing where it has none.
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

    /// Keys in order, its own writes among them. Nothing once the transaction has ended.
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

    /// Writes everything as one batch and ends the transaction, whatever comes of it. Returns the LSN of its last write, once that is
    /// as safe as the durability policy says; without writes, its moment. Errors: conflict (another one was first: run it again, which
    /// engine::transact() does; `error::at` is the other's LSN, which begin() waits for), invalid_argument (it has ended before), corruption
    /// (whether another was first cannot be told: what would say so does not verify), and those of a write.
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
    /// The same, and what was written survives power loss when this returns, whatever the durability policy. On an error of the sync the
    /// transaction may be there all the same.
    [[nodiscard]] result<lsn> commit(durable_t) {
        auto const core = core_.lock();
        KEEL_TRY_LET(at, commit());
        if (core && at) KEEL_TRY(core->writer().make_durable(at));
        return at;
    }
    /// Ends the transaction; nothing of it was written.
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
        if (ended_) return ended(); // that the store was closed is commit()'s to say
        KEEL_TRY(check_record(key, value ? value->size() : 0));
        writes_.insert_or_assign(std::string{key}, std::move(value));
        return {};
    }

    result<lsn> write_if_unchanged(core_type& core, version_set_type const& levels,
                                   std::vector<wal::operation> const& batch) const {
        auto checked = moment_; // nothing it reads or writes was changed up to here
        for (int turns_left = retries_max;; --turns_left) {
            auto const visible = core.writer().visible(); // first this: the view has all of it
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
    /// Whether anything was changed behind `since`.
    result<void> check(store_version<reading> const& view, lsn since) const {
        for (auto const& [key, value] : writes_) KEEL_TRY(unchanged(view, key, since));
        for (auto const& key : read_) KEEL_TRY(unchanged(view, key, since));
        for (auto const& which : scanned_) {
            KEEL_TRY_LET(at, view.any_write_after(which.from, which.to, since));
            if (at) return conflict(at);
        }
        return {};
    }
    /// Called with the writer's mutex held: no LSN is given meanwhile.
    template <class EachPending>
    result<void> check_pending(EachPending const& each_pending) const {
        lsn with{};
        each_pending([&](lsn at, std::string_view key) {
            if (concerns(key)) with = at; // the newest: until that is visible the same conflict would come again
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

    /// So often a commit looks at files without the writer's mutex, before it does so with it.
    static constexpr int retries_max = 4;

    std::weak_ptr<core_type> core_{};
    io::process_bound<std::shared_ptr<version_set_type const>>
        versions_{}; // nothing once it has ended, or of a closed store
    lsn moment_{};
    io::process_bound<std::shared_ptr<snapshot_list::pinned_snapshot const>> held_{}; // likewise
    std::shared_ptr<wal::store_lifetime const> lifetime_{};
    std::shared_ptr<write_delay> delay_{}; ///< nothing: of a store that may not be used
    bool ended_ = false;
    own_writes writes_{};
    std::set<std::string, std::less<>> read_{}; // both only where the policy validates reads
    std::vector<range> scanned_{};
};

} // namespace keel::inline v0::detail

#endif
