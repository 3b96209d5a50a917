// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <io/posix_folder.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

// get, put, erase and scan, and load of what scan printed.

namespace records_test {

using namespace keel;
using namespace keel::tests;

namespace {

bool says(std::string const& text, std::string_view part) { return text.find(part) != std::string::npos; }

/// Four fruits in a store that load made.
io::memory fruits() {
    io::memory disk;
    REQUIRE(load(disk, "\"apple\" \"red\"\n\"banana\" \"yellow\"\n\"blueberry\" \"blue\"\n\"fig\" \"\"\n").code == 0);
    return disk;
}
/// The keys of a scan with these words, with blanks between.
std::string keys(io::memory const& disk, std::vector<std::string> words) {
    words.insert(words.begin(), {"scan", "--keys"});
    auto const a = wal_recovery(disk, std::move(words));
    CHECK_MESSAGE(a.code == 0, a.err);
    std::string out;
    for (auto const& line : lines(a.out)) out += (out.empty() ? "" : " ") + line.substr(1, line.size() - 2);
    return out;
}

} // namespace

TEST_CASE("records: put, get and erase, for every shipped checksum") {
    for (auto const& name : shipped_checksums) {
        CAPTURE(name);
        auto const store = make_store(name, 20);
        auto const put = wal_recovery(store.disk, {"put", "city", "Z\xc3\xbcrich"});
        CHECK_MESSAGE(put.code == 0, put.err);
        CHECK(put.out == "Written, LSN 21.\n");
        CHECK(wal_recovery(store.disk, {"get", "city"}).out == "\"Z\\xc3\\xbcrich\"\n");
        CHECK(wal_recovery(store.disk, {"get", "city", "--raw"}).out == "Z\xc3\xbcrich");
        auto const o = wal_recovery(store.disk, {"get", "city", "--json"}).object();
        CHECK(o == json::parse(R"({"key": "city", "has_value": true, "value": "Zürich"})"));
        CHECK(wal_recovery(store.disk, {"erase", "city", "--json"}).object()["lsn"] == 22);
        auto const gone = wal_recovery(store.disk, {"get", "city"});
        CHECK(gone.code == 4);
        CHECK(gone.out.empty());
        CHECK(gone.err == "wal-recovery: the key \"city\" has no value\n");
        CHECK(wal_recovery(store.disk, {"get", "city", "--json"}).object()["has_value"] == false);
        CHECK(wal_recovery(store.disk, {"validate"}).code == 0);
    }
}

TEST_CASE("records: bytes that are not printable go in and come out") {
    auto const disk = fruits();
    CHECK(wal_recovery(disk, {"put", "\\x00\\\\", "\\xff\\\""}).code == 0);
    CHECK(wal_recovery(disk, {"get", "\\x00\\\\"}).out == "\"\\xff\\\"\"\n");
    CHECK(wal_recovery(disk, {"get", "\\x00\\\\", "--raw"}).out == "\xff\"");
    auto const o = wal_recovery(disk, {"get", "\\x00\\\\", "--json"}).object();
    CHECK(o["value_hex"] == "ff22");
    auto const bad = wal_recovery(disk, {"get", "\\n"});
    CHECK(bad.code == 2);
    CHECK(says(bad.err, "get: KEY: '\\n' is no escape"));
    posix_folder const folder;
    std::string const bytes("\0\n\xfe", 3);
    std::ofstream{folder / "value", std::ios::binary} << bytes;
    CHECK(wal_recovery(disk, {"put", "file", "--input", folder / "value"}).code == 0);
    CHECK(wal_recovery(disk, {"get", "file", "--raw"}).out == bytes);
}

TEST_CASE("records: put without a value, or with two, and into no store is refused") {
    auto const disk = fruits();
    CHECK(says(wal_recovery(disk, {"put", "a"}).err, "a value is missing"));
    CHECK(wal_recovery(disk, {"put", "a", "b", "--input", "x"}).code == 2);
    CHECK(wal_recovery(disk, {"put", "a", "--input", "/nowhere/at/all"}).code == 2);
    CHECK(wal_recovery(disk, {"put", "", "b"}).code == 2);
    CHECK(wal_recovery(disk, {"get"}).code == 2);
    CHECK(keys(disk, {}) == "apple banana blueberry fig");
    io::memory empty;
    for (auto const& words : std::vector<std::vector<std::string>>{{"put", "a", "b"}, {"get", "a"}, {"scan"}}) {
        auto const a = wal_recovery(empty, words);
        CHECK(a.code == 2);
        CHECK(says(a.err, "check --data-dir"));
    }
    CHECK(empty.files().empty());
}

TEST_CASE("scan: bounds, prefix, direction and limit, alone and together") {
    auto const disk = fruits();
    CHECK(keys(disk, {}) == "apple banana blueberry fig");
    CHECK(keys(disk, {"--from", "b"}) == "banana blueberry fig");
    CHECK(keys(disk, {"--to", "blueberry"}) == "apple banana");
    CHECK(keys(disk, {"--from", "banana", "--to", "fig"}) == "banana blueberry");
    CHECK(keys(disk, {"--prefix", "b"}) == "banana blueberry");
    CHECK(keys(disk, {"b"}) == "banana blueberry");
    CHECK(keys(disk, {"b", "--from", "bb"}) == "blueberry");
    CHECK(keys(disk, {"b", "--to", "bb"}) == "banana");
    CHECK(keys(disk, {"b", "--from", "a", "--to", "z"}) == "banana blueberry");
    CHECK(keys(disk, {"--reverse"}) == "fig blueberry banana apple");
    CHECK(keys(disk, {"b", "--reverse", "--limit", "1"}) == "blueberry");
    CHECK(keys(disk, {"--limit", "2"}) == "apple banana");
    CHECK(keys(disk, {"--limit", "0"}).empty());
    CHECK(keys(disk, {"x"}).empty());
    CHECK(says(wal_recovery(disk, {"scan", "--from", "z", "--to", "a"}).err, "no key lies between"));
}

TEST_CASE("scan: text and JSON, and load reads both back") {
    auto const disk = fruits();
    REQUIRE(wal_recovery(disk, {"put", "\\x01", "\\xff"}).code == 0);
    auto const text = wal_recovery(disk, {"scan"}).out;
    CHECK(text ==
          "\"\\x01\" \"\\xff\"\n\"apple\" \"red\"\n\"banana\" \"yellow\"\n\"blueberry\" \"blue\"\n\"fig\" \"\"\n");
    auto const objects = wal_recovery(disk, {"scan", "--json"}).out;
    CHECK(lines(objects)[0] == R"({"key":"\u0001","value_hex":"ff"})");
    CHECK(lines(objects)[1] == R"({"key":"apple","value":"red"})");
    for (auto const& printed : {text, objects}) {
        io::memory copy;
        auto const a = load(copy, printed);
        CHECK_MESSAGE(a.code == 0, a.err);
        CHECK(a.out == "Loaded 5 records into a new store.\n");
        CHECK(wal_recovery(copy, {"scan"}).out == text);
    }
    io::memory copy;
    CHECK(says(load(copy, "\"only a key\"\n").err, "line 1: expected a key and a value"));
    io::memory another;
    CHECK(load(another, "{\"key\":\"a\"}\n").code == 2);
}

TEST_CASE("records: damage is told with the answer, and nothing is written into a store with lost records") {
    auto store = make_store("crc32c");
    damage_record(store, 233);
    auto const scan = wal_recovery(store.disk, {"scan"});
    CHECK(scan.code == 1);
    CHECK(lines(scan.out).size() == 399);
    CHECK_FALSE(scan.err.empty());
    auto const broken = wal_recovery(store.disk, {"get", store.records[233].key});
    CHECK(broken.code == 1);
    CHECK(broken.out.empty());

    // Opening finds this one: it is in the segment that a crash left open.
    auto crashed = make_store_and_die("crc32c", 30);
    damage_record(crashed, 15);
    auto const put = wal_recovery(crashed.disk, {"put", "a", "b"});
    CHECK(put.code == 2);
    CHECK(says(put.err, "wal-recovery repair"));
    CHECK(wal_recovery(crashed.disk, {"get", "a"}).code == 1);
    auto const whole = wal_recovery(crashed.disk, {"get", crashed.records[16].key});
    CHECK(whole.code == 1);
    CHECK_FALSE(whole.out.empty());
    CHECK(says(whole.err, "1 record (LSN 16) cannot be read: the answer may be an older one"));
}

} // namespace records_test
