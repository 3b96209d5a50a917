// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/checksum/sha3_64.hpp>

#include <conformance/checksum.hpp>

#include <openssl/evp.h>

#include <thread>
#include <type_traits>

using keel::as_bytes;
using keel::byte_view;
using keel::checksum::over;
using keel::checksum::sha3_64;

TEST_CASE("sha3_64: keeps the laws") { keel::conformance::checksum_laws<sha3_64>(); }
TEST_CASE("sha3_64: finds damage") { keel::conformance::checksum_finds_damage<sha3_64>(); }

// Golden: these stand on disks. They never change; another algorithm takes another id.
TEST_CASE("sha3_64: gives the first 8 bytes of NIST's SHA3-256 examples") {
    CHECK(sha3_64::id == keel::checksum_id::of("sha3"));
    CHECK(over<sha3_64>() == 0x66D7'1EBF'F8C6'FFA7U);                // a7 ff c6 f8 bf 1e d7 66
    CHECK(over<sha3_64>(as_bytes("abc")) == 0xB225'E24F'A75D'983AU); // 3a 98 5d a7 4f e2 25 b2
    std::vector<std::byte> const bits_1600(200, std::byte{0xA3});
    CHECK(over<sha3_64>(bits_1600) == 0x0703'C2C5'DE8A'F379U); // 79 f3 8a de c5 c2 03 07
}

TEST_CASE("sha3_64: a run agrees with libcrypto's one-shot digest, short and long") {
    auto const bytes = keel::conformance::noise(1000);
    for (std::size_t const size : {1U, 135U, 136U, 137U, 255U, 256U, 257U, 1000U}) {
        CAPTURE(size);
        unsigned char digest[32];
        REQUIRE(EVP_Digest(bytes.data(), size, digest, nullptr, EVP_sha3_256(), nullptr) == 1);
        std::uint64_t expected = 0;
        for (int i = 7; i >= 0; --i) expected = expected << 8 | digest[i];
        CHECK(over<sha3_64>(byte_view{bytes}.first(size)) == expected);
    }
}

TEST_CASE("sha3_64: a sum is the same however its bytes are split, and may be asked for in the middle") {
    auto const bytes = keel::conformance::noise(600);
    for (std::size_t const step : {1U, 3U, 7U, 8U, 9U, 64U, 135U, 136U, 137U, 300U}) {
        CAPTURE(step);
        sha3_64 sum;
        for (std::size_t at = 0; at < bytes.size(); at += step) {
            CHECK(sum.value() == over<sha3_64>(byte_view{bytes}.first(at)));
            sum.update(byte_view{bytes}.subspan(at, std::min(step, bytes.size() - at)));
        }
        CHECK(sum.value() == over<sha3_64>(bytes));
    }
}

TEST_CASE("sha3_64: has no part that could be refused: all of it lies in the object") {
    static_assert(std::is_trivially_copyable_v<sha3_64>);
    static_assert(std::is_nothrow_default_constructible_v<sha3_64>);
    static_assert(noexcept(over<sha3_64>(byte_view{})));
    std::jthread{[] { CHECK(over<sha3_64>(as_bytes("abc")) == 0xB225'E24F'A75D'983AU); }}.join();
}
