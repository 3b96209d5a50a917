// SPDX-License-Identifier: BSL-1.0
#include <keel/recovery/opening.hpp>

#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "stores.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

// Reading beside a writer: what a read-only opening sees stays what it was, whatever the writer gives back, merges or restarts.

namespace {

using beside_store = engine_tests::tiny_store<>;

keel::open_options looking() {
    auto o = model::test_options();
    o.read_only = true;
    return o;
}
std::string beside_key(int i) { return "key" + std::to_string(100 + i); }

/// Writes every key again and again, merges and restarts; what it does is told by two counters of every key.
template <class Store>
class restless_writer {
public:
    static constexpr int keys = 40;
    using counters = std::array<std::atomic<std::uint64_t>, keys>;

    restless_writer(std::string folder, keel::open_options options, typename Store::config_type::file_system fs)
        : folder_{std::move(folder)}, options_{std::move(options)}, fs_{std::move(fs)}, db_{*open()} {}

    void run(std::atomic<bool> const& enough) {
        for (std::uint64_t round = 1; !enough; ++round) {
            for (int i = 0; i < keys; ++i) {
                issued_[slot(i)] = round;
                if (!db_.put(beside_key(i), std::to_string(round) + std::string(60, 'v'))) return fail();
                acknowledged_[slot(i)] = round;
            }
            if (round % 3 == 0 && !db_.compact()) return fail();
            if (round % 7 != 0) continue;
            if (round % 2 == 0) db_.abandon();
            else if (!db_.close()) return fail();
            auto again = open();
            if (!again) return fail();
            db_ = std::move(*again);
        }
    }
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] counters const& issued() const { return issued_; }
    [[nodiscard]] counters const& acknowledged() const { return acknowledged_; }

private:
    static std::size_t slot(int i) { return static_cast<std::size_t>(i); }
    keel::result<Store> open() { return Store::open(folder_, options_, fs_); }
    void fail() { failed_ = true; }

    std::string folder_;
    keel::open_options options_;
    typename Store::config_type::file_system fs_;
    Store db_;
    counters issued_{};
    counters acknowledged_{};
    std::atomic<bool> failed_{false};
};

/// Opens while the writer writes: what was acknowledged before is there, nothing that was issued after, and no trouble.
template <class Store>
void read_beside(std::string const& folder, keel::open_options const& options,
                 typename Store::config_type::file_system fs) {
    restless_writer<Store> writer{folder, options, fs};
    std::atomic<bool> enough{false};
    std::thread at_work{[&] { writer.run(enough); }};
    auto look = options;
    look.read_only = true;
    int openings = 0;
    std::string trouble;
    for (; openings < 60 && trouble.empty() && !writer.failed(); ++openings) {
        std::array<std::uint64_t, restless_writer<Store>::keys> before{};
        std::ranges::copy(writer.acknowledged(), before.begin());
        auto db = Store::open(folder, look, fs);
        if (!db) {
            trouble = "does not open: " + keel::to_string(db.error());
            break;
        }
        std::array<std::uint64_t, restless_writer<Store>::keys> after{};
        std::ranges::copy(writer.issued(), after.begin());
        if (db->recovery().damaged()) trouble = "found damage: " + db->state_reason();
        for (int turn = 0; turn < 3 && trouble.empty(); ++turn) {
            std::this_thread::sleep_for(std::chrono::milliseconds{turn}); // the writer goes on
            for (int i = 0; i < restless_writer<Store>::keys && trouble.empty(); ++i) {
                auto const got = db->get(beside_key(i));
                auto const n = static_cast<std::size_t>(i);
                if (!got) trouble = "cannot read: " + keel::to_string(got.error());
                else if (!*got && before[n] != 0) trouble = "has lost " + beside_key(i);
                else if (auto const seen = *got ? std::stoull(**got) : 0; seen < before[n] || seen > after[n])
                    trouble = beside_key(i) + " is of round " + std::to_string(seen) + ", not of " +
                              std::to_string(before[n]) + " to " + std::to_string(after[n]);
            }
        }
    }
    enough = true;
    at_work.join();
    CHECK_MESSAGE(trouble.empty(), "opening ", openings, " ", trouble);
    CHECK_FALSE(writer.failed());
}

} // namespace

TEST_CASE("beside: an opening stays what it was while the writer writes, merges, gives segments back and restarts") {
    keel::io::memory disk;
    auto db = beside_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    for (int i = 0; i < 200; ++i) REQUIRE(db->put(beside_key(i), "old" + std::string(50, 'v')));
    auto const seen = beside_store::open("db", looking(), disk);
    REQUIRE(seen);
    CHECK(seen->state() == keel::engine_state::read_only);
    for (int round = 0; round < 5; ++round) {
        for (int i = 0; i < 200; ++i) REQUIRE(db->put(beside_key(i), "new" + std::string(50, 'w')));
        REQUIRE(db->compact());
    }
    REQUIRE(db->close());
    db = beside_store::open("db", model::test_options(), disk);
    REQUIRE(db);
    for (int i = 0; i < 200; ++i) REQUIRE(db->erase(beside_key(i)));
    REQUIRE(db->compact());
    for (int i = 0; i < 200; ++i) CHECK(seen->get(beside_key(i)).value().value().starts_with("old"));
    CHECK(std::ranges::distance(seen->scan().begin(), std::default_sentinel) == 200);
    CHECK(seen->verify().value().findings.empty());
    // Another one sees what is there now.
    auto const now = beside_store::open("db", looking(), disk);
    REQUIRE(now);
    CHECK(now->last_lsn() == db->last_lsn());
    CHECK_FALSE(now->get(beside_key(0)).value());
}

TEST_CASE("beside: files are written over again once nobody reads any more") {
    keel::io::memory disk;
    auto db = beside_store::open("db", model::test_options(), disk);
    auto const write = [&] {
        for (int i = 0; i < 100; ++i) REQUIRE(db->put(beside_key(i), std::string(50, 'v')));
        REQUIRE(db->compact());
    };
    auto const identities = [&] {
        std::vector<keel::io::file_identity> all;
        for (auto const& f : disk.files())
            if (f.ends_with(".seg")) all.push_back(disk.status(f)->identity);
        return all;
    };
    auto const kept = [](auto const& before, auto const& after) {
        return std::ranges::count_if(after,
                                     [&](auto const& id) { return std::ranges::find(before, id) != before.end(); });
    };
    write();
    {
        auto const reader = beside_store::open("db", looking(), disk);
        auto const before = identities();
        write();
        write();
        write();
        CHECK(kept(before, identities()) == 0);
    }
    write();
    auto const before = identities();
    write();
    CHECK(kept(before, identities()) > 0);
}

TEST_CASE("beside: what was acknowledged before an opening is there, however the writer moves on") {
    SUBCASE("written through") { read_beside<beside_store>("db", model::test_options(), {}); }
    SUBCASE("mapped") {
        read_beside<engine_tests::tiny_store<keel::durability::os_buffered>>("db", model::test_options(), {});
    }
}
