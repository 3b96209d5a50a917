// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_MEMTABLE_HPP
#define KEEL_TABLE_MEMTABLE_HPP

// All data in memory: what recovery loaded (a sorted run, one version per key) beneath what was written since (a skip list, every
// version). A reader sees, of each key, the newest version at or below its snapshot.
//
// Thread rules: one thread applies records (the log's leader), any number read. Cursors are one thread's; they and the views they
// give live as long as the memtable.

#include <keel/format/frame.hpp>
#include <keel/table/entry.hpp>
#include <keel/table/skip_list.hpp>
#include <keel/table/sorted_run.hpp>
#include <keel/types.hpp>

#include <optional>
#include <string_view>
#include <utility>

namespace keel::inline v0::table {

class memtable {
public:
    memtable() = default;
    explicit memtable(sorted_run loaded) : loaded_{std::move(loaded)} {}

    /// wal::record_sink: called in LSN order by one thread at a time.
    void apply(lsn at, format::frame_view const& frame) {
        if (frame.header.type != format::frame_type::put && frame.header.type != format::frame_type::erase) return;
        written_.insert({.key = as_text(frame.key()),
                         .value = as_text(frame.value()),
                         .at = at,
                         .tombstone = frame.header.type == format::frame_type::erase});
    }

    /// The value of `key` as of `snapshot`; nothing where it had none.
    [[nodiscard]] std::optional<std::string_view> find(std::string_view key, lsn snapshot) const noexcept {
        auto const* const n = written_.lower_bound(key, snapshot);
        if (n != nullptr && n->key() == key) {
            if (n->tombstone) return std::nullopt;
            return n->view().value;
        }
        auto const i = loaded_.lower_bound(key);
        if (i == loaded_.size() || loaded_[i].key() != key || loaded_[i].at > snapshot) return std::nullopt;
        return loaded_[i].view().value;
    }

    /// The LSN of the newest write to `key`, erases among them; 0 where there was none.
    [[nodiscard]] lsn newest(std::string_view key) const noexcept {
        auto const* const n = written_.lower_bound(key, lsn_max);
        if (n != nullptr && n->key() == key) return n->at;
        auto const i = loaded_.lower_bound(key);
        return i != loaded_.size() && loaded_[i].key() == key ? loaded_[i].at : lsn{};
    }
    /// The LSN of some write behind `since` to a key from `from` on and in front of `to`; 0 where there was none. `since` lies in this
    /// opening of the store. Takes time in proportion to what was written in the range.
    [[nodiscard]] lsn newest_in(std::optional<std::string> const& from, std::optional<std::string> const& to,
                                lsn since) const noexcept {
        auto const* n = from ? written_.lower_bound(*from, lsn_max) : written_.first();
        for (; n != nullptr && (!to || n->key() < *to); n = n->next(0))
            if (n->at > since) return n->at;
        return {};
    }

    [[nodiscard]] std::uint64_t loaded_records() const noexcept { return loaded_.records(); }

    /// Walks keys that have a value as of a snapshot, in either direction.
    class cursor {
    public:
        cursor(memtable const& of, lsn snapshot) noexcept : of_{&of}, snapshot_{snapshot} {}

        /// The first key not less than `key`; false where there is none.
        bool seek(std::string_view key) noexcept {
            node_ = of_->written_.lower_bound(key, lsn_max);
            index_ = of_->loaded_.lower_bound(key);
            return settle_forward();
        }
        /// The last key less than `key`.
        bool seek_before(std::string_view key) noexcept {
            node_ = of_->written_.last_before(key, lsn_max);
            index_ = of_->loaded_.lower_bound(key);
            return settle_backward();
        }
        bool seek_last() noexcept {
            node_ = of_->written_.last();
            index_ = of_->loaded_.size();
            return settle_backward();
        }
        /// The next larger key; the cursor must stand on one.
        bool next() noexcept { return seek_behind(current_.key); }
        /// The next smaller key.
        bool previous() noexcept { return seek_before(current_.key); }

        [[nodiscard]] version const& current() const noexcept { return current_; }

    private:
        bool seek_behind(std::string_view key) noexcept {
            while (node_ != nullptr && node_->key() <= key) node_ = node_->next(0);
            while (index_ < of_->loaded_.size() && of_->loaded_[index_].key() <= key) ++index_;
            return settle_forward();
        }
        bool settle_forward() noexcept {
            for (;;) {
                bool const has_loaded = index_ < of_->loaded_.size();
                if (node_ == nullptr && !has_loaded) return false;
                auto const key = smaller(has_loaded);
                if (take(key)) return true;
                while (node_ != nullptr && node_->key() == key) node_ = node_->next(0);
                if (has_loaded && of_->loaded_[index_].key() == key) ++index_;
            }
        }
        [[nodiscard]] std::string_view smaller(bool has_loaded) const noexcept {
            if (node_ == nullptr) return of_->loaded_[index_].key();
            if (!has_loaded) return node_->key();
            return std::min(node_->key(), of_->loaded_[index_].key());
        }
        /// Backwards, index_ is one behind the candidate, node_ any version of the candidate's key.
        bool settle_backward() noexcept {
            for (;;) {
                if (node_ == nullptr && index_ == 0) return false;
                std::string_view key;
                if (node_ == nullptr) key = of_->loaded_[index_ - 1].key();
                else if (index_ == 0) key = node_->key();
                else key = std::max(node_->key(), of_->loaded_[index_ - 1].key());
                if (take(key)) return true;
                if (node_ != nullptr && node_->key() == key) node_ = of_->written_.last_before(key, lsn_max);
                if (index_ > 0 && of_->loaded_[index_ - 1].key() == key) --index_;
            }
        }
        bool take(std::string_view key) noexcept {
            auto const* const n = of_->written_.lower_bound(key, snapshot_);
            if (n != nullptr && n->key() == key) {
                current_ = n->view();
                return !current_.tombstone;
            }
            auto const i = of_->loaded_.lower_bound(key);
            if (i == of_->loaded_.size() || of_->loaded_[i].key() != key || of_->loaded_[i].at > snapshot_)
                return false;
            current_ = of_->loaded_[i].view();
            return true;
        }

        memtable const* of_;
        lsn snapshot_;
        skip_list::node const* node_ = nullptr;
        std::size_t index_ = 0;
        version current_{};
    };

private:
    sorted_run loaded_{};
    skip_list written_{};
};

} // namespace keel::inline v0::table

#endif
