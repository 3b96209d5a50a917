// SPDX-License-Identifier: BSL-1.0
// A flag byte and a block: read as a header of every kind, and as an index frame, under two checksums. What is called good reads back the same after it
// was encoded again.
#include <keel/format/chunk_index.hpp>
#include <keel/format/manifest.hpp>
#include <keel/format/notes.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/checksum/crc32.hpp>
#include <keel/policy/checksum/crc32c.hpp>

#include "support/fix_checks.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

namespace {

using namespace keel;
using namespace keel::format;

void require(bool holds) {
    if (!holds) std::abort();
}

template <checksum_policy C>
void read_all(byte_view block) {
    if (auto const seen = decode_segment_header<C>(block); seen.good()) {
        require(valid_segment_size(seen.header.size));
        require(decode_segment_header<C>(encode<C>(seen.header)).header == seen.header);
    }
    if (auto const seen = decode_segment_footer<C>(block); seen.good) {
        require(seen.footer.section_count <= sections_max);
        auto const again = decode_segment_footer<C>(encode<C>(seen.footer));
        require(again.good && again.footer.seal == seen.footer.seal && again.footer.sections == seen.footer.sections);
    }
    if (auto const seen = decode_manifest_header<C>(block); seen.good())
        require(decode_manifest_header<C>(encode<C>(seen.header)).header == seen.header);
    if (auto const seen = decode_note<C>(block)) require(decode_note<C>(encode<C>(*seen)) == seen);
    static_cast<void>(newest_note<C>(block));
    constexpr std::uint64_t segment = 64 * KiB;
    for (auto const at : {std::uint64_t{4096} + 2048, segment / 2})
        if (auto const chunks = decode_chunks(block, at, segment))
            require(encode_chunks(*chunks).size() <= block.size());
    if (block.size() >= 16) static_cast<void>(peek_file_kind(block));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size < 1) return 0;
    auto const flags = data[0];
    auto const length = size - 1;
    auto const bytes = std::make_unique<std::byte[]>(length);
    std::ranges::copy(std::as_bytes(std::span{data + 1, length}), bytes.get());
    byte_span const block{bytes.get(), length};
    if ((flags & 1) != 0 && length >= 8) keel::test::fix_block<checksum::crc32c>(block);
    if ((flags & 2) != 0 && length >= 8) keel::test::fix_block<checksum::crc32>(block);
    read_all<checksum::crc32c>(block);
    read_all<checksum::crc32>(block);
    return 0;
}
