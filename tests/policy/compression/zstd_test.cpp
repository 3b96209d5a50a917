// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/compression/zstd.hpp>

#include <conformance/compression.hpp>

#include <array>

using keel::compression::zstd;

TEST_CASE("zstd: keeps the laws") {
    keel::conformance::compression_laws<zstd<>>();
    keel::conformance::compression_packs<zstd<>>();
}

TEST_CASE("zstd: every level is read by every other") {
    auto const text = keel::conformance::mixed_bytes(9000, 7, 5, 100);
    auto const packed_at = [&]<int Level>() {
        std::vector<std::byte> packed;
        REQUIRE(zstd<Level>::compress(text, packed));
        CHECK(keel::conformance::unpacked<zstd<>>(1, packed, text.size()) == text);
        return packed.size();
    };
    CHECK(packed_at.operator()<19>() <= packed_at.operator()<1>());
    CHECK(packed_at.operator()<22>() > 0);
}

TEST_CASE("zstd: one frame of the present format is all it takes") {
    auto const text = keel::conformance::mixed_bytes(3000, 3, 5);
    std::vector<std::byte> packed;
    REQUIRE(zstd<>::compress(text, packed));
    // Two frames, of which each says another length than both have; a frame that is skipped, in front; the magic number of format 0.5.
    auto twice = packed;
    twice.insert(twice.end(), packed.begin(), packed.end());
    CHECK(!keel::conformance::unpacked<zstd<>>(1, twice, 2 * text.size()));
    std::array<std::byte, 8> const skipped{std::byte{0x50}, std::byte{0x2A}, std::byte{0x4D}, std::byte{0x18}};
    auto behind = packed;
    behind.insert(behind.begin(), skipped.begin(), skipped.end());
    CHECK(!keel::conformance::unpacked<zstd<>>(1, behind, text.size()));
    behind = packed;
    behind.insert(behind.end(), skipped.begin(), skipped.end());
    CHECK(!keel::conformance::unpacked<zstd<>>(1, behind, text.size()));
    packed[0] = std::byte{0x25};
    CHECK(!keel::conformance::unpacked<zstd<>>(1, packed, text.size()));
}
