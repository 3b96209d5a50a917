// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

#include "../support/damage_tools.hpp"
#include "watched.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace {

using keel::KiB;
using observe_tests::count;
using observe_tests::events;
using observe_tests::quiet;
using observe_tests::told;
using observe_tests::watched;

void fill(watched& db) {
    for (int i = 0; i < 40; ++i) REQUIRE(db.put("key" + std::to_string(i), std::string(300, 'v')).has_value());
}

} // namespace

TEST_CASE("json_lines: a life of a store is told line by line: segments, damage, changes of state") {
    keel::io::memory disk;
    static_cast<void>(events());
    {
        auto db = watched::open("db", quiet, disk);
        REQUIRE(db.has_value());
        fill(*db);
        REQUIRE(db->close().has_value());
    }
    auto const life = events();
    CHECK(count(life, "segment_activated") >= 2);
    CHECK(count(life, "segment_sealed") == count(life, "segment_activated"));
    CHECK(count(life, "damage_found") == 0);
    auto const first = std::ranges::find_if(life, [](auto const& e) { return e.at("event") == "segment_sealed"; });
    REQUIRE(first != life.end());
    CHECK(first->at("first_lsn") == 1);

    keel::test::flip_bit(disk, "db/log/0000000000000001.seg", 700 * 8);
    auto thorough = quiet;
    thorough.verify = keel::verify_depth::deep;
    auto db = watched::open("db", thorough, disk);
    REQUIRE(db.has_value());
    auto const damage = events();
    REQUIRE(count(damage, "damage_found") == 1);
    auto const found = std::ranges::find_if(damage, [](auto const& e) { return e.at("event") == "damage_found"; });
    CHECK(found->at("damage").at("kind") == "corrupt_record");
    CHECK(found->at("damage").at("lost_records") == 1);
    CHECK(found->at("damage").at("file") == "log/0000000000000001.seg");
}

TEST_CASE("json_lines: a failed sync is told with its reason") {
    keel::io::memory disk;
    using failing = keel::io::faulty<keel::io::memory>;
    using store = keel::engine<failing, keel::segment_size<4 * KiB>, keel::observe::json_lines_to<told>>;
    failing fs{disk};
    auto db = store::open("db", quiet, fs);
    REQUIRE(db.has_value());
    REQUIRE(db->put("a", "1").has_value());
    static_cast<void>(events());
    fs.set_plan({{{.kind = keel::io::fault_kind::fail_sync, .on = keel::io::fault_class::sync}}});
    REQUIRE(db->put("b", "2").has_value()); // survived: written again to a fresh segment
    CHECK_MESSAGE(events().empty(), "a writer does not wait for the observer");
    db->housekeep(false);
    auto const all = events();
    REQUIRE(count(all, "segment_abandoned") == 1);
    auto const given_up = std::ranges::find_if(all, [](auto const& e) { return e.at("event") == "segment_abandoned"; });
    CHECK(given_up->at("reason").get<std::string>().find("io_error") != std::string::npos);
    CHECK(count(all, "state_changed") == 1);
    REQUIRE(db->close().has_value());
}

TEST_CASE("json_lines: a scan that ended early and was not asked is a line with the place") {
    keel::observe::event const e = keel::observe::scan_unchecked{
        {.code = keel::errc::corruption, .message = "does not verify", .file = "db/tables/1.tab", .offset = 512}};
    auto const line = nlohmann::json::parse(keel::observe::to_json(e, 0));
    CHECK(line.at("event") == "scan_unchecked");
    CHECK(line.at("file") == "db/tables/1.tab");
    CHECK(line.at("offset") == 512);
    CHECK(line.at("reason").get<std::string>().find("does not verify") != std::string::npos);
}
