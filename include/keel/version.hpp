// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_VERSION_HPP
#define KEEL_VERSION_HPP

// The library's version, never the disk's: each format on disk counts its own, in format/. meson.build says the same number,
// and the inline namespace of every header carries the major one; tests/packaging/check_tree.py holds the three together.

#include <string_view>

namespace keel::inline v0 {

inline constexpr int version_major = 0;
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;
/// "major.minor.patch", for people and logs.
inline constexpr std::string_view version = "0.1.0";

} // namespace keel::inline v0

#endif
