// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_MACHINE_HPP
#define KEEL_IO_MACHINE_HPP

// The machine's clock and its random numbers.

#include <cstdint>
#include <ctime>

#include <sys/random.h>
#include <unistd.h>

namespace keel::inline v0 {

/// Nanoseconds since 1970, by the clock of the machine. The clock may run backwards when it is set.
[[nodiscard]] inline std::uint64_t system_clock_ns() {
    std::timespec now{};
    static_cast<void>(std::timespec_get(&now, TIME_UTC));
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}
/// A random number from the kernel. If the kernel has none (Linux before 3.17), the number is made from the clock and the process id.
[[nodiscard]] inline std::uint64_t machine_entropy() {
    std::uint64_t out = 0;
    if (::getentropy(&out, sizeof(out)) == 0) return out;
    out = system_clock_ns() + (static_cast<std::uint64_t>(::getpid()) << 40);
    out = (out ^ (out >> 30)) * 0xBF58476D1CE4E5B9; // SplitMix64 (Steele et al., 2014)
    out = (out ^ (out >> 27)) * 0x94D049BB133111EB;
    return out ^ (out >> 31);
}

} // namespace keel::inline v0

#endif
