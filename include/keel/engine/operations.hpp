// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_OPERATIONS_HPP
#define KEEL_ENGINE_OPERATIONS_HPP

// The checks of a record before it goes to the log, and the conversion of a batch into operations of the log.

#include <keel/engine/batch.hpp>
#include <keel/error.hpp>
#include <keel/format/frame.hpp>
#include <keel/format/table.hpp>
#include <keel/types.hpp>
#include <keel/wal/group.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::detail {

/// Checks that the log can hold a key. Errors: invalid_argument (empty), too_large.
[[nodiscard]] inline result<void> check_key(std::string_view key) {
    if (key.empty()) return failure(errc::invalid_argument, "a key has at least one byte");
    if (key.size() > format::key_bytes_max)
        return failure(errc::too_large, "the key has " + std::to_string(key.size()) + " bytes, the limit is " +
                                            std::to_string(format::key_bytes_max) + ": store long names as values");
    return {};
}
/// Checks that the log and a table can hold a record. Errors: those of check_key(); too_large.
[[nodiscard]] inline result<void> check_record(std::string_view key, std::size_t value_bytes) {
    KEEL_TRY(check_key(key));
    if (value_bytes > format::record_bytes_max - key.size())
        return failure(errc::too_large, "key and value have " + std::to_string(key.size()) + " and " +
                                            std::to_string(value_bytes) + " bytes, the limit for both is " +
                                            std::to_string(format::record_bytes_max) + ": store it in parts");
    return {};
}

/// The operations of a batch, as views into it. They are valid until the batch changes.
[[nodiscard]] inline std::vector<wal::operation> operations_of(write_batch const& batch) {
    std::vector<wal::operation> out;
    out.reserve(batch.size());
    batch.for_each([&](bool erases, std::string_view key, std::string_view value) {
        out.push_back({.type = erases ? format::frame_type::erase : format::frame_type::put,
                       .key = as_bytes(key),
                       .value = as_bytes(value)});
    });
    return out;
}

} // namespace keel::inline v0::detail

#endif
