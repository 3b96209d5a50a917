// SPDX-License-Identifier: BSL-1.0
// One file that meets the single header and then the tree: the guards are the same, so the second adds nothing.
#include "../../single_include/keel/keel.hpp"

#include <keel/error.hpp>
#include <keel/keel.hpp>

static_assert(!keel::version.empty());
