// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_SLOW_BUILD_HPP
#define KEEL_TESTS_SUPPORT_SLOW_BUILD_HPP

namespace keel::test {

/// A build with sanitizers runs ten times slower: tests that try everything try a sample there, and the whole in a plain build.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif
#else
inline constexpr bool sanitized = false;
#endif

} // namespace keel::test

#endif
