// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

// Real processes, killed for real: a child writes from several threads and tells each acknowledged key through a pipe; the parent
// kills it with SIGKILL after a random while, opens the store and looks for every key it was told of.

#include "../support/slow_build.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

constexpr int rounds = keel::test::sanitized ? 12 : 50;
constexpr int threads = 3;

std::string value_of(std::string const& key) { return key + std::string(20 + key.size() * 7 % 300, 'v'); }

template <class Store>
[[noreturn]] void write_until_killed(std::string const& folder, int round, int pipe_end) {
    auto db = Store::open(folder);
    if (!db) _exit(3);
    std::vector<std::thread> crew;
    for (int t = 0; t < threads; ++t)
        crew.emplace_back([&, t] {
            for (int i = 0;; ++i) {
                auto const key = "r" + std::to_string(round) + ".t" + std::to_string(t) + "." + std::to_string(i);
                if (!db->put(key, value_of(key))) _exit(4);
                auto const line = key + "\n"; // shorter than PIPE_BUF: never mixed with another thread's
                if (::write(pipe_end, line.data(), line.size()) != static_cast<ssize_t>(line.size())) _exit(5);
            }
        });
    for (auto& t : crew) t.join();
    _exit(0);
}

std::string read_all(int from, std::atomic<bool>& began) {
    std::string all;
    char buffer[65536];
    for (ssize_t n; (n = ::read(from, buffer, sizeof buffer)) > 0; began = true)
        all.append(buffer, static_cast<std::size_t>(n));
    began = true;
    return all;
}

template <class Store>
void kill_rounds(char const* name) {
    auto const folder = std::filesystem::temp_directory_path() / ("keel-kill-" + std::to_string(getpid()) + name);
    std::filesystem::remove_all(folder);
    std::vector<std::string> told;
    std::uint64_t found = 0;
    for (int round = 0; round < rounds; ++round) {
        int ends[2];
        REQUIRE(::pipe(ends) == 0);
        auto const child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            ::close(ends[0]);
            write_until_killed<Store>(folder.string(), round, ends[1]);
        }
        ::close(ends[1]);
        // Most rounds die while they write, however slow the machine is; some while they open.
        std::atomic<bool> began{round % 5 == 0};
        std::thread reaper{[&] {
            while (!began) ::usleep(200);
            ::usleep(static_cast<useconds_t>(1000 + round * 7919 % 25000));
            ::kill(child, SIGKILL);
        }};
        auto const lines = read_all(ends[0], began);
        reaper.join();
        ::close(ends[0]);
        int status = 0;
        ::waitpid(child, &status, 0);
        REQUIRE(WIFSIGNALED(status));
        // The last line may have been cut by the kill.
        for (std::size_t at = 0, end; (end = lines.find('\n', at)) != std::string::npos; at = end + 1)
            told.push_back(lines.substr(at, end - at));

        keel::open_options read_only;
        read_only.read_only = true;
        auto db = Store::open(folder.string(), read_only);
        if (!db && db.error().code == keel::errc::not_found && told.empty())
            continue; // killed before there was a store
        REQUIRE_MESSAGE(db, keel::to_string(db.error()));
        auto const& report = db->recovery();
        CHECK(report.lost_records == 0);
        for (auto const& f : report.findings)
            CHECK_MESSAGE(!f.is_corruption(), std::string{name_of(f.kind)} << ": " << f.detail);
        for (auto const& key : told) {
            auto const value = db->get(key);
            REQUIRE(value);
            REQUIRE_MESSAGE(*value, "acknowledged and missing after round " << round << ": " << key);
            CHECK(**value == value_of(key));
            ++found;
        }
    }
    CHECK(told.size() > rounds); // else it was killed before it wrote anything, and nothing was tested
    std::printf("SIGKILL loop, %-12s %d rounds, %zu acknowledged keys, looked up %llu times\n", name, rounds,
                told.size(), static_cast<unsigned long long>(found));
    std::filesystem::remove_all(folder);
}

} // namespace

TEST_CASE("kill: nothing acknowledged is missing after rounds of SIGKILL under group_commit") {
    kill_rounds<keel::engine<keel::durability::group_commit, keel::segment_size<256 * keel::KiB>>>("group_commit");
}
TEST_CASE("kill: nothing accepted is missing after rounds of SIGKILL under os_buffered") {
    kill_rounds<keel::engine<keel::durability::os_buffered, keel::segment_size<256 * keel::KiB>>>("os_buffered");
}
