// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_BY_NAME_HPP
#define KEEL_TESTS_SUPPORT_BY_NAME_HPP

// by_name<Inner>: a user's own file system, as the contract allows it: it can neither be bound to a folder nor lock one. It remembers which
// folders were synced.

#include "forwarding_fs.hpp"

#include <keel/error.hpp>
#include <keel/io/concept.hpp>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace keel::test {

template <io::file_system Inner>
class by_name : public forwarding_fs<Inner> {
    using base = forwarding_fs<Inner>;
    using base::inner_;

public:
    using file = typename Inner::file;
    using mapping = typename Inner::mapping;
    using lock_type = typename Inner::lock_type;

    by_name() = default;
    explicit by_name(Inner inner) : base{std::move(inner)} {}

    [[nodiscard]] Inner& inner() noexcept { return inner_; }
    /// What stood at the path of each sync_directory(), in order.
    [[nodiscard]] std::vector<io::file_identity> const& synced() const noexcept { return *synced_; }

    [[nodiscard]] result<file> open(std::string const& path, io::access how, io::creation make) {
        return inner_.open(path, how, make);
    }
    [[nodiscard]] result<void> sync_directory(std::string const& path) {
        if (auto const status = inner_.status(path)) synced_->push_back(status->identity);
        return inner_.sync_directory(path);
    }

private:
    std::shared_ptr<std::vector<io::file_identity>> synced_{std::make_shared<std::vector<io::file_identity>>()};
};

} // namespace keel::test

#endif
