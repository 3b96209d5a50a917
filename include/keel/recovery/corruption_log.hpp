// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_RECOVERY_CORRUPTION_LOG_HPP
#define KEEL_RECOVERY_CORRUPTION_LOG_HPP

// quarantine/corruption.jsonl: every corruption event, one JSON object a line (R5.4).

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/observe/json.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/types.hpp>
#include <keel/wal/layout.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace keel::inline v0::recovery {

namespace detail {

/// The last part of the corruption log. Compares lines without their time.
class recent_events {
public:
    static constexpr std::uint64_t bytes_max = 64 * KiB;

    explicit recent_events(std::string text) : text_{std::move(text)} {
        for (std::string_view left{text_}; !left.empty();) {
            auto const line = left.substr(0, left.find('\n'));
            known_.insert(behind_time(line));
            left.remove_prefix(std::min(line.size() + 1, left.size()));
        }
    }
    recent_events(recent_events const&) = delete;
    recent_events& operator=(recent_events const&) = delete;

    [[nodiscard]] bool has(std::string_view line) const { return known_.contains(behind_time(line)); }
    /// Whether a crash tore the last line.
    [[nodiscard]] bool is_torn() const noexcept { return !text_.empty() && !text_.ends_with('\n'); }

private:
    [[nodiscard]] static std::string_view behind_time(std::string_view line) {
        return line.substr(std::min(line.find("\"kind\""), line.size()));
    }
    std::string text_;
    std::unordered_set<std::string_view> known_{}; ///< views into text_
};

} // namespace detail

/// Appends the corruption events to quarantine/corruption.jsonl and syncs the file. An event that the last 64 KiB of the log already hold
/// is left out: damage that lost nothing stays in place, and every opening finds it again. The caller holds the store's lock.
template <io::file_system Fs>
[[nodiscard]] result<void> log_corruption(Fs& fs, wal::layout const& paths, std::vector<finding> const& findings,
                                          std::uint64_t now_ns) {
    if (std::ranges::none_of(findings, &finding::is_corruption)) return {};
    auto made = fs.make_directory(paths.quarantine());
    if (!made && made.error().code != errc::exists) return failure(std::move(made).error());
    if (made) KEEL_TRY(fs.sync_directory(paths.root()));
    KEEL_TRY_LET(file, fs.open(paths.corruption_log(), io::access::read_write, io::creation::if_missing));
    KEEL_TRY_LET(status, file.status());
    std::string text(static_cast<std::size_t>(std::min(status.size, detail::recent_events::bytes_max)), ' ');
    KEEL_TRY(file.read(status.size - text.size(), std::as_writable_bytes(std::span{text})));
    detail::recent_events const recent{std::move(text)};
    std::string lines;
    for (auto const& f : findings) {
        if (!f.is_corruption()) continue;
        auto const line = observe::to_json(f, now_ns);
        if (!recent.has(line)) lines += line + '\n';
    }
    if (lines.empty()) return {};
    if (recent.is_torn()) lines.insert(0, 1, '\n');
    KEEL_TRY(file.write(status.size, as_bytes(lines)));
    KEEL_TRY(file.sync());
    return fs.sync_directory(paths.quarantine());
}

} // namespace keel::inline v0::recovery

#endif
