// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/catalog.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <vector>

using keel::lsn;
using keel::segment_id;
using keel::wal::catalog;
using keel::wal::catalog_part;

namespace {

catalog_part part(std::uint64_t id, std::uint64_t first, std::uint64_t last) {
    return {.id = {id},
            .place = {id},
            .path = "log/" + std::to_string(id),
            .first = lsn{first},
            .begin = 4096,
            .limit = 65536,
            .open = true,
            .counted = {{lsn{first}, lsn{last}}}};
}
keel::format::segment_link link_to(std::uint64_t id, keel::format::segment_end how) {
    return {.id = {id}, .end = 8192, .ended = how};
}

} // namespace

TEST_CASE("catalog: an update is seen as a whole once it is committed, and not at all if it is dropped") {
    catalog parts;
    parts.add(part(1, 1, keel::lsn_max.value));
    {
        catalog::update dropped{parts};
        dropped.add(part(2, 5, keel::lsn_max.value));
        dropped.close(lsn{4}, link_to(1, keel::format::segment_end::rolled));
    }
    CHECK(parts.all().size() == 1);
    CHECK(parts.find(lsn{9})->id == segment_id{1});
    CHECK(parts.find(lsn{9})->open);

    catalog::update change{parts};
    change.close(lsn{4}, link_to(1, keel::format::segment_end::rolled));
    change.trim({1}, lsn{3}); // of the part that this update changes already
    change.add(part(2, 5, keel::lsn_max.value));
    auto const before = parts.find(lsn{2});
    change.commit();
    CHECK_MESSAGE(before->open, "what a reader holds stays what it is");
    auto const now = parts.find(lsn{2});
    CHECK_FALSE(now->open);
    CHECK(now->sealed);
    CHECK(now->limit == 8192);
    CHECK(now->counted.back().last == lsn{3});
    CHECK(parts.find(lsn{4}) == nullptr);
    CHECK(parts.find(lsn{9})->id == segment_id{2});
    CHECK(parts.next_counted(lsn{4}) == lsn{5});
}

TEST_CASE("catalog: a part that was retired meanwhile is not brought back by an update") {
    catalog parts;
    parts.add(part(1, 1, 10));
    catalog::update change{parts};
    change.trim({1}, lsn{3});
    parts.retire({1});
    change.commit();
    CHECK(parts.all().empty());
}

TEST_CASE("catalog: a retired part is pinned as long as somebody reads it") {
    catalog parts;
    parts.add(part(1, 1, 10));
    auto reader = parts.find(lsn{1});
    parts.retire({1});
    CHECK(parts.pinned({1}));
    reader.reset();
    CHECK_FALSE(parts.pinned({1}));
}
