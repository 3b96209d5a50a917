// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_MODEL_HPP
#define KEEL_TESTS_SUPPORT_MODEL_HPP

// What a store must hold: the batches that were issued, in order, and how many of them it may not lose in which kind of crash.
// A reopened store equals the state after some number of batches, whole ones, between what it owes and what was issued.

#include <keel/keel.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace model {

struct operation {
    bool put = true;
    std::string key{};
    std::string value{};
};
using batch = std::vector<operation>;
using contents = std::map<std::string, std::string>;

enum class crash_kind { process, power };

/// The history of one store.
struct history {
    struct entry {
        batch operations{};
        std::uint64_t last = 0; ///< LSN of the last operation; what a crash may keep of an unanswered batch has it too
        bool pending = false;   ///< being ingested: all of it takes one LSN, which may stand there without it
    };
    /// Of an ingestion under way: every segment that is given up under it takes one.
    static constexpr std::uint64_t pending_lsns = 3;
    std::vector<entry> issued{};
    std::size_t owed_process = 0; ///< batches a killed process must leave behind
    std::size_t owed_power = 0;   ///< batches a power loss must leave behind

    [[nodiscard]] std::uint64_t last_lsn() const { return issued.empty() ? 0 : issued.back().last; }
    [[nodiscard]] std::size_t owed(crash_kind kind) const {
        return kind == crash_kind::process ? owed_process : owed_power;
    }

    void issue(batch operations) {
        auto const last = last_lsn() + operations.size();
        issued.push_back({std::move(operations), last});
    }
    void begin_ingest(batch operations) { issued.push_back({std::move(operations), last_lsn() + 1, true}); }
    void end_ingest(std::uint64_t at) {
        auto done = std::move(issued.back());
        issued.pop_back();
        skip_to(at - 1);
        issued.push_back({std::move(done.operations), at, false});
    }
    /// LSNs up to this one mean nothing.
    void skip_to(std::uint64_t lsn) {
        while (last_lsn() < lsn) issued.push_back({{}, last_lsn() + 1, false});
    }
    /// The contents after so many batches; where the last of them is being ingested, with it or without.
    [[nodiscard]] contents after(std::size_t batches, bool with_pending = true) const {
        contents all;
        for (std::size_t i = 0; i < batches; ++i)
            if (!issued[i].pending || with_pending || i + 1 != batches)
                for (auto const& op : issued[i].operations) {
                    if (op.put) all[op.key] = op.value;
                    else all.erase(op.key);
                }
        return all;
    }
    /// How many batches end at or before this LSN; nothing where it lies inside one.
    [[nodiscard]] std::optional<std::size_t> batches_until(std::uint64_t lsn) const {
        if (lsn == 0) return 0;
        for (std::size_t i = 0; i < issued.size(); ++i)
            if (issued[i].last == lsn) return i + 1;
        if (!issued.empty() && issued.back().pending && lsn > last_lsn() && lsn < last_lsn() + pending_lsns)
            return issued.size();
        return std::nullopt;
    }
    /// From here on the store is what was found in it after a crash: this many batches.
    template <class Store>
    void found(Store const& store, std::size_t batches) {
        issued.resize(batches);
        if (issued.empty() || !issued.back().pending || issued.back().operations.empty()) return;
        auto const& first = issued.back().operations.front();
        auto const value = store.get(first.key);
        bool const there = value && *value && **value == first.value;
        end_ingest(store.recovery().last_lsn.value);
        // What a killed process left of the manifest may still go with the power, as long as nothing was written behind it.
        issued.back().pending = there;
        if (!there) issued.back().operations.clear();
    }
};

/// Deterministic clock and entropy for stores under test: one sequence per thread, started anew by reset_machine().
inline thread_local std::uint64_t machine_ticks = 0;
inline void reset_machine() { machine_ticks = 0; }
inline std::uint64_t test_clock() { return 1'700'000'000'000'000'000 + ++machine_ticks * 1'000'000; }
inline std::uint64_t test_entropy() {
    auto x = ++machine_ticks * 0x9E3779B97F4A7C15ULL;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ULL;
    return x ^ x >> 31;
}
inline keel::open_options test_options() {
    keel::open_options o;
    o.background_thread = false;
    o.recovery_threads = 1;
    o.max_recovery_attempts = 0;
    o.clock_ns = test_clock;
    o.entropy = test_entropy;
    return o;
}

/// What a store has otherwise than expected; empty where nothing is.
template <class Store>
[[nodiscard]] std::string compare_contents(Store const& store, contents const& expected) {
    auto at = expected.begin();
    auto all = store.scan();
    for (auto&& [key, value] : all) {
        if (at == expected.end() || at->first != key) return "key " + std::string{key} + " should not be there";
        if (at->second != value) return "key " + std::string{key} + " has a wrong value";
        ++at;
    }
    if (auto const whole = all.status(); !whole) return "the scan ended early: " + to_string(whole.error());
    if (at != expected.end()) return "key " + at->first + " is missing";
    for (auto const& [key, value] : expected) {
        auto const got = store.get(key);
        if (!got || !*got || **got != value) return "get(" + key + ") does not give its value";
    }
    return {};
}

/// What is wrong with an open store as seen by this history; empty where nothing is. Gives the number of batches it holds.
template <class Store>
[[nodiscard]] std::string compare(Store const& store, history const& h, std::size_t owed, std::size_t& holds) {
    auto const last = store.recovery().last_lsn.value;
    auto const n = h.batches_until(last);
    if (!n) return "ends inside a batch, at LSN " + std::to_string(last);
    holds = *n;
    if (*n < owed) return "holds " + std::to_string(*n) + " batches, owes " + std::to_string(owed);
    auto const trouble = compare_contents(store, h.after(*n));
    bool const may_lack_it = *n != 0 && h.issued[*n - 1].pending;
    return trouble.empty() || !may_lack_it ? trouble : compare_contents(store, h.after(*n, false));
}

/// What a crash must not be taken for; empty where the verdict is right.
[[nodiscard]] inline std::string verdict_of_crash(keel::recovery_report const& report) {
    for (auto const& f : report.findings)
        if (f.is_corruption())
            return "a crash was taken for corruption: " + std::string{name_of(f.kind)} + " in " + f.file + " at " +
                   std::to_string(f.offset) + ": " + f.detail;
    if (report.lost_records != 0) return "records were declared lost after a mere crash";
    return {};
}

} // namespace model

#endif
