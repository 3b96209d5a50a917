// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/detail/wrap.hpp>

#include <keel/tool/detail/console.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <ostream>
#include <sstream>
#include <string>

// Text on a terminal: rows are no wider than it.

namespace wrap_test {

using namespace keel::tool::detail;

TEST_CASE("wrap: a line is broken between words, and goes on below its text") {
    CHECK(wrapped_line("one two three", 0) == "one two three");
    CHECK(wrapped_line("one two three", 13) == "one two three");
    CHECK(wrapped_line("one two three", 12) == "one two\nthree");
    CHECK(wrapped_line("  one two three", 9) == "  one two\n  three");
    CHECK(wrapped_line("status      one two", 16) == "status      one\ntwo"); // a label as wide as this leaves no room
    CHECK(wrapped_line("status  healthy and whole again", 24) == "status  healthy and\n        whole again");
    CHECK(wrapped_line("", 5).empty());
    CHECK(wrapped("a b c d\n\ne f g h", 3) == "a b\nc d\n\ne f\ng h");
}

TEST_CASE("wrap: a word that is wider than the terminal stays whole, and so does a command that is to be copied") {
    CHECK(wrapped_line("see /a/very/long/path now", 10) == "see\n/a/very/long/path\nnow");
    std::string const command = "  wal-recovery repair --data-dir db --strategy partial --dry-run";
    CHECK(wrapped_line(command, 20) == command);
}

TEST_CASE("wrap: colours and the bytes of one character take no columns") {
    CHECK(columns_of("\x1b[1;31mred\x1b[0m") == 3);
    CHECK(columns_of("Z\xc3\xbcrich") == 6);
    CHECK(wrapped_line("\x1b[1;31mred\x1b[0m red", 7) == "\x1b[1;31mred\x1b[0m red");
    CHECK(wrapped_line("\x1b[1;31mred\x1b[0m red", 6) == "\x1b[1;31mred\x1b[0m\nred");
}

TEST_CASE("wrap: a stream passes on whole lines in rows, and what is flushed as it is") {
    std::ostringstream behind;
    {
        wrapping_buffer buffer{*behind.rdbuf(), 8};
        std::ostream rows{&buffer};
        rows << "one two three\nfour five six";
        CHECK(behind.str() == "one two\nthree\n");
        rows << std::flush;
        CHECK(behind.str() == "one two\nthree\nfour five six");
        rows << "\nend";
    }
    CHECK(behind.str() == "one two\nthree\nfour five six\nend");
}

TEST_CASE("wrap: a table that is too wide has its last column below the rows") {
    std::ostringstream out;
    text_table table{{"file", "kind", "detail"}};
    table.add({"log/1.seg", "torn_tail", "a sentence for a person"});
    table.print(console{out, out, {.width = 30}});
    CHECK(out.str() == "  file       kind\n      detail\n  log/1.seg  torn_tail\n      a sentence for a person\n");
    std::ostringstream wide;
    table.print(console{wide, wide, {.width = 80}});
    CHECK(wide.str().find("torn_tail  a sentence") != std::string::npos);
}

TEST_CASE("wrap: the line that shows progress is no wider than the terminal") {
    keel::recovery_progress p{.segments_done = 1, .segments = 3, .bytes_done = 1 << 20, .bytes = 3 << 20};
    p.elapsed = std::chrono::seconds{1};
    std::ostringstream err;
    progress_line{console{err, err, {.progress = true, .err_width = 20}}}.show(p);
    auto const text = err.str();
    auto const begin = text.find("\x1b[K") + 3;
    CHECK(text.find('\r', begin) - begin == 19);
}

} // namespace wrap_test
