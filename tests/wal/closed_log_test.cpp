// SPDX-License-Identifier: BSL-1.0
// What a log, and a reader of it, says once it may not be used: closed, moved from, or carried into a forked child.
#include <keel/log.hpp>

#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/closed_calls.hpp"
#include "../support/model.hpp"
#include "io/posix_folder.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include <unistd.h>

namespace closed_log {

using keel::errc, keel::io::memory, keel::lsn;
using keel::test::closed_calls;
using keel::tests::in_child;
using log_type = keel::log<memory, keel::segment_size<4 * keel::KiB>>;

log_type filled(memory const& disk, bool background = false) {
    auto options = model::test_options();
    options.background_thread = background;
    auto wal = log_type::open("log", options, disk);
    REQUIRE(wal);
    for (int i = 0; i < 30; ++i) REQUIRE(wal->append(std::string(300, 'r')));
    return std::move(*wal);
}

TEST_CASE("closed log: after close() every call says closed, of a reader that was under way, too") {
    memory disk;
    auto wal = filled(disk);
    auto reader = wal.read_from(lsn{1});
    REQUIRE(reader.next());
    REQUIRE(wal.close());
    closed_calls calls{"closed"};
    calls.expect("next", reader.next());
    calls.log(wal, false);
    CHECK(calls.wrong() == "");
    CHECK(wal.close());
    CHECK(wal.last_lsn() == lsn{30});
    auto again = filled(disk);
    CHECK(again.last_lsn() == lsn{60});
    CHECK(again.recovery().findings.empty());
}

TEST_CASE("closed log: one that was moved from says so, and a reader may outlive its log") {
    auto wal = filled({});
    auto other = std::make_unique<log_type>(std::move(wal));
    closed_calls calls{"moved from"};
    calls.log(wal, true); // NOLINT: that it was moved from is the point
    wal.abandon();
    CHECK(calls.wrong() == "");
    auto reader = other->read_from(lsn{1});
    REQUIRE(reader.next());
    other.reset();
    CHECK(reader.next().error().code == errc::closed);
    wal = filled({});
    CHECK(wal.append("x"));
}

TEST_CASE("closed log: in a forked child every call says closed and names the fork, and nothing is done") {
    for (bool const background : {false, true}) {
        memory disk;
        auto wal = filled(disk, background);
        auto reader = wal.read_from(lsn{1});
        REQUIRE(reader.next());
        CHECK(in_child([&] {
                  ::alarm(20);
                  auto const before = background ? 0 : disk.operations();
                  closed_calls calls{"fork"};
                  calls.expect("next", reader.next());
                  calls.log(wal, true);
                  wal.abandon();
                  { auto const gone = std::move(reader); }
                  auto other = std::move(wal);
                  wal = std::move(other);
                  { auto const gone = std::move(wal); }
                  if (!background && disk.operations() != before) return 2;
                  if (!calls.wrong().empty()) std::fprintf(stderr, "%s\n", calls.wrong().c_str());
                  return calls.wrong().empty() ? 0 : 1;
              }) == 0);
        REQUIRE(wal.append("next"));
        auto const second = reader.next();
        REQUIRE(second);
        CHECK((*second)->at == lsn{2});
        REQUIRE(wal.close());
        auto again = filled(disk);
        CHECK(again.recovery().findings.empty());
        CHECK(again.last_lsn() == lsn{61});
    }
}

} // namespace closed_log
