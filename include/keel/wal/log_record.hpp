// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_WAL_LOG_RECORD_HPP
#define KEEL_WAL_LOG_RECORD_HPP

#include <keel/format/frame_type.hpp>
#include <keel/types.hpp>

namespace keel::inline v0 {

/// One record of the log. The views are valid until the next call to the reader.
struct log_record {
    lsn at{};                                              ///< the place in the log
    format::frame_type type = format::frame_type::message; ///< the kind of the record
    bool begins_batch = true;                              ///< the record is the first of its batch
    bool ends_batch = true;                                ///< the record is the last of its batch
    byte_view key{};                                       ///< empty for a message
    byte_view value{};                                     ///< for a message: all of it
};

} // namespace keel::inline v0

#endif
