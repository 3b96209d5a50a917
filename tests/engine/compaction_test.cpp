// SPDX-License-Identifier: BSL-1.0
#include <keel/engine/compactor.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "stores.hpp"
#include "versions.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

// Merging segments and tables into tables: what is forgotten, what is kept, what readers see meanwhile, what damage does.

namespace {

template <class... Policies>
using merging_store = engine_tests::tiny_store<Policies...>;
using merged_by_hand = engine_tests::by_hand_store;
/// The log may grow to 16 segments and more; a sixteenth of that is a segment's worth.
using seldom_merged = keel::engine<keel::io::memory, keel::segment_size<16 * keel::KiB>,
                                   keel::compaction::leveled<256 * keel::KiB, 2>, keel::durability::os_buffered>;

/// What merged_by_hand leaves of two segments and more is due.
using often_merged =
    keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>, keel::compaction::leveled<64 * keel::KiB, 2>>;

std::string merge_key(int i) { return "key" + std::to_string(10000 + i * 7919 % 10000); }
std::string merge_value(int i) { return std::to_string(i) + std::string(80, static_cast<char>('a' + i % 26)); }

std::uint64_t table_count(keel::storage_report const& r) {
    std::uint64_t n = 0;
    for (auto const& l : r.levels) n += l.tables;
    return n;
}
std::uint64_t table_records(keel::storage_report const& r) {
    std::uint64_t n = 0;
    for (auto const& l : r.levels) n += l.records;
    return n;
}
std::vector<std::string> files_ending(keel::io::memory const& disk, std::string_view end) {
    std::vector<std::string> out;
    for (auto const& f : disk.files())
        if (f.ends_with(end)) out.push_back(f);
    return out;
}

/// A closed store whose `count` keys are all in tables.
keel::io::memory merged_store(int count) {
    keel::io::memory disk;
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    REQUIRE(db);
    for (int i = 0; i < count; ++i) REQUIRE(db->put(merge_key(i), merge_value(i)));
    REQUIRE(db->compact());
    REQUIRE(db->close());
    return disk;
}

template <class Scan>
engine_tests::versions::rows rows_of(Scan& scan, bool reverse) {
    engine_tests::versions::rows out;
    for (auto&& [k, v] : scan) out.emplace_back(k, v);
    RC_ASSERT(scan.status().has_value());
    if (reverse) std::ranges::reverse(out);
    return out;
}

/// Random programs of every operation, with merges, closes and kills among them, against a map of versions.
template <class Store>
void merging_agrees_with_versions() {
    keel::io::memory disk;
    model::reset_machine();
    auto db = std::make_unique<Store>(*Store::open("db", model::test_options(), disk));
    engine_tests::versions all;
    std::uint64_t last = 0;
    std::vector<keel::snapshot> held;
    auto const key = rc::gen::map(rc::gen::inRange(0, 60), [](int i) {
        return i < 50 ? "k" + std::to_string(i) : std::string(110, 'q') + std::to_string(i);
    });
    auto const check_at = [&](keel::snapshot const& at) {
        auto const now = at.at().value;
        for (int i = 0; i < 3; ++i) {
            auto const k = *key;
            auto const got = db->get(k, at);
            RC_ASSERT(got.has_value());
            RC_ASSERT(*got == all.value_at(k, now));
        }
        for (bool const reverse : {false, true}) {
            auto scan = db->scan(keel::range{.reverse = reverse}, at);
            RC_ASSERT(rows_of(scan, reverse) == all.all_at(now));
        }
        keel::range const some{.from = *key, .to = *key, .reverse = *rc::gen::arbitrary<bool>()};
        auto scan = db->scan(some, at);
        RC_ASSERT(rows_of(scan, some.reverse) == all.all_at(now, some.from, some.to));
        // What is seen from a key on, in the direction of the scan.
        auto const middle = *key;
        auto const expected = some.reverse ? all.all_at(now, some.from, std::min(middle + '\0', *some.to))
                                           : all.all_at(now, std::max(middle, *some.from), some.to);
        auto keys = db->keys(some, at);
        std::size_t seen = 0;
        for (auto i = keys.seek(middle); i != keys.end(); ++i, ++seen) {
            RC_ASSERT(seen < expected.size());
            RC_ASSERT(*i == expected[some.reverse ? expected.size() - 1 - seen : seen].first);
        }
        RC_ASSERT(seen == expected.size());
    };
    auto const steps = *rc::gen::inRange(10, 120);
    for (int s = 0; s < steps; ++s) {
        auto const what = *rc::gen::inRange(0, 30);
        if (what < 14) {
            keel::write_batch batch;
            auto const n = *rc::gen::inRange(1, 6);
            for (int i = 0; i < n; ++i) {
                auto const k = *key;
                ++last;
                if (*rc::gen::inRange(0, 4) == 0) {
                    batch.erase(k);
                    all.note(k, last, std::nullopt);
                } else {
                    auto const v = std::to_string(last) +
                                   std::string(static_cast<std::size_t>(*rc::gen::inRange(0, 400)), 'v');
                    batch.put(k, v);
                    all.note(k, last, v);
                }
            }
            auto const done = db->write(batch);
            RC_ASSERT(done.has_value());
            RC_ASSERT(done->value == last);
        } else if (what == 14) {
            held.push_back(db->snapshot());
        } else if (what == 15 && !held.empty()) {
            held.erase(held.begin() + *rc::gen::inRange(0, static_cast<int>(held.size())));
        } else if (what < 19) {
            db->housekeep(*rc::gen::arbitrary<bool>());
        } else if (what == 19) {
            RC_ASSERT(db->compact().has_value());
        } else if (what > 26) {
            ++last;
            std::map<std::string, std::string> sorted;
            for (int n = *rc::gen::inRange(1, 30); n > 0; --n)
                sorted[*key] = std::to_string(last) +
                               std::string(static_cast<std::size_t>(*rc::gen::inRange(0, 400)), 'i');
            for (auto const& [k, v] : sorted) all.note(k, last, v);
            auto const done = db->ingest(sorted);
            RC_ASSERT(done.has_value());
            RC_ASSERT(done->value == last);
        } else if (what == 26) {
            auto const from = *key;
            auto const to = *key;
            auto const gone = all.all_at(last, from, to);
            auto const erased = db->erase(keel::range{.from = from, .to = to});
            RC_ASSERT(erased.has_value());
            RC_ASSERT(*erased == gone.size());
            for (auto const& [k, v] : gone) all.note(k, ++last, std::nullopt);
        } else if (what < 22) {
            held.clear();
            if (what == 20) RC_ASSERT(db->close().has_value());
            else db->abandon();
            db.reset();
            if (what == 21) disk = disk.after_process_crash();
            auto again = Store::open("db", model::test_options(), disk);
            RC_ASSERT(again.has_value());
            db = std::make_unique<Store>(std::move(*again));
            RC_ASSERT(model::verdict_of_crash(db->recovery()) == "");
            RC_ASSERT(db->last_lsn().value == last);
        } else {
            check_at(held.empty() || what == 22
                         ? db->snapshot()
                         : held[static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(held.size())))]);
        }
        RC_ASSERT(db->state_reason() == "");
    }
    check_at(db->snapshot());
    for (auto const& h : held) check_at(h);
    auto const sound = db->verify();
    RC_ASSERT(sound.has_value());
    RC_ASSERT(sound->findings.empty());
}

} // namespace

TEST_CASE("P19: random programs with merges, snapshots, closes and kills agree with a map of versions") {
    CHECK(rc::check("written through", merging_agrees_with_versions<merging_store<>>));
    CHECK(rc::check("mapped", merging_agrees_with_versions<merging_store<keel::durability::os_buffered>>));
    CHECK(rc::check("another checksum, by hand", merging_agrees_with_versions<engine_tests::other_store>));
    CHECK(rc::check("tables mapped", merging_agrees_with_versions<engine_tests::mapped_tables_store>));
}

TEST_CASE("merging: everything is found in tables, the log is given back, and only the newest versions are kept") {
    keel::io::memory disk;
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    REQUIRE(db);
    for (int round = 0; round < 4; ++round)
        for (int i = 0; i < 500; ++i) REQUIRE(db->put(merge_key(i), merge_value(i + round)));
    for (int i = 0; i < 100; ++i) REQUIRE(db->erase(merge_key(i)));
    auto const before = db->storage();
    CHECK(before.segments > 4);
    CHECK(table_count(before) == 0);
    REQUIRE(db->compact());
    auto const after = db->storage();
    CHECK(after.segments <= 3); // the one that is written to, and prepared ones
    CHECK(table_count(after) >= 1);
    CHECK(table_records(after) == 400);
    CHECK(after.records_dropped == 1700);
    for (int i = 0; i < 500; ++i) {
        auto const got = db->get(merge_key(i));
        REQUIRE(got);
        if (i < 100) CHECK(!*got);
        else CHECK(**got == merge_value(i + 3));
    }
    CHECK(files_ending(disk, ".tmp").empty());
    REQUIRE(db->close());
    db = merged_by_hand::open("db", model::test_options(), disk);
    REQUIRE(db);
    CHECK(db->state() == keel::engine_state::healthy);
    CHECK(db->recovery().tables == table_count(after));
    CHECK(db->last_lsn().value == 2100);
    REQUIRE(db->put("one more", "x"));
    CHECK(db->last_lsn().value == 2101);
    for (int i = 100; i < 500; ++i) CHECK(**db->get(merge_key(i)) == merge_value(i + 3));
}

TEST_CASE("merging: a snapshot keeps what it sees, and lets go of it") {
    keel::io::memory disk;
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    for (int i = 0; i < 300; ++i) REQUIRE(db->put(merge_key(i), "old"));
    {
        auto const then = db->snapshot();
        auto tx = db->begin();
        for (int i = 0; i < 300; ++i) REQUIRE((i % 2 == 0 ? db->put(merge_key(i), "new") : db->erase(merge_key(i))));
        REQUIRE(db->compact());
        REQUIRE(db->compact());
        CHECK(table_records(db->storage()) == 600);
        for (int i = 0; i < 300; ++i) {
            CHECK(**db->get(merge_key(i), then) == "old");
            CHECK(**tx.get(merge_key(i)) == "old");
        }
        REQUIRE(tx.put(merge_key(4), "mine"));
        CHECK(tx.commit().error().code == keel::errc::conflict); // found in a table
    }
    REQUIRE(db->put("x", "y"));
    REQUIRE(db->compact());
    CHECK(table_records(db->storage()) == 151);
    for (int i = 0; i < 300; ++i) CHECK(db->get(merge_key(i))->has_value() == (i % 2 == 0));
}

TEST_CASE("merging: a held snapshot keeps one version of each key, however often they are overwritten behind it") {
    keel::io::memory disk;
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    for (int i = 0; i < 100; ++i) REQUIRE(db->put(merge_key(i), "old"));
    auto const then = db->snapshot();
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 2000; ++i) REQUIRE(db->put(merge_key(i % 100), std::to_string(i)));
        REQUIRE(db->compact());
        CHECK(table_records(db->storage()) == 200);
    }
    CHECK(db->storage().records_dropped == 5900);
    for (int i = 0; i < 100; ++i) {
        CHECK(**db->get(merge_key(i), then) == "old");
        CHECK(**db->get(merge_key(i)) == std::to_string(1900 + i));
    }
}

namespace {

/// Random writes, with snapshots and transactions taken and let go of between merges of everything.
void merges_keep_what_snapshots_see() {
    keel::io::memory disk;
    model::reset_machine();
    auto db = std::move(*merged_by_hand::open("db", model::test_options(), disk));
    engine_tests::versions all;
    std::vector<keel::snapshot> held;
    auto const chosen = [](std::size_t of) { return *rc::gen::inRange(std::size_t{0}, of); };
    auto const steps = *rc::gen::inRange(20, 200);
    for (int step = 0; step < steps; ++step) {
        auto const what = *rc::gen::inRange(0, 24);
        if (what < 16) {
            auto const key = "k" + std::to_string(chosen(5));
            std::optional<std::string> value;
            if (what < 11) value = std::to_string(step);
            auto const at = value ? db.put(key, *value) : db.erase(key);
            RC_ASSERT(at.has_value());
            all.note(key, at->value, value);
        } else if (what < 20) {
            held.push_back(db.snapshot());
        } else if (what < 22) {
            if (!held.empty()) held.erase(held.begin() + static_cast<std::ptrdiff_t>(chosen(held.size())));
        } else {
            auto const last = db.put("last", std::to_string(step)); // so that there is something to merge
            all.note("last", last->value, std::to_string(step));
            RC_ASSERT(db.compact().has_value());
            std::vector<std::uint64_t> snapshots{last->value};
            for (auto const& h : held) snapshots.push_back(h.at().value);
            RC_ASSERT(table_records(db.storage()) == all.records_kept_for(snapshots));
            for (auto const& h : held) {
                auto scan = db.scan(keel::range{}, h);
                RC_ASSERT(rows_of(scan, false) == all.all_at(h.at().value));
            }
            auto now = db.scan();
            RC_ASSERT(rows_of(now, false) == all.all_at(last->value));
        }
    }
}

} // namespace

TEST_CASE("merging: exactly the versions that somebody sees are kept, whatever snapshots come and go between merges") {
    CHECK(rc::check(merges_keep_what_snapshots_see));
}

TEST_CASE("merging: a transaction that began before an overwritten key was merged still meets the conflict") {
    keel::io::memory disk;
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    auto tx = db->begin();
    REQUIRE(tx.put("k", "mine"));
    REQUIRE(db->put("k", "1"));
    REQUIRE(db->erase("k"));
    REQUIRE(db->compact());
    CHECK(table_records(db->storage()) == 1); // the erase says that somebody was first
    CHECK(tx.commit().error().code == keel::errc::conflict);
}

TEST_CASE("merging: the policy keeps the log short and the levels in proportion, by itself") {
    keel::io::memory disk;
    disk.set_versions_max(1);
    auto db = merging_store<keel::durability::os_buffered>::open("db", model::test_options(), disk);
    for (int i = 0; i < 4000; ++i) {
        REQUIRE(db->put(merge_key(i), merge_value(i)));
        if (i % 20 == 0) db->housekeep(false);
    }
    while (db->storage().merges < 5) db->housekeep(false);
    for (int i = 0; i < 1000; ++i) db->housekeep(false);
    auto const s = db->storage();
    CHECK(s.log_bytes <= 12 * 4 * keel::KiB);
    CHECK(s.levels[1].bytes <= 16 * keel::KiB);
    CHECK(s.levels[2].bytes <= 32 * keel::KiB);
    CHECK(s.levels[3].bytes > 0);
    CHECK(s.merge_bytes_written > 0);
    CHECK(std::ssize(files_ending(disk, ".tab")) == static_cast<std::ptrdiff_t>(table_count(s)));
    for (int i = 0; i < 4000; ++i) REQUIRE(**db->get(merge_key(i)) == merge_value(i));
}

TEST_CASE("merging: what is left of the log is merged once nobody writes, where it is enough to be worth it") {
    keel::io::memory disk;
    disk.set_versions_max(1);
    auto db = seldom_merged::open("db", model::test_options(), disk);
    int written = 0;
    auto const put = [&](int count) {
        for (int i = 0; i < count; ++i, ++written) REQUIRE(db->put(merge_key(written), merge_value(written)));
    };
    put(90); // less than a sixteenth of 256 KiB
    for (int i = 0; i < 10; ++i) db->housekeep(true);
    CHECK(db->storage().merges == 0);
    put(90);
    for (int i = 0; i < 10; ++i) db->housekeep(false); // somebody wrote just now
    CHECK(db->storage().merges == 0);
    for (int i = 0; i < 10; ++i) db->housekeep(true);
    CHECK(db->storage().merges == 1); // one is enough
    CHECK(table_records(db->storage()) == 180);
    put(1000);
    db->housekeep(true);
    CHECK(table_records(db->storage()) == 1180);
    put(180); // little beside what it would be merged with
    for (int i = 0; i < 10; ++i) db->housekeep(true);
    CHECK(db->storage().merges == 2);
    CHECK(table_records(db->storage()) == 1180);
    for (int i = 0; i < written; ++i) REQUIRE(**db->get(merge_key(i)) == merge_value(i));
}

TEST_CASE("merging: the thread behind takes a second without a write for quiet") {
    keel::io::memory disk;
    auto options = model::test_options();
    options.background_thread = true;
    auto db = seldom_merged::open("db", options, disk);
    for (int i = 0; i < 200; ++i) REQUIRE(db->put(merge_key(i), merge_value(i)));
    while (table_records(db->storage()) < 200) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(**db->get(merge_key(99)) == merge_value(99));
}

TEST_CASE("merging: who only reads, but much, has the log merged that an earlier opening left") {
    keel::io::memory disk;
    {
        auto db = merged_by_hand::open("db", model::test_options(), disk);
        for (int i = 0; i < 1500; ++i) REQUIRE(db->put(merge_key(i), merge_value(i)));
        REQUIRE(db->close());
    }
    auto options = model::test_options();
    options.background_thread = true;
    auto db = often_merged::open("db", options, disk);
    REQUIRE(db);
    for (int n = 0; table_count(db->storage()) == 0; ++n) {
        REQUIRE(**db->get(merge_key(n % 1500)) == merge_value(n % 1500));
        REQUIRE(n < 100'000);
        if (n > 5000) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(db->last_lsn() == keel::lsn{1500});
    for (int i = 0; i < 1500; ++i) REQUIRE(**db->get(merge_key(i)) == merge_value(i));
}

TEST_CASE("merging: a scan and its files live on while everything under it is merged away") {
    keel::io::memory disk;
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    for (int i = 0; i < 1000; ++i) REQUIRE(db->put(merge_key(i), merge_value(i)));
    auto scan = db->scan();
    auto at = scan.begin();
    int seen = 1;
    std::string before{(*at).first};
    for (int round = 1; round < 4; ++round) {
        for (int i = 0; i < 1000; ++i) REQUIRE(db->put(merge_key(i), "changed"));
        REQUIRE(db->compact());
        for (int n = 0; n < 100; ++n, ++seen) {
            ++at;
            REQUIRE((*at).first > before);
            REQUIRE((*at).second != "changed");
            before = (*at).first;
        }
    }
    for (++at; at != scan.end(); ++at) ++seen;
    CHECK(seen == 1000);
    CHECK(scan.status());
}

TEST_CASE("merging: a store is opened with its tables cached or mapped, in turn: the policy changes no byte of them") {
    auto disk = merged_store(600);
    auto const before = disk.after_process_crash();
    auto const has_all = [&](auto const& type) {
        auto db = std::remove_cvref_t<decltype(type)>::type::open("db", model::test_options(), disk);
        REQUIRE(db);
        for (int i = 0; i < 600; ++i) REQUIRE(**db->get(merge_key(i)) == merge_value(i));
        int n = 0;
        for (auto&& [k, v] : db->scan()) n += k.size() < v.size();
        CHECK(n == 600);
        REQUIRE(db->close());
    };
    has_all(std::type_identity<engine_tests::mapped_tables_store>{});
    has_all(std::type_identity<merged_by_hand>{});
    has_all(std::type_identity<engine_tests::mapped_tables_store>{});
    CHECK(disk.equal(before, [](std::string_view path) { return path.ends_with(".tab"); }));
}

TEST_CASE_TEMPLATE("R1.3: damage in a table is an error with its place, never a value, and stays one when it is merged",
                   Store, merged_by_hand, engine_tests::mapped_tables_store) {
    auto const whole = merged_store(600);
    auto const tables = files_ending(whole, ".tab");
    REQUIRE(!tables.empty());
    auto disk = whole.after_process_crash();
    REQUIRE(disk.corrupt(tables[0], 700, std::byte{1}));
    auto db = Store::open("db", model::test_options(), disk);
    REQUIRE(db);
    int refused = 0;
    for (int i = 0; i < 600; ++i) {
        auto const got = db->get(merge_key(i));
        if (!got) {
            CHECK(got.error().code == keel::errc::corruption);
            CHECK(got.error().file == tables[0]);
            ++refused;
            continue;
        }
        REQUIRE(*got);
        REQUIRE(**got == merge_value(i));
    }
    CHECK(refused > 5);
    CHECK(refused < 100);
    CHECK(db->state() == keel::engine_state::degraded);
    CHECK(keel::as_text(*disk.contents("db/quarantine/corruption.jsonl")).find("corrupt_block") !=
          std::string_view::npos);
    {
        auto deep = model::test_options();
        deep.verify = keel::verify_depth::deep;
        auto const looked = Store::open("db", deep, disk.after_process_crash());
        REQUIRE(looked);
        CHECK(looked->state() == keel::engine_state::read_only); // a merge has not told the damage from the rest
        CHECK(looked->state_reason().find(".tab") != std::string::npos);
    }
    REQUIRE(db->put("new", "value"));
    REQUIRE(db->compact());
    CHECK(**db->get("new") == "value");
    CHECK(files_ending(disk, ".tmp").empty());
    CHECK(db->storage().segments <= 3);
    auto const refused_now = [&] {
        int n = 0;
        for (int i = 0; i < 600; ++i) {
            auto const got = db->get(merge_key(i));
            n += !got;
            if (!got) CHECK(got.error().code == keel::errc::corruption);
            else REQUIRE(**got == merge_value(i));
        }
        return n;
    };
    CHECK(refused_now() == refused);
    CHECK(db->verify()->findings.size() == 1);
    REQUIRE(db->close());
    // The damaged file is evidence, with a note of the keys.
    auto const name = tables[0].substr(tables[0].rfind('/') + 1);
    REQUIRE(disk.contents("db/quarantine/merged/" + name));
    CHECK(*disk.contents("db/quarantine/merged/" + name) != *whole.contents(tables[0]));
    CHECK(keel::as_text(*disk.contents("db/quarantine/merged/" + name + ".json")).find("unread_keys") !=
          std::string_view::npos);

    for (auto const how : {keel::verify_depth::quick, keel::verify_depth::deep}) {
        auto options = model::test_options();
        options.verify = how;
        db = Store::open("db", options, disk);
        REQUIRE(db);
        CHECK(db->state() == keel::engine_state::degraded); // at each opening
        CHECK(db->state_reason().find("no answer for keys from \"key1") != std::string::npos);
        REQUIRE(db->recovery().findings.size() == 1);
        CHECK(db->recovery().findings[0].done == keel::outcome::declared_lost);
        CHECK(refused_now() == refused);
        CHECK(**db->get("new") == "value");
        REQUIRE(db->put("new", "value"));
        REQUIRE(db->compact());
        CHECK(refused_now() == refused);
        REQUIRE(db->close());
    }
}

TEST_CASE("merging: all keys of a damaged block are written anew, merged, and right") {
    auto const whole = merged_store(600);
    auto disk = whole.after_process_crash();
    REQUIRE(disk.corrupt(files_ending(disk, ".tab")[0], 9000, std::byte{1}));
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    std::map<std::string, std::string> expected;
    for (int i = 0; i < 600; ++i) {
        REQUIRE((i % 3 == 0 ? db->erase(merge_key(i)) : db->put(merge_key(i), merge_value(i + 1))));
        if (i % 3 != 0) expected.emplace(merge_key(i), merge_value(i + 1));
    }
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 600; ++i) {
            auto const got = db->get(merge_key(i));
            REQUIRE(got);
            REQUIRE(*got == (i % 3 == 0 ? std::nullopt : std::optional{merge_value(i + 1)}));
        }
        auto all = db->scan(keel::on_damage::skip);
        std::map<std::string, std::string> found;
        for (auto&& [k, v] : all) found.emplace(k, v);
        CHECK(found == expected);
        CHECK(all.gaps().size() == 1);
        CHECK(all.status());
        REQUIRE(db->compact());
        CHECK(db->storage().segments <= 3);
        if (round == 1) {
            REQUIRE(db->close());
            db = merged_by_hand::open("db", model::test_options(), disk);
        }
    }
}

TEST_CASE("merging: a damaged record that was overwritten, or is the only one of its key, stops no merge") {
    keel::io::memory disk;
    {
        auto db = merged_by_hand::open("db", model::test_options(), disk);
        for (int i = 0; i < 900; ++i) REQUIRE(db->put(merge_key(i % 300), merge_value(i)));
        REQUIRE(db->close());
    }
    auto const hurt = [&](keel::io::memory& of, int i) {
        for (auto const& file : files_ending(of, ".seg")) {
            auto const bytes = *of.contents(file);
            auto const at = keel::as_text(bytes).find(merge_key(i % 300) + merge_value(i));
            if (at != std::string_view::npos) REQUIRE(of.corrupt(file, at + 20, std::byte{1}));
        }
    };
    auto old = disk.after_process_crash();
    hurt(old, 7);
    auto db = merged_by_hand::open("db", model::test_options(), old);
    REQUIRE(db->compact());
    CHECK(table_records(db->storage()) == 300);
    CHECK(db->storage().levels[0].tables == 0); // nothing of it can be seen
    CHECK(**db->get(merge_key(7)) == merge_value(607));
    REQUIRE(db->close());
    CHECK(merged_by_hand::open("db", model::test_options(), old)->state() == keel::engine_state::healthy);

    auto newest = disk.after_process_crash();
    hurt(newest, 607);
    db = merged_by_hand::open("db", model::test_options(), newest);
    REQUIRE(db->compact());
    CHECK(db->storage().segments <= 3);
    CHECK(!db->get(merge_key(7))); // not the older value, which was merged
    CHECK(**db->get(merge_key(8)) == merge_value(608));
    CHECK(!files_ending(newest, ".seg.json").empty());
    REQUIRE(db->close());
    db = merged_by_hand::open("db", model::test_options(), newest);
    CHECK(!db->get(merge_key(7)));
    CHECK(db->state_reason().find("\"" + merge_key(7) + "\"") != std::string::npos);
    // Written anew it has an answer again, and a merge needs nothing to stand for it any more.
    REQUIRE(db->put(merge_key(7), "again"));
    CHECK(**db->get(merge_key(7)) == "again");
    auto all = db->scan();
    CHECK(std::ranges::distance(all) == 300);
    CHECK(all.status());
}

TEST_CASE("merging: the log is given back up to a segment whose damage a repair policy must deal with") {
    keel::io::memory disk;
    {
        auto db = merged_by_hand::open("db", model::test_options(), disk);
        for (int i = 0; i < 3000; ++i) REQUIRE(db->put(merge_key(i), merge_value(i)));
        REQUIRE(db->close());
    }
    auto const segments = files_ending(disk, ".seg");
    REQUIRE(segments.size() > 4);
    for (auto const& file : segments) {
        auto const bytes = *disk.contents(file);
        auto const at = keel::as_text(bytes).find(merge_key(2000) + merge_value(2000));
        if (at != std::string_view::npos) REQUIRE(disk.corrupt(file, at + 20, std::byte{1}));
    }
    auto options = model::test_options();
    options.repair = keel::repair_strategy::rollback;
    auto db = merged_by_hand::open("db", options, disk);
    auto const before = db->storage().segments;
    CHECK(db->compact().error().code == keel::errc::corruption);
    CHECK(table_count(db->storage()) > 0);
    CHECK(db->storage().segments < before);
    CHECK(db->storage().segments > 1);
    for (int i = 0; i < 3000; ++i) CHECK(db->get(merge_key(i)).has_value() == (i != 2000));
    CHECK(db->state() == keel::engine_state::degraded);
    REQUIRE(db->close());
    // The policy has the last word.
    options.verify = keel::verify_depth::deep;
    db = merged_by_hand::open("db", options, disk);
    CHECK(db->last_lsn().value >= 3000);
    CHECK(!*db->get(merge_key(2500)));
    CHECK(**db->get(merge_key(1999)) == merge_value(1999));
}

TEST_CASE("merging: a table that is gone makes the store read-only, and its keys have no answer") {
    auto disk = merged_store(600);
    auto const tables = files_ending(disk, ".tab");
    REQUIRE(disk.remove(tables[0]));
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    REQUIRE(db);
    CHECK(db->state() == keel::engine_state::read_only);
    CHECK(db->state_reason().find(tables[0].substr(3)) != std::string::npos);
    for (int i = 0; i < 600; ++i) {
        auto const got = db->get(merge_key(i));
        if (got) CHECK(**got == merge_value(i));
    }
    CHECK(!db->get(merge_key(0)));
    CHECK(db->put("a", "b").error().code == keel::errc::read_only);
}

TEST_CASE("approximate_size: parts add up to the whole, in segments and in tables") {
    keel::io::memory disk;
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    for (int i = 0; i < 2000; ++i) REQUIRE(db->put(merge_key(i), merge_value(i)));
    for (bool const merged : {false, true}) {
        if (merged) REQUIRE(db->compact());
        auto const all = *db->approximate_size(keel::range{});
        CHECK(all > (merged ? 150'000U : 100'000U));
        CHECK(all < 2000 * 250);
        std::string const middle = "key15000";
        auto const low = *db->approximate_size(keel::range{.to = middle});
        auto const high = *db->approximate_size(keel::range{.from = middle});
        CHECK(low + high <= all + 50 * 4096);
        CHECK(low + high + 50 * 4096 >= all);
        CHECK(low > all / 4);
        CHECK(high > all / 4);
        CHECK(*db->approximate_size(keel::prefix{"nobody"}) == 0);
        CHECK(*db->approximate_size(keel::range{.from = "z"}) == 0);
    }
}

TEST_CASE("merging: without a manifest nobody guesses which tables count") {
    auto disk = merged_store(200);
    auto const before = disk.files();
    REQUIRE(disk.corrupt("db/manifest.0", 100, std::byte{1}));
    CHECK(merged_by_hand::open("db", model::test_options(), disk.after_process_crash())); // the other copy serves
    REQUIRE(disk.corrupt("db/manifest.1", 100, std::byte{1}));
    auto const db = merged_by_hand::open("db", model::test_options(), disk);
    REQUIRE(!db);
    CHECK(db.error().code == keel::errc::corruption);
    CHECK(disk.files() == before);
}

TEST_CASE("merging: what a crash left of a merge is removed by the next one, and what is not ours stays") {
    auto disk = merged_store(200);
    auto const table = files_ending(disk, ".tab").at(0);
    auto const bytes = *disk.contents(table);
    auto const put_file = [&](std::string const& path, keel::byte_view content) {
        auto file = disk.open(path, keel::io::access::read_write, keel::io::creation::must_not_exist);
        REQUIRE(file);
        REQUIRE(file->write(0, content));
    };
    put_file("db/tables/00000000000000ff.tab.tmp", bytes);
    put_file("db/tables/00000000000000fe.tab", bytes);               // one of ours by its header, and in no manifest
    put_file("db/tables/00000000000000e0.tab", keel::as_bytes("?")); // nobody knows
    put_file("db/tables/notes.txt", keel::as_bytes("mine"));
    auto db = merged_by_hand::open("db", model::test_options(), disk);
    REQUIRE(db);
    REQUIRE(db->put("x", "y"));
    REQUIRE(db->compact());
    CHECK(!disk.contents("db/tables/00000000000000ff.tab.tmp"));
    CHECK(!disk.contents("db/tables/00000000000000fe.tab"));
    CHECK(disk.contents("db/tables/00000000000000e0.tab"));
    CHECK(disk.contents("db/tables/notes.txt"));
    CHECK(**db->get("x") == "y");
    for (int i = 0; i < 200; ++i) CHECK(**db->get(merge_key(i)) == merge_value(i));
}

TEST_CASE("merging: writers that run too far ahead wait a little each, and that is counted") {
    keel::io::memory disk;
    disk.set_versions_max(1);
    auto options = model::test_options();
    options.background_thread = true;
    options.clock_ns = keel::system_clock_ns;
    options.entropy = keel::machine_entropy;
    options.merge_bytes_per_second = keel::MiB;
    using store_type = merging_store<keel::durability::os_buffered>;
    auto db = store_type::open("db", options, disk);
    REQUIRE(db);
    int n = 0;
    for (; n < 200'000 && db->storage().stalled_writes == 0; ++n) REQUIRE(db->put(merge_key(n), merge_value(n)));
    CHECK(db->storage().stalled_writes > 0);
    CHECK(db->storage().stalled_time > std::chrono::nanoseconds{0});
    CHECK(**db->get(merge_key(n - 1)) == merge_value(n - 1));
    CHECK(db->state() == keel::engine_state::healthy);
    REQUIRE(db->close()); // does not wait for the merge
}

TEST_CASE("merging: readers and writers beside the thread that merges") {
    keel::io::memory disk;
    disk.set_versions_max(1);
    auto options = model::test_options();
    options.background_thread = true;
    options.clock_ns = keel::system_clock_ns;
    options.entropy = keel::machine_entropy;
    auto db = merging_store<keel::durability::os_buffered>::open("db", options, disk);
    REQUIRE(db);
    constexpr int keys = 60;
    std::atomic<int> done{0};
    std::atomic<bool> wrong{false};
    for (int i = 0; i < keys; ++i) REQUIRE(db->put(merge_key(i), "0"));
    std::vector<std::jthread> readers;
    for (int t = 0; t < 2; ++t)
        readers.emplace_back([&](std::stop_token stop) {
            for (int i = 0; !stop.stop_requested(); i = (i + 1) % keys) {
                auto const floor = done.load();
                auto const got = db->get(merge_key(i));
                if (!got || !*got || std::stoi(**got) < floor) wrong = true;
                auto const then = db->snapshot();
                int n = 0;
                auto scan = db->scan(keel::range{}, then);
                for (auto&& [k, v] : scan) n += !k.empty();
                if (n != keys || !scan.status()) wrong = true;
            }
        });
    for (int round = 1; round <= 80; ++round) {
        for (int i = 0; i < keys; ++i) REQUIRE(db->put(merge_key(i), std::to_string(round) + std::string(100, ' ')));
        done = round;
    }
    readers.clear();
    CHECK(!wrong);
    CHECK(db->state() == keel::engine_state::healthy);
    REQUIRE(db->compact());
    CHECK(table_records(db->storage()) == keys);
    REQUIRE(db->close());
}
