// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>
#include <keel/policy/compression/lz4.hpp>
#include <keel/policy/compression/zstd.hpp>

#include "stores.hpp"
#include "support/fix_checks.hpp"
#include "support/model.hpp"

#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

// Stores whose tables are packed: nothing but the bytes on the disk is another than without, and a store may change its mind.

namespace {

namespace packing {

using keel::compression::any_of;
using keel::compression::lz4;
using keel::compression::zstd;

using plain_store = engine_tests::by_hand_store;
template <class Compression>
using store =
    keel::engine<keel::io::memory, keel::segment_size<64 * keel::KiB>, keel::compaction::by_hand, Compression>;
using reads_all = store<any_of<lz4, zstd<>>>;

constexpr int keys = 1000;

std::string key(int i) { return "key" + std::to_string(10000 + i * 7919 % 10000); }
/// Text as programs write it.
std::string value(int i) {
    return "{\"id\": " + std::to_string(i) + ", \"name\": \"user " + std::to_string(i * 31 % 977) +
           "\", \"city\": \"Lisbon\", \"active\": " + (i % 3 == 0 ? "true" : "false") + "}";
}

std::vector<std::string> tables_of(keel::io::memory const& disk) {
    std::vector<std::string> out;
    for (auto const& f : disk.files())
        if (f.ends_with(".tab")) out.push_back(f);
    return out;
}
std::uint64_t table_bytes(keel::io::memory const& disk) {
    std::uint64_t bytes = 0;
    for (auto const& f : tables_of(disk)) bytes += disk.status(f)->size;
    return bytes;
}

template <class Store>
Store opened(keel::io::memory const& disk, keel::open_options const& options = model::test_options()) {
    auto db = Store::open("db", options, disk);
    REQUIRE_MESSAGE(db, (db ? "" : keel::to_string(db.error())));
    return std::move(*db);
}
template <class Store>
void check_all(Store& db) {
    for (int i = 0; i < keys; ++i) {
        auto const got = db.get(key(i));
        REQUIRE(got);
        REQUIRE(*got == (i % 10 == 0 ? std::nullopt : std::optional{value(i)}));
    }
    int seen = 0;
    auto scan = db.scan();
    for (auto&& [k, v] : scan) {
        REQUIRE(v.starts_with("{\"id\": "));
        ++seen;
    }
    CHECK(scan.status());
    CHECK(seen == keys - keys / 10);
}
/// A closed store whose records are in tables, but for every tenth, which is erased.
template <class Store>
keel::io::memory closed_store() {
    model::reset_machine();
    keel::io::memory disk;
    auto db = opened<Store>(disk);
    for (int i = 0; i < keys; ++i) REQUIRE(db.put(key(i), "first"));
    REQUIRE(db.compact());
    for (int i = 0; i < keys; ++i) REQUIRE((i % 10 == 0 ? db.erase(key(i)) : db.put(key(i), value(i))));
    REQUIRE(db.compact());
    check_all(db);
    REQUIRE(db.close());
    return disk;
}
/// What the manifest says packs the tables.
std::map<int, int> ids_of(keel::io::memory disk) {
    auto const stock = keel::recovery::take_inventory<typename reads_all::config_type>(disk, "db");
    REQUIRE(stock);
    std::map<int, int> out;
    for (auto const& [id, t] : stock->state.tables) ++out[t.compression];
    return out;
}

template <class Store>
void check_store(int id) {
    auto const disk = closed_store<Store>();
    CHECK(ids_of(disk).size() == 1);
    CHECK(ids_of(disk).contains(id));
    auto db = opened<Store>(disk);
    check_all(db);
    auto const sound = db.verify();
    REQUIRE(sound);
    CHECK(sound->findings.empty());
    CHECK(sound->table_records == static_cast<std::uint64_t>(keys - keys / 10));
    auto const all = *db.approximate_size(keel::range{});
    CHECK(all <= table_bytes(disk));
    CHECK(all > table_bytes(disk) / 2);
    REQUIRE(db.close());
    auto deep = model::test_options();
    deep.verify = keel::verify_depth::deep;
    db = opened<Store>(disk, deep);
    CHECK(db.state() == keel::engine_state::healthy);
    check_all(db);
}

} // namespace packing

} // namespace

TEST_CASE("compression: a store with zstd, and one with lz4, is smaller and otherwise the same") {
    packing::check_store<packing::store<packing::zstd<>>>(1);
    packing::check_store<packing::store<packing::lz4>>(2);
    auto const plain = packing::table_bytes(packing::closed_store<packing::plain_store>());
    CHECK(packing::table_bytes(packing::closed_store<packing::store<packing::zstd<>>>()) < plain / 2);
    CHECK(packing::table_bytes(packing::closed_store<packing::store<packing::lz4>>()) < plain * 2 / 3);
}

TEST_CASE("R1.3: damage in a packed block is an error with its place, never a value, and stays one when it is merged") {
    using zstd_store = packing::store<packing::zstd<>>;
    auto const disk = packing::closed_store<zstd_store>();
    auto const table = packing::tables_of(disk).at(0);
    auto const whole = *disk.contents(table);
    constexpr std::size_t body = keel::format::table_frames_begin + keel::format::frame_header_bytes;
    REQUIRE(whole[keel::format::table_frames_begin + 14] == static_cast<std::byte>(keel::format::frame_type::packed));
    for (bool const verifies : {false, true}) {
        auto bytes = whole;
        bytes[body + keel::format::packed_head_bytes + 3] ^= std::byte{0x10};
        if (verifies) keel::test::fix_table<keel::checksum::crc32c>(bytes);
        auto hurt = disk.after_process_crash();
        REQUIRE(hurt.replace(table, bytes));
        auto db = packing::opened<zstd_store>(hurt);
        int refused = 0;
        for (int i = 0; i < packing::keys; ++i) {
            auto const got = db.get(packing::key(i));
            if (got) {
                REQUIRE(*got == (i % 10 == 0 ? std::nullopt : std::optional{packing::value(i)}));
                continue;
            }
            CHECK(got.error().code == keel::errc::corruption);
            CHECK(got.error().file == table);
            CHECK(got.error().offset == keel::format::table_frames_begin);
            ++refused;
        }
        CHECK(refused > 5);
        CHECK(refused < 100);
        CHECK(db.state() == keel::engine_state::degraded);
        auto scan = db.scan();
        for (auto&& [k, v] : scan) static_cast<void>(k.size() + v.size());
        CHECK(scan.status().error().code == keel::errc::corruption);
        auto const told = db.verify();
        REQUIRE(told->findings.size() == 1);
        CHECK(told->findings[0].offset == keel::format::table_frames_begin);
        REQUIRE(db.put("new", "value"));
        REQUIRE(db.compact());
        int still = 0;
        for (int i = 0; i < packing::keys; ++i) still += !db.get(packing::key(i));
        CHECK(still == refused);
        REQUIRE(db.close());
        auto deep = model::test_options();
        deep.verify = keel::verify_depth::deep;
        db = packing::opened<zstd_store>(hurt, deep);
        CHECK(db.state() == keel::engine_state::degraded);
        CHECK(db.state_reason().find(".tab") != std::string::npos);
        CHECK(**db.get("new") == "value");
    }
}

TEST_CASE("compression: a store that is packed in a way the program does not read is refused, and nothing is changed") {
    auto const check_refused = [](auto const& type, keel::io::memory disk, std::string_view theirs,
                                  std::string_view ours) {
        using store_type = typename std::remove_cvref_t<decltype(type)>::type;
        auto const before = disk.after_process_crash();
        for (bool const read_only : {false, true}) {
            auto options = model::test_options();
            options.read_only = read_only;
            auto const db = store_type::open("db", options, disk);
            REQUIRE(!db);
            CHECK(db.error().code == keel::errc::wrong_policy);
            INFO(db.error().message);
            CHECK(db.error().message.find("packed with " + std::string{theirs} + ",") != std::string::npos);
            CHECK(db.error().message.find("reads " + std::string{ours} + ":") != std::string::npos);
            CHECK(db.error().message.find("any_of") != std::string::npos);
            CHECK(db.error().file.ends_with(".tab"));
            CHECK(disk.equal(before, [](auto path) { return path != "db/lock"; }));
        }
    };
    using std::type_identity;
    auto const zstd_disk = packing::closed_store<packing::store<packing::zstd<>>>();
    auto const lz4_disk = packing::closed_store<packing::store<packing::lz4>>();
    check_refused(type_identity<packing::plain_store>{}, zstd_disk, "zstd", "none");
    check_refused(type_identity<packing::store<packing::lz4>>{}, zstd_disk, "zstd", "none, lz4");
    check_refused(type_identity<packing::store<packing::zstd<>>>{}, lz4_disk, "lz4", "none, zstd");
    auto db = packing::opened<packing::reads_all>(zstd_disk);
    packing::check_all(db);
}

TEST_CASE("compression: a store changes its mind by any_of, one table after the other") {
    auto disk = packing::closed_store<packing::plain_store>();
    CHECK(packing::ids_of(disk) == std::map<int, int>{{0, 1}});
    {
        // What nothing packs everybody reads; what is written from here on is packed.
        auto db = packing::opened<packing::store<packing::zstd<>>>(disk);
        packing::check_all(db);
        REQUIRE(db.put("one more", "value"));
        REQUIRE(db.compact());
        REQUIRE(db.erase("one more"));
        REQUIRE(db.close());
    }
    CHECK(packing::ids_of(disk) == std::map<int, int>{{1, 1}});
    {
        auto db = packing::opened<packing::reads_all>(disk);
        packing::check_all(db);
        REQUIRE(db.compact());
        packing::check_all(db);
        CHECK(db.verify()->findings.empty());
        REQUIRE(db.close());
    }
    CHECK(packing::ids_of(disk) == std::map<int, int>{{2, 1}});
    auto db = packing::opened<packing::store<packing::lz4>>(disk);
    packing::check_all(db);
}
