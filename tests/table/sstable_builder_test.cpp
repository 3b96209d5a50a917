// SPDX-License-Identifier: BSL-1.0
#include <keel/table/sstable_builder.hpp>

#include <keel/engine/operations.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/compression/none.hpp>

#include "../support/forwarding_fs.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <utility>

using namespace keel;

namespace {

using table_type = table::sstable_builder<checksum::crc32c, compression::none, io::memory>;

/// Bytes of a table with this one record.
std::uint64_t bytes_of_table(std::string_view key, std::string_view value) {
    io::memory disk;
    auto writer = table_type::create(disk, "table", {.id = {1}, .salt = 7, .first = {1}});
    REQUIRE(writer);
    REQUIRE(writer->add({.key = key, .value = value, .at = {1}}));
    auto const made = writer->finish();
    REQUIRE(made);
    return made->size;
}

/// A disk that cannot write a file back, and says so once: to the call that waits for that.
struct disk_that_tells_once : test::forwarding_fs<io::memory> {
    using mapping = io::memory::mapping;
    struct file : io::memory::file {
        explicit file(io::memory::file&& of) : io::memory::file{std::move(of)} {}
        result<void> write_back(std::uint64_t offset, std::uint64_t) {
            if (offset == 0) return {};
            return failure(errc::io_error, "cannot write the file back", path(), offset);
        }
    };
    result<file> open(std::string const& path, io::access how, io::creation make) {
        KEEL_TRY_LET(inner, inner_.open(path, how, make));
        return file{std::move(inner)};
    }
};

} // namespace

TEST_CASE("table: a failure that only the handing over is told of is the table's") {
    disk_that_tells_once disk;
    auto writer = table::sstable_builder<checksum::crc32c, compression::none, disk_that_tells_once>::create(
        disk, "table", {.id = {1}, .salt = 7, .first = {1}});
    REQUIRE(writer);
    auto done = result<void>{};
    for (int i = 0; i < 40 && done; ++i)
        done = writer->add({.key = std::to_string(100 + i), .value = std::string(100'000, 'v'), .at = {1}});
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::io_error);
}

TEST_CASE("table: with one record it takes at most 1 MiB more than that, so that the largest record fits one") {
    constexpr auto more_than_a_record = format::table_bytes_max - format::record_bytes_max;
    for (std::size_t const key : {std::size_t{1}, std::size_t{1000}, format::key_bytes_max})
        for (std::size_t const value : {std::size_t{0}, std::size_t{1}, std::size_t{5000}, std::size_t{3'000'000}}) {
            auto const bytes = bytes_of_table(std::string(key, 'k'), std::string(value, 'v'));
            CHECK(bytes > key + value);
            CHECK(bytes - key - value <= more_than_a_record);
        }
}

TEST_CASE("record: one that no table could take from the log is refused before it is written") {
    using keel::detail::check_record;
    CHECK(check_record("k", 0));
    CHECK(check_record("k", format::record_bytes_max - 1));
    CHECK(check_record("k", format::record_bytes_max).error().code == errc::too_large);
    std::string const longest(format::key_bytes_max, 'k');
    CHECK(check_record(longest, format::record_bytes_max - longest.size()));
    CHECK(check_record(longest, format::record_bytes_max - longest.size() + 1).error().code == errc::too_large);
    CHECK(check_record(longest + 'k', 0).error().code == errc::too_large);
    CHECK(check_record("", 5).error().code == errc::invalid_argument);
    // A segment of 2 GiB has room for more than that.
    static_assert(format::frames_limit(format::segment_bytes_max) - format::frames_begin(format::segment_bytes_max) >
                  format::record_bytes_max + 200);
}
