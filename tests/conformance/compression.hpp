// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CONFORMANCE_COMPRESSION_HPP
#define KEEL_TESTS_CONFORMANCE_COMPRESSION_HPP

// The laws of policy/compression/concept.hpp that every compression policy obeys, a user's own included. Use, inside a TEST_CASE:
//
//     keel::conformance::compression_laws<my_compression>();
//     keel::conformance::compression_packs<my_compression>(); // and this, where it packs text
//
// Each law is a SUBCASE. Nothing is asked of a model but what the concept says. Run it with AddressSanitizer once.

#include <keel/policy/compression/concept.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace keel::conformance {

/// `kinds` different bytes without a pattern, the same for the same seed, and `repeats` of the last one behind them.
[[nodiscard]] inline std::vector<std::byte> mixed_bytes(std::size_t size, unsigned kinds, std::uint32_t seed,
                                                        std::size_t repeats = 0) {
    std::vector<std::byte> bytes(size);
    for (auto& byte : bytes) {
        seed = seed * 1'664'525U + 1'013'904'223U;
        byte = static_cast<std::byte>((seed >> 24) % kinds);
    }
    bytes.insert(bytes.end(), repeats, bytes.empty() ? std::byte{0} : bytes.back());
    return bytes;
}

/// What decompress() makes of the bytes, asked for `raw` of them; nothing where it refuses. Both spans are exactly as long as they
/// are said to be, and a byte written beside the second one aborts the check.
template <compression_policy P>
[[nodiscard]] std::optional<std::vector<std::byte>> unpacked(std::uint8_t id, byte_view packed, std::size_t raw) {
    constexpr std::size_t fence = 64;
    auto const in = std::make_unique<std::byte[]>(packed.size());
    std::ranges::copy(packed, in.get());
    std::vector<std::byte> out(raw + 2 * fence, std::byte{0xA5});
    bool const done = P::decompress(id, {in.get(), packed.size()}, byte_span{out}.subspan(fence, raw));
    for (std::size_t i = 0; i < fence; ++i)
        if (out[i] != std::byte{0xA5} || out[fence + raw + i] != std::byte{0xA5}) RC_FAIL("wrote outside of its span");
    if (!done) return std::nullopt;
    auto const begin = out.begin() + static_cast<std::ptrdiff_t>(fence);
    return std::vector<std::byte>(begin, begin + static_cast<std::ptrdiff_t>(raw));
}

/// Packs and unpacks again; whether that gave the same bytes, or was not worth it.
template <compression_policy P>
[[nodiscard]] bool comes_back(byte_view bytes) {
    std::vector<std::byte> packed(7, std::byte{7}); // what was in it is gone
    if (!P::compress(bytes, packed)) return true;
    auto const again = unpacked<P>(P::id, packed, bytes.size());
    return packed.size() <= compression::worth_bytes_max(bytes.size()) && again && std::ranges::equal(*again, bytes);
}

/// Any bytes at all.
[[nodiscard]] inline std::vector<std::byte> some_bytes() {
    return mixed_bytes(*rc::gen::inRange<std::size_t>(0, 6000), *rc::gen::element(1U, 2U, 20U, 256U),
                       *rc::gen::arbitrary<std::uint32_t>(), *rc::gen::element<std::size_t>(0, 0, 9, 3000));
}

template <compression_policy P>
void compression_laws() {
    SUBCASE("it reads what it writes, and what is not packed") {
        CHECK(P::reads(P::id));
        CHECK(P::reads(0));
        CHECK(P::id <= compression::id_max);
        CHECK(!std::string_view{P::name}.empty());
    }
    SUBCASE("what was packed comes back") {
        CHECK(comes_back<P>({}));
        CHECK(comes_back<P>(mixed_bytes(1, 1, 1)));
        CHECK(comes_back<P>(mixed_bytes(1U << 20, 3, 1)));
        CHECK(rc::check("what was packed comes back", [] { RC_ASSERT(comes_back<P>(some_bytes())); }));
    }
    SUBCASE("another length than it was is refused, and so is what another policy packed") {
        CHECK(rc::check("lengths", [] {
            auto const bytes = some_bytes();
            std::vector<std::byte> packed;
            if (!P::compress(bytes, packed)) return;
            for (std::uint8_t id = 0; id <= compression::id_max; ++id)
                if (!P::reads(id) || id == 0) RC_ASSERT(!unpacked<P>(id, packed, bytes.size()));
            RC_ASSERT(!unpacked<P>(P::id, packed, 0));
            RC_ASSERT(!unpacked<P>(P::id, {}, bytes.size()));
        }));
    }
    SUBCASE("hostile bytes are refused, or give as many as were asked for") {
        CHECK(rc::check("any bytes", [] {
            auto const id = *rc::gen::inRange<std::uint8_t>(0, 16);
            static_cast<void>(unpacked<P>(id, some_bytes(), *rc::gen::inRange<std::size_t>(0, 9000)));
        }));
        CHECK(rc::check("packed bytes with some of them changed, cut or added", [] {
            auto const bytes = some_bytes();
            std::vector<std::byte> packed;
            if (!P::compress(bytes, packed)) packed.assign(bytes.begin(), bytes.end());
            if (packed.empty()) return;
            for (auto hits = *rc::gen::inRange(0, 6); hits > 0; --hits)
                packed[*rc::gen::inRange<std::size_t>(0, packed.size())] ^=
                    static_cast<std::byte>(*rc::gen::inRange(1, 256));
            packed.resize(*rc::gen::element(packed.size(), packed.size(), packed.size() / 2, packed.size() + 9));
            auto const raw = *rc::gen::element(bytes.size(), bytes.size(), bytes.size() + 1, std::size_t{1} << 20);
            static_cast<void>(unpacked<P>(P::id, packed, raw));
        }));
    }
    SUBCASE("threads do not meet") {
        std::atomic<int> wrong{0};
        {
            std::vector<std::jthread> crew;
            for (std::uint32_t t = 0; t < 4; ++t)
                crew.emplace_back([&wrong, t] {
                    for (std::uint32_t i = 0; i < 50; ++i) wrong += !comes_back<P>(mixed_bytes(4000, 5 + t, i, 200));
                });
        }
        CHECK(wrong == 0);
    }
}

/// For a model that makes text smaller: it refuses noise, and what it packed has one length only.
template <compression_policy P>
void compression_packs() {
    SUBCASE("text gets smaller, noise is refused") {
        std::string text;
        for (int i = 0; i < 200; ++i)
            text += "user:" + std::to_string(i) + " lives in street " + std::to_string(i / 7) + "; ";
        std::vector<std::byte> packed;
        REQUIRE(P::compress(as_bytes(text), packed));
        CHECK(packed.size() < text.size() / 2);
        for (auto const raw : {text.size() - 1, text.size() + 1, 2 * text.size()})
            CHECK(!unpacked<P>(P::id, packed, raw));
        CHECK(!unpacked<P>(P::id, byte_view{packed}.first(packed.size() - 1), text.size()));
        auto longer = packed;
        longer.push_back(std::byte{0});
        CHECK(!unpacked<P>(P::id, longer, text.size()));
        CHECK(!P::compress(mixed_bytes(4000, 256, 3), packed));
    }
}

} // namespace keel::conformance

#endif
