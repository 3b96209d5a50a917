// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

// How the tool answers words: those it knows, and those it does not.

namespace command_line_test {

using namespace keel;
using namespace keel::tests;

namespace {

answer tool_with(std::vector<std::string> const& words, io::memory const& disk = {}, tool::terminal look = {}) {
    std::ostringstream out;
    std::ostringstream err;
    auto const code = wal_recovery_into(out, err, disk, words, look);
    return {code, out.str(), err.str()};
}
bool says(std::string const& text, std::string_view part) { return text.find(part) != std::string::npos; }

std::size_t widest(std::string const& text) {
    std::size_t columns = 0;
    for (auto const& line : lines(text)) columns = std::max(columns, tool::detail::columns_of(line));
    return columns;
}

} // namespace

TEST_CASE("command line: an unknown command gives 2 and the one that may be meant") {
    auto const a = tool_with({"valdate", "--data-dir", "db"});
    CHECK(a.code == 2);
    CHECK(a.out.empty());
    CHECK(a.err == "wal-recovery: 'valdate' is no command; did you mean 'validate'?\n");
    CHECK(says(tool_with({"--data-dir", "db", "accept-los"}).err, "'accept-loss'"));
    CHECK(says(tool_with({"frobnicate"}).err, "'wal-recovery help' lists them"));
    CHECK(says(tool_with({}).err, "no command is given"));
}

TEST_CASE("command line: an unknown option gives 2 and the one that may be meant, a word too many is named") {
    auto const a = tool_with({"validate", "--jsno", "--data-dir", "db"});
    CHECK(a.code == 2);
    CHECK(says(a.err, "'--jsno' is no option; did you mean '--json'?"));
    auto const far = tool_with({"validate", "--frobnicate", "--data-dir", "db"});
    CHECK(says(far.err, "'--frobnicate' is no option; see 'wal-recovery help validate'"));
    CHECK(says(tool_with({"repair", "--strategy", "pray"}).err, "'pray' is no strategy; there are skip, partial"));
    CHECK(says(tool_with({"repair"}).err, "give one of skip, partial, rollback"));
    CHECK(says(tool_with({"validate", "db", "again"}).err, "'again' is one word too many"));
}

TEST_CASE("command line: help is printed for all, and for each command in three ways") {
    auto const all = tool_with({"help"});
    CHECK(all.code == 0);
    CHECK(all.err.empty());
    for (auto const name : tool::detail::command_names) {
        CAPTURE(name);
        CHECK(says(all.out, "  " + std::string{name} + " "));
        if (name == "help") continue;
        auto const one = tool_with({"help", std::string{name}});
        CHECK(one.code == 0);
        CHECK(says(one.out, "Usage: wal-recovery " + std::string{name}));
        CHECK(tool_with({std::string{name}, "--help"}).out == one.out);
        CHECK(tool_with({std::string{name}, "-h"}).out == one.out);
    }
    CHECK(tool_with({"--help"}).out == all.out);
    CHECK(tool_with({"-h"}).out == all.out);
    CHECK(says(tool_with({"help", "horizon"}).out, "acknowledged"));
}

TEST_CASE("command line: -V and --version print version and format") {
    auto const a = tool_with({"-V"});
    CHECK(a.code == 0);
    CHECK(a.out ==
          "wal-recovery " + std::string{version} + ", store format " + std::to_string(format::format_number) + "\n");
    CHECK(tool_with({"--version"}).out == a.out);
}

TEST_CASE("command line: the folder stands in front of the command, behind it, or alone") {
    auto const store = make_store("crc32c", 20);
    for (std::vector<std::string> const& words :
         std::vector<std::vector<std::string>>{{"--data-dir", "db", "validate"},
                                               {"validate", "--data-dir", "db"},
                                               {"validate", "--data-dir=db/"},
                                               {"validate", "db"},
                                               {"inspect", "db"},
                                               {"dump", "db"},
                                               {"repair", "db", "--strategy", "partial"},
                                               {"--data-dir", "db", "get", "key2"}}) {
        auto const a = tool_with(words, store.disk);
        CHECK_MESSAGE(a.code == 0, a.err);
    }
    auto const two = tool_with({"--data-dir", "db", "validate", "other"}, store.disk);
    CHECK(two.code == 2);
    CHECK(says(two.err, "two folders are named"));
    auto const none = tool_with({"validate", "--json"}, store.disk);
    CHECK(none.code == 2);
    CHECK(none.object()["error"]["code"] == "not_found");
    CHECK(says(none.object()["error"]["message"], "--data-dir"));
    CHECK(says(none.object()["error"]["message"], "KEEL_DATA_DIR"));
}

TEST_CASE("command line: numbers may have units and commas, and a bad one is named") {
    auto const store = make_store("crc32c");
    auto const late = wal_recovery(store.disk, {"dump", "--from-lsn", "1k"});
    CHECK(late.code == 0);
    CHECK(late.out.empty());
    CHECK(lines(wal_recovery(store.disk, {"scan", "--limit", "1,000"}).out).size() == 400);
    CHECK(wal_recovery(store.disk, {"validate", "--memory-limit", "64KiB"}).code == 0);
    for (auto const* bad : {"x", "1.5k", "64parsecs", "99999999999999999999"}) {
        auto const a = wal_recovery(store.disk, {"validate", "--memory-limit", bad});
        CHECK(a.code == 2);
        CHECK(says(a.err, "validate: --memory-limit: "));
        CHECK(says(a.err, std::string{"'"} + bad + "'"));
    }
    CHECK(says(wal_recovery(store.disk, {"dump", "--from-lsn=-3"}).err, "'-3' is negative"));
}

TEST_CASE("command line: on a terminal no row is wider than it, and elsewhere lines stay whole") {
    auto store = make_store("crc32c");
    damage_record(store, 233);
    for (std::size_t const width : {60U, 80U, 100U}) {
        CAPTURE(width);
        for (std::vector<std::string> const& words :
             std::vector<std::vector<std::string>>{{"validate", "db"},
                                                   {"inspect", "db"},
                                                   {"repair", "db", "--strategy", "skip", "--dry-run"},
                                                   {"explain", "horizon"},
                                                   {"help"},
                                                   {"help", "repair"}}) {
            CAPTURE(words[0]);
            auto const a = tool_with(words, store.disk, {.width = width});
            for (auto const& line : lines(a.out)) {
                // A table of many columns is as wide as they are; what it says in whole sentences is not.
                bool const is_row = line.starts_with("  wal-recovery ") || line.find("  16.0 KiB") != std::string::npos;
                if (!is_row && width >= 80) CHECK_MESSAGE(tool::detail::columns_of(line) <= width, line);
            }
        }
    }
    CHECK(widest(tool_with({"validate", "db"}, store.disk).out) > 100);
    CHECK(widest(tool_with({"help"}).out) <= 80); // where the width is not known
    auto const error = tool_with({"validate", "nowhere"}, {}, {.err_width = 40});
    CHECK(error.code == 2);
    CHECK(lines(error.err).size() > 1);
    auto const dump = tool_with({"dump", "db"}, store.disk, {.width = 40});
    CHECK(dump.out == tool_with({"dump", "db"}, store.disk).out); // a program reads it
}

TEST_CASE("command line: advice is given where it helps, and names the folder as it was named") {
    auto store = make_store("crc32c");
    auto const healthy = wal_recovery(store.disk, {"validate"});
    CHECK_FALSE(says(healthy.out, "What to do"));
    CHECK_FALSE(says(healthy.out, "Nothing needs"));
    damage_record(store, 233);
    auto const damaged = wal_recovery(store.disk, {"validate"});
    CHECK(says(damaged.out, "  wal-recovery repair --data-dir db --strategy partial --dry-run\n"));
    CHECK(says(damaged.out, "a backup may have it."));
    CHECK(tool::detail::shell_word("db") == "db");
    CHECK(tool::detail::shell_word("my db") == "'my db'");
    CHECK(tool::detail::shell_word("it's") == "'it'\\''s'");
    CHECK(tool::detail::shell_word("") == "''");
}

} // namespace command_line_test
