// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_MAPPING_HPP
#define KEEL_IO_DETAIL_POSIX_MAPPING_HPP

// A mapped file, through Boost.Interprocess. The region is made from the open descriptor, never from the name. So the mapped file is the
// file that was opened, and a failed sync of either is seen by both. Bytes are touched only under posix_guard.hpp, so bytes that the
// machine cannot give are an error with file and offset. The caller is responsible for memory order, except in publish(), which stores with
// release. A writable mapping keeps a descriptor of its file. It tells why a store failed: no space, or a file that was cut short.

#include <keel/detail/prefetch.hpp>
#include <keel/io/detail/posix_descriptor.hpp>
#include <keel/io/detail/posix_guard.hpp>
#include <keel/policy/checksum/concept.hpp>

#include <boost/interprocess/exceptions.hpp>
#include <boost/interprocess/mapped_region.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include <sys/mman.h>
#include <sys/statvfs.h>

namespace keel::inline v0::io::detail {

/// Lends a descriptor to Boost's mapped_region, which calls this function to get it.
struct lent_descriptor {
    int number;
    [[nodiscard]] boost::interprocess::mapping_handle_t get_mapping_handle() const noexcept {
        return boost::interprocess::ipcdetail::mapping_handle_from_file_handle(number);
    }
};

// ThreadSanitizer holds a lock of its own during a store with release. A fault must not happen there. So touch the word before the store.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool thread_sanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool thread_sanitizer = true;
#else
inline constexpr bool thread_sanitizer = false;
#endif
#else
inline constexpr bool thread_sanitizer = false;
#endif

class posix_mapping {
public:
    [[nodiscard]] static result<posix_mapping> make(descriptor const& file, std::string const& path, access how) {
        KEEL_TRY_LET(status, status_of(file, path));
        if (status.size > std::numeric_limits<std::size_t>::max() / 2)
            return failure(errc::too_large, "the file is longer than this machine's address space", path);
        if (status.size == 0) return posix_mapping{{}, {}, path, how};
        // If no descriptor is free, a full disk is reported as a failed device.
        descriptor again{how == access::read_write ? ::fcntl(file.get(), F_DUPFD_CLOEXEC, 3) : -1};
        namespace interprocess = boost::interprocess;
        auto const mode = how == access::read_only ? interprocess::read_only : interprocess::read_write;
        try {
            auto const bytes = static_cast<std::size_t>(status.size);
            return posix_mapping{interprocess::mapped_region{lent_descriptor{file.get()}, mode, 0, bytes},
                                 std::move(again), path, how};
        } catch (interprocess::interprocess_exception const& refused) {
            auto const cause = refused.get_native_error();
            return os_failure(cause != 0 ? cause : EIO, bytes_text("cannot map", status.size), path);
        }
    }

    [[nodiscard]] std::uint64_t size() const noexcept { return region_.get_size(); }
    [[nodiscard]] std::string const& path() const noexcept { return path_; }

    [[nodiscard]] result<void> store(std::uint64_t offset, byte_view in) {
        if (!writable_ || !inside(offset, in.size())) return refusal(offset, in.size());
        auto* const to = base() + offset;
        if (auto const fault = touch_guarded(region(), [=] { copy(to, in.data(), in.size()); }))
            return store_lost(fault, offset);
        return {};
    }

    [[nodiscard]] result<void> publish(std::uint64_t offset, std::uint32_t word) {
        if (!writable_ || !inside(offset, sizeof word) || offset % sizeof word != 0)
            return refusal(offset, sizeof word);
        auto* const to = reinterpret_cast<std::uint32_t*>(base() + offset);
        auto const fault = touch_guarded(region(), [=] {
            if constexpr (thread_sanitizer) static_cast<void>(std::atomic_ref{*to}.load(std::memory_order_relaxed));
            std::atomic_ref{*to}.store(word, std::memory_order_release);
        });
        if (fault != 0) return store_lost(fault, offset);
        return {};
    }

    [[nodiscard]] result<void> copy_out(std::uint64_t offset, byte_span out) const {
        if (!inside(offset, out.size())) return refusal(offset, out.size());
        auto const* const from = base() + offset;
        if (auto const fault = touch_guarded(region(), [=] { copy(out.data(), from, out.size()); }))
            return lost(fault, offset, "read");
        return {};
    }

    /// Never faults: the processor ignores a prefetch of a page that is not there.
    void prefetch(std::uint64_t offset, std::size_t bytes) const noexcept {
        if (inside(offset, bytes)) keel::detail::prefetch(base() + offset, bytes);
    }

    /// After an error the state of `sum` is unspecified. update() must own nothing while it reads: see posix_guard.hpp.
    template <checksum_policy C>
    [[nodiscard]] result<void> verify(std::uint64_t offset, std::uint64_t length, C& sum) const {
        if (!inside(offset, length)) return refusal(offset, length);
        byte_view const bytes{base() + offset, static_cast<std::size_t>(length)};
        auto* const feed = &sum;
        if (auto const fault = touch_guarded(region(), [=] { feed->update(bytes); }))
            return lost(fault, offset, "read");
        return {};
    }

    /// Removes whole pages from the process's page table. The next touch finds them in the page cache. When the kernel writes back a page
    /// that is still mapped, it first takes the page from the other processors, with an interrupt for each page. Removing all pages at once
    /// needs only a few interrupts.
    void release_pages(std::uint64_t offset, std::uint64_t bytes) const noexcept {
        // Where pages are larger, madvise refuses a range that is not whole pages.
        constexpr std::uint64_t page = 4 * KiB;
        auto const begin = (offset + page - 1) / page * page;
        auto const end = std::min(offset + bytes, size()) / page * page;
        if (begin < end) static_cast<void>(::madvise(base() + begin, end - begin, MADV_DONTNEED));
    }

    /// msync(2) over the whole region. On Linux that is fdatasync(2) of the mapped file.
    [[nodiscard]] result<void> sync() {
        if (region_.get_size() == 0) return {};
        release_pages(0, size());
        if (uninterrupted([&] { return region_.flush(0, 0, false) ? 0 : -1; }) == 0) return {};
        auto const cause = errno;
        return os_failure(cause, "cannot sync the mapped file", path_);
    }

private:
    posix_mapping(boost::interprocess::mapped_region&& region, descriptor file, std::string const& path, access how)
        : region_{std::move(region)}, file_{std::move(file)}, writable_{how == access::read_write}, path_{path} {}

    [[nodiscard]] std::byte* base() const noexcept { return static_cast<std::byte*>(region_.get_address()); }

    [[nodiscard]] guarded_region region() const noexcept {
        auto const begin = reinterpret_cast<std::uintptr_t>(region_.get_address());
        return {begin, begin + region_.get_size()};
    }

    [[nodiscard]] bool inside(std::uint64_t offset, std::uint64_t length) const noexcept {
        return offset <= size() && length <= size() - offset;
    }

    static void copy(std::byte* to, std::byte const* from, std::size_t bytes) noexcept {
        if (bytes != 0) std::memcpy(to, from, bytes);
    }

    [[nodiscard]] tl::unexpected<error> refusal(std::uint64_t offset, std::uint64_t length) const {
        if (!inside(offset, length))
            return failure(errc::invalid_argument,
                           bytes_text("the mapping ends before these", length) + " do; it has " +
                               std::to_string(size()),
                           path_, offset);
        if (!writable_)
            return failure(errc::no_permission, "the file was mapped to be read only. Map it for reading and writing.",
                           path_, offset);
        return failure(errc::invalid_argument, "a published word lies at a multiple of 4", path_, offset);
    }

    /// The offset of a fault. The system gives an address in the page that failed, which may be in front of the requested bytes.
    [[nodiscard]] std::uint64_t offset_of(std::uintptr_t fault) const noexcept {
        return static_cast<std::uint64_t>(fault - reinterpret_cast<std::uintptr_t>(base()));
    }
    /// Tells why a store failed. A store needs space if its page has no block yet, or if the block must not be overwritten in place.
    [[nodiscard]] tl::unexpected<error> store_lost(std::uintptr_t fault, std::uint64_t offset) const {
        struct statvfs disk {};
        auto const status = file_ ? status_of(file_, path_) : result<file_status>{};
        bool const full = file_ && status && offset_of(fault) < status->size && ::fstatvfs(file_.get(), &disk) == 0 &&
                          disk.f_bavail * std::uint64_t{disk.f_frsize} < full_below_bytes;
        if (full) return os_failure(ENOSPC, "cannot store mapped bytes", path_, std::max(offset_of(fault), offset));
        return lost(fault, offset, "store");
    }
    [[nodiscard]] tl::unexpected<error> lost(std::uintptr_t fault, std::uint64_t offset, char const* verb) const {
        auto message = std::string{"cannot "} + verb +
                       " mapped bytes: the file was cut short, its device cannot read them, or a copy-on-write disk "
                       "has no room for "
                       "them. See the system log (dmesg) and the free space.";
        return failure(error{.code = errc::io_error,
                             .message = std::move(message),
                             .file = path_,
                             .offset = std::max(offset_of(fault), offset),
                             .cause = EIO});
    }

    /// With less free space than this, copy-on-write file systems cannot give a block.
    static constexpr std::uint64_t full_below_bytes = 64 * KiB;

    boost::interprocess::mapped_region region_;
    descriptor file_;
    bool writable_;
    std::string path_;
};

} // namespace keel::inline v0::io::detail

#endif
