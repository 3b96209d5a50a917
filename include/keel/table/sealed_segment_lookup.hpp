// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SEALED_SEGMENT_LOOKUP_HPP
#define KEEL_TABLE_SEALED_SEGMENT_LOOKUP_HPP

// The look-up of one key in a sealed segment, in steps. So the steps of several look-ups can be made in turns.

#include <keel/table/sealed_segment_index.hpp>
#include <keel/table/sealed_segment_reader.hpp>

namespace keel::inline v0::table {

template <checksum_policy C, io::file_system Fs>
class sealed_segment_reader<C, Fs>::lookup {
public:
    lookup(sealed_segment_reader const& of, std::string_view key, lsn snapshot) noexcept
        : of_{&of}, key_{key}, snapshot_{snapshot}, at_{of} {}

    /// False: the segment has no version of the key that the snapshot sees.
    [[nodiscard]] bool locate(std::uint64_t hash) const {
        auto const& counted = of_->of_.counted;
        if (counted.empty() || counted.front().first > snapshot_) return false;
        if (of_->of_.filter && !of_->filter_allows(hash)) return false;
        at_.ask_for_block(key_);
        return true;
    }
    /// Prefetches the index block, if it is cached.
    void ask_for_block() const { at_.ask_inside_block(key_); }
    /// Finds the entries with the prefix of the key.
    [[nodiscard]] result<void> search() {
        KEEL_TRY_LET(alike, at_.equal_prefixes(key_));
        alike_ = alike;
        if (alike.first < alike.last) {
            KEEL_TRY_LET(e, at_.entry(alike.first));
            of_->file_->prefetch(e.offset, first_look_bytes);
        }
        return {};
    }
    /// Reads the version into `into`. False: the segment has no version of the key that the snapshot sees and that is newer than
    /// `than`.
    [[nodiscard]] result<bool> finish(read_version& into, lsn than = {}) {
        if (!alike_) KEEL_TRY(search());
        if (alike_->last - alike_->first > 1) {
            KEEL_TRY_LET(from, at_.lower_bound(*alike_, key_, snapshot_, into));
            alike_->first = from;
        }
        std::optional<error> unread;
        for (auto i = alike_->first; i < alike_->last; ++i) {
            KEEL_TRY_LET(e, at_.entry(i));
            if (is_unknown(e)) continue;
            auto const at = of_->lsn_of(e);
            bool const counts = at <= snapshot_ && at > than && of_->counts(at);
            auto const seen = of_->read(e, into);
            if (!seen) {
                // Ignore the record: the snapshot does not see it, or it belongs to another key.
                if (!counts || !at_.range_of(i, seen.error()).may_hold(key_)) continue;
                if (is_shortage(seen.error().code)) return failure(seen.error());
                // Go on: the record may have a smaller key, and a newer version of this key may come behind it.
                if (!unread || unread->at < at) {
                    unread = seen.error();
                    unread->at = at; // errors of the file system have no LSN
                }
                continue;
            }
            auto const order = into.what.key.compare(key_);
            if (order > 0) break;
            if (order == 0 && counts) return newest_is_known(at, true, unread);
        }
        return newest_is_known(than, false, unread);
    }

private:
    /// Returns `found`. Returns an error if a version of the key that is newer than `at` may be in `unread`, or in a record that the
    /// rebuilt index does not know.
    [[nodiscard]] result<bool> newest_is_known(lsn at, bool found, std::optional<error>& unread) const {
        if (unread && unread->at <= at) unread.reset();
        if (of_->heap_.load(std::memory_order_acquire) != nullptr) [[unlikely]]
            for (auto const& u : of_->unknown_) {
                bool const newer = u.lsns.last > (unread ? unread->at : at) && u.lsns.first <= snapshot_;
                if (!newer || !u.may_hold(key_)) continue;
                unread = u.why;
                unread->at = u.lsns.last;
            }
        if (unread) [[unlikely]]
            return failure(std::move(*unread));
        return found;
    }

    sealed_segment_reader const* of_;
    std::string_view key_;
    lsn snapshot_;
    index_reader at_;
    std::optional<typename index_reader::index_range> alike_{};
};

} // namespace keel::inline v0::table

#endif
