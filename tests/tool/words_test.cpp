// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/detail/key_word.hpp>
#include <keel/tool/detail/number.hpp>
#include <keel/tool/detail/spelling.hpp>

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <string_view>

// What people type: numbers with units, keys with bytes that are not printable, words with a letter wrong.

namespace words_test {

using namespace keel;
using namespace keel::tool::detail;

TEST_CASE("numbers: plain ones, ones with commas, and ones with units are understood") {
    CHECK(parse_number("0") == 0U);
    CHECK(parse_number("1,234,567") == 1'234'567U);
    CHECK(parse_number("18446744073709551615") == ~std::uint64_t{0});
    CHECK(parse_number("7B") == 7U);
    CHECK(parse_number("10k") == 10'000U);
    CHECK(parse_number("10kB") == 10'000U);
    CHECK(parse_number("64KiB") == 65'536U);
    CHECK(parse_number("64 KiB") == 65'536U);
    CHECK(parse_number("2M") == 2'000'000U);
    CHECK(parse_number("3Gi") == 3 * GiB);
    CHECK(parse_number("1TiB") == 1024 * GiB);
}

TEST_CASE("numbers: what is none is named, and the reason is told") {
    auto const why = [](std::string_view text) {
        auto const value = parse_number(text);
        REQUIRE_FALSE(value);
        CHECK(value.error().code == errc::invalid_argument);
        CHECK(value.error().message.find("'" + std::string{text} + "'") != std::string::npos);
        return value.error().message;
    };
    for (auto const* text : {"", "x", "1,23", ",123", "1234,567", "1.5MiB", " 7"})
        CHECK(why(text).find("not a whole number") != std::string::npos);
    CHECK(why("-3").find("negative") != std::string::npos);
    for (auto const* text : {"64parsecs", "7b", "7KIB", "7Mib"})
        CHECK(why(text).find("is no unit") != std::string::npos);
    for (auto const* text : {"18446744073709551616", "99999999999999999999999", "18446744073709551615k"})
        CHECK(why(text).find("too large") != std::string::npos);
}

TEST_CASE("keys on the command line: escapes are those of dump, every other byte stands for itself") {
    CHECK(bytes_of_word("user:1", "KEY") == "user:1");
    CHECK(bytes_of_word("a\\x00\\xfFb", "KEY") == std::string("a\0\xff"
                                                              "b",
                                                              4));
    CHECK(bytes_of_word("\\\\x41 \\\" \"", "KEY") == "\\x41 \" \"");
    CHECK(bytes_of_word("Z\xc3\xbcrich\n", "KEY") == "Z\xc3\xbcrich\n");
    for (auto const* bad : {"\\", "\\n", "a\\x4", "\\x4g", "\\xg4", "\\x 4"}) {
        auto const got = bytes_of_word(bad, "KEY");
        REQUIRE_FALSE(got);
        CHECK(got.error().message.starts_with("KEY: '\\"));
    }
}

TEST_CASE("spelling: one letter more, less, other or swapped is noticed, and what is far from all words is not") {
    constexpr std::array<std::string_view, 4> known{"validate", "inspect", "dump", "undo"};
    CHECK(edits_between("kitten", "sitting") == 3);
    CHECK(edits_between("ab", "ba") == 1);
    CHECK(edits_between("", "abc") == 3);
    for (auto const* word : {"valdate", "vaildate", "validatee", "velidate", "valid"})
        CHECK(nearest_word(word, known) == "validate");
    CHECK(nearest_word("dmup", known) == "dump");
    CHECK(nearest_word("frobnicate", known).empty());
    CHECK(nearest_word("x", known).empty());
    CHECK(did_you_mean("inspct", known) == "; did you mean 'inspect'?");
    CHECK(did_you_mean("frobnicate", known).empty());
}

} // namespace words_test
