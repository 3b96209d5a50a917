// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_IO_TWO_OBJECTS_PART_HPP
#define KEEL_TESTS_IO_TWO_OBJECTS_PART_HPP

// What each part of these programs does: maps a file that is then cut short, and expects errors that name file and
// offset where the bytes are gone. Compiled many times: hidden and not, for several processors, into shared objects and
// into programs.

#include <keel/io/posix.hpp>

#include <array>
#include <string>
#include <utility>

#include <unistd.h>

namespace keel_part {

/// A checksum that the compiler may turn into vector code.
struct plain_sum {
    static constexpr auto id = keel::checksum_id::of("part");
    static constexpr std::string_view name = "plain_sum";
    std::uint64_t seen = 0;
    void update(keel::byte_view bytes) noexcept {
        for (auto const b : bytes) seen += std::to_integer<std::uint64_t>(b);
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return seen; }
};

/// 0: the error says what it should; 1: it does not.
inline int wrong(keel::result<void> const& got, std::string const& path, std::uint64_t offset, std::uint64_t length) {
    bool const said = !got && got.error().code == keel::errc::io_error && got.error().file == path &&
                      got.error().offset >= offset && got.error().offset < offset + length;
    return said ? 0 : 1;
}

/// The number of things that were not as they should be.
inline int meet_a_cut_file(std::string const& path) {
    keel::io::posix fs;
    auto file = fs.open(path, keel::io::access::read_write, keel::io::creation::if_missing);
    constexpr std::uint64_t length = 256 * keel::KiB, kept = 64 * keel::KiB;
    std::string const text(length, 'p');
    if (!file || !file->write(0, keel::as_bytes(text))) return 100;
    auto map = file->map(keel::io::access::read_write);
    if (!map || ::truncate(path.c_str(), static_cast<off_t>(kept)) != 0) return 101;
    std::array<std::byte, 200> out{};
    plain_sum sum;
    int failures = 0;
    failures += wrong(map->copy_out(2 * kept + 5, out), path, 2 * kept + 5, out.size());
    failures += wrong(map->verify(0, length, sum), path, kept, length - kept);
    failures += wrong(map->store(3 * kept, keel::as_bytes("lost")), path, 3 * kept, 4);
    failures += wrong(map->publish(2 * kept + 8, 1), path, 2 * kept + 8, 4);
    failures += map->copy_out(100, out) && map->store(0, keel::as_bytes("kept")) ? 0 : 1;
    static_cast<void>(fs.remove(path));
    return failures;
}

} // namespace keel_part

#endif
