// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_COMMAND_LINE_HPP
#define KEEL_TOOL_DETAIL_COMMAND_LINE_HPP

// Parses the words of the command line. This header has the whole grammar and all help texts.

#include <keel/error.hpp>
#include <keel/format/segment_header.hpp>
#include <keel/policy/repair/concept.hpp>
#include <keel/tool/detail/console.hpp>
#include <keel/tool/detail/key_word.hpp>
#include <keel/tool/detail/number.hpp>
#include <keel/tool/detail/spelling.hpp>
#include <keel/tool/detail/wrap.hpp>
#include <keel/types.hpp>
#include <keel/version.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::inline v0::tool::detail {

inline constexpr int exit_done = 0;
inline constexpr int exit_damage = 1;
inline constexpr int exit_unusable = 2;
inline constexpr int exit_unknown = 3;
inline constexpr int exit_no_value = 4; ///< only of get: the key has no value

enum class command : std::uint8_t {
    validate,
    inspect,
    dump,
    get,
    scan,
    put,
    erase,
    load,
    repair,
    undo,
    accept_loss,
    explain,
    help,
};
inline constexpr std::array<std::string_view, 13> command_names{"validate",    "inspect", "dump", "get",    "scan",
                                                                "put",         "erase",   "load", "repair", "undo",
                                                                "accept-loss", "explain", "help"};

/// The source of the folder's name.
enum class folder_source : std::uint8_t { named, environment, current };

struct command_line {
    command what = command::validate;
    std::string directory{}; ///< empty until choose_folder(), if --data-dir is not given
    folder_source folder = folder_source::named;
    bool json = false;
    bool deep = false;
    bool dry_run = false;
    repair_strategy strategy = repair_strategy::partial_reconstruct;
    lsn from{1};
    std::string input{"-"};
    std::uint64_t memory_bytes = 0; ///< for the buffers of the verification; 0: the default of the library

    std::string key{};
    std::string value{};
    bool value_from_input = false;
    bool raw = false;
    std::optional<std::string> first_key{};
    std::optional<std::string> end_key{};
    std::string prefix{};
    std::optional<std::uint64_t> limit{};
    bool reverse = false;
    bool keys_only = false;
    std::vector<std::string> words{}; ///< the words to explain
};

/// A command, or the exit code if there is none to carry out: a request for help, or an error.
struct parsed_line {
    command_line line{};
    std::optional<int> exit{};
};

/// Lists words by name only. Their type gives no further information.
class help_format : public CLI::Formatter {
public:
    std::string make_option(CLI::Option const* option, bool is_word) const override {
        if (!is_word) return CLI::Formatter::make_option(option, is_word);
        std::ostringstream out;
        CLI::detail::format_help(out, make_option_name(option, true), make_option_desc(option), column_width_);
        return out.str();
    }
};

class line_parser {
public:
    line_parser() {
        app_.formatter(std::make_shared<help_format>());
        app_.set_version_flag("-V,--version", "wal-recovery " + std::string{version} + ", store format " +
                                                  std::to_string(format::format_number));
        app_.set_help_flag("-h,--help", "Print this help, or that of a command");
        app_.add_option("--data-dir", directory_, folder_help)->type_name("DIR");
        app_.footer(
            "Without --data-dir a command works on the folder that $KEEL_DATA_DIR names, else on the current folder "
            "where that is a store.\n"
            "validate, inspect, dump, get, scan and repair --dry-run change nothing, and also run while a program has "
            "the store open. The other commands need the store for themselves.\n\n"
            "Exit codes:\n"
            "  0  healthy, or done\n"
            "  1  damage found, or records were lost\n"
            "  2  wrong usage, or the store cannot be read or written\n"
            "  3  nobody can tell how many records were lost\n"
            "  4  get: the key has no value\n\n"
            "'wal-recovery help COMMAND' says more; 'wal-recovery explain WORD' says what a word of the output means.");
        add_reading();
        add_records();
        add_repairing();
        add_explaining();
    }

    [[nodiscard]] parsed_line run(std::span<std::string const> words, console& to) {
        std::vector<std::string> all{words.begin(), words.end()};
        if (auto const code = check_command(all, to)) return {.exit = code};
        std::ranges::reverse(all);
        try {
            app_.parse(std::move(all));
            take_over();
        } catch (CLI::ParseError const& e) {
            return {.exit = answer(e, to)};
        }
        return {.line = out_};
    }

private:
    static constexpr char const* folder_help = "The store's folder [default: $KEEL_DATA_DIR, else the current folder "
                                               "where that is a store]";

    // ---- words that are no command -------------------------------------------------------------------------------------------

    /// The exit code if there is no command or an unknown one. Turns `help X` into `X --help`.
    [[nodiscard]] static std::optional<int> check_command(std::vector<std::string>& words, console& to) {
        auto const at = index_of_command(words);
        if (at == words.size()) {
            bool const asks = std::ranges::any_of(
                words, [](auto const& w) { return w == "-h" || w == "--help" || w == "-V" || w == "--version"; });
            if (asks) return std::nullopt;
            return refuse(to, "no command is given; 'wal-recovery help' lists them");
        }
        if (words[at] == "help") {
            auto const of = at + 1 < words.size() ? words[at + 1] : std::string{};
            if (of.empty() || of == "help") words = {"--help"};
            else if (is_command(of)) words = {of, "--help"};
            else if (!of.starts_with('-')) words[at] = "explain"; // a word of the output
            return std::nullopt;
        }
        if (is_command(words[at])) return std::nullopt;
        return refuse(to, "'" + printable(words[at]) + "' is no command" + did_you_mean(words[at], command_names) +
                              hint_of_list(words[at]));
    }
    [[nodiscard]] static std::string hint_of_list(std::string_view word) {
        return nearest_word(word, command_names).empty() ? "; 'wal-recovery help' lists them" : "";
    }
    /// The first word that is neither an option nor the value of --data-dir.
    [[nodiscard]] static std::size_t index_of_command(std::vector<std::string> const& words) {
        std::size_t at = 0;
        while (at < words.size() && words[at].starts_with('-')) at += words[at] == "--data-dir" ? 2U : 1U;
        return std::min(at, words.size());
    }
    [[nodiscard]] static bool is_command(std::string_view word) {
        return std::ranges::find(command_names, word) != command_names.end();
    }
    static int refuse(console& to, std::string const& why) {
        to.err << "wal-recovery: " << why << '\n';
        return exit_unusable;
    }

    [[nodiscard]] int answer(CLI::ParseError const& e, console& to) {
        auto const parsed = app_.get_subcommands();
        auto const* const sub = parsed.empty() ? nullptr : parsed.front();
        if (e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
            bool const asks_version = dynamic_cast<CLI::CallForVersion const*>(&e) != nullptr;
            constexpr std::size_t usual_width = 80;
            auto const width = to.look.width != 0 ? to.look.width : usual_width;
            if (asks_version) to.out << e.what() << '\n';
            else to.out << help_text(width);
            return exit_done;
        }
        auto const name = sub == nullptr ? std::string{} : sub->get_name();
        std::string why = printable(e.what());
        if (dynamic_cast<CLI::ExtrasError const*>(&e) != nullptr) why = unexpected_word(sub);
        if (!why.ends_with('?')) why += "; see 'wal-recovery help" + (name.empty() ? "" : " " + name) + "'";
        return refuse(to, (name.empty() ? "" : name + ": ") + why);
    }
    /// The help of the command; that of the program if no command is given.
    [[nodiscard]] std::string help_text(std::size_t width) const {
        auto text = wrapped(app_.help(), width);
        while (text.ends_with('\n')) text.pop_back();
        return text + '\n';
    }
    /// The first word that no option and no argument takes, with the option that may be meant.
    [[nodiscard]] std::string unexpected_word(CLI::App const* sub) const {
        auto const extras = app_.remaining(true);
        auto word = extras.empty() ? std::string{} : extras.front();
        if (!word.starts_with('-')) return "'" + printable(word) + "' is one word too many";
        word = word.substr(0, word.find('='));
        std::vector<std::string> names;
        for (auto const* option : (sub == nullptr ? static_cast<CLI::App const&>(app_) : *sub).get_options())
            for (auto const& name : option->get_lnames()) names.push_back("--" + name);
        return "'" + printable(word) + "' is no option" + did_you_mean(word, names);
    }

    // ---- the commands --------------------------------------------------------------------------------------------------------

    /// `folder_as_word`: the command also takes the folder as a word without --data-dir.
    CLI::App& add(command what, std::string const& about, std::string const& group, bool folder_as_word,
                  std::string const& json = "Print one JSON object") {
        auto* const sub = app_.add_subcommand(std::string{command_names[static_cast<std::size_t>(what)]}, about);
        sub->group(group);
        sub->callback([this, what] { out_.what = what; });
        sub->add_option(folder_as_word ? "--data-dir,DIR" : "--data-dir", sub_directory_, folder_help)
            ->type_name("DIR");
        sub->add_flag("--json", out_.json, json);
        return *sub;
    }
    /// An option that takes a number, with or without a unit.
    template <class Take>
    static void add_number(CLI::App& sub, std::string const& name, std::string const& about, std::string const& type,
                           Take take) {
        sub.add_option_function<std::string>(
               name,
               [name, take](std::string const& text) {
                   auto const value = parse_number(text);
                   if (!value) throw CLI::ValidationError(name, value.error().message);
                   take(*value);
               },
               about)
            ->type_name(type);
    }
    /// An option or a word that is a key or a value.
    template <class Take>
    static CLI::Option* add_bytes(CLI::App& sub, std::string const& name, std::string const& about,
                                  std::string const& type, Take take) {
        return sub
            .add_option_function<std::string>(
                name,
                [type, take](std::string const& text) {
                    auto bytes = bytes_of_word(text, type);
                    if (!bytes) throw CLI::ValidationError(bytes.error().message);
                    take(std::move(*bytes));
                },
                about)
            ->type_name(type);
    }
    void add_memory(CLI::App& sub) {
        add_number(sub, "--memory-limit", "Memory for the buffers that verify, e.g. 64MiB [default: 8MiB]", "SIZE",
                   [this](std::uint64_t bytes) { out_.memory_bytes = bytes; });
    }

    void add_reading() {
        std::string const group = "Look at a store (changes nothing)";
        auto& validate = add(command::validate, "Verify every record and every file", group, true,
                             "Print one JSON object with all findings");
        validate.add_flag("--deep", out_.deep,
                          "Read everything a second time past the page cache, and report what the disk holds");
        add_memory(validate);
        validate.footer(
            "A torn tail, which a crash leaves, is no damage: exit code 0. A loss that a repair declared is shown "
            "until "
            "'wal-recovery accept-loss'; it is no damage any more. Exit code 3, status \"unknown\": the end of the log "
            "is gone, and nothing says how many records went with it.");
        add_memory(add(command::inspect, "Show the parts of a store: manifest, segments, tables, losses, quarantine",
                       group, true));
        auto& dump = add(command::dump, "Print every record with its LSN, the oldest first", group, true,
                         "One JSON object per line; bytes that are no UTF-8 stand as key_hex and value_hex");
        add_number(dump, "--from-lsn", "Begin at this LSN", "N", [this](std::uint64_t n) { out_.from = {n}; });
        add_memory(dump);
        dump.footer(
            "A line: LSN, put|erase|message, whole|begins|inside|ends (its place in a batch), key and value in quotes, "
            "with \\xNN for bytes that are not printable. 'wal-recovery load' and keel::format::parse read it back.\n"
            "Exit code 1: acknowledged records are missing from the dump; they are named.\n"
            "Where both manifests are gone and there are tables, the dump has the newest version of each key that "
            "verifies. Exit code 3: nobody can tell what is missing, and erased keys may be among the records.");
    }
    void add_records() {
        std::string const group = "Read and write records";
        auto& get = add(command::get, "Print the value of a key", group, false);
        add_key(get);
        get.add_flag("--raw", out_.raw, "Print the bytes of the value as they are: no quotes, no line break");
        get.footer(std::string{key_text} + "\nExit code 4: the key has no value. Nothing is printed then.");
        auto& scan = add(command::scan, "Print keys and values in the order of the keys", group, false,
                         "One JSON object per line; bytes that are no UTF-8 stand as key_hex and value_hex");
        add_bytes(scan, "--prefix,PREFIX", "Only keys that begin with this", "PREFIX",
                  [this](std::string bytes) { out_.prefix = std::move(bytes); });
        add_bytes(scan, "--from", "From this key on, itself included", "KEY",
                  [this](std::string bytes) { out_.first_key = std::move(bytes); });
        add_bytes(scan, "--to", "Up to this key, itself not included", "KEY",
                  [this](std::string bytes) { out_.end_key = std::move(bytes); });
        add_number(scan, "--limit", "Stop after so many keys", "N", [this](std::uint64_t n) { out_.limit = n; });
        scan.add_flag("--reverse", out_.reverse, "The largest key first");
        scan.add_flag("--keys", out_.keys_only, "Print the keys without their values");
        scan.footer(std::string{key_text} +
                    "\n'wal-recovery load' reads the lines back. Exit code 1: keys cannot be read; they are named.");
        auto& put = add(command::put, "Set the value of a key; it survives power loss once this returns", group, false);
        add_key(put);
        auto* const value = add_bytes(put, "VALUE", "The value", "VALUE",
                                      [this](std::string bytes) { out_.value = std::move(bytes); });
        put.add_option_function<std::string>(
               "--input",
               [this](std::string const& path) {
                   out_.input = path;
                   out_.value_from_input = true;
               },
               "Take the bytes of this file as the value; -: of the standard input")
            ->type_name("FILE");
        put_value_ = value;
        put.footer(std::string{key_text} +
                   "\nWhere opening the store finds lost records, nothing is written: repair it first.");
        auto& erase = add(command::erase, "Remove a key; it need not be there", group, false);
        add_key(erase);
        erase.footer(key_text);
        auto& load = add(command::load, "Make a new store, or a log, from what dump or scan printed", group, false);
        load.add_option("--input,FILE", out_.input,
                        "A file with the lines of dump or scan, text or JSON; -: the standard input")
            ->type_name("FILE");
        load.footer("Where no repair can help, this saves what verifies:\n"
                    "  wal-recovery dump --data-dir OLD > records\n"
                    "  wal-recovery load --data-dir NEW --input records\n"
                    "dump names the records that it has to leave out. Where the newest version of a key is lost, an "
                    "older one may be among the records. Records get new LSNs.");
    }
    void add_repairing() {
        std::string const group = "Repair a store";
        auto& repair = add(command::repair, "Heal what can be healed, and deal with the rest by a strategy", group,
                           true);
        repair.add_option("--strategy", strategy_, "What becomes of records that nothing can heal")
            ->check(CLI::Validator{check_strategy, ""})
            ->type_name("skip|partial|rollback");
        repair.add_flag("--dry-run", out_.dry_run, "Say what would be done; change nothing");
        repair.add_flag("--undo", undo_, "The same as the command undo");
        add_memory(repair);
        repair.footer(
            "  skip      Drop the damaged records, keep all others.\n"
            "  partial   Rebuild from every copy there is, then keep what verifies.\n"
            "  rollback  Go back to the last record before the first lost one.\n\n"
            "Damaged segments move to quarantine/ with a receipt; 'wal-recovery undo' puts them back as long as "
            "nothing "
            "was written since. Damaged tables are written anew, whatever the strategy, and move to quarantine/merged; "
            "that cannot be undone.\n"
            "A repair that was cut short goes on where it stopped. Exit code 1: acknowledged records were lost. Exit "
            "code 3: nobody can tell how many. A healthy store is not changed.");
        add(command::undo, "Take the last repair back, byte for byte", group, true)
            .footer("Refused (exit code 2) once anything was written after the repair.");
        add(command::accept_loss, "Confirm the losses that are known, so that they are no longer reported", group, true)
            .footer("Until then every open of the store reports a loss and is degraded by it. The command brings "
                    "nothing back, and loses nothing else.");
    }
    void add_explaining() {
        std::string const group = "Help";
        auto* const explain = app_.add_subcommand("explain", "Say what a word of the output means; without one, list "
                                                             "all words");
        explain->group(group);
        explain->callback([this] { out_.what = command::explain; });
        explain->add_option("WORD", out_.words, "E.g. horizon, torn_tail, \"declared lost\"")->type_name("WORD");
        explain->add_flag("--json", out_.json, "Print one JSON object");
        app_.add_subcommand("help", "Print this help, or that of a command")->group(group);
    }
    void add_key(CLI::App& sub) {
        add_bytes(sub, "KEY", "The key", "KEY", [this](std::string bytes) { out_.key = std::move(bytes); })->required();
    }

    /// Checks that CLI11 does not make, and rules between two options.
    void take_over() {
        out_.directory = sub_directory_.empty() ? directory_ : sub_directory_;
        if (!sub_directory_.empty() && !directory_.empty() && sub_directory_ != directory_)
            throw CLI::ValidationError("--data-dir", "two folders are named; give one");
        if (strategy_ == "skip") out_.strategy = repair_strategy::skip_corrupted;
        if (strategy_ == "rollback") out_.strategy = repair_strategy::rollback;
        if (out_.what == command::repair) check_repair();
        if (out_.what == command::put && put_value_->count() == 0 && !out_.value_from_input)
            throw CLI::ValidationError("VALUE", "a value is missing; give one, or --input FILE");
        if (out_.what == command::put && put_value_->count() != 0 && out_.value_from_input)
            throw CLI::ValidationError("--input", "the value is there already; give one of the two");
        if (out_.raw && out_.json) throw CLI::ValidationError("--raw", "it does not go with --json");
        if (out_.first_key && out_.end_key && *out_.end_key < *out_.first_key)
            throw CLI::ValidationError("--to", "it comes before --from; no key lies between them");
    }
    /// The reason why `name` is no strategy; empty if it is one.
    [[nodiscard]] static std::string check_strategy(std::string const& name) {
        constexpr std::array<std::string_view, 3> known{"skip", "partial", "rollback"};
        if (std::ranges::find(known, name) != known.end()) return {};
        return "'" + name + "' is no strategy; there are skip, partial and rollback";
    }
    void check_repair() {
        if (!undo_ && strategy_.empty())
            throw CLI::ValidationError("--strategy", "it is missing; give one of skip, partial, rollback");
        if (undo_ && (out_.dry_run || !strategy_.empty()))
            throw CLI::ValidationError("--undo", "it does not go with --strategy and --dry-run");
        if (undo_) out_.what = command::undo;
    }

    static constexpr char const* key_text =
        "Keys and values are written as dump prints them, without the quotes: \\\\ for a backslash, \\xNN for the byte "
        "with these hexadecimal digits. Put single quotes around them for the shell: 'user\\x00'.";

    CLI::App app_{"wal-recovery: look at a keel store or log, read and write its records, and repair it",
                  "wal-recovery"};
    command_line out_{};
    std::string directory_{};     ///< given before the command
    std::string sub_directory_{}; ///< given after the command
    std::string strategy_{};
    bool undo_ = false;
    CLI::Option* put_value_ = nullptr;
};

} // namespace keel::inline v0::tool::detail

#endif
