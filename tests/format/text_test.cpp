// SPDX-License-Identifier: BSL-1.0
#include <keel/format/text.hpp>

#include <keel/policy/checksum/crc32c.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <string>
#include <vector>

using namespace keel;
using format::frame_type;

namespace {

using C = checksum::crc32c;
constexpr format::frame_place place{0x1234567890ABCDEF, 4096};

std::vector<std::byte> frame_of(format::record const& r, std::uint32_t lsn_delta) {
    auto header = r.header();
    header.lsn_delta = lsn_delta;
    auto const payload = r.payload();
    std::vector<std::byte> frame(static_cast<std::size_t>(format::frame_bytes(payload.size())));
    std::ranges::copy(as_bytes(payload), frame.begin() + format::frame_header_bytes);
    format::finish_frame<C>(frame.data(), place, header);
    return frame;
}

std::string text_of(std::vector<std::uint8_t> const& bytes) { return {bytes.begin(), bytes.end()}; }

/// The message of the error that parsing gives; empty where it gives none.
std::string complaint(std::string_view line) {
    auto const parsed = format::parse(line);
    return parsed ? std::string{} : parsed.error().message;
}

} // namespace

TEST_CASE("P16: decode, print, parse and encode give the same frame, whatever its bytes") {
    CHECK(rc::check("P16 record text round trip", [] {
        format::record original;
        auto const delta = *rc::gen::inRange<std::uint32_t>(1, 0x7FFFFFFF);
        original.type = static_cast<frame_type>(*rc::gen::oneOf(rc::gen::inRange(1, 4), rc::gen::inRange(0, 256)));
        original.flags = static_cast<std::uint8_t>(*rc::gen::oneOf(rc::gen::inRange(0, 4), rc::gen::inRange(0, 256)));
        original.key = text_of(*rc::gen::arbitrary<std::vector<std::uint8_t>>());
        original.value = text_of(*rc::gen::arbitrary<std::vector<std::uint8_t>>());
        auto const frame = frame_of(original, delta);

        auto const seen = format::read_frame<C>(frame, place);
        RC_ASSERT(seen.state == format::frame_state::intact);
        auto const line = format::print({{delta}, seen.header.type, seen.header.flags, seen.key(), seen.value()});
        RC_ASSERT(line.find('\n') == std::string::npos);
        auto const parsed = format::parse(line);
        RC_ASSERT(parsed.has_value());
        RC_ASSERT(frame_of(*parsed, static_cast<std::uint32_t>(parsed->at.value)) == frame);
    }));
}

TEST_CASE(
    "P17: any line is parsed or refused with a message, and what is parsed prints and parses to the same record") {
    CHECK(rc::check("hostile lines", [] {
        auto line = format::print({lsn{7}, frame_type::put, format::whole_batch, as_bytes("a\\b"), as_bytes("\"\n")});
        auto const changes = *rc::gen::inRange(1, 4);
        for (int i = 0; i < changes; ++i) {
            auto const at = *rc::gen::inRange<std::size_t>(0, line.size());
            auto const with = static_cast<char>(*rc::gen::oneOf(
                rc::gen::inRange(0, 256), rc::gen::elementOf(std::vector<int>{'"', '\\', ' ', 'x', '0', 'f'})));
            if (*rc::gen::arbitrary<bool>()) line[at] = with;
            else line.resize(at);
            if (line.empty()) line = " ";
        }
        auto const parsed = format::parse(line);
        if (!parsed) {
            RC_ASSERT(!parsed.error().message.empty());
            RC_ASSERT(parsed.error().offset <= line.size());
        } else {
            auto const again = format::parse(format::print(parsed->view()));
            RC_ASSERT(again.has_value());
            RC_ASSERT(*again == *parsed);
        }
    }));
}

TEST_CASE("record text: lines look as documented") {
    CHECK(format::print({lsn{17}, frame_type::put, format::whole_batch, as_bytes("user:1"), as_bytes("Ada")}) ==
          R"(17 put whole "user:1" "Ada")");
    CHECK(format::print({lsn{18}, frame_type::message, format::whole_batch, {}, as_bytes("line\n")}) ==
          R"(18 message whole "line\x0a")");
    CHECK(format::print({lsn{19}, frame_type::erase, format::ends_batch, as_bytes("\"\\"), {}}) ==
          R"(19 erase ends "\"\\")");
    CHECK(format::print({lsn{20}, frame_type::put, format::begins_batch, as_bytes("k"), {}}) ==
          R"(20 put begins "k" "")");
    CHECK(format::print({lsn{21}, static_cast<frame_type>(9), 4, as_bytes("k"), as_bytes("v")}) ==
          R"(21 type9 flags4 "k" "v")");
    CHECK(format::print({lsn_max, frame_type::message, 0, as_bytes("k"), as_bytes("\x7f\xc3\xa4")}) ==
          R"(18446744073709551615 message inside "k" "\x7f\xc3\xa4")");
}

TEST_CASE("record text: an error says what was expected, what was found and where") {
    CHECK(complaint("") == "expected an LSN (a decimal number), found the end of the line in column 1");
    CHECK(complaint("x put whole \"a\" \"b\"").starts_with("expected an LSN (a decimal number), found \"x put whole"));
    CHECK(complaint("18446744073709551616 put").starts_with("expected an LSN"));
    CHECK(complaint("1 pat whole \"a\" \"b\"").starts_with("expected put, erase, message or typeN, found \"pat whole"));
    CHECK(complaint("1 type256 whole \"a\" \"b\"").starts_with("expected put, erase"));
    CHECK(complaint("1 put half \"a\" \"b\"").starts_with("expected whole, begins, ends, inside or flagsN"));
    CHECK(complaint("1 put whole \"a\"") == "expected a blank and the value, found the end of the line in column 16");
    CHECK(complaint("1 put whole \"a\" \"b") ==
          "expected the closing double quote, found the end of the line in column 19");
    CHECK(complaint("1 put whole \"a\" \"\\q\"")
              .starts_with("expected \\\", \\\\ or \\x and two hexadecimal digits, found"));
    CHECK(complaint("1 put whole \"a\" \"\\x0g\"").find("in column 18") != std::string::npos);
    CHECK(complaint("1 put whole \"a\" \"b\" ") == "expected the end of the line, found \" \" in column 20");
    CHECK(complaint("1 put whole \"\xc3\xa4\" \"b\"").starts_with("expected a printable character"));
    CHECK(format::parse("1 put whole \"a\" b").error().offset == 16);
    CHECK(format::parse("1 put whole \"a\" b").error().code == errc::invalid_argument);
}

TEST_CASE("record text: a key longer than a frame can have is refused, the longest one is not") {
    auto const line = [](std::size_t key) { return "1 put whole \"" + std::string(key, 'k') + "\" \"v\""; };
    REQUIRE(format::parse(line(format::key_bytes_max)).has_value());
    CHECK(format::parse(line(format::key_bytes_max))->key.size() == format::key_bytes_max);
    REQUIRE_FALSE(format::parse(line(format::key_bytes_max + 1)).has_value());
    CHECK(format::parse(line(format::key_bytes_max + 1)).error().code == errc::too_large);
}
