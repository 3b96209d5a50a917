// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_INSTANTIATE_HPP
#define KEEL_INSTANTIATE_HPP

// The code behind store.hpp and record_log.hpp, for the one file of a program that has it made (store.hpp). keel.hpp has it, too, and all
// policies.

#include <keel/engine.hpp>
#include <keel/log.hpp>

#endif
