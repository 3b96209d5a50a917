// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_COUNTING_FS_HPP
#define KEEL_TESTS_SUPPORT_COUNTING_FS_HPP

// counting<Inner>: a file system that works as Inner does and counts the bytes read of and written to each file. Copies count together. A
// test may have something done in front of each sync of a file.

#include "forwarding_fs.hpp"

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/types.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace keel::test {

template <io::file_system Inner>
class counting : public forwarding_fs<Inner> {
    using base = forwarding_fs<Inner>;
    using base::inner_;

    struct counters {
        std::mutex m;
        std::map<std::string, std::uint64_t> read;
        std::map<std::string, std::uint64_t> written;
        std::function<void(std::string const&)> before_sync;
    };

public:
    using mapping = typename Inner::mapping;
    using lock_type = typename Inner::lock_type;

    class file {
    public:
        file(typename Inner::file inner, std::shared_ptr<counters> all)
            : inner_{std::move(inner)}, all_{std::move(all)} {}

        [[nodiscard]] result<std::size_t> read(std::uint64_t offset, byte_span out) const {
            note(all_->read, out.size());
            return inner_.read(offset, out);
        }
        [[nodiscard]] result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
            note(all_->read, out.size());
            return inner_.read_uncached(offset, out);
        }
        [[nodiscard]] result<void> write(std::uint64_t offset, byte_view bytes) {
            note(all_->written, bytes.size());
            return inner_.write(offset, bytes);
        }
        [[nodiscard]] result<void> sync() {
            if (all_->before_sync) all_->before_sync(path());
            return inner_.sync();
        }
        [[nodiscard]] result<void> allocate(std::uint64_t bytes) { return inner_.allocate(bytes); }
        [[nodiscard]] result<io::file_status> status() const { return inner_.status(); }
        [[nodiscard]] result<mapping> map(io::access how) { return inner_.map(how); }
        [[nodiscard]] std::string const& path() const noexcept { return inner_.path(); }

    private:
        void note(std::map<std::string, std::uint64_t>& of, std::size_t bytes) const {
            std::lock_guard const hold{all_->m};
            of[path()] += bytes;
        }
        typename Inner::file inner_;
        std::shared_ptr<counters> all_;
    };

    counting() = default;
    explicit counting(Inner inner) : base{std::move(inner)} {}

    [[nodiscard]] result<file> open(std::string const& path, io::access how, io::creation make) {
        KEEL_TRY_LET(opened, inner_.open(path, how, make));
        return file{std::move(opened), all_};
    }

    /// Called with the file's path, by whichever thread syncs it. Set before the first call of a file.
    void before_sync(std::function<void(std::string const&)> what) const { all_->before_sync = std::move(what); }
    void forget() const {
        std::lock_guard const hold{all_->m};
        all_->read.clear();
        all_->written.clear();
    }
    /// Of one file, by the name it was opened under.
    [[nodiscard]] std::uint64_t bytes_read(std::string const& path) const { return count_of(all_->read, path); }
    [[nodiscard]] std::uint64_t bytes_written(std::string const& path) const { return count_of(all_->written, path); }
    /// Files of which at least so many bytes were read.
    [[nodiscard]] std::vector<std::string> files_read(std::uint64_t bytes) const {
        std::lock_guard const hold{all_->m};
        std::vector<std::string> out;
        for (auto const& [path, n] : all_->read)
            if (n >= bytes) out.push_back(path);
        return out;
    }

private:
    [[nodiscard]] std::uint64_t count_of(std::map<std::string, std::uint64_t> const& of,
                                         std::string const& path) const {
        std::lock_guard const hold{all_->m};
        auto const at = of.find(path);
        return at == of.end() ? 0 : at->second;
    }
    std::shared_ptr<counters> all_{std::make_shared<counters>()};
};

} // namespace keel::test

#endif
