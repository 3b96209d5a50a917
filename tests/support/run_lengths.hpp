// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_RUN_LENGTHS_HPP
#define KEEL_TESTS_SUPPORT_RUN_LENGTHS_HPP

// A small model of compression_policy that packs something, as a user may bring one: for tests that need no library.

#include <keel/policy/compression/concept.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace keel::test {

/// How often, and which byte: two bytes for each run of up to 255.
struct run_lengths {
    static constexpr std::string_view name = "run_lengths";
    static constexpr std::uint8_t id = 8;
    [[nodiscard]] static constexpr bool reads(std::uint8_t of) noexcept { return of == 0 || of == id; }

    [[nodiscard]] static bool compress(byte_view in, std::vector<std::byte>& out) {
        out.clear();
        for (std::size_t at = 0; at < in.size();) {
            std::size_t run = 1;
            while (run < 255 && at + run < in.size() && in[at + run] == in[at]) ++run;
            out.insert(out.end(), {static_cast<std::byte>(run), in[at]});
            at += run;
        }
        return !in.empty() && out.size() <= compression::worth_bytes_max(in.size());
    }
    [[nodiscard]] static bool decompress(std::uint8_t of, byte_view in, byte_span out) noexcept {
        if (of != id || in.empty() || in.size() % 2 != 0) return false;
        for (; !in.empty(); in = in.subspan(2)) {
            auto const run = std::to_integer<std::size_t>(in[0]);
            if (run == 0 || run > out.size()) return false;
            std::ranges::fill(out.first(run), in[1]);
            out = out.subspan(run);
        }
        return out.empty();
    }
};

} // namespace keel::test

#endif
