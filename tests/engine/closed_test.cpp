// SPDX-License-Identifier: BSL-1.0
// What a store, and all that reads from it, says once it may not be used: closed, moved from, or carried into a forked child.
#include <keel/keel.hpp>

#include <keel/io/memory.hpp>

#include "../support/closed_calls.hpp"
#include "../support/model.hpp"
#include "engine/stores.hpp"
#include "io/posix_folder.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

namespace closed_store {

using keel::errc, keel::io::memory;
using keel::test::closed_calls;
using keel::tests::in_child;
using store = engine_tests::tiny_store<>;

std::string key_of(int i) { return "key" + std::to_string(1000 + i); }

store open_on(memory const& disk, bool background = false) {
    auto options = model::test_options();
    options.background_thread = background;
    auto db = store::open("db", options, disk);
    REQUIRE_MESSAGE(db, to_string(db.error()));
    return std::move(*db);
}
/// In memory, in segments and in tables.
store filled(memory const& disk, int keys, bool background = false) {
    auto db = open_on(disk, background);
    for (int i = 0; i < keys; ++i) {
        REQUIRE(db.put(key_of(i), std::string(100, 'v')));
        if (i == keys / 2) REQUIRE(db.compact());
    }
    return db;
}

/// Prints what was wrong, for a child, and says so by its exit code.
int verdict(closed_calls const& calls) {
    if (!calls.wrong().empty()) std::fprintf(stderr, "%s\n", calls.wrong().c_str());
    return calls.wrong().empty() ? 0 : 1;
}

TEST_CASE("closed: after close() every call says closed, and closing again is fine") {
    memory disk;
    auto db = filled(disk, 60);
    REQUIRE(db.close());
    closed_calls calls{"closed"};
    calls.engine(db, false);
    CHECK(calls.wrong() == "");
    CHECK(db.close());
    CHECK(open_on(disk).get(key_of(3))->has_value());
}

TEST_CASE("closed: after abandon() every call says closed") {
    auto db = filled({}, 60);
    db.abandon();
    closed_calls calls{"closed"};
    calls.engine(db, false);
    CHECK(calls.wrong() == "");
}

TEST_CASE("closed: a store that was moved from says so at every call, and can be assigned to") {
    memory disk;
    auto db = filled(disk, 60);
    auto other = std::move(db);
    closed_calls calls{"moved from"};
    calls.engine(db, true); // NOLINT: that it was moved from is the point
    CHECK(calls.wrong() == "");
    db.abandon();
    CHECK(db.last_lsn() == keel::lsn{});
    CHECK(other.get(key_of(3))->has_value());
    db = std::move(other);
    CHECK(db.get(key_of(3))->has_value());
    db = open_on({});
    CHECK(open_on(disk).get(key_of(3))->has_value());
}

TEST_CASE("closed: what reads from a store that is gone says closed") {
    auto db = std::make_unique<store>(filled({}, 60));
    auto tx = db->begin();
    auto written = db->begin();
    REQUIRE(written.put("own", "v"));
    auto scan = db->scan();
    auto keys = db->keys();
    auto of_tx = tx.scan();
    auto at = scan.begin();
    REQUIRE(at != scan.end());
    auto const moment = db->snapshot();
    db.reset();
    closed_calls calls{"closed"};
    ++at;
    CHECK((at == scan.end()));
    calls.expect_scan("scan under way", scan);
    calls.expect_scan("keys", keys);
    calls.expect_scan("scan of a transaction", of_tx);
    calls.expect("tx.get", tx.get(key_of(1)));
    calls.expect_scan("tx.scan", tx.scan());
    calls.expect("tx.commit", tx.commit());
    calls.expect("commit of writes", written.commit());
    CHECK(calls.wrong() == "");
    CHECK(tx.get(key_of(1)).error().code == errc::closed); // also where it has ended
}

TEST_CASE("closed: a scan that saw all keys before the end says so, whatever became of the store") {
    auto db = filled({}, 20);
    auto scan = db.keys();
    int seen = 0;
    for (auto key : scan) seen += key.starts_with("key");
    REQUIRE(db.close());
    CHECK(seen == 20);
    CHECK(scan.status());
}

TEST_CASE("closed: a scan never shows what the next opening makes of the files, nor takes it for damage") {
    for (int steps = 0; steps < 120; steps += 7) {
        memory disk;
        auto db = filled(disk, 120);
        auto scan = db.scan();
        auto at = scan.begin();
        for (int i = 0; i < steps; ++i) ++at;
        auto const seen = std::string{(*at).first} + "=" + std::string{(*at).second};
        REQUIRE(db.close());
        // Segments are given new lives, tables removed.
        auto next = open_on(disk);
        for (int round = 0; round < 3; ++round) {
            for (int i = 0; i < 120; ++i) REQUIRE(next.put(key_of(i), std::string(100, 'w')));
            REQUIRE(next.compact());
        }
        CHECK(seen == key_of(steps) + "=" + std::string(100, 'v')); // what was given stays as it is
        ++at;
        CHECK((at == scan.end()));
        REQUIRE_FALSE(scan.status());
        CHECK(scan.status().error().code == errc::closed);
    }
}

TEST_CASE("closed: a read that fails while the store is being closed is the end of the scan, not damage") {
    using reading = keel::detail::reading_config<store::config_type>;
    using view_type = keel::detail::store_version<reading>;
    memory disk;
    {
        auto db = filled(disk, 60);
        REQUIRE(db.compact());
        REQUIRE(db.close());
    }
    keel::wal::layout const paths{"db"};
    auto const manifest = keel::wal::load_manifest<reading::checksum>(disk, paths);
    REQUIRE_FALSE(manifest.state->tables.empty());
    auto const& entry = manifest.state->tables.begin()->second;
    for (std::uint64_t at = 600; at < entry.size / 2; at += 64)
        REQUIRE(disk.corrupt(paths.table(entry.id), at, std::byte{1}));
    for (bool const closes : {false, true}) {
        auto const lifetime = std::make_shared<keel::wal::store_lifetime>();
        auto view = std::make_shared<view_type>();
        auto const cache = std::make_shared<keel::table::read_cache>(std::size_t{1} << 20, true);
        auto const meets_damage = [&](keel::finding const&) {
            if (closes) lifetime->end();
        };
        auto const listener = std::make_shared<keel::table::damage_listener const>(meets_damage);
        view->tables[1].push_back(
            std::make_shared<view_type::table_type const>(disk, paths.table(entry.id), entry, cache, listener));
        view->finish();
        keel::detail::range_walk<reading> scan{view, keel::lsn_max, {}, lifetime};
        int seen = 0;
        for (scan.start(); scan.valid(); scan.advance()) seen += scan.value().size() == 100;
        CHECK(seen < 60);
        REQUIRE_FALSE(scan.status());
        CHECK(scan.status().error().code == (closes ? errc::closed : errc::corruption));
    }
}

TEST_CASE("closed: scans that run while a store is closed and opened again end whole, or with closed") {
    constexpr int keys = 150;
    memory disk;
    auto db = std::make_unique<store>(filled(disk, keys));
    std::atomic<int> ended_early{0};
    for (int round = 0; round < 20; ++round) {
        std::atomic<bool> going{false};
        auto scan = db->scan(keel::range{.reverse = round % 2 == 1});
        std::thread reader{[&] {
            for (int turn = 0; turn < 50; ++turn) {
                int seen = 0;
                bool right = true;
                for (auto&& [key, value] : scan) {
                    right = right && value == std::string(100, value.front());
                    ++seen;
                    going = true;
                }
                auto const done = scan.status();
                CHECK(right);
                if (done) CHECK(seen == keys);
                else CHECK_MESSAGE(done.error().code == errc::closed, to_string(done.error()));
                if (!done) {
                    ++ended_early;
                    return;
                }
            }
        }};
        while (!going) std::this_thread::yield();
        REQUIRE(db->close());
        auto next = std::make_unique<store>(open_on(disk));
        for (int i = 0; i < keys; ++i) REQUIRE(next->put(key_of(i), std::string(100, static_cast<char>('a' + round))));
        REQUIRE(next->compact());
        reader.join();
        CHECK(next->recovery().findings.empty());
        CHECK(next->state() == keel::engine_state::healthy);
        db = std::move(next);
    }
    CHECK(ended_early > 0);
}

TEST_CASE("closed: in a forked child every call says closed and names the fork, and nothing is done") {
    for (bool const background : {false, true}) {
        memory disk;
        auto db = filled(disk, 60, background);
        auto tx = db.begin();
        REQUIRE(tx.put("own", "v"));
        auto scan = db.scan();
        auto of_tx = tx.scan();
        auto at = scan.begin();
        auto moment = db.snapshot();
        CHECK(in_child([&] {
                  ::alarm(20);
                  auto const before = background ? 0 : disk.operations();
                  closed_calls calls{"fork"};
                  calls.engine(db, true);
                  calls.expect("get at a snapshot", db.get("key", moment));
                  calls.expect("tx.get", tx.get(key_of(1)));
                  calls.expect("tx.put", tx.put(key_of(1), "v"));
                  calls.expect("tx.erase", tx.erase(key_of(1)));
                  calls.expect_scan("tx.scan", tx.scan());
                  calls.expect("tx.commit", tx.commit());
                  ++at;
                  if (at != scan.end()) return 2;
                  calls.expect_scan("scan under way", scan);
                  calls.expect_scan("scan of a transaction", of_tx);
                  // Every way to let go.
                  { auto const moved = std::move(scan); }
                  { auto const copy = moment; }
                  moment = db.snapshot();
                  tx.rollback();
                  { auto const moved = std::move(tx); }
                  tx = db.begin();
                  db.abandon();
                  auto other = std::move(db);
                  db = std::move(other);
                  { auto const gone = std::move(db); }
                  if (!background && disk.operations() != before) return 3;
                  return verdict(calls);
              }) == 0);
        REQUIRE(tx.commit());
        CHECK(db.get("own")->has_value());
        REQUIRE(db.close());
        auto again = open_on(disk);
        CHECK(again.recovery().findings.empty());
        CHECK(again.recovery().clean_close);
        CHECK(again.get(key_of(59))->has_value());
    }
}

TEST_CASE("closed: a child opens stores of its own") {
    auto db = filled({}, 20, true);
    CHECK(in_child([&] {
              ::alarm(20);
              auto mine = store::open("db", model::test_options(), memory{});
              if (!mine || !mine->put("k", "v") || !mine->compact()) return 1;
              auto tx = mine->begin();
              if (!tx.put("l", "w") || !tx.commit()) return 2;
              auto const found = mine->get("l");
              if (!found || *found != "w" || !mine->close()) return 3;
              db = std::move(*mine); // lets go of the parent's
              return db.get("k").error().message.find("fork") == std::string::npos ? 0 : 4;
          }) == 0);
    CHECK(db.get(key_of(3))->has_value());
}

TEST_CASE("closed: children that are forked while threads write and read let go of everything without waiting") {
    auto db = filled({}, 40, true);
    std::atomic<bool> stop{false};
    std::vector<std::thread> crew;
    for (int t = 0; t < 2; ++t)
        crew.emplace_back([&, t] {
            for (int i = 0; !stop; ++i) {
                static_cast<void>(db.put(key_of(i % 100), "from thread " + std::to_string(t)));
                auto const moment = db.snapshot();
                for (auto key : db.keys(keel::range{}, moment)) static_cast<void>(key);
                auto tx = db.begin();
                static_cast<void>(tx.get(key_of(3)));
            }
        });
    for (int i = 0; i < 60; ++i) {
        auto tx = std::optional{db.begin()};
        auto scan = std::optional{db.scan()};
        auto at = scan->begin();
        auto moment = std::optional{db.snapshot()};
        auto const how = in_child([&] {
            ::alarm(20);
            tx.reset();
            scan.reset();
            moment.reset();
            auto const refused = db.put("k", "v");
            auto const gone = std::make_unique<store>(std::move(db));
            return refused || refused.error().code != errc::closed ? 1 : 0;
        });
        CHECK(how == 0);
        static_cast<void>(at);
    }
    stop = true;
    for (auto& t : crew) t.join();
    REQUIRE(db.close());
}

} // namespace closed_store
