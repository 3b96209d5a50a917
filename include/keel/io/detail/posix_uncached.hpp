// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_DETAIL_POSIX_UNCACHED_HPP
#define KEEL_IO_DETAIL_POSIX_UNCACHED_HPP

// Reads what is on the medium, not what is in the page cache. Needed for verification. Three ways, the best first: a second descriptor with
// O_DIRECT and an aligned buffer; dropping the cached pages, then a plain read; a plain read alone. On a healthy machine all three give the
// same bytes. So a file system that refuses the first way is not an error.

#include <keel/io/detail/posix_descriptor.hpp>

#include <cstring>
#include <memory>
#include <new>
#include <optional>

namespace keel::inline v0::io::detail {

/// Offsets, lengths and memory of a direct read are multiples of this. It is the largest logical block in common use, in bytes.
inline constexpr std::size_t direct_block_bytes = 4096;
inline constexpr std::size_t direct_read_bytes_max = 1024 * 1024;

/// Aligned memory for direct reads.
class bounce_buffer {
public:
    explicit bounce_buffer(std::size_t bytes) : bytes_{::operator new(bytes, alignment)} {}
    [[nodiscard]] std::byte* data() const noexcept { return static_cast<std::byte*>(bytes_.get()); }

private:
    static constexpr std::align_val_t alignment{direct_block_bytes};
    struct release {
        void operator()(void* bytes) const noexcept { ::operator delete(bytes, alignment); }
    };
    std::unique_ptr<void, release> bytes_;
};

/// A second descriptor of the same file that reads past the page cache; empty if the file system offers none.
[[nodiscard]] inline descriptor open_direct([[maybe_unused]] descriptor const& file,
                                            [[maybe_unused]] std::string const& path) {
#if defined(O_DIRECT)
    auto const link = "/proc/self/fd/" + std::to_string(file.get());
    if (auto direct = open_descriptor(link.c_str(), O_RDONLY | O_DIRECT)) return direct;
    // There is no /proc. The name may belong to another file by now, so the identity of the opened file is compared.
    auto direct = open_descriptor(path.c_str(), O_RDONLY | O_DIRECT | O_NOFOLLOW);
    if (!direct) return {};
    auto const wanted = status_of(file, path);
    auto const found = status_of(direct, path);
    if (wanted && found && wanted->identity == found->identity) return direct;
#endif
    return {};
}

/// Reads through `direct`. std::nullopt: the file system does not do direct reads after all. Other errors are returned as errors.
[[nodiscard]] inline std::optional<result<std::size_t>> read_direct(descriptor const& direct, std::string const& path,
                                                                    std::uint64_t offset, byte_span out) {
    auto const lead = static_cast<std::size_t>(offset % direct_block_bytes);
    auto const blocks = (lead + out.size() + direct_block_bytes - 1) / direct_block_bytes * direct_block_bytes;
    auto const capacity = std::min(blocks, direct_read_bytes_max);
    bounce_buffer const buffer{capacity};
    std::size_t done = 0;
    while (done < out.size()) {
        auto const from = (offset + done) / direct_block_bytes * direct_block_bytes;
        auto const skip = static_cast<std::size_t>(offset + done - from);
        auto const got =
            uninterrupted([&] { return ::pread(direct.get(), buffer.data(), capacity, static_cast<off_t>(from)); });
        auto const cause = errno;
        if (got < 0 && cause == EINVAL) return std::nullopt;
        if (got < 0)
            return os_failure(cause, bytes_text("cannot read past the cache", out.size() - done), path, offset + done);
        if (static_cast<std::size_t>(got) <= skip) break; // the end of the file
        auto const length = std::min(static_cast<std::size_t>(got) - skip, out.size() - done);
        std::memcpy(out.data() + done, buffer.data() + skip, length);
        done += length;
    }
    return done;
}

[[nodiscard]] inline result<std::size_t> read_past_cache(descriptor const& file, std::string const& path,
                                                         std::uint64_t offset, byte_span out) {
    KEEL_TRY(check_range(offset, out.size(), path));
    if (out.empty()) return std::size_t{0};
    if (auto const direct = open_direct(file, path)) {
        if (auto got = read_direct(direct, path, offset, out)) return *std::move(got);
    }
#if defined(POSIX_FADV_DONTNEED)
    // A hint: dirty, mapped and locked pages stay in the cache.
    static_cast<void>(
        ::posix_fadvise(file.get(), static_cast<off_t>(offset), static_cast<off_t>(out.size()), POSIX_FADV_DONTNEED));
#endif
    return read_at(file, path, offset, out);
}

} // namespace keel::inline v0::io::detail

#endif
