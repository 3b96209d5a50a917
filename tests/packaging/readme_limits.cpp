// SPDX-License-Identifier: BSL-1.0
// readme_limits README.md: the table of limits in the README has the numbers that the code has.
#include <keel/keel.hpp>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace {

/// 16771840 -> "16,771,840"
std::string grouped(std::uint64_t number) {
    auto text = std::to_string(number);
    for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
    return text;
}

/// The row that begins with `what` has each of the numbers.
struct limit {
    std::string what;
    std::vector<std::uint64_t> numbers;
};

std::vector<limit> limits() {
    using keel::MiB;
    using store = keel::engine<>;
    using large = keel::engine<keel::segment_size<2 * keel::GiB>>;
    keel::open_options const options;
    auto const files = keel::table::open_file_limits::of(0, false, 1000, 0);
    auto const reading = keel::table::open_file_limits::of(0, true, 1000, 0);
    auto const erased = keel::detail::engine_body<keel::config<>>::erase_batch_bytes / keel::format::frame_bytes(16);
    std::vector<limit> all{
        {"key", {store::key_bytes_max}},
        {"key and value together", {store::record_bytes_max, large::record_bytes_max}},
        {"batch", {keel::wal::batch_bytes_max_of(keel::config<>::segment_bytes)}},
        {"keys that one `erase(range)` removes at once", {erased}},
        {"segment", {keel::format::segment_bytes_min / keel::KiB, keel::format::segment_bytes_max / keel::GiB}},
        {"disk: log that waits for merging", {keel::detail::log_bytes_max<keel::config<>::compaction> / 2 / MiB}},
        {"memory: cache of verified blocks and records", {options.cache_bytes / MiB}},
        {"memory: active segment", {keel::config<>::segment_bytes / MiB}},
        {"mapped files", {files.mappings}},
        {"findings in one report", {keel::recovery_report::findings_max}},
        {"opens in a row that die in recovery", {keel::config<>::recovery_attempts::recovery_attempts_max}},
    };
    // A quarter, and three quarters: said in words.
    if (files.files != 250 || reading.files != 750) all.push_back({"open files", {files.files, reading.files}});
    return all;
}

} // namespace

int main(int count, char** words) {
    std::ifstream readme{count == 2 ? words[1] : "README.md"};
    std::vector<std::string> rows;
    for (std::string line; std::getline(readme, line);)
        if (line.starts_with("| ")) rows.push_back(line);
    int faults = 0;
    for (auto const& each : limits()) {
        auto const row = std::ranges::find_if(rows,
                                              [&](auto const& r) { return r.starts_with("| " + each.what + " |"); });
        for (auto const number : each.numbers) {
            if (row != rows.end() && row->find(' ' + grouped(number)) != std::string::npos) continue;
            std::cout << "the README's limit of '" << each.what << "' is not " << grouped(number) << '\n';
            ++faults;
        }
    }
    return faults == 0 ? 0 : 1;
}
