// SPDX-License-Identifier: BSL-1.0
#include <keel/tool/run.hpp>

#include "harness.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <string>
#include <vector>

using namespace keel;
using namespace keel::tests;

namespace {

/// Does something bad to one file of the store.
void harm(io::memory& disk) {
    auto const files = disk.files();
    auto const file = *rc::gen::elementOf(files);
    auto const size = disk.contents(file)->size();
    auto const kind = *rc::gen::inRange(0, 6);
    auto const at = size == 0 ? 0 : *rc::gen::inRange<std::uint64_t>(0, size);
    if (kind == 0 && file != "db/lock") static_cast<void>(disk.remove(file));
    else if (kind == 1) static_cast<void>(disk.cut(file, at));
    else if (kind == 2) static_cast<void>(disk.replace(file, *disk.contents(*rc::gen::elementOf(files))));
    else if (kind == 3) static_cast<void>(disk.fail_reads(file, at, 512));
    else if (size != 0) {
        auto const bytes = *rc::gen::container<std::vector<std::uint8_t>>(*rc::gen::inRange<std::size_t>(1, 64),
                                                                          rc::gen::arbitrary<std::uint8_t>());
        auto const length = std::min<std::size_t>(bytes.size(), size - at);
        static_cast<void>(disk.corrupt(file, at, std::as_bytes(std::span{bytes}).first(length)));
    }
}

/// Every line is a record that was put under that LSN.
bool holds_only_what_was_put(made_store const& store, std::string const& dump) {
    for (auto const& line : lines(dump)) {
        auto const r = format::parse(line);
        if (!r || r->at.value == 0 || r->at.value > store.records.size()) return false;
        if (put_record{r->key, r->value} != store.records[r->at.value - 1]) return false;
    }
    return true;
}

} // namespace

TEST_CASE("P17: whatever is done to the files, every command ends with an exit code and an answer that parses") {
    std::vector<made_store> stores;
    for (auto const& name : shipped_checksums) stores.push_back(make_store(name, 120));
    CHECK(rc::check("hostile stores", [&] {
        made_store store = *rc::gen::elementOf(std::vector<std::size_t>{0, 1, 2, 3}) == 0
                               ? stores[0]
                               : stores[*rc::gen::inRange<std::size_t>(0, 4)];
        store.disk = store.disk.after_process_crash();
        auto const times = *rc::gen::inRange(1, 6);
        for (int i = 0; i < times; ++i) harm(store.disk);
        auto const before = store.disk.after_process_crash();

        auto const seen = wal_recovery(store.disk, {"validate", "--json"});
        RC_ASSERT(seen.code >= 0 && seen.code <= 3);
        auto const status = seen.object()["status"];
        constexpr char const* names[] = {"healthy", "damaged", "unreadable", "unknown"};
        RC_ASSERT(status == names[seen.code]);
        RC_ASSERT((seen.code == 3) ==
                  (seen.object().contains("unknown_extents") && !seen.object()["unknown_extents"].empty()));
        RC_ASSERT(wal_recovery(store.disk, {"validate", "--deep"}).code == seen.code);
        auto const inspected = wal_recovery(store.disk, {"inspect", "--json"});
        RC_ASSERT(inspected.object().is_object());
        RC_ASSERT((inspected.code == 2) == (seen.code == 2));
        auto const dumped = wal_recovery(store.disk, {"dump"});
        RC_ASSERT(holds_only_what_was_put(store, dumped.out));
        RC_ASSERT(wal_recovery(store.disk, {"repair", "--strategy", "skip", "--dry-run"}).code <= 3);
        RC_ASSERT(store.disk.equal(before));
    }));
}

TEST_CASE("P17: a repair of a harmed store leaves one that validates, or says why not") {
    auto const made = make_store("crc32c", 120);
    CHECK(rc::check("repaired stores", [&] {
        made_store store = made;
        store.disk = store.disk.after_process_crash();
        auto const times = *rc::gen::inRange(1, 4);
        for (int i = 0; i < times; ++i) harm(store.disk);
        auto const strategy = *rc::gen::elementOf(std::vector<std::string>{"skip", "partial", "rollback"});
        auto const a = wal_recovery(store.disk, {"repair", "--strategy", strategy, "--json"});
        RC_ASSERT(a.code >= 0 && a.code <= 3);
        auto const o = a.object();
        if (a.code == 2) RC_SUCCEED("not to be repaired: " + o["error"]["message"].get<std::string>());
        auto const now = wal_recovery(store.disk, {"validate", "--json"});
        RC_ASSERT(now.code != 2);
        RC_ASSERT(now.object()["status"] == o["status"]);
        if (a.code == 0) RC_ASSERT(now.code == 0);
        RC_ASSERT(holds_only_what_was_put(store, wal_recovery(store.disk, {"dump"}).out));
    }));
}
