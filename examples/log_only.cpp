// SPDX-License-Identifier: BSL-1.0
// The write-ahead log on its own, for an application that keeps its own state: append, append a batch, read from an LSN, follow the
// tail from another thread, sync, give up what is no longer needed.

#include <keel/keel.hpp>

#include <array>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <thread>

// Small segments, so that there is something to give up; os_buffered: append returns at once, sync() makes it durable.
using event_log = keel::log<keel::segment_size<16 * keel::KiB>, keel::durability::os_buffered>;

constexpr std::uint64_t events_appended = 2000;

/// Reads from `from` up to the last event, waiting where the writer is not there yet. Gives the number of records read.
keel::result<std::uint64_t> follow(event_log const& log, keel::lsn from) {
    auto reader = log.read_from(from);
    std::uint64_t seen = 0;
    while (reader.position().value <= events_appended) {
        KEEL_TRY_LET(record, reader.next(std::chrono::seconds{10}));
        if (!record) return keel::failure(keel::errc::not_found, "nothing came for ten seconds");
        ++seen;
    }
    return seen;
}

keel::result<void> append_all(event_log& log) {
    for (std::uint64_t i = 1; i <= events_appended - 2; ++i) KEEL_TRY(log.append("event " + std::to_string(i)));
    std::array const last{keel::as_bytes("the last but one"), keel::as_bytes("the last")}; // both or neither
    KEEL_TRY(log.append_batch(last));
    return log.sync();
}

keel::result<void> log_only(std::string const& folder) {
    KEEL_TRY_LET(log, event_log::open(folder));
    keel::result<std::uint64_t> followed = 0;
    std::jthread follower{[&] { followed = follow(log, {1}); }};
    auto const appended = append_all(log);
    follower.join();
    KEEL_TRY(appended);
    KEEL_TRY(followed);
    std::cout << "followed " << *followed << " records; durable up to LSN " << log.durable_lsn().value << '\n';

    KEEL_TRY(log.truncate_before({events_appended})); // whole segments only: a few older records may stay
    KEEL_TRY_LET(left, follow(log, log.first_lsn()));
    std::cout << "the oldest record is now LSN " << log.first_lsn().value << ", " << left << " are left\n";
    if (*followed != events_appended || left >= events_appended)
        return keel::failure(keel::errc::corruption, "not what was appended");
    return log.close();
}

int main() {
    std::filesystem::remove_all("log_only.store");
    auto const done = log_only("log_only.store");
    if (!done) std::cerr << to_string(done.error()) << '\n';
    std::filesystem::remove_all("log_only.store");
    return done ? 0 : 1;
}
