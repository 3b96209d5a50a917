// SPDX-License-Identifier: BSL-1.0
#include <keel/text.hpp>

#include <keel/keel.hpp>

#include <doctest/doctest.h>

#include <set>
#include <sstream>
#include <string>
#include <system_error>

namespace {

template <class T>
std::string printed(T const& value) {
    std::ostringstream out;
    out << value;
    return out.str();
}

/// Every enumerator up to the first unnamed one has a name of its own.
template <class E>
std::size_t names() {
    std::set<std::string> all;
    for (int i = 0; i < 64; ++i) {
        auto const name = printed(static_cast<E>(i));
        if (name == "unknown") break;
        CHECK(name == keel::to_string(static_cast<E>(i)));
        CHECK(all.insert(name).second);
    }
    return all.size();
}

} // namespace

TEST_CASE("text: every public enum prints as its names") {
    CHECK(names<keel::errc>() == 23);
    CHECK(names<keel::engine_state>() == 5);
    CHECK(names<keel::state_cause>() == 11);
    CHECK(names<keel::damage>() >= 18);
    CHECK(names<keel::outcome>() == 6);
    CHECK(names<keel::decision>() == 3);
    CHECK(names<keel::repair_strategy>() == 4);
    CHECK(names<keel::recovery_phase>() == 5);
    CHECK(names<keel::io::file_kind>() == 4);
    CHECK(printed(keel::verify_depth::deep) == "deep");
    CHECK(printed(keel::write_path::mapped) == "mapped");
    CHECK(printed(keel::io::fault_kind::lose_sync) == "lose_sync");
    CHECK(printed(keel::io::fault_class::store) == "store");
}

TEST_CASE("text: ids, ranges and reports print for people") {
    using keel::lsn;
    CHECK(printed(lsn{7}) == "7");
    CHECK(printed(keel::segment_id{3}) == "3");
    CHECK(printed(keel::format::table_id{4}) == "4");
    CHECK(printed(keel::checksum_id::of("abc\x01")) == "abc?");
    CHECK(printed(keel::lsn_range{lsn{2}, lsn{5}}) == "2 to 5");
    CHECK(printed(keel::lsn_range{lsn{2}, lsn{2}}) == "2");
    CHECK(printed(keel::lsn_range{}) == "none");
    CHECK(keel::to_string(std::vector{keel::lsn_range{lsn{2}, lsn{2}}, {lsn{4}, lsn{5}}}) == "2, 4 to 5");
    keel::finding const f{.kind = keel::damage::corrupt_record,
                          .file = "log/1.seg",
                          .offset = 512,
                          .length = 88,
                          .lsns = {lsn{7}, lsn{7}},
                          .lost = 1,
                          .detail = "gone"};
    CHECK(printed(f) == "corrupt_record in log/1.seg at 512, 88 bytes, LSN 7: gone; 1 record lost");
    keel::recovery_report report;
    report.segments = 2;
    report.records = 9;
    report.first_lsn = lsn{1};
    report.last_lsn = lsn{9};
    report.corrupted_records = report.lost_records = 1;
    report.lost_lsn_ranges = {{lsn{7}, lsn{7}}};
    CHECK(printed(report) == "2 segments (0 mounted), 9 records in the log, 0 in 0 tables, LSN 1 to 9; 1 damaged "
                             "records, 0 healed, 1 lost (LSN 7)");
    keel::recovery_report later;
    later.last_lsn = lsn{9};
    later.first_lsn = lsn{1};
    later.declared_lost_records = 2;
    later.declared_lost_lsn_ranges = {{lsn{3}, lsn{4}}};
    later.unknown_extents = {{.segment = {2}, .file = "log/2.seg", .after = lsn{9}, .why = "it is gone"}};
    CHECK(printed(later) == "0 segments (0 mounted), 0 records in the log, 0 in 0 tables, LSN 1 to 9; 2 records "
                            "declared lost (LSN 3 to 4); unknown: log/2.seg after LSN 9: it is gone");
}

TEST_CASE("text: a code is a std::error_code that meets the portable conditions, and zero stays success") {
    std::error_code const full = keel::errc::no_space;
    CHECK(full == std::errc::no_space_on_device);
    CHECK(full == keel::errc::no_space);
    CHECK(full != keel::errc::io_error);
    CHECK(full.category().name() == std::string{"keel"});
    CHECK(full.message() == "no_space");
    CHECK(std::error_code{keel::errc::io_error}); // the first of the enum is an error, too
    CHECK(std::error_code{keel::errc::corruption} != std::error_code{keel::errc::conflict});
}
