// SPDX-License-Identifier: BSL-1.0
// ... and this one has the code of that store made.
#include <keel/keel.hpp>

template class keel::basic_engine<keel::config<>>;
