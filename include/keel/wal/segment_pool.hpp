// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_SEGMENT_POOL_HPP
#define KEEL_WAL_SEGMENT_POOL_HPP

// The life of segment files: prepare, register, activate, seal, retire, recycle; and the manifest that knows of each step.
//
// Prepare: fill or recycle, header with a new id and salt, sync, rename, sync the folder, register. Filling is zeros really written, so that
// a commit overwrites blocks the file owns; where syncs are few (write_path::mapped) only the blocks are taken, and that they hold data now
// is left to the sync that makes it durable. Only a registered segment is activated, so a registered file that is missing is damage.
// Retire: the edit is durable in both manifests before a byte of the file changes.
//
// What is kept here of files (ready, used, made) changes after the edit that it follows from is committed, and then by code that cannot
// fail: after an edit that failed, or memory that was refused, all of it is as it was.
//
// Thread rules: everything here under one mutex of its own, which is held during I/O. The writer calls it with its own mutex held;
// never the other way round.

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

/// What a call may take from a full disk.
enum class space_policy : std::uint8_t {
    ordinary, ///< what is free
    reserved, ///< the reserve too: for what frees space, and for saving records that were acknowledged
};

/// A segment ready to be activated.
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

    /// `segment_bytes`: the policy's size, to which segments grow (wal/segment_growth.hpp).
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

    /// The manifest as it is now. All who ask between two edits share one copy.
    [[nodiscard]] std::shared_ptr<format::manifest_state const> state() const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (!shown_) shown_ = std::make_shared<format::manifest_state const>(manifest_.state());
        return shown_;
    }
    /// The newest manifest edit that no crash takes back.
    [[nodiscard]] std::uint64_t durable_edit() const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return manifest_.durable_edit();
    }

    /// New segments are not filled, from here on. Before the first is prepared.
    void leave_unfilled() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        fills_ = false;
    }

    /// What adopt() tidies up, too. `leftovers`: files in the log's folder that are this store's and no part of it, to be removed. `gone`: spare
    /// segments without a file, to be given up. Before anything is written.
    void tidy_later(std::vector<std::string> leftovers, std::vector<segment_id> gone) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        leftovers_ = std::move(leftovers);
        gone_ = std::move(gone);
    }

    /// Takes over the spare segments that recovery found. Each spare segment gets a new salt before it is used, also after an orderly close:
    /// a later opening may have activated it and lost that to a power failure, and the frames that stayed would verify under the old salt.
    /// `retired`: segments that the manifest no longer has, whose files are still there. `next`: the LSN that is taken next; the manifest
    /// forgets that LSNs from there on were lost. After an error nothing has changed, and the same call may be made again.
    [[nodiscard]] result<void> adopt(std::vector<format::segment_entry> const& spares,
                                     std::vector<format::segment_entry> const& retired, lsn next) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        // Headers speak of the newest edit as durable from here on.
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
        // A loss may be recorded and its neighbours then lost to a power failure. Those LSNs are used again, so the record of the loss goes.
        if (std::ranges::any_of(manifest_.state().losses, [next](lsn_range const& r) { return r.last >= next; }))
            edit.reclaim_lsns(next);
        used_.reserve(used_.size() + reusable.size());
        if (!edit.empty()) KEEL_TRY(commit_locked(edit, space_policy::reserved));
        for (auto& file : reusable) used_.push_back(std::move(file));
        gone_.clear();
        for (auto const& e : retired)
            static_cast<void>(recycle_or_remove_locked(e, false)); // else they are left to the next opening
        remove_leftovers();
        return {};
    }

    /// Makes the state that was found durable: before anything that it no longer names is removed.
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

    /// Segments that are prepared from here on are at least so large, as far as the policy has it.
    void grow_to(std::uint64_t bytes) noexcept {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        next_bytes_ = std::max(next_bytes_, std::min(bytes, bytes_max_));
    }
    /// Makes a segment ready where none is.
    [[nodiscard]] result<void> make_ready() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return ready_.empty() ? prepare_largest(smallest_segment(bytes_max_), space_policy::ordinary) : result<void>{};
    }

    /// The registered segment that is used next, with room for what is wanted, preparing one where none is ready. It stays ready until
    /// take_first_ready().
    [[nodiscard]] result<prepared_segment> first_ready(segment_demand const& wanted, space_policy from) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (made_) KEEL_TRY(register_made(from));
        auto const bytes = wanted.segment_bytes(smallest_segment(bytes_max_), bytes_max_);
        // Segments are used in the order of their ids: one that is too small is given up before a larger one is prepared.
        while (!ready_.empty() && ready_.front().bytes < bytes) KEEL_TRY(give_up_first_ready());
        if (ready_.empty()) KEEL_TRY(prepare_largest(bytes, from));
        return ready_.front();
    }
    /// It is written to from here on, and those behind it are no smaller. By the thread that asked for it.
    void take_first_ready() noexcept {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        next_bytes_ = std::max(next_bytes_, ready_.front().bytes);
        ready_.erase(ready_.begin());
    }

    /// For an orderly end: what the manifest learns of segments that were prepared and not used.
    void add_retire_unused(format::edit_builder& edit) const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        for (auto const& p : ready_) edit.retired(p.id);
    }
    /// That is durable: removes their files, and those kept to be recycled. What is not removed is left to the next opening, as is a file
    /// whose registration failed: a crash may have kept that.
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

    /// Makes sure of the room that a full disk will not give. Errors: no_space, and the machine's; nothing is lost by them.
    [[nodiscard]] result<void> keep_reserve() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (is_lent_) return lent();
        return with_smaller_segments([&] { return reserve_.make(reserve_bytes()); });
    }
    /// The same in little time: what is taken is written by keep_reserve().
    [[nodiscard]] result<void> claim_reserve() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (is_lent_) return lent();
        return with_smaller_segments([&] { return reserve_.claim(reserve_bytes()); });
    }

    /// Nobody is writing. Where the last file was put aside a while ago, few of them are kept to be recycled.
    void rest() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        if (used_.size() <= used_when_quiet || clock_ns_() - used_since_ns_ < quiet_ns) return;
        if (manifest_.check_identity()) remove_used(used_when_quiet);
    }

    /// The reserve's room, lent to what frees more: nothing else is prepared as long as this lives. keep_reserve() makes the reserve again.
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
        /// False: there is none.
        [[nodiscard]] bool is_given() const noexcept { return is_given_; }

    private:
        segment_pool& from_;
        bool is_given_ = false;
    };

    [[nodiscard]] result<void> commit(format::edit_builder const& edit) {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return commit_locked(edit, space_policy::reserved);
    }
    /// Before anything else of the store's is renamed or removed. Errors: those of store_identity::check().
    [[nodiscard]] result<void> check_identity() const {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        return manifest_.check_identity();
    }
    /// After a failed edit: the next one writes both copies anew, as it does without this call.
    void retry() {
        KEEL_TAKES(segment_pool, this);
        std::lock_guard const hold{m_};
        retry_locked();
    }

    /// What an edit says of segments that the log gives up, all records in which are at or below `floor`.
    static void add_retire_edits(format::edit_builder& edit, std::vector<format::segment_entry> const& gone,
                                 format::segment_link const& base, lsn start) {
        for (auto const& e : gone) edit.retired(e.id);
        edit.log_base(base).log_start_lsn(start);
    }
    /// Recycles or removes the file of a segment that the manifest no longer knows; `in_use`: somebody still reads it.
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
        if (!status || !holds(path, e))
            return {}; // gone, or another segment under this name, or one that cannot be told
        // An earlier opening may have given blocks in its middle back.
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
    /// As many as a merge gives back: one that is written over again needs no new blocks, and its syncs no journal of the file system.
    static constexpr std::size_t used_max = 8;
    static constexpr std::size_t used_when_quiet = 2; ///< what the first writes after a pause want
    static constexpr std::uint64_t quiet_ns = 1'000'000'000;
    static constexpr std::uint64_t reserve_step = 16 * KiB; ///< else it would have to grow with every edit
    static constexpr std::size_t fill_bytes =
        4 * KiB; // larger writes leave large folios behind, which make small writes slow

    /// Whether the file is the segment that it is taken for. Names are hints, and no header that verifies may say otherwise: what is taken for
    /// it is written over.
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
    /// Removes files that are kept to be recycled, but for so many. Whether there was one; what is not removed is left to the next opening.
    bool remove_used(std::size_t kept) noexcept {
        bool const some = used_.size() > kept;
        for (; used_.size() > kept; used_.pop_back()) static_cast<void>(fs_.remove(used_.back().path));
        return some;
    }
    /// The next segments are no larger than what the disk has a reserve for.
    template <class Make>
    result<void> with_smaller_segments(Make const& make) {
        for (;;) {
            auto done = make();
            if (!done && done.error().code == errc::no_space && remove_used(0)) continue;
            if (done || done.error().code != errc::no_space || next_bytes_ <= smallest_segment(bytes_max_)) return done;
            next_bytes_ = half_of(next_bytes_);
        }
    }
    /// The smallest merge, of a segment and as much of the first level, or a segment to write on in; and the manifest written anew.
    [[nodiscard]] std::uint64_t reserve_bytes() const {
        auto const manifest = std::max<std::uint64_t>(4 * manifest_.snapshot_bytes(), 2 * format::manifest_bytes_min);
        return 2 * next_bytes_ + format::rounded_up(manifest, reserve_step);
    }
    /// Whether an attempt that failed so is worth repeating: there is room now that was kept for this.
    [[nodiscard]] bool makes_room(error const& why, space_policy from) {
        return why.code == errc::no_space && from == space_policy::reserved && reserve_.spend();
    }

    /// An edit that failed was never acted on, here or by who asked for it. So whether a crash keeps it or not, what it says is true; and
    /// what comes behind it replaces both files first.
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

    /// A file that stands under a name which the store has come to use since is not one of them.
    void remove_leftovers() {
        auto const in_use = [this](std::string const& path) {
            auto const id = layout::segment_of(std::string_view{path}.substr(path.rfind('/') + 1));
            return (id && (manifest_.state().segments.contains(*id) || (made_ && made_->id == *id))) ||
                   std::ranges::any_of(used_, [&](used_file const& f) { return f.path == path; });
        };
        for (auto const& path : leftovers_)
            if (!in_use(path)) static_cast<void>(fs_.remove(path)); // else it is left to the next opening
        leftovers_.clear();
    }

    /// The oldest prepared segment is not used. Its file goes once no crash brings its registration back.
    result<void> give_up_first_ready() {
        auto const id = ready_.front().id;
        format::edit_builder edit;
        edit.retired(id);
        KEEL_TRY(commit_locked(edit, space_policy::reserved));
        ready_.erase(ready_.begin());
        static_cast<void>(fs_.remove(paths_.segment(id))); // else it is left to the next opening
        return {};
    }
    /// Of the size that is the next one's turn, or, where there is no room for that, of a smaller one, down to `least`.
    result<void> prepare_largest(std::uint64_t least, space_policy from) {
        if (is_lent_ && from == space_policy::ordinary) return lent();
        for (auto bytes = std::max(least, next_bytes_); bytes > least; bytes = std::max(least, half_of(bytes))) {
            auto done = prepare_locked(bytes, space_policy::ordinary);
            if (done || done.error().code != errc::no_space || made_) return done;
            next_bytes_ = std::max(least, half_of(bytes)); // it grows again as it is filled
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
        // Held while the file gets its new life: who reads from then on knows it only as what it becomes.
        auto const nobody_reads = double_lock<fs_type>::take(fs_, paths_.log(), paths_.readers(),
                                                             io::lock_mode::exclusive);
        while (!used_.empty() && (!nobody_reads || used_.back().size != bytes)) {
            static_cast<void>(fs_.remove(used_.back().path)); // what is not removed is a leftover next time
            used_.pop_back();
        }
        bool const recycled = !used_.empty();
        if (recycled) from = used_.back().path;
        else if (auto gone = fs_.remove(from); !gone && gone.error().code != errc::not_found) return gone;
        auto done = begin_life(bytes, from, path, recycled, header);
        if (recycled) used_.pop_back();
        if (!done) static_cast<void>(fs_.remove(from)); // half made it only takes room; a leftover next time
        KEEL_TRY(done);
        // Without this a crash can keep the manifest's word of a segment and lose the file's name.
        return fs_.sync_directory(paths_.log());
    }
    /// Makes a file of zeros, or of one that is used no more, the segment of this header, under its name.
    result<void> begin_life(std::uint64_t bytes, std::string const& from, std::string const& path, bool recycled,
                            format::header_block const& header) {
        KEEL_TRY_LET(file, fs_.open(from, io::access::read_write,
                                    recycled ? io::creation::must_exist : io::creation::must_not_exist));
        if (!recycled) KEEL_TRY(fill(file, bytes));
        KEEL_TRY(file.write(0, header));
        KEEL_TRY(file.write(format::second_header_offset(bytes), header));
        KEEL_TRY(file.sync());
        KEEL_TRY(manifest_.check_identity()); // filling takes a while
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
    std::uint64_t first_own_;  ///< id: segments from there on were made by this opening
    std::uint64_t bytes_max_;  ///< of a segment: the policy's size
    std::uint64_t next_bytes_; ///< size of the segment that is prepared next, unless more is wanted
    bool fills_ = true;
    bool is_lent_ = false; ///< the reserve's room: to somebody who frees more
    std::uint64_t (*entropy_)();
    std::uint64_t (*clock_ns_)();
    std::vector<prepared_segment> ready_{}; ///< one or two, the oldest first
    /// Its file is there, the edit that registers it failed. A crash may keep that edit nonetheless: the file stays what it says.
    std::optional<prepared_segment> made_{};
    std::vector<used_file> used_{};
    std::uint64_t used_since_ns_ = 0; ///< when one was added last
    std::vector<std::string> leftovers_{};
    std::vector<segment_id> gone_{};
    mutable std::shared_ptr<format::manifest_state const> shown_{}; ///< made anew when it is asked for behind an edit
    space_reserve<fs_type> reserve_;
};

} // namespace keel::inline v0::wal

#endif
