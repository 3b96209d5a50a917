// SPDX-License-Identifier: BSL-1.0
// A flag byte, then two manifest files (the first as long as the two bytes behind the flags say) or the payload of one edit. What
// is read builds a state; its snapshot builds one again.
#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/wal/manifest.hpp>

#include "support/fix_checks.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

namespace {

using namespace keel;
using C = checksum::crc32c;

void require(bool holds) {
    if (!holds) std::abort();
}

void check_state(format::manifest_state const& state) {
    for (auto const& [id, entry] : state.segments) require(id == entry.id && format::valid_segment_size(entry.size));
    for (auto const& l : state.losses) require(!l.empty());
    auto const again = format::applied({}, format::frame_type::snapshot, state.edit,
                                       format::snapshot_of(state).payload());
    require(again.has_value());
    require(again->losses == state.losses && again->log_start_lsn == state.log_start_lsn &&
            again->next_segment == state.next_segment);
    require(again->tables == state.tables && again->next_table == state.next_table);
}

void read_edit(byte_view in) {
    auto const bytes = std::make_unique<std::byte[]>(in.size());
    std::ranges::copy(in, bytes.get());
    if (auto const state = format::applied({}, format::frame_type::snapshot, 1, {bytes.get(), in.size()}))
        check_state(*state);
}

void read_files(byte_view in, unsigned flags) {
    std::size_t const first = std::min<std::size_t>(format::load<std::uint16_t>(in.data()), in.size() - 2);
    io::memory disk;
    static_cast<void>(disk.make_directory("db"));
    wal::layout const paths{"db"};
    for (int i = 0; i < 2; ++i) {
        auto const part = i == 0 ? in.subspan(2, first) : in.subspan(2 + first);
        std::vector<std::byte> file(part.begin(), part.end());
        if ((flags & 4) != 0) file.resize(8192);
        if ((flags & 2) != 0) test::fix_manifest<C>(file);
        static_cast<void>(disk.replace(paths.manifest(i), file));
    }
    auto const load = wal::load_manifest<C>(disk, paths);
    for (auto const& copy : load.copies) require(copy.present && (copy.readable || !copy.trouble.empty()));
    if (load.state) check_state(*load.state);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size < 3) return 0;
    auto const in = std::as_bytes(std::span{data + 1, size - 1});
    if ((data[0] & 1) != 0) read_files(in, data[0]);
    else read_edit(in);
    return 0;
}
