// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SEALED_SEGMENT_INDEX_HPP
#define KEEL_TABLE_SEALED_SEGMENT_INDEX_HPP

// The index of a sealed segment: its entries in the order of the keys, and where a key stands among them.

#include <keel/table/sealed_segment_reader.hpp>

namespace keel::inline v0::table {

template <checksum_policy C, io::file_system Fs>
class sealed_segment_reader<C, Fs>::index_reader {
public:
    explicit index_reader(sealed_segment_reader const& run) noexcept : run_{&run} {}

    [[nodiscard]] std::string const& common() const noexcept {
        auto const* heap = run_->heap_.load(std::memory_order_acquire);
        return heap != nullptr ? heap->common : run_->common_;
    }

    result<format::index_entry> entry(std::uint64_t i) {
        if (i - begin_ >= held_) KEEL_TRY(hold(i));
        return entry_at(i);
    }

    /// The entry, if it is loaded already; else std::nullopt.
    [[nodiscard]] std::optional<format::index_entry> at_hand(std::uint64_t i) const noexcept {
        if (i - begin_ >= held_) return std::nullopt;
        return entry_at(i);
    }
    /// The first entry that is loaded.
    [[nodiscard]] std::uint64_t first_at_hand() const noexcept { return begin_; }

    /// The keys and the LSN that the record of entry `i` may have. The record cannot be read; `why` is the reason.
    [[nodiscard]] damaged_range range_of(std::uint64_t i, error why) {
        auto const e = entry(i);
        if (!e) return {.lsns = run_->all_lsns(), .why = std::move(why)};
        auto const at = run_->lsn_of(*e);
        auto const& shared = common();
        damaged_range out{.from = first_key_of_prefix(shared, e->prefix),
                          .to = key_after_index_prefix(shared, e->prefix),
                          .lsns = {at, at},
                          .why = std::move(why)};
        if (auto const head = run_->believed_header(*e)) {
            out.key_bytes = head->key_bytes;
            out.is_batch = head->begins() && head->ends();
        }
        if (out.key_bytes && *out.key_bytes >= out.from->size() && *out.key_bytes <= shared.size() + 8) {
            out.from->resize(*out.key_bytes, '\0'); // the whole key is known
            out.to = key_after(*out.from);
        } else {
            narrow(out, i, e->prefix);
        }
        return out;
    }

    /// Prefetches the part of the block cache that equal_prefixes() reads first. Does nothing if the index is not ready.
    void ask_for_block(std::string_view key) const noexcept {
        if (auto const at = block_of(key)) run_->cache_->blocks.prefetch(run_->name_at(run_->block_offset(*at)));
    }
    void ask_inside_block(std::string_view key) const {
        if (auto const at = block_of(key)) run_->cache_->blocks.prefetch_block(run_->name_at(run_->block_offset(*at)));
    }

    /// The entries [first, last) that have the prefix of a key. If there are none, both are the position where the entries would be.
    struct index_range {
        std::uint64_t first;
        std::uint64_t last;
    };
    result<index_range> equal_prefixes(std::string_view key) {
        KEEL_TRY(run_->ready_index());
        auto const n = run_->shape_.entries;
        auto const& shared = common();
        if (auto const order = key.substr(0, shared.size()).compare(shared); order != 0)
            return order < 0 ? index_range{0, 0} : index_range{n, n};
        auto const prefix = format::key_prefix(key, shared.size());
        KEEL_TRY_LET(first, lower_bound_of_prefix(prefix));
        KEEL_TRY_LET(last, end_of_prefix(first, prefix));
        return index_range{first, last};
    }
    /// On which side of the searched position an unreadable entry counts, if it may be on either side.
    enum class unread : std::uint8_t { behind, in_front };
    /// The first entry of the range that is not in front of (key, at). Entries with equal prefixes are compared by reading their
    /// records.
    result<std::uint64_t> lower_bound(index_range alike, std::string_view key, lsn at, read_version& scratch,
                                      unread go = unread::behind) {
        auto low = alike.first;
        auto high = alike.last;
        while (low < high) {
            auto const middle = low + (high - low) / 2;
            KEEL_TRY_LET(e, entry(middle));
            if (auto const seen = run_->read(e, scratch); !seen) {
                if (is_shortage(seen.error().code)) return failure(seen.error());
                return lower_bound_of_readable({low, high}, key, at, scratch, go);
            }
            if (is_in_front(scratch.what, key, at)) low = middle + 1;
            else high = middle;
        }
        return low;
    }

    /// The position behind the versions of `key`. Precondition: entry `i` is one of them. It reads only a few records, because all
    /// entries between two versions of a key are versions of that key. If one of the records that it reads does not count or cannot be
    /// read, the result may be too small.
    result<std::uint64_t> end_of_key(std::uint64_t i, std::string_view key, read_version& scratch) {
        KEEL_TRY_LET(e, entry(i));
        KEEL_TRY_LET(end, end_of_prefix(i + 1, e.prefix));
        if (end == i + 1) return end;
        KEEL_TRY_LET(all, has_key(end - 1, key, scratch)); // usually all entries with the prefix have the key
        if (all) return end;
        return end_of_alike(i + 1, end - 1, [&](std::uint64_t at) { return has_key(at, key, scratch); });
    }
    /// Likewise the position of the first version of `key`. The result may be too large for the same reason.
    result<std::uint64_t> begin_of_key(std::uint64_t i, std::string_view key, read_version& scratch) {
        KEEL_TRY_LET(e, entry(i));
        KEEL_TRY_LET(begin, begin_of_prefix(i, e.prefix));
        if (begin == i) return begin;
        KEEL_TRY_LET(all, has_key(begin, key, scratch));
        if (all) return begin;
        KEEL_TRY_LET(
            n, end_of_alike(0, i - begin - 1, [&](std::uint64_t at) { return has_key(i - 1 - at, key, scratch); }));
        return i - n;
    }
    /// The entries [first, last) are versions of one key. Returns the first one that is not newer than `snapshot`, or an empty entry in
    /// front of it.
    result<std::uint64_t> first_not_newer(std::uint64_t first, std::uint64_t last, lsn snapshot) {
        return end_of_alike(first, last, [&](std::uint64_t i) -> result<bool> {
            KEEL_TRY_LET(e, entry(i));
            return !is_unknown(e) && run_->lsn_of(e) > snapshot;
        });
    }

private:
    /// The index block in which the key's entries begin or would begin. std::nullopt: the index is not ready or is in memory, or the
    /// fences do not cover the key.
    [[nodiscard]] std::optional<std::uint64_t> block_of(std::string_view key) const noexcept {
        auto const& run = *run_;
        if (!run.index_ready_.load(std::memory_order_acquire) || !run.goes_by_fences()) return std::nullopt;
        if (!key.starts_with(run.common_)) return std::nullopt;
        auto const behind = run.fences_before(format::key_prefix(key, run.common_.size()));
        return behind != 0 ? std::optional{behind - 1} : std::nullopt;
    }
    /// Narrows the range by neighbouring records that have the same prefix and can be read. Entries are sorted by key, and the versions
    /// of a key with the newest first.
    void narrow(damaged_range& range, std::uint64_t i, std::uint64_t prefix) {
        constexpr std::uint64_t most = 16;
        read_version beside;
        auto const at = range.lsns.first;
        auto const reads = [&](std::uint64_t j) {
            auto const e = entry(j);
            return e && e->prefix == prefix && !is_unknown(*e) && run_->read(*e, beside);
        };
        for (std::uint64_t n = 1; n <= std::min(most, i); ++n)
            if (reads(i - n)) {
                range.from = beside.what.at > at ? std::string{beside.what.key} : key_after(beside.what.key);
                break;
            }
        for (auto j = i + 1; j < std::min(i + 1 + most, run_->shape_.entries); ++j)
            if (reads(j)) {
                range.to = beside.what.at < at ? key_after(beside.what.key) : std::string{beside.what.key};
                break;
            }
    }
    [[nodiscard]] static bool is_in_front(version const& v, std::string_view key, lsn at) noexcept {
        auto const order = v.key.compare(key);
        return order < 0 || (order == 0 && v.at > at);
    }
    result<std::uint64_t> lower_bound_of_readable(index_range alike, std::string_view key, lsn at,
                                                  read_version& scratch, unread go) {
        auto low = alike.first; // behind the last entry that is known to be in front
        for (auto i = alike.first; i < alike.last; ++i) {
            KEEL_TRY_LET(e, entry(i));
            if (is_unknown(e)) continue;
            if (auto const seen = run_->read(e, scratch); !seen) {
                if (is_shortage(seen.error().code)) return failure(seen.error());
                continue;
            }
            if (!is_in_front(scratch.what, key, at)) return go == unread::behind ? low : i;
            low = i + 1;
        }
        return go == unread::behind ? low : alike.last;
    }
    /// The fences narrow the search down to one block.
    result<std::uint64_t> lower_bound_of_prefix(std::uint64_t prefix) {
        std::uint64_t low = 0;
        auto high = run_->shape_.entries;
        if (run_->goes_by_fences()) {
            auto const per_block = run_->shape_.entries_per_block();
            auto const behind = run_->fences_before(prefix);
            high = std::min(high, behind * per_block);
            low = behind == 0 ? high : (behind - 1) * per_block;
        }
        if (low == high) return low;
        KEEL_TRY(hold(low));
        while (low < high) {
            auto const middle = low + (high - low) / 2;
            if (entry_at(middle).prefix < prefix) low = middle + 1;
            else high = middle;
        }
        return low;
    }
    /// `alike(i)` gives a result<bool>: true for the first entries of [from, to), false for the others. Returns the first position with
    /// false. The search begins with steps that double, because most often few entries are alike.
    template <class Alike>
    static result<std::uint64_t> end_of_alike(std::uint64_t from, std::uint64_t to, Alike const& alike) {
        auto low = from; // alike() is true for all entries in front of it
        auto high = to;
        for (std::uint64_t step = 1; low < high; step *= 2) {
            auto const at = std::min(low + step - 1, high - 1);
            KEEL_TRY_LET(yes, alike(at));
            if (!yes) {
                high = at;
                break;
            }
            low = at + 1;
        }
        while (low < high) {
            auto const middle = low + (high - low) / 2;
            KEEL_TRY_LET(yes, alike(middle));
            if (yes) low = middle + 1;
            else high = middle;
        }
        return low;
    }
    result<bool> has_prefix(std::uint64_t i, std::uint64_t prefix) {
        KEEL_TRY_LET(e, entry(i));
        return e.prefix == prefix;
    }
    /// Whether the record of entry `i` counts, can be read and has this key.
    result<bool> has_key(std::uint64_t i, std::string_view key, read_version& scratch) {
        KEEL_TRY_LET(e, entry(i));
        return run_->counts(e) && run_->read(e, scratch) && scratch.what.key == key;
    }
    /// The position behind the entries with this prefix, which begin at `from`.
    result<std::uint64_t> end_of_prefix(std::uint64_t from, std::uint64_t prefix) {
        return end_of_alike(from, run_->shape_.entries, [&](std::uint64_t i) { return has_prefix(i, prefix); });
    }
    /// The position of the first entry with this prefix. The entries end in front of `to`.
    result<std::uint64_t> begin_of_prefix(std::uint64_t to, std::uint64_t prefix) {
        KEEL_TRY_LET(n, end_of_alike(0, to, [&](std::uint64_t i) { return has_prefix(to - 1 - i, prefix); }));
        return to - n;
    }

    /// Loads the block with entry `i` for entry_at(). If the index is in memory, all entries are available.
    result<void> hold(std::uint64_t i) {
        KEEL_TRY(run_->ready_index());
        if (auto const* heap = run_->heap_.load(std::memory_order_acquire); heap != nullptr) {
            made_ = heap->entries.data();
            begin_ = 0;
            held_ = heap->entries.size();
            return {};
        }
        auto const per_block = run_->shape_.entries_per_block();
        auto const number = i / per_block;
        auto got = run_->load_block(run_->block_offset(number));
        if (!got) {
            if (is_shortage(got.error().code)) return failure(got.error());
            // The block is damaged, so rebuild the index. The rebuilt index has the same order, so positions stay valid.
            KEEL_TRY(run_->make_anew(got.error()));
            return hold(i);
        }
        block_ = std::move(*got);
        begin_ = number * per_block;
        held_ = std::min(per_block, run_->shape_.entries - begin_);
        return {};
    }
    [[nodiscard]] format::index_entry entry_at(std::uint64_t i) const noexcept {
        if (made_ != nullptr) return made_[i];
        return format::read_index_entry(block_.data() + (i - begin_) * format::index_entry_bytes);
    }

    sealed_segment_reader const* run_;
    block_cache::block block_{};
    format::index_entry const* made_ = nullptr; ///< the index in memory; nullptr: none
    std::uint64_t begin_ = 0;                   ///< loaded entries: [begin_, begin_ + held_)
    std::uint64_t held_ = 0;
};

} // namespace keel::inline v0::table

#endif
