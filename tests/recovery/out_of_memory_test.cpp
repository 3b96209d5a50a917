// SPDX-License-Identifier: BSL-1.0
// P15: memory that is refused in the middle of an open. Replaces the allocator of this whole program; it says no only to the
// thread that asked for that, and only in front of the call under test. On the real machine, because a simulated disk allocates.
#include <keel/engine.hpp>

#include "io/posix_folder.hpp"
#include "support/damage_tools.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <new>
#include <string>

namespace {

/// How many allocations of this thread still succeed, and how many fail after them.
thread_local std::uint64_t granted = std::numeric_limits<std::uint64_t>::max();
thread_local std::uint64_t refused = 0;

void* allocate(std::size_t bytes) {
    if (granted != 0) {
        --granted;
    } else if (refused != 0) {
        --refused;
        throw std::bad_alloc{};
    }
    if (void* const got = std::malloc(bytes == 0 ? 1 : bytes)) return got;
    throw std::bad_alloc{};
}

} // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void* operator new[](std::size_t bytes) { return allocate(bytes); }
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }
void operator delete[](void* at, std::size_t) noexcept { std::free(at); }

namespace {

using namespace keel;
using namespace keel::test;
namespace stdfs = std::filesystem;
using real_engine = engine<segment_size<4 * KiB>>;

class scarce_memory {
public:
    scarce_memory(std::uint64_t good, std::uint64_t bad) noexcept {
        granted = good;
        refused = bad;
    }
    scarce_memory(scarce_memory const&) = delete;
    scarce_memory& operator=(scarce_memory const&) = delete;
    ~scarce_memory() {
        granted = std::numeric_limits<std::uint64_t>::max();
        refused = 0;
    }
    /// The call asked for more than was granted.
    [[nodiscard]] static bool met(std::uint64_t bad) noexcept { return granted == 0 && refused < bad; }
};

enum class outcome_seen { served, refused_memory, failed };

/// Opens with only `good` allocations granted and the next `bad` refused.
outcome_seen open_scarce(std::string const& folder, open_options const& options, std::uint64_t good, std::uint64_t bad,
                         bool& met) {
    auto const path = folder;
    try {
        scarce_memory const scarce{good, bad};
        try {
            auto store = real_engine::open(path, options);
            met = scarce_memory::met(bad);
            if (store) store->abandon();
            return store ? outcome_seen::served : outcome_seen::failed;
        } catch (std::bad_alloc const&) {
            met = scarce_memory::met(bad);
            throw;
        }
    } catch (std::bad_alloc const&) {
        return outcome_seen::refused_memory;
    }
}

void write_out(io::memory const& disk, std::string const& folder) {
    std::error_code ignored;
    stdfs::remove_all(folder, ignored);
    for (auto const& path : disk.files()) {
        auto const to = stdfs::path{folder} / path.substr(store_folder.size() + 1);
        stdfs::create_directories(to.parent_path());
        auto const bytes = *disk.contents(path);
        std::ofstream{to, std::ios::binary}.write(as_text(bytes).data(), static_cast<std::streamsize>(bytes.size()));
    }
}

/// Refuses each allocation of an open in turn; after each, an open with enough memory must serve what it would have served.
void refuse_each(small_store const& store, std::uint64_t bad, std::uint64_t step) {
    keel::tests::posix_folder const folder;
    auto const path = folder / "db";
    auto const options = quiet_options(repair_strategy::skip_corrupted);
    write_out(store.disk, path);
    auto whole = real_engine::open(path, options);
    REQUIRE(whole.has_value());
    auto const expected = content_of(*whole);
    whole->abandon();

    bool met = true;
    std::uint64_t tries = 0;
    for (std::uint64_t good = 0; met; good += step, ++tries) {
        CAPTURE(good);
        write_out(store.disk, path);
        met = false;
        auto const seen = open_scarce(path, options, good, bad, met);
        CHECK((seen != outcome_seen::failed || met));
        auto const after = real_engine::open(path, options);
        REQUIRE(after.has_value());
        CHECK(content_of(*after) == expected);
        CHECK(after->recovery().attempts <= 2);
    }
    CHECK(tries > 5);
}

} // namespace

TEST_CASE("P15: an allocation refused anywhere in an open loses nothing, and the next open is as if nothing had been") {
    refuse_each(make_store(ending::process_crash, 60, 6), 1, sanitized ? 17 : 3);
}

TEST_CASE("P15: memory that is refused for good anywhere in an open that repairs loses nothing") {
    auto store = make_store(ending::closed, 60, 6);
    flip_bit(store.disk, "db/log/0000000000000001.seg", 1000 * 8);
    refuse_each(store, std::numeric_limits<std::uint64_t>::max(), sanitized ? 23 : 5);
}

namespace {

/// A store whose process was killed so often, each time with a segment of its own left open.
small_store killed_often(int crashes) {
    determined::restart();
    small_store out;
    auto options = quiet_options(repair_strategy::refuse); // which seals nothing
    options.max_recovery_attempts = 0;
    for (int i = 0; i < crashes; ++i) {
        auto store = small_engine::open(store_folder, options, out.disk);
        REQUIRE(store);
        REQUIRE(store->put("key" + std::to_string(i), std::string(100, 'v')));
        store->abandon();
        out.disk = out.disk.after_process_crash();
    }
    return out;
}
std::uint64_t unsealed(std::string const& path) {
    io::posix fs;
    auto const seen = recovery::take_inventory<real_engine::config_type>(fs, path);
    REQUIRE(seen);
    return static_cast<std::uint64_t>(
        std::ranges::count_if(seen->segments, [](auto const& s) { return !s.entry.seal; }));
}
std::uint64_t replaced(std::string const& path) {
    io::posix fs;
    auto const load = wal::load_manifest<checksum::crc32c>(fs, wal::layout{path});
    REQUIRE(load.state);
    return load.state->removed.size();
}

} // namespace

TEST_CASE("R6.5 P21: a recovery of many open segments that is refused memory goes on behind those it has sealed") {
    constexpr std::uint64_t crashes = 14;
    auto const store = killed_often(crashes);
    keel::tests::posix_folder const folder;
    auto const path = folder / "db";
    auto options = quiet_options(repair_strategy::skip_corrupted);
    options.verify = verify_depth::quick;
    std::uint64_t half_way = 0;
    bool met = true;
    for (std::uint64_t good = 0; met; good += sanitized ? 41 : 7) {
        CAPTURE(good);
        write_out(store.disk, path);
        met = false;
        static_cast<void>(open_scarce(path, options, good, std::numeric_limits<std::uint64_t>::max(), met));
        auto const rest = unsealed(path);
        half_way += rest > recovery::unsealed_max + 1 && rest < crashes;
        auto const after = real_engine::open(path, options);
        REQUIRE(after.has_value());
        CHECK(after->recovery().records == crashes);
        CHECK(after->recovery().findings.empty());
        if (rest > recovery::unsealed_max) CHECK(after->recovery().sealed_segments == rest - 1);
        CHECK(after->recovery().sealed_segments <= rest);
    }
    CHECK(half_way > 1);
}

TEST_CASE("R6.5 P21: a repair that is refused memory goes on behind the segments it has replaced") {
    auto store = make_store(ending::closed, 120, 6);
    std::uint64_t damaged = 0;
    for (auto const& f : store.files) {
        if (!f.segment || f.lsns.empty()) continue;
        flip_bit(store.disk, f.path, 1000 * 8);
        ++damaged;
    }
    REQUIRE(damaged > 3);
    keel::tests::posix_folder const folder;
    auto const path = folder / "db";
    auto const options = quiet_options(repair_strategy::skip_corrupted);
    write_out(store.disk, path);
    auto whole = real_engine::open(path, options);
    REQUIRE(whole.has_value());
    auto const expected = content_of(*whole);
    auto const all = whole->recovery().declared_lost_lsn_ranges;
    auto const touched = replaced(path);
    whole->abandon();
    REQUIRE(touched > 3);
    std::uint64_t half_way = 0;
    bool met = true;
    for (std::uint64_t good = 0; met; good += sanitized ? 97 : 13) {
        CAPTURE(good);
        write_out(store.disk, path);
        met = false;
        static_cast<void>(open_scarce(path, options, good, std::numeric_limits<std::uint64_t>::max(), met));
        auto const done = replaced(path);
        half_way += done != 0 && done != touched;
        auto const after = real_engine::open(path, options);
        REQUIRE(after.has_value());
        CHECK(content_of(*after) == expected);
        CHECK(after->recovery().declared_lost_lsn_ranges == all);
        CHECK(replaced(path) == touched); // none of them twice
        CHECK(after->recovery().quarantined.size() <= touched - done);
    }
    CHECK(half_way > 1);
}

TEST_CASE("P21: a snapshot that memory was refused for keeps nothing from being forgotten") {
    auto const all = std::make_shared<keel::detail::snapshot_list>();
    bool refused_once = false;
    for (std::uint64_t good = 0;; ++good) {
        std::shared_ptr<keel::detail::snapshot_list::pinned_snapshot const> held;
        try {
            scarce_memory const scarce{good, 1};
            held = all->take([] { return lsn{5}; });
        } catch (std::bad_alloc const&) {
            refused_once = true;
            CHECK(all->all([] { return lsn{9}; }) == std::vector{lsn{9}});
            continue;
        }
        CHECK(all->all([] { return lsn{9}; }) == std::vector{lsn{5}, lsn{9}});
        held.reset();
        CHECK(all->all([] { return lsn{9}; }) == std::vector{lsn{9}});
        break;
    }
    CHECK(refused_once);
}
