// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SEALED_SEGMENT_READER_HPP
#define KEEL_TABLE_SEALED_SEGMENT_READER_HPP

// A segment of the log that takes no more records, read where it lies. Its sorted index tells where the versions of a key are. Each record
// is verified on every read. The index is on the disk (a sealed segment), or a scan made it (a segment that a crash left). If an index on
// the disk is damaged, it is rebuilt in memory from the records (table/record_finder.hpp). A record counts if its LSN is in
// closed_segment::counted.
//
// A record that does not verify is an error for its own key. The index has eight bytes of each key. These bytes and the neighbouring
// records tell which key the record may have. Keys that it cannot have are not affected.
//
// Nothing is opened, mapped or read before the first look-up. A look-up then reads only what it needs: a filter block that denies the key,
// or an index block and a record. So mounting costs nothing, and a cold look-up costs little.
//
// Thread rules: any number of threads. m_ guards the making of the index and of the filter. It is held during that I/O, by readers only.
// index_ready_, heap_, filter_ and the filter's slots publish what was made: they are stored with release and loaded with acquire. A cursor
// belongs to one thread.

#include <keel/detail/prefetch.hpp>
#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/table/damaged_range.hpp>
#include <keel/table/entry.hpp>
#include <keel/table/lazy_file.hpp>
#include <keel/table/read_cache.hpp>
#include <keel/table/record_finder.hpp>
#include <keel/table/silent_medium.hpp>
#include <keel/types.hpp>
#include <keel/wal/segment_index.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

template <checksum_policy C, io::file_system Fs>
class sealed_segment_reader {
public:
    using file_type = typename Fs::file;

    /// `of.index` tells where the index on the disk is. If there is none, `scanned` is the index.
    sealed_segment_reader(Fs fs, wal::closed_segment of, std::shared_ptr<wal::sorted_index const> scanned,
                          std::shared_ptr<read_cache> cache, std::shared_ptr<damage_listener const> listener,
                          std::shared_ptr<open_file_list> open_files = std::make_shared<open_file_list>())
        : sealed_segment_reader{std::make_shared<lazy_file<Fs> const>(std::move(fs), of.path, std::move(open_files)),
                                std::move(of), std::move(scanned), std::move(cache), std::move(listener)} {}
    /// Reads a file that another reader has open.
    sealed_segment_reader(std::shared_ptr<lazy_file<Fs> const> file, wal::closed_segment of,
                          std::shared_ptr<wal::sorted_index const> scanned, std::shared_ptr<read_cache> cache,
                          std::shared_ptr<damage_listener const> listener)
        : file_{std::move(file)}, of_{std::move(of)}, on_disk_{of_.index.value_or(format::segment_section{})},
          shape_{format::block_bytes(of_.segment_bytes), scanned ? scanned->entries.size() : of_.records},
          cache_{std::move(cache)}, listener_{std::move(listener)}, made_{std::move(scanned)} {
        heap_.store(made_.get(), std::memory_order_release);
    }

    [[nodiscard]] wal::closed_segment const& source() const noexcept { return of_; }
    /// Every reader of this file holds a share of this object. As long as another share exists, the file is needed.
    [[nodiscard]] std::shared_ptr<void const> file() const noexcept { return file_; }
    /// Keeps the file open as long as the returned object lives. Errors: no_descriptor, those of opening.
    [[nodiscard]] auto keep_open() const { return file_->keep_open(); }
    /// Keeps the file open, and so readable after it was removed, as long as the reader lives. Errors: as of keep_open().
    [[nodiscard]] result<void> keep_open_for_good() const { return file_->keep_open_for_good(); }
    /// Whether the file still has its name. Errors: not_found.
    [[nodiscard]] result<void> named() const { return file_->named(); }
    /// A reader of the same file in which records with LSNs above `last` do not count.
    [[nodiscard]] std::shared_ptr<sealed_segment_reader const> up_to(lsn last) const {
        auto less = of_;
        for (auto& r : less.counted) r.last = std::min(r.last, last);
        std::erase_if(less.counted, [](lsn_range const& r) { return r.empty(); });
        std::lock_guard const hold{m_};
        auto out = std::make_shared<sealed_segment_reader>(file_, std::move(less), made_, cache_, listener_);
        out->unknown_ = unknown_;
        return out;
    }
    /// The largest LSN that counts; 0: no record counts.
    [[nodiscard]] lsn newest() const noexcept { return of_.counted.empty() ? lsn{} : of_.counted.back().last; }

    /// Finds the newest version of `key` that counts, is newer than `than` and not newer than `snapshot`. False: there is none. `hash`: the
    /// key's filter_hash. Errors: corruption, with file and offset; those of the file system. `error::at` is the largest LSN that an
    /// unreadable version of the key may have.
    [[nodiscard]] result<bool> find(std::string_view key, std::uint64_t hash, lsn snapshot, read_version& into,
                                    lsn than = {}) const {
        lookup one{*this, key, snapshot};
        return one.locate(hash) ? one.finish(into, than) : false;
    }
    /// Whether a key may have a version here: the filter does not deny it. `hash`: the key's filter_hash.
    [[nodiscard]] bool may_hold(std::uint64_t hash) const { return !of_.filter || filter_allows(hash); }
    /// Prefetches the filter line that find() reads.
    void prefetch(std::uint64_t hash) const noexcept {
        auto const* filter = filter_.load(std::memory_order_acquire);
        if (filter == nullptr) return;
        auto const line = filter_line(hash);
        auto const* block = (*filter)[line.block].load(std::memory_order_acquire);
        if (block != nullptr) keel::detail::prefetch(block + line.offset);
    }

    /// About how many bytes of the segment belong to keys from `from` on and in front of `to`. std::nullopt: no bound on that side. Reads
    /// the index only.
    [[nodiscard]] result<std::uint64_t> bytes_between(std::optional<std::string> const& from,
                                                      std::optional<std::string> const& to) const {
        index_reader at{*this};
        std::uint64_t begin = 0;
        auto end = shape_.entries;
        if (from) {
            KEEL_TRY_LET(there, at.equal_prefixes(*from));
            begin = there.first;
        }
        if (to) {
            KEEL_TRY_LET(there, at.equal_prefixes(*to));
            end = there.first;
        }
        if (end <= begin) return std::uint64_t{0};
        return (of_.end - of_.begin) / shape_.entries * (end - begin);
    }

private:
    static constexpr std::size_t first_look_bytes = 256; // most records are shorter: one copy gets the whole record

    /// Reads entries of the index. It keeps the block that it read last.
    class index_reader {
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
            if (auto const at = block_of(key))
                run_->cache_->blocks.prefetch_block(run_->name_at(run_->block_offset(*at)));
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

public:
    /// One look-up in steps. Each step prefetches the memory that the next step reads. So several look-ups that run side by side wait for
    /// their memory together. One thread's. The reader and the key must outlive it.
    class lookup {
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

    /// Visits the versions that count, by key and the newest first, in either direction. With versions::newest_seen it gives of each key
    /// the newest version that counts and is not newer than `snapshot`. It may give further versions of a key if some of them do not count
    /// or cannot be read.
    ///
    /// When something cannot be read, trouble() has the error and valid() is false. damaged() then tells which keys are affected.
    /// leave_forward() or leave_backward() goes on.
    class cursor {
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

private:
    [[nodiscard]] lsn lsn_of(format::index_entry const& e) const noexcept {
        return {of_.first.value - 1 + e.lsn_delta};
    }
    [[nodiscard]] bool counts(lsn at) const noexcept {
        auto const r = std::ranges::lower_bound(of_.counted, at, {}, &lsn_range::last);
        return r != of_.counted.end() && r->first <= at;
    }

    /// Whether the entry leads to a record, and the record counts.
    [[nodiscard]] bool counts(format::index_entry const& e) const noexcept {
        return !is_unknown(e) && counts(lsn_of(e));
    }

    // ---- records ------------------------------------------------------------------------------------------------------------

    /// Reads and verifies a record. Returns the size of its frame. `expected`: how many bytes are read first.
    [[nodiscard]] result<std::uint64_t> read(format::index_entry const& e, read_version& into,
                                             std::size_t expected = first_look_bytes) const {
        std::uint64_t const offset = e.offset;
        format::frame_view seen;
        bool const inside = offset >= of_.begin && offset < of_.end && of_.end - offset >= format::frame_header_bytes &&
                            offset % format::frame_alignment == 0;
        if (inside) {
            auto const room = of_.end - offset;
            seen = look(offset, room, expected, into);
            if (seen.state != format::frame_state::intact) {
                KEEL_TRY_LET(again, reread_uncached(offset, room, into));
                seen = again;
            }
        }
        bool const right = seen.state == format::frame_state::intact && seen.header.lsn_delta == e.lsn_delta &&
                           (seen.header.type == format::frame_type::put ||
                            seen.header.type == format::frame_type::erase);
        if (!right) return damaged(e, seen);
        into.what = {.key = as_text(seen.key()),
                     .value = as_text(seen.value()),
                     .at = lsn_of(e),
                     .tombstone = seen.header.type == format::frame_type::erase};
        return seen.bytes();
    }

    /// The frame at `offset`. Its state is `absent` also if it could not be read.
    [[nodiscard]] format::frame_view look(std::uint64_t offset, std::uint64_t room, std::size_t expected,
                                          read_version& into) const {
        format::frame_place const place{of_.salt, offset};
        auto bytes = into.bytes.room(static_cast<std::size_t>(std::min<std::uint64_t>(room, expected)));
        if (!file_->fetch(offset, bytes)) return {};
        auto const head = format::peek_frame(bytes.data(), place, room);
        if (head.state != format::frame_state::intact) return head;
        if (head.bytes() > bytes.size()) {
            bytes = into.bytes.room(static_cast<std::size_t>(head.bytes()));
            if (!file_->fetch(offset, bytes)) return {};
        }
        return format::read_frame<C>(bytes, place);
    }
    /// Reads exactly the bytes of the frame again, past the page cache. A mismatch is believed only after this.
    [[nodiscard]] result<format::frame_view> reread_uncached(std::uint64_t offset, std::uint64_t room,
                                                             read_version& into) const {
        format::frame_place const place{of_.salt, offset};
        auto bytes = into.bytes.room(format::frame_header_bytes);
        KEEL_TRY(read_medium(offset, bytes));
        auto const head = format::peek_frame(bytes.data(), place, room);
        if (head.state != format::frame_state::intact) return head;
        bytes = into.bytes.room(static_cast<std::size_t>(head.bytes()));
        KEEL_TRY(read_medium(offset, bytes));
        return format::read_frame<C>(bytes, place);
    }
    [[nodiscard]] result<void> read_medium(std::uint64_t offset, byte_span out) const {
        auto const got = file_->fetch_uncached(offset, out);
        if (!got) {
            if (is_shortage(got.error().code)) return got;
            tell({.kind = damage::unreadable,
                  .file = of_.path,
                  .offset = offset,
                  .length = out.size(),
                  .detail = "the medium cannot read these bytes: " + to_string(got.error())});
            return failure(got.error());
        }
        return {};
    }

    /// The header of the record's frame; std::nullopt if it does not verify.
    [[nodiscard]] std::optional<format::frame_header> believed_header(format::index_entry const& e) const {
        std::array<std::byte, format::frame_header_bytes> head{};
        bool const inside = e.offset >= of_.begin && e.offset < of_.end && of_.end - e.offset >= head.size();
        if (!inside) return std::nullopt;
        auto const peek = [&](bool got) {
            if (!got) return format::frame_view{};
            return format::peek_frame(head.data(), {of_.salt, e.offset}, of_.end - e.offset);
        };
        auto seen = peek(file_->fetch(e.offset, head));
        if (seen.state != format::frame_state::intact) seen = peek(file_->fetch_uncached(e.offset, head).has_value());
        bool const right = seen.state == format::frame_state::intact && seen.header.lsn_delta == e.lsn_delta &&
                           format::takes_lsn(seen.header.type);
        if (!right) return std::nullopt;
        return seen.header;
    }
    /// The LSNs of the records that count.
    [[nodiscard]] lsn_range all_lsns() const noexcept {
        if (of_.counted.empty()) return {};
        return {of_.counted.front().first, of_.counted.back().last};
    }

    [[nodiscard]] tl::unexpected<error> damaged(format::index_entry const& e, format::frame_view const& seen) const {
        auto const at = lsn_of(e);
        tell({.kind = damage::corrupt_record,
              .file = of_.path,
              .offset = e.offset,
              .length = seen.state == format::frame_state::damaged ? seen.bytes() : format::frame_header_bytes,
              .lsns = {at, at},
              .expected = seen.check,
              .lost = 1,
              .detail = "the record does not verify when it is read"});
        return failure(
            error{.code = errc::corruption,
                  .message = "LSN " + std::to_string(at.value) +
                             " does not verify any more, so its key has no answer; open the store again with "
                             "verify = deep to have it repaired, or run wal-recovery validate",
                  .file = of_.path,
                  .offset = e.offset,
                  .at = at});
    }
    void tell(finding what) const {
        if (listener_ && *listener_) (*listener_)(std::move(what));
    }

    // ---- opening, and the index ---------------------------------------------------------------------------------------------

    [[nodiscard]] result<void> ready_index() const {
        if (index_ready_.load(std::memory_order_acquire)) [[likely]]
            return {};
        std::lock_guard const hold{m_};
        if (index_ready_.load(std::memory_order_relaxed)) return {};
        KEEL_TRY_LET(open, file_->keep_open()); // so that no part looks damaged for want of a descriptor
        if (heap_.load(std::memory_order_relaxed) == nullptr)
            if (auto done = load_head(); !done) KEEL_TRY(make_anew_locked(done.error()));
        index_ready_.store(true, std::memory_order_release);
        return {};
    }

    /// False: no record has the key. A filter that cannot be read allows every key. Filter blocks stay in memory once they were read (1.25
    /// bytes for each key), because every look-up of an older key reads them.
    [[nodiscard]] bool filter_allows(std::uint64_t hash) const {
        auto const line = filter_line(hash);
        auto const* filter = filter_.load(std::memory_order_acquire);
        if (filter == nullptr) filter = ready_filter();
        auto const* block = (*filter)[line.block].load(std::memory_order_acquire);
        if (block == nullptr && (block = ready_filter_block(line.block)) == nullptr) return true;
        return format::line_allows(block + line.offset, hash, of_.filter->argument);
    }
    [[nodiscard]] format::filter_shape filter_shape() const noexcept { return {shape_.block, shape_.entries}; }
    /// The place of a key's line in the filter.
    struct filter_place {
        std::size_t block;
        std::size_t offset;
    };
    [[nodiscard]] filter_place filter_line(std::uint64_t hash) const noexcept {
        auto const shape = filter_shape();
        auto const line = format::filter_line(hash, shape.lines());
        return {static_cast<std::size_t>(line / shape.lines_per_block()),
                static_cast<std::size_t>(line % shape.lines_per_block() * format::filter_line_bytes)};
    }
    using filter_blocks = std::vector<std::atomic<std::byte const*>>;
    [[nodiscard]] filter_blocks const* ready_filter() const {
        std::lock_guard const hold{m_};
        if (!own_filter_) {
            own_filter_ = std::make_unique<filter_blocks>(static_cast<std::size_t>(filter_shape().blocks()));
            filter_.store(own_filter_.get(), std::memory_order_release);
        }
        return own_filter_.get();
    }
    [[nodiscard]] std::byte const* ready_filter_block(std::size_t number) const {
        std::lock_guard const hold{m_};
        auto& slot = (*own_filter_)[number];
        if (auto const* there = slot.load(std::memory_order_relaxed); there != nullptr) return there;
        auto const open = file_->keep_open();
        if (!open) return nullptr; // no descriptor now; a later look-up tries again
        auto block = read_block(of_.filter->offset + number * shape_.block);
        if (!block) return nullptr;
        filter_held_.push_back(std::move(*block));
        slot.store(filter_held_.back().data(), std::memory_order_release);
        return filter_held_.back().data();
    }

    /// Loads the bytes that all keys share, and the fences. Called with m_ held.
    [[nodiscard]] result<void> load_head() const {
        if (on_disk_.argument != 0) KEEL_TRY(load_common());
        KEEL_TRY_LET(fences, load_fences());
        fences_ = std::move(fences);
        return {};
    }
    /// Every key begins with the shared bytes. So they are taken from any record that verifies.
    [[nodiscard]] result<void> load_common() const {
        read_version any;
        for (std::uint64_t b = 0; b < shape_.entry_blocks(); ++b) {
            KEEL_TRY_LET(block, load_block(block_offset(b)));
            auto const first = b * shape_.entries_per_block();
            auto const count = std::min(shape_.entries_per_block(), shape_.entries - first);
            for (std::uint64_t i = 0; i < count; ++i) {
                auto const e = format::read_index_entry(block.data() + i * format::index_entry_bytes);
                if (!read(e, any) || any.what.key.size() < on_disk_.argument) continue;
                common_ = std::string{any.what.key.substr(0, on_disk_.argument)};
                return {};
            }
        }
        return bad_block(block_offset(0));
    }
    [[nodiscard]] result<std::vector<std::uint64_t>> load_fences() const {
        auto const blocks = shape_.entry_blocks();
        std::vector<std::uint64_t> fences;
        for (std::uint64_t b = 0; b < shape_.fence_blocks(); ++b) {
            KEEL_TRY_LET(block, load_block(block_offset(blocks + b)));
            auto const first = b * shape_.fences_per_block();
            for (auto i = first; i < std::min(first + shape_.fences_per_block(), blocks); ++i)
                fences.push_back(format::load<std::uint64_t>(block.data() + 8 * (i - first)));
        }
        if (!std::ranges::is_sorted(fences)) return bad_block(block_offset(blocks));
        return fences;
    }

    /// A verified block of a section, through the cache.
    [[nodiscard]] result<block_cache::block> load_block(std::uint64_t offset) const {
        auto const name = name_at(offset);
        if (auto held = cache_->blocks.find(name)) return held;
        KEEL_TRY_LET(fresh, read_block(offset));
        cache_->blocks.add(name, fresh);
        return fresh;
    }
    /// The offset of a block of the index.
    [[nodiscard]] std::uint64_t block_offset(std::uint64_t number) const noexcept {
        return on_disk_.offset + number * shape_.block;
    }
    /// The cache's name for the block at `offset`.
    [[nodiscard]] block_cache::name name_at(std::uint64_t offset) const noexcept { return {of_.salt, offset}; }

    /// Whether look-ups use the index on the disk, through its fences.
    [[nodiscard]] bool goes_by_fences() const noexcept {
        return !fences_.empty() && heap_.load(std::memory_order_acquire) == nullptr;
    }
    /// How many blocks of the index begin with a smaller prefix.
    [[nodiscard]] std::uint64_t fences_before(std::uint64_t prefix) const noexcept {
        return static_cast<std::uint64_t>(std::ranges::lower_bound(fences_, prefix) - fences_.begin());
    }
    /// Reads a block from the file and verifies it. Reads it again past the page cache before a mismatch is believed.
    [[nodiscard]] result<block_cache::block> read_block(std::uint64_t offset) const {
        block_cache::block fresh{static_cast<std::size_t>(shape_.block)};
        auto const verifies = [&] { return format::block_verifies<C>(fresh.view(), of_.salt, offset); };
        if (file_->fetch(offset, fresh.writable()) && verifies()) return fresh;
        if (auto again = file_->fetch_uncached(offset, fresh.writable()); !again) return failure(again.error());
        if (!verifies()) return bad_block(offset);
        return fresh;
    }
    [[nodiscard]] tl::unexpected<error> bad_block(std::uint64_t offset) const {
        return failure(errc::corruption, "a block of the segment's index does not verify", of_.path, offset);
    }

    result<void> make_anew(error const& why) const {
        std::lock_guard const hold{m_};
        if (heap_.load(std::memory_order_relaxed) != nullptr) return {};
        return make_anew_locked(why);
    }
    /// Rebuilds the index in memory where its blocks do not verify. Errors: the medium cannot read what is needed. A later call tries
    /// again. Once the medium has had enough time (table/silent_medium.hpp), the index is made without those parts.
    result<void> make_anew_locked(error const& why) const {
        KEEL_TRY_LET(open, file_->keep_open());
        std::vector<std::vector<format::index_entry>> blocks(static_cast<std::size_t>(shape_.entry_blocks()));
        bool silent = false;
        for (std::size_t b = 0; b < blocks.size(); ++b) {
            auto const block = read_block(block_offset(b));
            silent = silent || (!block && block.error().code != errc::corruption);
            if (block) {
                auto const left = shape_.entries - b * shape_.entries_per_block();
                auto const count = std::min(shape_.entries_per_block(), left);
                for (std::uint64_t i = 0; i < count; ++i)
                    blocks[b].push_back(format::read_index_entry(block->data() + i * format::index_entry_bytes));
            }
        }
        auto fences = load_fences();
        record_finder<C, file_type> finder{*open,
                                           of_,
                                           shape_,
                                           std::move(blocks),
                                           fences ? std::move(*fences) : std::vector<std::uint64_t>{},
                                           on_disk_.argument};
        auto found = finder.run();
        if ((silent || found.read_failed) && !found.unknown.empty() && silence_.may_answer_later())
            return failure(error{.code = errc::io_error,
                                 .message = "the medium does not give a part of the index, nor the records it leads to",
                                 .file = of_.path,
                                 .offset = why.offset,
                                 .retryable = true});
        tell({.kind = damage::damaged_filler,
              .file = of_.path,
              .offset = why.offset,
              .length = shape_.block,
              .done = outcome::healed,
              .detail = "the index does not verify; it was made anew from the records"});
        for (auto& u : found.unknown)
            u.why = {.code = silent || found.read_failed ? errc::io_error : errc::corruption,
                     .message = "neither a record nor the index that says which key it has verifies; run wal-recovery "
                                "validate",
                     .file = of_.path,
                     .offset = why.offset};
        unknown_ = std::move(found.unknown);
        made_ = std::make_shared<wal::sorted_index const>(std::move(found.index));
        heap_.store(made_.get(), std::memory_order_release);
        return {};
    }

    std::shared_ptr<lazy_file<Fs> const> file_;
    wal::closed_segment of_;
    format::segment_section on_disk_{};
    format::index_shape shape_;
    std::shared_ptr<read_cache> cache_{};
    std::shared_ptr<damage_listener const> listener_;

    mutable std::mutex m_;
    mutable std::atomic<bool> index_ready_{false};
    mutable std::unique_ptr<filter_blocks> own_filter_{};
    mutable std::vector<block_cache::block> filter_held_{};
    mutable std::atomic<filter_blocks const*> filter_{nullptr};
    mutable std::string common_{};
    mutable std::vector<std::uint64_t> fences_{};
    mutable std::shared_ptr<wal::sorted_index const> made_{};
    mutable silent_medium silence_{};
    mutable std::vector<damaged_range> unknown_{}; ///< where the records lie that made_ does not know
    mutable std::atomic<wal::sorted_index const*> heap_{nullptr};
};

} // namespace keel::inline v0::table

#endif
