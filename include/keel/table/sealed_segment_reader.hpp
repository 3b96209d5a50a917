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
    class index_reader;

public:
    /// One look-up in steps. Each step prefetches the memory that the next step reads. So several look-ups that run side by side wait for
    /// their memory together. One thread's. The reader and the key must outlive it.
    class lookup;

    /// Visits the versions that count, by key and the newest first, in either direction. With versions::newest_seen it gives of each key
    /// the newest version that counts and is not newer than `snapshot`. It may give further versions of a key if some of them do not count
    /// or cannot be read.
    ///
    /// When something cannot be read, trouble() has the error and valid() is false. damaged() then tells which keys are affected.
    /// leave_forward() or leave_backward() goes on.
    class cursor;

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
