// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SSTABLE_READER_HPP
#define KEEL_TABLE_SSTABLE_READER_HPP

// Reads a table (format/table.hpp): point look-ups and cursors. Nothing is opened or read before the first use. Then only the needed parts
// are read: the header, the root, a filter block that denies the key, or an index block and a block of records. Every block is verified
// when it is loaded. The table-access policy decides about blocks of records. Either they go unpacked through the cache, as whole blocks or
// as single records. Or each reader copies them from the file's mapping. All other blocks (a fiftieth of the file) stay in memory.
//
// Damage affects only the block it is in. If the root or an index block is damaged, that part of the index is rebuilt from the records. If
// a filter block is damaged, look-ups do not use it. If both headers are damaged, the manifest's entry and the frames are used instead. A
// block of records that does not verify is an error for the keys between its neighbours. A cursor tells which keys these are, and can go on
// behind them.
//
// Thread rules: any number of threads. m_ guards the parts that are loaded once. It is held during that I/O, by readers only. ready_, the
// slots and made_ready_ publish these parts: they are stored with release and loaded with acquire. A cursor belongs to one thread.

#include <keel/detail/prefetch.hpp>
#include <keel/error.hpp>
#include <keel/format/block.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/index.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/table.hpp>
#include <keel/io/concept.hpp>
#include <keel/policy/compression/concept.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/policy/table_access/concept.hpp>
#include <keel/table/damaged_range.hpp>
#include <keel/table/entry.hpp>
#include <keel/table/fence_list.hpp>
#include <keel/table/index_maker.hpp>
#include <keel/table/lazy_file.hpp>
#include <keel/table/packed_block.hpp>
#include <keel/table/placeholder.hpp>
#include <keel/table/read_cache.hpp>
#include <keel/table/silent_medium.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::table {

template <checksum_policy C, compression_policy P, table_access_policy A, io::file_system Fs>
class sstable_reader {
public:
    using file_type = typename Fs::file;

    sstable_reader(Fs fs, std::string path, format::table_entry of, std::shared_ptr<read_cache> cache,
                   std::shared_ptr<damage_listener const> listener,
                   std::shared_ptr<open_file_list> open_files = std::make_shared<open_file_list>())
        : sstable_reader{std::make_shared<lazy_file<Fs> const>(std::move(fs), std::move(path), std::move(open_files)),
                         std::move(of), std::move(cache), std::move(listener)} {}
    sstable_reader(std::shared_ptr<lazy_file<Fs> const> file, format::table_entry of, std::shared_ptr<read_cache> cache,
                   std::shared_ptr<damage_listener const> listener)
        : file_{std::move(file)}, of_{std::move(of)}, cache_{std::move(cache)}, listener_{std::move(listener)} {}

    [[nodiscard]] format::table_entry const& entry() const noexcept { return of_; }
    /// The smallest LSN that a version in the table can have.
    [[nodiscard]] lsn oldest() const {
        if (!of_.is_placeholder()) [[likely]]
            return of_.lsns.first;
        return ready() ? header_.lsns.first : lsn{}; // only the header of a placeholder tells
    }
    [[nodiscard]] std::string const& path() const noexcept { return file_->path(); }
    /// Every reader of this file holds a share of this object. As long as another share exists, the file is needed.
    [[nodiscard]] std::shared_ptr<void const> file() const noexcept { return file_; }
    /// Keeps the file open as long as the returned object lives. Errors: no_descriptor, those of opening.
    [[nodiscard]] auto keep_open() const { return file_->keep_open(); }
    /// Keeps the file open, and so readable after it was removed, as long as the reader lives. Errors: as of keep_open().
    [[nodiscard]] result<void> keep_open_for_good() const { return file_->keep_open_for_good(); }
    /// Whether the file still has its name. Errors: not_found.
    [[nodiscard]] result<void> named() const { return file_->named(); }
    /// Whether some bytes of the file are known not to verify. Bytes of the second header or of the filter count too. A merge that reads
    /// this table then writes an intact table instead.
    [[nodiscard]] bool is_damaged() const noexcept { return damaged_.load(std::memory_order_relaxed); }
    void note_damaged() const noexcept { damaged_.store(true, std::memory_order_relaxed); }
    /// A reader of the same file with the manifest's new entry for it.
    [[nodiscard]] std::shared_ptr<sstable_reader const> renamed(format::table_entry const& now) const {
        auto out = std::make_shared<sstable_reader const>(file_, now, cache_, listener_);
        if (is_damaged()) out->note_damaged();
        return out;
    }

    /// Finds the newest version of `key` that is not newer than `snapshot`. False: there is none. `hash`: the key's filter_hash. Errors:
    /// corruption, with file and offset; those of the file system.
    [[nodiscard]] result<bool> find(std::string_view key, std::uint64_t hash, lsn snapshot, read_version& into) const {
        return find(key, hash, snapshot, into, nullptr);
    }
    /// The same. A record that is found in the row cache is copied to `row`, and `into` points into `row`. Otherwise the key in `into` is
    /// the caller's `key`, and the value points into `into.bytes`.
    [[nodiscard]] result<bool> find(std::string_view key, std::uint64_t hash, lsn snapshot, read_version& into,
                                    row_cache::row_buffer* row) const {
        lookup one{*this, key, hash, snapshot, row};
        KEEL_TRY_LET(may_be, one.locate());
        return may_be ? one.finish(into) : false;
    }
    /// Prefetches the record, if the row cache has it.
    void prefetch_row(std::uint64_t hash) const noexcept { cache_->rows.prefetch_row(hash); }
    /// Prefetches what find() reads first: the filter line and the slots of the row cache.
    void prefetch(std::uint64_t hash) const noexcept {
        cache_->rows.prefetch(hash);
        if (!ready_.load(std::memory_order_acquire) || filter_slots_.empty()) return;
        auto const line = filter_line(hash);
        auto const* lines = filter_slots_[line.block].load(std::memory_order_acquire);
        if (lines != nullptr) keel::detail::prefetch(lines + line.offset);
    }

    /// Whether a key may have a version here: no filter block that verifies denies it. `hash`: the key's filter_hash.
    [[nodiscard]] bool may_hold(std::string_view key, std::uint64_t hash) const {
        return of_.may_have(key) && (!ready() || filter_allows(hash));
    }

    /// The filter of the table. A block that does not verify is replaced by one that allows every key.
    [[nodiscard]] filter_lines filter() const {
        filter_lines out;
        if (!ready()) return out;
        out.bits = header_.filter_bits;
        out.lines.assign(filter_slots_.size() * format::table_filter_block_bytes, std::byte{0xFF});
        for (std::size_t b = 0; b < filter_slots_.size(); ++b)
            if (auto const* lines = filter_block(b); lines != nullptr)
                std::copy_n(lines, format::table_filter_block_bytes,
                            out.lines.begin() + static_cast<std::ptrdiff_t>(b * format::table_filter_block_bytes));
        return out;
    }

    /// About how many bytes of the file belong to keys from `from` on and in front of `to`. std::nullopt: no bound on that side. Reads
    /// index blocks only.
    [[nodiscard]] result<std::uint64_t> bytes_between(std::optional<std::string> const& from,
                                                      std::optional<std::string> const& to) const {
        KEEL_TRY(ready());
        auto const offset_of = [this](std::string_view key) -> result<std::uint64_t> {
            index_walk at{*this};
            KEEL_TRY(at.seek(key));
            return at.valid() ? at.where().offset : header_.blocks_end;
        };
        std::uint64_t begin = format::table_frames_begin;
        auto end = header_.blocks_end;
        if (from) {
            KEEL_TRY_LET(at, offset_of(*from));
            begin = at;
        }
        if (to) {
            KEEL_TRY_LET(at, offset_of(*to));
            end = at;
        }
        return end > begin ? end - begin : 0;
    }

private:
    /// Finds blocks of records by key, and visits them in order.
    class index_walk;

public:
    /// One look-up in steps. Each step prefetches the memory that the next step reads. So several look-ups that run side by side wait for
    /// their memory together. One thread's. The reader, the key and `row` must outlive it.
    class lookup;

    /// Visits versions, by key and the newest first, in either direction. When something cannot be read, trouble() has the error and
    /// valid() is false. damaged() then tells which keys are affected. leave_forward() or leave_backward() goes on.
    class cursor;

private:
    /// What is known about the versions if none of them can be read.
    [[nodiscard]] damaged_range all_keys(error why) const {
        return {.from = of_.smallest,
                .to = of_.ends_open ? key_after_prefix(of_.largest) : key_after(of_.largest),
                .lsns = all_lsns(),
                .why = std::move(why)};
    }
    [[nodiscard]] lsn_range all_lsns() const { return {oldest(), of_.lsns.last}; }
    [[nodiscard]] lsn lsn_of(format::block_reader const& in) const noexcept {
        return {of_.lsns.first.value + in.age()};
    }
    [[nodiscard]] static byte_view payload_of(byte_view frame) noexcept {
        return frame.subspan(format::frame_header_bytes, format::read_frame_header(frame.data()).payload_bytes);
    }

    // ---- blocks -------------------------------------------------------------------------------------------------------------

    /// Segments also name their blocks by salt and offset. No offset of a file has this bit, so a table and a segment never share a name.
    [[nodiscard]] block_cache::name name_of(format::block_place where) const noexcept {
        return {of_.salt, where.offset | std::uint64_t{1} << 63};
    }
    /// Whether blocks of records go through the cache. In a table with packed blocks they always do, because unpacking costs more than
    /// caching.
    [[nodiscard]] bool through_cache() const noexcept {
        if constexpr (A::caches_blocks) return true;
        else if constexpr (compression::unpacks_any<P>()) return of_.compression != 0;
        else return false;
    }
    /// Loads a block of records. `keep`: put it into the cache. After an error `into` has nothing of use.
    [[nodiscard]] result<void> load(format::block_place where, bool keep, pinned_block& into) const {
        if (!through_cache()) return copy_block(where, into);
        auto const name = name_of(where);
        if (auto block = cache_->blocks.find(name)) {
            into.share(std::move(block));
            return {};
        }
        if (!keep && of_.compression == 0) return copy_block(where, into);
        KEEL_TRY_LET(fresh, read_block(where));
        if (keep) cache_->blocks.add(name, fresh);
        into.share(std::move(fresh));
        return {};
    }
    /// Copies a block into the reader's own memory. Precondition: the table has no packed blocks.
    [[nodiscard]] result<void> copy_block(format::block_place where, pinned_block& into) const {
        KEEL_TRY(is_inside(where));
        auto const fetch = [this](auto offset, byte_span out) {
            if constexpr (A::caches_blocks) return file_->fetch(offset, out);
            else return file_->fetch_mapped(offset, out);
        };
        KEEL_TRY(read_frame(where, format::frame_type::block, into.room(where.bytes), fetch));
        if (format::read_frame_header(into.view().data()).type != format::frame_type::block) return contradicts(where);
        return {};
    }
    /// Reads the frame of a block of records. A packed block is returned as the unpacked frame, except for its check.
    [[nodiscard]] result<block_cache::block> read_block(format::block_place where) const {
        KEEL_TRY(is_inside(where));
        block_cache::block frame{where.bytes};
        KEEL_TRY(read_frame(where, format::frame_type::block, frame.writable()));
        if constexpr (compression::unpacks_any<P>()) {
            if (format::read_frame_header(frame.data()).type == format::frame_type::packed)
                return unpacked(frame, where);
        }
        return frame;
    }
    [[nodiscard]] result<block_cache::block> unpacked(block_cache::block const& frame,
                                                      format::block_place where) const {
        constexpr auto head = format::frame_header_bytes;
        block_cache::block out;
        bool const done = unpack<P>(payload_of(frame.view()), of_.compression, [&](std::size_t raw) {
            out = block_cache::block{head + raw};
            return out.writable().subspan(head);
        });
        if (!done) return contradicts(where);
        std::memcpy(out.writable().data(), frame.data(), head);
        format::store(out.writable().data() + 8, static_cast<std::uint32_t>(out.size() - head));
        return out;
    }
    /// Reads the frame of a block and verifies it. Reads it again past the page cache before a mismatch is believed.
    [[nodiscard]] result<void> read_frame(format::block_place where, format::frame_type type,
                                          std::vector<std::byte>& into) const {
        KEEL_TRY(is_inside(where));
        into.resize(where.bytes);
        return read_frame(where, type, byte_span{into});
    }
    /// Whether the frames of the table contain the place. Checked before memory is allocated for the block.
    [[nodiscard]] result<void> is_inside(format::block_place where) const {
        bool const inside = where.offset >= format::table_frames_begin && where.bytes >= format::frame_header_bytes &&
                            where.offset % format::frame_alignment == 0 &&
                            std::uint64_t{where.offset} + where.bytes <= of_.size - format::header_bytes;
        if (!inside) return contradicts(where);
        return {};
    }
    [[nodiscard]] result<void> read_frame(format::block_place where, format::frame_type type, byte_span into) const {
        return read_frame(where, type, into, [this](auto offset, byte_span out) { return file_->fetch(offset, out); });
    }
    /// `fetch(offset, out)` is tried first.
    template <class Fetch>
    [[nodiscard]] result<void> read_frame(format::block_place where, format::frame_type type, byte_span into,
                                          Fetch const& fetch) const {
        format::frame_view seen;
        auto const right = [&] {
            seen = format::read_frame<C>(into, {of_.salt, where.offset});
            bool const is_kind = type == format::frame_type::block ? holds_records<P>(seen.header.type)
                                                                   : seen.header.type == type;
            return seen.state == format::frame_state::intact && is_kind && seen.bytes() == where.bytes;
        };
        if (fetch(where.offset, into) && right()) return {};
        auto const again = file_->fetch_uncached(where.offset, into);
        if (again && right()) return {};
        if (!again && is_shortage(again.error().code)) return again;
        tell(again ? damage::corrupt_block : damage::unreadable, where,
             again ? "the block does not verify when it is read"
                   : "the medium cannot read these bytes: " + to_string(again.error()),
             type);
        if (!again) return again;
        // If the index was rebuilt while the medium could not read everything, this may not be damage.
        auto const code = made_in_silence_.load(std::memory_order_relaxed) ? errc::io_error : errc::corruption;
        return failure(error{.code = code,
                             .message = "a block of the table does not verify, so the keys in it have no answer; run "
                                        "wal-recovery validate",
                             .file = path(),
                             .offset = where.offset});
    }
    [[nodiscard]] tl::unexpected<error> contradicts(format::block_place where) const {
        tell(damage::corrupt_block, where, "the block verifies and holds what no table does",
             format::frame_type::block);
        return failure(error{.code = errc::corruption,
                             .message = "a block of the table contradicts its index; run wal-recovery validate",
                             .file = path(),
                             .offset = where.offset});
    }
    void tell(damage kind, format::block_place where, std::string detail, format::frame_type type) const {
        if (kind != damage::unreadable) note_damaged();
        if (!listener_ || !*listener_) return;
        (*listener_)({.kind = kind,
                      .file = path(),
                      .offset = where.offset,
                      .length = where.bytes,
                      .done = type == format::frame_type::block ? outcome::reported : outcome::healed,
                      .detail = std::move(detail)});
    }

    // ---- what is loaded once ------------------------------------------------------------------------------------------------

    [[nodiscard]] result<void> ready() const {
        if (ready_.load(std::memory_order_acquire)) [[likely]]
            return {};
        std::lock_guard const hold{m_};
        if (ready_.load(std::memory_order_relaxed)) return {};
        KEEL_TRY_LET(open, file_->keep_open()); // so that no part looks damaged for want of a descriptor
        bool silent = false;
        bool const has_header = load_header(silent);
        if (!has_header && silent && silence_.may_answer_later()) return failure(medium_is_silent(0));
        if (!has_header) find_layout(*open);
        filter_slots_ = std::vector<std::atomic<std::byte const*>>(static_cast<std::size_t>(header_.filter_blocks));
        if (!load_root(has_header)) KEEL_TRY(make_index_locked(header_.root));
        ready_.store(true, std::memory_order_release);
        return {};
    }
    [[nodiscard]] error medium_is_silent(std::uint64_t offset) const {
        return {.code = errc::io_error,
                .message = "the medium does not give a part of the table that leads to its records",
                .file = path(),
                .offset = offset,
                .retryable = true};
    }
    /// False: no header verifies and belongs to this table. Sets `silent` if the medium could not read a header.
    [[nodiscard]] bool load_header(bool& silent) const {
        format::header_block block{};
        for (auto const at : {std::uint64_t{0}, of_.size - format::header_bytes}) {
            for (bool const again : {false, true}) {
                bool const read = again ? file_->fetch_uncached(at, block).has_value() : bool(file_->fetch(at, block));
                silent = silent || (again && !read);
                if (!read) continue;
                auto const h = format::decode_table_header<C>(block);
                if (!h || !of_.is_of(*h)) continue;
                header_ = *h;
                return true;
            }
            tell(damage::header_damaged, {static_cast<std::uint32_t>(at), format::header_bytes},
                 "a header of the table does not verify, or is another table's", format::frame_type::root);
        }
        return false;
    }
    /// Rebuilds the content of the header from the frames, as far as they tell. The filter is not used: only a header tells how many bits a
    /// key sets in it.
    void find_layout(file_type const& file) const {
        auto const end = of_.size - format::header_bytes;
        header_ = {.lsns = {of_.is_placeholder() ? lsn{} : of_.lsns.first, of_.lsns.last},
                   .blocks_end = end,
                   .root = {static_cast<std::uint32_t>(end), 0}};
        frame_walk<file_type> frames{file, of_.salt, of_.size};
        for (std::uint64_t at = format::table_frames_begin; at < end;) {
            auto const f = frames.at(at, end);
            bool const behind_records = f.believed &&
                                        (f.type == format::frame_type::filter || f.type == format::frame_type::fence ||
                                         f.type == format::frame_type::root);
            if (behind_records) header_.blocks_end = std::min(header_.blocks_end, at);
            if (behind_records && f.type == format::frame_type::root) header_.root = f.where;
            at += f.where.bytes;
        }
    }

    [[nodiscard]] bool filter_allows(std::uint64_t hash) const {
        if (filter_slots_.empty()) return true;
        auto const line = filter_line(hash);
        auto const* lines = filter_block(line.block);
        if (lines == nullptr) return true;
        return format::line_allows(lines + line.offset, hash, static_cast<std::uint32_t>(header_.filter_bits));
    }
    /// The lines of a filter block; nullptr if it does not verify.
    [[nodiscard]] std::byte const* filter_block(std::size_t number) const {
        auto const* lines = filter_slots_[number].load(std::memory_order_acquire);
        return lines != nullptr ? lines : load_filter(number);
    }
    /// The place of a key's line in the filter.
    struct filter_place {
        std::size_t block;
        std::size_t offset;
    };
    [[nodiscard]] filter_place filter_line(std::uint64_t hash) const noexcept {
        auto const line = format::filter_line(hash, header_.filter_lines());
        return {static_cast<std::size_t>(line / format::table_filter_lines),
                static_cast<std::size_t>(line % format::table_filter_lines * format::filter_line_bytes)};
    }
    [[nodiscard]] std::byte const* load_filter(std::size_t number) const {
        std::lock_guard const hold{m_};
        if (auto const* there = filter_slots_[number].load(std::memory_order_relaxed); there != nullptr) return there;
        if (filterless_) return nullptr;
        auto const open = file_->keep_open();
        if (!open) return nullptr; // no descriptor now; a later look-up tries again
        auto frame = std::make_unique<std::vector<std::byte>>();
        auto const bytes = static_cast<std::uint32_t>(format::frame_bytes(format::table_filter_block_bytes));
        auto const offset = static_cast<std::uint32_t>(header_.filter_offset(number));
        if (!read_frame({offset, bytes}, format::frame_type::filter, *frame)) {
            filterless_ = true; // reported once
            return nullptr;
        }
        held_.push_back(std::move(frame));
        filter_slots_[number].store(held_.back()->data() + format::frame_header_bytes, std::memory_order_release);
        return filter_slots_[number].load(std::memory_order_relaxed);
    }
    /// Loads the root. False: it does not verify, or is no list of index blocks. `counted`: the header tells how many index blocks there
    /// are.
    [[nodiscard]] bool load_root(bool counted) const {
        std::vector<std::byte> frame;
        if (header_.root.bytes == 0) return false; // find_layout() found no root
        if (!read_frame(header_.root, format::frame_type::root, frame)) return false;
        if (!read_fences(payload_of(frame), root_) || (counted && root_.size() != header_.index_blocks)) {
            root_ = {};
            return false;
        }
        index_slots_ = std::vector<std::atomic<fence_list const*>>(root_.size());
        return true;
    }
    /// Reads the fences of an index block. False: they are not valid, or not in order.
    [[nodiscard]] static bool read_fences(byte_view payload, fence_list& into) {
        format::block_reader in{payload};
        for (in.first(); in.valid(); in.next()) into.add(in.key(), in.place());
        into.finish();
        return in.whole() && !into.empty() && into.in_order();
    }
    /// An index block; nullptr if it does not verify. Errors: those of opening the file.
    [[nodiscard]] result<fence_list const*> index_block(std::size_t i) const {
        auto& slot = index_slots_[i];
        if (auto const* there = slot.load(std::memory_order_acquire); there != nullptr) [[likely]]
            return there;
        std::lock_guard const hold{m_};
        if (auto const* there = slot.load(std::memory_order_relaxed); there != nullptr) return there;
        KEEL_TRY_LET(open, file_->keep_open());
        std::vector<std::byte> frame;
        auto fences = std::make_unique<fence_list>();
        if (!read_frame(root_.where(i), format::frame_type::fence, frame)) return nullptr;
        if (!read_fences(payload_of(frame), *fences)) return nullptr;
        index_held_.push_back(std::move(fences));
        slot.store(index_held_.back().get(), std::memory_order_release);
        return index_held_.back().get();
    }

    [[nodiscard]] fence_list const* made() const noexcept {
        return made_ready_.load(std::memory_order_acquire) ? &made_ : nullptr;
    }
    /// Rebuilds the index in memory, because the index on the disk is damaged at `where`. Errors: the medium cannot read what is needed. A
    /// later call tries again. Once the medium has had enough time (table/silent_medium.hpp), the index is made without those parts.
    result<void> make_index(format::block_place where) const {
        std::lock_guard const hold{m_};
        return make_index_locked(where);
    }
    result<void> make_index_locked(format::block_place where) const {
        if (made_ready_.load(std::memory_order_relaxed)) return {};
        KEEL_TRY_LET(open, file_->keep_open());
        frame_walk<file_type> frames{*open, of_.salt, of_.size};
        block_source blocks{.of = *this};
        auto const index_begin = header_.filter_offset(header_.filter_blocks);
        index_maker<file_type, block_source> maker{
            frames, blocks, {header_.blocks_end, index_begin, of_.size - format::header_bytes, largest_key()}};
        auto made = maker.make(root_);
        bool const silent = blocks.read_failed || frames.read_failed();
        if (silent && !maker.found_all() && silence_.may_answer_later()) return failure(medium_is_silent(where.offset));
        tell(damage::corrupt_block, where, "the table's index does not verify; it was made anew from the records",
             format::frame_type::fence);
        made_in_silence_.store(silent && !maker.found_all(), std::memory_order_relaxed);
        made_ = std::move(made);
        made_ready_.store(true, std::memory_order_release);
        return {};
    }
    /// The blocks from which the index is rebuilt.
    struct block_source {
        sstable_reader const& of;
        bool read_failed = false; ///< the medium could not read a block

        [[nodiscard]] std::optional<fence_list> leaf(format::block_place where) {
            std::vector<std::byte> frame;
            fence_list out;
            bool const verifies = is_right(of.read_frame(where, format::frame_type::fence, frame)) &&
                                  read_fences(payload_of(frame), out);
            if (!verifies) return std::nullopt;
            return out;
        }
        [[nodiscard]] std::optional<key_ends> ends(format::block_place where) {
            pinned_block block;
            if (!is_right(of.load(where, false, block))) return std::nullopt;
            format::block_reader in{payload_of(block.view())};
            in.last();
            if (!in.valid()) return std::nullopt;
            key_ends out{.first = {}, .last = std::string{in.key()}};
            in.first();
            out.first = in.key();
            return out;
        }

    private:
        [[nodiscard]] bool is_right(result<void> const& read) {
            read_failed = read_failed || (!read && read.error().code != errc::corruption);
            return read.has_value();
        }
    };
    /// No key of the table is larger.
    [[nodiscard]] std::string largest_key() const {
        auto out = of_.largest;
        if (of_.ends_open) out.resize(std::max(out.size(), format::key_bytes_max), '\xFF');
        return out;
    }

    std::shared_ptr<lazy_file<Fs> const> file_;
    format::table_entry of_;
    std::shared_ptr<read_cache> cache_;
    std::shared_ptr<damage_listener const> listener_;

    mutable std::mutex m_;
    mutable std::atomic<bool> ready_{false};
    mutable format::table_header header_{};
    mutable fence_list root_{};
    mutable std::vector<std::unique_ptr<std::vector<std::byte>>> held_{};
    mutable std::vector<std::atomic<std::byte const*>> filter_slots_{};
    mutable std::vector<std::atomic<fence_list const*>> index_slots_{};
    mutable std::vector<std::unique_ptr<fence_list>> index_held_{};
    mutable bool filterless_ = false;
    mutable silent_medium silence_{};
    mutable std::atomic<bool> made_in_silence_{false}; // relaxed: a hint for messages and for merges
    mutable std::atomic<bool> damaged_{false};         // relaxed: a hint for merges
    mutable fence_list made_{};
    mutable std::atomic<bool> made_ready_{false};
};

} // namespace keel::inline v0::table

#endif
