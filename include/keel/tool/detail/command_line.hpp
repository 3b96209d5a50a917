// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TOOL_DETAIL_COMMAND_LINE_HPP
#define KEEL_TOOL_DETAIL_COMMAND_LINE_HPP

// Words -> what is to be done. All of the command line's grammar and its help texts.

#include <keel/policy/repair/concept.hpp>
#include <keel/tool/detail/console.hpp>
#include <keel/types.hpp>
#include <keel/version.hpp>

#include <keel/format/segment_header.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace keel::inline v0::tool::detail {

inline constexpr int exit_done = 0;
inline constexpr int exit_damage = 1;
inline constexpr int exit_unusable = 2;
inline constexpr int exit_unknown = 3;

enum class command : std::uint8_t { validate, repair, undo, inspect, dump, accept_loss, load };

struct command_line {
    command what = command::validate;
    std::string directory{};
    bool json = false;
    bool deep = false;
    bool dry_run = false;
    repair_strategy strategy = repair_strategy::partial_reconstruct;
    lsn from{1};
    std::string input{"-"};
};

/// A command, or the exit code where the words were not one (a request for help among them).
struct parsed_line {
    command_line line{};
    std::optional<int> exit{};
};

class line_parser {
public:
    line_parser() {
        app_.require_subcommand(1);
        app_.set_version_flag("--version", "wal-recovery " + std::string{version} + ", store format " +
                                               std::to_string(format::format_number));
        app_.footer("Exit codes: 0 healthy or done; 1 damage found, or records were lost; 2 wrong usage, or the store "
                    "cannot be read; 3 how much was lost is not known.\n"
                    "Only repair, undo and accept-loss write, and load, which makes a new store. No command runs while "
                    "an engine has the store open for writing.\n"
                    "'wal-recovery COMMAND --help' says more.");
        add_validate();
        add_repair();
        add_undo();
        add_inspect();
        add_dump();
        add_accept_loss();
        add_load();
    }

    [[nodiscard]] parsed_line run(std::span<std::string const> words, console& to) {
        std::vector<std::string> reversed{words.rbegin(), words.rend()};
        try {
            app_.parse(std::move(reversed));
            check_repair();
        } catch (CLI::ParseError const& e) {
            auto const code = app_.exit(e, to.out, to.err);
            return {.exit = code == 0 ? exit_done : exit_unusable};
        }
        for (auto* sub : app_.get_subcommands()) out_.what = command_of(sub->get_name());
        if (undo_) out_.what = command::undo;
        if (strategy_ == "skip") out_.strategy = repair_strategy::skip_corrupted;
        if (strategy_ == "rollback") out_.strategy = repair_strategy::rollback;
        out_.from = {from_};
        // Findings name files inside the store: the folder is written without a slash at its end.
        while (out_.directory.size() > 1 && out_.directory.back() == '/') out_.directory.pop_back();
        return {.line = out_};
    }

private:
    [[nodiscard]] static command command_of(std::string const& name) {
        if (name == "repair") return command::repair;
        if (name == "undo") return command::undo;
        if (name == "inspect") return command::inspect;
        if (name == "accept-loss") return command::accept_loss;
        if (name == "load") return command::load;
        return name == "dump" ? command::dump : command::validate;
    }

    CLI::App& add(std::string const& name, std::string const& about, std::string const& json) {
        auto* const sub = app_.add_subcommand(name, about);
        sub->add_option("--data-dir", out_.directory, "The store's folder")->required()->type_name("DIR");
        sub->add_flag("--json", out_.json, json);
        return *sub;
    }
    void add_validate() {
        auto& sub = add("validate", "Verify every record and file; change nothing",
                        "Print one JSON object with all findings");
        sub.add_flag("--deep", out_.deep,
                     "Read past the page cache: judge what the medium holds, not what memory remembers of it");
        sub.footer(
            "A torn tail, which a crash leaves, is no damage: exit code 0. A loss that a repair declared is shown "
            "until "
            "'wal-recovery accept-loss', and is no damage any more. Exit code 3, status \"unknown\": the end of the "
            "log is gone, and nothing says how many records with it.");
    }
    void add_repair() {
        auto& sub = add("repair", "Heal what can be healed, deal with the rest by a strategy", "Print one JSON object");
        sub.add_option("--strategy", strategy_, "What becomes of records that nothing can heal")
            ->check(CLI::IsMember({"skip", "partial", "rollback"}))
            ->type_name("NAME");
        sub.add_flag("--dry-run", out_.dry_run, "Say what would be done; change nothing");
        sub.add_flag("--undo", undo_, "The same as the command undo");
        sub.footer(
            "skip      drop the damaged records, keep all others\n"
            "partial   rebuild from every copy there is, then keep what verifies\n"
            "rollback  back to the last record before the first lost one\n\n"
            "Damaged segments move to quarantine/ with a receipt; 'wal-recovery undo' puts them back as long as "
            "nothing was written since.\n"
            "Damaged tables are written anew, whatever the strategy, and move to quarantine/merged; that cannot be "
            "undone.\n"
            "A repair that was cut short goes on where it stopped. Exit code 1 where acknowledged records were lost, "
            "3 where nobody knows how many. A healthy store is not changed.");
    }
    void add_undo() {
        add("undo", "Take the last repair back, byte for byte", "Print one JSON object")
            .footer("Refused (exit code 2) once anything was written after the repair.");
    }
    void add_inspect() {
        add("inspect", "Show what the store consists of: manifest, segments, losses, quarantine",
            "Print one JSON object");
    }
    void add_dump() {
        auto& sub = add("dump", "Print every record that counts, oldest first, one per line",
                        "One JSON object per line; bytes that are no UTF-8 stand as key_hex and value_hex instead of "
                        "key and value");
        sub.add_option("--from-lsn", from_, "Begin at this LSN")->type_name("N");
        sub.footer("A line: LSN, put|erase|message, whole|begins|inside|ends (its place in a batch), key and value in "
                   "quotes, with \\xNN for\n"
                   "bytes that are not printable. keel::format::parse reads it back.\n"
                   "Exit code 1 where acknowledged records are missing from it.\n"
                   "Where both manifests are gone and there are tables: of each key the newest version that verifies. "
                   "Exit code 3: nobody knows\nwhat is missing, and keys that were erased may be among the records.");
    }
    void add_accept_loss() {
        add("accept-loss", "Say that the losses there are, are known: they are no longer shown as open",
            "Print one JSON object")
            .footer("Every open of the store shows a loss, and is degraded by it, until then. Nothing comes back by "
                    "it, and "
                    "nothing else is lost.");
    }
    void add_load() {
        auto& sub = add("load", "Make a new store, or a log, of what dump printed", "Print one JSON object");
        sub.add_option("--input", out_.input, "A file with the lines of dump, text or JSON; -: the standard input")
            ->type_name("FILE");
        sub.footer("What no repair can help is saved so:\n"
                   "  wal-recovery dump --data-dir OLD > records    names what it has to leave out\n"
                   "  wal-recovery load --data-dir NEW --input records\n"
                   "Of a key whose newest version is lost an older one may be among the records. LSNs are given anew.");
    }
    void check_repair() const {
        auto const* const sub = app_.get_subcommand("repair");
        if (!sub->parsed()) return;
        if (!undo_ && strategy_.empty()) throw CLI::RequiredError("repair: --strategy skip|partial|rollback");
        if (undo_ && (out_.dry_run || !strategy_.empty()))
            throw CLI::ExcludesError("--undo", "--strategy and --dry-run");
    }

    CLI::App app_{"wal-recovery: look at a keel store or log, and repair it", "wal-recovery"};
    command_line out_{};
    std::string strategy_{};
    bool undo_ = false;
    std::uint64_t from_ = 1;
};

} // namespace keel::inline v0::tool::detail

#endif
