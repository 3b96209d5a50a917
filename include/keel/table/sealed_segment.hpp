// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TABLE_SEALED_SEGMENT_HPP
#define KEEL_TABLE_SEALED_SEGMENT_HPP

// A sealed segment as it is read: the file with its records, its index, look-ups, and cursors.

#include <keel/table/sealed_segment_cursor.hpp>
#include <keel/table/sealed_segment_index.hpp>
#include <keel/table/sealed_segment_lookup.hpp>
#include <keel/table/sealed_segment_reader.hpp>

#endif
