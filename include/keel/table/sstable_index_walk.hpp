// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SSTABLE_INDEX_WALK_HPP
#define KEEL_TABLE_SSTABLE_INDEX_WALK_HPP

// A walk over the index of a table: from block to block, in the order of the keys.

#include <keel/table/sstable_reader.hpp>

namespace keel::inline v0::table {

template <checksum_policy C, compression_policy P, table_access_policy A, io::file_system Fs>
class sstable_reader<C, P, A, Fs>::index_walk {
public:
    explicit index_walk(sstable_reader const& of) noexcept : of_{&of} {}

    /// Goes to the first block whose largest key is not less than `key`.
    result<void> seek(std::string_view key) {
        return place([key](fence_list const& in) { return in.first_not_less(key); });
    }
    result<void> seek_last() {
        return place([](fence_list const& in) { return in.empty() ? 0 : in.size() - 1; });
    }
    void next() { move(true); }
    void previous() { move(false); }

    [[nodiscard]] bool valid() const noexcept { return valid_; }
    /// The error if a step found no block although the table does not end there.
    [[nodiscard]] std::optional<error> const& trouble() const noexcept { return trouble_; }
    [[nodiscard]] format::block_place where() const noexcept { return list_->where(i_); }
    /// No key in the block is larger than this.
    [[nodiscard]] std::string_view largest() const noexcept { return list_->key(i_); }
    /// No key in the block is smaller than this. It may be the last key of the block in front, whose versions continue in this block.
    [[nodiscard]] std::string_view smallest() const noexcept {
        if (i_ > 0) return list_->key(i_ - 1);
        return is_made_ || leaf_ == 0 ? std::string_view{of_->of_.smallest} : of_->root_.key(leaf_ - 1);
    }
    /// Whether `first`, the first key in this block, is in no block in front of it.
    [[nodiscard]] bool begins_anew(std::string_view first) const noexcept {
        if (i_ > 0) return list_->key(i_ - 1) != first;
        return is_made_ || leaf_ == 0 || of_->root_.key(leaf_ - 1) != first;
    }

private:
    /// Uses `choose` to pick an entry of the root, then an entry of the index block that it leads to. If the index was rebuilt, picks
    /// an entry of that.
    template <class Choose>
    result<void> place(Choose const& choose) {
        valid_ = false; // if this returns an error
        trouble_.reset();
        KEEL_TRY(of_->ready());
        list_ = of_->made();
        is_made_ = list_ != nullptr;
        if (!is_made_) {
            leaf_ = choose(of_->root_);
            if (leaf_ >= of_->root_.size()) return {};
            KEEL_TRY_LET(verifies, enter());
            if (verifies) {
                i_ = choose(*list_);
                valid_ = i_ < list_->size();
                if (valid_) return {};
            }
            KEEL_TRY(of_->make_index(of_->root_.where(leaf_))); // damaged, or it contradicts the root
            use_made();
        }
        i_ = choose(*list_);
        valid_ = i_ < list_->size();
        return {};
    }
    /// False: the index block does not verify.
    result<bool> enter() {
        KEEL_TRY_LET(list, of_->index_block(leaf_));
        list_ = list;
        return list != nullptr;
    }
    /// Uses the rebuilt index from here on.
    void use_made() noexcept {
        list_ = of_->made();
        is_made_ = true;
    }
    void move(bool forward) {
        if (!valid()) return;
        auto const here = where();
        i_ += forward ? 1 : std::size_t{0} - 1; // in front of the first entry it wraps to the largest number
        if (i_ < list_->size()) return;
        valid_ = false;
        if (is_made_) return;
        leaf_ += forward ? 1 : std::size_t{0} - 1;
        if (leaf_ >= of_->root_.size()) return;
        auto const verifies = enter();
        if (!verifies) {
            trouble_ = verifies.error();
            return;
        }
        if (*verifies) {
            i_ = forward ? 0 : list_->size() - 1;
            valid_ = true;
            return;
        }
        // Go on at the same place of the rebuilt index.
        if (auto made = of_->make_index(of_->root_.where(leaf_)); !made) {
            trouble_ = std::move(made).error();
            return;
        }
        use_made();
        i_ = forward ? list_->first_behind(here.offset) : list_->first_behind(here.offset - 1) - 1;
        valid_ = i_ < list_->size();
    }

    sstable_reader const* of_;
    fence_list const* list_ = nullptr; ///< the current index block, or the rebuilt index
    bool is_made_ = false;
    std::size_t leaf_ = 0; ///< position in the root
    std::size_t i_ = 0;    ///< position in list_
    bool valid_ = false;
    std::optional<error> trouble_{};
};

} // namespace keel::inline v0::table

#endif
