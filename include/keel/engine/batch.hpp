// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_BATCH_HPP
#define KEEL_ENGINE_BATCH_HPP

// A write batch: operations that are there together or not at all.

#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/table.hpp>
#include <keel/types.hpp>
#include <keel/wal/group.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0 {

namespace detail {
/// A key that the log can hold. Errors: invalid_argument (empty), too_large.
[[nodiscard]] inline result<void> check_key(std::string_view key) {
    if (key.empty()) return failure(errc::invalid_argument, "a key has at least one byte");
    if (key.size() > format::key_bytes_max)
        return failure(errc::too_large, "the key has " + std::to_string(key.size()) + " bytes, the limit is " +
                                            std::to_string(format::key_bytes_max) + ": store long names as values");
    return {};
}
/// A record that the log can hold and a table can take from it. Errors: those of its key; too_large.
[[nodiscard]] inline result<void> check_record(std::string_view key, std::size_t value_bytes) {
    KEEL_TRY(check_key(key));
    if (value_bytes > format::record_bytes_max - key.size())
        return failure(errc::too_large, "key and value have " + std::to_string(key.size()) + " and " +
                                            std::to_string(value_bytes) + " bytes, the limit for both is " +
                                            std::to_string(format::record_bytes_max) + ": store it in parts");
    return {};
}
} // namespace detail

/// Collects puts and erases for one atomic write. Copies what it is given. One thread per object.
class write_batch {
public:
    void put(slice key, slice value) { add(format::frame_type::put, key.text(), value.text()); }
    void erase(slice key) { add(format::frame_type::erase, key.text(), {}); }
    void clear() noexcept {
        bytes_.clear();
        parts_.clear();
    }
    [[nodiscard]] bool empty() const noexcept { return parts_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return parts_.size(); }

    /// The operations, as views into this batch: valid until it changes.
    [[nodiscard]] std::vector<wal::operation> operations() const {
        std::vector<wal::operation> out;
        out.reserve(parts_.size());
        std::size_t at = 0;
        for (auto const& p : parts_) {
            auto const all = as_bytes(bytes_).subspan(at, p.key + p.value);
            out.push_back({.type = p.type, .key = all.first(p.key), .value = all.subspan(p.key)});
            at += p.key + p.value;
        }
        return out;
    }

private:
    struct part {
        format::frame_type type;
        std::size_t key;
        std::size_t value;
    };
    /// Throws std::bad_alloc, and the batch is as before.
    void add(format::frame_type type, std::string_view key, std::string_view value) {
        auto const before = bytes_.size();
        parts_.push_back({type, key.size(), value.size()});
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
