// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_READ_CACHE_HPP
#define KEEL_TABLE_READ_CACHE_HPP

// The memory in which a store caches its files, within one bound: verified blocks, and single records.

#include <keel/table/block_cache.hpp>
#include <keel/table/row_cache.hpp>

#include <cstddef>

namespace keel::inline v0::table {

struct read_cache {
    /// `bytes_max`: the bound for both together, in bytes. `keeps_rows`: three quarters of it are for records, because point look-ups fill
    /// most of the cache. A cursor caches only the block where it begins. The indexes of log segments take about a tenth of the segments'
    /// bytes.
    explicit read_cache(std::size_t bytes_max, bool keeps_rows = true)
        : blocks{keeps_rows ? bytes_max / 4 : bytes_max}, rows{keeps_rows ? bytes_max / 4 * 3 : 0} {}

    block_cache blocks;
    row_cache rows;
};

} // namespace keel::inline v0::table

#endif
