// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The tool on a store that a program has open.

namespace in_use_test {

using namespace keel;
using namespace keel::tests;

namespace {

bool says(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

/// Runs `look` while an engine has the store open and has put 20 records.
void while_open(std::function<void(io::memory&)> const& look) {
    bool looked = false;
    make_store_and_die("crc32c", 20, [&](io::memory& disk) {
        look(disk);
        looked = true;
    });
    CHECK(looked);
}

} // namespace

TEST_CASE("in use: what only reads looks at a store that a program has open, and changes nothing") {
    while_open([](io::memory& disk) {
        auto const before = disk.after_process_crash();
        auto const a = wal_recovery(disk, {"validate", "--json"});
        CHECK(a.code == 0);
        CHECK(a.object()["status"] == "healthy");
        CHECK(a.object()["in_use"] == true);
        CHECK(a.object()["records"] == 20);
        CHECK(a.object()["torn_tail_bytes"] == 0);
        CHECK(says(wal_recovery(disk, {"validate"}).out, "a program has the store open"));
        auto const inspected = wal_recovery(disk, {"inspect", "--json"});
        CHECK(inspected.code == 0);
        CHECK(inspected.object()["in_use"] == true);
        auto const dump = wal_recovery(disk, {"dump"});
        CHECK(dump.code == 0);
        CHECK(lines(dump.out).size() == 20);
        CHECK(wal_recovery(disk, {"get", "key2"}).out.starts_with("\"value 2 "));
        CHECK(lines(wal_recovery(disk, {"scan"}).out).size() == 20);
        CHECK(wal_recovery(disk, {"repair", "--strategy", "skip", "--dry-run"}).code == 0);
        CHECK(disk.equal(before));
    });
    CHECK(wal_recovery(make_store("crc32c", 20).disk, {"validate", "--json"}).object()["in_use"] == false);
}

TEST_CASE("in use: what writes is refused, and says what to do") {
    while_open([](io::memory& disk) {
        auto const before = disk.after_process_crash();
        for (auto const& words : std::vector<std::vector<std::string>>{{"repair", "--strategy", "skip"},
                                                                       {"undo"},
                                                                       {"accept-loss"},
                                                                       {"put", "a", "b"},
                                                                       {"erase", "a"},
                                                                       {"validate", "--deep"}}) {
            CAPTURE(words[0]);
            auto const a = wal_recovery(disk, words);
            CHECK(a.code == 2);
            CHECK(a.err.starts_with("wal-recovery: locked: "));
            CHECK(says(a.err, "close"));
            auto json_words = words;
            json_words.emplace_back("--json");
            auto const o = wal_recovery(disk, json_words).object();
            CHECK(o["status"] == "unreadable");
            CHECK(o["error"]["code"] == "locked");
        }
        CHECK(disk.equal(before));
    });
}

TEST_CASE("in use: damage that stays is reported, with the advice to close the program first") {
    while_open([](io::memory& disk) {
        std::string segment;
        for (auto const& file : disk.files()) {
            auto const bytes = *disk.contents(file);
            if (file.starts_with("db/log/") && as_text(bytes).find("key5") != std::string_view::npos) segment = file;
        }
        auto const bytes = *disk.contents(segment);
        REQUIRE(disk.corrupt(segment, as_text(bytes).find("key5value") + 4, std::byte{4}));
        auto const a = wal_recovery(disk, {"validate"});
        CHECK(a.code == 1);
        CHECK(says(a.out, "DAMAGED"));
        CHECK(says(a.out, "Close the program"));
        CHECK(wal_recovery(disk, {"dump"}).code == 1);
        CHECK(wal_recovery(disk, {"get", "key5"}).code != 0);
    });
}

TEST_CASE("in use: records that a writer has not acknowledged yet are left out, and the end of the log is not torn") {
    recovery::examination exam{recovery::inventory{wal::layout{"db"}}};
    exam.stock.note.emplace();
    exam.stock.note->accepted = {5};
    exam.stock.note_is_own = true;
    exam.report.torn_tail_bytes = 100;
    exam.found.findings.push_back({.kind = damage::torn_tail});
    tool::detail::survey seen{std::move(exam), {}, "crc32c"};
    CHECK(seen.newest_acknowledged() == lsn_max);
    CHECK(seen.findings.size() == 1);
    seen.mark_in_use();
    CHECK(seen.newest_acknowledged() == lsn{5});
    CHECK(seen.findings.empty());
    CHECK(seen.exam.report.torn_tail_bytes == 0);
    seen.exam.stock.state.log_start_lsn = {7}; // what is in tables is not taken back
    CHECK(seen.newest_acknowledged() == lsn{7});
    seen.exam.stock.note_is_own = false;
    CHECK(seen.newest_acknowledged() == lsn_max);
}

TEST_CASE("in use: what a writer removes while it is read can still be read through a view that keeps it open") {
    auto store = make_store("crc32c");
    auto const file = "db/" + find_value(store, 0).file;
    tool::detail::view<io::memory> fresh{store.disk};
    tool::detail::view<io::memory> kept{store.disk};
    kept.keep_open(wal::layout{"db"});
    REQUIRE(store.disk.remove(file));
    CHECK(kept.open(file, io::access::read_only, io::creation::must_exist));
    CHECK_FALSE(fresh.open(file, io::access::read_only, io::creation::must_exist));
    CHECK_FALSE(kept.open(file, io::access::read_write, io::creation::must_exist));
}

} // namespace in_use_test
