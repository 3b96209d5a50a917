// SPDX-License-Identifier: BSL-1.0
#include <keel/policy/checksum/crc32c.hpp>

#include <conformance/checksum.hpp>

#include <array>
#include <thread>

using keel::as_bytes;
using keel::byte_view;
using keel::checksum::crc32c;
using keel::checksum::over;
using keel::checksum::detail::crc32c_path;
namespace detail = keel::checksum::detail;

namespace {

constexpr std::array all_paths{crc32c_path::portable, crc32c_path::one_lane, crc32c_path::three_way, crc32c_path::wide};

/// Bit by bit, as RFC 3720 defines it: the oracle of the oracle.
std::uint32_t bit_by_bit(std::uint32_t state, byte_view bytes) {
    for (auto const byte : bytes) {
        state ^= std::to_integer<std::uint32_t>(byte);
        for (int bit = 0; bit < 8; ++bit) state = (state >> 1) ^ ((state & 1U) != 0 ? 0x82F6'3B78U : 0U);
    }
    return state;
}

std::array<std::byte, 32> thirty_two(auto byte_at) {
    std::array<std::byte, 32> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(byte_at(i));
    return bytes;
}

} // namespace

TEST_CASE("crc32c: keeps the laws") { keel::conformance::checksum_laws<crc32c>(); }
TEST_CASE("crc32c: finds damage") { keel::conformance::checksum_finds_damage<crc32c>(); }

// Golden: these stand on disks. They never change; another algorithm takes another id.
TEST_CASE("crc32c: gives the values of RFC 3720, B.4") {
    CHECK(crc32c::id == keel::checksum_id::of("crcc"));
    CHECK(over<crc32c>() == 0);
    CHECK(over<crc32c>(as_bytes("123456789")) == 0xE306'9283U);
    CHECK(over<crc32c>(thirty_two([](auto) { return 0; })) == 0x8A91'36AAU);
    CHECK(over<crc32c>(thirty_two([](auto) { return 0xFF; })) == 0x62A8'AB43U);
    CHECK(over<crc32c>(thirty_two([](auto i) { return i; })) == 0x46DD'794EU);
    CHECK(over<crc32c>(thirty_two([](auto i) { return 31 - i; })) == 0x113F'DB5CU);
    constexpr std::array<unsigned char, 48> read_10_command{
        0x01, 0xC0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0,    0};
    CHECK(over<crc32c>(std::as_bytes(std::span{read_10_command})) == 0xD996'3A56U);
}

TEST_CASE("crc32c: the portable path agrees with the definition") {
    auto const bytes = keel::conformance::noise(64);
    for (std::size_t size = 0; size <= bytes.size(); ++size) {
        auto const state = 0x9E37'79B1U * static_cast<std::uint32_t>(size);
        CHECK(detail::crc32c_portable(state, bytes.data(), size) == bit_by_bit(state, byte_view{bytes}.first(size)));
    }
}

TEST_CASE("crc32c: hardware and portable paths agree on every length and alignment") {
    auto const bytes = keel::conformance::noise(64 + 1100);
    for (auto const path : all_paths) {
        if (path > detail::crc32c_best_path()) {
            MESSAGE("not on this CPU: path " << static_cast<int>(path));
            continue;
        }
        std::size_t wrong = 0;
        for (std::size_t size = 0; size <= 1100; ++size) {
            auto const* const data = bytes.data() + size % 64;
            auto const state = ~static_cast<std::uint32_t>(size * size);
            if (detail::crc32c_by(path, state, data, size) != detail::crc32c_portable(state, data, size)) ++wrong;
        }
        for (std::size_t const size : {7U, 128U, 200U, 1000U}) {
            for (std::size_t offset = 0; offset < 64; ++offset) {
                auto const* const data = bytes.data() + offset;
                if (detail::crc32c_by(path, 1, data, size) != detail::crc32c_portable(1, data, size)) ++wrong;
            }
        }
        CHECK_MESSAGE(wrong == 0, "path " << static_cast<int>(path));
    }
}

TEST_CASE("crc32c: hardware and portable paths agree on long runs") {
    CHECK(rc::check("hardware and portable paths agree on long runs", [] {
        auto const bytes = keel::conformance::noise(*rc::gen::inRange<std::size_t>(0, 40'000),
                                                    *rc::gen::arbitrary<std::uint32_t>());
        auto const state = *rc::gen::arbitrary<std::uint32_t>();
        auto const expected = detail::crc32c_portable(state, bytes.data(), bytes.size());
        for (auto const path : all_paths) {
            if (path > detail::crc32c_best_path()) break;
            RC_ASSERT(detail::crc32c_by(path, state, bytes.data(), bytes.size()) == expected);
        }
    }));
}

TEST_CASE("crc32c: the path is chosen at the first sum, and stays") {
    auto const bytes = keel::conformance::noise(300);
    for (std::size_t const size : {0U, 1U, 300U}) {
        detail::crc32c_chosen.store(crc32c_path::unknown);
        CHECK(over<crc32c>(byte_view{bytes}.first(size)) == (bit_by_bit(~0U, byte_view{bytes}.first(size)) ^ ~0U));
        CHECK(detail::crc32c_chosen.load() == detail::crc32c_best_path());
    }
}

TEST_CASE("crc32c: a CPU without the instruction gets the same values") {
    auto const bytes = keel::conformance::noise(300);
    auto const best = over<crc32c>(bytes, bytes);
    detail::crc32c_chosen.store(crc32c_path::portable);
    CHECK(over<crc32c>(bytes, bytes) == best);
    detail::crc32c_chosen.store(crc32c_path::unknown);
}

TEST_CASE("crc32c: threads that choose at the same time choose the same") {
    auto const bytes = keel::conformance::noise(300);
    auto const expected = over<crc32c>(bytes);
    detail::crc32c_chosen.store(crc32c_path::unknown);
    std::array<std::uint64_t, 4> sums{};
    {
        std::vector<std::jthread> threads;
        for (auto& sum : sums) threads.emplace_back([&] { sum = over<crc32c>(bytes); });
    }
    for (auto const sum : sums) CHECK(sum == expected);
}
