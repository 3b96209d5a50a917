// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FORMAT_FRAME_TYPE_HPP
#define KEEL_FORMAT_FRAME_TYPE_HPP

#include <cstdint>

namespace keel::inline v0::format {

/// The type of a frame. A type under 64 is data and takes an LSN (in a manifest: an edit number). The numbers are stored on disk and are
/// never reused.
enum class frame_type : std::uint8_t {
    put = 1,       ///< payload: key, value
    erase = 2,     ///< payload: key
    message = 3,   ///< payload: bytes appended through keel::log; key size 0
    edit = 32,     ///< manifest: operations that happen together
    snapshot = 33, ///< manifest: operations that build the whole state from nothing
    mark = 64,     ///< format/mark.hpp
    index = 65,    ///< sorted index over a chunk
    loss = 66,     ///< LSN ranges declared lost by a repair; format/mark.hpp
    block = 67,    ///< table: records in key order; format/block.hpp
    filter = 68,   ///< table: lines of a filter
    fence = 69,    ///< table: an index block
    root = 70,     ///< table: the index over the index blocks
    packed = 71,   ///< table: a `block`, compressed; format/table.hpp
};

} // namespace keel::inline v0::format

#endif
