// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/detail/console.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <sstream>
#include <string>

using namespace keel;

TEST_CASE("console: control characters do not reach the terminal") {
    using namespace keel::tool::detail;
    CHECK(printable("log/a\x1b[2Jb\n\x7f") == "log/a\\x1b[2Jb\\x0a\\x7f");
    CHECK(printable("Z\xc3\xbcrich \xe2\x82\xac") == "Z\xc3\xbcrich \xe2\x82\xac");
    CHECK(printable("\xc2\x9b"
                    "2J") == "\\xc2\x9b"
                             "2J"); // without its lead byte the rest is no control character
    CHECK(printable("") == "");
}

TEST_CASE("console: numbers, sizes and ranges are written for people") {
    using namespace keel::tool::detail;
    CHECK(grouped(0) == "0");
    CHECK(grouped(999) == "999");
    CHECK(grouped(1000) == "1,000");
    CHECK(grouped(1234567) == "1,234,567");
    CHECK(human_bytes(1) == "1 byte");
    CHECK(human_bytes(1023) == "1023 bytes");
    CHECK(human_bytes(1536) == "1.5 KiB");
    CHECK(human_bytes(16 * MiB) == "16.0 MiB");
    CHECK(human_bytes(~std::uint64_t{0}) == "16.0 EiB");
    CHECK(text_of(lsn_range{}) == "-");
    CHECK(text_of(lsn_range{{7}, {7}}) == "7");
    CHECK(text_of(lsn_range{{7}, {9}}) == "7-9");
    CHECK(text_of(lsn_range{{7}, lsn_max}) == "7-");
    CHECK(text_of(std::vector<lsn_range>(10, {{1}, {2}})) == "1-2, 1-2, 1-2, 1-2, 1-2, 1-2, 1-2, 1-2 and 2 more");
}

TEST_CASE("console: colours only where they are wanted") {
    using namespace keel::tool::detail;
    std::ostringstream out;
    console const plain{out, out, {}};
    CHECK(plain.paint(style::red, "x") == "x");
    console const colourful{out, out, {.colour = true}};
    CHECK(colourful.paint(style::red, "x") == "\x1b[1;31mx\x1b[0m");
    CHECK(colourful.paint(style::plain, "x") == "x");
}

TEST_CASE("console: a table's columns are as wide as their widest cell") {
    using namespace keel::tool::detail;
    std::ostringstream out;
    console const to{out, out, {}};
    text_table table{{"a", "long", "last"}};
    table.add({"wide cell", "1", "x"});
    table.print(to);
    CHECK(out.str() == "  a          long  last\n  wide cell  1     x\n");
}

TEST_CASE("console: progress shows on a terminal, after a moment, and leaves no trace") {
    using namespace keel::tool::detail;
    recovery_progress p{
        .phase = recovery_phase::scan, .segments_done = 1, .segments = 3, .bytes_done = MiB, .bytes = 3 * MiB};
    p.elapsed = std::chrono::seconds{1};
    p.left = std::chrono::seconds{2};
    auto const shown = [&](tool::terminal look) {
        std::ostringstream err;
        console const to{err, err, look};
        progress_line{to}.show(p);
        return err.str();
    };
    CHECK(shown({}).empty());
    auto const text = shown({.progress = true});
    CHECK(text.find("scan: 1 of 3 segments, 1.0 MiB of 3.0 MiB, about 2 s left") != std::string::npos);
    CHECK(text.ends_with("\r\x1b[K"));
    p.elapsed = std::chrono::milliseconds{1};
    CHECK(shown({.progress = true}).empty());
}
