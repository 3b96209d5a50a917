// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_LOG_HPP
#define KEEL_LOG_HPP

// The write-ahead log on its own, declarations and definitions.

#include <keel/engine/log_definitions.hpp>
#include <keel/record_log.hpp>

#endif
