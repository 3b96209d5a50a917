// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_LOADER_HPP
#define KEEL_EXAMPLES_DRILL_LOADER_HPP

// The process that is killed: several threads write the data set and tell their parent of each acknowledgement.

#include "data_set.hpp"
#include "process.hpp"

#include <keel/keel.hpp>

#include <atomic>
#include <iostream>
#include <thread>
#include <vector>

#include <sys/prctl.h>

namespace drill {

/// The store of the drill: the default policies, with segments small enough that a small data set fills several.
using store = keel::engine<keel::segment_size<1 * keel::MiB>>;

/// "These records are safe now." Small enough for a pipe to pass it on whole or not at all.
struct acknowledgement {
    std::uint64_t first = 0; ///< index into the data set
    std::uint64_t count = 0;
    std::uint64_t last_lsn = 0;
};
inline constexpr std::size_t turn = 8; ///< records a thread writes at a time: one put, and a batch of the others

/// Writes records [first, end) in one atomic write.
[[nodiscard]] inline keel::result<keel::lsn> write_some(store& db, data_set const& data, std::size_t first,
                                                        std::size_t end) {
    if (end - first == 1) return db.put(data.records[first].key, data.records[first].value);
    keel::write_batch batch;
    for (auto i = first; i < end; ++i) batch.put(data.records[i].key, data.records[i].value);
    return db.write(batch);
}

/// One thread: takes turns until none is left. False: a write failed.
inline bool load_turns(store& db, data_set const& data, std::atomic<std::size_t>& next) {
    auto const size = data.records.size();
    for (std::size_t at; (at = next.fetch_add(turn, std::memory_order_relaxed)) < size;) { // relaxed: hands out numbers
        auto const end = std::min(at + turn, size);
        for (auto const& [first, last] : {std::pair{at, at + 1}, std::pair{at + 1, end}}) {
            if (first == last) continue;
            auto const written = write_some(db, data, first, last);
            if (!written) {
                std::cerr << "loading: " << to_string(written.error()) << '\n';
                return false;
            }
            acknowledgement const done{first, last - first, written->value};
            if (!write_all(&done, sizeof done)) return false;
        }
    }
    return true;
}

/// Loads the data set and waits to be killed: the store is never closed in order.
inline int load(std::string const& input, std::size_t records, std::string const& folder, unsigned threads) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL); // nobody is left to do it once the parent is gone
    auto const data = read_data(input);
    if (data && data->records.size() != records) {
        std::cerr << input << " changes while it is read; name one that holds still with --input\n";
        return 2;
    }
    auto db = store::open(folder);
    if (!data || !db) {
        std::cerr << to_string(data ? db.error() : data.error()) << '\n';
        return 2;
    }
    std::atomic<std::size_t> next{0};
    std::atomic<bool> good{true};
    std::vector<std::jthread> crew;
    for (unsigned t = 0; t < threads; ++t)
        crew.emplace_back([&] {
            if (!load_turns(*db, *data, next)) good = false;
        });
    crew.clear();
    while (good) ::pause();
    return 2;
}

} // namespace drill

#endif
