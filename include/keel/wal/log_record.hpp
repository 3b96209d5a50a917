// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_LOG_RECORD_HPP
#define KEEL_WAL_LOG_RECORD_HPP

#include <keel/format/frame_type.hpp>
#include <keel/types.hpp>

namespace keel::inline v0 {

/// One record of the log. The views are valid until the next call to the reader.
struct log_record {
    lsn at{};
    format::frame_type type = format::frame_type::message;
    bool begins_batch = true;
    bool ends_batch = true;
    byte_view key{};
    byte_view value{}; ///< for a message: the whole message
};

} // namespace keel::inline v0

#endif
