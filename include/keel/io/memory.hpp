// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_MEMORY_HPP
#define KEEL_IO_MEMORY_HPP

// memory: a simulated disk in memory. It is a model of the file-system axis (io/concept.hpp) that knows what a crash would keep.
//
// A `memory` is a handle; copies mean the same disk. A new disk has only its root; "", "." and "/" name the root. Paths with and without a
// leading slash are the same. There are no symbolic links. The device number is 1 for every disk unless another one is given. A handle from
// bind_folder() holds the folder, even if another handle of the disk renames it.
//
//  crash          after_process_crash() and after_power_loss() return new disks and do not change this one. A power loss keeps, of
//                 each unsynced 512-byte sector, any version that it had since the last sync. That includes stores into mappings; a
//                 long store also leaves a half-made version. The same holds for each unsynced size. Of the unsynced changes of
//                 names any subset survives. detail/memory_content.hpp and detail/memory_names.hpp state the rules.
//  failed sync    fail_sync() on a file or mapping does what Linux does: nothing is written, and the pages look clean.
//                 evict() lets them be read from the medium again.
//  crash points   on_operation(f) calls f after every change, and half-way through changes that can be divided. f may clone the
//                 disk, stop it, or use it. With several threads each of them calls f, perhaps at the same time.
//  damage         corrupt, cut, replace and fail_reads change the medium without going through the file system.
//
// Thread-safe: one mutex per disk covers every call, those of files, mappings and locks included. It is not held while a hook runs. Cloning
// shares all bytes until one side changes them. A disk that is only used as an in-memory store needs no older versions:
// set_versions_max(1).

#include <keel/io/concept.hpp>
#include <keel/io/detail/memory_bound.hpp>
#include <keel/io/detail/memory_disk.hpp>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::io {

/// A handle of a simulated disk in memory; see the head of this file.
class memory {
    /// Keeps an inode alive, with or without a name, as long as the object lives.
    class handle {
    public:
        handle(std::shared_ptr<detail::memory_disk> disk, std::uint64_t node, access how, std::string path)
            : disk_{std::move(disk)}, inode_{node}, access_{how}, path_{std::move(path)} {}
        handle(handle&&) noexcept = default;
        handle& operator=(handle&& other) noexcept {
            if (this == &other) return *this;
            close();
            disk_ = std::move(other.disk_);
            inode_ = other.inode_;
            access_ = other.access_;
            path_ = std::move(other.path_);
            return *this;
        }
        ~handle() { close(); }

        [[nodiscard]] detail::memory_disk& disk() const noexcept { return *disk_; }
        [[nodiscard]] std::uint64_t inode() const noexcept { return inode_; }
        [[nodiscard]] std::string const& path() const noexcept { return path_; }
        [[nodiscard]] handle again(access how) const {
            disk_->hold(inode_);
            return {disk_, inode_, how, path_};
        }
        [[nodiscard]] result<void> may(access how) const {
            if (how == access::read_only || access_ == access::read_write) return {};
            return failure(errc::no_permission, "opened to be read only", path_);
        }

    private:
        void close() noexcept {
            if (disk_) disk_->release(inode_);
            disk_.reset();
        }
        std::shared_ptr<detail::memory_disk> disk_;
        std::uint64_t inode_;
        access access_;
        std::string path_;
    };

public:
    /// A mapping of a file on the disk.
    class mapping {
    public:
        /// A call that io/concept.hpp describes.
        /// @{
        [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
        [[nodiscard]] std::string const& path() const noexcept { return of_.path(); }

        [[nodiscard]] result<void> store(std::uint64_t offset, byte_view bytes) {
            KEEL_TRY(changes(offset, bytes.size()));
            return of_.disk().store(of_.inode(), path(), offset, bytes, operation_kind::store);
        }
        [[nodiscard]] result<void> publish(std::uint64_t offset, std::uint32_t word) {
            KEEL_TRY(changes(offset, sizeof word));
            if (offset % sizeof word != 0)
                return failure(errc::invalid_argument, "a word is published at a multiple of 4", path(), offset);
            auto const bytes = std::as_bytes(std::span{&word, 1});
            return of_.disk().store(of_.inode(), path(), offset, bytes, operation_kind::publish);
        }
        [[nodiscard]] result<void> copy_out(std::uint64_t offset, byte_span out) const {
            KEEL_TRY(inside(offset, out.size()));
            return of_.disk().each_piece(of_.inode(), path(), offset, out.size(),
                                         [to = out.data()](byte_view piece) mutable {
                                             std::memcpy(to, piece.data(), piece.size());
                                             to += piece.size();
                                         });
        }
        /// `sum` must not use this disk: its mutex is held.
        template <class Checksum>
        [[nodiscard]] result<void> verify(std::uint64_t offset, std::uint64_t length, Checksum& sum) const {
            KEEL_TRY(inside(offset, length));
            return of_.disk().each_piece(of_.inode(), path(), offset, length,
                                         [&sum](byte_view piece) { sum.update(piece); });
        }
        /// A call that io/concept.hpp describes.
        [[nodiscard]] result<void> sync() { return of_.disk().sync(of_.inode(), path(), operation_kind::mapping_sync); }
        /// What a failed sync does on Linux: nothing is written, the pages look clean.
        void fail_sync() { of_.disk().fail_sync(of_.inode()); }

    private:
        friend class memory;
        mapping(handle of, std::uint64_t bytes) : of_{std::move(of)}, size_{bytes} {}

        [[nodiscard]] result<void> inside(std::uint64_t offset, std::uint64_t length) const {
            if (offset <= size_ && length <= size_ - offset) return {};
            return failure(errc::invalid_argument, "outside of the mapping", path(), offset);
        }
        [[nodiscard]] result<void> changes(std::uint64_t offset, std::uint64_t length) const {
            KEEL_TRY(of_.may(access::read_write));
            return inside(offset, length);
        }
        handle of_;
        std::uint64_t size_;
    };

    /// An open file of the disk.
    class file {
    public:
        /// A call that io/concept.hpp describes.
        /// @{
        [[nodiscard]] std::string const& path() const noexcept { return of_.path(); }

        [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
            return of_.disk().read(of_.inode(), path(), offset, out);
        }
        [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
            return read(offset, out);
        }
        [[nodiscard]] result<void> write(std::uint64_t offset, byte_view bytes) {
            KEEL_TRY(of_.may(access::read_write));
            return of_.disk().write(of_.inode(), path(), offset, bytes);
        }
        [[nodiscard]] result<void> sync() { return of_.disk().sync(of_.inode(), path(), operation_kind::sync); }
        /// @}
        /// What a failed sync does on Linux: nothing is written, the pages look clean.
        void fail_sync() { of_.disk().fail_sync(of_.inode()); }
        /// A call that io/concept.hpp describes.
        /// @{
        [[nodiscard]] result<void> allocate(std::uint64_t bytes) {
            KEEL_TRY(of_.may(access::read_write));
            return of_.disk().allocate(of_.inode(), path(), bytes);
        }
        void punch_hole(std::uint64_t offset, std::uint64_t bytes) {
            if (of_.may(access::read_write)) of_.disk().punch_hole(of_.inode(), path(), offset, bytes);
        }
        [[nodiscard]] result<file_status> status() const { return of_.disk().status(of_.inode(), path()); }
        [[nodiscard]] result<mapping> map(access how) const {
            KEEL_TRY(of_.may(how));
            KEEL_TRY_LET(now, status());
            return mapping{of_.again(how), now.size};
        }
        /// @}

    private:
        friend class memory;
        explicit file(handle of) : of_{std::move(of)} {}
        handle of_;
    };

    /// A lock on a file or a folder of the disk; released by the destructor.
    class lock_type {
    public:
        /// Takes the lock of another object.
        lock_type(lock_type&&) noexcept = default;
        /// Releases this lock and takes that of the other object.
        lock_type& operator=(lock_type&& other) noexcept {
            if (this == &other) return *this;
            unlock();
            disk_ = std::move(other.disk_);
            inode_ = other.inode_;
            mode_ = other.mode_;
            return *this;
        }
        /// Releases the lock.
        ~lock_type() { unlock(); }

    private:
        friend class memory;
        lock_type(std::shared_ptr<detail::memory_disk> disk, std::uint64_t inode, lock_mode mode)
            : disk_{std::move(disk)}, inode_{inode}, mode_{mode} {}
        void unlock() noexcept {
            if (disk_) disk_->unlock(inode_, mode_);
            disk_.reset();
        }
        std::shared_ptr<detail::memory_disk> disk_;
        std::uint64_t inode_;
        lock_mode mode_;
    };

    /// A new, empty disk. All new disks have the same boot id and device number, so that runs repeat byte for byte. Give others if two
    /// disks must differ in these.
    memory() : memory{detail::boot_after({}, 0)} {}
    /// A new, empty disk with this boot id and device number.
    explicit memory(boot_id boot, std::uint64_t device = 1)
        : memory{detail::memory_image{.names = {}, .boot = boot, .device = device}} {}

    // The file system (io/concept.hpp)

    /// A call that io/concept.hpp describes.
    /// @{
    [[nodiscard]] result<file> open(std::string const& path, access how, creation make) {
        KEEL_TRY_LET(place, place_of(path));
        KEEL_TRY_LET(inode, disk_->open(place, make));
        return file{handle{disk_, inode, how, path}};
    }
    [[nodiscard]] result<lock_type> lock(std::string const& path, lock_mode mode) {
        KEEL_TRY_LET(place, place_of(path));
        KEEL_TRY_LET(inode, disk_->lock(place, mode));
        return lock_type{disk_, inode, mode};
    }
    [[nodiscard]] result<lock_type> lock_folder(std::string const& path, lock_mode mode) {
        KEEL_TRY_LET(place, folder_place_of(path));
        KEEL_TRY_LET(inode, disk_->lock_folder(place, mode));
        return lock_type{disk_, inode, mode};
    }
    [[nodiscard]] result<std::vector<directory_entry>> list(std::string const& path) const {
        KEEL_TRY_LET(place, folder_place_of(path));
        return disk_->list(place);
    }
    [[nodiscard]] result<file_status> status(std::string const& path) const {
        KEEL_TRY_LET(place, place_of(path));
        return disk_->status(place);
    }
    [[nodiscard]] result<void> make_directory(std::string const& path) {
        KEEL_TRY_LET(place, place_of(path));
        KEEL_TRY(disk_->make_directory(place));
        forget(path);
        return {};
    }
    [[nodiscard]] result<void> rename(std::string const& from, std::string const& to) {
        KEEL_TRY_LET(old_place, place_of(from));
        KEEL_TRY_LET(new_place, place_of(to));
        KEEL_TRY(disk_->rename(old_place, new_place));
        forget(from);
        forget(to);
        return {};
    }
    [[nodiscard]] result<void> remove(std::string const& path) {
        KEEL_TRY_LET(place, place_of(path));
        KEEL_TRY(disk_->remove(place));
        forget(path);
        return {};
    }
    [[nodiscard]] result<void> sync_directory(std::string const& path) {
        KEEL_TRY_LET(place, folder_place_of(path, true));
        return disk_->sync_directory(place);
    }
    [[nodiscard]] result<memory> bind_folder(std::string const& path) const {
        KEEL_TRY_LET(place, folder_place_of(path));
        KEEL_TRY_LET(inode, disk_->open_folder(place));
        auto bound = *this;
        bound.bound_ = std::make_shared<detail::memory_bound>(disk_, inode, path);
        return bound;
    }
    [[nodiscard]] boot_id boot() const {
        return disk_->with_image([](auto& image) { return image.boot; });
    }
    /// @}

    // Crashes

    /// The process died and the machine went on. All bytes and names are here, synced or not, with the same boot id and the same
    /// identities. There are no locks, handles or hook, and operations() starts at 0. Files without a name are gone.
    [[nodiscard]] memory after_process_crash() const { return memory{disk_->image()}; }

    /// The power failed. `choice` decides what is left of the unsynced changes; all of that is durable now. The boot id is new, the
    /// identities are the same.
    [[nodiscard]] memory after_power_loss(power_loss choice) const {
        auto image = disk_->image();
        image.boot = detail::boot_after(image.boot, choice.seed * 3 + static_cast<std::uint64_t>(choice.what));
        detail::survivor_choice survivors{choice};
        image.names.lose_power(survivors);
        for (auto& node : image.names.nodes()) {
            if (!node.content || !node.content->has_past()) continue;
            survivors.next_file();
            node.content.edit().lose_power(survivors);
        }
        return memory{std::move(image)};
    }

    /// Drops pages whose sync failed from the cache, as a machine may do at any time. A random subset of their sectors then has the content
    /// of the medium, which is one of the older versions.
    void evict(std::uint64_t seed) {
        disk_->with_image([seed](auto& image) {
            detail::seeded random{seed};
            for (auto& node : image.names.nodes())
                if (node.content && node.content->has_past()) node.content.edit().evict(random);
        });
    }

    /// Calls f from now on after each change, and half-way through each change that can be divided. An empty f ends this.
    void on_operation(std::function<void(operation const&)> f) { disk_->set_hook(std::move(f)); }

    /// Number of changes begun on this disk: writes, stores, publishes, syncs, allocations, holes, creations, renames, removals.
    [[nodiscard]] std::uint64_t operations() const { return disk_->operations(); }

    /// Every later call of the file system fails with errc::crashed. The calls of the simulation (crashes, files() and the like) still
    /// work.
    void stop() { disk_->stop(); }

    // Settings

    /// From now on boot() gives this id.
    void set_boot(boot_id boot) {
        disk_->with_image([&](auto& image) { image.boot = boot; });
    }
    /// Limits the bytes of the 4 KiB blocks that files own. Blocks that files own already stay.
    void set_capacity(std::uint64_t bytes) {
        disk_->with_image([&](auto& image) { image.capacity = bytes; });
    }
    /// Bytes of the blocks that files own. A block counts from when it is written or allocated until it is given back, while its file has a
    /// name or a handle.
    [[nodiscard]] std::uint64_t used() const { return disk_->used(); }
    /// How many versions of a sector are remembered (64): always the oldest and the newest, and some between. With 1 nothing is remembered,
    /// so a power loss keeps all bytes. That fits a disk that never loses power. It applies to later writes.
    void set_versions_max(std::size_t versions) {
        disk_->with_image([&](auto& image) { image.versions_max = std::max<std::size_t>(versions, 1); });
    }

    // Changes of the medium itself: by path, without handles, and not counted by operations()

    /// The paths of all files, sorted, without a leading slash.
    [[nodiscard]] std::vector<std::string> files() const {
        std::vector<std::string> paths;
        disk_->with_image([&](auto& image) {
            image.names.each_file([&](std::string const& path, detail::memory_node const&) { paths.push_back(path); });
        });
        std::sort(paths.begin(), paths.end());
        return paths;
    }

    /// All bytes of a file, including unreadable sectors.
    [[nodiscard]] result<std::vector<std::byte>> contents(std::string const& path) const {
        std::vector<std::byte> bytes;
        KEEL_TRY(with_file(path, [&](detail::memory_node& node) {
            bytes.resize(static_cast<std::size_t>(node.content->size()));
            node.content->copy_out(0, bytes);
        }));
        return bytes;
    }

    /// Makes these bytes the durable content of the file. Creates the file, durably, if it is missing.
    [[nodiscard]] result<void> replace(std::string const& path, byte_view bytes) {
        return disk_->with_image([&](auto& image) -> result<void> {
            KEEL_TRY_LET(place, image.names.resolve(path));
            if (image.names.is_folder(place.inode)) return failure(errc::not_regular, "a folder stands here", path);
            auto& node = place.inode == 0 ? image.names.create_durably(place) : image.names.at(place.inode);
            node.content.edit().replace(bytes);
            return {};
        });
    }

    /// Damages the medium: these bytes are at `offset` in every version of the sectors there.
    [[nodiscard]] result<void> corrupt(std::string const& path, std::uint64_t offset, byte_view bytes) {
        return damage(path, offset, bytes.size(),
                      [bytes](std::byte& b, std::uint64_t i) { b = bytes[static_cast<std::size_t>(i)]; });
    }
    /// The same for one byte: the bits of `flipped_bits` are inverted.
    [[nodiscard]] result<void> corrupt(std::string const& path, std::uint64_t offset, std::byte flipped_bits) {
        return damage(path, offset, 1, [flipped_bits](std::byte& b, std::uint64_t) { b ^= flipped_bits; });
    }

    /// Sets the durable size of the file. The file is cut, or grows by zeros.
    [[nodiscard]] result<void> cut(std::string const& path, std::uint64_t size) {
        if (size > detail::memory_file_bytes_max)
            return failure(errc::invalid_argument, "longer than a file may be", path);
        return with_file(path, [size](detail::memory_node& node) { node.content.edit().cut(size); });
    }

    /// Makes reads of all sectors in this range fail with io_error, until a write covers the sector. A write of a part of such a sector
    /// fails too.
    [[nodiscard]] result<void> fail_reads(std::string const& path, std::uint64_t offset, std::uint64_t length) {
        return with_file(path, [=](detail::memory_node& node) { node.content.edit().mark_unreadable(offset, length); });
    }

    /// Whether both disks have the same files with the same bytes. Only files whose path wanted(path) accepts are compared.
    template <class F>
    [[nodiscard]] bool equal(memory const& other, F wanted) const {
        auto const mine = disk_->image(), theirs = other.disk_->image();
        std::vector<std::pair<std::string, detail::memory_node const*>> a, b;
        auto const into = [&wanted](auto& list) {
            return [&](std::string const& path, detail::memory_node const& node) {
                if (wanted(std::string_view{path})) list.emplace_back(path, &node);
            };
        };
        mine.names.each_file(into(a));
        theirs.names.each_file(into(b));
        return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](auto const& x, auto const& y) {
            return x.first == y.first && x.second->content->same_bytes(*y.second->content);
        });
    }
    /// Whether both disks have the same files with the same bytes.
    [[nodiscard]] bool equal(memory const& other) const {
        return equal(other, [](std::string_view) { return true; });
    }

private:
    [[nodiscard]] result<detail::memory_path> place_of(std::string const& path) const {
        if (bound_)
            if (auto place = bound_->place_of(path)) return *std::move(place);
        return detail::memory_path{path};
    }
    [[nodiscard]] result<detail::memory_path> folder_place_of(std::string const& path, bool above = false) const {
        if (bound_)
            if (auto place = bound_->folder_place_of(path, above)) return *std::move(place);
        return detail::memory_path{path};
    }
    void forget(std::string const& path) const noexcept {
        if (bound_) bound_->forget(path);
    }

    explicit memory(detail::memory_image image) : disk_{std::make_shared<detail::memory_disk>(std::move(image))} {}

    template <class F>
    [[nodiscard]] result<void> with_file(std::string const& path, F&& f) const {
        return disk_->with_image([&](auto& image) -> result<void> {
            KEEL_TRY_LET(place, image.names.resolve(path));
            if (place.inode == 0) return failure(errc::not_found, "no such file", path);
            if (image.names.is_folder(place.inode)) return failure(errc::not_regular, "a folder stands here", path);
            f(image.names.at(place.inode));
            return {};
        });
    }

    template <class F>
    [[nodiscard]] result<void> damage(std::string const& path, std::uint64_t offset, std::uint64_t length, F change) {
        bool inside = false;
        KEEL_TRY(with_file(path, [&](detail::memory_node& node) {
            inside = offset <= node.content->size() && length <= node.content->size() - offset;
            if (inside) node.content.edit().damage(offset, length, change);
        }));
        if (!inside) return failure(errc::invalid_argument, "outside of the file", path, offset);
        return {};
    }

    std::shared_ptr<detail::memory_disk> disk_;
    std::shared_ptr<detail::memory_bound> bound_{}; ///< null: paths begin at the root
};

} // namespace keel::inline v0::io

#endif
