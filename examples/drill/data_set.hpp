// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_EXAMPLES_DRILL_DATA_SET_HPP
#define KEEL_EXAMPLES_DRILL_DATA_SET_HPP

// What is loaded: the records of UnicodeData.txt under their code points, or the lines of a text file, or of every text file in a
// folder, under "file:line". Reading the same input twice gives the same records in the same order.

#include <keel/error.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace drill {

inline constexpr char const* unicode_data = "/usr/share/unicode/UnicodeData.txt";
inline constexpr std::size_t value_bytes_max = 64 *
                                               1024; // longer lines are cut: a batch of them must fit into one segment

struct data_record {
    std::string key;
    std::string value;
};

struct data_set {
    std::vector<data_record> records{};
    std::uint64_t bytes = 0;

    void add(std::string key, std::string value) {
        if (value.size() > value_bytes_max) value.resize(value_bytes_max);
        bytes += key.size() + value.size();
        records.push_back({std::move(key), std::move(value)});
    }
};

/// A file with a zero byte near its beginning is no text.
[[nodiscard]] inline bool is_text(std::filesystem::path const& path) {
    std::ifstream file{path, std::ios::binary};
    std::string head(8192, ' ');
    file.read(head.data(), static_cast<std::streamsize>(head.size()));
    head.resize(static_cast<std::size_t>(file.gcount()));
    return head.find('\0') == std::string::npos;
}

inline void add_lines(data_set& out, std::filesystem::path const& path, std::string const& name) {
    bool const by_code_point = path.filename() == "UnicodeData.txt";
    std::ifstream file{path, std::ios::binary};
    std::unordered_set<std::string> taken; // each key is written once, so that its one value is known
    std::uint64_t number = 0;
    for (std::string line; std::getline(file, line);) {
        ++number;
        auto const place = name + ":" + std::to_string(number);
        auto code_point = "U+" + line.substr(0, std::min<std::size_t>(line.find(';'), 6));
        if (by_code_point && taken.insert(code_point).second) out.add(std::move(code_point), line);
        else out.add(place, line);
    }
}

[[nodiscard]] inline std::vector<std::filesystem::path> files_below(std::filesystem::path const& folder) {
    std::vector<std::filesystem::path> files;
    using walk = std::filesystem::recursive_directory_iterator;
    std::error_code failed;
    for (walk at{folder, std::filesystem::directory_options::skip_permission_denied, failed}; !failed && at != walk{};
         at.increment(failed))
        if (at->is_regular_file(failed) && !at->is_symlink(failed)) files.push_back(at->path());
    std::ranges::sort(files);
    return files;
}

[[nodiscard]] inline keel::result<data_set> read_data(std::filesystem::path const& input) {
    data_set out;
    std::error_code failed;
    if (std::filesystem::is_directory(input, failed)) {
        for (auto const& file : files_below(input))
            if (is_text(file)) add_lines(out, file, file.lexically_relative(input).string());
    } else if (std::filesystem::exists(input, failed)) {
        add_lines(out, input, input.filename().string());
    } else {
        auto const remedy =
            input == unicode_data
                ? "install the Debian package unicode-data, or name a text file or a folder with --input"
                : "name a text file or a folder with --input";
        return keel::failure(keel::errc::not_found, std::string{"there is nothing to load; "} + remedy, input.string());
    }
    constexpr std::size_t enough = 64; // so that a middle is there to be damaged
    if (out.records.size() < enough)
        return keel::failure(keel::errc::invalid_argument,
                             "holds " + std::to_string(out.records.size()) + " lines; the drill needs " +
                                 std::to_string(enough) + " or more",
                             input.string());
    return out;
}

} // namespace drill

#endif
