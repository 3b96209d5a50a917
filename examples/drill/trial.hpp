// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_TRIAL_HPP
#define KEEL_EXAMPLES_DRILL_TRIAL_HPP

// One opening of one store with one repair policy, in a process of its own, so that its memory is its own. The child measures, then
// hands over everything it can read; the parent compares (judge.hpp).

#include "heap.hpp"
#include "loader.hpp"

#include <nlohmann/json.hpp>

#include <array>
#include <chrono>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace drill {

inline constexpr std::array strategies{keel::repair_strategy::refuse, keel::repair_strategy::rollback,
                                       keel::repair_strategy::skip_corrupted,
                                       keel::repair_strategy::partial_reconstruct};

/// JSON of a text that may hold any bytes.
[[nodiscard]] inline std::string dump(nlohmann::json const& value, int indent = -1) {
    return value.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

// ---- in the child ----

[[nodiscard]] inline nlohmann::json facts_of(keel::recovery_report const& report) {
    nlohmann::json out{{"records", report.records},
                       {"healed_records", report.healed_records},
                       {"lost_records", report.lost_records},
                       {"corrupted_records", report.corrupted_records},
                       {"torn_tail_bytes", report.torn_tail_bytes},
                       {"skipped_records", report.skipped_records},
                       {"last_lsn", report.last_lsn.value},
                       {"horizon", report.horizon.value},
                       {"damaged", report.damaged()},
                       {"quarantined", report.quarantined},
                       {"notice", report.notice},
                       {"lost_lsn_ranges", nlohmann::json::array()},
                       {"findings", nlohmann::json::array()}};
    for (auto const& r : report.lost_lsn_ranges) out["lost_lsn_ranges"].push_back({r.first.value, r.last.value});
    for (auto const& f : report.findings)
        out["findings"].push_back(std::string{keel::name_of(f.kind)} + " (" + std::string{keel::name_of(f.done)} + ")");
    return out;
}

/// Every key and value in order, as lengths and bytes; a value that get() tells differently is left out and counted.
inline std::uint64_t hand_over(store const& db) {
    std::uint64_t disagreed = 0;
    std::string out;
    auto all = db.scan();
    for (auto&& [key, value] : all) {
        auto const got = db.get(key);
        if (!got || *got != value) ++disagreed;
        std::array const sizes{static_cast<std::uint32_t>(key.size()), static_cast<std::uint32_t>(value.size())};
        out.append(reinterpret_cast<char const*>(sizes.data()), sizeof sizes).append(key).append(value);
        if (out.size() < 1 << 16) continue;
        write_all(out.data(), out.size());
        out.clear();
    }
    write_all(out.data(), out.size());
    if (!all.status()) ++disagreed;
    return disagreed;
}

/// Opens, gets one key, and tells how that went: one line of JSON, the contents, an exit code (1: get and scan disagree).
inline int open_and_tell(std::string const& folder, keel::repair_strategy strategy, std::string const& first_key) {
    keel::open_options options;
    options.repair = strategy;
    options.verify = keel::verify_depth::deep; // all damage is to be found, and dealt with, now
    auto const started = std::chrono::steady_clock::now();
    auto db = store::open(folder, options);
    auto const first = db ? db->get(first_key) : keel::failure(db.error());
    auto const took = std::chrono::steady_clock::now() - started;
    nlohmann::json told{{"opened", db.has_value()},
                        {"first_get_us", std::chrono::duration<double, std::micro>(took).count()},
                        {"peak_resident_bytes", heap::resident_peak()},
                        {"peak_heap_bytes", heap::peak.load(std::memory_order_relaxed)}};
    if (db) {
        told["state"] = keel::name_of(db->state());
        told["report"] = facts_of(db->recovery());
    } else {
        auto const& why = db.error();
        told["error"] = {
            {"code", keel::name_of(why.code)}, {"text", to_string(why)}, {"file", why.file}, {"lsn", why.at.value}};
    }
    auto const line = dump(told) + '\n';
    if (!write_all(line.data(), line.size())) return 2;
    return db && (!first || hand_over(*db) != 0) ? 1 : 0;
}

// ---- in the parent ----

/// What came out of one opening.
struct trial_result {
    nlohmann::json told{}; ///< empty where the process ended before it could say anything
    std::unordered_map<std::string, std::string> contents{};
    int exit_code = 0;

    [[nodiscard]] bool opened() const { return told.value("opened", false); }
};

[[nodiscard]] inline keel::result<trial_result> run_trial(std::string const& folder, keel::repair_strategy strategy,
                                                          std::string const& first_key) {
    KEEL_TRY_LET(child, process::start({"open", "--data-dir=" + folder, "--repair=" + std::string{name_of(strategy)},
                                        "--key=" + first_key}));
    auto const output = child.read_all();
    trial_result out;
    out.exit_code = child.wait();
    auto const line = output.find('\n');
    if (line == std::string::npos) return out;
    out.told = nlohmann::json::parse(output.substr(0, line), nullptr, false);
    for (std::string_view rest = std::string_view{output}.substr(line + 1); !rest.empty();) {
        std::array<std::uint32_t, 2> sizes{};
        std::memcpy(sizes.data(), rest.data(), std::min(rest.size(), sizeof sizes));
        if (rest.size() < sizeof sizes + sizes[0] + sizes[1]) break;
        rest.remove_prefix(sizeof sizes);
        out.contents.emplace(rest.substr(0, sizes[0]), rest.substr(sizes[0], sizes[1]));
        rest.remove_prefix(std::size_t{sizes[0]} + sizes[1]);
    }
    return out;
}

} // namespace drill

#endif
