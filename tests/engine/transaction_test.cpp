// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

#include "../support/counting_fs.hpp"
#include "../support/history.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace keel;
using test::anomaly;
using test::transaction_record;
using test::worst_anomaly;

template <class... Policies>
using tx_store = engine<io::memory, segment_size<64 * KiB>, Policies...>;
using snapshot_store = tx_store<>;
using serial_store = tx_store<isolation::serializable>;

open_options const quiet{.background_thread = false};

template <class Store>
Store make() {
    auto db = Store::open("db", quiet);
    REQUIRE(db.has_value());
    return std::move(*db);
}

template <class Scan>
std::string text_of(Scan&& scan) {
    std::string text;
    for (auto&& [key, value] : scan) text += std::string{key} + '=' + std::string{value} + ' ';
    return scan.status() ? text : "ended early";
}

} // namespace

TEST_CASE("history: planted anomalies are found, and clean histories pass") {
    using history = std::vector<transaction_record>;
    CHECK(worst_anomaly({}) == anomaly::none);
    CHECK(worst_anomaly(history{{1, 1, {{"x", 0}}, {"x"}}, {2, 2, {{"x", 1}}, {"x"}}, {3, 3, {{"x", 2}}, {}}}) ==
          anomaly::none);
    CHECK(worst_anomaly(history{{1, 0, {}, {"x"}}, {2, 1, {{"x", 1}}, {}}}) == anomaly::dirty_read);
    CHECK(worst_anomaly(history{{1, 1, {{"x", 0}}, {"x"}}, {2, 2, {{"x", 0}}, {"x"}}}) == anomaly::lost_update);
    // 2 saw 1's x and not 1's y.
    CHECK(worst_anomaly(history{{1, 1, {}, {"x", "y"}}, {2, 2, {{"x", 1}, {"y", 0}}, {}}}) == anomaly::read_skew);
    CHECK(worst_anomaly(history{{1, 1, {{"x", 0}, {"y", 0}}, {"x"}}, {2, 2, {{"x", 0}, {"y", 0}}, {"y"}}}) ==
          anomaly::write_skew);
    // Three in a ring, each reading what the next one replaces.
    CHECK(worst_anomaly(history{{1, 1, {{"x", 0}}, {"z"}}, {2, 2, {{"y", 0}}, {"x"}}, {3, 3, {{"z", 0}}, {"y"}}}) ==
          anomaly::write_skew);
}

TEST_CASE("transaction: reads its own writes on top of one moment, and commits as one batch") {
    auto db = make<snapshot_store>();
    REQUIRE(db.put("a", "1").has_value());
    REQUIRE(db.put("b", "1").has_value());
    REQUIRE(db.put("c", "1").has_value());
    auto tx = db.begin();
    REQUIRE(db.put("a", "2").has_value()); // after its moment
    CHECK(tx.get("a").value() == "1");
    REQUIRE(tx.put("b", "mine").has_value());
    REQUIRE(tx.erase("c").has_value());
    REQUIRE(tx.put("d", "new").has_value());
    CHECK(tx.get("b").value() == "mine");
    CHECK(tx.get("c").value() == std::nullopt);
    CHECK(db.get("b").value() == "1"); // nobody else sees it
    CHECK(text_of(tx.scan()) == "a=1 b=mine d=new ");
    CHECK(text_of(tx.scan(range{.reverse = true})) == "d=new b=mine a=1 ");
    CHECK(text_of(tx.scan(range{.from = "b", .to = "d"})) == "b=mine ");
    CHECK(text_of(tx.scan(range{.from = "d", .to = "b"})).empty());
    CHECK(text_of(tx.scan(prefix{"d"})) == "d=new ");
    auto part = tx.scan(range{.to = "d"});
    CHECK((*part.seek("b")).second == "mine");
    CHECK(part.seek("c") == part.end()); // erased here
    CHECK((*part.begin()).first == "a");
    auto back = tx.scan(range{.reverse = true});
    CHECK((*back.seek("c")).first == "b");
    CHECK((*back.seek("z")).first == "d");
    auto const before = db.last_lsn();
    auto const at = tx.commit();
    REQUIRE(at.has_value());
    CHECK(at->value == before.value + 3);
    CHECK(text_of(db.scan()) == "a=2 b=mine d=new ");
}

TEST_CASE("transaction: of two that write the same key the first to commit wins, and the other one leaves nothing") {
    auto db = make<snapshot_store>();
    auto first = db.begin();
    auto second = db.begin();
    REQUIRE(first.put("k", "first").has_value());
    REQUIRE(second.put("k", "second").has_value());
    REQUIRE(second.put("other", "second").has_value());
    auto const won = first.commit();
    REQUIRE(won.has_value());
    auto const lost = second.commit();
    REQUIRE(!lost.has_value());
    CHECK(lost.error().code == errc::conflict);
    CHECK(lost.error().retryable);
    CHECK(lost.error().at == *won);
    CHECK(text_of(db.scan()) == "k=first ");
    CHECK(db.last_lsn() == *won);
    // A plain write, or an erase, conflicts in the same way.
    auto third = db.begin();
    REQUIRE(third.put("k", "third").has_value());
    REQUIRE(db.erase("k").has_value());
    CHECK(third.commit().error().code == errc::conflict);
}

TEST_CASE("transaction: misuse is an error that says so, and what was not committed leaves nothing") {
    std::optional<snapshot_store::transaction> left;
    {
        auto db = make<snapshot_store>();
        auto tx = db.begin();
        REQUIRE(tx.put("k", "v").has_value());
        REQUIRE(tx.commit().has_value());
        CHECK(tx.commit().error().code == errc::invalid_argument);
        CHECK(tx.put("k", "w").error().code == errc::invalid_argument);
        CHECK(tx.get("k").error().code == errc::invalid_argument);
        CHECK(text_of(tx.scan()).empty());
        auto rolled = db.begin();
        REQUIRE(rolled.put("gone", "v").has_value());
        rolled.rollback();
        CHECK(rolled.commit().error().code == errc::invalid_argument);
        {
            auto dropped = db.begin();
            REQUIRE(dropped.put("gone", "v").has_value());
        }
        CHECK(text_of(db.scan()) == "k=v ");
        auto const reader = db.begin().commit();
        CHECK(reader.value() == db.last_lsn());
        CHECK(db.begin().put("", "v").error().code == errc::invalid_argument);
        CHECK(db.begin().put(std::string(70'000, 'k'), "v").error().code == errc::too_large);
        auto large = db.begin();
        REQUIRE(large.put("large", std::string(70'000, 'v')).has_value());
        CHECK(large.commit().error().code == errc::too_large);
        left.emplace(db.begin());
        REQUIRE(left->put("late", "v").has_value());
        REQUIRE(db.close().has_value());
        auto closed = db.begin();
        REQUIRE(closed.put("late", "v").has_value());
        CHECK(closed.commit().error().code == errc::closed);
    }
    CHECK(left->get("k").error().code == errc::closed);
    CHECK(left->scan().status().error().code == errc::closed);
    CHECK(left->commit().error().code == errc::closed);
}

TEST_CASE("transaction: write skew appears under snapshot isolation and does not under serializable") {
    auto const skew = [](auto db) {
        REQUIRE(db.put("x", "1").has_value());
        REQUIRE(db.put("y", "1").has_value());
        auto a = db.begin();
        auto b = db.begin();
        REQUIRE(a.get("y").has_value());
        REQUIRE(b.get("x").has_value());
        REQUIRE(a.put("x", "0").has_value());
        REQUIRE(b.put("y", "0").has_value());
        REQUIRE(a.commit().has_value());
        return b.commit();
    };
    CHECK(skew(make<snapshot_store>()).has_value());
    CHECK(skew(make<serial_store>()).error().code == errc::conflict);
}

TEST_CASE(
    "transaction: under serializable a key that appears in a scanned range is a conflict, one beside it is none") {
    auto const phantom = [](std::string const& appears) {
        auto db = make<serial_store>();
        REQUIRE(db.put("b", "1").has_value());
        auto tx = db.begin();
        CHECK(text_of(tx.scan(range{.from = "a", .to = "c"})) == "b=1 ");
        REQUIRE(tx.put("sum", "1").has_value());
        REQUIRE(db.put(appears, "1").has_value());
        return tx.commit();
    };
    CHECK(phantom("bb").error().code == errc::conflict);
    CHECK(phantom("a").error().code == errc::conflict);
    CHECK(phantom("c").has_value());
    auto db = make<serial_store>();
    auto reader = db.begin();
    CHECK(text_of(reader.scan()).empty());
    REQUIRE(db.put("a", "1").has_value());
    CHECK(reader.commit().has_value()); // wrote nothing: it took place at its moment
}

namespace {

/// Interleaved transactions of one thread against a list of versions.
template <class Store>
void agrees_with_model() {
    struct open_one {
        typename Store::transaction tx;
        std::size_t moment;
        std::map<std::string, std::optional<std::string>> own{};
        std::map<std::string, bool> read{};
    };
    auto db = make<Store>();
    std::vector<std::map<std::string, std::string>> versions(1);
    std::map<std::string, std::size_t> changed; // key -> the version that last changed it
    std::vector<open_one> open;
    auto const key = [] { return std::string(1, *rc::gen::inRange('a', 'f')); };
    auto const steps = *rc::gen::inRange(1, 60);
    for (int step = 0; step < steps; ++step) {
        auto const what = *rc::gen::inRange(0, 10);
        if (open.empty() || (what == 0 && open.size() < 4)) {
            open.push_back({db.begin(), versions.size() - 1});
            continue;
        }
        auto& one = open[static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(open.size())))];
        auto seen = versions[one.moment];
        for (auto const& [k, v] : one.own) {
            if (v) seen[k] = *v;
            else seen.erase(k);
        }
        if (what < 4) {
            auto const k = key();
            auto const got = one.tx.get(k);
            RC_ASSERT(got.has_value());
            RC_ASSERT(*got == (seen.contains(k) ? std::optional{seen[k]} : std::nullopt));
            if (!one.own.contains(k)) one.read[k] = true;
        } else if (what < 6) {
            auto const k = key();
            auto const v = std::to_string(step);
            RC_ASSERT(one.tx.put(k, v).has_value());
            one.own[k] = v;
        } else if (what == 6) {
            auto const k = key();
            RC_ASSERT(one.tx.erase(k).has_value());
            one.own[k] = std::nullopt;
        } else if (what == 7) {
            range which{.reverse = *rc::gen::arbitrary<bool>()};
            if (*rc::gen::arbitrary<bool>()) which.from = key();
            if (*rc::gen::arbitrary<bool>()) which.to = key();
            std::string expected;
            for (auto const& [k, v] : seen)
                if ((!which.from || k >= *which.from) && (!which.to || k < *which.to))
                    expected = which.reverse ? k + '=' + v + ' ' + expected : expected + k + '=' + v + ' ';
            RC_ASSERT(text_of(one.tx.scan(which)) == expected);
            for (char c = 'a'; c < 'f'; ++c)
                if (std::string const k(1, c); (!which.from || k >= *which.from) && (!which.to || k < *which.to))
                    one.read[k] = true;
        } else if (what == 8) {
            auto const k = key();
            RC_ASSERT(db.put(k, "plain").has_value());
            versions.push_back(versions.back());
            versions.back()[k] = "plain";
            changed[k] = versions.size() - 1;
        } else {
            bool clash = false;
            for (auto const& [k, v] : one.own) clash = clash || changed[k] > one.moment;
            if constexpr (Store::config_type::isolation::validates_reads)
                if (!one.own.empty())
                    for (auto const& [k, v] : one.read) clash = clash || changed[k] > one.moment;
            auto const done = one.tx.commit();
            RC_ASSERT(done.has_value() == !clash);
            if (!done) RC_ASSERT(done.error().code == errc::conflict);
            if (done && !one.own.empty()) {
                versions.push_back(versions.back());
                for (auto const& [k, v] : one.own) {
                    if (v) versions.back()[k] = *v;
                    else versions.back().erase(k);
                    changed[k] = versions.size() - 1;
                }
            }
            open.erase(open.begin() + (&one - open.data()));
        }
    }
    std::string expected;
    for (auto const& [k, v] : versions.back()) expected += k + '=' + v + ' ';
    RC_ASSERT(text_of(db.scan()) == expected);
}

} // namespace

TEST_CASE("transaction: interleaved programs agree with a model of versions") {
    CHECK(rc::check("snapshot isolation", [] { agrees_with_model<snapshot_store>(); }));
    CHECK(rc::check("serializable", [] { agrees_with_model<serial_store>(); }));
    CHECK(rc::check("mapped", [] { agrees_with_model<tx_store<durability::os_buffered>>(); }));
}

namespace {

/// Several threads, few keys: each transaction reads some and writes some, its number as the value.
template <class Store>
std::vector<transaction_record> concurrent_history(std::uint64_t per_thread) {
    auto db = make<Store>();
    constexpr std::size_t threads = 4;
    std::array<std::vector<transaction_record>, threads> told;
    {
        std::vector<std::jthread> crew;
        for (std::size_t t = 0; t < threads; ++t)
            crew.emplace_back([&, t] {
                std::uint64_t state = t * 977 + 1;
                auto const chance = [&](std::uint64_t below) {
                    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
                    return (state >> 33) % below;
                };
                for (std::uint64_t i = 0; i < per_thread; ++i) {
                    transaction_record r{.number = 1 + t * per_thread + i};
                    auto tx = db.begin();
                    for (std::uint64_t n = 1 + chance(3); n > 0; --n) {
                        auto const key = "k" + std::to_string(chance(6));
                        auto const got = tx.get(key);
                        if (!got) continue;
                        r.reads[key] = *got ? std::stoull(**got) : 0;
                        if (chance(4) == 0) std::this_thread::yield();
                    }
                    for (std::uint64_t n = 1 + chance(2); n > 0; --n) {
                        auto const key = "k" + std::to_string(chance(6));
                        if (std::ranges::find(r.writes, key) != r.writes.end()) continue;
                        if (tx.put(key, std::to_string(r.number))) r.writes.push_back(key);
                    }
                    if (auto const done = tx.commit()) r.committed_at = done->value;
                    told[t].push_back(std::move(r));
                }
            });
    }
    std::vector<transaction_record> all;
    for (auto& one : told) all.insert(all.end(), one.begin(), one.end());
    return all;
}

template <class Store>
void check_history(anomaly worst_allowed) {
    auto const history = concurrent_history<Store>(150);
    auto const committed = std::ranges::count_if(history, [](auto const& t) { return t.committed_at != 0; });
    CHECK(committed > 50);
    CHECK(committed < static_cast<std::ptrdiff_t>(history.size())); // a run without a conflict shows nothing
    auto const worst = worst_anomaly(history);
    INFO(std::string{name_of(worst)});
    CHECK((worst == anomaly::none || worst == worst_allowed));
}

} // namespace

TEST_CASE("transaction: histories of threads show no dirty read, lost update or read skew, and serializable ones no "
          "anomaly") {
    check_history<snapshot_store>(anomaly::write_skew);
    check_history<tx_store<durability::every_write>>(anomaly::write_skew);
    check_history<tx_store<durability::os_buffered>>(anomaly::write_skew);
    check_history<serial_store>(anomaly::none);
    check_history<tx_store<durability::os_buffered, isolation::serializable>>(anomaly::none);
}

namespace {

using watched_disk = test::counting<io::memory>;
using watched_store = engine<watched_disk, segment_size<64 * KiB>>;

watched_store make_watched(std::function<void()> before_segment_sync) {
    watched_disk disk;
    disk.before_sync([what = std::move(before_segment_sync)](std::string const& path) {
        if (path.ends_with(".seg")) what();
    });
    auto db = watched_store::open("db", quiet, disk);
    REQUIRE(db.has_value());
    return std::move(*db);
}

/// `again` increments a counter once, and tells how often it had to try; by `threads` threads, so many times each.
template <class Again>
std::uint64_t increments(int threads, int each, Again const& again) {
    std::atomic<std::uint64_t> tries{0};
    std::vector<std::jthread> crew;
    for (int t = 0; t < threads; ++t)
        crew.emplace_back([&] {
            for (int i = 0; i < each; ++i) tries += again();
        });
    crew.clear();
    return tries;
}

result<std::string> one_more(std::optional<std::string> const& old) {
    return std::to_string(std::stoi(old.value_or("0")) + 1);
}

} // namespace

TEST_CASE(
    "transaction: whoever meets a conflict meets it once for each commit of the others, however long a sync takes") {
    auto db = make_watched([] { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });
    REQUIRE(db.put("n", "0").has_value());
    constexpr int threads = 8;
    constexpr int each = 5;
    auto const tries = increments(threads, each, [&] {
        for (std::uint64_t n = 1;; ++n) {
            auto tx = db.begin();
            auto const next = one_more(tx.get("n").value());
            if (!tx.put("n", *next)) continue;
            if (tx.commit()) return n;
        }
    });
    CHECK(db.get("n").value() == std::to_string(threads * each));
    CHECK(tries <= threads * each * threads); // its own commits, and one conflict for each commit of another thread
}

TEST_CASE("transaction: begin() behind a conflict sees the record that came first, and snapshots do not wait for it") {
    std::atomic<bool> closed{false};
    std::atomic<bool> waits{false};
    auto db = make_watched([&] {
        if (closed) waits = true;
        closed.wait(true);
    });
    REQUIRE(db.put("k", "0").has_value());
    auto tx = db.begin();
    REQUIRE(tx.put("k", "mine").has_value());
    closed = true;
    std::jthread const other{[&] { static_cast<void>(db.put("k", "theirs")); }};
    while (!waits) std::this_thread::yield();
    auto const conflict = tx.commit();
    REQUIRE(!conflict.has_value());
    CHECK(conflict.error().code == errc::conflict);
    auto const at = conflict.error().at;
    CHECK(db.last_lsn() < at);
    CHECK(db.snapshot().at() < at);
    std::jthread const opens{[&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        closed = false;
        closed.notify_all();
    }};
    auto again = db.begin();
    CHECK(again.moment() >= at);
    CHECK(again.get("k").value() == "theirs");
    REQUIRE(again.put("k", "mine").has_value());
    CHECK(again.commit().has_value());
}

TEST_CASE("transact: runs a function again until no other commit came first, and gives its value and the LSN") {
    auto db = make<snapshot_store>();
    int runs = 0;
    auto const done = db.transact([&](auto& tx) {
        auto const old = tx.get("k").value();
        if (++runs < 4) REQUIRE(db.put("k", std::to_string(runs)).has_value()); // another one comes first
        REQUIRE(tx.put("k", old.value_or("none") + "+").has_value());
        return runs;
    });
    REQUIRE(done.has_value());
    CHECK(done->value == 4);
    CHECK(done->at == db.last_lsn());
    CHECK(runs == 4);
    CHECK(db.get("k").value() == "3+");
    result<lsn> const plain = db.transact([](auto& tx) { return tx.put("j", "v"); });
    CHECK(plain.value() == db.last_lsn());
    result<lsn> const reader = db.transact([](auto& tx) { static_cast<void>(tx.get("j")); });
    CHECK(reader.value() == db.last_lsn());
    result<committed<std::optional<std::string>>> const read = db.transact([](auto& tx) { return tx.get("j"); });
    CHECK(read.value().value == "v");
}

TEST_CASE(
    "transact: gives up after so many runs with the conflict, and an error of the function is the answer as it is") {
    auto db = make<snapshot_store>();
    unsigned runs = 0;
    auto const always_late = [&](auto& tx) {
        REQUIRE(db.put("k", std::to_string(++runs)).has_value());
        return tx.put("k", "late");
    };
    for (unsigned const attempts : {0U, 1U, 3U}) {
        runs = 0;
        auto const refused = db.transact(always_late, {.attempts = attempts});
        REQUIRE(!refused.has_value());
        CHECK(refused.error().code == errc::conflict);
        CHECK(refused.error().at == db.last_lsn());
        CHECK(runs == std::max(attempts, 1U));
        CHECK(db.get("k").value() == std::to_string(runs));
    }
    auto const before = db.last_lsn();
    // A conflict that the function speaks of itself is its own affair.
    for (auto const code : {errc::invalid_argument, errc::conflict}) {
        runs = 0;
        auto const given = db.transact([&](auto& tx) -> result<void> {
            ++runs;
            REQUIRE(tx.put("k", "gone").has_value());
            return failure(code, "not today");
        });
        REQUIRE(!given.has_value());
        CHECK(given.error().code == code);
        CHECK(given.error().message == "not today");
        CHECK(runs == 1);
    }
    CHECK_THROWS_AS(static_cast<void>(db.transact([](auto& tx) {
                        REQUIRE(tx.put("k", "gone").has_value());
                        throw std::bad_alloc{};
                    })),
                    std::bad_alloc);
    CHECK(db.transact([](auto& tx) { static_cast<void>(tx.commit()); }).error().code == errc::invalid_argument);
    CHECK(db.transact([](auto& tx) { tx.rollback(); }).error().code == errc::invalid_argument);
    CHECK(db.last_lsn() == before);
}

TEST_CASE("update: sets, changes and erases the value of a key, and an error of the function changes nothing") {
    auto db = make<snapshot_store>();
    auto const first = db.update("k", one_more);
    CHECK(first.value() == db.last_lsn());
    auto const second = db.update("k", one_more, durable);
    CHECK(second.value() == db.last_lsn());
    CHECK(db.durable_lsn() == db.last_lsn());
    CHECK(db.get("k").value() == "2");
    CHECK(db.update("k", [](std::optional<std::string> old) { return std::optional{*old + "!"}; }).has_value());
    CHECK(db.get("k").value() == "2!");
    CHECK(db.update("k", [](auto const&) { return "text"; }).has_value());
    CHECK(db.get("k").value() == "text");
    auto const before = db.last_lsn();
    auto const refused = db.update(
        "k", [](auto const&) -> result<std::optional<std::string>> { return failure(errc::too_large, "no"); });
    CHECK(refused.error().code == errc::too_large);
    CHECK(db.update("", one_more).error().code == errc::invalid_argument);
    CHECK(db.last_lsn() == before);
    CHECK(db.update("k", [](auto const&) { return std::nullopt; }).has_value());
    CHECK(db.get("k").value() == std::nullopt);
}

TEST_CASE("update: threads that count at one key lose no count, and run little more often than they count") {
    auto db = make_watched([] { std::this_thread::sleep_for(std::chrono::milliseconds(1)); });
    constexpr int threads = 8;
    constexpr int each = 5;
    auto const tries = increments(threads, each, [&] {
        std::uint64_t n = 0;
        auto const done = db.update("n", [&](auto const& old) {
            ++n;
            return one_more(old);
        });
        return done ? n : 1'000'000;
    });
    CHECK(db.get("n").value() == std::to_string(threads * each));
    CHECK(tries <= threads * each * threads);
}

TEST_CASE("transaction: what was committed is there after a crash, whole") {
    io::memory disk;
    {
        auto db = snapshot_store::open("db", quiet, disk);
        REQUIRE(db.has_value());
        auto tx = db->begin();
        for (int i = 0; i < 20; ++i) REQUIRE(tx.put("k" + std::to_string(i), "v").has_value());
        REQUIRE(tx.commit().has_value());
        auto open = db->begin();
        REQUIRE(open.put("never", "v").has_value());
        db->abandon();
    }
    auto const db = snapshot_store::open("db", quiet, disk.after_power_loss({.what = io::keep::oldest}));
    REQUIRE(db.has_value());
    CHECK(db->last_lsn().value == 20);
    CHECK(db->get("k19").value() == "v");
    CHECK(db->get("never").value() == std::nullopt);
}
