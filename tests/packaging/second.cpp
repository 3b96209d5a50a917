// SPDX-License-Identifier: BSL-1.0
// The other of two files of a program that both include keel; it takes a type of keel from the first.
#include <keel/keel.hpp>

keel::lsn first();
bool const same = first() == keel::lsn{1024};
