// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_ASSERT_HPP
#define KEEL_DETAIL_ASSERT_HPP

// KEEL_ASSERT: one condition that only a bug of keel or of the caller can break. NDEBUG removes it. Bytes from disk are never asserted.

#include <cassert>

#define KEEL_ASSERT(condition) assert(condition)

#endif
