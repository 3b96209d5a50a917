// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_SCHEDULE_LOOK_HPP
#define KEEL_TESTS_CRASH_SCHEDULE_LOOK_HPP

// Reading a store or a log whole, and what is wrong with one that a crash or an orderly end left behind.

#include "../support/model.hpp"
#include "schedule_judge.hpp"

#include <keel/keel.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

namespace schedules {

template <class Store>
concept key_value_store = requires(Store& s) { s.compact(); };

/// Clock and entropy of all threads of a run: one runs at a time.
inline std::uint64_t ticks = 0;
inline std::uint64_t next_tick_ns() { return 1'700'000'000'000'000'000 + ++ticks * 1'000'000; }
inline std::uint64_t next_random() {
    auto x = ++ticks * 0x9E3779B97F4A7C15ULL;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
    return x ^ x >> 31;
}
inline keel::open_options run_options(bool background = false) {
    keel::open_options o;
    o.background_thread = background;
    o.recovery_threads = 1;
    o.max_recovery_attempts = 0;
    o.clock_ns = next_tick_ns;
    o.entropy = next_random;
    return o;
}

/// A record of a log stands for a key and its value.
[[nodiscard]] inline std::string record_text(model::operation const& op) { return op.key + "=" + op.value; }

/// All keys with their values; of a log, all records.
template <class Store>
[[nodiscard]] keel::result<model::contents> contents_of(Store& store) {
    model::contents out;
    if constexpr (key_value_store<Store>) {
        auto all = store.scan();
        for (auto&& [key, value] : all) out.emplace(key, value);
        KEEL_TRY(all.status());
        return out;
    } else {
        auto reader = store.read_from(keel::lsn{1});
        for (;;) {
            KEEL_TRY_LET(record, reader.next());
            if (!record) return out;
            std::string const text{keel::as_text(record->value)};
            auto const sign = std::min(text.find('='), text.size());
            out[text.substr(0, sign)] = text.substr(std::min(sign + 1, text.size()));
        }
    }
}

/// Gets give what scans give.
template <class Store>
[[nodiscard]] std::string gets_differ(Store& store, model::contents const& found) {
    if constexpr (key_value_store<Store>)
        for (auto const& [key, value] : found) {
            auto const got = store.get(key);
            if (!got || !*got || **got != value) return "get(" + key + ") does not give what a scan gives";
        }
    return {};
}

/// What is known of the run beside its writes.
struct circumstances {
    state_of how = state_of::killed;
    bool damaged = false;        ///< a record was
    bool loss_explained = false; ///< something may be lost, so that may be said
    bool header_torn = false;    ///< neither the old header nor the new one is there, until the segment is used
    bool read_failed = false;    ///< for messages: bytes could not be read back
};

/// What is wrong with a store that was opened again; empty where nothing is.
template <class Store>
[[nodiscard]] std::string trouble_with(Store& store, writes const& all, circumstances const& known) {
    auto const reason = store.state_reason().empty() ? "" : "; " + store.state_reason();
    auto const found = contents_of(store);
    if (!found) return "cannot be read: " + keel::to_string(found.error());
    if (auto t = judge{all, *found, known.how}.run(); !t.empty())
        return t + (known.read_failed ? "; a segment could not be read back" : "") + reason;
    if (auto t = gets_differ(store, *found); !t.empty()) return t;
    if (known.loss_explained) return {};
    auto report = store.recovery();
    bool const torn = known.header_torn && known.how != state_of::closed;
    if (torn) std::erase_if(report.findings, [](auto const& f) { return f.kind == keel::damage::header_damaged; });
    if (auto t = model::verdict_of_crash(report); !t.empty()) return t;
    if (store.state() != keel::engine_state::healthy && !torn) return "is not healthy" + reason;
    return {};
}

/// The same for what is on a disk.
template <class Plain>
[[nodiscard]] std::string trouble_on(keel::io::memory disk, writes const& all, circumstances const& known) {
    auto const ticks_before = ticks;
    auto options = run_options();
    if (known.damaged) options.verify = keel::verify_depth::deep;
    auto store = Plain::open("store", options, disk);
    auto trouble = store ? trouble_with(*store, all, known) : "does not open: " + keel::to_string(store.error());
    if (store) store->abandon();
    ticks = ticks_before;
    return trouble;
}

} // namespace schedules

#endif
