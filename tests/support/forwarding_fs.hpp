// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_FORWARDING_FS_HPP
#define KEEL_TESTS_SUPPORT_FORWARDING_FS_HPP

// What file systems of tests that look at some calls of another one do with all others: they pass them on.

#include <keel/io/concept.hpp>

#include <string>
#include <utility>
#include <vector>

namespace keel::test {

template <io::file_system Inner>
class forwarding_fs {
public:
    using lock_type = typename Inner::lock_type;

    forwarding_fs() = default;
    explicit forwarding_fs(Inner inner) : inner_{std::move(inner)} {}

    [[nodiscard]] result<lock_type> lock(std::string const& path, io::lock_mode mode) {
        return inner_.lock(path, mode);
    }
    [[nodiscard]] result<std::vector<io::directory_entry>> list(std::string const& path) { return inner_.list(path); }
    [[nodiscard]] result<io::file_status> status(std::string const& path) { return inner_.status(path); }
    [[nodiscard]] result<void> make_directory(std::string const& path) { return inner_.make_directory(path); }
    [[nodiscard]] result<void> rename(std::string const& from, std::string const& to) {
        return inner_.rename(from, to);
    }
    [[nodiscard]] result<void> remove(std::string const& path) { return inner_.remove(path); }
    [[nodiscard]] result<void> sync_directory(std::string const& path) { return inner_.sync_directory(path); }
    [[nodiscard]] io::boot_id boot() { return inner_.boot(); }

protected:
    Inner inner_{};
};

} // namespace keel::test

#endif
