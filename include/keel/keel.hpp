// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_KEEL_HPP
#define KEEL_KEEL_HPP

// All of keel, in the order in which data flows. A part that needs another library has a header of its own: policy/compression/zstd.hpp,
// policy/compression/lz4.hpp and tool/run.hpp. policy/checksum/xxh3_64.hpp is included if xxhash.h is installed.

#include <keel/error.hpp>
#include <keel/error_code.hpp>
#include <keel/state.hpp>
#include <keel/text.hpp>
#include <keel/types.hpp>
#include <keel/version.hpp>

#include <keel/policy/checksum/crc32.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/checksum/sha3_64.hpp>
#include <keel/policy/compaction/by_hand.hpp>
#include <keel/policy/compaction/leveled.hpp>
#include <keel/policy/compression/any_of.hpp>
#include <keel/policy/compression/none.hpp>
#include <keel/policy/durability/every_write.hpp>
#include <keel/policy/durability/group_commit.hpp>
#include <keel/policy/durability/interval.hpp>
#include <keel/policy/durability/os_buffered.hpp>
#include <keel/policy/isolation/serializable.hpp>
#include <keel/policy/isolation/snapshot.hpp>
#include <keel/policy/repair/choice.hpp>
#include <keel/policy/segment_size/fixed.hpp>
#include <keel/policy/table_access/cached.hpp>
#include <keel/policy/table_access/mapped.hpp>
#if __has_include(<xxhash.h>)
#include <keel/policy/checksum/xxh3_64.hpp>
#endif

#include <keel/observe/json_lines.hpp>

#include <keel/format/text.hpp>
#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/io/posix.hpp>
#include <keel/io/schedule.hpp>

#include <keel/config.hpp>
#include <keel/instantiate.hpp>
#include <keel/recovery/undo.hpp>

#endif
