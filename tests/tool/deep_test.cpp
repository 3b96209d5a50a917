// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

using namespace keel;
using namespace keel::tests;

namespace {

/// A sector that cannot be read, so many times.
struct passing_trouble {
    std::string path;
    std::uint64_t sector = 0; ///< offset
    std::uint64_t times = 0;
    std::uint64_t hits = 0;

    [[nodiscard]] bool hit(std::string const& of, std::uint64_t offset, std::size_t bytes) noexcept {
        if (of != path || offset >= sector + 512 || offset + bytes <= sector || hits == times) return false;
        ++hits;
        return true;
    }
};

/// A machine whose page cache and medium disagree: reads see one disk, reads past the cache another.
class two_faced {
public:
    using mapping = io::memory::mapping;
    using lock_type = io::memory::lock_type;

    class file {
    public:
        file(io::memory::file cache, io::memory::file medium, std::shared_ptr<passing_trouble> trouble)
            : cache_{std::move(cache)}, medium_{std::move(medium)}, trouble_{std::move(trouble)} {}
        result<std::size_t> read(std::uint64_t offset, byte_span out) const {
            if (trouble_ && trouble_->hit(path(), offset, out.size())) return failure(errc::io_error, "EIO", path());
            return cache_.read(offset, out);
        }
        result<std::size_t> read_uncached(std::uint64_t offset, byte_span out) const {
            if (trouble_ && trouble_->hit(path(), offset, out.size())) return failure(errc::io_error, "EIO", path());
            return medium_.read(offset, out);
        }
        result<void> write(std::uint64_t offset, byte_view bytes) { return cache_.write(offset, bytes); }
        result<void> sync() { return cache_.sync(); }
        result<void> allocate(std::uint64_t bytes) { return cache_.allocate(bytes); }
        result<io::file_status> status() const { return cache_.status(); }
        result<mapping> map(io::access how) { return cache_.map(how); }
        std::string const& path() const noexcept { return cache_.path(); }

    private:
        io::memory::file cache_;
        io::memory::file medium_;
        std::shared_ptr<passing_trouble> trouble_;
    };

    io::memory cache{};
    io::memory medium{};
    std::shared_ptr<passing_trouble> trouble{};

    result<file> open(std::string const& path, io::access how, io::creation make) {
        KEEL_TRY_LET(above, cache.open(path, how, make));
        // What the cache makes anew the medium has at once.
        auto below = medium.open(path, io::access::read_only, io::creation::must_exist);
        if (!below) below = cache.open(path, io::access::read_only, io::creation::must_exist);
        KEEL_TRY(below);
        return file{std::move(above), std::move(*below), trouble};
    }
    result<lock_type> lock(std::string const& path, io::lock_mode mode) { return cache.lock(path, mode); }
    result<std::vector<io::directory_entry>> list(std::string const& path) { return cache.list(path); }
    result<io::file_status> status(std::string const& path) { return cache.status(path); }
    result<void> make_directory(std::string const& path) { return cache.make_directory(path); }
    result<void> rename(std::string const& from, std::string const& to) { return cache.rename(from, to); }
    result<void> remove(std::string const& path) { return cache.remove(path); }
    result<void> sync_directory(std::string const& path) { return cache.sync_directory(path); }
    io::boot_id boot() { return cache.boot(); }
};
static_assert(io::file_system<two_faced>);
static_assert(io::file_system<tool::detail::view<two_faced>>);

/// validate --json, with or without --deep.
json validated(two_faced disk, bool deep, int expected_code) {
    std::ostringstream out;
    std::ostringstream err;
    tool::detail::console to{out, err, {}};
    tool::detail::command_line const line{.directory = "db", .json = true, .deep = deep};
    auto const code = tool::detail::validate<config<two_faced>>(disk, line, to);
    REQUIRE(code.has_value());
    CHECK(*code == expected_code);
    return json::parse(out.str());
}

} // namespace

TEST_CASE("validate --deep: finds damage on the medium that the page cache hides") {
    auto store = make_store("crc32c");
    two_faced disk{.cache = store.disk.after_process_crash()};
    auto const at = damage_record(store, 233);
    disk.medium = store.disk;
    CHECK(validated(disk, false, 0)["status"] == "healthy");
    auto const o = validated(disk, true, 1);
    CHECK(o["status"] == "damaged");
    CHECK(o["only_past_the_cache"] == 1);
    REQUIRE(o["findings"].size() == 1);
    CHECK(o["findings"][0]["offset"] == at.frame);
    CHECK(o["findings"][0]["lsn"] == 234);
    CHECK(o["findings"][0]["detail"].get<std::string>().find("page cache") != std::string::npos);
}

TEST_CASE("validate --deep: a medium that lacks what the cache has is noticed though every frame verifies") {
    auto store = make_store_and_die("crc32c", 30);
    // Without the notes nothing says that anybody was told of the last record.
    REQUIRE(store.disk.remove("db/notes"));
    two_faced disk{.cache = store.disk.after_process_crash(), .medium = store.disk};
    CHECK(validated(disk, true, 0)["only_past_the_cache"] == 0);
    auto const at = find_value(store, 29);
    REQUIRE(disk.medium.corrupt("db/" + at.file, at.frame, std::vector<std::byte>(512)));
    CHECK(validated(disk, false, 0)["records"] == 30);
    auto const o = validated(disk, true, 1);
    CHECK(o["records"] == 29);
    CHECK(o["only_past_the_cache"] == 1);
    REQUIRE(o["findings"].size() == 1);
    CHECK(o["findings"][0]["kind"] == "seal_mismatch");
    CHECK(o["findings"][0]["offset"] == at.frame);
}

TEST_CASE("validate: a mismatch that a second read makes good is counted, not believed") {
    auto store = make_store("crc32c");
    two_faced disk{.medium = store.disk.after_process_crash()};
    damage_record(store, 233);
    disk.cache = store.disk;
    auto const o = validated(disk, false, 0);
    CHECK(o["status"] == "healthy");
    CHECK(o["transient_mismatches"] == 1);
    CHECK(validated(disk, true, 0)["status"] == "healthy");
}

TEST_CASE("repair: a medium that answers again when it is asked before records are given up keeps them") {
    auto const store = make_store("crc32c");
    auto const at = find_value(store, 233);
    auto const repaired = [&](two_faced disk, bool dry_run) {
        std::ostringstream out;
        std::ostringstream err;
        tool::detail::console to{out, err, {}};
        tool::detail::command_line line{.what = tool::detail::command::repair, .directory = "db", .json = true};
        line.dry_run = dry_run;
        line.strategy = repair_strategy::skip_corrupted;
        return tool::detail::repair<config<two_faced>>(disk, line, to);
    };
    auto const troubled = [&](std::uint64_t times) {
        two_faced disk{.cache = store.disk.after_process_crash(), .medium = store.disk.after_process_crash()};
        disk.trouble = std::make_shared<passing_trouble>(
            passing_trouble{.path = "db/" + at.file, .sector = at.value / 512 * 512, .times = times});
        return disk;
    };
    // How often it is read until all there is to be known is known.
    auto const counting = troubled(~std::uint64_t{0});
    REQUIRE(repaired(counting, true) == 1);
    auto const times = counting.trouble->hits;
    REQUIRE(times > 0);

    auto disk = troubled(times);
    auto const before = disk.cache.after_process_crash();
    auto const passing = repaired(disk, false);
    REQUIRE_FALSE(passing.has_value());
    CHECK(passing.error().code == errc::io_error);
    CHECK(passing.error().retryable);
    CHECK(passing.error().message.find("answers again") != std::string::npos);
    CHECK(disk.cache.equal(before));
    REQUIRE(repaired(disk, false).has_value());
    CHECK(validated(disk, false, 0)["records"] == 400);

    // One that stays as it is costs them.
    auto lasting = troubled(~std::uint64_t{0});
    REQUIRE(repaired(lasting, false) == 1);
    CHECK(validated(lasting, false, 0)["records"].get<int>() < 400);
}
