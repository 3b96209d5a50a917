// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_VERSION_HPP
#define KEEL_VERSION_HPP

// The version of the library. Each format on disk has a number of its own (format/). meson.build repeats this version, and the inline
// namespace of every header has the major number; tests/packaging/check_tree.py checks that the three agree.

#include <string_view>

namespace keel::inline v0 {

/// The parts of the library's version as numbers.
/// @{
inline constexpr int version_major = 0;
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;
/// @}
/// "major.minor.patch", for people and logs.
inline constexpr std::string_view version = "0.1.0";

} // namespace keel::inline v0

#endif
