// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

#include "../io/posix_folder.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include <sys/stat.h>

// What README.md says that a store takes, on a disk.

namespace disk_space_test {

namespace {

using namespace keel;

/// Blocks of all files in the folder, in bytes.
std::uint64_t taken(std::string const& folder) {
    std::uint64_t bytes = 0;
    for (auto const& entry : std::filesystem::recursive_directory_iterator(folder)) {
        struct stat facts {};
        REQUIRE(::lstat(entry.path().c_str(), &facts) == 0);
        if (S_ISREG(facts.st_mode)) bytes += static_cast<std::uint64_t>(facts.st_blocks) * 512;
    }
    return bytes;
}
/// Whether the file system under `folder` gives blocks in the middle of a file back.
bool makes_holes(std::string const& folder) {
    std::filesystem::create_directory(folder);
    auto file = io::posix{}.open(folder + "/file", io::access::read_write, io::creation::must_not_exist);
    REQUIRE(file);
    REQUIRE(file->allocate(64 * KiB));
    file->punch_hole(8 * KiB, 32 * KiB);
    return taken(folder) < 64 * KiB;
}

} // namespace

TEST_CASE(
    "disk space: an empty store, one with one key, and one that is opened for each put take what README.md says") {
    tests::posix_folder const folder;
    auto const dir = folder / "store";
    bool const holes = makes_holes(folder / "trial");
    open_options const options{.background_thread = false};
    {
        auto db = engine<>::open(dir, options);
        REQUIRE(db);
        CHECK(taken(dir) <= 24 * KiB);
        REQUIRE(db->put("key", "value"));
        db->housekeep();
        CHECK(taken(dir) <= 264 * KiB);
        REQUIRE(db->close());
    }
    auto const one_key = taken(dir);
    CHECK(one_key <= (holes ? 224 : 264) * KiB);
    constexpr std::uint64_t openings = 20;
    for (std::uint64_t i = 0; i < openings; ++i) {
        auto db = engine<>::open(dir, options);
        REQUIRE(db);
        REQUIRE(db->put("key " + std::to_string(i), "value"));
        db->housekeep();
        REQUIRE(db->close());
    }
    CHECK(taken(dir) <= one_key + openings * (holes ? 24 : 64) * KiB + 16 * KiB); // 16: the manifests grow
}

TEST_CASE(
    "disk space: under load a store takes at most six segments of the policy's size beside its log and its tables") {
    tests::posix_folder const folder;
    auto const dir = folder / "store";
    auto db = engine<>::open(dir, {.background_thread = false});
    REQUIRE(db);
    std::string const value(20'000, 'v');
    std::uint64_t written = 0;
    for (int i = 0; written < 50 * MiB; ++i) {
        write_batch batch;
        for (int n = 0; n < 20; ++n) batch.put("key " + std::to_string(i * 20 + n), value);
        REQUIRE(db->write(batch));
        written += 20 * value.size();
    }
    db->housekeep();
    CHECK(taken(dir) >= written);
    CHECK(taken(dir) <= written + 6 * 16 * MiB + 2 * MiB);
}

} // namespace disk_space_test
