// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_OBSERVE_WATCHED_HPP
#define KEEL_TESTS_OBSERVE_WATCHED_HPP

// A store whose events are read back as JSON.

#include <keel/keel.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace observe_tests {

inline std::ostringstream told;

inline keel::open_options const quiet{.background_thread = false};

using watched = keel::engine<keel::io::memory, keel::segment_size<4 * keel::KiB>, keel::observe::json_lines_to<told>,
                             keel::repair::skip_corrupted>;

/// What was told since the last call: every line must be JSON with a time and an event.
inline std::vector<nlohmann::json> events() {
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

inline auto count(std::vector<nlohmann::json> const& all, std::string_view name) {
    return std::ranges::count_if(all, [&](auto const& e) { return e.at("event") == name; });
}

} // namespace observe_tests

#endif
