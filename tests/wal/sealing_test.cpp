// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/sealing.hpp>

#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// A segment that is left to be sealed behind the next one. tests/crash loses power at every moment of it, because its workloads keep house.

namespace sealing_test {

using keel::KiB;
using faulty = keel::io::faulty<keel::io::memory>;
using keel::io::fault_class, keel::io::fault_kind, keel::io::operation, keel::io::operation_kind;

/// Hears which segments are sealed.
struct seal_listener {
    std::vector<keel::segment_id>* sealed = nullptr;
    void on(keel::observe::segment_sealed const& e) noexcept { sealed->push_back(e.id); }
};
template <class Durability>
using store_of =
    keel::engine<faulty, keel::segment_size<64 * KiB>, Durability, keel::compaction::by_hand, seal_listener>;

std::string name_of_key(int i) { return "key" + std::to_string(i); }

template <class Durability>
struct scene {
    using store = store_of<Durability>;

    scene() {
        REQUIRE(db);
        disk.on_operation([this](operation const& op) {
            if (also) also(op);
            // What a segment gets when it becomes the one that is written to.
            bool const header = op.kind == operation_kind::write && op.offset == 0 && op.at == operation::phase::done;
            begun += header && op.path.ends_with(".seg");
        });
        put_one();
    }
    ~scene() { disk.on_operation({}); }

    void put_one() {
        REQUIRE(db->put(name_of_key(keys), std::string(900, 'v')));
        ++keys;
    }
    /// Puts until another segment is written to.
    void fill() {
        for (auto const before = begun.load(); begun == before;) put_one();
    }
    /// What is there after the machine stopped, whatever it kept.
    void check_after(keel::io::memory const& left) {
        std::vector<keel::segment_id> ignored;
        auto again = store::open("db", model::test_options(), faulty{left}, seal_listener{&ignored});
        REQUIRE(again);
        CHECK(again->recovery().findings.empty());
        CHECK(again->recovery().lost_records == 0);
        for (int i = 0; i < keys; ++i) CHECK((*again->get(name_of_key(i))).has_value());
        REQUIRE(again->put("more", "1"));
        REQUIRE(again->close());
    }

    keel::io::memory disk{};
    faulty fs{disk};
    std::vector<keel::segment_id> sealed{};
    keel::result<store> db{store::open("db", model::test_options(), fs, seal_listener{&sealed})};
    int keys = 0;
    std::atomic<int> begun{0};
    std::function<void(operation const&)> also{};
};

TEST_CASE_TEMPLATE("sealing: where somebody keeps house, no put waits for a segment's seal", Durability,
                   keel::durability::os_buffered, keel::durability::group_commit) {
    scene<Durability> s;
    s.fill();
    s.db->housekeep(false);
    CHECK(s.sealed.size() == 1); // nobody had come before: the put that filled it sealed it
    s.fill();
    CHECK(s.sealed.size() == 1);
    s.check_after(s.disk.after_process_crash());
    if constexpr (Durability::path == keel::write_path::written)
        s.check_after(s.disk.after_power_loss({.what = keel::io::keep::oldest}));
    s.db->housekeep(false);
    CHECK(s.sealed.size() == 2);
    for (int i = 0; i < s.keys; ++i) CHECK((*s.db->get(name_of_key(i))).has_value());
    s.fill();
    CHECK(s.sealed.size() == 2);
    s.fill(); // one at a time is left
    s.db->housekeep(false);
    CHECK(s.sealed.size() == 4);
    REQUIRE(s.db->close());
    CHECK(s.sealed.size() == 5);
    s.check_after(s.disk);
}

TEST_CASE_TEMPLATE("sealing: compact(), sync() and close() find a segment that was left", Durability,
                   keel::durability::os_buffered, keel::durability::group_commit) {
    for (int what = 0; what < 3; ++what) {
        scene<Durability> s;
        s.db->housekeep(false);
        s.fill();
        CHECK(s.sealed.empty());
        if (what == 0) REQUIRE(s.db->compact());
        if (what == 1) REQUIRE(s.db->sync());
        REQUIRE(s.db->close());
        CHECK(s.sealed.size() == (what == 0 ? 3 : 2)); // a merge ends the segment that is written to
        s.check_after(s.disk);
    }
}

TEST_CASE_TEMPLATE("sealing: writes go on beside a seal, and a reader of the records that are being sealed", Durability,
                   keel::durability::os_buffered, keel::durability::group_commit) {
    scene<Durability> s;
    s.db->housekeep(false);
    s.fill();
    auto const before = s.keys;
    std::atomic<bool> in_seal{false};
    std::atomic<bool> go_on{false};
    std::atomic<std::thread::id> keeps_house{};
    s.also = [&](operation const& op) {
        if (op.kind != operation_kind::write || std::this_thread::get_id() != keeps_house) return;
        if (in_seal.exchange(true)) return;
        while (!go_on) std::this_thread::yield();
    };
    std::jthread house{[&] {
        keeps_house = std::this_thread::get_id();
        s.db->housekeep(false);
    }};
    while (!in_seal) std::this_thread::yield();
    for (; s.keys < before + 20; ++s.keys) REQUIRE(s.db->put(name_of_key(s.keys), "beside"));
    for (int i = 0; i < s.keys; ++i) CHECK((*s.db->get(name_of_key(i))).has_value());
    CHECK(s.sealed.empty());
    go_on = true;
    house.join();
    s.also = {};
    CHECK(s.sealed.size() == 1);
    for (int i = 0; i < s.keys; ++i) CHECK((*s.db->get(name_of_key(i))).has_value());
    s.check_after(s.disk.after_process_crash());
    REQUIRE(s.db->close());
}

TEST_CASE_TEMPLATE("sealing: whatever of it fails is told, nothing is lost, and the store goes on", Durability,
                   keel::durability::os_buffered, keel::durability::group_commit) {
    int in_file = 0, in_manifest = 0;
    for (auto const kind : {fault_kind::fail, fault_kind::fail_sync, fault_kind::no_space})
        for (std::uint64_t n = 1;; ++n) {
            scene<Durability> s;
            s.db->housekeep(false);
            s.fill();
            s.fs.set_plan({{{.kind = kind,
                             .on = kind == fault_kind::fail_sync ? fault_class::sync : fault_class::write,
                             .at = n,
                             .count = keel::io::forever}}});
            auto const writable = [&] { return s.db->state() != keel::engine_state::read_only; };
            s.db->housekeep(false);
            if (!s.sealed.empty()) break; // what was hit came behind it
            REQUIRE(s.fs.fired() != 0);
            bool const manifest = s.fs.log().front().path.find("manifest") != std::string::npos;
            CHECK(writable() == !manifest);
            CHECK(s.db->state() != keel::engine_state::healthy);
            CHECK(s.sealed.empty());
            ++(manifest ? in_manifest : in_file);
            if (!manifest) CHECK(s.db->state_reason().find("could not be sealed") != std::string::npos);
            if (manifest) CHECK_FALSE(s.db->put("a", "1"));
            if (manifest) CHECK_FALSE(s.db->resume());
            for (int i = 0; i < s.keys; ++i) CHECK((*s.db->get(name_of_key(i))).has_value());
            s.check_after(s.disk.after_process_crash());
            s.fs.set_plan({});
            s.fs.refill();
            REQUIRE(s.db->resume());
            s.db->housekeep(false); // delivers events
            CHECK(s.sealed.size() == (manifest ? 1U : 0U));
            s.fill();
            s.check_after(s.disk.after_process_crash());
            REQUIRE(s.db->compact());
            for (int i = 0; i < s.keys; ++i) CHECK((*s.db->get(name_of_key(i))).has_value());
            REQUIRE(s.db->close());
            s.check_after(s.disk);
        }
    CHECK(in_file >= 5);
    CHECK(in_manifest >= 2);
}

} // namespace sealing_test
