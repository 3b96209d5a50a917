// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_LAZY_FILE_HPP
#define KEEL_TABLE_LAZY_FILE_HPP

// A file that is read now and then. It is opened at the first read, and mapped after several reads. It is closed when another file needs
// its descriptor (table/open_files.hpp). The next read that needs it opens it again.
//
// A file that is opened again by its name is the same file. Tables and segments do not change once they are read from. Their names are
// looked up in the folder that the store holds open. No file is removed, renamed or recycled while this object exists
// (compactor::recycle_or_remove() counts the holders). A process that reads beside a writer cannot rely on this, because the writer does
// not count its holders. Such a process keeps all files open instead. If another file is put under the name, none of its bytes verifies:
// every check begins with the salt of the table or segment and the offset.
//
// Thread rules: any number of threads. The entry's mutex guards opening and mapping. It is held during that I/O, by readers only. A read
// through the descriptor locks it for a moment, a read through the mapping does not. map_ publishes the mapping: it is stored with release
// and loaded with acquire.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/table/open_files.hpp>
#include <keel/types.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace keel::inline v0::table {

template <io::file_system Fs>
class lazy_file {
public:
    using file_type = typename Fs::file;
    using shared_file = std::shared_ptr<file_type>;

    lazy_file(Fs fs, std::string path, std::shared_ptr<open_file_list> open_files)
        : fs_{std::move(fs)}, path_{std::move(path)}, open_files_{std::move(open_files)} {}
    lazy_file(lazy_file const&) = delete;
    lazy_file& operator=(lazy_file const&) = delete;
    ~lazy_file() {
        open_files_->forget(entry_);
        if (mapping_) open_files_->give_mapping(mapping_bytes_);
    }

    [[nodiscard]] std::string const& path() const noexcept { return path_; }
    /// Whether a file with this name exists. Errors: not_found.
    [[nodiscard]] result<void> named() const {
        auto fs = fs_;
        KEEL_TRY(fs.status(path_));
        return {};
    }

    /// Keeps the file open as long as this object lives. So none of the calls below fails for want of a descriptor. Destroy it before the
    /// lazy_file.
    class lease {
    public:
        lease(lazy_file const& of, shared_file open) noexcept : of_{&of}, open_{std::move(open)} {}
        lease(lease&& other) noexcept : of_{std::exchange(other.of_, nullptr)}, open_{std::move(other.open_)} {}
        lease& operator=(lease&& other) noexcept {
            std::swap(of_, other.of_);
            open_.swap(other.open_);
            return *this;
        }
        ~lease() {
            if (of_ == nullptr) return;
            std::lock_guard const hold{of_->entry_.m};
            --of_->entry_.keepers;
        }
        [[nodiscard]] file_type const& operator*() const noexcept { return *open_; }

    private:
        lazy_file const* of_;
        shared_file open_;
    };
    /// Opens the file if it is closed. Errors: no_descriptor, and those of opening.
    [[nodiscard]] result<lease> keep_open() const {
        std::lock_guard const hold{entry_.m};
        KEEL_TRY_LET(open, open_alone());
        ++entry_.keepers;
        return lease{*this, std::move(open)};
    }
    /// Opens the file and never closes it again. Needed where another process, which does not know of this reader, may remove the name.
    /// Errors: as of keep_open().
    [[nodiscard]] result<void> keep_open_for_good() const {
        std::lock_guard const hold{entry_.m};
        KEEL_TRY(open_alone());
        entry_.keepers += std::exchange(is_kept_, true) ? 0U : 1U;
        return {};
    }

    /// Fills all of `out`; false: it could not. The first reads go through the descriptor, because a mapping and its page faults cost as
    /// much as several reads. Later reads use the mapping. A file that was closed before is mapped as soon as it is opened again, so that
    /// it is not opened a third time.
    [[nodiscard]] bool fetch(std::uint64_t offset, byte_span out) const {
        auto const* map = map_.load(std::memory_order_acquire);
        if (map == nullptr && reads_.fetch_add(1, std::memory_order_relaxed) >= cold_reads()) map = ready_map();
        return map != nullptr ? map->copy_out(offset, out).has_value() : fetch_from_file(offset, out);
    }
    /// The same, but the file is mapped at the first read.
    [[nodiscard]] bool fetch_mapped(std::uint64_t offset, byte_span out) const {
        auto const* map = map_.load(std::memory_order_acquire);
        if (map == nullptr && reads_.fetch_add(1, std::memory_order_relaxed) >= 0) map = ready_map();
        return map != nullptr ? map->copy_out(offset, out).has_value() : fetch_from_file(offset, out);
    }
    /// Prefetches the bytes that fetch() will copy, if the file is mapped already. Otherwise does nothing.
    void prefetch(std::uint64_t offset, std::size_t bytes) const noexcept {
        if constexpr (requires(typename Fs::mapping const& m) { m.prefetch(offset, bytes); })
            if (auto const* map = map_.load(std::memory_order_acquire); map != nullptr) map->prefetch(offset, bytes);
    }
    /// Reads past the page cache. Bytes behind the end of the file are zeros. Errors: no_descriptor, those of opening and of the read.
    [[nodiscard]] result<void> fetch_uncached(std::uint64_t offset, byte_span out) const {
        KEEL_TRY_LET(file, open());
        KEEL_TRY_LET(got, file->read_uncached(offset, out));
        for (auto& b : out.subspan(got)) b = std::byte{0};
        return {};
    }

private:
    static constexpr std::int64_t cold_reads_max = 16;
    static constexpr std::int64_t reads_until_retry = 4096; ///< reads before a refused mapping is tried again

    /// How many reads go without a mapping.
    [[nodiscard]] std::int64_t cold_reads() const noexcept {
        return entry_.was_closed.load(std::memory_order_relaxed) ? 0 : cold_reads_max;
    }
    [[nodiscard]] result<shared_file> open() const {
        std::lock_guard const hold{entry_.m};
        return open_alone();
    }
    /// Called with the entry's mutex held.
    [[nodiscard]] result<shared_file> open_alone() const {
        entry_.is_used.store(true, std::memory_order_relaxed);
        if (entry_.file) return std::static_pointer_cast<file_type>(entry_.file);
        open_files_->make_room();
        auto fs = fs_;
        auto const ask = [&] { return fs.open(path_, io::access::read_only, io::creation::must_exist); };
        auto opened = ask();
        while (!opened && opened.error().code == errc::no_descriptor && open_files_->close_one()) opened = ask();
        if (!opened) return failure(std::move(opened).error());
        auto file = std::make_shared<file_type>(std::move(*opened));
        open_files_->add(entry_);
        entry_.file = file;
        return file;
    }
    [[nodiscard]] bool fetch_from_file(std::uint64_t offset, byte_span out) const {
        auto const file = open();
        auto const got = file ? (*file)->read(offset, out) : result<std::size_t>{std::size_t{0}};
        return file && got && *got == out.size();
    }

    /// Returns the mapping, or nullptr if the file cannot be mapped. Then many reads use the descriptor before mapping is tried again.
    [[nodiscard]] typename Fs::mapping const* ready_map() const {
        std::lock_guard const hold{entry_.m};
        if (!mapping_) make_mapping();
        if (!mapping_) {
            reads_.store(-reads_until_retry, std::memory_order_relaxed);
            return nullptr;
        }
        return &*mapping_;
    }
    /// Called with the entry's mutex held.
    void make_mapping() const {
        auto const file = open_alone();
        auto const status = file ? (*file)->status() : result<io::file_status>{io::file_status{}};
        if (!file || !status || !open_files_->take_mapping(status->size)) return;
        auto made = (*file)->map(io::access::read_only);
        if (!made) return open_files_->give_mapping(status->size);
        mapping_.emplace(std::move(*made));
        mapping_bytes_ = status->size;
        map_.store(&*mapping_, std::memory_order_release);
        entry_.is_used.store(false, std::memory_order_relaxed); // from now on reads need no descriptor
    }

    Fs fs_;
    std::string path_;
    std::shared_ptr<open_file_list> open_files_;
    mutable open_file_list::entry entry_{};
    mutable bool is_kept_ = false;               ///< the file stays open for good; guarded by the entry's mutex
    mutable std::atomic<std::int64_t> reads_{0}; // reads without a mapping; relaxed: a hint
    mutable std::optional<typename Fs::mapping> mapping_{};
    mutable std::uint64_t mapping_bytes_ = 0; ///< as counted against the bound on mapped bytes
    mutable std::atomic<typename Fs::mapping const*> map_{nullptr};
};

} // namespace keel::inline v0::table

#endif
