// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_FEW_FILES_HPP
#define KEEL_TESTS_SUPPORT_FEW_FILES_HPP

// few_files<Inner>: a file system that works as Inner does, counts the files that are open, and opens no more than it was told to: then
// it says what a process gets at its limit of open files. Mappings can be refused, too. Copies count together.

#include "forwarding_fs.hpp"

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace keel::test {

template <io::file_system Inner>
class few_files : public forwarding_fs<Inner> {
    using base = forwarding_fs<Inner>;
    using base::inner_;

    struct counters {
        std::atomic<int> most{std::numeric_limits<int>::max()};
        std::atomic<int> open{0};
        std::atomic<int> most_open{0};
        std::atomic<int> openings{0};
        std::atomic<bool> maps{true};
    };
    /// One that is open.
    class counted {
    public:
        explicit counted(std::shared_ptr<counters> all) : all_{std::move(all)} {
            auto const now = ++all_->open;
            for (auto seen = all_->most_open.load(); seen < now && !all_->most_open.compare_exchange_weak(seen, now);) {
            }
        }
        counted(counted&&) noexcept = default;
        counted& operator=(counted&& other) noexcept {
            all_.swap(other.all_);
            return *this;
        }
        ~counted() {
            if (all_) --all_->open;
        }
        [[nodiscard]] counters const& all() const noexcept { return *all_; }

    private:
        std::shared_ptr<counters> all_;
    };

public:
    using mapping = typename Inner::mapping;
    using lock_type = typename Inner::lock_type;

    class file {
    public:
        file(typename Inner::file inner, std::shared_ptr<counters> all)
            : inner_{std::move(inner)}, open_{std::move(all)} {}

        [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
            return inner_.read(offset, out);
        }
        [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
            return inner_.read_uncached(offset, out);
        }
        [[nodiscard]] result<void> write(std::uint64_t offset, byte_view bytes) { return inner_.write(offset, bytes); }
        [[nodiscard]] result<void> sync() { return inner_.sync(); }
        [[nodiscard]] result<void> allocate(std::uint64_t bytes) { return inner_.allocate(bytes); }
        [[nodiscard]] result<io::file_status> status() const { return inner_.status(); }
        [[nodiscard]] result<mapping> map(io::access how) const {
            if (open_.all().maps) return inner_.map(how);
            return failure(error{.code = errc::out_of_memory,
                                 .message = "no room to map",
                                 .file = path(),
                                 .cause = ENOMEM,
                                 .retryable = true});
        }
        [[nodiscard]] std::string const& path() const noexcept { return inner_.path(); }

    private:
        typename Inner::file inner_;
        counted open_;
    };

    few_files() = default;
    explicit few_files(Inner inner) : base{std::move(inner)} {}

    [[nodiscard]] result<file> open(std::string const& path, io::access how, io::creation make) {
        ++all_->openings;
        if (all_->open >= all_->most)
            return failure(error{.code = errc::no_descriptor,
                                 .message = "cannot open the file: Too many open files.",
                                 .file = path,
                                 .cause = EMFILE,
                                 .retryable = true});
        KEEL_TRY_LET(opened, inner_.open(path, how, make));
        return file{std::move(opened), all_};
    }

    /// As many may be open from here on.
    void allow(int files) const noexcept { all_->most = files; }
    void allow_mappings(bool yes) const noexcept { all_->maps = yes; }
    [[nodiscard]] int open_now() const noexcept { return all_->open; }
    /// The most that ever were open at once.
    [[nodiscard]] int most_open() const noexcept { return all_->most_open; }
    /// How often a file was opened, or refused.
    [[nodiscard]] int openings() const noexcept { return all_->openings; }

private:
    std::shared_ptr<counters> all_{std::make_shared<counters>()};
};

} // namespace keel::test

#endif
