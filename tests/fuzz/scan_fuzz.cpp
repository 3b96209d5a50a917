// SPDX-License-Identifier: BSL-1.0
// A flag byte and a segment file of any length. The scan ends, reads nothing outside of the file, and its run is sound: extents in
// order, every record it told of verifies where it says.
#include "support/fix_checks.hpp"
#include "support/segment_image.hpp"

#include <keel/recovery/take_inventory.hpp>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

namespace {

using namespace keel;
using namespace keel::test;
using C = segment_image::C;

void require(bool holds) {
    if (!holds) std::abort();
}

void check_run(recovery::segment_run const& run, collected_records const& seen, recovery::segment_geometry const& geo) {
    lsn last{};
    std::uint64_t records = 0;
    for (auto const& e : run.extents) {
        require(!e.range.empty() && e.range.first > last && e.begin >= geo.begin && e.begin < e.end &&
                e.end <= geo.limit);
        last = e.range.last;
        records += e.range.size();
    }
    require(records == run.records && seen.whole.size() == records && seen.open.empty());
    std::uint64_t behind = 0;
    for (auto const& b : run.bad) {
        require(b.offset >= behind && b.length != 0 && b.offset + b.length <= geo.limit);
        behind = b.offset + b.length;
    }
    require(run.data_end <= run.tag_end && run.tag_end <= geo.limit);
}

void check_records(collected_records const& seen, byte_view file, recovery::segment_geometry const& geo) {
    std::vector<std::byte> padded(file.begin(), file.end());
    padded.resize(static_cast<std::size_t>(geo.limit)); // a file cut short reads as zeros
    for (auto const& r : seen.whole) {
        auto const frame = format::read_frame<C>(byte_view{padded}.subspan(static_cast<std::size_t>(r.offset)),
                                                 {geo.salt, r.offset});
        require(frame.state == format::frame_state::intact && as_text(frame.payload) == r.payload);
        require(geo.first.value - 1 + frame.header.lsn_delta == r.at.value);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    if (size < 1) return 0;
    auto const in = std::as_bytes(std::span{data + 1, size - 1});
    std::vector<std::byte> file(in.begin(), in.end());
    auto const flags = data[0];
    recovery::segment_geometry geo{.id = {1}, .salt = segment_image::salt, .first = {1}, .begin = 512, .limit = 4096};
    if ((flags & 2) != 0) geo.limit = std::max<std::uint64_t>(512, file.size());
    if ((flags & 4) != 0) geo.known_end = 1024;
    if ((flags & 8) != 0) geo.first = {std::uint64_t{1} << 40};
    if ((flags & 1) != 0) fix_frames<C>(file, geo.salt, geo.begin, geo.limit);
    io::memory disk;
    require(disk.replace("segment", file).has_value());
    if ((flags & 16) != 0 && !file.empty()) require(disk.fail_reads("segment", data[size - 1] * 8U, 1).has_value());
    auto const [run, seen] = segment_image::scan_file(disk, "segment", geo);
    check_run(run, seen, geo);
    check_records(seen, file, geo);
    auto const opened = disk.open("segment", io::access::read_only, io::creation::must_exist);
    static_cast<void>(recovery::detail::find_marks<C>(*opened, file.size(), {}));
    return 0;
}
