// SPDX-License-Identifier: BSL-1.0
// One of two files of a program that both include keel.
#include <keel/keel.hpp>

static_assert(!keel::version.empty());

keel::lsn first() { return keel::lsn{keel::KiB}; }
