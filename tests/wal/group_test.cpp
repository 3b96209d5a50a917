// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/group.hpp>

#include <keel/policy/checksum/crc32c.hpp>
#include <keel/wal/chunk_indexer.hpp>
#include <keel/wal/fail_over.hpp>

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

using keel::as_bytes;
using keel::KiB;
using keel::lsn;
using namespace keel::wal;
using sum = keel::checksum::crc32c;
namespace format = keel::format;

namespace {

constexpr std::uint64_t salt = 0x0123456789ABCDEF;

operation put(std::string_view key, std::string_view value) {
    return {.type = format::frame_type::put, .key = as_bytes(key), .value = as_bytes(value)};
}
/// A group with one batch of one record each, of these payload sizes, at LSN 1 and on.
frame_group group_of(std::vector<std::size_t> const& sizes, std::uint64_t offset, frame_encoder<sum>& encoder,
                     std::uint64_t first = 1) {
    frame_group out;
    out.reset(offset);
    for (auto const size : sizes) {
        std::string const value(size, 'v');
        auto const op = put("k", value);
        out.reserve_more(frame_bytes_of(std::span{&op, 1}), 1);
        encoder.put_batch(out, std::span{&op, 1}, lsn{first++}, lsn{0});
    }
    return out;
}

} // namespace

TEST_CASE("group: encoding within what was reserved moves no memory") {
    frame_encoder<sum> encoder{salt, lsn{1}};
    frame_group group;
    group.reset(4096);
    std::string const value(300, 'v');
    std::vector<operation> batch(7, put("key", value));
    group.reserve_more(frame_bytes_of(batch), 1);
    auto const* const bytes = group.bytes.data();
    auto const* const batches = group.batches.data();
    encoder.put_batch(group, batch, lsn{1}, lsn{0});
    CHECK(group.bytes.data() == bytes);
    CHECK(group.batches.data() == batches);
    CHECK(group.bytes.size() == frame_bytes_of(batch));
    CHECK(group.last() == lsn{7});
    CHECK(group.end() == 4096 + group.bytes.size());
}

TEST_CASE("group: of what is durable, the batches that touch the last block are kept, whatever the groups were") {
    constexpr std::uint64_t block = 512;
    for (std::size_t const size : {1U, 40U, 300U, 479U, 480U, 600U, 2000U}) {
        frame_encoder<sum> encoder{salt, lsn{1}};
        frame_group kept;
        kept.reset(block);
        auto offset = block;
        std::uint64_t next = 1;
        std::vector<placed_batch> all;
        for (std::size_t const count : {1U, 3U, 1U, 5U, 2U}) {
            auto const done = group_of(std::vector<std::size_t>(count, size), offset, encoder, next);
            next += count;
            offset = done.end();
            all.insert(all.end(), done.batches.begin(), done.batches.end());
            kept.reserve_more(done.bytes.size(), done.batches.size());
            auto const* const bytes = kept.bytes.data();
            keep_last_block(kept, done, block);
            CHECK_MESSAGE(kept.bytes.data() == bytes, "it was reserved");
            auto const last_block = (offset - 1) / block * block;
            std::vector<placed_batch> expected;
            for (auto const& b : all)
                if (b.end > last_block) expected.push_back(b);
            REQUIRE(kept.batches.size() == expected.size());
            CHECK(kept.batches.front().range.first == expected.front().range.first);
            CHECK(kept.offset == expected.front().begin);
            CHECK(kept.end() == offset);
        }
    }
}

TEST_CASE("group: whole batches are found again among bytes, and what is damaged or cut off is passed over") {
    frame_encoder<sum> encoder{salt, lsn{1}};
    auto group = group_of({10, 20, 30, 40}, 4096, encoder);
    auto const whole = group.batches;
    auto const find = [&](std::vector<std::byte> bytes) {
        frame_group in;
        in.reset(4096);
        in.bytes = std::move(bytes);
        find_batches<sum>(in, salt, lsn{1});
        std::vector<std::uint64_t> lsns;
        for (auto const& b : in.batches) lsns.push_back(b.range.first.value);
        return lsns;
    };
    CHECK(find(group.bytes) == std::vector<std::uint64_t>{1, 2, 3, 4});
    auto damaged = group.bytes;
    damaged[static_cast<std::size_t>(whole[1].begin - 4096) + 40] ^= std::byte{1};
    CHECK(find(damaged) == std::vector<std::uint64_t>{1, 3, 4});
    auto cut = group.bytes;
    cut.resize(cut.size() - 8);
    CHECK(find(cut) == std::vector<std::uint64_t>{1, 2, 3});
    CHECK(find({}).empty());
}

TEST_CASE("group: a batch of several records counts whole or not at all when it is found again") {
    frame_encoder<sum> encoder{salt, lsn{1}};
    frame_group group;
    group.reset(4096);
    std::string const value(100, 'v');
    std::vector<operation> const batch(3, put("key", value));
    group.reserve_more(2 * frame_bytes_of(batch), 2);
    encoder.put_batch(group, batch, lsn{1}, lsn{0});
    encoder.put_batch(group, batch, lsn{4}, lsn{0});
    for (std::size_t hurt = 0; hurt < 6; ++hurt) {
        frame_group in;
        in.reset(4096);
        in.bytes = group.bytes;
        in.bytes[hurt * static_cast<std::size_t>(format::frame_bytes(103)) + 60] ^= std::byte{1};
        find_batches<sum>(in, salt, lsn{1});
        REQUIRE(in.batches.size() == 1);
        CHECK(in.batches[0].range == (hurt < 3 ? keel::lsn_range{lsn{4}, lsn{6}} : keel::lsn_range{lsn{1}, lsn{3}}));
    }
}

TEST_CASE("chunk indexer: an index that is made and not used changes nothing") {
    constexpr std::uint64_t segment = 4096 * KiB;
    chunk_indexer<sum> chunks{segment, salt, {}};
    auto offset = format::frames_begin(segment);
    std::string const value(100, 'v');
    std::uint32_t delta = 1;
    auto const add = [&](int n) {
        for (int i = 0; i < n; ++i) {
            auto const key = "key" + std::to_string(delta);
            chunks.reserve_more(1, key.size());
            chunks.add(offset, delta++, format::frame_type::put, as_bytes(key));
            offset += format::frame_bytes(key.size() + value.size());
        }
    };
    while (!chunks.due(offset)) add(1);
    auto const once = chunks.make_index(offset);
    auto const again = chunks.make_index(offset);
    CHECK(once.payload == again.payload);
    CHECK(chunks.due(offset));
    chunks.begin_next_chunk(again);
    CHECK_FALSE(chunks.due(offset));
    CHECK(chunks.keys().size() == delta - 1);
    offset += format::frame_bytes(again.payload.size());
    auto const first = delta;
    while (!chunks.due(offset)) add(1);
    auto const second = chunks.make_index(offset);
    CHECK(second.chunk.first == first);
    CHECK(second.chunk.last == delta - 1);
    auto const decoded = format::decode_chunks(second.payload, offset, segment);
    REQUIRE(decoded);
    REQUIRE(decoded->size() == 2);
    CHECK(decoded->front().last == first - 1);
}

TEST_CASE("chunk indexer: a record without a key ends the indexes of its segment") {
    chunk_indexer<sum> chunks{64 * KiB, salt, {}};
    chunks.add(4096, 1, format::frame_type::message, {});
    CHECK_FALSE(chunks.due(60 * KiB));
    CHECK(chunks.keys().size() == 0);
}
