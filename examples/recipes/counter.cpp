// SPDX-License-Identifier: BSL-1.0
// A counter that several threads add to. update() reads and writes the key as one step, and runs again after a conflict.

#include <keel/store.hpp>

#include <cstdint>
#include <filesystem>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

using store = keel::engine<>;

keel::result<keel::lsn> add(store& db, std::string_view key, std::uint64_t by) {
    return db.update(key, [by](std::optional<std::string> const& old) {
        return std::to_string((old ? std::stoull(*old) : 0) + by);
    });
}

keel::result<void> count(std::string const& folder) {
    KEEL_TRY_LET(db, store::open(folder));
    std::vector<keel::result<keel::lsn>> last(4, keel::lsn{});
    {
        std::vector<std::jthread> threads;
        for (auto& mine : last)
            threads.emplace_back([&] {
                for (int i = 0; i < 25 && mine; ++i) mine = add(db, "visits", 1);
            });
    }
    for (auto& each : last) KEEL_TRY(each);
    KEEL_TRY_LET(visits, db.get("visits"));
    std::cout << "visits: " << visits.value_or("none") << '\n';
    if (visits != "100") return keel::failure(keel::errc::corruption, "a count was lost");
    return db.close();
}

int main() {
    std::filesystem::remove_all("counter.store");
    auto const done = count("counter.store");
    if (!done) std::cerr << to_string(done.error()) << '\n';
    std::filesystem::remove_all("counter.store");
    return done ? 0 : 1;
}
