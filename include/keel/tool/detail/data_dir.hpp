// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_DATA_DIR_HPP
#define KEEL_TOOL_DETAIL_DATA_DIR_HPP

// The folder that a command works on: the one that the command line names, else the one that KEEL_DATA_DIR names, else the current folder
// if it is a store. load never takes the current folder.

#include <keel/error.hpp>
#include <keel/io/concept.hpp>
#include <keel/tool/detail/command_line.hpp>
#include <keel/wal/layout.hpp>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

namespace keel::inline v0::tool::detail {

/// Whether the folder has a manifest or a segment.
template <io::file_system Fs>
[[nodiscard]] bool is_store(Fs& fs, wal::layout const& paths) {
    if (fs.status(paths.manifest(0)) || fs.status(paths.manifest(1))) return true;
    auto const names = fs.list(paths.log());
    return names && std::ranges::any_of(*names, [](io::directory_entry const& e) {
               return wal::layout::segment_of(e.name).has_value();
           });
}

/// Sets line.directory and line.folder. Errors: not_found: no folder is named, and the current folder is no store.
template <io::file_system Fs>
[[nodiscard]] result<void> choose_folder(Fs& fs, command_line& line) {
    if (line.directory.empty()) {
        auto const* const variable = std::getenv("KEEL_DATA_DIR");
        if (variable != nullptr && *variable != '\0') {
            line.directory = variable;
            line.folder = folder_source::environment;
        } else if (line.what != command::load && is_store(fs, wal::layout{"."})) {
            line.directory = ".";
            line.folder = folder_source::current;
        } else {
            return failure(errc::not_found,
                           line.what == command::load
                               ? "no folder is named for the new store: give --data-dir DIR, or set KEEL_DATA_DIR"
                               : "no store is named, and the current folder is none: give --data-dir DIR, or set "
                                 "KEEL_DATA_DIR");
        }
    }
    // Findings name files by their path inside the store, so the folder has no slash at its end.
    while (line.directory.size() > 1 && line.directory.back() == '/') line.directory.pop_back();
    return {};
}

/// The word with the quotes that a shell needs.
[[nodiscard]] inline std::string shell_word(std::string_view text) {
    constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+./:=@%,";
    if (!text.empty() && text.find_first_not_of(plain) == std::string_view::npos) return std::string{text};
    std::string out = "'";
    for (char const c : text) {
        if (c == '\'') out += "'\\''";
        else out += c;
    }
    return out + "'";
}

/// " --data-dir DIR" for a command that is shown to be copied; empty if the command works on the same folder without it.
[[nodiscard]] inline std::string data_dir_words(command_line const& line) {
    if (line.folder != folder_source::named) return {};
    return " --data-dir " + printable(shell_word(line.directory));
}

} // namespace keel::inline v0::tool::detail

#endif
