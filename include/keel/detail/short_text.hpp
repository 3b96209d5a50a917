// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_DETAIL_SHORT_TEXT_HPP
#define KEEL_DETAIL_SHORT_TEXT_HPP

// Copies and compares keys. Most keys are so short that a call of the C library costs more than the work itself.

#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace keel::inline v0::detail {

/// As memcpy. From 8 to 32 bytes are copied as two words, which may overlap.
[[gnu::always_inline]] inline void copy_text(char* to, char const* from, std::size_t bytes) noexcept {
    if (bytes > 32 || bytes < 8) {
        if (bytes != 0) std::memcpy(to, from, bytes);
        return;
    }
    auto const ends = [&]<std::size_t Word>(std::integral_constant<std::size_t, Word>) {
        char first[Word];
        char last[Word];
        std::memcpy(first, from, Word);
        std::memcpy(last, from + bytes - Word, Word);
        std::memcpy(to, first, Word);
        std::memcpy(to + bytes - Word, last, Word);
    };
    if (bytes <= 16) ends(std::integral_constant<std::size_t, 8>{});
    else ends(std::integral_constant<std::size_t, 16>{});
}

/// Whether the texts are equal. The last bytes are compared first, because neighbouring keys differ mostly there.
[[nodiscard, gnu::always_inline]] inline bool same_text(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    if (a.size() < 8) return a == b;
    std::uint64_t x = 0;
    std::uint64_t y = 0;
    std::memcpy(&x, a.data() + a.size() - 8, 8);
    std::memcpy(&y, b.data() + b.size() - 8, 8);
    return x == y && std::memcmp(a.data(), b.data(), a.size() - 8) == 0;
}

} // namespace keel::inline v0::detail

#endif
