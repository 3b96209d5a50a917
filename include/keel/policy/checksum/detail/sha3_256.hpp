// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_POLICY_CHECKSUM_DETAIL_SHA3_256_HPP
#define KEEL_POLICY_CHECKSUM_DETAIL_SHA3_256_HPP

// SHA3-256 (FIPS 202): the sponge over Keccak-f[1600] with a rate of 136 bytes. The whole state is in the object, so nothing here
// allocates or can fail. The context of a library is on the heap. If memory is refused, there is no context; a sum that cannot be
// computed must neither end the program nor be mistaken for a computed one.

#include <keel/types.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace keel::inline v0::checksum::detail {

/// The state of one sum.
class sha3_256 {
public:
    static constexpr std::size_t rate = 136;

    void update(byte_view bytes) noexcept {
        // Bytes up to the boundary of a word, then whole words, block by block.
        while (!bytes.empty()) {
            if (filled_ % 8 == 0 && bytes.size() >= 8) {
                auto const words = std::min(bytes.size() / 8, (rate - filled_) / 8);
                for (std::size_t i = 0; i < words; ++i) lanes_[filled_ / 8 + i] ^= lane_of(bytes.data() + 8 * i);
                filled_ += 8 * words;
                bytes = bytes.subspan(8 * words);
            } else {
                add_byte(filled_++, std::to_integer<std::uint8_t>(bytes.front()));
                bytes = bytes.subspan(1);
            }
            if (filled_ == rate) permute();
        }
    }
    /// The first 8 bytes of the digest of all bytes so far, little-endian. More bytes may follow.
    [[nodiscard]] std::uint64_t first_word() const noexcept {
        auto last = *this;
        last.add_byte(filled_, 0x06); // the domain of SHA-3, and the first bit of the padding
        last.add_byte(rate - 1, 0x80);
        last.permute();
        return last.lanes_[0];
    }

private:
    static constexpr std::array<std::uint64_t, 24> round_constants{
        0x0000000000000001, 0x0000000000008082, 0x800000000000808A, 0x8000000080008000, 0x000000000000808B,
        0x0000000080000001, 0x8000000080008081, 0x8000000000008009, 0x000000000000008A, 0x0000000000000088,
        0x0000000080008009, 0x000000008000000A, 0x000000008000808B, 0x800000000000008B, 0x8000000000008089,
        0x8000000000008003, 0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A,
        0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008};
    /// The destination of lane 1, then of each further lane in turn, in the steps rho and pi.
    static constexpr std::array<std::uint8_t, 24> goes_to{10, 7,  11, 17, 18, 3, 5,  16, 8,  21, 24, 4,
                                                          15, 23, 19, 13, 12, 2, 20, 14, 22, 9,  6,  1};
    /// The number of bits by which each of these lanes is rotated.
    static constexpr std::array<std::uint8_t, 24> turned{1,  3,  6,  10, 15, 21, 28, 36, 45, 55, 2,  14,
                                                         27, 41, 56, 8,  25, 43, 62, 18, 39, 61, 20, 44};

    [[nodiscard]] static std::uint64_t lane_of(std::byte const* bytes) noexcept {
        std::uint64_t lane = 0;
        if constexpr (std::endian::native == std::endian::little) {
            std::memcpy(&lane, bytes, 8);
        } else {
            for (std::size_t i = 0; i < 8; ++i) lane |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
        }
        return lane;
    }
    void add_byte(std::size_t at, std::uint8_t value) noexcept {
        lanes_[at / 8] ^= std::uint64_t{value} << (8 * (at % 8));
    }
    using lane_array = std::array<std::uint64_t, 25>;

    /// Calls step(constant i) for i in [0, Count), without a loop. Only constant indexes and distances are fast.
    template <std::size_t Count, class Step>
    [[gnu::always_inline]] static void each(Step const& step) noexcept {
        [&]<std::size_t... I>(std::index_sequence<I...>) {
            (step(std::integral_constant<std::size_t, I>{}), ...);
        }(std::make_index_sequence<Count>{});
    }
    void permute() noexcept {
        auto a = lanes_;
        for (auto const constant : round_constants) {
            theta(a);
            rho_and_pi(a);
            chi(a);
            a[0] ^= constant;
        }
        lanes_ = a;
        filled_ = 0;
    }
    [[gnu::always_inline]] static void theta(lane_array& a) noexcept {
        std::array<std::uint64_t, 5> column;
        each<5>([&](auto x) { column[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20]; });
        each<5>([&](auto x) {
            auto const change = column[(x + 4) % 5] ^ std::rotl(column[(x + 1) % 5], 1);
            each<5>([&](auto y) { a[x + 5 * y] ^= change; });
        });
    }
    [[gnu::always_inline]] static void rho_and_pi(lane_array& a) noexcept {
        auto moving = a[1];
        each<24>([&](auto i) {
            auto const next = a[goes_to[i]];
            a[goes_to[i]] = std::rotl(moving, turned[i]);
            moving = next;
        });
    }
    [[gnu::always_inline]] static void chi(lane_array& a) noexcept {
        each<5>([&](auto y) {
            std::array<std::uint64_t, 5> row;
            each<5>([&](auto x) { row[x] = a[x + 5 * y]; });
            each<5>([&](auto x) { a[x + 5 * y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5]); });
        });
    }

    lane_array lanes_{};
    std::size_t filled_ = 0; ///< bytes of the present block that were added; fewer than a block
};

} // namespace keel::inline v0::checksum::detail

#endif
