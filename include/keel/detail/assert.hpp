// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_ASSERT_HPP
#define KEEL_DETAIL_ASSERT_HPP

// KEEL_ASSERT: a bug of ours or of the caller, one condition each, gone with NDEBUG. Bytes from disk are never asserted.

#include <cassert>

#define KEEL_ASSERT(condition) assert(condition)

#endif
