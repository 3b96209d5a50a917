// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SSTABLE_LOOKUP_HPP
#define KEEL_TABLE_SSTABLE_LOOKUP_HPP

// The look-up of one key in a table, in steps. So the steps of several look-ups can be made in turns.

#include <keel/table/sstable_index_walk.hpp>
#include <keel/table/sstable_reader.hpp>

namespace keel::inline v0::table {

template <checksum_policy C, compression_policy P, table_access_policy A, io::file_system Fs>
class sstable_reader<C, P, A, Fs>::lookup {
public:
    /// `hash`: the key's filter_hash. `row`: the buffer for a cached record; nullptr: the look-up does not use the row cache.
    lookup(sstable_reader const& of, std::string_view key, std::uint64_t hash, lsn snapshot,
           row_cache::row_buffer* row) noexcept
        : of_{&of}, key_{key}, hash_{hash}, snapshot_{snapshot}, row_{row}, at_{of} {}

    /// False: the table has no version of the key that the snapshot sees.
    [[nodiscard]] result<bool> locate() {
        if (snapshot_ < of_->oldest()) return false;
        KEEL_TRY(of_->ready());
        if (!of_->filter_allows(hash_)) return false;
        if (row_ != nullptr && of_->cache_->rows.find(of_->of_.id.value, hash_, key_, snapshot_, *row_, in_row_)) {
            is_row_ = true;
            return true;
        }
        KEEL_TRY(at_.seek(key_));
        if (at_.valid() && of_->through_cache()) of_->cache_->blocks.prefetch(of_->name_of(at_.where()));
        return at_.valid();
    }
    /// Prefetches the block, if it is cached or the file is mapped.
    void ask_for_block() const {
        if (is_row_) return;
        auto const where = at_.where();
        if (of_->through_cache()) of_->cache_->blocks.prefetch_block(of_->name_of(where));
        else of_->file_->prefetch(where.offset, std::min<std::size_t>(where.bytes, block_ahead));
    }
    /// Finds the record in the block.
    [[nodiscard]] result<void> search() {
        if (is_row_) return {};
        KEEL_TRY(load());
        in_ = format::block_reader{payload_of(block_.view())};
        in_.seek(key_, snapshot_.value - of_->of_.lsns.first.value);
        if (!in_.whole()) return of_->contradicts(at_.where());
        if (in_.valid()) keel::detail::prefetch(in_.value().data(), std::min(in_.value().size(), value_ahead));
        return {};
    }
    /// Gives the version in `into`. False: the table has no version of the key that the snapshot sees.
    [[nodiscard]] result<bool> finish(read_version& into) {
        if (is_row_) {
            into.what = in_row_;
            return true;
        }
        // The versions of a key may continue in the next block.
        for (; at_.valid(); at_.next(), block_.release()) {
            if (!block_) KEEL_TRY(search());
            if (!in_.valid()) continue;
            if (in_.key() != key_) return false;
            std::swap(into.bytes, block_);
            into.what = {.key = key_, .value = in_.value(), .at = of_->lsn_of(in_), .tombstone = in_.tombstone()};
            // Cache only if the snapshot covers the table's last LSN; otherwise a newer version may exist.
            auto& rows = of_->cache_->rows;
            if (row_ != nullptr && !taken_apart_ && snapshot_ >= of_->of_.lsns.last && rows.wants())
                rows.add(of_->of_.id.value, hash_, into.what);
            return true;
        }
        if (at_.trouble()) return failure(*at_.trouble());
        return false;
    }

private:
    static constexpr std::size_t value_ahead = 256;
    // Enough: the processor prefetches the rest of a sequential copy by itself.
    static constexpr std::size_t block_ahead = 256;

    [[nodiscard]] result<void> load() {
        taken_apart_ = false;
        auto const where = at_.where();
        if (row_ == nullptr || !of_->through_cache()) return of_->load(where, true, block_);
        auto const name = of_->name_of(where);
        auto& cache = *of_->cache_;
        if (auto block = cache.blocks.find(name)) return block_.share(std::move(block)), result<void>{};
        KEEL_TRY_LET(fresh, of_->read_block(where));
        // If all its rows are cached already, cache the block instead.
        taken_apart_ = cache.rows.wants_block(where.bytes) && take_apart(fresh);
        if (!taken_apart_) cache.blocks.add(name, fresh);
        block_.share(std::move(fresh));
        return {};
    }
    /// Adds the newest version of each key in the block to the row cache. False: all of them were cached already, or one is too large.
    [[nodiscard]] bool take_apart(block_cache::block const& what) {
        auto& rows = of_->cache_->rows;
        format::block_reader in{payload_of(what.view())};
        std::array<std::uint64_t, 128> hashes; // of the first keys: their slots are prefetched
        std::size_t n = 0;
        for (in.first(); in.valid() && n < hashes.size(); in.next())
            rows.prefetch(hashes[n++] = format::filter_hash(in.key()));
        row_cache::adder to{rows};
        std::optional<std::string> last;
        bool any = false;
        bool all = true;
        std::size_t i = 0;
        for (in.first(); in.valid(); in.next(), ++i) {
            bool const newest = last ? in.key() != *last : at_.begins_anew(in.key());
            last = in.key();
            if (!newest) continue;
            version const v{.key = in.key(), .value = in.value(), .at = of_->lsn_of(in), .tombstone = in.tombstone()};
            all = all && row_cache::fits(v);
            any |= to.add(of_->of_.id.value, i < n ? hashes[i] : format::filter_hash(v.key), v);
        }
        return any && all && in.whole();
    }

    sstable_reader const* of_;
    std::string_view key_;
    std::uint64_t hash_;
    lsn snapshot_;
    row_cache::row_buffer* row_;
    bool is_row_ = false; ///< found in the row cache, in in_row_
    version in_row_{};
    index_walk at_;
    bool taken_apart_ = false; ///< its records are in the row cache
    pinned_block block_{};
    format::block_reader in_{}; ///< reads block_, if there is one
};

} // namespace keel::inline v0::table

#endif
