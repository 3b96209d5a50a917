// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/checksum/xxh3_64.hpp>

#include <conformance/checksum.hpp>

#include <array>
#include <utility>

using keel::byte_view;
using keel::checksum::over;
using keel::checksum::xxh3_64;

namespace {

/// The buffer that xxHash's own published values are taken over.
std::vector<std::byte> published_input(std::size_t size) {
    std::vector<std::byte> bytes(size);
    std::uint64_t state = 2'654'435'761U;
    for (auto& byte : bytes) {
        byte = static_cast<std::byte>(state >> 56);
        state *= 11'400'714'785'074'694'797U;
    }
    return bytes;
}

} // namespace

TEST_CASE("xxh3_64: keeps the laws") { keel::conformance::checksum_laws<xxh3_64>(); }
TEST_CASE("xxh3_64: finds damage") { keel::conformance::checksum_finds_damage<xxh3_64>(); }

// Golden: these stand on disks. They never change; another algorithm takes another id. One of each of the algorithm's
// branches.
TEST_CASE("xxh3_64: gives the published values") {
    CHECK(xxh3_64::id == keel::checksum_id::of("xxh3"));
    constexpr std::array<std::pair<std::size_t, std::uint64_t>, 13> published{{
        {0, 0x2D06'8005'38D3'94C2U},
        {1, 0xC44B'DFF4'074E'ECDBU},
        {6, 0x27B5'6A84'CD2D'7325U},
        {12, 0xA713'DAF0'DFBB'77E7U},
        {24, 0xA3FE'70BF'9D35'10EBU},
        {48, 0x397D'A259'ECBA'1F11U},
        {80, 0xBCDE'FBBB'2C47'C90AU},
        {195, 0xCD94'217E'E362'EC3AU},
        {403, 0xCDEB'804D'65C6'DEA4U},
        {512, 0x617E'4959'9013'CB6BU},
        {2048, 0xDD59'E2C3'A5F0'38E0U},
        {2240, 0x6E73'A905'39CF'2948U},
        {2367, 0xCB37'AEB9'E5D3'61EDU},
    }};
    auto const bytes = published_input(2367);
    for (auto const& example : published) {
        CAPTURE(example.first);
        CHECK(over<xxh3_64>(byte_view{bytes}.first(example.first)) == example.second);
    }
}

TEST_CASE("xxh3_64: any number of pieces gives what xxHash gives for the whole") {
    auto const bytes = keel::conformance::noise(2500);
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
        CAPTURE(size);
        auto const view = byte_view{bytes}.first(size);
        auto const expected = XXH3_64bits(bytes.data(), size);
        REQUIRE(over<xxh3_64>(view) == expected);
        REQUIRE(over<xxh3_64>(view.first(size * 3 / 7), view.subspan(size * 3 / 7)) == expected);
    }
}
