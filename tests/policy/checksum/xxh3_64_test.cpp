// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/checksum/xxh3_64.hpp>

#include <conformance/checksum.hpp>

// The reference, where the machine has it. It comes after the subject, which must not have brought it.
#if defined(XXH3_64bits)
#error "keel must leave xxhash.h to its users"
#endif
#if __has_include(<xxhash.h>)
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

#include <array>
#include <utility>

using keel::byte_view;
using keel::checksum::over;
using keel::checksum::xxh3_64;
using keel::checksum::detail::xxh3_path;
namespace detail = keel::checksum::detail;

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

#if defined(XXH_INLINE_ALL)
TEST_CASE("xxh3_64: agrees with xxHash on every length, whole and in two pieces") {
    auto const bytes = keel::conformance::noise(2500);
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
        CAPTURE(size);
        auto const view = byte_view{bytes}.first(size);
        auto const expected = XXH3_64bits(bytes.data(), size);
        REQUIRE(over<xxh3_64>(view) == expected);
        REQUIRE(over<xxh3_64>(view.first(size * 3 / 7), view.subspan(size * 3 / 7)) == expected);
    }
}
#endif

TEST_CASE("xxh3_64: vectors of any width agree") {
    for (std::size_t stripes = 0; stripes <= 40; ++stripes) {
        auto const bytes = keel::conformance::noise(64 * stripes + 1, 7);
        for (std::size_t const start : {0U, 5U, 15U}) {
            auto expected = detail::xxh3_start;
            auto expected_at = start;
            detail::xxh3_add_stripes(xxh3_path::portable, expected, expected_at, bytes.data() + 1, stripes);
            for (auto const path : {xxh3_path::avx2, xxh3_path::avx512}) {
                if (path > detail::xxh3_best_path()) break;
                auto sums = detail::xxh3_start;
                auto at = start;
                detail::xxh3_add_stripes(path, sums, at, bytes.data() + 1, stripes);
                CHECK(at == expected_at);
                CHECK(std::equal(std::begin(sums.lane), std::end(sums.lane), std::begin(expected.lane)));
            }
        }
    }
}

TEST_CASE("xxh3_64: a CPU without wide vectors gets the same values") {
    auto const bytes = keel::conformance::noise(5000);
    auto const best = over<xxh3_64>(bytes);
    detail::xxh3_chosen.store(xxh3_path::portable);
    CHECK(over<xxh3_64>(bytes) == best);
    detail::xxh3_chosen.store(xxh3_path::unknown);
    CHECK(over<xxh3_64>(bytes) == best);
    CHECK(detail::xxh3_chosen.load() == detail::xxh3_best_path());
}
