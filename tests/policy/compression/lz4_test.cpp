// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/compression/lz4.hpp>

#include <conformance/compression.hpp>

using keel::compression::lz4;

TEST_CASE("lz4: keeps the laws") {
    keel::conformance::compression_laws<lz4>();
    keel::conformance::compression_packs<lz4>();
}

TEST_CASE("lz4: what stands packed in a store stays readable") {
    // Four letters, then a match of sixteen at a distance of four, then five letters: written down by hand from the format.
    constexpr std::string_view packed{"\x4Ckeel\x04\x00\x50 anew", 13};
    auto const text = keel::conformance::unpacked<lz4>(2, keel::as_bytes(packed), 25);
    REQUIRE(text);
    CHECK(keel::as_text(*text) == "keelkeelkeelkeelkeel anew");
}
