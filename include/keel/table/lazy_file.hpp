// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_LAZY_FILE_HPP
#define KEEL_TABLE_LAZY_FILE_HPP

// A file that is read now and then: opened at the first read, mapped once there were several, so that one that nobody asks for costs
// nothing.
//
// Thread rules: any number of threads. m_ guards opening and mapping and is held during that I/O, by readers only. ready_ and map_
// (release) publish what was made under it (acquire).

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>

#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

namespace keel::inline v0::table {

template <io::file_system Fs>
class lazy_file {
public:
    lazy_file(Fs fs, std::string path) : fs_{std::move(fs)}, path_{std::move(path)} {}

    [[nodiscard]] std::string const& path() const noexcept { return path_; }
    [[nodiscard]] Fs const& fs() const noexcept { return fs_; }

    /// Opens it. Before the first of the calls below.
    [[nodiscard]] result<void> ready() const {
        if (ready_.load(std::memory_order_acquire)) [[likely]]
            return {};
        std::lock_guard const hold{m_};
        if (file_) return {};
        auto fs = fs_;
        KEEL_TRY_LET(file, fs.open(path_, io::access::read_only, io::creation::must_exist));
        file_.emplace(std::move(file));
        ready_.store(true, std::memory_order_release);
        return {};
    }
    [[nodiscard]] typename Fs::file const& file() const noexcept { return *file_; }
    /// Whether a file stands under its name. Errors: not_found.
    [[nodiscard]] result<void> named() const {
        auto fs = fs_;
        KEEL_TRY(fs.status(path_));
        return {};
    }

    /// All of `out`, or false. From the mapping; the first few reads go without: a mapping and its page faults cost as much as several.
    [[nodiscard]] bool fetch(std::uint64_t offset, byte_span out) const {
        auto const* map = map_.load(std::memory_order_acquire);
        if (map == nullptr && cold_reads_.fetch_add(1, std::memory_order_relaxed) < cold_reads_max) {
            auto const got = file_->read(offset, out);
            return got && *got == out.size();
        }
        return fetch_mapped(offset, out);
    }
    /// The same, from the mapping from the first read on.
    [[nodiscard]] bool fetch_mapped(std::uint64_t offset, byte_span out) const {
        auto const* map = map_.load(std::memory_order_acquire);
        if (map == nullptr) map = ready_map();
        return map != nullptr && map->copy_out(offset, out).has_value();
    }
    /// Asks for what fetch() will copy, where that costs nothing but asking.
    void prefetch(std::uint64_t offset, std::size_t bytes) const noexcept {
        if constexpr (requires(typename Fs::mapping const& m) { m.prefetch(offset, bytes); })
            if (auto const* map = map_.load(std::memory_order_acquire); map != nullptr) map->prefetch(offset, bytes);
    }
    /// Past the page cache; what lies behind the end of the file is zeros.
    [[nodiscard]] result<void> fetch_uncached(std::uint64_t offset, byte_span out) const {
        KEEL_TRY_LET(got, file_->read_uncached(offset, out));
        for (auto& b : out.subspan(got)) b = std::byte{0};
        return {};
    }

private:
    static constexpr std::uint32_t cold_reads_max = 16;

    [[nodiscard]] typename Fs::mapping const* ready_map() const {
        std::lock_guard const hold{m_};
        if (!mapping_) {
            auto made = file_->map(io::access::read_only);
            if (!made) return nullptr;
            mapping_.emplace(std::move(*made));
            map_.store(&*mapping_, std::memory_order_release);
        }
        return &*mapping_;
    }

    Fs fs_;
    std::string path_;
    mutable std::mutex m_;
    mutable std::atomic<bool> ready_{false};
    mutable std::atomic<std::uint32_t> cold_reads_{0}; // relaxed: a hint
    mutable std::optional<typename Fs::file> file_{};
    mutable std::optional<typename Fs::mapping> mapping_{};
    mutable std::atomic<typename Fs::mapping const*> map_{nullptr};
};

} // namespace keel::inline v0::table

#endif
