// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_BATCH_HPP
#define KEEL_ENGINE_BATCH_HPP

// A write batch: operations that are written all together or not at all.

#include <keel/types.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0 {

/// Collects puts and erases for one atomic write. It copies keys and values. One thread per object. put() and erase() may throw
/// std::bad_alloc; the batch is then unchanged.
class write_batch {
public:
    /// Adds an operation that sets the value of a key. Throws std::bad_alloc; then the batch is unchanged.
    void put(slice key, slice value) { add(false, key.text(), value.text()); }
    /// Adds an operation that removes a key. Throws std::bad_alloc; then the batch is unchanged.
    void erase(slice key) { add(true, key.text(), {}); }
    /// Removes all operations.
    void clear() noexcept {
        bytes_.clear();
        parts_.clear();
    }
    /// Whether there are no operations.
    [[nodiscard]] bool empty() const noexcept { return parts_.empty(); }
    /// The number of operations.
    [[nodiscard]] std::size_t size() const noexcept { return parts_.size(); }

    /// Calls `visit(erases, key, value)` for each operation in order. The views are valid until the batch changes.
    template <class Visit>
    void for_each(Visit&& visit) const {
        std::string_view rest{bytes_};
        for (auto const& p : parts_) {
            visit(p.erases, rest.substr(0, p.key), rest.substr(p.key, p.value));
            rest.remove_prefix(p.key + p.value);
        }
    }

private:
    struct part {
        bool erases;
        std::size_t key;
        std::size_t value;
    };
    /// On std::bad_alloc the batch is unchanged.
    void add(bool erases, std::string_view key, std::string_view value) {
        auto const before = bytes_.size();
        parts_.push_back({erases, key.size(), value.size()});
        try {
            bytes_.append(key).append(value);
        } catch (...) {
            bytes_.resize(before);
            parts_.pop_back();
            throw;
        }
    }
    std::string bytes_;
    std::vector<part> parts_;
};

} // namespace keel::inline v0

#endif
