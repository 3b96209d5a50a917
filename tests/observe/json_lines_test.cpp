// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

#include "../support/damage_tools.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::ostringstream told;

keel::open_options const quiet{.background_thread = false};

using keel::KiB;
using watched = keel::engine<keel::io::memory, keel::segment_size<4 * KiB>, keel::observe::json_lines_to<told>,
                             keel::repair::skip_corrupted>;

/// What was told since the last call: every line must be JSON with a time and an event.
std::vector<nlohmann::json> events() {
    std::vector<nlohmann::json> all;
    std::istringstream lines{told.str()};
    for (std::string line; std::getline(lines, line);) {
        auto const one = nlohmann::json::parse(line);
        CHECK(one.at("time").get<std::string>().size() == 20);
        CHECK(one.contains("event"));
        all.push_back(one);
    }
    told.str({});
    return all;
}

auto count(std::vector<nlohmann::json> const& all, std::string_view name) {
    return std::ranges::count_if(all, [&](auto const& e) { return e.at("event") == name; });
}

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
