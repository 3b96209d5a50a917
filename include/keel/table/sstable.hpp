// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SSTABLE_HPP
#define KEEL_TABLE_SSTABLE_HPP

// A table as it is read: the file with its blocks, the walk over its index, look-ups, and cursors.

#include <keel/table/sstable_cursor.hpp>
#include <keel/table/sstable_index_walk.hpp>
#include <keel/table/sstable_lookup.hpp>
#include <keel/table/sstable_reader.hpp>

#endif
