// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_READ_CACHE_HPP
#define KEEL_TABLE_READ_CACHE_HPP

// What a store keeps in memory of its files, within one bound: verified blocks, and records by themselves.

#include <keel/table/block_cache.hpp>
#include <keel/table/row_cache.hpp>

#include <cstddef>

namespace keel::inline v0::table {

struct read_cache {
    /// `bytes_max`: of both together. `keeps_rows`: three quarters of it are for records, as point look-ups are all that fills it; walks
    /// do not, and indexes of log segments take a tenth of what those hold.
    explicit read_cache(std::size_t bytes_max, bool keeps_rows = true)
        : blocks{keeps_rows ? bytes_max / 4 : bytes_max}, rows{keeps_rows ? bytes_max / 4 * 3 : 0} {}

    block_cache blocks;
    row_cache rows;
};

} // namespace keel::inline v0::table

#endif
