// SPDX-License-Identifier: BSL-1.0
#include <keel/format/chunk_index.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <vector>

// What an index frame in a segment says of the segment's chunks: read back as it was written, and refused where it contradicts itself.

namespace {

namespace kf = keel::format;
constexpr std::uint64_t chunk_segment = 64 * keel::KiB;

struct index_frame {
    std::uint64_t offset = 0;
    std::vector<kf::indexed_chunk> chunks{};
    [[nodiscard]] std::vector<std::byte> payload() const {
        auto bytes = kf::encode_chunks(chunks);
        kf::index_shape const shape{kf::block_bytes(chunk_segment), chunks.back().records};
        bytes.resize(bytes.size() + static_cast<std::size_t>(shape.bytes()));
        return bytes;
    }
    [[nodiscard]] auto read() const { return kf::decode_chunks(payload(), offset, chunk_segment); }
};

/// As a writer makes them, each index right behind its chunk.
index_frame some_chunks(int count) {
    index_frame out;
    kf::indexed_chunk before{.end = static_cast<std::uint32_t>(kf::frames_begin(chunk_segment))};
    for (int i = 0; i < count; ++i) {
        kf::indexed_chunk c{
            .begin = before.end, .first = before.last + 1, .shared = 3, .check = 7U + static_cast<unsigned>(i)};
        c.records = 20;
        c.last = c.first + c.records - 1;
        c.end = c.begin + (i == 0 ? 0U : 4096U + 32U + 8U + 40U * static_cast<std::uint32_t>(i)) + c.records * 64;
        out.offset = c.end;
        c.blocks = static_cast<std::uint32_t>(c.end + 32 + kf::chunk_blocks_offset(out.chunks.size() + 1));
        out.chunks.push_back(before = c);
    }
    return out;
}

} // namespace

TEST_CASE("format: the chunks that an index frame names are read back") {
    for (int n = 1; n < 5; ++n) {
        auto const frame = some_chunks(n);
        auto const seen = frame.read();
        REQUIRE(seen);
        CHECK(*seen == frame.chunks);
    }
}

TEST_CASE("format: an index frame that contradicts itself or its place is none") {
    auto const good = some_chunks(3);
    REQUIRE(good.read());
    auto const refused = [&](auto const& change) {
        auto bad = good;
        change(bad);
        CHECK(!bad.read());
    };
    refused([](auto& f) { f.chunks[0].begin += 8; });                   // does not begin where frames do
    refused([](auto& f) { f.chunks[1].begin += 8; });                   // a gap
    refused([](auto& f) { f.chunks[1].end = f.chunks[1].begin; });      // nothing in it
    refused([](auto& f) { f.chunks[1].first += 1; });                   // an LSN is left out
    refused([](auto& f) { f.chunks[0].first = 2; });                    // of the segment's first ones
    refused([](auto& f) { f.chunks[2].last += 1; });                    // more LSNs than records
    refused([](auto& f) { f.chunks[2].records += 1; });                 // and fewer
    refused([](auto& f) { f.chunks[2].records = 0; });                  // none
    refused([](auto& f) { f.chunks[1].shared = 65536; });               // no key is so long
    refused([](auto& f) { f.chunks[1].blocks = f.chunks[1].end - 8; }); // inside its own chunk
    refused([](auto& f) { f.chunks[1].blocks = chunk_segment - 8; });   // behind the frames
    refused([](auto& f) { f.chunks[1].blocks += 4; });                  // nothing stands there
    refused([](auto& f) { f.chunks[2].blocks += 8; });                  // not its own blocks
    refused([](auto& f) { f.offset -= 8; });                            // not where it was written
    refused([](auto& f) { f.chunks[2].end = static_cast<std::uint32_t>(f.offset) + 8; }); // covers itself
    refused([](auto& f) { f.chunks[0].records = 0xFFFFFFFF; }); // a number that nothing was allocated by
}

TEST_CASE("format: bytes that nobody wrote name no chunks, or such as fit the segment") {
    CHECK(rc::check("arbitrary changes", [] {
        auto const frame = some_chunks(*rc::gen::inRange(1, 5));
        auto bytes = frame.payload();
        auto const changes = *rc::gen::inRange(1, 4);
        for (int i = 0; i < changes; ++i)
            bytes[*rc::gen::inRange<std::size_t>(0, 8 + 40 * frame.chunks.size())] =
                static_cast<std::byte>(*rc::gen::arbitrary<std::uint8_t>());
        if (*rc::gen::arbitrary<bool>()) bytes.resize(*rc::gen::inRange<std::size_t>(0, bytes.size()));
        auto const seen = kf::decode_chunks(bytes, frame.offset, chunk_segment);
        if (!seen) return;
        for (auto const& c : *seen) {
            RC_ASSERT(c.begin < c.end);
            RC_ASSERT(c.end <= frame.offset);
            kf::index_shape const shape{kf::block_bytes(chunk_segment), c.records};
            RC_ASSERT(c.blocks + shape.bytes() <= kf::frames_limit(chunk_segment));
        }
    }));
}
