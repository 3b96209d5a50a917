// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/checksum/sha3_64.hpp>

#include <conformance/checksum.hpp>

#include <thread>

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

TEST_CASE("sha3_64: objects in use at the same time do not share a context") {
    auto const bytes = keel::conformance::noise(600);
    std::vector<sha3_64> sums(10); // more than a thread keeps
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i].update(byte_view{bytes}.first(50 * i));
    for (std::size_t i = 0; i < sums.size(); ++i)
        CHECK(sums[i].value() == over<sha3_64>(byte_view{bytes}.first(50 * i)));
}

TEST_CASE("sha3_64: a used context starts anew") {
    auto const bytes = keel::conformance::noise(600);
    auto const first = over<sha3_64>(bytes);
    {
        sha3_64 left_in_the_middle;
        left_in_the_middle.update(bytes);
    }
    CHECK(over<sha3_64>(bytes) == first);
    CHECK(over<sha3_64>() == 0x66D7'1EBF'F8C6'FFA7U);
}

TEST_CASE("sha3_64: an object may end on another thread, and outlive the one that made it") {
    auto const bytes = keel::conformance::noise(600);
    sha3_64 sum;
    std::jthread{[&] {
        sha3_64 made_there;
        made_there.update(bytes);
        sum = std::move(made_there);
    }}.join();
    CHECK(sum.value() == over<sha3_64>(bytes));
}

// Destroyed after the main thread's contexts: AddressSanitizer would tell.
static sha3_64 global_sum;

TEST_CASE("sha3_64: a global object sums like any other") {
    global_sum.update(as_bytes("abc"));
    CHECK(global_sum.value() == over<sha3_64>(as_bytes("abc")));
}
