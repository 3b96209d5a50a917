// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_SEGMENT_POOL_HPP
#define KEEL_WAL_SEGMENT_POOL_HPP

// The life of segment files: prepare, register, activate, seal, retire, recycle. The manifest records each step.
//
// Prepare: fill a new file or recycle an old one, write a header with a new id and salt, sync, rename, sync the directory, register. To
// fill a file means to write real zeros, so that a commit overwrites blocks that the file already owns. Where syncs are rare
// (write_path::mapped), the blocks are only allocated. The file system then notes that they hold data in the same sync that makes the data
// durable. Only a registered segment is activated. So a registered file that is missing is damage.
// Retire: the edit is durable in both manifests before a byte of the file changes.
//
// The lists of files (ready_, used_, made_) change after the manifest edit that they follow from is committed, by code that cannot fail.
// After a failed edit, or if memory is refused, they are unchanged.
//
// Thread rules: one mutex protects everything here. It is held during I/O. The writer calls with its own mutex held; nothing here takes the
// writer's mutex.

#include <keel/detail/guarded.hpp>
#include <keel/detail/lock_order.hpp>
#include <keel/error.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/wal/layout.hpp>
#include <keel/wal/manifest.hpp>
#include <keel/wal/reserve.hpp>
#include <keel/wal/segment_growth.hpp>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

namespace keel::inline v0::wal {

/// The space that a call may use on a full disk.
enum class space_policy : std::uint8_t {
    ordinary, ///< only free space
    reserved, ///< also the reserve: for calls that free space, and to save acknowledged records
};

/// A segment that is ready to be activated.
struct prepared_segment {
    segment_id id{};
    std::uint64_t salt = 0;
    std::uint64_t bytes = 0; ///< size of the file
};

template <checksum_policy C, io::file_system Fs>
class segment_pool {
public:
    using fs_type = Fs;
    using manifest_type = manifest_store<C, fs_type>;

    /// `segment_bytes`: the policy's size. Segments grow up to it (wal/segment_growth.hpp).
    segment_pool(fs_type fs, layout paths, manifest_type manifest, format::store_id store, std::uint64_t branch,
                 std::uint64_t segment_bytes, std::uint64_t (*entropy)(), std::uint64_t (*clock_ns)())
        : fs_{std::move(fs)}, paths_{std::move(paths)}, manifest_{std::move(manifest)}, store_{store}, branch_{branch},
          first_own_{manifest_.state().next_segment}, bytes_max_{segment_bytes},
          next_bytes_{first_segment_bytes(bytes_held(manifest_.state()), segment_bytes)}, entropy_{entropy},
          clock_ns_{clock_ns}, reserve_{fs_, paths_.reserve()} {}

    [[nodiscard]] layout const& paths() const noexcept { return paths_; }
    [[nodiscard]] fs_type& fs() noexcept { return fs_; }
    [[nodiscard]] format::store_id const& store() const noexcept { return store_; }
    [[nodiscard]] std::uint64_t branch() const noexcept { return branch_; }
    [[nodiscard]] std::uint64_t random() const { return entropy_(); }
    [[nodiscard]] std::uint64_t now_ns() const { return clock_ns_(); }

    /// The state of the manifest as it is now. All callers between two edits share one copy.
    [[nodiscard]] std::shared_ptr<format::manifest_state const> state() const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (!shown_) shown_ = std::make_shared<format::manifest_state const>(manifest_.state());
        return shown_;
    }
    /// The newest manifest edit that survives any crash.
    [[nodiscard]] std::uint64_t durable_edit() const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return manifest_.durable_edit();
    }

    /// From here on new segments are not filled with zeros. Call it before the first segment is prepared.
    void leave_unfilled() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        fills_ = false;
    }

    /// Sets what adopt() cleans up in addition. `leftovers`: files in the log's directory that belong to the store but are no part of it;
    /// they are removed. `gone`: spare segments without a file; they are retired. Call it before anything is written.
    void tidy_later(std::vector<std::string> leftovers, std::vector<segment_id> gone) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        leftovers_ = std::move(leftovers);
        gone_ = std::move(gone);
    }

    /// Takes over the spare segments that recovery found. Each of them gets a new salt before it is used, also after an orderly close. A
    /// later opening may have activated it and lost that to a power failure. The frames that stayed in the file would verify under the old
    /// salt. `retired`: segments that are no longer in the manifest and whose files still exist. `next`: the LSN that is taken next; the
    /// manifest forgets all losses from this LSN on. After an error nothing has changed, and the same call may be made again.
    [[nodiscard]] result<void> adopt(std::vector<format::segment_entry> const& spares,
                                     std::vector<format::segment_entry> const& retired, lsn next) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        // From here on headers name the newest edit as durable.
        KEEL_TRY(make_durable_locked());
        format::edit_builder edit;
        std::vector<used_file> reusable;
        for (auto const& e : spares) {
            if (!manifest_.state().segments.contains(e.id)) continue;
            edit.retired(e.id);
            if (holds(paths_.segment(e.id), e)) reusable.push_back({paths_.segment(e.id), e.size});
        }
        for (auto const id : gone_)
            if (manifest_.state().segments.contains(id)) edit.retired(id);
        // A loss may be recorded and its neighbours then lost to a power failure. Those LSNs are taken again, so drop the record of the
        // loss.
        if (std::ranges::any_of(manifest_.state().losses, [next](lsn_range const& r) { return r.last >= next; }))
            edit.reclaim_lsns(next);
        used_.reserve(used_.size() + reusable.size());
        if (!edit.empty()) KEEL_TRY(commit_locked(edit, space_policy::reserved));
        for (auto& file : reusable) used_.push_back(std::move(file));
        gone_.clear();
        for (auto const& e : retired)
            static_cast<void>(recycle_or_remove_locked(e, false)); // on failure the next opening does it
        remove_leftovers();
        return {};
    }

    /// Makes the state that was read back durable. Call it before a file is removed that this state does not name.
    [[nodiscard]] result<void> make_durable() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return make_durable_locked();
    }

    [[nodiscard]] std::size_t ready() const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return ready_.size();
    }

    /// Segments that are prepared from here on have at least this size, but never more than the policy's size.
    void grow_to(std::uint64_t bytes) noexcept {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        next_bytes_ = std::max(next_bytes_, std::min(bytes, bytes_max_));
    }
    /// Prepares a segment if none is ready.
    [[nodiscard]] result<void> make_ready() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return ready_.empty() ? prepare_largest(smallest_segment(bytes_max_), space_policy::ordinary) : result<void>{};
    }

    /// Returns the registered segment that is used next, with room for `wanted`. Prepares one if none is ready. The segment stays ready
    /// until take_first_ready().
    [[nodiscard]] result<prepared_segment> first_ready(segment_demand const& wanted, space_policy from) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (made_) KEEL_TRY(register_made(from));
        auto const bytes = wanted.segment_bytes(smallest_segment(bytes_max_), bytes_max_);
        // Segments are used in the order of their ids. So a segment that is too small is retired before a larger one is prepared.
        while (!ready_.empty() && ready_.front().bytes < bytes) KEEL_TRY(give_up_first_ready());
        if (ready_.empty()) KEEL_TRY(prepare_largest(bytes, from));
        return ready_.front();
    }
    /// Removes the segment from the ready ones, because it is written to from here on. Later segments are at least as large. Only the
    /// thread that called first_ready() may call this.
    void take_first_ready() noexcept {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        next_bytes_ = std::max(next_bytes_, ready_.front().bytes);
        ready_.erase(ready_.begin());
    }

    /// For an orderly close: adds to `edit` that prepared but unused segments are retired.
    void add_retire_unused(format::edit_builder& edit) const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        for (auto const& p : ready_) edit.retired(p.id);
    }
    /// Call it once that edit is durable. Removes the files of the unused segments, and the files that are kept for recycling. A file that
    /// cannot be removed is left to the next opening. So is a file whose registration failed, because a crash may have kept the
    /// registration.
    void remove_unused() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if ((ready_.empty() && used_.empty()) || !manifest_.check_identity()) return;
        for (auto const& p : ready_) static_cast<void>(fs_.remove(paths_.segment(p.id)));
        for (auto const& f : used_) static_cast<void>(fs_.remove(f.path));
        ready_.clear();
        used_.clear();
        static_cast<void>(fs_.sync_directory(paths_.log()));
    }

    /// Makes the reserve as large as it must be, because a full disk will not give that space. Errors: no_space, and those of the machine;
    /// nothing is lost then.
    [[nodiscard]] result<void> keep_reserve() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (is_lent_) return lent();
        return with_smaller_segments([&] { return reserve_.make(reserve_bytes()); });
    }
    /// The same, but quick: only allocates the space. keep_reserve() writes it later.
    [[nodiscard]] result<void> claim_reserve() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (is_lent_) return lent();
        return with_smaller_segments([&] { return reserve_.claim(reserve_bytes()); });
    }

    /// Call it when nothing is written. If no file was put aside for a second, keeps only a few files for recycling.
    void rest() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (used_.size() <= used_when_quiet || clock_ns_() - used_since_ns_ < quiet_ns) return;
        remove_used(used_when_quiet);
    }

    /// Lends the space of the reserve to an operation that frees more space. While the loan lives, no ordinary segment is prepared and the
    /// reserve is not made again. Afterwards keep_reserve() makes it again.
    class loan {
    public:
        explicit loan(segment_pool& from) : from_{from} {
            KEEL_TAKES(segment_pool, &from_);
            std::lock_guard const hold{from_.m_};
            from_.is_lent_ = from_.reserve_.spend();
            is_given_ = from_.is_lent_;
            if (is_given_) from_.remove_used(0);
        }
        loan(loan const&) = delete;
        loan& operator=(loan const&) = delete;
        ~loan() {
            KEEL_TAKES(segment_pool, &from_);
            std::lock_guard const hold{from_.m_};
            from_.is_lent_ = false;
        }
        /// False: there was no reserve to lend.
        [[nodiscard]] bool is_given() const noexcept { return is_given_; }

    private:
        segment_pool& from_;
        bool is_given_ = false;
    };

    /// Commits an edit to the manifest: manifest_store::commit(). If the disk is full, spends the reserve and tries once more. If an
    /// earlier edit failed, both copies are written anew first.
    [[nodiscard]] result<void> commit(format::edit_builder const& edit) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return commit_locked(edit, space_policy::reserved);
    }
    /// Checks that the store's names still lead to its files. Call it before any other file of the store is renamed or removed. Errors:
    /// those of store_identity::check().
    [[nodiscard]] result<void> check_identity() const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return manifest_.check_identity();
    }
    /// After a failed edit: the next edit writes both copies anew. It does so without this call as well.
    void retry() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        retry_locked();
    }

    /// Adds to `edit` that the log gives up these segments. All their records are at or below `floor`. `base`: the link of the segment
    /// before the oldest one that stays.
    static void add_retire_edits(format::edit_builder& edit, std::vector<format::segment_entry> const& gone,
                                 format::segment_link const& base, lsn start) {
        for (auto const& e : gone) edit.retired(e.id);
        edit.log_base(base).log_start_lsn(start);
    }
    /// Recycles or removes the file of a segment that is no longer in the manifest. `in_use`: a reader still reads it, so it is not
    /// recycled.
    [[nodiscard]] result<void> recycle_or_remove(format::segment_entry const& e, bool in_use) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return recycle_or_remove_locked(e, in_use);
    }

private:
    [[nodiscard]] result<void> recycle_or_remove_locked(format::segment_entry const& e, bool in_use) {
        KEEL_TRY(manifest_.check_identity());
        auto const path = paths_.segment(e.id);
        auto const status = fs_.status(path);
        // The file is gone, or another segment has its name, or it cannot be identified.
        if (!status || !holds(path, e)) return {};
        // An earlier opening may have given back blocks in the middle of its file.
        bool const is_whole = e.id.value >= first_own_;
        bool const reusable = is_whole && status->link_count == 1 && status->size == next_bytes_ &&
                              used_.size() < used_max;
        if (reusable && !in_use) {
            used_.push_back({path, e.size});
            used_since_ns_ = clock_ns_();
            return {};
        }
        KEEL_TRY(fs_.remove(path));
        return fs_.sync_directory(paths_.log());
    }

    struct used_file {
        std::string path;
        std::uint64_t size;
    };
    /// As many files as one compaction gives back. Overwriting a recycled file needs no new blocks, and its syncs need no journal of the
    /// file system.
    static constexpr std::size_t used_max = 8;
    static constexpr std::size_t used_when_quiet = 2; ///< enough for the first writes after a pause
    static constexpr std::uint64_t quiet_ns = 1'000'000'000;
    static constexpr std::uint64_t reserve_step = 16 * KiB; ///< otherwise it would grow with every edit
    // Larger writes leave large folios in the page cache, and these make later small writes slow.
    static constexpr std::size_t fill_bytes = 4 * KiB;

    /// Whether the file is segment `e`. Its name is only a hint. At least one header must verify, and every header that verifies must name
    /// this segment. The check matters because the caller overwrites or removes the file.
    [[nodiscard]] bool holds(std::string const& path, format::segment_entry const& e) {
        auto file = fs_.open(path, io::access::read_only, io::creation::must_exist);
        if (!file) return false;
        bool any = false;
        for (auto const at : {std::uint64_t{0}, format::second_header_offset(e.size)}) {
            format::header_block block{};
            auto const got = file->read(at, block);
            if (!got || *got != block.size()) continue;
            auto const read = format::decode_segment_header<C>(block);
            if (!read.good()) continue;
            if (read.header.id != e.id || read.header.salt != e.salt) return false;
            any = true;
        }
        return any;
    }

    static tl::unexpected<error> lent() {
        return failure(error{.code = errc::no_space,
                             .message = "the disk is full, and what was kept for that is in use to free some of it",
                             .retryable = true});
    }
    /// Removes files that are kept for recycling, until `kept` of them remain. Returns whether one was given up. A file that cannot be
    /// removed is left to the next opening. Removes nothing if the folder is not this store's any more, or if memory is refused.
    bool remove_used(std::size_t kept) noexcept {
        auto const before = used_.size();
        keel::detail::if_memory_lasts([&] {
            if (before <= kept || !manifest_.check_identity()) return;
            for (; used_.size() > kept; used_.pop_back()) static_cast<void>(fs_.remove(used_.back().path));
        });
        return used_.size() < before;
    }
    /// Makes or claims the reserve. If the disk is full, drops the files kept for recycling, then halves the size of the next segments
    /// until the reserve for them fits.
    template <class Make>
    result<void> with_smaller_segments(Make const& make) {
        for (;;) {
            auto done = make();
            if (!done && done.error().code == errc::no_space && remove_used(0)) continue;
            if (done || done.error().code != errc::no_space || next_bytes_ <= smallest_segment(bytes_max_)) return done;
            next_bytes_ = half_of(next_bytes_);
        }
    }
    /// The size of the reserve. It pays for the smallest compaction (one segment and as much of the first level) or for one more segment to
    /// write to; and for the manifest to be written anew.
    [[nodiscard]] std::uint64_t reserve_bytes() const {
        auto const manifest = std::max<std::uint64_t>(4 * manifest_.snapshot_bytes(), 2 * format::manifest_bytes_min);
        return 2 * next_bytes_ + format::rounded_up(manifest, reserve_step);
    }
    /// Whether a failed attempt is worth repeating: the space of the reserve is free now.
    [[nodiscard]] bool makes_room(error const& why, space_policy from) {
        return why.code == errc::no_space && from == space_policy::reserved && reserve_.spend();
    }

    /// A failed edit was never acted on, neither here nor by its caller. So its content is true, whether a crash keeps the edit or not. The
    /// next edit replaces both files first.
    void retry_locked() {
        shown_.reset();
        manifest_.retry();
    }
    result<void> make_durable_locked() {
        if (manifest_.failed()) retry_locked();
        return manifest_.make_durable();
    }
    result<void> commit_locked(format::edit_builder const& edit, space_policy from) {
        if (manifest_.failed()) retry_locked();
        shown_.reset();
        auto done = manifest_.commit(edit);
        if (done || !makes_room(done.error(), from)) return done;
        retry_locked();
        return manifest_.commit(edit);
    }

    /// Removes the leftovers, but not a file whose name the store has used since they were listed.
    void remove_leftovers() {
        auto const in_use = [this](std::string const& path) {
            auto const id = layout::segment_of(std::string_view{path}.substr(path.rfind('/') + 1));
            return (id && (manifest_.state().segments.contains(*id) || (made_ && made_->id == *id))) ||
                   std::ranges::any_of(used_, [&](used_file const& f) { return f.path == path; });
        };
        for (auto const& path : leftovers_)
            if (!in_use(path)) static_cast<void>(fs_.remove(path)); // on failure the next opening does it
        leftovers_.clear();
    }

    /// Retires the oldest prepared segment without using it. Its file is removed after the edit is committed, so that no crash brings back
    /// its registration.
    result<void> give_up_first_ready() {
        auto const id = ready_.front().id;
        format::edit_builder edit;
        edit.retired(id);
        KEEL_TRY(commit_locked(edit, space_policy::reserved));
        ready_.erase(ready_.begin());
        static_cast<void>(fs_.remove(paths_.segment(id))); // on failure the next opening does it
        return {};
    }
    /// Prepares a segment of the next size. If there is no space for it, prepares a smaller one, down to `least`.
    result<void> prepare_largest(std::uint64_t least, space_policy from) {
        if (is_lent_ && from == space_policy::ordinary) return lent();
        for (auto bytes = std::max(least, next_bytes_); bytes > least; bytes = std::max(least, half_of(bytes))) {
            auto done = prepare_locked(bytes, space_policy::ordinary);
            if (done || done.error().code != errc::no_space || made_) return done;
            next_bytes_ = std::max(least, half_of(bytes)); // it grows again as segments are filled
        }
        return prepare_locked(least, from);
    }
    [[nodiscard]] std::uint64_t half_of(std::uint64_t bytes) const noexcept {
        auto const smallest = smallest_segment(bytes_max_);
        return std::max(smallest, bytes / 2 / smallest * smallest);
    }
    result<void> prepare_locked(std::uint64_t bytes, space_policy from) {
        if (!made_) KEEL_TRY(make_segment(bytes, from));
        return register_made(from);
    }
    result<void> register_made(space_policy from) {
        format::edit_builder edit;
        edit.prepared(made_->id, made_->salt, made_->bytes, made_->id);
        ready_.reserve(ready_.size() + 1);
        KEEL_TRY(commit_locked(edit, from));
        ready_.push_back(*std::exchange(made_, std::nullopt));
        return {};
    }

    result<void> make_segment(std::uint64_t bytes, space_policy from) {
        auto id = manifest_.state().next_segment;
        while (static_cast<std::uint32_t>(id) == 0) ++id;
        format::segment_header header{.checksum = checksum_id{C::id}, .store = store_, .id = {id}};
        header.salt = format::salt_of(header.id, static_cast<std::uint32_t>(entropy_()));
        header.branch = branch_;
        header.created_ns = clock_ns_();
        header.size = bytes;
        header.durable_edit = manifest_.durable_edit();
        header.place = header.id;
        auto const block = format::encode<C>(header);
        auto made = make_file(bytes, block, paths_.segment(header.id));
        if (!made && makes_room(made.error(), from)) made = make_file(bytes, block, paths_.segment(header.id));
        KEEL_TRY(made);
        made_ = prepared_segment{header.id, header.salt, bytes};
        return {};
    }

    result<void> make_file(std::uint64_t bytes, format::header_block const& header, std::string const& path) {
        KEEL_TRY(manifest_.check_identity());
        std::string from = paths_.segment_temporary();
        // Held while the file gets its new life. A reader that opens the store afterwards finds only the new segment in it.
        auto const nobody_reads = double_lock<fs_type>::take(fs_, paths_.log(), paths_.readers(),
                                                             io::lock_mode::exclusive);
        while (!used_.empty() && (!nobody_reads || used_.back().size != bytes)) {
            static_cast<void>(fs_.remove(used_.back().path)); // on failure it is a leftover at the next opening
            used_.pop_back();
        }
        bool const recycled = !used_.empty();
        if (recycled) from = used_.back().path;
        else if (auto gone = fs_.remove(from); !gone && gone.error().code != errc::not_found) return gone;
        auto done = begin_life(bytes, from, path, recycled, header);
        if (recycled) used_.pop_back();
        if (!done) static_cast<void>(fs_.remove(from)); // a half-made file only takes space
        KEEL_TRY(done);
        // Without this a crash can keep the registration in the manifest and lose the file's name.
        return fs_.sync_directory(paths_.log());
    }
    /// Turns a new file, or a file for recycling, into the segment of this header, and gives it its name.
    result<void> begin_life(std::uint64_t bytes, std::string const& from, std::string const& path, bool recycled,
                            format::header_block const& header) {
        KEEL_TRY_LET(file, fs_.open(from, io::access::read_write,
                                    recycled ? io::creation::must_exist : io::creation::must_not_exist));
        if (!recycled) KEEL_TRY(fill(file, bytes));
        KEEL_TRY(file.write(0, header));
        KEEL_TRY(file.write(format::second_header_offset(bytes), header));
        KEEL_TRY(file.sync());
        KEEL_TRY(manifest_.check_identity()); // filling took a while, so check again
        return fs_.rename(from, path);
    }

    result<void> fill(typename fs_type::file& file, std::uint64_t bytes) {
        KEEL_TRY(file.allocate(bytes));
        if (!fills_) return {};
        std::array<std::byte, fill_bytes> const zeros{};
        for (std::uint64_t at = 0; at < bytes; at += fill_bytes) KEEL_TRY(file.write(at, zeros));
        return {};
    }

    mutable std::mutex m_;
    fs_type fs_;
    layout paths_;
    manifest_type manifest_;
    format::store_id store_;
    std::uint64_t branch_;
    std::uint64_t first_own_;  ///< segments with this id or a higher one were made by this opening
    std::uint64_t bytes_max_;  ///< the policy's size
    std::uint64_t next_bytes_; ///< size of the segment that is prepared next, unless a larger one is wanted
    bool fills_ = true;
    bool is_lent_ = false; ///< the reserve's space is lent to an operation that frees more
    std::uint64_t (*entropy_)();
    std::uint64_t (*clock_ns_)();
    std::vector<prepared_segment> ready_{}; ///< the oldest first
    /// Its file exists, but the edit that registers it failed. A crash may keep that edit, so the file must stay as it is.
    std::optional<prepared_segment> made_{};
    std::vector<used_file> used_{};
    std::uint64_t used_since_ns_ = 0; ///< when a file was last added to used_
    std::vector<std::string> leftovers_{};
    std::vector<segment_id> gone_{};
    mutable std::shared_ptr<format::manifest_state const> shown_{}; ///< the copy for state(); empty after an edit
    space_reserve<fs_type> reserve_;
};

} // namespace keel::inline v0::wal

#endif
