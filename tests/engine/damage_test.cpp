// SPDX-License-Identifier: BSL-1.0
#include <keel/engine/scan.hpp>

#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "damaged_keys.hpp"
#include "stores.hpp"
#include "versions.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Reading a store whose files are damaged: what is given, what is not, and what is said of it.

namespace {

namespace damaged_stores {

using engine_tests::versions;
using store = engine_tests::by_hand_store;

keel::open_options uncached() {
    auto o = model::test_options();
    o.cache_bytes = 0; // what was read once is read again
    return o;
}
std::vector<std::string> files_ending(keel::io::memory const& disk, std::string_view end) {
    std::vector<std::string> out;
    for (auto const& f : disk.files())
        if (f.ends_with(end)) out.push_back(f);
    return out;
}
/// What is written to has its records in memory, too.
template <class Config>
bool is_sealed(std::vector<std::byte> const& segment) {
    auto const at = keel::format::footer_offset(segment.size());
    auto const head = keel::format::decode_segment_header<typename Config::checksum>(
        keel::byte_view{segment}.first(keel::format::header_bytes));
    auto const foot = keel::format::decode_segment_footer<typename Config::checksum>(
        keel::byte_view{segment}.subspan(at, keel::format::header_bytes));
    return head.good() && foot.good && foot.footer.seal.salt == head.header.salt;
}
std::string key_of(int i) { return "k" + std::to_string(1000 + i); }

/// What a scan gave, and where it could not.
struct seen {
    std::map<std::string, std::string> rows{};
    std::vector<std::string> order{};
    std::vector<keel::key_gap> gaps{};
    std::optional<keel::error> why{};
    [[nodiscard]] bool in_gap(std::string_view key) const {
        return std::ranges::any_of(gaps, [key](auto const& g) { return g.contains(key); });
    }
};
template <class Scan>
seen seen_by(Scan scan) {
    seen out;
    for (auto&& [k, v] : scan) {
        out.rows.emplace(k, v);
        out.order.emplace_back(k);
    }
    out.gaps = scan.gaps();
    if (auto const status = scan.status(); !status) out.why = status.error();
    return out;
}

/// Where a scan gives something else than look-ups.
std::string difference(seen const& scan, std::map<std::string, std::string> const& answered) {
    std::string out;
    for (auto const& [k, v] : scan.rows)
        if (!answered.contains(k)) out += " scan has " + k + ", get has not;";
        else if (answered.at(k) != v) out += " other values of " + k + ";";
    for (auto const& [k, v] : answered)
        if (!scan.rows.contains(k)) out += " get has " + k + ", scan has not;";
    if (out.empty()) return out;
    for (auto const& g : scan.gaps)
        out += " [" + g.from.value_or("-") + ", " + g.to.value_or("-") + ") " + to_string(g.why);
    return out;
}
/// Everything a damaged store may be asked, against what it must hold. `keys`: all that were ever written, and some that were not.
template <class Store>
std::string wrong_reads(Store const& db, versions const& all, std::vector<std::string> const& keys,
                        keel::snapshot const& at, engine_tests::damaged_keys const& may_fail) {
    auto const now = at.at().value;
    std::map<std::string, std::string> answered;
    for (auto const& k : keys) {
        auto const got = db.get(k, at);
        if (!got) {
            if (!may_fail.may_hold(k)) return "get(" + k + ") fails outside of the damage: " + to_string(got.error());
            continue;
        }
        if (*got != all.value_at(k, now)) return "get(" + k + ") gives a stale or wrong value";
        if (*got) answered.emplace(k, **got);
    }
    auto const truth = all.all_at(now);
    for (bool const reverse : {false, true}) {
        auto const skipped = seen_by(db.scan(keel::range{.reverse = reverse}, at, keel::on_damage::skip));
        if (skipped.why) return "a scan that skips ended early: " + to_string(*skipped.why);
        if (auto differs = difference(skipped, answered); !differs.empty())
            return differs + (reverse ? " backward" : " forward");
        if (!std::ranges::is_sorted(skipped.order) && !reverse) return "out of order";
        for (auto const& [k, v] : truth)
            if (!skipped.rows.contains(k) && !skipped.in_gap(k)) return "key " + k + " is missing without a gap";

        auto const stopped = seen_by(db.scan(keel::range{.reverse = reverse}, at));
        if (stopped.rows.size() != stopped.order.size()) return "a key twice";
        auto expected = truth;
        if (reverse) std::ranges::reverse(expected);
        for (std::size_t i = 0; i < stopped.order.size(); ++i)
            if (i >= expected.size() || stopped.order[i] != expected[i].first ||
                stopped.rows.at(stopped.order[i]) != expected[i].second)
                return "a scan that stops gives something else up to there";
        if (!stopped.why && stopped.order.size() != expected.size()) return "a scan ended early and says it did not";
        if (!stopped.why && !stopped.gaps.empty()) return "a scan that went to its end has gaps";
        if (stopped.why && stopped.gaps.size() != 1) return "a scan that stopped does not say where";
        if (stopped.why && skipped.gaps.empty()) return "one scan meets damage and the other does not";
    }
    return {};
}
template <class Store>
std::string wrong_in_range(Store const& db, versions const& all, keel::snapshot const& at, keel::range const& which) {
    auto const truth = all.all_at(at.at().value, which.from, which.to);
    auto const part = seen_by(db.scan(which, at, keel::on_damage::skip));
    auto const whole = seen_by(db.scan(keel::range{.reverse = which.reverse}, at, keel::on_damage::skip));
    if (part.why) return "a scan that skips ended early";
    for (auto const& [k, v] : part.rows)
        if (!whole.rows.contains(k) || whole.rows.at(k) != v) return "a part of a scan gives what the whole does not";
    for (auto const& [k, v] : truth) {
        if (part.rows.contains(k) != whole.rows.contains(k)) return "part and whole differ in " + k;
        if (!part.rows.contains(k) && !part.in_gap(k)) return "key " + k + " is missing in a part without a gap";
    }
    for (auto const& g : part.gaps)
        if ((which.from && (!g.from || *g.from < *which.from)) || (which.to && (!g.to || *g.to > *which.to)))
            return "a gap reaches out of the range";
    // From some key on it is the same.
    if (truth.empty()) return {};
    auto const& middle = truth[truth.size() / 2].first;
    auto scan = db.scan(which, at, keel::on_damage::skip);
    std::vector<std::string> from_middle;
    for (auto i = scan.seek(middle); i != scan.end(); ++i) from_middle.emplace_back((*i).first);
    std::vector<std::string> expected;
    for (auto const& k : part.order)
        if (which.reverse ? k <= middle : k >= middle) expected.push_back(k);
    if (from_middle == expected) return {};
    std::string text = "seek(" + middle + ") gives";
    for (auto const& k : from_middle) text += " " + k;
    text += ", the rest of the scan is";
    for (auto const& k : expected) text += " " + k;
    for (auto const& g : scan.gaps()) text += " [" + g.from.value_or("-") + ", " + g.to.value_or("-") + ")";
    for (auto const& g : part.gaps)
        text += " whole [" + g.from.value_or("-") + ", " + g.to.value_or("-") + ") " + to_string(g.why);
    return text + (which.reverse ? " backward" : " forward");
}

/// Per moment and key: the value, nothing, or no answer.
using answer_list = std::vector<std::map<std::string, std::optional<std::optional<std::string>>>>;
template <class Store>
answer_list answers_of(Store const& db, std::vector<std::string> const& keys,
                       std::vector<keel::snapshot> const& snapshots) {
    answer_list out;
    for (auto const& at : snapshots) {
        auto& mine = out.emplace_back();
        for (auto const& k : keys) {
            auto got = db.get(k, at);
            if (got) mine[k].emplace(std::move(*got));
            else mine[k].reset();
        }
    }
    return out;
}
/// Keys that had an answer at every moment and have another one, or none.
std::string changed(answer_list const& was, answer_list const& is) {
    auto const text = [](auto const& answer) {
        return !answer ? "no answer" : !*answer ? "nothing" : (**answer).substr(0, 8);
    };
    for (auto const& first : was.front()) {
        auto const& k = first.first;
        if (!std::ranges::all_of(was, [&](auto const& m) { return m.at(k).has_value(); })) continue;
        for (std::size_t i = 0; i < was.size(); ++i)
            if (was[i].at(k) != is[i].at(k))
                return "moment " + std::to_string(i) + " of " + std::to_string(was.size()) + ": key " + k + " had " +
                       text(was[i].at(k)) + " and has " + text(is[i].at(k));
    }
    return {};
}
engine_tests::damaged_keys anywhere() {
    engine_tests::damaged_keys all;
    all.add_everything();
    return all;
}

/// Random programs, then damage behind the open store's back, in front of whatever it asks its files for.
template <class Store>
void damage_is_never_a_wrong_answer() {
    keel::io::memory disk;
    disk.set_versions_max(1);
    model::reset_machine();
    auto db = std::make_unique<Store>(*Store::open("db", uncached(), disk));
    versions all;
    std::uint64_t last = 0;
    std::vector<keel::snapshot> held;
    auto const key = rc::gen::map(rc::gen::inRange(0, 70), [](int i) {
        return i < 50 ? key_of(i) : "k10-the same eight bytes and more " + std::to_string(i);
    });
    std::vector<std::string> keys{"a", "k", "k1000!", "k10-the same eight bytes and more", "z"};
    for (int i = 0; i < 50; ++i) keys.push_back(key_of(i));
    for (int i = 50; i < 70; ++i) keys.push_back("k10-the same eight bytes and more " + std::to_string(i));
    auto const steps = *rc::gen::inRange(15, 90);
    for (int s = 0; s < steps; ++s) {
        auto const what = *rc::gen::inRange(0, 30);
        if (what < 20) {
            keel::write_batch batch;
            for (auto n = *rc::gen::inRange(1, 6); n > 0; --n) {
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
            RC_ASSERT(db->write(batch).has_value());
        } else if (what < 23) {
            db->housekeep(*rc::gen::arbitrary<bool>());
        } else if (what == 23) {
            RC_ASSERT(db->compact().has_value());
        } else if (what == 24) {
            held.push_back(db->snapshot());
        } else if (what == 25 && held.size() > 1) {
            held.erase(held.begin());
        } else if (what > 26) {
            ++last;
            std::map<std::string, std::string> sorted;
            for (int n = *rc::gen::inRange(1, 20); n > 0; --n)
                sorted[*key] = std::to_string(last) +
                               std::string(static_cast<std::size_t>(*rc::gen::inRange(0, 500)), 'i');
            for (auto const& [k, v] : sorted) all.note(k, last, v);
            RC_ASSERT(db->ingest(sorted).has_value());
        }
    }
    // Some of the log is in files, too.
    if (*rc::gen::arbitrary<bool>()) {
        held.clear();
        RC_ASSERT(db->close().has_value());
        db.reset();
        db = std::make_unique<Store>(*Store::open("db", uncached(), disk));
    }
    if (*rc::gen::arbitrary<bool>()) // index blocks and filters are in memory then
        RC_ASSERT(wrong_reads(*db, all, keys, db->snapshot(), {}) == "");
    auto const before = disk.after_process_crash();
    auto files = files_ending(disk, ".seg");
    std::erase_if(files,
                  [&](std::string const& f) { return !is_sealed<typename Store::config_type>(*disk.contents(f)); });
    for (auto const& t : files_ending(disk, ".tab")) files.insert(files.end(), 3, t);
    RC_PRE(!files.empty());
    for (auto n = *rc::gen::inRange(1, 4); n > 0; --n) {
        auto const& file = files[static_cast<std::size_t>(*rc::gen::inRange<std::size_t>(0, files.size()))];
        auto const size = disk.status(file)->size;
        auto const at = *rc::gen::inRange<std::uint64_t>(0, size);
        auto const length = std::min(*rc::gen::element<std::uint64_t>(1, 1, 1, 30, 512), size - at);
        std::vector<std::byte> with(static_cast<std::size_t>(length));
        if (length == 1) RC_ASSERT(disk.corrupt(file, at, std::byte{0x10}).has_value());
        else RC_ASSERT(disk.corrupt(file, at, keel::byte_view{with}).has_value());
    }
    engine_tests::damaged_keys may_fail;
    may_fail.template compare<typename Store::config_type>(before, disk);
    held.push_back(db->snapshot());
    for (auto const& at : held) {
        RC_ASSERT(wrong_reads(*db, all, keys, at, may_fail) == "");
        for (int i = 0; i < 2; ++i)
            RC_ASSERT(wrong_in_range(*db, all, at, {*key, *key, *rc::gen::arbitrary<bool>()}) == "");
    }
    // A merge changes no answer of a key that was ever written; neither does an opening.
    std::vector<std::string> const written(keys.begin() + 5, keys.end());
    auto const answers = answers_of(*db, written, held);
    static_cast<void>(db->compact()); // it may get stuck at a segment of the log
    RC_ASSERT(changed(answers, answers_of(*db, written, held)) == "");
    static_cast<void>(db->compact());
    db->housekeep(true);
    RC_ASSERT(changed(answers, answers_of(*db, written, held)) == "");
    for (auto const& at : held) RC_ASSERT(wrong_reads(*db, all, keys, at, anywhere()) == "");
    // What was in memory of damaged indexes and filters is gone then.
    auto sound = written;
    std::erase_if(sound, [&](std::string const& k) { return may_fail.may_hold(k); });
    auto const now = answers_of(*db, sound, {held.back()});
    held.clear();
    RC_ASSERT(db->close().has_value());
    db.reset();
    auto again = Store::open("db", uncached(), disk);
    RC_ASSERT(again.has_value());
    if (again->recovery().lost_records != 0) return; // the log is repaired at an opening
    db = std::make_unique<Store>(std::move(*again));
    held.push_back(db->snapshot());
    RC_ASSERT(changed(now, answers_of(*db, sound, held)) == "");
    RC_ASSERT(wrong_reads(*db, all, keys, held.back(), anywhere()) == "");
    held.clear();
    if (db->state() == keel::engine_state::read_only) return;
    // What is written now is newer than any damage.
    for (auto const& k : keys) {
        ++last;
        RC_ASSERT(db->put(k, "new").has_value());
        all.note(k, last, "new");
    }
    for (auto const& k : keys) RC_ASSERT(**db->get(k) == "new");
    auto const newest = seen_by(db->scan(keel::on_damage::skip));
    RC_ASSERT(newest.rows.size() == keys.size());
}

TEST_CASE(
    "R5.10: of a damaged store no key has a stale value, and every key has one that does not hang on the damage") {
    CHECK(rc::check("written through", damage_is_never_a_wrong_answer<engine_tests::tiny_store<>>));
    CHECK(rc::check("by hand, filters", damage_is_never_a_wrong_answer<store>));
    CHECK(rc::check("another checksum, packed", damage_is_never_a_wrong_answer<engine_tests::other_store>));
    CHECK(rc::check("tables mapped", damage_is_never_a_wrong_answer<engine_tests::mapped_tables_store>));
}

TEST_CASE(
    "on_damage: a scan stops in front of the block that it cannot read, or skips it and says between which keys") {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    for (int i = 0; i < 600; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
    REQUIRE(db->compact());
    auto const table = files_ending(disk, ".tab").at(0);
    REQUIRE(disk.corrupt(table, 9000, std::byte{1}));

    auto const stopped = seen_by(db->scan());
    REQUIRE(stopped.why);
    CHECK(stopped.why->code == keel::errc::corruption);
    CHECK(stopped.why->file == table);
    auto const n = static_cast<int>(stopped.order.size());
    CHECK(n > 10);
    CHECK(stopped.order.back() == key_of(n - 1));

    auto const skipped = seen_by(db->scan(keel::on_damage::skip));
    CHECK(!skipped.why);
    auto const missing = 600 - static_cast<int>(skipped.order.size());
    CHECK(missing > 10);
    CHECK(missing < 60);
    REQUIRE(skipped.gaps.size() == 1);
    auto const& gap = skipped.gaps.front();
    CHECK(gap.from == keel::table::key_after(key_of(n - 1)));
    CHECK(gap.to == keel::table::key_after(key_of(n + missing - 1)));
    CHECK(gap.file == table);
    CHECK(gap.why.code == keel::errc::corruption);
    CHECK(gap.offset == gap.why.offset);
    CHECK(name_of(keel::on_damage::skip) == "skip");

    // Every way to ask for keys takes the argument.
    auto const as_of = db->snapshot();
    auto const all_but = static_cast<std::ptrdiff_t>(600 - missing);
    using keel::on_damage;
    auto const count = [](auto scan) {
        auto const rows = std::ranges::distance(scan);
        CHECK(scan.gaps().size() == 1);
        return rows;
    };
    CHECK(count(db->scan(keel::range{}, on_damage::skip)) == all_but);
    CHECK(count(db->scan(keel::range{}, as_of, on_damage::skip)) == all_but);
    CHECK(count(db->scan(keel::prefix{"k"}, on_damage::skip)) == all_but);
    CHECK(count(db->scan(keel::prefix{"k"}, as_of, on_damage::skip)) == all_but);
    CHECK(count(db->keys(keel::range{.reverse = true}, on_damage::skip)) == all_but);
    CHECK(count(db->keys(keel::range{}, as_of, on_damage::skip)) == all_but);
    CHECK(count(db->keys(keel::prefix{"k"}, on_damage::skip)) == all_but);
    CHECK(count(db->keys(keel::prefix{"k"}, as_of, on_damage::skip)) == all_but);
    CHECK(count(db->keys(on_damage::skip)) == all_but);

    // Of a range that does not touch it nobody has to hear.
    auto const before = seen_by(db->scan(keel::range{.to = key_of(n - 1)}));
    CHECK(!before.why);
    CHECK(before.order.size() == static_cast<std::size_t>(n - 1));
    auto const behind = seen_by(db->scan(keel::range{.from = key_of(n + missing)}));
    CHECK(!behind.why);
    CHECK(behind.order.size() == static_cast<std::size_t>(600 - n - missing));
    auto const back = seen_by(db->scan(keel::range{.from = key_of(n + missing), .reverse = true}));
    CHECK(!back.why);
    CHECK(back.order.size() == static_cast<std::size_t>(600 - n - missing));
}

TEST_CASE("on_damage: what was written anew is given, newer than the damage; what lies below it is not") {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    for (int i = 0; i < 600; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'o')));
    REQUIRE(db->compact());
    auto const old = db->snapshot();
    REQUIRE(disk.corrupt(files_ending(disk, ".tab").at(0), 9000, std::byte{1}));
    auto const gap = seen_by(db->scan(keel::on_damage::skip)).gaps.at(0);
    std::vector<int> lost;
    for (int i = 0; i < 600; ++i)
        if (gap.contains(key_of(i))) lost.push_back(i);
    REQUIRE(lost.size() > 10);
    REQUIRE(db->put(key_of(lost[0]), "new"));
    REQUIRE(db->erase(key_of(lost[1])));
    std::map<std::string, std::string> const bulk{{key_of(lost[2]), "ingested"}};
    REQUIRE(db->ingest(bulk));
    auto const now = seen_by(db->scan(keel::on_damage::skip));
    CHECK(now.rows.at(key_of(lost[0])) == "new");
    CHECK(now.rows.at(key_of(lost[2])) == "ingested");
    CHECK(now.rows.size() == 602 - lost.size());
    CHECK(**db->get(key_of(lost[0])) == "new");
    CHECK(!*db->get(key_of(lost[1])));
    CHECK(**db->get(key_of(lost[2])) == "ingested");
    CHECK(db->get(key_of(lost[3])).error().code == keel::errc::corruption);
    // The snapshot is older than what was written.
    auto const then = seen_by(db->scan(keel::range{}, old, keel::on_damage::skip));
    CHECK(then.rows.size() == 600 - lost.size());
    CHECK(!db->get(key_of(lost[0]), old));
    // Several keys together: an error of one is one of all.
    std::string const a = key_of(lost[0]);
    std::string const b = key_of(lost[3]);
    std::vector<std::string_view> keys{a};
    CHECK(db->multi_get(keys)->front() == "new");
    keys.push_back(b);
    CHECK(db->multi_get(keys).error().code == keel::errc::corruption);
    // A transaction reads alike, its own writes on top.
    auto tx = db->begin();
    CHECK(**tx.get(a) == "new");
    CHECK(tx.get(b).error().code == keel::errc::corruption);
    REQUIRE(tx.put(b, "mine"));
    auto own = tx.scan(keel::on_damage::skip);
    std::map<std::string, std::string> rows;
    for (auto&& [k, v] : own) rows.emplace(k, v);
    CHECK(own.gaps().size() == 1);
    CHECK(rows.at(b) == "mine");
    CHECK(rows.size() == 603 - lost.size());
    REQUIRE(tx.commit());
    CHECK(**db->get(b) == "mine");
}

TEST_CASE("on_damage: a record that was overwritten later ends no scan, where the index tells which key it has") {
    keel::io::memory disk;
    {
        auto db = store::open("db", uncached(), disk);
        for (int i = 0; i < 2000; ++i) REQUIRE(db->put(key_of(i % 500), std::to_string(i) + std::string(90, 'v')));
        REQUIRE(db->close());
    }
    int silent = 0;
    for (int i = 3; i < 2000; i += 160) {
        auto hurt = disk.after_process_crash();
        bool found = false;
        for (auto const& file : files_ending(hurt, ".seg")) {
            auto const bytes = *hurt.contents(file);
            auto const at = keel::as_text(bytes).find(key_of(i % 500) + std::to_string(i) + "v");
            if (at == std::string_view::npos) continue;
            REQUIRE(hurt.corrupt(file, at + 20, std::byte{1}));
            found = true;
        }
        REQUIRE(found);
        auto db = store::open("db", uncached(), hurt);
        bool const newest = i >= 1500;
        for (bool const reverse : {false, true}) {
            auto const stopped = seen_by(db->scan(keel::range{.reverse = reverse}));
            CHECK(stopped.why.has_value() == newest);
            CHECK((stopped.order.size() == 500) == !newest);
            auto const skipped = seen_by(db->scan(keel::range{.reverse = reverse}, keel::on_damage::skip));
            CHECK(skipped.order.size() == (newest ? 499U : 500U));
            REQUIRE(skipped.gaps.size() == (newest ? 1U : 0U));
            if (newest) CHECK(skipped.gaps[0].from == key_of(i % 500));
            if (newest) CHECK(skipped.gaps[0].to == keel::table::key_after(key_of(i % 500)));
        }
        CHECK(db->get(key_of(i % 500)).has_value() == !newest);
        silent += !newest;
    }
    CHECK(silent > 5);
}

TEST_CASE("R5.10: a damaged record of a smaller key does not hide that the key's own newest one is damaged, too") {
    bool is_unreadable = false; // or its bytes are wrong
    SUBCASE("wrong bytes") {}
    SUBCASE("unreadable") { is_unreadable = true; }
    keel::io::memory disk;
    std::string const key = "their first eight bytes are the same: 2";
    auto db = store::open("db", uncached(), disk);
    REQUIRE(db->put("a", "so they share none"));
    REQUIRE(db->put("their first eight bytes are the same: 1", "v"));
    REQUIRE(db->ingest(std::map<std::string, std::string>{{key, "older"}}));
    REQUIRE(db->put(key, "newest"));
    REQUIRE(db->close());

    auto const log = files_ending(disk, ".seg").at(0);
    auto const bytes = *disk.contents(log);
    auto const text = keel::as_text(keel::byte_view{bytes});
    auto const first = text.find("their first");
    auto const end = text.find("newest") + 6;
    REQUIRE(first < end);
    if (is_unreadable) REQUIRE(disk.fail_reads(log, first, end - first));
    else REQUIRE(disk.corrupt(log, first, keel::byte_view{std::vector<std::byte>(end - first)}));

    auto again = store::open("db", uncached(), disk);
    REQUIRE(again);
    auto const got = again->get(key);
    REQUIRE(!got);
    CHECK(got.error().code == (is_unreadable ? keel::errc::io_error : keel::errc::corruption));
    CHECK(got.error().at == keel::lsn{4});
}

TEST_CASE("on_damage: a table that is gone is one gap, and nothing else is missing") {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    for (int i = 0; i < 600; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
    REQUIRE(db->compact());
    REQUIRE(db->put("a", "in front"));
    REQUIRE(db->put("z", "behind"));
    REQUIRE(db->close());
    REQUIRE(disk.remove(files_ending(disk, ".tab").at(0)));
    db = store::open("db", uncached(), disk);
    for (bool const reverse : {false, true}) {
        auto const seen = seen_by(db->scan(keel::range{.reverse = reverse}, keel::on_damage::skip));
        CHECK(seen.rows.size() == 2);
        REQUIRE(seen.gaps.size() == 1);
        CHECK(seen.gaps[0].from == key_of(0));
        CHECK(seen.gaps[0].to == keel::table::key_after(key_of(599)));
        CHECK(seen.gaps[0].why.code == keel::errc::not_found);
    }
}

TEST_CASE("ingest: a scan that ended early is not taken for all that there is") {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    for (int i = 0; i < 600; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
    REQUIRE(db->compact());
    REQUIRE(disk.corrupt(files_ending(disk, ".tab").at(0), 9000, std::byte{1}));
    keel::io::memory other_disk;
    auto other = store::open("db", uncached(), other_disk);
    CHECK(other->ingest(db->scan()).error().code == keel::errc::corruption);
    CHECK(!*other->get(key_of(0)));
    CHECK(db->erase(keel::range{}).error().code == keel::errc::corruption);
}

TEST_CASE("transactions: damage in what is older than a transaction fails no commit, and is not read for it") {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    for (int i = 0; i < 600; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
    REQUIRE(db->compact());
    for (int i = 0; i < 600; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'w')));
    REQUIRE(db->close()); // a sealed segment above the table
    db = store::open("db", uncached(), disk);
    for (auto const& f : disk.files())
        if (f.ends_with(".tab") || f.ends_with(".seg"))
            for (std::uint64_t at = 600; at < disk.status(f)->size; at += 64)
                REQUIRE(disk.corrupt(f, at, std::byte{1}));
    auto tx = db->begin();
    for (int i = 0; i < 600; ++i) REQUIRE(tx.put(key_of(i), "mine"));
    REQUIRE(tx.commit());
    for (int i = 0; i < 600; ++i) REQUIRE(**db->get(key_of(i)) == "mine");
    CHECK(db->state() == keel::engine_state::healthy); // nobody has looked
}

TEST_CASE("transactions: a conflict is found in memory, in a segment sealed since, and in a table merged since") {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    for (int i = 0; i < 100; ++i) REQUIRE(db->put(key_of(i), "first"));
    auto in_memory = db->begin();
    auto in_segment = db->begin();
    auto in_table = db->begin();
    auto untouched = db->begin();
    for (auto* tx : {&in_memory, &in_segment, &in_table}) REQUIRE(tx->put(key_of(7), "mine"));
    REQUIRE(untouched.put(key_of(8), "mine"));
    auto const other = db->put(key_of(7), "another");
    REQUIRE(other);
    auto const why = in_memory.commit();
    CHECK(why.error().code == keel::errc::conflict);
    CHECK(why.error().at == *other);
    for (int i = 0; i < 2000; ++i) REQUIRE(db->put("more" + std::to_string(i), std::string(90, 'm')));
    CHECK(in_segment.commit().error().at == *other);
    REQUIRE(db->compact());
    CHECK(in_table.commit().error().at == *other);
    REQUIRE(untouched.commit());
    CHECK(**db->get(key_of(8)) == "mine");
}

/// Of 300 keys, merged, the table with this byte (from its end where it is negative) turned over is written anew. The keys without an answer.
std::vector<std::string> keys_without_answer_once_repaired(std::int64_t at, bool ingested) {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    if (ingested) {
        REQUIRE(db->put(key_of(299), "older"));
        std::map<std::string, std::string> all;
        for (int i = 0; i < 300; ++i) all[key_of(i)] = std::string(90, 'v');
        REQUIRE(db->ingest(all));
    } else {
        for (int i = 0; i < 300; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
        REQUIRE(db->compact());
    }
    REQUIRE(db->close());
    auto const table = files_ending(disk, ".tab").at(0);
    auto const size = static_cast<std::int64_t>(disk.status(table)->size);
    REQUIRE(disk.corrupt(table, static_cast<std::uint64_t>(at < 0 ? size + at : at), std::byte{1}));
    auto const damaged = *disk.contents(table);
    db = store::open("db", uncached(), disk);
    REQUIRE(db);
    auto const repaired = db->repair_tables();
    REQUIRE(repaired);
    CHECK(*repaired == 1);
    CHECK(*db->repair_tables() == 0);
    REQUIRE(db->close());
    auto const evidence = disk.contents("db/quarantine/merged" + table.substr(table.rfind('/')));
    REQUIRE(evidence);
    CHECK(*evidence == damaged);
    db = store::open("db", uncached(), disk);
    std::vector<std::string> none;
    for (int i = 0; i < 300; ++i) {
        auto const got = db->get(key_of(i));
        if (!got) none.push_back(key_of(i));
        else CHECK(**got == std::string(90, 'v'));
    }
    auto const report = db->verify();
    REQUIRE(report);
    for (auto const& f : report->findings) CHECK(f.done == keel::outcome::declared_lost);
    CHECK(report->findings.empty() == none.empty());
    return none;
}

TEST_CASE("repair_tables: a damaged table is written anew, whatever is damaged of it, and kept as evidence") {
    for (bool const ingested : {false, true}) {
        CAPTURE(ingested);
        for (auto const at : {100, -100, -540, -700}) { // headers, root, index
            CAPTURE(at);
            CHECK(keys_without_answer_once_repaired(at, ingested).empty());
        }
        auto const lost = keys_without_answer_once_repaired(9000, ingested);
        CHECK(lost.size() > 10);
        CHECK(lost.size() < 60);
    }
}

TEST_CASE("crashes: a damaged table is written anew as a whole or not at all, and kept wherever the machine stops") {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    for (int i = 0; i < 300; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
    REQUIRE(db->compact());
    REQUIRE(db->close());
    auto const table = files_ending(disk, ".tab").at(0);
    REQUIRE(disk.corrupt(table, 100, std::byte{1})); // a header: no key hangs on it
    auto const damaged = *disk.contents(table);
    auto const kept = "db/quarantine/merged" + table.substr(table.rfind('/'));
    std::size_t states = 0;
    auto const check = [&](keel::io::memory left) {
        ++states;
        auto again = store::open("db", uncached(), left);
        REQUIRE(again);
        for (int i = 0; i < 300; ++i) REQUIRE(**again->get(key_of(i)) == std::string(90, 'v'));
        REQUIRE(again->repair_tables());
        REQUIRE(again->verify()->findings.empty());
        REQUIRE(again->close());
        CHECK((left.contents(table) == damaged || left.contents(kept) == damaged));
        CHECK(files_ending(left, ".tmp").empty());
    };
    db = store::open("db", uncached(), disk);
    std::uint64_t seed = 0;
    disk.on_operation([&](keel::io::operation const&) {
        using keel::io::keep;
        ++seed;
        check(disk.after_process_crash());
        check(disk.after_power_loss({.what = seed % 2 == 0 ? keep::oldest : keep::random, .seed = seed}));
    });
    CHECK(*db->repair_tables() == 1);
    REQUIRE(db->close());
    disk.on_operation({});
    CHECK(disk.contents(kept) == damaged);
    CHECK(states > 40);
}

TEST_CASE("compact: a table that is known to be damaged is written anew, also where nothing else is to be merged") {
    keel::io::memory disk;
    auto db = store::open("db", uncached(), disk);
    for (int i = 0; i < 300; ++i) REQUIRE(db->put(key_of(i), std::string(90, 'v')));
    REQUIRE(db->compact());
    auto const table = files_ending(disk, ".tab").at(0);
    REQUIRE(db->compact());
    CHECK(files_ending(disk, ".tab").at(0) == table);
    REQUIRE(disk.corrupt(table, 9000, std::byte{1}));
    CHECK(seen_by(db->scan(keel::on_damage::skip)).gaps.size() == 1);
    REQUIRE(db->compact());
    CHECK(disk.contents(table).has_value() == false);
    CHECK(seen_by(db->scan(keel::on_damage::skip)).gaps.size() == 1);
}

TEST_CASE("crashes: a merge that leaves damage behind is there as a whole or not at all, and the damaged file always") {
    keel::io::memory disk;
    std::map<std::string, std::string> expected;
    {
        auto db = store::open("db", uncached(), disk);
        for (int i = 0; i < 300; ++i) {
            REQUIRE(db->put(key_of(i), std::string(90, 'v')));
            expected[key_of(i)] = std::string(90, 'v');
        }
        REQUIRE(db->compact());
        for (int i = 0; i < 60; ++i) {
            REQUIRE(db->put(key_of(i * 5), std::string(90, 'w')));
            expected[key_of(i * 5)] = std::string(90, 'w');
        }
        REQUIRE(db->close());
    }
    auto const table = files_ending(disk, ".tab").at(0);
    REQUIRE(disk.corrupt(table, 9000, std::byte{1}));
    auto const log = files_ending(disk, ".seg").back();
    auto const log_bytes = *disk.contents(log);
    auto const record = keel::as_text(log_bytes).find(key_of(100) + std::string(90, 'w'));
    if (record != std::string_view::npos) REQUIRE(disk.corrupt(log, record + 20, std::byte{1}));
    auto const damaged = *disk.contents(table);
    std::vector<std::string> no_answer;
    {
        auto const db = store::open("db", uncached(), disk.after_process_crash());
        for (auto const& [k, v] : expected)
            if (!db->get(k)) no_answer.push_back(k);
        CHECK(no_answer.size() > 10);
    }
    std::size_t states = 0;
    auto const check = [&](keel::io::memory left) {
        ++states;
        for (int round = 0; round < 2; ++round) {
            auto db = store::open("db", uncached(), left);
            REQUIRE(db);
            CHECK(db->recovery().lost_records == 0);
            CHECK(db->state() != keel::engine_state::read_only);
            for (auto const& [k, v] : expected) {
                auto const got = db->get(k);
                bool const none = std::ranges::find(no_answer, k) != no_answer.end();
                REQUIRE(got.has_value() == !none);
                if (got) REQUIRE(*got == v);
            }
            REQUIRE(db->put("b", "written behind the crash"));
            if (round == 0) REQUIRE(db->compact());
            REQUIRE(db->close());
            auto const name = table.substr(table.rfind('/') + 1);
            auto const evidence = left.contents("db/quarantine/merged/" + name);
            REQUIRE(evidence);
            CHECK(*evidence == damaged);
            CHECK(files_ending(left, ".tmp").empty());
        }
    };
    auto playing = disk.after_process_crash();
    auto db = store::open("db", uncached(), playing);
    REQUIRE(db->put("a", "value"));
    expected["a"] = "value";
    std::uint64_t seed = 0;
    playing.on_operation([&](keel::io::operation const&) {
        if (++seed % 4 != 0) return;
        using keel::io::keep;
        check(playing.after_process_crash());
        check(playing.after_power_loss({.what = seed % 8 == 0 ? keep::oldest : keep::random, .seed = seed}));
    });
    REQUIRE(db->compact());
    REQUIRE(db->close());
    playing.on_operation({});
    check(playing.after_process_crash());
    CHECK(states > 20);
}

} // namespace damaged_stores

} // namespace
