// SPDX-License-Identifier: BSL-1.0
// What the calls of a store and a log promise by their shape: what may be given where, and what a call that makes no sense says.
#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// One namespace a file: all of a folder's tests are one translation unit.
namespace calls_test {
namespace {

using namespace keel;
using store = keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>>;
using mapped_store = keel::engine<keel::io::memory, keel::segment_size<4 * keel::KiB>, keel::durability::os_buffered>;
using namespace_free_log = record_log<keel::io::memory, keel::segment_size<4 * keel::KiB>>;

static_assert(std::is_same_v<namespace_free_log, keel::log<keel::io::memory, keel::segment_size<4 * keel::KiB>>>);

/// The keys of a scan, each followed by a space; "!" and the error's name where it did not go to its end.
template <class Scan>
std::string seen(Scan scan) {
    std::string out;
    for (auto&& row : scan) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(row)>, std::string_view>) out += row;
        else out += row.first;
        out += ' ';
    }
    if (auto whole = scan.status(); !whole) out += "!" + std::string{name_of(whole.error().code)};
    return out;
}
store filled(std::string_view keys) {
    auto db = store::open("db", model::test_options());
    REQUIRE(db);
    for (auto const& key : keys) REQUIRE(db->put(std::string_view{&key, 1}, "v"));
    return std::move(*db);
}

} // namespace

TEST_CASE("calls: keys and values are text, bytes or spans of bytes, mixed as they come") {
    auto db = store::open("db", model::test_options());
    REQUIRE(db);
    std::array<std::byte, 2> raw{std::byte{'k'}, std::byte{'2'}};
    std::vector<std::byte> const value(3, std::byte{'x'});
    byte_view const view = raw;
    std::span<std::byte> const changeable = raw;
    REQUIRE(db->put("k1", value));
    REQUIRE(db->put(view, "text"));
    REQUIRE(db->put(std::string{"k3"}, view));
    CHECK(**db->get("k1") == "xxx");
    CHECK(**db->get(changeable) == "text");
    CHECK(**db->get(raw, db->snapshot()) == "text");
    CHECK(**db->get(std::string_view{"k3"}) == "k2");
    write_batch batch;
    batch.put(view, value);
    batch.put("k4", changeable);
    batch.erase(std::string{"k1"});
    REQUIRE(db->write(batch));
    auto tx = db->begin();
    REQUIRE(tx.put(changeable, "of tx"));
    CHECK(**tx.get(view) == "of tx");
    REQUIRE(tx.erase(as_bytes("k4")));
    REQUIRE(tx.commit());
    CHECK(seen(db->scan()) == "k2 k3 ");
    CHECK(*db->multi_get({"k1", view, std::string{"k3"}}) ==
          std::vector<std::optional<std::string>>{std::nullopt, "of tx", "k2"});
    std::vector<std::string> const asked{"k3"};
    CHECK(db->multi_get(asked)->front() == "k2");
    REQUIRE(db->erase(view));
    REQUIRE(db->ingest(std::map<std::string, std::vector<std::byte>>{{"k5", value}}));
    CHECK(**db->get("k5") == "xxx");
    auto all = db->scan();
    CHECK((*all.seek(as_bytes("k4"))).first == "k5");

    auto log = namespace_free_log::open("log", model::test_options());
    REQUIRE(log);
    REQUIRE(log->append("text"));
    REQUIRE(log->append(changeable));
    CHECK(log->append_batch({"a", view})->value == 4);
    CHECK(log->append_batch(asked)->value == 5);
}

TEST_CASE("calls: a scan takes bounds in braces, a snapshot, both, or neither") {
    auto db = filled("acef");
    auto const before = db.snapshot();
    REQUIRE(db.put("b", "v"));
    auto const key = as_bytes("c");
    CHECK(seen(db.scan()) == "a b c e f ");
    CHECK(seen(db.scan({})) == "a b c e f ");
    CHECK(seen(db.scan({"b", "e"})) == "b c ");
    CHECK(seen(db.scan({"b", key})) == "b ");
    CHECK(seen(db.scan({key})) == "c e f ");
    CHECK(seen(db.scan(before)) == "a c e f ");
    CHECK(seen(db.scan({}, before)) == "a c e f ");
    CHECK(seen(db.scan({"b", "e"}, before)) == "c ");
    CHECK(seen(db.scan({.to = "c", .reverse = true})) == "b a ");
    CHECK(seen(db.scan({.to = "c", .reverse = true}, before)) == "a ");
    CHECK(seen(db.scan(prefix{"b"}, before)).empty());
    CHECK(seen(db.scan({"b", "e"}, on_damage::skip)) == "b c ");
    CHECK(seen(db.scan(before, on_damage::skip)) == "a c e f ");
    CHECK(seen(db.keys({"b", "e"})) == "b c ");
    CHECK(seen(db.keys(before)) == "a c e f ");
    CHECK(seen(db.keys({}, before)) == "a c e f ");
    CHECK(seen(db.keys(prefix{"b"})) == "b ");
    CHECK(seen(db.scan({"a", "b", "c"})) == "!invalid_argument");
    CHECK(seen(db.keys({"a", "b", "c"}, before)) == "!invalid_argument");
    auto tx = db.begin();
    REQUIRE(tx.put("d", "v"));
    CHECK(seen(tx.scan({"b", "e"})) == "b c d ");
    CHECK(seen(tx.scan({"a", "b", "c"})) == "!invalid_argument");
}

TEST_CASE("calls: a snapshot of another store, or of an earlier opening, is invalid_argument everywhere") {
    io::memory disk;
    auto db = store::open("db", model::test_options(), disk);
    REQUIRE(db);
    REQUIRE(db->put("a", "v"));
    auto const earlier = db->snapshot();
    REQUIRE(db->close());
    db = store::open("db", model::test_options(), disk);
    REQUIRE(db);
    auto const other = filled("z");
    auto const of_other = other.snapshot();
    for (auto const* moment : {&earlier, &of_other}) {
        CHECK(db->get("a", *moment).error().code == errc::invalid_argument);
        CHECK(seen(db->scan(*moment)) == "!invalid_argument");
        CHECK(seen(db->scan({"a", "b"}, *moment)) == "!invalid_argument");
        CHECK(seen(db->scan(prefix{"a"}, *moment)) == "!invalid_argument");
        CHECK(seen(db->scan(range{}, *moment, on_damage::skip)) == "!invalid_argument");
        CHECK(seen(db->keys(*moment)) == "!invalid_argument");
    }
    CHECK(seen(db->scan()) == "a ");
}

TEST_CASE_TEMPLATE("calls: what was written durable survives a power loss under any policy", Store, store,
                   mapped_store) {
    io::memory disk;
    auto db = Store::open("db", model::test_options(), disk);
    REQUIRE(db);
    REQUIRE(db->put("a", "1"));
    REQUIRE(db->put("b", "2", durable));
    auto const put = disk.after_power_loss({io::keep::oldest, 1});
    write_batch batch;
    batch.put("c", "3");
    REQUIRE(db->write(batch, durable));
    auto const written = disk.after_power_loss({io::keep::oldest, 2});
    REQUIRE(db->erase("a", durable));
    auto const erased = disk.after_power_loss({io::keep::oldest, 3});
    auto tx = db->begin();
    REQUIRE(tx.put("d", "4"));
    REQUIRE(tx.commit(durable));
    CHECK(db->durable_lsn() == db->last_lsn());
    auto const committed = disk.after_power_loss({io::keep::oldest, 4});
    auto const left = [](io::memory const& after) {
        auto again = Store::open("db", model::test_options(), after);
        REQUIRE(again);
        return seen(again->scan());
    };
    CHECK(left(put) == "a b ");
    CHECK(left(written) == "a b c ");
    CHECK(left(erased) == "b c ");
    CHECK(left(committed) == "b c d ");
    CHECK(db->put("", "x", durable).error().code == errc::invalid_argument);
    REQUIRE(db->close());
    CHECK(db->put("a", "x", durable).error().code == errc::closed);
}

TEST_CASE("calls: a record of the appended kind may ask for its own sync, too") {
    using mapped_log = keel::log<io::memory, segment_size<4 * KiB>, durability::os_buffered>;
    io::memory disk;
    auto log = mapped_log::open("log", model::test_options(), disk);
    REQUIRE(log);
    REQUIRE(log->append("one"));
    CHECK(log->append("two", durable)->value == 2);
    CHECK(log->durable_lsn().value == 2);
    auto again = mapped_log::open("log", model::test_options(), disk.after_power_loss({io::keep::oldest, 1}));
    REQUIRE(again);
    CHECK(again->last_lsn().value == 2);
}

TEST_CASE_TEMPLATE("calls: the named limits are the largest that go, and one byte more is told as its own record",
                   Store, store, mapped_store) {
    auto db = Store::open("db", model::test_options());
    REQUIRE(db);
    std::string const value(Store::record_bytes_max - 1, 'v');
    CHECK(db->put("k", value));
    auto const one_more = db->put("kk", value);
    REQUIRE(!one_more);
    CHECK(one_more.error().code == errc::too_large);
    CHECK(one_more.error().message.find("batch") == std::string::npos);
    CHECK(**db->get("k") == value);
    auto const long_key = db->put(std::string(Store::key_bytes_max + 1, 'k'), "");
    REQUIRE(!long_key);
    CHECK(long_key.error().code == errc::too_large);
    if constexpr (Store::key_bytes_max < Store::record_bytes_max)
        CHECK(db->put(std::string(Store::key_bytes_max, 'k'), ""));
    auto log = namespace_free_log::open("log", model::test_options());
    REQUIRE(log);
    CHECK(log->append(std::string(namespace_free_log::record_bytes_max, 'r')));
    CHECK(log->append(std::string(namespace_free_log::record_bytes_max + 1, 'r')).error().code == errc::too_large);
}

TEST_CASE("calls: no message advises to resume what was opened read-only, and none names a batch for a single write") {
    io::memory disk;
    REQUIRE(store::open("db", model::test_options(), disk)->put("a", "v"));
    auto options = model::test_options();
    options.read_only = true;
    auto db = store::open("db", options, disk);
    REQUIRE(db);
    write_batch batch;
    batch.put("a", "w");
    auto tx = db->begin();
    REQUIRE(tx.put("a", "w"));
    for (auto const& why :
         {db->put("a", "w").error(), db->erase("a").error(), db->write(batch).error(), tx.commit().error(),
          db->resume().error(), db->compact().error(), db->put("a", "w", durable).error()}) {
        CHECK(why.code == errc::read_only);
        CHECK(why.message.find("resume") == std::string::npos);
        CHECK(why.message.find("read-only") != std::string::npos);
    }
}

TEST_CASE("calls: the report on storage prints as one line") {
    auto db = filled("abc");
    CHECK(to_string(db.storage()) == "1 segments of 64 KiB");
    REQUIRE(db.compact());
    auto const text = to_string(db.storage());
    CHECK(text.find("; level 1: 1 tables, ") != std::string::npos);
    CHECK(text.find(" 3 records; 1 merges read ") != std::string::npos);
}

TEST_CASE("calls: the log has a name that is no other's under a using directive") {
    // With <cmath> there is ::log, too: `log<...>` alone would be ambiguous here.
    namespace_free_log const* none = nullptr;
    CHECK(none == nullptr);
    CHECK(std::log(1.0) == 0.0);
}

} // namespace calls_test
