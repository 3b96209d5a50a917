// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SSTABLE_CURSOR_HPP
#define KEEL_TABLE_SSTABLE_CURSOR_HPP

// A walk over the records of a table, in both directions.

#include <keel/table/sstable_index_walk.hpp>
#include <keel/table/sstable_reader.hpp>

namespace keel::inline v0::table {

template <checksum_policy C, compression_policy P, table_access_policy A, io::file_system Fs>
class sstable_reader<C, P, A, Fs>::cursor {
public:
    explicit cursor(std::shared_ptr<sstable_reader const> of) : of_{std::move(of)}, at_{*of_} {}

    /// Goes to the first key that is not less than `key`.
    void seek(std::string_view key) {
        start(key);
        while (!trouble_ && !in_.valid() && at_.valid()) onward();
        settle();
    }
    /// Goes to the last key that is less than `key`.
    void seek_before(std::string_view key) {
        start(key);
        if (trouble_) return;
        if (!at_.valid()) return seek_last();
        previous();
    }
    /// Goes to the last key.
    void seek_last() {
        trouble_.reset();
        passed_.reset();
        in_ = {};
        if (auto done = at_.seek_last(); !done) return fail(std::move(done).error());
        if (at_.valid() && enter(first_block)) in_.last();
        settle();
    }
    void next() {
        in_.next();
        if (in_.valid()) [[likely]]
            return;
        if (in_.whole()) enter_next();
        settle();
    }
    /// Goes on to the first version of another key.
    void pass() {
        for (;;) {
            in_.next();
            if (!in_.valid()) break;
            if (!in_.repeats()) return;
        }
        // Versions of the key may continue in the next block, or behind damage.
        passed_.emplace(in_.key());
        if (in_.whole()) skip_blocks_passed();
        next();
        pass_on();
    }
    void previous() {
        in_.previous();
        if (!in_.valid() && in_.whole()) enter_previous();
        settle();
    }

    [[nodiscard]] bool valid() const noexcept { return valid_; }
    [[nodiscard]] version current() const noexcept {
        return {.key = in_.key(), .value = in_.value(), .at = of_->lsn_of(in_), .tombstone = in_.tombstone()};
    }
    [[nodiscard]] std::optional<error> const& trouble() const noexcept { return trouble_; }

    [[nodiscard]] std::shared_ptr<sstable_reader const> const& table() const noexcept { return of_; }
    /// The key whose versions pass() has not passed yet, because it met damage.
    [[nodiscard]] std::optional<std::string> const& passed() const noexcept { return passed_; }
    /// The keys and LSNs that cannot be read. Precondition: trouble() has an error.
    [[nodiscard]] damaged_range damaged() const {
        if (!at_.valid()) return of_->all_keys(*trouble_);
        return {.from = std::string{at_.smallest()},
                .to = key_after(at_.largest()),
                .lsns = of_->all_lsns(),
                .why = *trouble_};
    }
    /// Goes on behind the damage.
    void leave_forward() {
        if (!leave()) return;
        enter_next();
        settle();
        pass_on();
    }
    /// Goes on in front of the damage.
    void leave_backward() {
        if (!leave()) return;
        enter_previous();
        settle();
    }

private:
    /// False: nothing else can be read.
    bool leave() {
        trouble_.reset();
        in_ = {};
        valid_ = false;
        return at_.valid();
    }
    /// Goes to the last of the blocks that have only the key being passed.
    void skip_blocks_passed() {
        auto on = at_;
        if (on.next(); !on.valid() || on.largest() != *passed_) return;
        if (!on.seek(key_after(*passed_))) return;
        if (on.valid()) on.previous();
        else if (!on.seek_last()) return;
        // The cursor is behind the end of a block, and next() goes to the block behind this one.
        if (on.valid() && on.largest() == *passed_) at_ = on;
    }
    /// Goes behind all versions of the key being passed.
    void pass_on() {
        if (!passed_) return;
        while (valid_ && in_.key() == *passed_) next();
        if (!trouble_) passed_.reset();
    }
    void start(std::string_view key) {
        trouble_.reset();
        passed_.reset();
        in_ = {};
        if (auto done = at_.seek(key); !done) return fail(std::move(done).error());
        if (at_.valid() && enter(first_block)) in_.seek(key, lsn_max.value);
    }
    void onward() {
        if (!in_.whole()) return settle();
        enter_next();
    }
    void enter_next() {
        at_.next();
        if (at_.trouble()) fail(*at_.trouble());
        else if (at_.valid() && enter()) in_.first();
    }
    void enter_previous() {
        at_.previous();
        if (at_.trouble()) fail(*at_.trouble());
        else if (at_.valid() && enter()) in_.last();
    }
    /// `keep`: put the block into the cache.
    bool enter(bool keep = false) {
        if (auto done = of_->load(at_.where(), keep, block_); !done) return fail(std::move(done).error()), false;
        in_ = format::block_reader{payload_of(block_.view())};
        return true;
    }
    void settle() {
        if (!trouble_ && !in_.whole()) trouble_ = of_->contradicts(at_.where()).value();
        valid_ = !trouble_ && at_.valid() && in_.valid();
    }
    void fail(error why) {
        trouble_ = std::move(why);
        valid_ = false;
    }

    std::shared_ptr<sstable_reader const> of_;
    index_walk at_;
    /// Most scans are short and end in the block where they begin. Another scan will want that block, so it is cached. A long scan must
    /// not push everything else out of the cache, so its other blocks are not cached.
    static constexpr bool first_block = true;
    pinned_block block_{};
    format::block_reader in_{};
    bool valid_ = false;
    std::optional<error> trouble_{};
    std::optional<std::string> passed_{}; ///< the key whose versions pass() has not passed yet
};

} // namespace keel::inline v0::table

#endif
