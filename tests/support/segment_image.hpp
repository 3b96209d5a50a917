// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_SEGMENT_IMAGE_HPP
#define KEEL_TESTS_SUPPORT_SEGMENT_IMAGE_HPP

// A segment's bytes, laid frame by frame by a test: for scans of what no writer would write.

#include <keel/format/frame.hpp>
#include <keel/format/mark.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/recovery/scan.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::test {

/// What a scan told its sink, batches that were not whole taken back.
struct collected_records {
    struct one {
        lsn at{};
        std::string payload{};
        std::uint64_t offset = 0;
        bool operator==(one const&) const = default;
    };
    std::vector<one> whole{};
    std::vector<one> open{};

    void record(lsn at, format::frame_view const& frame, std::uint64_t offset) {
        open.push_back({at, std::string{as_text(frame.payload)}, offset});
    }
    void batch_end(bool is_whole) {
        if (is_whole) whole.insert(whole.end(), open.begin(), open.end());
        open.clear();
    }
};

class segment_image {
public:
    using C = checksum::crc32c;

    explicit segment_image(std::uint64_t bytes = 4096, std::uint64_t begin = 512, lsn first = {1})
        : first_{first}, begin_{begin}, bytes_(static_cast<std::size_t>(bytes)), at_{begin} {}

    static constexpr std::uint64_t salt = 0xABCDEF0112345678U;

    /// Lays a frame behind the last one; gives its offset.
    std::uint64_t add(format::frame_header h, lsn at, std::string_view payload = {}) {
        auto const offset = at_;
        h.payload_bytes = static_cast<std::uint32_t>(payload.size());
        h.lsn_delta = static_cast<std::uint32_t>(at.value - first_.value + 1);
        std::ranges::copy(as_bytes(payload),
                          bytes_.begin() + static_cast<std::ptrdiff_t>(offset + format::frame_header_bytes));
        format::finish_frame<C>(bytes_.data() + offset, {salt, offset}, h);
        at_ += format::frame_bytes(payload.size());
        return offset;
    }
    /// A record; a batch of its own unless said otherwise.
    std::uint64_t record(std::uint64_t at, std::string_view payload = "payload",
                         std::uint8_t flags = format::whole_batch) {
        return add({.type = format::frame_type::message, .flags = flags}, {at}, payload);
    }
    std::uint64_t mark(std::uint64_t at, std::uint64_t durable, format::mark_kind kind = format::mark_kind::periodic) {
        auto const m = format::encode({.at = {at},
                                       .durable = {durable},
                                       .clock_ns = 7,
                                       .segment = {1},
                                       .first = first_,
                                       .salt = salt,
                                       .kind = kind});
        return add({.type = format::frame_type::mark, .flags = format::whole_batch}, {at}, as_text(m));
    }
    void skip(std::uint64_t bytes) { at_ += bytes; }

    [[nodiscard]] std::byte& operator[](std::uint64_t offset) { return bytes_.at(static_cast<std::size_t>(offset)); }
    [[nodiscard]] std::vector<std::byte>& bytes() noexcept { return bytes_; }
    [[nodiscard]] std::uint64_t end() const noexcept { return at_; }
    [[nodiscard]] recovery::segment_geometry geometry() const noexcept {
        return {.id = {1}, .salt = salt, .first = first_, .begin = begin_, .limit = bytes_.size()};
    }

    /// The image as a file, scanned.
    [[nodiscard]] std::pair<recovery::segment_run, collected_records> scan() const { return scan(geometry()); }
    [[nodiscard]] std::pair<recovery::segment_run, collected_records> scan(
        recovery::segment_geometry const& how) const {
        io::memory disk;
        static_cast<void>(disk.replace("segment", bytes_));
        return scan_file(disk, "segment", how);
    }
    [[nodiscard]] static std::pair<recovery::segment_run, collected_records> scan_file(
        io::memory disk, std::string const& path, recovery::segment_geometry const& how) {
        auto const file = disk.open(path, io::access::read_only, io::creation::must_exist);
        collected_records seen;
        auto run = recovery::scan_segment<C>(*file, how, seen);
        return {std::move(run), std::move(seen)};
    }

private:
    lsn first_;
    std::uint64_t begin_;
    std::vector<std::byte> bytes_;
    std::uint64_t at_;
};

} // namespace keel::test

#endif
