// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_ENGINE_STORES_HPP
#define KEEL_TESTS_ENGINE_STORES_HPP

// The stores that tests of this folder share: each kind is compiled once for all of them.

#include <keel/keel.hpp>

#include "support/run_lengths.hpp"

namespace engine_tests {

/// Segments so small that a handful of values rolls over; merged once four of them are sealed.
template <class... Policies>
using tiny_store = keel::engine<keel::io::memory, keel::segment_size<4 * keel::KiB>,
                                keel::compaction::leveled<16 * keel::KiB, 2>, Policies...>;
/// Everything else than by default.
using other_store = keel::engine<keel::io::memory, keel::segment_size<8 * keel::KiB>, keel::checksum::crc32,
                                 keel::compaction::by_hand, keel::durability::interval<100>, keel::test::run_lengths>;
/// Blocks of tables are copied from the mapped files, none is kept.
using mapped_tables_store = tiny_store<keel::table_access::mapped>;
/// Segments with filters; merged when asked.
using by_hand_store = keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>, keel::compaction::by_hand>;

} // namespace engine_tests

#endif
