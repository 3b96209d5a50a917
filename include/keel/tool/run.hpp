// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_RUN_HPP
#define KEEL_TOOL_RUN_HPP

// wal-recovery, the command line over a store or a log. It is a template, so that a program with policies of its own has a tool that knows
// them:
//
//   int main(int argc, char** argv) { return keel::tool::run<keel::engine<my_checksum>>(argc, argv); }
//
// The tool reads the checksum from the store's headers. It knows the engine's checksum and all shipped ones. It reads segment sizes from
// the files. The file system and the compression are those of the engine. The compression decides which compressed tables the tool can
// read; compression::any_of names several. The tool needs CLI11, nlohmann/json and xxHash. keel.hpp does not include it.
//
//   validate    [--deep] [--memory-limit SIZE]
//   inspect     [--memory-limit SIZE]
//   dump        [--from-lsn N] [--memory-limit SIZE]
//   get         KEY [--raw]
//   scan        [PREFIX] [--from KEY] [--to KEY] [--limit N] [--reverse] [--keys]
//   put         KEY VALUE | KEY --input FILE
//   erase       KEY
//   load        [--input FILE]
//   repair      --strategy skip|partial|rollback [--dry-run] [--memory-limit SIZE]
//   undo                                            (or repair --undo)
//   accept-loss
//   explain     [WORD]
//   help        [COMMAND]
//
// Every command but help takes --json. Every command that needs a store takes --data-dir DIR. The default is the folder that KEEL_DATA_DIR
// names, or else the current folder if it is a store. validate, inspect, dump, repair, undo and accept-loss also take the folder as a word
// without --data-dir.
//
// Exit codes:
//   0   healthy, or done. A torn tail is the trace of a crash and no damage
//   1   damage was found, or records were lost
//   2   wrong usage, or the store cannot be read: there is none, an engine holds its lock, it has another format or an unknown checksum
//   3   the number of lost acknowledged records is not known, and accept-loss was not called
//   4   get found no value
//
// validate, inspect, dump, get, scan and repair --dry-run change nothing. They also run beside a writer. Without a writer, all of them
// but get and scan keep writers out meanwhile. The other commands hold the store's lock. load makes a new store. It has the engine's
// policies, but nothing is synced before the end.

#include <keel/recovery/store_lock.hpp>
#include <keel/tool/detail/checksum_of_store.hpp>
#include <keel/tool/detail/command_line.hpp>
#include <keel/tool/detail/console.hpp>
#include <keel/tool/detail/data_dir.hpp>
#include <keel/tool/detail/dump.hpp>
#include <keel/tool/detail/glossary.hpp>
#include <keel/tool/detail/inspect.hpp>
#include <keel/tool/detail/load.hpp>
#include <keel/tool/detail/open_store.hpp>
#include <keel/tool/detail/records.hpp>
#include <keel/tool/detail/repair.hpp>
#include <keel/tool/detail/survey.hpp>
#include <keel/tool/detail/validate.hpp>
#include <keel/tool/detail/wrap.hpp>

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <sys/ioctl.h>
#include <unistd.h>

/// The command line `wal-recovery`.
namespace keel::inline v0::tool {

namespace detail {

template <class Config>
[[nodiscard]] result<int> carry_out_command(typename Config::file_system& fs, command_line const& line, console& to) {
    switch (line.what) {
    case command::validate: return validate<Config>(fs, line, to);
    case command::repair: return repair<Config>(fs, line, to);
    case command::undo: return undo<Config>(fs, line, to);
    case command::inspect: return inspect<Config>(fs, line, to);
    case command::dump: return dump<Config>(fs, line, to);
    case command::accept_loss: return accept_loss<Config>(fs, line, to);
    case command::get:
    case command::scan: {
        KEEL_TRY_LET(store, open_to<Config>(access::read, line.directory, fs));
        return use_records(*store, line, to);
    }
    case command::put:
    case command::erase: {
        KEEL_TRY_LET(store, open_to<Config>(access::write, line.directory, fs));
        return use_records(*store, line, to);
    }
    case command::load:
    case command::explain:
    case command::help: break; // they need no store
    }
    return exit_unusable;
}

template <class Config>
[[nodiscard]] result<int> with_the_stores_checksum(typename Config::file_system& fs, command_line const& line,
                                                   console& to) {
    // From here on every access goes through the open folder, even if the folder is renamed.
    KEEL_TRY_LET(bound, recovery::detail::bind_store(fs, wal::layout{line.directory}));
    view<typename Config::file_system> through{bound};
    KEEL_TRY_LET(which, checksum_search<looking<Config>>{through, line.directory}.run());
    return known_checksums<Config>::call(
        which, [&]<class C>() -> result<int> { return carry_out_command<with_checksum<Config, C>>(bound, line, to); });
}

template <class Config>
[[nodiscard]] result<int> carry_out_line(typename Config::file_system& fs, command_line& line, console& to) {
    if (line.what == command::explain) return explain(line, to);
    KEEL_TRY(choose_folder(fs, line));
    return line.what == command::load ? load<Config>(fs, line, to) : with_the_stores_checksum<Config>(fs, line, to);
}

/// Whether the output is for people. Output for programs is never wrapped.
[[nodiscard]] inline bool is_for_people(command_line const& line) noexcept {
    bool const are_records = line.what == command::dump || line.what == command::get || line.what == command::scan;
    return !line.json && !are_records;
}

/// A stream that wraps its lines at `width` columns and passes them on to another stream. If nothing is to be wrapped, it is that other
/// stream.
class rows_of_terminal {
public:
    rows_of_terminal(std::ostream& behind, std::size_t width) : behind_{behind} {
        if (width == 0 || behind.rdbuf() == nullptr) return;
        buffer_.emplace(*behind.rdbuf(), width);
        rows_.emplace(&*buffer_);
    }
    rows_of_terminal(rows_of_terminal const&) = delete;
    rows_of_terminal& operator=(rows_of_terminal const&) = delete;
    ~rows_of_terminal() {
        if (!rows_) return;
        rows_->flush();
        if (!*rows_)
            behind_.setstate(std::ios_base::badbit); // throws only if the owner of the stream asked for exceptions
    }
    [[nodiscard]] std::ostream& stream() noexcept { return rows_ ? *rows_ : behind_; }

private:
    std::ostream& behind_;
    std::optional<wrapping_buffer> buffer_{};
    std::optional<std::ostream> rows_{};
};

/// Whether the descriptor is a terminal that can show colours and progress.
[[nodiscard]] inline bool shows(int descriptor) noexcept {
    auto const* const kind = std::getenv("TERM");
    return ::isatty(descriptor) == 1 && kind != nullptr && std::string_view{kind} != "dumb";
}
/// The width in columns; 0 if it is not a terminal or its width is not known.
[[nodiscard]] inline std::size_t width_of(int descriptor) noexcept {
    winsize size{};
    bool const told = ::isatty(descriptor) == 1 && ::ioctl(descriptor, TIOCGWINSZ, &size) == 0;
    constexpr std::size_t width_min = 20; // text in narrower rows is not readable
    return told && size.ws_col >= width_min ? size.ws_col : 0;
}
[[nodiscard]] inline terminal this_terminal() noexcept {
    auto const* const no_color = std::getenv("NO_COLOR");
    bool const wanted = no_color == nullptr || *no_color == '\0';
    return {.colour = wanted && shows(STDOUT_FILENO),
            .progress = shows(STDERR_FILENO),
            .width = width_of(STDOUT_FILENO),
            .err_width = width_of(STDERR_FILENO)};
}

} // namespace detail

/// Runs one command. `words`: the words after the program's name. `fs`: the file system that holds the store. `look`: how output is
/// formatted; the default is that of a file or a pipe. Returns the exit code. Throws nothing.
template <class Engine>
[[nodiscard]] int run(std::span<std::string const> words, std::ostream& out, std::ostream& err,
                      typename Engine::config_type::file_system fs = {}, terminal look = {}) {
    try {
        detail::rows_of_terminal messages{err, look.err_width};
        detail::console plain{out, messages.stream(), look};
        auto parsed = detail::line_parser{}.run(words, plain);
        if (parsed.exit) return *parsed.exit;
        auto& line = parsed.line;
        detail::rows_of_terminal rows{out, detail::is_for_people(line) ? look.width : 0};
        detail::console to{rows.stream(), messages.stream(), look};
        auto const code = detail::carry_out_line<typename Engine::config_type>(fs, line, to);
        return code ? *code : detail::say_error(to, line, code.error());
    } catch (std::bad_alloc const&) {
        err << "wal-recovery: out_of_memory: the machine refused memory; nothing was left half done\n";
    } catch (std::exception const& e) {
        err << "wal-recovery: " << detail::printable(e.what()) << '\n';
    }
    return detail::exit_unusable;
}

/// As above, for main(): writes to the standard streams, in the form that their terminals allow.
template <class Engine>
[[nodiscard]] int run(int argc, char const* const* argv) {
    std::vector<std::string> const words(argv + (argc > 0 ? 1 : 0), argv + argc);
    auto const code = run<Engine>(std::span<std::string const>{words}, std::cout, std::cerr,
                                  typename Engine::config_type::file_system{}, detail::this_terminal());
    std::cout.flush();
    return std::cout ? code : detail::exit_unusable;
}

} // namespace keel::inline v0::tool

#endif
