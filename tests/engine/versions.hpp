// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_ENGINE_VERSIONS_HPP
#define KEEL_TESTS_ENGINE_VERSIONS_HPP

// What a store must hold: every value a key has had, by LSN.

#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
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
