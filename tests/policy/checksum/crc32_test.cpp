// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/checksum/crc32.hpp>

#include <conformance/checksum.hpp>

using keel::as_bytes;
using keel::checksum::crc32;
using keel::checksum::over;

TEST_CASE("crc32: keeps the laws") { keel::conformance::checksum_laws<crc32>(); }
TEST_CASE("crc32: finds damage") { keel::conformance::checksum_finds_damage<crc32>(); }

// Golden: these stand on disks. They never change; another algorithm takes another id.
TEST_CASE("crc32: gives the published values") {
    CHECK(crc32::id == keel::checksum_id::of("crc3"));
    CHECK(over<crc32>() == 0);
    CHECK(over<crc32>(as_bytes("123456789")) == 0xCBF4'3926U);
    CHECK(over<crc32>(as_bytes("The quick brown fox jumps over the lazy dog")) == 0x414F'A339U);
}
