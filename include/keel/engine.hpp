// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_HPP
#define KEEL_ENGINE_HPP

// The store, and the code behind it.

#include <keel/engine/definitions.hpp>
#include <keel/store.hpp>

#endif
