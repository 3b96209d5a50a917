// SPDX-License-Identifier: BSL-1.0
// Bytes that are kept. What the current code writes for a small store, clock and entropy standing still, must be these bytes; and a
// store that an older version of the library left must open and give all its records (P14, R8.2).
//
// When may the bytes below change? When the engine writes other frames than it did (one mark more, say): print the new ones and
// replace them; tests/golden/store-format-N stays as it is and must still open. When a byte means something else than before, that
// is a new format number: the old folder stays, make_fixtures writes the next one, and this file holds the new bytes.
#include "golden/fixture.hpp"

#include "io/posix_folder.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace keel;
using namespace keel::test;
namespace stdfs = std::filesystem;
using real_engine = engine<segment_size<4 * KiB>>;

/// Bytes at an offset; everything between is zero.
struct run {
    std::size_t offset;
    std::string_view hex;
};

/// db/log/0000000000000001.seg, 4096 bytes.
constexpr run segment_bytes[]{
    {0, "6b65656c7365670a0100000063726363efcdab8967452301efcdab8967452301"},
    {32, "0100000000000000a970115defcdab89010000000000000015cd853dfe9c9717"},
    {64, "00100000000000000100000000000000000000000000000002"},
    {104, "010000000000000002"},
    {504, "9757eac600000000a970115dc928d4c05000000000004003"},
    {536, "e5dcf0d6000000000000000000000000000000000000000015cd853dfe9c9717"},
    {568, "01000000000000000100000000000000a970115defcdab8901"},
    {624, "a970115d2ae5bd3008000000050001010100000001000000135d0d6d"},
    {656, "616c7068616f6e65a970115d2bc001fc09000000040001000200000002"},
    {688, "88fe3f55000000006265746174776f00ff00000000000000a970115dc457bf44"},
    {720, "0500000005000202030000000300000052e875b600000000616c706861"},
    {752, "a970115d2302473a5000000000004003030000000000000036770d95"},
    {784, "0300000000000000030000000000000015cd853dfe9c971701"},
    {816, "0100000000000000a970115defcdab8901"},
    {856, "03"},
    {1024, "0000006168706c61c8020000030000000000006168706c617002000001"},
    {1056, "00000000617465629802000002"},
    {1528, "2061cc51"},
    {3072, "6b65656c656e640a0100000000000000a970115defcdab8901"},
    {3104, "03000000000000000300000000000000600300000000000015cd853dfe9c9717"},
    {3136, "15cd853dfe9c9717eb93402300000000922675230000000001"},
    {3168, "0100000000040000000200000000000098d85aee"},
    {3576, "b7601d09000000006b65656c7365670a0100000063726363efcdab8967452301"},
    {3608, "efcdab89674523010100000000000000a970115defcdab8901"},
    {3640, "15cd853dfe9c9717001000000000000001"},
    {3672, "02000000000000000000000000000000010000000000000002"},
    {4088, "9757eac6"},
};

/// db/manifest.0, 8192 bytes.
constexpr run manifest_bytes[]{
    {0, "6b65656c6d616e0a0100000063726363efcdab8967452301efcdab8967452301"},
    {32, "efcdab8967452301010000000000000001000000000000000020"},
    {64, "15cd853dfe9c9717"},
    {504, "bb857b2900000000efcdab893d3140203e0000000000210301000000ffffffff"},
    {536, "446cbc35000000000720"},
    {576, "0000080800000000000000000110010000000000000001"},
    {608, "efcdab89813efa902200000000002003020000000100000084ceadf3"},
    {640, "02200100000000000000a970115defcdab89001000000000000001"},
    {680, "efcdab89ac83c2d15200000000002003030000000100000036191c1a"},
    {712, "03500100000000000000a970115defcdab89010000000000000003"},
    {744, "00000300000000000000600300000000000015cd853dfe9c971715cd853dfe9c"},
    {776, "9717eb9340230000000092267523"},
};

/// db/notes, 4096 bytes.
constexpr run notes_bytes[]{
    {0, "6b65656c6f74730a0500000000000000efcdab8967452301efcdab8967452301"},
    {32, "01000000000000001fc356e56ce8e7472160ff661269b15101"},
    {64, "05000000000000000100000000000000030000000000000003"},
    {96, "6003"},
    {248, "702a2d1b000000006b65656c6f74730a0400000000000000efcdab8967452301"},
    {280, "efcdab896745230101000000000000001fc356e56ce8e7472160ff661269b151"},
    {312, "01000000000000000500000000000000010000000000000003"},
    {344, "03000000000000006003"},
    {504, "b678f5e4"},
};

std::vector<std::byte> bytes_of(std::span<run const> runs, std::size_t size) {
    std::vector<std::byte> out(size);
    auto const digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10); };
    for (auto const& r : runs)
        for (std::size_t i = 0; i + 1 < r.hex.size(); i += 2)
            out.at(r.offset + i / 2) = static_cast<std::byte>(digit(r.hex[i]) << 4 | digit(r.hex[i + 1]));
    return out;
}

/// Where the first difference lies, for people.
std::string difference(std::vector<std::byte> const& a, std::vector<std::byte> const& b) {
    if (a.size() != b.size()) return "sizes " + std::to_string(a.size()) + " and " + std::to_string(b.size());
    for (std::size_t i = 0; i < a.size(); ++i)
        if (a[i] != b[i]) return "byte " + std::to_string(i);
    return {};
}

io::memory load_folder(stdfs::path const& folder) {
    io::memory disk;
    static_cast<void>(disk.make_directory(store_folder));
    static_cast<void>(disk.make_directory(store_folder + "/log"));
    if (stdfs::exists(folder / "tables")) static_cast<void>(disk.make_directory(store_folder + "/tables"));
    for (auto const& entry : stdfs::recursive_directory_iterator(folder)) {
        if (!entry.is_regular_file()) continue;
        std::string bytes(static_cast<std::size_t>(entry.file_size()), '\0');
        std::ifstream in{entry.path(), std::ios::binary};
        in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        auto const name = stdfs::relative(entry.path(), folder).generic_string();
        REQUIRE(disk.replace(store_folder + "/" + name, as_bytes(bytes)));
    }
    return disk;
}

/// Folders of every format number up to ours.
std::vector<stdfs::path> kept_folders() {
    std::vector<stdfs::path> out;
    for (std::uint32_t n = 1; n <= format::format_number; ++n)
        out.push_back(tests_folder() / "golden" / ("store-format-" + std::to_string(n)));
    return out;
}

} // namespace

TEST_CASE("P14: a segment, a manifest and the notes are written byte for byte as they are kept here") {
    auto const disk = tiny_store();
    CHECK(difference(*disk.contents("db/log/0000000000000001.seg"), bytes_of(segment_bytes, 4096)) == "");
    CHECK(difference(*disk.contents("db/manifest.0"), bytes_of(manifest_bytes, 8192)) == "");
    CHECK(difference(*disk.contents("db/manifest.1"), bytes_of(manifest_bytes, 8192)) == "");
    CHECK(difference(*disk.contents("db/notes"), bytes_of(notes_bytes, 4096)) == "");
}

TEST_CASE("P14: the bytes kept here are a store that opens and gives its records") {
    io::memory disk;
    REQUIRE(disk.make_directory(store_folder));
    REQUIRE(disk.make_directory(store_folder + "/log"));
    REQUIRE(disk.replace("db/log/0000000000000001.seg", bytes_of(segment_bytes, 4096)));
    REQUIRE(disk.replace("db/manifest.0", bytes_of(manifest_bytes, 8192)));
    REQUIRE(disk.replace("db/manifest.1", bytes_of(manifest_bytes, 8192)));
    auto const store = small_engine::open(store_folder, still_options(), disk);
    REQUIRE(store.has_value());
    CHECK(store->recovery().findings.empty());
    CHECK(store->recovery().clean_close);
    CHECK(content_of(*store) == history::content{{"beta", std::string{"two\0\xFF", 5}}});
}

TEST_CASE("P14 R8.2: stores of every format so far open without a finding and give all their records") {
    auto const past = kept_history();
    for (auto const& folder : kept_folders())
        for (auto const* how : {"closed", "killed"}) {
            INFO(folder.string(), "/", how);
            REQUIRE(stdfs::exists(folder / how));
            auto disk = load_folder(folder / how);
            auto store = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
            REQUIRE(store.has_value());
            CHECK(store->recovery().findings.empty());
            CHECK(store->recovery().records == past.last().value);
            CHECK(store->recovery().clean_close == (std::string_view{how} == "closed"));
            CHECK(content_of(*store) == past.now());
            REQUIRE(store->put("more", "records").has_value());
            REQUIRE(store->close().has_value());
            auto const again = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
            REQUIRE(again.has_value());
            CHECK(*again->get("more") == "records");
        }
}

TEST_CASE("P14 R8.2: stores whose records are in tables, of every format so far, give all that was not overwritten") {
    auto const past = kept_history();
    for (auto const& folder : kept_folders()) {
        INFO(folder.string());
        auto disk = load_folder(folder / "merged");
        auto store = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
        REQUIRE(store.has_value());
        CHECK(store->recovery().findings.empty());
        CHECK(store->recovery().tables == 1);
        CHECK(store->last_lsn() == past.last());
        CHECK(content_of(*store) == past.now());
        REQUIRE(store->put("more", "records").has_value());
        REQUIRE(store->compact().has_value());
        CHECK(content_of(*store).size() == past.now().size() + 1);
    }
}

TEST_CASE("P14 R8.2: the same stores open on the real machine") {
    auto const past = kept_history();
    for (auto const& from : kept_folders()) {
        keel::tests::posix_folder const folder;
        stdfs::copy(from / "killed", folder / "db", stdfs::copy_options::recursive);
        auto const store = real_engine::open(folder / "db", quiet_options(repair_strategy::refuse));
        REQUIRE(store.has_value());
        CHECK(content_of(*store) == past.now());
    }
}

TEST_CASE("P14: a store of this format is written byte for byte as it is kept") {
    auto const folder = kept_folders().back();
    for (std::string const how : {"closed", "killed", "merged"}) {
        auto const kept = load_folder(folder / how);
        auto const written = kept_store(how == "killed" ? ending::process_crash : ending::closed, how == "merged");
        // What a merge had given up was kept to be recycled when these were made; an orderly end removes it.
        auto expected = kept.files();
        if (how == "merged")
            std::erase_if(expected, [](std::string const& path) {
                return path == "db/log/0000000000000001.seg" || path == "db/log/0000000000000002.seg";
            });
        auto files = written.files();
        std::erase(files, "db/reserve"); // zeros
        CHECK(files == expected);
        for (auto const& path : expected) {
            INFO(path);
            CHECK(difference(*written.contents(path), *kept.contents(path)) == "");
        }
    }
}
