// SPDX-License-Identifier: BSL-1.0
#include <keel/format/segment_header.hpp>

#include <keel/format/manifest.hpp>
#include <keel/format/notes.hpp>
#include <keel/policy/checksum/crc32.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/checksum/xxh3_64.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <set>
#include <vector>

namespace {

using namespace keel;
using namespace keel::format;
using C = checksum::crc32c;

std::uint64_t any64() { return *rc::gen::arbitrary<std::uint64_t>(); }
lsn any_lsn() { return {any64()}; }

template <std::size_t N>
std::array<std::byte, N> any_bytes() {
    std::array<std::byte, N> out;
    for (auto& b : out) b = static_cast<std::byte>(*rc::gen::arbitrary<std::uint8_t>());
    return out;
}
std::uint64_t any_salt() {
    return *rc::gen::suchThat<std::uint64_t>([](auto s) { return static_cast<std::uint32_t>(s) != 0; });
}

segment_link any_link() {
    return {.id = {any64()},
            .salt = any64(),
            .last = any_lsn(),
            .end = any64(),
            .aggregate = any64(),
            .chain = any64(),
            .ended = static_cast<segment_end>(*rc::gen::inRange(0, 6))};
}

template <checksum_policy Sum>
segment_header any_header() {
    segment_header h{.checksum = checksum_id{Sum::id}, .store = any_bytes<16>()};
    h.id = {*rc::gen::positive<std::uint64_t>()};
    h.place = {1 + any64() % h.id.value};
    h.salt = any_salt();
    h.branch = any64();
    h.created_ns = any64();
    h.size = *rc::gen::inRange<std::uint64_t>(1, segment_bytes_max / 4096 + 1) * 4096;
    h.first = {*rc::gen::inRange<std::uint64_t>(1, std::uint64_t{1} << 62)};
    h.durable_mark = {*rc::gen::inRange<std::uint64_t>(0, h.first.value)};
    h.durable_edit = any64() >> 2;
    h.void_from = {*rc::gen::element<std::uint64_t>(0, h.first.value, h.first.value + 7)};
    h.state = static_cast<segment_state>(*rc::gen::inRange(1, 4));
    h.previous = any_link();
    return h;
}

segment_seal any_seal() {
    segment_seal s{
        .id = {any64()}, .salt = any64(), .range = {any_lsn(), any_lsn()}, .count = any64(), .data_end = any64()};
    s.first_time_ns = any64();
    s.last_time_ns = any64();
    s.aggregate = any64();
    s.chain = any64();
    return s;
}

segment_footer any_footer() {
    segment_footer f{.seal = any_seal(), .section_count = *rc::gen::inRange<std::uint32_t>(0, sections_max + 1)};
    for (std::uint32_t i = 0; i < f.section_count; ++i)
        f.sections[i] = {*rc::gen::arbitrary<std::uint32_t>(), *rc::gen::arbitrary<std::uint32_t>(),
                         *rc::gen::arbitrary<std::uint32_t>(), any64()};
    return f;
}

manifest_header any_manifest_header() {
    return {.checksum = checksum_id{C::id},
            .store = any_bytes<16>(),
            .salt = any_salt(),
            .branch = any64(),
            .first_edit = *rc::gen::inRange<std::uint64_t>(1, std::uint64_t{1} << 62),
            .size = *rc::gen::inRange<std::uint64_t>(manifest_bytes_min, manifest_bytes_max + 1),
            .created_ns = any64()};
}

note any_note() {
    note n{.sequence = any64(), .store = any_bytes<16>(), .branch = any64()};
    n.boot.bytes = any_bytes<16>();
    n.self = {any64(), any64()};
    n.segment = {any64()};
    n.accepted = {any_lsn().value >> 2};
    n.durable = {any_lsn().value >> 2};
    n.end = any64();
    n.newest_index = any64();
    n.attempts = *rc::gen::arbitrary<std::uint32_t>();
    return n;
}

/// Every single bit of the block turned over, one at a time.
template <class Block, class StillGood>
bool any_flip_passes(Block block, StillGood const& good) {
    for (std::size_t bit = 0; bit < block.size() * 8; ++bit) {
        auto const flip = static_cast<std::byte>(1U << bit % 8);
        block[bit / 8] ^= flip;
        if (good(block)) return true;
        block[bit / 8] ^= flip;
    }
    return false;
}

} // namespace

TEST_CASE_TEMPLATE("P1: a segment header reads back as it was written, under every checksum", Sum, checksum::crc32,
                   checksum::crc32c, checksum::xxh3_64) {
    CHECK(rc::check("headers", [] {
        auto const h = any_header<Sum>();
        auto const block = encode<Sum>(h);
        auto const seen = decode_segment_header<Sum>(block);
        RC_ASSERT(seen.good());
        RC_ASSERT(seen.header == h);
        RC_ASSERT(block == encode<Sum>(seen.header));
    }));
}

TEST_CASE("P1: a footer reads back as it was written") {
    CHECK(rc::check("footers", [] {
        auto const f = any_footer();
        auto const seen = decode_segment_footer<C>(encode<C>(f));
        RC_ASSERT(seen.good);
        RC_ASSERT(seen.footer.seal == f.seal);
        RC_ASSERT(seen.footer.section_count == f.section_count);
        RC_ASSERT(seen.footer.sections == f.sections);
    }));
}

TEST_CASE("P1: a manifest header and a note read back as they were written") {
    CHECK(rc::check("manifest headers", [] {
        auto const h = any_manifest_header();
        auto const seen = decode_manifest_header<C>(encode<C>(h));
        RC_ASSERT(seen.good());
        RC_ASSERT(seen.header == h);
    }));
    CHECK(rc::check("notes", [] {
        auto const n = any_note();
        RC_ASSERT(decode_note<C>(encode<C>(n)) == n);
    }));
}

TEST_CASE("P2 P3: each single bit flipped in a header, a footer or a note is noticed") {
    CHECK(rc::check("all 4096 bits of a segment header", [] {
        RC_ASSERT(!any_flip_passes(encode<C>(any_header<C>()),
                                   [](auto const& b) { return decode_segment_header<C>(b).good(); }));
    }));
    CHECK(rc::check("all 4096 bits of a footer", [] {
        RC_ASSERT(
            !any_flip_passes(encode<C>(any_footer()), [](auto const& b) { return decode_segment_footer<C>(b).good; }));
    }));
    CHECK(rc::check("all 4096 bits of a manifest header", [] {
        RC_ASSERT(!any_flip_passes(encode<C>(any_manifest_header()),
                                   [](auto const& b) { return decode_manifest_header<C>(b).good(); }));
    }));
    CHECK(rc::check("all 2048 bits of a note", [] {
        RC_ASSERT(!any_flip_passes(encode<C>(any_note()), [](auto const& b) { return decode_note<C>(b).has_value(); }));
    }));
}

TEST_CASE("P17: bytes of any kind and length are no header, footer or note unless they verify") {
    CHECK(rc::check("chance", [] {
        auto const raw = *rc::gen::container<std::vector<std::uint8_t>>(
            *rc::gen::element<std::size_t>(0, 1, 15, 16, 255, 256, 511, 512, 513), rc::gen::arbitrary<std::uint8_t>());
        std::vector<std::byte> bytes(raw.size());
        std::ranges::transform(raw, bytes.begin(), [](auto b) { return static_cast<std::byte>(b); });
        if (bytes.size() >= 8)
            store(bytes.data(), *rc::gen::element(segment_magic, footer_magic, manifest_magic, notes_magic));
        RC_ASSERT(!decode_segment_header<C>(bytes).good());
        RC_ASSERT(!decode_segment_footer<C>(bytes).good);
        RC_ASSERT(!decode_manifest_header<C>(bytes).good());
        RC_ASSERT(!decode_note<C>(bytes).has_value());
        RC_ASSERT(!newest_note<C>(bytes).has_value());
    }));
}

TEST_CASE("P17: a header that verifies and makes no sense is damaged, not believed") {
    auto const refuses = [](auto change) {
        segment_header h{.checksum = checksum_id{C::id},
                         .id = {1},
                         .salt = salt_of({1}, 9),
                         .size = 4096,
                         .first = {1},
                         .place = {1}};
        REQUIRE(decode_segment_header<C>(encode<C>(h)).good());
        change(h);
        return decode_segment_header<C>(encode<C>(h)).problem == header_problem::damaged;
    };
    CHECK(refuses([](auto& h) { h.id = {}; }));
    CHECK(refuses([](auto& h) { h.place = {}; }));
    CHECK(refuses([](auto& h) { h.place = {2}; })); // behind its own
    CHECK(refuses([](auto& h) { h.salt = std::uint64_t{7} << 32; }));
    CHECK(refuses([](auto& h) { h.size = 4095; }));
    CHECK(refuses([](auto& h) { h.size = 0; }));
    CHECK(refuses([](auto& h) { h.size = 4 * GiB; }));
    CHECK(refuses([](auto& h) { h.state = static_cast<segment_state>(0); }));
    CHECK(refuses([](auto& h) { h.state = static_cast<segment_state>(4); }));
    CHECK(refuses([](auto& h) { h.previous.ended = static_cast<segment_end>(6); }));

    segment_footer f;
    f.section_count = sections_max + 1;
    header_block block = encode<C>(segment_footer{});
    store(block.data() + 88, std::uint64_t{sections_max + 1});
    format::detail::seal_block<C>(block);
    CHECK_FALSE(decode_segment_footer<C>(block).good);
}

TEST_CASE("another format, another checksum and another kind of file are told apart from damage") {
    segment_header const h{
        .checksum = checksum_id{C::id}, .id = {1}, .salt = salt_of({1}, 9), .size = 4096, .first = {1}, .place = {1}};
    auto const problem = [](auto const& block) { return decode_segment_header<C>(block).problem; };

    auto newer = h;
    newer.format = format_number + 1;
    CHECK(problem(encode<C>(newer)) == header_problem::other_format);
    CHECK(problem(encode<checksum::xxh3_64>(h)) == header_problem::other_checksum);
    manifest_header const m{.checksum = checksum_id{C::id}, .salt = 1, .size = manifest_bytes_min};
    CHECK(problem(encode<C>(m)) == header_problem::not_ours);
    CHECK(decode_manifest_header<C>(encode<C>(h)).problem == header_problem::not_ours);
    CHECK(decode_manifest_header<C>(encode<checksum::xxh3_64>(m)).problem == header_problem::other_checksum);
    auto damaged = encode<C>(h);
    damaged[100] ^= std::byte{1};
    CHECK(problem(damaged) == header_problem::damaged);
    CHECK(problem(header_block{}) == header_problem::not_ours);
}

TEST_CASE("of two notes the newer one that verifies is taken, whichever slot it stands in") {
    CHECK(rc::check("two slots", [] {
        auto a = any_note();
        auto b = any_note();
        RC_PRE(a.sequence != b.sequence);
        std::array<std::byte, 2 * note_bytes> file;
        std::ranges::copy(encode<C>(a), file.begin());
        std::ranges::copy(encode<C>(b), file.begin() + note_bytes);
        auto const& newer = a.sequence > b.sequence ? a : b;
        auto const& older = a.sequence > b.sequence ? b : a;
        RC_ASSERT(newest_note<C>(file) == newer);
        file[(a.sequence > b.sequence ? 0 : note_bytes) + 9] ^= std::byte{4};
        RC_ASSERT(newest_note<C>(file) == older);
        file[(a.sequence > b.sequence ? note_bytes : 0) + 9] ^= std::byte{4};
        RC_ASSERT(!newest_note<C>(file));
    }));
}

TEST_CASE("no two ids share a tag, and no id that is used has none") {
    CHECK(rc::check("the salt's low word is a bijection of the id's", [] {
        auto const random = *rc::gen::arbitrary<std::uint32_t>();
        auto const id = *rc::gen::suchThat<std::uint64_t>([](auto v) { return static_cast<std::uint32_t>(v) != 0; });
        auto const salt = salt_of({id}, random);
        RC_ASSERT(static_cast<std::uint32_t>(salt) != 0);
        RC_ASSERT(salt >> 32 == random);
        auto const other =
            *rc::gen::suchThat<std::uint32_t>([&](auto v) { return v != static_cast<std::uint32_t>(id); });
        RC_ASSERT(static_cast<std::uint32_t>(salt_of({other}, random)) != static_cast<std::uint32_t>(salt));
    }));
    std::set<std::uint32_t> seen;
    for (std::uint64_t id = 1; id <= 100'000; ++id) seen.insert(static_cast<std::uint32_t>(salt_of({id}, 0)));
    CHECK(seen.size() == 100'000);
}

TEST_CASE("P4: the geometry of every segment size leaves room for what sealing needs") {
    for (auto size = segment_bytes_min; size <= segment_bytes_max; size *= 2) {
        CHECK(valid_segment_size(size));
        CHECK(frames_begin(size) % frame_alignment == 0);
        CHECK(frames_begin(size) >= header_bytes);
        CHECK(frames_limit(size) <= footer_offset(size));
        CHECK(footer_offset(size) + header_bytes == second_header_offset(size));
        CHECK(second_header_offset(size) + header_bytes == size);
    }
    CHECK_FALSE(valid_segment_size(segment_bytes_max * 2));
    CHECK_FALSE(valid_segment_size(segment_bytes_min / 2));
    CHECK_FALSE(valid_segment_size(segment_bytes_min + 512));
}

TEST_CASE("P2: an aggregate changes with each check in it, their order, and the window they stand in") {
    CHECK(rc::check("aggregates", [] {
        auto const checks = *rc::gen::nonEmpty(rc::gen::arbitrary<std::vector<std::uint64_t>>());
        auto const sum = [](std::vector<std::uint64_t> const& of, std::uint64_t step) {
            aggregate_builder<C> out;
            for (std::size_t i = 0; i < of.size(); ++i) out.add(4096 + i * step, of[i]);
            return out.value();
        };
        auto const plain = sum(checks, 64);
        RC_ASSERT(plain == sum(checks, 64));
        auto changed = checks;
        changed[*rc::gen::inRange<std::size_t>(0, checks.size())] ^= std::uint64_t{1} << *rc::gen::inRange(0, 64);
        RC_ASSERT(sum(changed, 64) != plain);
        auto shorter = checks;
        shorter.pop_back();
        RC_ASSERT(sum(shorter, 64) != plain);
        auto turned = checks;
        std::ranges::reverse(turned);
        if (turned != checks) RC_ASSERT(sum(turned, 64) != plain);
    }));
}

TEST_CASE("P2: a chain value changes with every fact that identifies a segment") {
    CHECK(rc::check("chains", [] {
        auto const s = any_seal();
        auto const before = any64();
        auto const chain = chain_value<C>(before, s);
        auto const differs = [&](auto change) {
            auto other = s;
            change(other);
            return chain_value<C>(before, other) != chain;
        };
        RC_ASSERT(chain_value<C>(before ^ 1, s) != chain);
        RC_ASSERT(differs([](auto& o) { ++o.id.value; }));
        RC_ASSERT(differs([](auto& o) { ++o.salt; }));
        RC_ASSERT(differs([](auto& o) { ++o.range.first.value; }));
        RC_ASSERT(differs([](auto& o) { ++o.range.last.value; }));
        RC_ASSERT(differs([](auto& o) { ++o.count; }));
        RC_ASSERT(differs([](auto& o) { ++o.aggregate; }));
    }));
}
