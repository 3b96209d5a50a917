// SPDX-License-Identifier: BSL-1.0
#include <keel/format/frame.hpp>

#include <keel/format/mark.hpp>
#include <keel/policy/checksum/crc32.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/checksum/xxh3_64.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace keel;
using namespace keel::format;

/// Bytes in an allocation of exactly their size, so that a sanitizer sees a read past either end.
class exact_bytes {
public:
    explicit exact_bytes(std::vector<std::uint8_t> const& from)
        : size_{from.size()}, bytes_{std::make_unique<std::byte[]>(from.size())} {
        std::ranges::transform(from, bytes_.get(), [](auto b) { return static_cast<std::byte>(b); });
    }
    [[nodiscard]] byte_view view() const noexcept { return {bytes_.get(), size_}; }

private:
    std::size_t size_;
    std::unique_ptr<std::byte[]> bytes_;
};

struct sample {
    frame_place place{};
    frame_header header{};
    std::vector<std::uint8_t> payload{};
    std::vector<std::byte> bytes{};
};

template <checksum_policy C>
sample make_sample(std::vector<std::uint8_t> payload, frame_place place, frame_header header) {
    header.payload_bytes = static_cast<std::uint32_t>(payload.size());
    header.key_bytes = static_cast<std::uint16_t>(std::min<std::size_t>(header.key_bytes, payload.size()));
    sample s{place, header, std::move(payload), {}};
    s.bytes.assign(static_cast<std::size_t>(frame_bytes(s.payload.size())),
                   std::byte{0xEE}); // padding must not be what was there
    std::ranges::transform(s.payload, s.bytes.begin() + frame_header_bytes,
                           [](auto b) { return static_cast<std::byte>(b); });
    finish_frame<C>(s.bytes.data(), s.place, s.header);
    return s;
}

template <checksum_policy C>
sample any_sample() {
    auto const type = *rc::gen::element(frame_type::put, frame_type::erase, frame_type::message, frame_type::edit,
                                        frame_type::snapshot, frame_type::mark, frame_type::index, frame_type::loss);
    frame_place const place{
        *rc::gen::suchThat<std::uint64_t>([](auto s) { return static_cast<std::uint32_t>(s) != 0; }),
        *rc::gen::inRange<std::uint64_t>(0, 1U << 28) * 8};
    return make_sample<C>(*rc::gen::arbitrary<std::vector<std::uint8_t>>(), place,
                          {.key_bytes = *rc::gen::arbitrary<std::uint16_t>(),
                           .type = type,
                           .flags = *rc::gen::inRange<std::uint8_t>(0, 4),
                           .lsn_delta = *rc::gen::arbitrary<std::uint32_t>(),
                           .mark_delta = *rc::gen::arbitrary<std::uint32_t>()});
}

bool same_header(frame_header const& a, frame_header const& b) {
    return a.payload_bytes == b.payload_bytes && a.key_bytes == b.key_bytes && a.type == b.type && a.flags == b.flags &&
           a.lsn_delta == b.lsn_delta && a.mark_delta == b.mark_delta;
}

template <checksum_policy C>
void round_trip() {
    CHECK(rc::check("what finish_frame wrote, read_frame reads", [] {
        auto const s = any_sample<C>();
        auto const seen = read_frame<C>(s.bytes, s.place);
        RC_ASSERT(seen.state == frame_state::intact);
        RC_ASSERT(same_header(seen.header, s.header));
        RC_ASSERT(seen.bytes() == s.bytes.size());
        RC_ASSERT(
            std::ranges::equal(seen.payload, s.payload, {}, {}, [](auto b) { return static_cast<std::byte>(b); }));
        RC_ASSERT(seen.key().size() == s.header.key_bytes);
        RC_ASSERT(seen.key().size() + seen.value().size() == s.payload.size());
    }));
}

} // namespace

TEST_CASE_TEMPLATE("P1: a frame reads back as it was written, under every checksum", C, checksum::crc32,
                   checksum::crc32c, checksum::xxh3_64) {
    round_trip<C>();
}

TEST_CASE("P2: each single bit flipped in a frame is noticed, and a damaged payload leaves its header believed") {
    CHECK(rc::check("single flips", [] {
        auto s = any_sample<checksum::crc32c>();
        for (std::size_t bit = 0; bit < s.bytes.size() * 8; ++bit) {
            auto const flip = static_cast<std::byte>(1U << bit % 8);
            s.bytes[bit / 8] ^= flip;
            auto const seen = read_frame<checksum::crc32c>(s.bytes, s.place);
            RC_ASSERT(seen.state != frame_state::intact);
            if (bit / 8 >= 24) RC_ASSERT(seen.state == frame_state::damaged && same_header(seen.header, s.header));
            else if (bit / 8 >= 4) RC_ASSERT(seen.state == frame_state::broken);
            else RC_ASSERT(seen.state == frame_state::absent);
            s.bytes[bit / 8] ^= flip;
        }
    }));
}

TEST_CASE("P2: a frame at another offset, or of another life with the same tag, does not verify") {
    CHECK(rc::check("place is part of every sum", [] {
        auto const s = any_sample<checksum::crc32c>();
        auto const moved = *rc::gen::suchThat(rc::gen::inRange<std::uint64_t>(0, 1U << 28),
                                              [&](auto at) { return at * 8 != s.place.offset; });
        RC_ASSERT(read_frame<checksum::crc32c>(s.bytes, {s.place.salt, moved * 8}).state == frame_state::broken);
        auto const other = *rc::gen::suchThat<std::uint32_t>([&](auto high) { return high != s.place.salt >> 32; });
        frame_place const reborn{std::uint64_t{other} << 32 | s.place.tag(), s.place.offset};
        RC_ASSERT(read_frame<checksum::crc32c>(s.bytes, reborn).state != frame_state::intact);
    }));
}

TEST_CASE("P2: a frame cut short anywhere does not verify") {
    CHECK(rc::check("every prefix", [] {
        auto const s = any_sample<checksum::crc32c>();
        for (std::size_t length = 0; length < s.bytes.size(); ++length) {
            std::vector<std::uint8_t> part(length);
            std::ranges::transform(s.bytes.begin(), s.bytes.begin() + static_cast<std::ptrdiff_t>(length), part.begin(),
                                   [](auto b) { return std::to_integer<std::uint8_t>(b); });
            exact_bytes const cut{part};
            auto const seen = read_frame<checksum::crc32c>(cut.view(), s.place);
            RC_ASSERT(seen.state == (length < frame_header_bytes ? frame_state::absent : frame_state::broken));
        }
    }));
}

TEST_CASE("P17: any bytes are some state of a frame, and none is read behind the end") {
    CHECK(rc::check("chance", [] {
        exact_bytes const bytes{*rc::gen::arbitrary<std::vector<std::uint8_t>>()};
        frame_place place{*rc::gen::arbitrary<std::uint64_t>(), 0};
        if (bytes.view().size() >= 4 && *rc::gen::arbitrary<bool>()) // so that chance gets past the tag
            place.salt = place.salt >> 32 << 32 | load<std::uint32_t>(bytes.view().data());
        auto const seen = read_frame<checksum::crc32c>(bytes.view(), place);
        RC_ASSERT(seen.state != frame_state::intact);
    }));
}

TEST_CASE("P17: a believed header never claims more than the room it has, whatever stands in it") {
    CHECK(rc::check("hostile headers whose mix holds", [] {
        std::vector<std::uint8_t> raw =
            *rc::gen::container<std::vector<std::uint8_t>>(64, rc::gen::arbitrary<std::uint8_t>());
        std::vector<std::byte> bytes(64);
        std::ranges::transform(raw, bytes.begin(), [](auto b) { return static_cast<std::byte>(b); });
        frame_place const place{0x1122334455667788U, 4096};
        store(bytes.data(), place.tag());
        auto const length = *rc::gen::element<std::uint32_t>(0, 1, 31, 32, 33, 0x7FFFFFFF, 0x80000000, 0xFFFFFFE0,
                                                             0xFFFFFFFF);
        store(bytes.data() + 8, length);
        store(bytes.data() + 4, frame_mix(place, bytes.data() + 8));
        auto const room = *rc::gen::inRange<std::uint64_t>(0, 65);
        auto const seen = peek_frame(bytes.data(), place, room);
        RC_ASSERT(room >= frame_header_bytes || seen.state == frame_state::absent);
        if (seen.state == frame_state::intact)
            RC_ASSERT(seen.bytes() <= room && seen.header.key_bytes <= seen.header.payload_bytes);
    }));
}

TEST_CASE("a 4 GiB length field is taken for a broken header, not for a frame") {
    std::vector<std::byte> bytes(128);
    frame_place const place{7, 512};
    finish_frame<checksum::crc32c>(bytes.data(), place, {.payload_bytes = 8, .type = frame_type::message});
    store(bytes.data() + 8, std::uint32_t{0xFFFFFFFF});
    store(bytes.data() + 4, frame_mix(place, bytes.data() + 8));
    CHECK(peek_frame(bytes.data(), place, bytes.size()).state == frame_state::broken);
    CHECK(frame_bytes(0xFFFFFFFF) == (std::uint64_t{1} << 32) + frame_header_bytes);
}

TEST_CASE("P1: marks read back as they were written; every other length is none") {
    CHECK(rc::check("marks", [] {
        auto const at = *rc::gen::inRange<std::uint64_t>(0, keel::lsn_highest.value);
        mark const m{
            .at = {at},
            .durable = {*rc::gen::inRange<std::uint64_t>(0, at + 1)},
            .clock_ns = *rc::gen::arbitrary<std::uint64_t>(),
            .segment = {*rc::gen::arbitrary<std::uint64_t>()},
            .first = {*rc::gen::inRange<std::uint64_t>(1, at + 2)},
            .salt = *rc::gen::arbitrary<std::uint64_t>(),
            .branch = *rc::gen::arbitrary<std::uint64_t>(),
            .kind = *rc::gen::element(mark_kind::start, mark_kind::periodic, mark_kind::idle, mark_kind::close)};
        auto const bytes = encode(m);
        RC_ASSERT(decode_mark(bytes) == m);
        for (std::size_t n = 0; n < bytes.size(); ++n) RC_ASSERT(!decode_mark(byte_view{bytes}.first(n)));
        auto longer = std::vector<std::byte>(bytes.begin(), bytes.end());
        longer.push_back({});
        RC_ASSERT(!decode_mark(longer));
    }));
}

TEST_CASE("P17: a mark that speaks of a later durable LSN than its own, or of an unknown kind, is none") {
    mark const good{.at = {5}, .durable = {5}, .segment = {1}, .first = {1}, .salt = 1};
    REQUIRE(decode_mark(encode(good)));
    auto late = good;
    late.durable = {6};
    CHECK_FALSE(decode_mark(encode(late)));
    auto odd = good;
    odd.kind = static_cast<mark_kind>(4);
    CHECK_FALSE(decode_mark(encode(odd)));
}

TEST_CASE("P1: declared losses read back as they were written") {
    CHECK(rc::check("losses", [] {
        std::vector<lsn_range> ranges;
        for (auto const first :
             *rc::gen::container<std::vector<std::uint64_t>>(rc::gen::inRange<std::uint64_t>(1, 1'000'000)))
            ranges.push_back({{first}, {first + *rc::gen::inRange<std::uint64_t>(0, 1000)}});
        RC_ASSERT(decode_losses(encode_losses(ranges)) == ranges);
    }));
}

TEST_CASE("P17: losses of half a range, of LSN 0 or that end before they begin are none") {
    CHECK_FALSE(decode_losses(std::vector<std::byte>(8)));
    CHECK_FALSE(decode_losses(std::vector<std::byte>(17)));
    CHECK_FALSE(decode_losses(std::vector<std::byte>(16)));
    CHECK_FALSE(decode_losses(encode_losses({{{3}, {2}}})));
    CHECK(decode_losses({})->empty());
    CHECK(rc::check("chance", [] {
        exact_bytes const bytes{*rc::gen::arbitrary<std::vector<std::uint8_t>>()};
        if (auto const ranges = decode_losses(bytes.view()))
            RC_ASSERT(ranges->size() * 16 == bytes.view().size() && std::ranges::none_of(*ranges, &lsn_range::empty));
        static_cast<void>(decode_mark(bytes.view()));
    }));
}

TEST_CASE("P17: a field reader never leaves its bytes, and says once and for all when it was asked to") {
    CHECK(rc::check("reads of all widths in any order", [] {
        exact_bytes const bytes{*rc::gen::arbitrary<std::vector<std::uint8_t>>()};
        field_reader in{bytes.view()};
        std::size_t taken = 0;
        bool ok = true;
        for (auto const what : *rc::gen::container<std::vector<int>>(rc::gen::inRange(0, 6))) {
            std::size_t const width = what == 0 ? 1 : what == 1 ? 2 : what == 2 ? 4 : what == 3 ? 8 : 16;
            ok = ok && width <= bytes.view().size() - taken;
            std::uint64_t value = 0;
            if (what == 0) value = in.get<std::uint8_t>();
            else if (what == 1) value = in.get<std::uint16_t>();
            else if (what == 2) value = in.get<std::uint32_t>();
            else if (what == 3) value = in.get<std::uint64_t>();
            else if (what == 4) value = in.bytes<16>() == std::array<std::byte, 16>{} ? 0 : 1;
            else value = in.view(16).size();
            if (ok) taken += width;
            else RC_ASSERT(value == 0);
            RC_ASSERT(in.ok() == ok);
            RC_ASSERT(in.left() == bytes.view().size() - taken);
        }
    }));
    field_reader empty{{}};
    CHECK(empty.view(~std::size_t{0}).empty());
    CHECK_FALSE(empty.ok());
}

TEST_CASE("P1: what a field writer laid out, a field reader takes; past its end it writes nothing and remembers") {
    CHECK(rc::check("little-endian fields", [] {
        auto const a = *rc::gen::arbitrary<std::uint8_t>();
        auto const b = *rc::gen::arbitrary<std::uint16_t>();
        auto const c = *rc::gen::arbitrary<std::uint32_t>();
        auto const d = *rc::gen::arbitrary<std::uint64_t>();
        std::array<std::byte, 16> bytes;
        bytes.fill(std::byte{0xAA});
        auto const room = *rc::gen::inRange<std::size_t>(0, 16);
        field_writer out{byte_span{bytes}.first(room)};
        out.put(a).put(b).put(c).put(d);
        RC_ASSERT(out.written() == 15U);
        RC_ASSERT(out.fits() == (room >= 15));
        RC_ASSERT(std::ranges::all_of(byte_span{bytes}.subspan(room), [](auto x) { return x == std::byte{0xAA}; }));
        if (!out.fits()) return;
        field_reader in{bytes};
        RC_ASSERT(in.get<std::uint8_t>() == a);
        RC_ASSERT(in.get<std::uint16_t>() == b);
        RC_ASSERT(in.get<std::uint32_t>() == c);
        RC_ASSERT(in.get<std::uint64_t>() == d);
        RC_ASSERT(bytes[1] == static_cast<std::byte>(b & 0xFF));
    }));
}
