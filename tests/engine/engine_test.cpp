// SPDX-License-Identifier: BSL-1.0
#include <keel/engine.hpp>

#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <map>
#include <ranges>
#include <string>
#include <thread>
#include <vector>

namespace {

using store = keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>>;
using small_store = keel::engine<keel::io::memory, keel::segment_size<4 * keel::KiB>, keel::durability::os_buffered>;

template <class Store>
std::map<std::string, std::string> all_of(Store const& db, keel::range which = {}) {
    std::map<std::string, std::string> all;
    auto scan = db.scan(std::move(which));
    for (auto&& [key, value] : scan) all.emplace(key, value);
    CHECK(scan.status());
    return all;
}

} // namespace

TEST_CASE("engine: a value put is the value got, until it is erased") {
    auto db = store::open("db", model::test_options());
    REQUIRE(db);
    CHECK(db->put("k", "v")->value == 1);
    CHECK(**db->get("k") == "v");
    CHECK(db->erase("k")->value == 2);
    CHECK(!*db->get("k"));
    CHECK(!*db->get("never"));
}

TEST_CASE("engine: a batch is written as a whole and takes consecutive LSNs") {
    auto db = store::open("db", model::test_options());
    keel::write_batch b;
    b.put("a", "1");
    b.put("b", "2");
    b.erase("a");
    CHECK(db->write(b)->value == 3);
    CHECK(!*db->get("a"));
    CHECK(**db->get("b") == "2");
    CHECK(db->write(keel::write_batch{}).error().code == keel::errc::invalid_argument);
}

TEST_CASE("engine: empty keys and keys over the limit are refused and nothing is written") {
    auto db = store::open("db", model::test_options());
    CHECK(db->put("", "v").error().code == keel::errc::invalid_argument);
    CHECK(db->put(std::string(65536, 'k'), "v").error().code == keel::errc::too_large);
    CHECK(db->put("k", std::string(70000, 'v')).error().code == keel::errc::too_large);
    CHECK(db->put("k", std::string_view{"v", keel::format::record_bytes_max}).error().message.find("limit for both") !=
          std::string::npos);
    CHECK(db->last_lsn().value == 0);
    CHECK(db->put("k", "v")->value == 1);
}

TEST_CASE("engine: a snapshot never changes, and one of another store is refused") {
    auto db = store::open("db", model::test_options());
    auto other = store::open("db", model::test_options());
    REQUIRE(db->put("k", "old"));
    auto const before = db->snapshot();
    REQUIRE(db->put("k", "new"));
    REQUIRE(db->put("later", "x"));
    CHECK(**db->get("k", before) == "old");
    CHECK(!*db->get("later", before));
    CHECK(**db->get("k") == "new");
    int seen = 0;
    for (auto&& [key, value] : db->scan(keel::range{}, before)) {
        CHECK(key == "k");
        CHECK(value == "old");
        ++seen;
    }
    CHECK(seen == 1);
    CHECK(other->get("k", before).error().code == keel::errc::invalid_argument);
}

TEST_CASE("engine: scans agree with a map, both ways, over recovered and new keys") {
    CHECK(rc::check("scans equal the model", [] {
        auto const key = rc::gen::map(rc::gen::inRange(0, 40), [](int i) { return "k" + std::to_string(i); });
        auto const before =
            *rc::gen::container<std::vector<std::pair<std::string, int>>>(rc::gen::pair(key, rc::gen::inRange(0, 5)));
        auto const after =
            *rc::gen::container<std::vector<std::pair<std::string, int>>>(rc::gen::pair(key, rc::gen::inRange(0, 5)));
        auto const from = *key;
        auto const to = *key;
        keel::io::memory disk;
        std::map<std::string, std::string> expected;
        auto const play = [&](auto& db, auto const& list) {
            for (auto const& [k, v] : list) {
                if (v == 0) {
                    RC_ASSERT(db->erase(k).has_value());
                    expected.erase(k);
                } else {
                    RC_ASSERT(db->put(k, std::to_string(v)).has_value());
                    expected[k] = std::to_string(v);
                }
            }
        };
        {
            auto db = small_store::open("db", model::test_options(), disk);
            play(db, before);
        }
        auto db = small_store::open("db", model::test_options(), disk);
        play(db, after);
        RC_ASSERT(all_of(*db) == expected);
        std::map<std::string, std::string> part;
        for (auto const& [k, v] : expected)
            if (k >= from && k < to) part.emplace(k, v);
        RC_ASSERT(all_of(*db, {.from = from, .to = to}) == part);
        std::vector<std::string> backwards;
        for (auto&& [k, v] : db->scan(keel::range{.from = from, .to = to, .reverse = true})) backwards.emplace_back(k);
        std::vector<std::string> wanted;
        for (auto at = part.rbegin(); at != part.rend(); ++at) wanted.push_back(at->first);
        RC_ASSERT(backwards == wanted);
    }));
}

TEST_CASE("engine: a prefix scan ends where the prefix does, also at 0xFF") {
    auto db = store::open("db", model::test_options());
    for (std::string const key : {"a", "ab", "ab\xFF", "ab\xFF\xFF", "ac", "b"}) REQUIRE(db->put(key, "v"));
    std::vector<std::string> seen;
    for (auto&& [key, value] : db->scan(keel::prefix{"ab"})) seen.emplace_back(key);
    CHECK(seen == std::vector<std::string>{"ab", "ab\xFF", "ab\xFF\xFF"});
}

TEST_CASE("engine: a scan is started anew at any key of its range, in its direction") {
    auto db = store::open("db", model::test_options());
    for (std::string const key : {"a", "b", "d", "e", "f"}) REQUIRE(db->put(key, "of " + key));
    auto up = db->scan(keel::range{.from = "b", .to = "f"});
    CHECK((*up.seek("c")).first == "d");
    CHECK((*up.seek("d")).second == "of d");
    CHECK((*up.seek("a")).first == "b");
    CHECK(up.seek("f") == up.end());
    CHECK((*up.begin()).first == "b");
    auto down = db->scan(keel::range{.from = "b", .to = "f", .reverse = true});
    CHECK((*down.seek("c")).first == "b");
    CHECK((*down.seek("d")).first == "d");
    CHECK((*down.seek("x")).first == "e");
    CHECK(down.seek("a") == down.end());
    std::vector<std::string> keys;
    for (auto const key : db->keys(keel::prefix{"e"})) keys.emplace_back(key);
    auto all = db->keys();
    std::ranges::transform(all, std::back_inserter(keys), [](auto key) { return std::string{key}; });
    CHECK(keys == std::vector<std::string>{"e", "a", "b", "d", "e", "f"});
    auto rows = db->scan();
    auto const third = std::ranges::find_if(rows, [](auto const& row) { return row.second == "of d"; });
    CHECK((*third).first == "d");
}

TEST_CASE("engine: a range of keys is erased, in as many batches as it takes") {
    auto db = store::open("db", model::test_options());
    auto const key = [](int i) { return "k" + std::to_string(10000 + i); };
    for (int i = 0; i < 3000; ++i) REQUIRE(db->put(key(i), "v"));
    auto const before = db->snapshot();
    CHECK(db->erase(keel::range{.from = key(100), .to = key(2900)}).value() == 2800);
    CHECK(all_of(*db).size() == 200);
    CHECK(db->last_lsn().value == 3000 + 2800);
    CHECK_FALSE(db->get(key(100)).value());
    CHECK(db->get(key(2900)).value() == "v");
    CHECK(db->get(key(100), before).value() == "v");
    CHECK(db->erase(keel::range{.from = key(100), .to = key(2900)}).value() == 0);
    CHECK(db->erase(keel::prefix{"k129"}).value() == 100);
    CHECK(db->erase(keel::range{.reverse = true}).value() == 100);
    CHECK(all_of(*db).empty());
}

TEST_CASE("engine: everything is there again after close and open, and after the death of the process") {
    keel::io::memory disk;
    {
        auto db = store::open("db", model::test_options(), disk);
        for (int i = 0; i < 1000; ++i)
            REQUIRE(db->put("key" + std::to_string(i), std::string(100, static_cast<char>('a' + i % 26))));
        REQUIRE(db->close());
        CHECK(db->put("k", "v").error().code == keel::errc::closed);
        CHECK(db->get("key1").error().code == keel::errc::closed);
    }
    auto db = store::open("db", model::test_options(), disk);
    REQUIRE(db);
    CHECK(db->recovery().clean_close);
    CHECK(all_of(*db).size() == 1000);
    REQUIRE(db->put("one", "more"));
    db->abandon();
    auto again = store::open("db", model::test_options(), disk.after_process_crash());
    REQUIRE(again);
    CHECK(!again->recovery().clean_close);
    CHECK(again->recovery().findings.empty());
    CHECK(all_of(*again).size() == 1001);
}

TEST_CASE("engine: many writers and readers, each write seen once it is acknowledged") {
    auto options = model::test_options();
    options.background_thread = true;
    auto db = small_store::open("db", options);
    auto synced = store::open("db", options);
    REQUIRE(db);
    REQUIRE(synced);
    auto const work = [](auto& one) {
        std::atomic<bool> stop{false};
        std::vector<std::thread> crew;
        for (int t = 0; t < 4; ++t)
            crew.emplace_back([&, t] {
                for (int i = 0; i < 300; ++i) {
                    auto const key = std::to_string(t) + "." + std::to_string(i);
                    if (!one.put(key, key + "!")) std::abort();
                    auto const got = one.get(key);
                    if (!got || !*got || **got != key + "!") std::abort();
                }
            });
        std::thread reader{[&] {
            while (!stop.load()) {
                auto const now = one.snapshot();
                std::size_t first = 0;
                std::size_t second = 0;
                for ([[maybe_unused]] auto&& pair : one.scan(keel::range{}, now)) ++first;
                for ([[maybe_unused]] auto&& pair : one.scan(keel::range{}, now)) ++second;
                if (first != second) std::abort();
            }
        }};
        for (auto& t : crew) t.join();
        stop.store(true);
        reader.join();
        CHECK(all_of(one).size() == 1200);
        CHECK(one.last_lsn().value == 1200);
    };
    work(*db);
    work(*synced);
}

TEST_CASE("engine: a second opening of the same store is refused while the first one lives") {
    keel::io::memory disk;
    auto db = store::open("db", model::test_options(), disk);
    REQUIRE(db);
    CHECK(store::open("db", model::test_options(), disk).error().code == keel::errc::locked);
    REQUIRE(db->close());
    CHECK(store::open("db", model::test_options(), disk).has_value());
}

TEST_CASE("engine: a read-only opening serves reads, refuses writes and changes no byte") {
    keel::io::memory disk;
    {
        auto db = store::open("db", model::test_options(), disk);
        REQUIRE(db->put("k", "v"));
        db->abandon();
    }
    auto const before = disk.after_process_crash();
    auto options = model::test_options();
    options.read_only = true;
    auto db = store::open("db", options, disk);
    REQUIRE(db);
    CHECK(**db->get("k") == "v");
    CHECK(db->put("k", "w").error().code == keel::errc::read_only);
    CHECK(db->state() == keel::engine_state::read_only);
    REQUIRE(db->close());
    CHECK(disk.equal(before));
}
