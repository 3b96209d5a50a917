// SPDX-License-Identifier: BSL-1.0
#include <keel/format/block.hpp>
#include <keel/format/table.hpp>
#include <keel/policy/checksum/crc32c.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <vector>

// Blocks of tables and the header of one: what is written is read back, and bytes that nobody wrote end a walk, never more.

namespace {

struct block_entry {
    std::string key;
    std::string value;
    std::uint64_t age;
    bool tombstone;
    bool operator==(block_entry const&) const = default;
};
bool in_order(block_entry const& a, block_entry const& b) { return a.key != b.key ? a.key < b.key : a.age > b.age; }

std::vector<block_entry> random_entries() {
    std::vector<block_entry> all;
    auto const n = *rc::gen::inRange(0, 80);
    for (int i = 0; i < n; ++i) {
        auto key = *rc::gen::oneOf(
            rc::gen::container<std::string>(rc::gen::inRange('a', 'd')),
            rc::gen::map(rc::gen::inRange(0, 30), [](int k) { return std::string(150, 'p') + std::to_string(k); }));
        all.push_back({std::move(key), std::string(static_cast<std::size_t>(*rc::gen::inRange(0, 200)), 'v'),
                       *rc::gen::oneOf(rc::gen::inRange<std::uint64_t>(0, 100), rc::gen::arbitrary<std::uint64_t>()),
                       *rc::gen::arbitrary<bool>()});
    }
    std::ranges::sort(all, in_order);
    auto const same = [](auto const& a, auto const& b) { return a.key == b.key && a.age == b.age; };
    all.erase(std::unique(all.begin(), all.end(), same), all.end());
    return all;
}
std::vector<std::byte> payload_of(std::vector<block_entry> const& all) {
    keel::format::block_builder b;
    for (auto const& e : all) b.add(e.key, e.value, e.age, e.tombstone);
    RC_ASSERT(b.empty() == all.empty());
    auto const size = b.size();
    auto const payload = b.finish();
    RC_ASSERT(payload.size() == size);
    return {payload.begin(), payload.end()};
}
block_entry entry_at(keel::format::block_reader const& in) {
    return {std::string{in.key()}, std::string{in.value()}, in.age(), in.tombstone()};
}

} // namespace

TEST_CASE(
    "block: of a word copied from memory the first bytes are told from the others on machines of either byte order") {
    using keel::format::first_bytes;
    for (std::size_t byte = 0; byte < 8; ++byte)
        for (std::size_t count = 1; count <= 8; ++count) {
            // The word in which only this byte of memory is set, as a machine of each kind has it.
            auto const little = std::uint64_t{0xA5} << (8 * byte);
            auto const big = std::uint64_t{0xA5} << (8 * (7 - byte));
            CHECK((first_bytes<std::endian::little>(little, count) != 0) == (byte < count));
            CHECK((first_bytes<std::endian::big>(big, count) != 0) == (byte < count));
        }
    static_assert(first_bytes<std::endian::little>(1, 8) == 1);
    static_assert(first_bytes<std::endian::big>(1, 8) == 1);
}

TEST_CASE("detail: short keys are copied and compared as long ones are") {
    for (std::size_t n = 0; n < 70; ++n) {
        std::string text;
        for (std::size_t i = 0; i < n; ++i) text += static_cast<char>('a' + i % 26);
        std::string to(n + 2, '.');
        keel::detail::copy_text(to.data() + 1, text.data(), n);
        CHECK(to == '.' + text + '.');
        CHECK(keel::detail::same_text(text, to.substr(1, n)));
        CHECK_FALSE(keel::detail::same_text(text, text + 'x'));
        for (std::size_t i = 0; i < n; ++i) {
            auto other = text;
            other[i] = '#';
            CHECK_FALSE(keel::detail::same_text(text, other));
        }
    }
}

TEST_CASE("blocks: what was put in comes out, forward, backward and from any key") {
    CHECK(rc::check([] {
        auto const all = random_entries();
        auto const payload = payload_of(all);
        keel::format::block_reader in{payload};
        std::vector<block_entry> seen;
        for (in.first(); in.valid(); in.next()) {
            RC_ASSERT(in.repeats() == (!seen.empty() && seen.back().key == in.key()));
            seen.push_back(entry_at(in));
        }
        RC_ASSERT(in.whole());
        RC_ASSERT(seen == all);
        seen.clear();
        for (in.last(); in.valid(); in.previous()) seen.push_back(entry_at(in));
        std::ranges::reverse(seen);
        RC_ASSERT(seen == all);
        auto wanted = *rc::gen::container<std::string>(rc::gen::inRange('a', 'd'));
        if (!all.empty() && *rc::gen::arbitrary<bool>())
            wanted = all[static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(all.size())))].key;
        auto const age = *rc::gen::inRange<std::uint64_t>(0, 100);
        in.seek(wanted, age);
        auto const first = std::ranges::find_if(
            all, [&](auto const& e) { return e.key > wanted || (e.key == wanted && e.age <= age); });
        RC_ASSERT(in.valid() == (first != all.end()));
        if (in.valid()) RC_ASSERT(entry_at(in) == *first);
        auto onward = in;
        for (auto e = first; e != all.end(); ++e, onward.next()) RC_ASSERT((onward.valid() && entry_at(onward) == *e));
        RC_ASSERT(!onward.valid());
        RC_ASSERT(onward.whole());
        in.previous();
        RC_ASSERT(in.valid() == (first != all.begin()));
        if (in.valid()) RC_ASSERT(entry_at(in) == *std::prev(first));
        RC_ASSERT(in.whole());
    }));
}

TEST_CASE("P17: a block that nobody wrote ends the walk") {
    CHECK(rc::check([] {
        auto payload = payload_of(random_entries());
        auto const changes = *rc::gen::inRange(1, 8);
        for (int i = 0; i < changes && !payload.empty(); ++i)
            payload[static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(payload.size())))] =
                static_cast<std::byte>(*rc::gen::arbitrary<std::uint8_t>());
        payload.resize(static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(payload.size()) + 1)));
        payload.shrink_to_fit(); // one byte more read is a finding of the sanitizers
        keel::format::block_reader in{payload};
        std::size_t steps = 0;
        for (in.first(); in.valid() && steps <= payload.size(); in.next()) ++steps;
        RC_ASSERT(steps <= payload.size());
        in.seek("b", 3);
        for (steps = 0; in.valid() && steps <= payload.size(); in.previous()) ++steps;
        RC_ASSERT(steps <= payload.size());
        in.last();
        if (in.valid()) static_cast<void>(in.place());
    }));
}

TEST_CASE("tables: a header says again what was written, and none that does not hold together is believed") {
    using C = keel::checksum::crc32c;
    keel::format::table_header h;
    h.id = {7};
    h.salt = 0x1234567800000001;
    h.size = 512 + 4096 + 4128 + 64 + 512;
    h.lsns = {{10}, {500}};
    h.records = 30;
    h.blocks = 1;
    h.blocks_end = 512 + 4096;
    h.filter_blocks = 1;
    h.filter_bits = 6;
    h.root = {512 + 4096 + 4128, 64};
    h.index_blocks = 1;
    auto const block = keel::format::encode<C>(h);
    REQUIRE(keel::format::decode_table_header<C>(block));
    CHECK(*keel::format::decode_table_header<C>(block) == h);
    for (std::size_t bit = 0; bit < 8 * block.size(); ++bit) {
        auto hurt = block;
        hurt[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
        CHECK(!keel::format::decode_table_header<C>(hurt));
    }
    auto const refused = [&](auto change) {
        auto wrong = h;
        change(wrong);
        return !keel::format::decode_table_header<C>(keel::format::encode<C>(wrong));
    };
    CHECK(refused([](auto& x) { x.size = 100; }));
    CHECK(refused([](auto& x) { x.size = ~std::uint64_t{0}; }));
    CHECK(refused([](auto& x) { x.root.offset = 8; }));
    CHECK(refused([](auto& x) { x.root.bytes = 1 << 20; }));
    CHECK(refused([](auto& x) { x.blocks_end = ~std::uint64_t{7}; }));
    CHECK(refused([](auto& x) { x.filter_blocks = ~std::uint64_t{0}; }));
    CHECK(refused([](auto& x) { x.lsns = {{5}, {4}}; }));
    CHECK(refused([](auto& x) { x.salt = 0xFFFFFFFF00000000; }));
}
