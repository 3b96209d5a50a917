// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/checksum/concept.hpp>

#include <keel/policy/checksum/crc32.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/checksum/xxh3_64.hpp>

#include <conformance/checksum.hpp>
#include <support/sum8.hpp>

#include <set>
#include <string>

using keel::test::sum8;

TEST_CASE("sum8: the smallest model keeps the laws") { keel::conformance::checksum_laws<sum8>(); }

TEST_CASE("checksum: over() sums its views one after the other") {
    CHECK(keel::checksum::over<sum8>() == 0);
    CHECK(keel::checksum::over<sum8>(keel::as_bytes("\x01\x02"), keel::as_bytes("\xFF")) == 2);
    CHECK(keel::checksum::over<keel::checksum::crc32c>(keel::as_bytes("1234"), keel::as_bytes("56789")) ==
          keel::checksum::over<keel::checksum::crc32c>(keel::as_bytes("123456789")));
}

TEST_CASE("checksum: no two models share an id") {
    using namespace keel::checksum;
    std::set<std::uint32_t> const ids{sum8::id.value, crc32::id.value, crc32c::id.value, xxh3_64::id.value,
                                      keel::checksum_id::of("sha3").value};
    CHECK(ids.size() == 5);
}

TEST_CASE("checksum: an id's four letters stand on the disk as they are read") {
    CHECK(keel::checksum_id::of("crcc").value == 0x63637263U);
}

namespace {

struct throwing_update : sum8 {
    void update(keel::byte_view) {}
};
struct narrow_value : sum8 {
    std::uint32_t value() const noexcept { return 0; }
};
struct no_name {
    static constexpr keel::checksum_id id = keel::checksum_id::of("none");
    void update(keel::byte_view) noexcept {}
    std::uint64_t value() const noexcept { return 0; }
};

} // namespace

// What the compiler refuses on its own.
static_assert(!keel::checksum_policy<throwing_update>);
static_assert(!keel::checksum_policy<narrow_value>);
static_assert(!keel::checksum_policy<no_name>);
