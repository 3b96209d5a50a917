// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_HPP
#define KEEL_ENGINE_HPP

// The store, declarations and definitions.

#include <keel/engine/definitions.hpp>
#include <keel/store.hpp>

#endif
