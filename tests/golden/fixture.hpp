// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_GOLDEN_FIXTURE_HPP
#define KEEL_TESTS_GOLDEN_FIXTURE_HPP

// The stores whose bytes are kept: made the same way every time, clock and entropy standing still. golden_test.cpp holds them to
// what is kept, make_fixtures.cpp writes them out once for each new format number.

#include "support/damage_tools.hpp"

#include <cstdlib>
#include <filesystem>
#include <string>

namespace keel::test {

inline open_options still_options() {
    auto o = quiet_options(repair_strategy::refuse);
    o.clock_ns = [] { return std::uint64_t{1'700'000'000'123'456'789}; };
    o.entropy = [] { return std::uint64_t{0x0123456789ABCDEF}; };
    return o;
}

/// One batch of three in one segment, closed.
inline io::memory tiny_store() {
    io::memory disk;
    auto store = small_engine::open(store_folder, still_options(), disk);
    write_batch batch;
    batch.put("alpha", "one");
    batch.put("beta", std::string_view{"two\0\xFF", 5});
    batch.erase("alpha");
    static_cast<void>(store->write(batch));
    static_cast<void>(store->close());
    return disk.after_process_crash();
}

/// What the kept store holds in the end: record i puts key i mod 7; each ninth erases it; a batch of three now and then.
inline history kept_history() {
    history past;
    for (int i = 1; i <= 60; ++i) {
        std::vector<change> batch;
        for (int k = 0; k < (i % 10 == 0 ? 3 : 1); ++k) {
            auto const n = i + 100 * k;
            change c{.key = "key " + std::to_string(n % 7)};
            if (n % 9 != 0)
                c.value = std::string(static_cast<std::size_t>(n % 50), static_cast<char>(n)) + std::to_string(n);
            batch.push_back(std::move(c));
        }
        past.add(std::move(batch));
    }
    return past;
}

/// `merged`: everything is in a table in the end.
inline io::memory kept_store(ending how, bool merged = false) {
    io::memory disk;
    auto store = small_engine::open(store_folder, still_options(), disk);
    auto const past = kept_history();
    for (lsn at{1}; at <= past.last();) {
        write_batch batch;
        for (auto const last = past.at(at).batch_last; at <= last; at = at.next()) {
            auto const& c = past.at(at);
            if (c.value) batch.put(c.key, *c.value);
            else batch.erase(c.key);
        }
        static_cast<void>(store->write(batch));
    }
    if (merged) static_cast<void>(store->compact());
    if (how == ending::closed) static_cast<void>(store->close());
    else store->abandon();
    return disk.after_process_crash();
}

/// The tests' own folder in the source tree.
inline std::filesystem::path tests_folder() {
    if (auto const* told = std::getenv("KEEL_TESTS_DIR")) return told;
    return std::filesystem::path{__FILE__}.parent_path().parent_path();
}

} // namespace keel::test

#endif
