// SPDX-License-Identifier: BSL-1.0
// What comes back after the worst: loads a data set from several threads, kills the process that does it, damages copies of what is
// left in three ways, opens each with every repair policy, and compares with what had been acknowledged.
// Exit code 0: no acknowledged, undamaged record is missing and no wrong value was returned. 1: otherwise. 2: it could not be run.

#include "drill/run.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <exception>
#include <iostream>
#include <optional>
#include <utility>

namespace drill {

void print(request const& wish, ledger const& book, drill_result const& result, bool good) {
    auto const loaded = wish.input + ": " + grouped(book.data.records.size()) + " records, " +
                        mebibytes(static_cast<double>(book.data.bytes)) + "; " + std::to_string(wish.threads) +
                        " threads, group_commit, segments of 1 MiB";
    if (wish.json) {
        nlohmann::json out{{"input", loaded},
                           {"crash", result.crash},
                           {"damages", nlohmann::json::array()},
                           {"rows", nlohmann::json::array()},
                           {"good", good}};
        for (auto const& d : result.damages)
            out["damages"].push_back({{"name", d.name}, {"what", d.what}, {"file", d.file}, {"offset", d.offset}});
        for (auto const& r : result.rows) out["rows"].push_back(json_of(r));
        std::cout << dump(out, 2) << '\n';
        return;
    }
    std::cout << loaded << '\n' << result.crash << '\n';
    for (auto const& d : result.damages)
        std::cout << d.name << ": " << d.what << " (" << d.file << ", offset " << d.offset << ")\n";
    std::cout << '\n';
    print_table(result.rows);
    std::cout << (good ? "\nevery acknowledged, undamaged record was there, and no wrong value was returned\n"
                       : "\nNOT as it must be; see above\n");
}

int drill_with(request const& wish) {
    auto data = read_data(wish.input);
    if (!data) return std::cerr << to_string(data.error()) << '\n', 2;
    auto where = workplace::make(wish);
    if (!where) return std::cerr << to_string(where.error()) << '\n', 2;
    ledger book{std::move(*data)};
    std::optional<progress_bar> bar{std::in_place, !wish.json};
    auto const result = run(book, wish, *where, *bar);
    bar.reset();
    if (!result) return std::cerr << to_string(result.error()) << '\n', 2;
    bool const good = std::ranges::all_of(result->rows, [](row const& r) { return r.complaints.empty(); });
    print(wish, book, *result, good);
    if (wish.keep) std::cerr << "kept: " << (*where / "") << '\n';
    return good ? 0 : 1;
}

int open_with(request const& wish) {
    auto const named = [&](keel::repair_strategy s) { return name_of(s) == wish.repair; };
    auto const policy = std::ranges::find_if(strategies, named);
    return policy == strategies.end() ? 2 : open_and_tell(wish.folder, *policy, wish.key);
}

int run_program(int count, char** words) {
    request wish;
    CLI::App app{"Loads, kills, damages, recovers, and prints what came back."};
    app.add_option("--input", wish.input, "A text file, or a folder of them; UnicodeData.txt is keyed by code point")
        ->capture_default_str();
    app.add_option("--data-dir", wish.folder,
                   "An empty folder to work in; otherwise one below the machine's temporary folder");
    app.add_option("--threads", wish.threads, "Threads that write at once")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    app.add_flag("--keep", wish.keep, "Leave the stores behind, to be looked at with wal-recovery");
    app.add_flag("--json", wish.json, "The table as JSON");
    // The processes that this program starts of itself.
    auto* const load_mode = app.add_subcommand("load", "")->group("");
    load_mode->add_option("--input", wish.input);
    load_mode->add_option("--data-dir", wish.folder);
    load_mode->add_option("--threads", wish.threads);
    load_mode->add_option("--records", wish.records);
    auto* const open_mode = app.add_subcommand("open", "")->group("");
    open_mode->add_option("--data-dir", wish.folder);
    open_mode->add_option("--repair", wish.repair);
    open_mode->add_option("--key", wish.key);
    try {
        app.parse(count, words);
    } catch (CLI::ParseError const& wrong) {
        return app.exit(wrong) == 0 ? 0 : 2;
    }
    if (load_mode->parsed()) return load(wish.input, wish.records, wish.folder, wish.threads);
    return open_mode->parsed() ? open_with(wish) : drill_with(wish);
}

} // namespace drill

int main(int count, char** words) {
    try {
        return drill::run_program(count, words);
    } catch (std::exception const& what) {
        std::cerr << "recovery_drill: " << what.what() << '\n';
        return 2;
    }
}
