// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_PACKED_STORE_HPP
#define KEEL_TESTS_SUPPORT_PACKED_STORE_HPP

// A store's folder as one run of bytes, the input of open_fuzz: a flag byte, then for each file
//   name u8 (see packed_names) | stored u16 | size u16: in units of 16 bytes; bit 15: the first 512 bytes stand again at the end
//   `stored` bytes; the rest of the file is zeros
// Any bytes are some folder.

#include "support/damage_tools.hpp"
#include "support/fix_checks.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace keel::test {

inline constexpr std::array<char const*, 14> packed_names{
    "db/manifest.0",
    "db/manifest.1",
    "db/notes",
    "db/log/0000000000000001.seg",
    "db/log/0000000000000002.seg",
    "db/log/0000000000000003.seg",
    "db/log/0000000000000004.seg",
    "db/log/0000000000000005.seg",
    "db/log/other.seg",
    "db/log/prepare.tmp",
    "db/manifest.0.tmp",
    "db/lock",
    "db/tables/0000000000000001.tab",
    "db/tables/0000000000000002.tab",
};

/// The flag byte.
struct packed_flags {
    bool fix_segments = false;
    bool fix_manifests = false;
    bool fix_notes = false;
    bool read_only = false;
    bool write = false; ///< puts something after opening
    repair_strategy strategy = repair_strategy::refuse;

    [[nodiscard]] static packed_flags of(std::uint8_t byte) noexcept {
        return {.fix_segments = (byte & 1) != 0,
                .fix_manifests = (byte & 2) != 0,
                .fix_notes = (byte & 4) != 0,
                .read_only = (byte & 8) != 0,
                .write = (byte & 16) != 0,
                .strategy = all_strategies[byte >> 5 & 3]};
    }
};

[[nodiscard]] inline std::vector<std::byte> pack(io::memory const& disk, std::uint8_t flags) {
    std::vector<std::byte> out{static_cast<std::byte>(flags)};
    auto const put16 = [&](std::size_t n) {
        out.push_back(static_cast<std::byte>(n & 0xFF));
        out.push_back(static_cast<std::byte>(n >> 8 & 0xFF));
    };
    for (std::size_t i = 0; i < packed_names.size(); ++i) {
        auto bytes = disk.contents(packed_names[i]);
        if (!bytes || bytes->empty()) continue;
        auto const size = bytes->size();
        bool const twice = size >= 4 * format::header_bytes &&
                           std::equal(bytes->begin(), bytes->begin() + 512, bytes->end() - 512);
        if (twice) bytes->resize(size - format::header_bytes);
        while (!bytes->empty() && bytes->back() == std::byte{0}) bytes->pop_back();
        out.push_back(static_cast<std::byte>(i));
        put16(bytes->size());
        put16((size + 15) / 16 | (twice ? 0x8000U : 0U));
        out.insert(out.end(), bytes->begin(), bytes->end());
    }
    return out;
}

/// The folder that these bytes are. Nothing is fixed up but what the flags say.
[[nodiscard]] inline io::memory unpack(byte_view in, packed_flags flags) {
    using C = checksum::crc32c;
    io::memory disk;
    static_cast<void>(disk.make_directory(store_folder));
    static_cast<void>(disk.make_directory(store_folder + "/log"));
    while (in.size() >= 5) {
        auto const name = std::to_integer<std::size_t>(in[0]) % packed_names.size();
        std::size_t const stored = format::load<std::uint16_t>(in.data() + 1);
        std::size_t const size = format::load<std::uint16_t>(in.data() + 3) % 4096U * std::size_t{16};
        bool const twice = size >= 4 * format::header_bytes &&
                           (format::load<std::uint16_t>(in.data() + 3) & 0x8000U) != 0;
        in = in.subspan(5);
        auto const part = in.first(std::min({stored, in.size(), size}));
        std::vector<std::byte> file(part.begin(), part.end());
        file.resize(size);
        in = in.subspan(part.size());
        if (twice) std::copy_n(file.begin(), format::header_bytes, file.end() - format::header_bytes);
        bool const segment = std::string_view{packed_names[name]}.find("/log/") != std::string_view::npos;
        bool const table = std::string_view{packed_names[name]}.ends_with(".tab");
        bool const manifest = std::string_view{packed_names[name]}.find("manifest") != std::string_view::npos;
        if (segment && flags.fix_segments) fix_segment<C>(file);
        if (table && flags.fix_segments) fix_table<C>(file);
        if (table) static_cast<void>(disk.make_directory(store_folder + "/tables"));
        if (manifest && flags.fix_manifests) fix_manifest<C>(file);
        if (name == 2 && flags.fix_notes) fix_notes<C>(file);
        static_cast<void>(disk.replace(packed_names[name], file));
    }
    return disk;
}

} // namespace keel::test

#endif
