// SPDX-License-Identifier: BSL-1.0
// P15: memory that is refused in the middle of an open. Replaces the allocator of this whole program; it says no only to the
// thread that asked for that, and only in front of the call under test. On the real machine, because a simulated disk allocates.
#include <keel/engine.hpp>

#include "io/posix_folder.hpp"
#include "support/damage_tools.hpp"

#include <doctest/doctest.h>

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

TEST_CASE("P21: a snapshot that memory was refused for keeps nothing from being forgotten") {
    auto const all = std::make_shared<keel::detail::moments>();
    bool refused_once = false;
    for (std::uint64_t good = 0;; ++good) {
        std::shared_ptr<keel::detail::moments::hold const> held;
        try {
            scarce_memory const scarce{good, 1};
            held = all->take([] { return lsn{5}; });
        } catch (std::bad_alloc const&) {
            refused_once = true;
            CHECK(all->oldest([] { return lsn{9}; }) == lsn{9});
            continue;
        }
        CHECK(all->oldest([] { return lsn{9}; }) == lsn{5});
        held.reset();
        CHECK(all->oldest([] { return lsn{9}; }) == lsn{9});
        break;
    }
    CHECK(refused_once);
}
