// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

#include "watched.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>
#include <variant>
#include <vector>

// Whoever comes upon damage tells of it: once, in the same way, whatever was asked.

namespace {

namespace telling {

using namespace keel;

using observe_tests::count;
using observe_tests::events;
using observe_tests::told;
using store = observe_tests::watched;

open_options const quiet{.background_thread = false, .cache_bytes = 0};

std::string key_of(int i) { return "k" + std::to_string(1000 + i); }
std::vector<std::string> files_ending(io::memory const& disk, std::string_view end) {
    std::vector<std::string> out;
    for (auto const& f : disk.files())
        if (f.ends_with(end)) out.push_back(f);
    return out;
}
/// 200 keys in one table, and its third block damaged; nobody has looked yet.
io::memory hurt_store() {
    io::memory disk;
    auto db = store::open("db", quiet, disk);
    for (int i = 0; i < 200; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
    REQUIRE(db->compact());
    REQUIRE(db->close());
    REQUIRE(disk.corrupt(files_ending(disk, ".tab").at(0), 9000, std::byte{1}));
    return disk;
}
std::size_t logged(io::memory const& disk) {
    auto const bytes = disk.contents("db/quarantine/corruption.jsonl");
    return bytes ? static_cast<std::size_t>(std::ranges::count(*bytes, std::byte{'\n'})) : 0;
}
/// The last key of the block that cannot be read.
std::string lost_key(store const& db) {
    auto all = db.keys(on_damage::skip);
    for ([[maybe_unused]] auto const key : all) continue;
    auto behind = *all.gaps().at(0).to;
    behind.pop_back();
    return behind;
}

template <class Ask>
void check_told_once(Ask const& ask) {
    auto disk = hurt_store();
    auto db = store::open("db", quiet, disk);
    REQUIRE(db);
    static_cast<void>(events());
    CHECK(db->state() == engine_state::healthy);
    ask(*db);
    auto const heard = events();
    REQUIRE(count(heard, "damage_found") == 1);
    CHECK(heard[0].at("damage").at("kind") == "corrupt_block");
    CHECK(heard[0].at("damage").at("file").get<std::string>().starts_with("tables/"));
    REQUIRE(count(heard, "state_changed") == 1);
    CHECK(heard[1].at("state") == "degraded");
    CHECK(heard.size() == 2);
    CHECK(db->state() == engine_state::degraded);
    CHECK(db->state_reason().find("tables/") != std::string::npos);
    CHECK(logged(disk) == 1);
    ask(*db);
    static_cast<void>(db->verify());
    CHECK(events().empty());
    CHECK(logged(disk) == 1);
}

TEST_CASE("R1.3: damage that any reader meets is an event, a line of the corruption log and the state, once") {
    auto const key = [] {
        auto disk = hurt_store();
        return lost_key(*store::open("db", quiet, disk));
    }();
    SUBCASE("get") {
        check_told_once([&](store& db) { CHECK(!db.get(key)); });
    }
    SUBCASE("several keys at once") {
        check_told_once([&](store& db) {
            std::vector<std::string_view> const keys{key};
            CHECK(!db.multi_get(keys));
        });
    }
    SUBCASE("a scan that stops") {
        check_told_once([&](store& db) {
            auto all = db.scan();
            for (auto&& [k, v] : all) CHECK(!k.empty());
            CHECK(!all.status());
        });
    }
    SUBCASE("a scan that skips, backward") {
        check_told_once([&](store& db) {
            auto all = db.keys(range{.reverse = true}, on_damage::skip);
            for (auto const k : all) CHECK(!k.empty());
            CHECK(all.gaps().size() == 1);
        });
    }
    SUBCASE("a read of a transaction") {
        check_told_once([&](store& db) {
            auto tx = db.begin();
            CHECK(!tx.get(key));
        });
    }
    SUBCASE("a scan of a transaction") {
        check_told_once([&](store& db) {
            auto tx = db.begin();
            auto all = tx.scan();
            for (auto&& [k, v] : all) CHECK(!k.empty());
            CHECK(!all.status());
        });
    }
    SUBCASE("verify") {
        check_told_once([&](store& db) { CHECK(db.verify()->findings.size() == 1); });
    }
    SUBCASE("an erasure of a range") {
        check_told_once([&](store& db) { CHECK(!db.erase(range{.from = key, .to = key + "x"})); });
    }
}

TEST_CASE("R1.3: a commit that cannot tell whether another one came first says so, and of the damage") {
    io::memory disk;
    auto db = store::open("db", quiet, disk);
    for (int i = 0; i < 200; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
    auto tx = db->begin();
    REQUIRE(tx.put("mine", "value"));
    REQUIRE(tx.put(key_of(100), "mine"));
    for (int i = 0; i < 200; ++i)
        if (i != 100) REQUIRE(db->put(key_of(i), std::string(90, 'w')));
    REQUIRE(db->compact());
    for (auto const& t : files_ending(disk, ".tab"))
        for (std::uint64_t at = 600; at < 20'000; at += 512) REQUIRE(disk.corrupt(t, at, std::byte{1}));
    static_cast<void>(events());
    auto const done = tx.commit();
    REQUIRE(!done);
    CHECK(done.error().code == errc::corruption);
    CHECK(count(events(), "damage_found") > 0);
    CHECK(db->state() == engine_state::degraded);
    CHECK(!*db->get("mine"));
}

TEST_CASE("R1.3: what a merge could not read is told, and what stands for it from then on") {
    auto disk = hurt_store();
    auto db = store::open("db", quiet, disk);
    REQUIRE(db->put(key_of(3), "new"));
    static_cast<void>(events());
    REQUIRE(db->compact());
    auto const heard = events();
    std::vector<std::string> done;
    for (auto const& e : heard)
        if (e.at("event") == "damage_found") done.push_back(e.at("damage").at("done"));
    CHECK(done == std::vector<std::string>{"reported", "declared_lost"});
    CHECK(count(heard, "merged") == 1);
    CHECK(db->state() == engine_state::degraded);
    CHECK(logged(disk) == 2);
    auto all = db->scan(on_damage::skip);
    for (auto&& [k, v] : all) CHECK(!k.empty());
    CHECK(all.gaps().size() == 1);
    REQUIRE(db->compact());
    CHECK(events().empty());
    // The next opening tells of it at once.
    REQUIRE(db->close());
    static_cast<void>(events());
    db = store::open("db", quiet, disk);
    auto const again = events();
    REQUIRE(count(again, "damage_found") == 1);
    CHECK(again[0].at("damage").at("done") == "declared_lost");
    CHECK(again[0].at("damage").at("detail").get<std::string>().find("keys from") != std::string::npos);
}

TEST_CASE("R1.3: what was healed while reading is told, too: an index that was made anew") {
    auto disk = hurt_store();
    auto const table = files_ending(disk, ".tab").at(0);
    REQUIRE(disk.corrupt(table, 9000, std::byte{1}));                           // as it was
    REQUIRE(disk.corrupt(table, disk.status(table)->size - 540, std::byte{1})); // the root
    auto db = store::open("db", quiet, disk);
    static_cast<void>(events());
    CHECK(**db->get(key_of(7)) == std::string(90, 'v'));
    auto const heard = events();
    REQUIRE(count(heard, "damage_found") > 0);
    CHECK(heard[0].at("damage").at("done") == "healed");
    for (int i = 0; i < 200; ++i) CHECK(db->get(key_of(i)));
    CHECK(events().empty());
}

bool is_unchecked() { return told.str().find("\"scan_unchecked\"") != std::string::npos; }

/// Exit code of a child that opens the store, does this with it and aborts, or not: 42 where the observer had been told of it by then.
template <class Do>
int told_before_the_end(keel::io::memory const& disk, Do const& what) {
    std::fflush(nullptr);
    auto const child = ::fork();
    if (child == 0) {
        static_cast<void>(std::freopen("/dev/null", "w", stderr)); // what assert() prints
        std::signal(SIGABRT, [](int) { ::_exit(is_unchecked() ? 42 : 43); });
        auto db = store::open("db", quiet, disk);
        told.str({});
        what(db);
        ::_exit(is_unchecked() ? 42 : 44);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("scans: one that ended early and was not asked tells the observer, and fails an assertion in debug builds") {
    auto disk = hurt_store();
    int const asserted = [] {
        int n = 0;
        KEEL_ASSERT(++n == 1);
        return n;
    }();
    auto const careless = [](auto& db) {
        for (auto&& [k, v] : db->scan()) CHECK(!k.empty());
    };
    CHECK(told_before_the_end(disk, careless) == 42);
    CHECK(told_before_the_end(disk, [](auto& db) {
              for (auto const k : db->keys(range{.reverse = true})) CHECK(!k.empty());
          }) == 42);
    CHECK(told_before_the_end(disk, [](auto& db) {
              auto tx = db->begin();
              for (auto&& [k, v] : tx.scan()) CHECK(!k.empty());
          }) == 42);
    CHECK(told_before_the_end(disk, [](auto& db) { // begun anew, and what came of it before is lost
              auto all = db->scan();
              for (auto&& [k, v] : all) CHECK(!k.empty());
              static_cast<void>(all.seek(key_of(199)));
              CHECK(all.status());
          }) == 42);
    // Whoever asks, or leaves the loop before, hears of it in the ordinary way.
    CHECK(told_before_the_end(disk, [](auto& db) {
              auto all = db->scan();
              for (auto&& [k, v] : all) CHECK(!k.empty());
              CHECK(!all.status());
              auto some = db->scan();
              for (auto&& [k, v] : some)
                  if (k > key_of(3)) break;
              auto skipping = db->scan(on_damage::skip);
              for (auto&& [k, v] : skipping) CHECK(!k.empty());
              auto gaps = db->scan();
              for (auto&& [k, v] : gaps) CHECK(!k.empty());
              CHECK(gaps.gaps().size() == 1);
              auto moved = std::move(gaps);
          }) == 44);
    if (asserted == 0) { // a release build goes on
        auto db = store::open("db", quiet, disk);
        static_cast<void>(events());
        careless(db);
        auto const heard = events();
        REQUIRE(count(heard, "scan_unchecked") == 1);
        CHECK(heard.back().at("reason").get<std::string>().starts_with("corruption"));
    }
}

TEST_CASE("scans: an observer that cares only for those that were not asked is told of them") {
    struct ends_the_process {
        void on(observe::scan_unchecked const&) const noexcept { ::_exit(45); }
    };
    using hurt = engine<io::memory, segment_size<4 * KiB>, ends_the_process, repair::skip_corrupted>;
    auto const disk = hurt_store();
    auto const child = ::fork();
    if (child == 0) {
        auto db = hurt::open("db", quiet, disk);
        for (auto&& [k, v] : db->scan()) static_cast<void>(k);
        ::_exit(44);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 45));
}

} // namespace telling

} // namespace
