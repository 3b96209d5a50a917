// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SEALED_SEGMENT_CURSOR_HPP
#define KEEL_TABLE_SEALED_SEGMENT_CURSOR_HPP

// A walk over the records of a sealed segment in the order of the keys, in both directions.

#include <keel/table/sealed_segment_index.hpp>
#include <keel/table/sealed_segment_reader.hpp>

namespace keel::inline v0::table {

template <checksum_policy C, io::file_system Fs>
class sealed_segment_reader<C, Fs>::cursor {
public:
    explicit cursor(std::shared_ptr<sealed_segment_reader const> of, lsn snapshot = lsn_max,
                    versions which = versions::all)
        : of_{std::move(of)}, at_{*of_}, snapshot_{std::min(snapshot, of_->newest())}, which_{which} {}

    /// Goes to the first key that is not less than `key`.
    void seek(std::string_view key) { start(key, false); }
    /// Goes to the last key that is less than `key`.
    void seek_before(std::string_view key) { start(key, true); }
    /// Goes to the last key.
    void seek_last() {
        if (auto ready = of_->ready_index(); !ready) return fail(ready.error(), stuck::everywhere);
        i_ = front_ = of_->shape_.entries;
        step_back();
    }
    void next() {
        ++i_;
        settle_forward();
    }
    /// Goes on towards the next key. The cursor may still be on the same key if some of its records do not count or cannot be read.
    void pass() {
        auto const end = at_.end_of_key(i_, now_.what.key, scratch_);
        go_on_at(end ? *end : i_ + 1);
        settle_forward();
    }
    void previous() { step_back(); }

    [[nodiscard]] bool valid() const noexcept { return valid_; }
    [[nodiscard]] version current() const noexcept { return now_.what; }
    [[nodiscard]] std::optional<error> const& trouble() const noexcept { return trouble_; }

    [[nodiscard]] std::shared_ptr<sealed_segment_reader const> const& source() const noexcept { return of_; }
    /// The keys and LSNs that cannot be read. Precondition: trouble() has an error.
    [[nodiscard]] damaged_range damaged() {
        switch (where_) {
        case stuck::at_record: return at_.range_of(i_, *trouble_);
        case stuck::at_unknown: return unknown();
        case stuck::everywhere: break;
        }
        return {.lsns = of_->all_lsns(), .why = *trouble_};
    }
    /// Goes on behind the damage.
    void leave_forward() {
        if (!leave()) return;
        if (where_ == stuck::at_record) ++i_;
        settle_forward();
    }
    /// Goes on in front of the damage.
    void leave_backward() {
        if (leave()) step_back();
    }

private:
    /// What cannot be read.
    enum class stuck : std::uint8_t {
        at_record,  ///< one record
        at_unknown, ///< records that the rebuilt index does not know
        everywhere, ///< anything
    };

    void start(std::string_view key, bool before) {
        trouble_.reset();
        auto const alike = at_.equal_prefixes(key);
        if (!alike) return fail(alike.error(), stuck::everywhere);
        auto const unread = before ? index_reader::unread::in_front : index_reader::unread::behind;
        auto const from = at_.lower_bound(*alike, key, lsn_max, now_, unread);
        if (!from) return fail(from.error(), stuck::everywhere);
        i_ = front_ = *from;
        if (before) step_back();
        else settle_forward();
    }
    /// False: nothing else can be read.
    bool leave() {
        trouble_.reset();
        valid_ = false;
        if (where_ == stuck::at_unknown) ++told_;
        return where_ != stuck::everywhere;
    }
    void settle_forward() {
        unsigned unseen = 0; // entries in a row that the snapshot does not see
        for (; !meets_unknown() && i_ < of_->shape_.entries; ++i_) {
            if (take(true) || trouble_) return;
            if (++unseen % unseen_in_a_row == 0) pass_unseen();
        }
        valid_ = false;
    }
    /// Entry i_ is not seen. Moves to the last entry of the same key in front of the first one that is seen, as far as the records can
    /// be read.
    void pass_unseen() {
        auto const e = at_.entry(i_);
        if (!e || !of_->counts(*e) || !of_->read(*e, now_)) return;
        auto const end = at_.end_of_key(i_, now_.what.key, scratch_);
        if (!end || *end == i_ + 1) return;
        auto const seen = at_.first_not_newer(i_ + 1, *end, snapshot_);
        if (seen) go_on_at(*seen - 1);
    }
    void go_on_at(std::uint64_t i) noexcept {
        if (i > i_ + 1) asked_in_ = ~std::uint64_t{0};
        i_ = i;
    }
    void step_back() {
        while (!meets_unknown() && front_ > 0) {
            i_ = --front_;
            if (which_ == versions::newest_seen && !to_newest_seen()) continue;
            if (take(false) || trouble_) return;
        }
        valid_ = false;
    }
    /// Entry i_ is the oldest version of a key. Moves to the newest version that is seen, as far as it can be told which records have
    /// the key. False: none is seen. The next step goes to the entry in front of the key.
    [[nodiscard]] bool to_newest_seen() {
        auto const e = at_.entry(i_);
        auto const before = i_ > 0 ? at_.entry(i_ - 1) : e;
        bool const is_alone = i_ == 0 || !e || !before || before->prefix != e->prefix;
        if (is_alone || !of_->counts(*e) || !of_->read(*e, now_)) return true;
        auto const begin = at_.begin_of_key(i_, now_.what.key, scratch_);
        auto const seen = begin ? at_.first_not_newer(*begin, i_ + 1, snapshot_) : begin;
        if (!seen) return true;
        auto at = *seen;
        for (; at <= i_ && !sees(at); ++at) {}
        front_ = *begin;
        if (at > i_) return false;
        i_ = at;
        return true;
    }
    [[nodiscard]] bool sees(std::uint64_t i) {
        auto const e = at_.entry(i);
        return !e || sees(*e);
    }
    [[nodiscard]] bool sees(format::index_entry const& e) const noexcept {
        return of_->lsn_of(e) <= snapshot_ && of_->counts(e);
    }
    /// Whether the rebuilt index has unknown records that the cursor has not reported yet. If so, reports them as trouble.
    bool meets_unknown() {
        if (of_->heap_.load(std::memory_order_acquire) == nullptr || told_ == of_->unknown_.size()) [[likely]]
            return false;
        fail(unknown().why, stuck::at_unknown);
        return true;
    }
    [[nodiscard]] damaged_range const& unknown() const noexcept { return of_->unknown_[told_]; }
    bool take(bool forward) {
        auto const e = at_.entry(i_);
        if (!e) return fail(e.error(), stuck::everywhere), false;
        ask_ahead(forward);
        if (!sees(*e)) return false;
        auto const got = of_->read(*e, now_, look_bytes_);
        if (!got) return fail(got.error(), stuck::at_record), false;
        look_bytes_ = std::clamp(static_cast<std::size_t>(*got), look_bytes_min, first_look_bytes);
        return valid_ = true;
    }
    /// Records lie in the order in which they were written, so neighbours by key lie far apart. Prefetches records some steps ahead, as
    /// far as their entries are loaded.
    void ask_ahead(bool forward) {
        bool const fresh = std::exchange(asked_in_, at_.first_at_hand()) != at_.first_at_hand();
        for (auto k = fresh ? std::uint64_t{1} : steps_ahead; k <= steps_ahead; ++k)
            if (auto const e = at_.at_hand(forward ? i_ + k : i_ - k)) of_->file_->prefetch(e->offset, look_bytes_);
    }
    void fail(error const& why, stuck where) {
        trouble_ = why;
        where_ = where;
        valid_ = false;
    }

    std::shared_ptr<sealed_segment_reader const> of_;
    index_reader at_;
    static constexpr std::uint64_t steps_ahead = 12;
    static constexpr std::size_t look_bytes_min = 64;
    /// So many unseen entries, then the cursor searches for their end.
    static constexpr unsigned unseen_in_a_row = 4;

    lsn snapshot_;
    versions which_;
    std::uint64_t i_ = 0;
    std::uint64_t front_ = 0;                    ///< backward: entries in front of it are still to come
    std::uint64_t asked_in_ = ~std::uint64_t{0}; ///< first_at_hand() at the last prefetch
    std::size_t look_bytes_ = first_look_bytes;  ///< size of the last record: most records are alike
    bool valid_ = false;
    read_version now_{};
    read_version scratch_{};
    std::optional<error> trouble_{};
    stuck where_ = stuck::at_record;
    std::size_t told_ = 0; ///< number of ranges in unknown_ that were reported
};

} // namespace keel::inline v0::table

#endif
