// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_SPELLING_HPP
#define KEEL_TOOL_DETAIL_SPELLING_HPP

// Finds the known word that is probably meant by a misspelt one.

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

/// The number of letters to change, add, remove, or swap with their neighbour to turn one word into the other.
[[nodiscard]] inline std::size_t edits_between(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before_last(b.size() + 1);
    std::vector<std::size_t> last(b.size() + 1);
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
            bool const swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
        }
        std::swap(before_last, last);
        std::swap(last, row);
    }
    return last[b.size()];
}

/// The known word nearest to `word`. Empty if more than a third of the letters differ, and more than one.
template <class Words>
[[nodiscard]] std::string_view nearest_word(std::string_view word, Words const& known) {
    std::string_view nearest;
    auto fewest = std::max<std::size_t>(1, word.size() / 3) + 1;
    for (std::string_view const candidate : known) {
        bool const begins_so = word.size() >= 3 && candidate.starts_with(word);
        auto const edits = begins_so ? 1 : edits_between(word, candidate);
        if (edits >= fewest) continue;
        fewest = edits;
        nearest = candidate;
    }
    return nearest;
}

/// "; did you mean 'validate'?", or nothing.
template <class Words>
[[nodiscard]] std::string did_you_mean(std::string_view word, Words const& known) {
    auto const nearest = nearest_word(word, known);
    return nearest.empty() ? std::string{} : "; did you mean '" + std::string{nearest} + "'?";
}

} // namespace keel::inline v0::tool::detail

#endif
