// SPDX-License-Identifier: BSL-1.0
#include <keel/engine/compaction_by_hand.hpp>

#include <keel/keel.hpp>

#include <io/posix_folder.hpp>
#include <support/no_threads.hpp>

#include "../support/model.hpp"
#include "stores.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

// A store on a machine that gives no thread: it says so, and writers do the work.

namespace {

using threadless = engine_tests::tiny_store<>;

keel::open_options with_threads() {
    auto o = model::test_options();
    o.background_thread = true;
    return o;
}
std::string threadless_key(int i) { return "key" + std::to_string(1000 + i % 500); }

/// Writes until `enough()`, at most for some minutes; false: it never was.
template <class Store, class Enough>
bool write_until(Store& db, std::map<std::string, std::string>& model, Enough const& enough) {
    for (int i = 0; i < 1'000'000; ++i) {
        if (i % 64 == 0 && enough()) return true;
        auto const value = std::to_string(i) + std::string(60, 'v');
        if (!db.put(threadless_key(i), value)) return false;
        model[threadless_key(i)] = value;
        if (i % 64 == 0) std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    return false;
}
template <class Store>
void check_model(Store& db, std::map<std::string, std::string> const& model) {
    std::size_t seen = 0;
    for (auto const& [key, value] : db.scan()) {
        auto const at = model.find(std::string{key});
        REQUIRE(at != model.end());
        CHECK(at->second == value);
        ++seen;
    }
    CHECK(seen == model.size());
}

} // namespace

TEST_CASE("threads: without one a store takes writes, merges, says so, and ends that once there is one") {
    keel::io::memory disk;
    std::map<std::string, std::string> model;
    auto db = threadless::open("db", with_threads(), disk);
    REQUIRE(db);
    std::optional<keel::test::no_threads> none{std::in_place};
    REQUIRE(db->put("first", "value"));
    model["first"] = "value";
    CHECK(db->state() == keel::engine_state::degraded);
    CHECK(db->state_reason().find("until a thread for it can be started") != std::string::npos);
    CHECK(write_until(*db, model, [&] { return db->storage().merges > 5; }));
    // It does not grow for ever.
    auto const most = 8 * 16 * keel::KiB;
    for (int n = 0; n < 20; ++n) {
        auto const merges = db->storage().merges;
        CHECK(write_until(*db, model, [&] { return db->storage().merges > merges; }));
        CHECK(db->storage().log_bytes < 4 * most);
    }
    CHECK(db->state() == keel::engine_state::degraded);
    CHECK(db->compact());
    check_model(*db, model);
    none.reset();
    CHECK(write_until(*db, model, [&] { return db->state() == keel::engine_state::healthy; }));
    CHECK(db->close());
    db = threadless::open("db", with_threads(), disk);
    REQUIRE(db);
    CHECK_FALSE(db->recovery().damaged());
    check_model(*db, model);
}

TEST_CASE("threads: several writers without one all go on, and so do readers") {
    keel::io::memory disk;
    auto db = threadless::open("db", with_threads(), disk);
    REQUIRE(db);
    std::atomic<bool> begin{false};
    std::atomic<int> failed{0};
    std::vector<std::thread> all;
    for (int t = 0; t < 3; ++t)
        all.emplace_back([&, t] {
            while (!begin) std::this_thread::yield();
            for (int i = 0; i < 3000; ++i)
                failed += !db->put("key" + std::to_string(t) + "/" + std::to_string(i % 300), std::string(60, 'v'));
        });
    all.emplace_back([&] {
        while (!begin) std::this_thread::yield();
        for (int i = 0; i < 10'000; ++i) failed += !db->get("key1/" + std::to_string(i % 300));
    });
    keel::test::no_threads const now; // the test's own are there
    begin = true;
    for (auto& t : all) t.join();
    CHECK(failed == 0);
    CHECK(db->state() == keel::engine_state::degraded);
    CHECK(std::ranges::distance(db->keys().begin(), std::default_sentinel) == 900);
    CHECK(db->close());
}

TEST_CASE("threads: without one the interval between two syncs is kept by each write") {
    keel::io::memory disk;
    auto db = engine_tests::other_store::open("db", with_threads(), disk);
    REQUIRE(db);
    std::optional<keel::test::no_threads> none{std::in_place};
    for (int i = 0; i < 300; ++i) {
        auto const at = db->put(threadless_key(i), "value");
        REQUIRE(at);
        CHECK(db->durable_lsn() >= *at);
    }
    none.reset();
    db->abandon();
}

TEST_CASE("threads: a process that may have no other opens, writes, merges, closes and opens again") {
    keel::io::memory const disk;
    auto const nobody = uid_t{65534};
    CHECK(keel::tests::in_child([&] {
              if (::geteuid() == 0 && ::setresuid(nobody, nobody, nobody) != 0)
                  return 1; // the limit does not bind root
              rlimit const none{0, 0};
              if (::setrlimit(RLIMIT_NPROC, &none) != 0) return 2;
              std::map<std::string, std::string> model;
              auto db = threadless::open("db", with_threads(), disk);
              if (!db || !db->put("first", "value")) return 3;
              if (db->state() != keel::engine_state::degraded) return 4;
              model["first"] = "value";
              if (!write_until(*db, model, [&] { return db->storage().merges > 2; })) return 5;
              if (!db->compact() || !db->close()) return 6;
              db = threadless::open("db", with_threads(), disk);
              if (!db || db->recovery().damaged()) return 7;
              for (auto const& [key, value] : model)
                  if (auto const got = db->get(key); !got || *got != value) return 8;
              return 0;
          }) == 0);
}
