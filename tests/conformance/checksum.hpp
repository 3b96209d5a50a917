// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CONFORMANCE_CHECKSUM_HPP
#define KEEL_TESTS_CONFORMANCE_CHECKSUM_HPP

// The laws of policy/checksum/concept.hpp that every checksum obeys, a user's own included. Use, inside a TEST_CASE:
//
//     keel::conformance::checksum_laws<my_checksum>();
//     keel::conformance::checksum_finds_damage<my_checksum>(); // and this, where it has 32 bits or more
//
// Each law is a SUBCASE. Nothing is asked of a model but what the concept says.

#include <keel/policy/checksum/concept.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace keel::conformance {

/// Bytes without a pattern, the same for the same seed.
[[nodiscard]] inline std::vector<std::byte> noise(std::size_t size, std::uint32_t seed = 1) {
    std::vector<std::byte> bytes(size);
    for (auto& byte : bytes) {
        seed = seed * 1'664'525U + 1'013'904'223U;
        byte = static_cast<std::byte>(seed >> 24);
    }
    return bytes;
}

/// The checksum of these bytes, given in one piece.
template <checksum_policy C>
[[nodiscard]] std::uint64_t whole(byte_view bytes) {
    C sum;
    sum.update(bytes);
    return sum.value();
}

/// Any split of the same bytes gives the same value (P1). The pieces are mostly short, as those of records are; some
/// are long.
template <checksum_policy C>
[[nodiscard]] bool splits_agree() {
    return rc::check("P1: any split of the same bytes gives the same value", [] {
        auto const size = *rc::gen::inRange<std::size_t>(0, 5000);
        auto const bytes = noise(size, *rc::gen::arbitrary<std::uint32_t>());
        auto const piece_max = *rc::gen::element<std::size_t>(2, 40, 300, 3000);
        C split;
        for (byte_view rest = bytes; !rest.empty();) {
            auto const piece = std::min(rest.size(),
                                        *rc::gen::inRange<std::size_t>(0, piece_max).as("bytes in a piece") + 1);
            split.update(rest.first(piece));
            split.update({});
            rest = rest.subspan(piece);
        }
        RC_ASSERT(split.value() == whole<C>(bytes));
    });
}

/// Reading what was written gives the sum that was written (P1), wherever in memory the bytes stand.
template <checksum_policy C>
[[nodiscard]] bool places_agree() {
    return rc::check("P1: the same bytes at another place give the same value", [] {
        auto const written = noise(*rc::gen::inRange<std::size_t>(0, 3000), *rc::gen::arbitrary<std::uint32_t>());
        auto const offset = *rc::gen::inRange<std::size_t>(0, 64);
        std::vector<std::byte> read(offset + written.size());
        std::copy(written.begin(), written.end(), read.begin() + static_cast<std::ptrdiff_t>(offset));
        RC_ASSERT(whole<C>(byte_view{read}.subspan(offset)) == whole<C>(written));
    });
}

template <checksum_policy C>
void checksum_laws() {
    SUBCASE("it has an id and a name") {
        CHECK(checksum_id{C::id}.value != 0);
        CHECK_FALSE(std::string_view{C::name}.empty());
    }
    SUBCASE("no bytes leave it in the state of the empty run") {
        C sum;
        sum.update({});
        sum.update(as_bytes(""));
        CHECK(sum.value() == C{}.value());
    }
    SUBCASE("splits of the same bytes agree") { CHECK(splits_agree<C>()); }
    SUBCASE("places of the same bytes agree") { CHECK(places_agree<C>()); }
    SUBCASE("value() leaves it unchanged") {
        for (std::size_t const first : {0U, 1U, 100U, 1000U}) {
            auto const bytes = noise(2000);
            C sum;
            sum.update(byte_view{bytes}.first(first));
            CHECK(sum.value() == sum.value());
            sum.update(byte_view{bytes}.subspan(first));
            CHECK(sum.value() == whole<C>(bytes));
        }
    }
    SUBCASE("copies are independent") {
        for (std::size_t const first : {0U, 1U, 100U, 1000U}) {
            auto const bytes = noise(2000);
            auto const rest = byte_view{bytes}.subspan(first);
            C original;
            original.update(byte_view{bytes}.first(first));
            auto const before = original.value();
            C copy{original};
            C assigned;
            assigned.update(as_bytes("forgotten"));
            assigned = original;
            copy.update(rest);
            CHECK(original.value() == before);
            CHECK(assigned.value() == before);
            original.update(rest);
            assigned.update(rest);
            CHECK(copy.value() == whole<C>(bytes));
            CHECK(original.value() == whole<C>(bytes));
            CHECK(assigned.value() == whole<C>(bytes));
        }
    }
    SUBCASE("P2: every flipped bit of 1 KiB changes the value") {
        auto bytes = noise(1024);
        auto const intact = whole<C>(bytes);
        std::size_t missed = 0;
        for (auto& byte : bytes) {
            for (int bit = 0; bit < 8; ++bit) {
                byte ^= static_cast<std::byte>(1 << bit);
                if (whole<C>(bytes) == intact) ++missed;
                byte ^= static_cast<std::byte>(1 << bit);
            }
        }
        CHECK(missed == 0);
        CHECK(whole<C>(bytes) == intact);
    }
}

/// For a model of 32 bits or more: what a narrow one finds only mostly, and fails no test by chance.
template <checksum_policy C>
void checksum_finds_damage() {
    SUBCASE("P2: every truncation of 1 KiB changes the value, of zeros too") {
        for (auto const& bytes : {noise(1024), std::vector<std::byte>(1024)}) {
            auto const intact = whole<C>(bytes);
            std::size_t missed = 0;
            for (std::size_t kept = 1; kept < bytes.size(); ++kept) {
                if (whole<C>(byte_view{bytes}.first(kept)) == intact) ++missed;
            }
            CHECK(missed == 0);
        }
    }
    SUBCASE("P2: random damage to several bytes changes the value") {
        CHECK(rc::check("P2: random damage to several bytes changes the value", [] {
            auto const bytes = noise(*rc::gen::inRange<std::size_t>(1, 3000), *rc::gen::arbitrary<std::uint32_t>());
            auto damaged = bytes;
            for (auto hits = *rc::gen::inRange(1, 64); hits > 0; --hits) {
                damaged[*rc::gen::inRange<std::size_t>(0, damaged.size())] ^=
                    static_cast<std::byte>(*rc::gen::inRange(1, 256));
            }
            RC_PRE(damaged != bytes);
            RC_ASSERT(whole<C>(damaged) != whole<C>(bytes));
        }));
    }
    SUBCASE("P2: neighbouring words exchanged change the value") {
        auto bytes = noise(512);
        auto const intact = whole<C>(bytes);
        std::size_t missed = 0;
        for (std::size_t at = 0; at + 16 <= bytes.size(); at += 8) {
            auto const word = bytes.begin() + static_cast<std::ptrdiff_t>(at);
            std::swap_ranges(word, word + 8, word + 8);
            if (whole<C>(bytes) == intact) ++missed;
            std::swap_ranges(word, word + 8, word + 8);
        }
        CHECK(missed == 0);
    }
}

} // namespace keel::conformance

#endif
