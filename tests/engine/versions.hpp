// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_ENGINE_VERSIONS_HPP
#define KEEL_TESTS_ENGINE_VERSIONS_HPP

// What a store must hold: every value a key has had, by LSN.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace engine_tests {

class versions {
public:
    using rows = std::vector<std::pair<std::string, std::string>>;

    /// No value: erased.
    void note(std::string const& key, std::uint64_t lsn, std::optional<std::string> value) {
        all_[key][lsn] = std::move(value);
    }
    [[nodiscard]] std::optional<std::string> value_at(std::string const& key, std::uint64_t lsn) const {
        auto const k = all_.find(key);
        return k == all_.end() ? std::nullopt : newest(k->second, lsn);
    }
    /// In order of keys; those of a range, where there is one.
    [[nodiscard]] rows all_at(std::uint64_t lsn, std::optional<std::string> const& from = {},
                              std::optional<std::string> const& to = {}) const {
        rows out;
        for (auto const& [key, values] : all_) {
            if ((from && key < *from) || (to && key >= *to)) continue;
            if (auto const v = newest(values, lsn)) out.emplace_back(key, *v);
        }
        return out;
    }

    /// How many records are left where everything is merged into one level while these snapshots are held, the newest of them being now: what
    /// one of them sees of a key, without erases that all of them see.
    [[nodiscard]] std::uint64_t records_kept_for(std::vector<std::uint64_t> const& snapshots) const {
        auto const oldest = *std::ranges::min_element(snapshots);
        std::uint64_t kept = 0;
        for (auto const& [key, values] : all_) {
            std::set<std::uint64_t> seen;
            for (auto const m : snapshots)
                if (auto const behind = values.upper_bound(m); behind != values.begin())
                    seen.insert(std::prev(behind)->first);
            for (auto const at : seen) kept += values.at(at).has_value() || at > oldest;
        }
        return kept;
    }

private:
    using history = std::map<std::uint64_t, std::optional<std::string>>;
    [[nodiscard]] static std::optional<std::string> newest(history const& of, std::uint64_t lsn) {
        auto const behind = of.upper_bound(lsn);
        return behind == of.begin() ? std::nullopt : std::prev(behind)->second;
    }
    std::map<std::string, history> all_{};
};

} // namespace engine_tests

#endif
