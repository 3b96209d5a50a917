// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_INSTANTIATE_HPP
#define KEEL_INSTANTIATE_HPP

// The definitions of store.hpp and record_log.hpp, for the one source file of a program that instantiates them (see store.hpp). keel.hpp
// includes this header and all policies.

#include <keel/engine.hpp>
#include <keel/log.hpp>

#endif
