// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_FWD_HPP
#define KEEL_FWD_HPP

// Declarations of keel's policies. They are enough to write `using store = keel::engine<keel::durability::every_write>;` without the
// definitions. compression::zstd and compression::lz4 are declared in headers of their own, which need the libraries.

#include <cstdint>

namespace keel::inline v0 {

/// One model for each axis (config.hpp).
template <class... Policies>
struct config;

template <std::uint64_t Bytes>
struct segment_size;
template <unsigned Attempts>
struct max_attempts;

namespace io {
class posix;
class memory;
template <class Inner>
class faulty;
} // namespace io

namespace checksum {
class crc32;
class crc32c;
class sha3_64;
class xxh3_64;
} // namespace checksum

namespace compaction {
struct by_hand;
template <std::uint64_t LogBytes = std::uint64_t{64} << 20, std::uint32_t Fanout = 8>
struct leveled;
} // namespace compaction

namespace compression {
struct none;
} // namespace compression

namespace durability {
struct every_write;
struct group_commit;
template <std::uint32_t Ms>
struct interval;
struct os_buffered;
} // namespace durability

namespace isolation {
struct serializable;
struct snapshot;
} // namespace isolation

namespace observe {
struct none;
} // namespace observe

namespace repair {
struct partial_reconstruct;
struct refuse;
struct rollback;
struct skip_corrupted;
} // namespace repair

namespace seal_check {
struct none;
struct read_back;
} // namespace seal_check

namespace table_access {
struct cached;
struct mapped;
} // namespace table_access

} // namespace keel::inline v0

#endif
