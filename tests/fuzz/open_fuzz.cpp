// SPDX-License-Identifier: BSL-1.0
// Any bytes as the files of a store (support/packed_store.hpp): opened with a repair policy, read through, perhaps written to, and
// opened again. support/open_check.hpp says what must hold.
#include "support/open_check.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    using namespace keel::test;
    if (size == 0) return 0;
    auto const flags = packed_flags::of(data[0]);
    determined::restart(1);
    auto const wrong = wrong_after_open(unpack(std::as_bytes(std::span{data, size}).subspan(1), flags), flags);
    if (wrong.empty()) return 0;
    std::fprintf(stderr, "open_fuzz: %s\n", wrong.c_str());
    std::abort();
}
