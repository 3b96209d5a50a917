// SPDX-License-Identifier: BSL-1.0
#include <keel/io/fault.hpp>

#include <keel/io/memory.hpp>

#include <conformance/file_system.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace keel;
using conformance::code_of, conformance::need;
using io::access, io::creation, io::fault, io::fault_class, io::fault_kind, io::fault_plan, io::forever, io::keep,
    io::memory;

using disk_type = io::faulty<memory>;
static_assert(io::file_system<disk_type>);

/// A file with durable bytes and a durable name, opened while the plan is empty; then the plan is set.
disk_type::file planned_file(disk_type& disk, std::string_view text, std::vector<fault> faults) {
    need(disk.inner().replace("f", as_bytes(text)));
    auto file = need(disk.open("f", access::read_write, creation::must_exist));
    disk.set_plan({std::move(faults)});
    return file;
}

std::string text_of(disk_type const& disk, std::string const& path = "f") {
    auto const bytes = need(disk.inner().contents(path));
    return std::string{as_text(bytes)};
}

std::string read_all(disk_type::file const& file, std::size_t length) {
    std::string text(length, '?');
    CHECK(need(file.read(0, std::as_writable_bytes(std::span{text}))) == length);
    return text;
}

int bits_between(std::string const& a, std::string const& b) {
    REQUIRE(a.size() == b.size());
    int bits = 0;
    for (std::size_t i = 0; i < a.size(); ++i) bits += std::popcount(static_cast<unsigned char>(a[i] ^ b[i]));
    return bits;
}

/// Whether exactly this fault hit, once.
bool hit_once(disk_type const& disk, fault_kind kind, fault_class on, std::uint64_t operation,
              std::uint64_t offset = 0) {
    return disk.fired() == 1 && disk.log() == std::vector<io::fired_fault>{{kind, on, operation, "f", offset}};
}

} // namespace

TEST_CASE("faulty: without a plan it obeys the laws of a file system, and counts") {
    disk_type disk;
    need(disk.make_directory("/base"));
    CHECK(disk.operations(fault_class::directory) == 1);
    conformance::file_system_laws(disk, "/base");
    CHECK(disk.fired() == 0);
    CHECK(disk.plan().faults.empty());
}

TEST_CASE("faulty: counts each operation once, in its class and among all") {
    disk_type disk;
    need(disk.make_directory("d"));
    auto file = need(disk.open("d/f", access::read_write, creation::if_missing));
    need(file.write(0, as_bytes("12345678")));
    need(file.allocate(100));
    file.punch_hole(50, 8);
    need(file.sync());
    auto map = need(file.map(access::read_write));
    need(map.store(0, as_bytes("x")));
    need(map.publish(4, 1));
    need(map.sync());
    std::array<std::byte, 4> room{};
    conformance::witness_sum sum;
    need(map.copy_out(0, room));
    need(map.verify(0, 4, sum));
    need(file.read(0, room));
    need(file.read_uncached(0, room));
    need(file.status());
    auto const held = need(disk.lock("lock", io::lock_mode::exclusive));
    need(disk.rename("d/f", "d/g"));
    need(disk.status("d/g"));
    need(disk.list("d"));
    need(disk.remove("d/g"));
    need(disk.sync_directory("d"));
    CHECK(disk.operations(fault_class::open) == 3);
    CHECK(disk.operations(fault_class::write) == 3);
    CHECK(disk.operations(fault_class::store) == 2);
    CHECK(disk.operations(fault_class::sync) == 2);
    CHECK(disk.operations(fault_class::read) == 5);
    CHECK(disk.operations(fault_class::directory) == 6);
    CHECK(disk.operations() == 21);
    disk_type const copy = disk;
    CHECK(copy.operations() == 21);
    disk.set_plan({});
    CHECK(copy.operations() == 0);
}

TEST_CASE("faulty: a hole that a fault hits is not made, and nobody is told but the log") {
    disk_type disk;
    auto file = need(disk.open("f", access::read_write, creation::if_missing));
    need(file.write(0, as_bytes("12345678")));
    disk.set_plan({{{.kind = fault_kind::fail, .on = fault_class::write, .at = 1}}});
    file.punch_hole(2, 4);
    CHECK(disk.log().size() == 1);
    file.punch_hole(4, 4);
    std::array<std::byte, 8> back{};
    need(file.read(0, back));
    CHECK(as_text(byte_view{back}) == std::string_view{"1234\0\0\0\0", 8});
}

TEST_CASE("faulty: fail hits the operations its plan names and no other, whatever they are") {
    using step = std::function<bool(disk_type&, disk_type::file&, disk_type::mapping&)>;
    std::array<std::byte, 4> room{};
    conformance::witness_sum sum;
    std::vector<std::pair<fault_class, step>> const steps{
        {fault_class::write, [](auto&, auto& f, auto&) { return f.write(0, as_bytes("x")).has_value(); }},
        {fault_class::write, [](auto&, auto& f, auto&) { return f.allocate(99).has_value(); }},
        {fault_class::sync, [](auto&, auto& f, auto&) { return f.sync().has_value(); }},
        {fault_class::sync, [](auto&, auto&, auto& m) { return m.sync().has_value(); }},
        {fault_class::store, [](auto&, auto&, auto& m) { return m.store(0, as_bytes("x")).has_value(); }},
        {fault_class::store, [](auto&, auto&, auto& m) { return m.publish(0, 1).has_value(); }},
        {fault_class::read, [&](auto&, auto& f, auto&) { return f.read(0, room).has_value(); }},
        {fault_class::read, [&](auto&, auto& f, auto&) { return f.read_uncached(0, room).has_value(); }},
        {fault_class::read, [&](auto&, auto& f, auto&) { return f.status().has_value(); }},
        {fault_class::read, [&](auto&, auto&, auto& m) { return m.copy_out(0, room).has_value(); }},
        {fault_class::read, [&](auto&, auto&, auto& m) { return m.verify(0, 4, sum).has_value(); }},
        {fault_class::open, [](auto&, auto& f, auto&) { return f.map(access::read_only).has_value(); }},
        {fault_class::open,
         [](auto& d, auto&, auto&) { return d.open("f", access::read_only, creation::must_exist).has_value(); }},
        {fault_class::open, [](auto& d, auto&, auto&) { return d.lock("f", io::lock_mode::shared).has_value(); }},
        {fault_class::directory, [](auto& d, auto&, auto&) { return d.list("").has_value(); }},
        {fault_class::directory, [](auto& d, auto&, auto&) { return d.status("f").has_value(); }},
        {fault_class::directory, [](auto& d, auto&, auto&) { return d.make_directory("d").has_value(); }},
        {fault_class::directory, [](auto& d, auto&, auto&) { return d.rename("d", "e").has_value(); }},
        {fault_class::directory, [](auto& d, auto&, auto&) { return d.remove("e").has_value(); }},
        {fault_class::directory, [](auto& d, auto&, auto&) { return d.sync_directory("").has_value(); }},
    };
    for (std::size_t at = 1; at <= steps.size(); ++at) {
        disk_type disk;
        auto file = planned_file(disk, "0123456789", {});
        auto map = need(file.map(access::read_write));
        disk.set_plan({{{.kind = fault_kind::fail, .at = at}}});
        std::size_t first_failed = 0;
        for (std::size_t i = 1; i <= steps.size() && first_failed == 0; ++i)
            if (!steps[i - 1].second(disk, file, map)) first_failed = i;
        CHECK(first_failed == at);
        REQUIRE(disk.fired() == 1);
        CHECK(disk.log()[0].on == steps[at - 1].first);
        CHECK(disk.log()[0].operation == at);
        CHECK(steps[at - 1].second(disk, file, map)); // count is one: the next try succeeds
    }
}

TEST_CASE("faulty: a failed operation does nothing, and its error is one of the machine") {
    disk_type disk;
    auto file = planned_file(disk, "text", {{fault_kind::fail, fault_class::write, 2, 2}});
    need(file.write(0, as_bytes("T")));
    auto const failed = file.write(3, as_bytes("Z"));
    REQUIRE(code_of(failed) == errc::io_error);
    CHECK(failed.error().file == "f");
    CHECK(failed.error().offset == 3);
    CHECK(failed.error().cause == EIO);
    CHECK(text_of(disk) == "Text");
    CHECK(code_of(file.allocate(9)) == errc::io_error);
    need(file.write(3, as_bytes("T")));
    CHECK(disk.fired() == 2);
}

TEST_CASE("faulty: a full disk refuses all that needs room until it is refilled, and lets the rest through") {
    disk_type disk;
    auto file = planned_file(disk, "text", {});
    auto map = need(file.map(access::read_write));
    disk.set_plan({{{.kind = fault_kind::no_space, .at = 2, .count = forever}}});
    need(file.write(0, as_bytes("T")));
    auto const full = file.write(0, as_bytes("x"));
    REQUIRE(code_of(full) == errc::no_space);
    CHECK(full.error().retryable);
    CHECK(full.error().cause == ENOSPC);
    CHECK(code_of(file.allocate(9)) == errc::no_space);
    CHECK(code_of(map.store(0, as_bytes("x"))) == errc::no_space);
    CHECK(code_of(map.publish(0, 1)) == errc::no_space);
    CHECK(code_of(disk.make_directory("d")) == errc::no_space);
    CHECK(code_of(disk.open("g", access::read_write, creation::if_missing)) == errc::no_space);
    CHECK(code_of(disk.lock("lock", io::lock_mode::exclusive)) == errc::no_space);
    CHECK(code_of(disk.rename("f", "g")) == errc::no_space);
    CHECK(read_all(file, 4) == "Text");
    need(file.sync());
    need(disk.sync_directory(""));
    CHECK(disk.fired() == 8);
    disk.refill();
    need(file.write(0, as_bytes("x")));
    need(disk.rename("f", "g"));
    need(disk.remove("g"));
    CHECK(disk.fired() == 8);
}

TEST_CASE("faulty: a disk that is full for some operations has room again afterwards") {
    disk_type disk;
    auto file =
        planned_file(disk, "text",
                     {{fault_kind::no_space, fault_class::write, 1, 2}, {fault_kind::no_space, fault_class::write, 5}});
    CHECK(code_of(file.write(0, as_bytes("x"))) == errc::no_space);
    CHECK(code_of(file.write(0, as_bytes("x"))) == errc::no_space);
    need(file.write(0, as_bytes("x")));
    disk.refill(); // what has not begun is not over
    need(file.write(0, as_bytes("x")));
    CHECK(code_of(file.write(0, as_bytes("x"))) == errc::no_space);
}

TEST_CASE("faulty: a short write leaves a prefix and an error, in a file and in a mapping") {
    std::set<std::size_t> lengths;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        disk_type disk;
        auto file = planned_file(disk, "..........", {{fault_kind::short_write, fault_class::any, 1, 1, seed}});
        CHECK(code_of(file.write(2, as_bytes("12345678"))) == errc::io_error);
        auto const kept =
            text_of(disk).find_last_not_of('.') == std::string::npos ? 0 : text_of(disk).find_last_not_of('.') - 1;
        lengths.insert(kept);
        CHECK(text_of(disk) == ".." + std::string("12345678").substr(0, kept) + std::string(8 - kept, '.'));
        CHECK(hit_once(disk, fault_kind::short_write, fault_class::write, 1, 2));
        disk_type other;
        auto map = need(planned_file(other, "..........", {}).map(access::read_write));
        other.set_plan({{{fault_kind::short_write, fault_class::store, 1, 1, seed}}});
        CHECK(code_of(map.store(2, as_bytes("12345678"))) == errc::io_error);
        CHECK(text_of(other) == text_of(disk));
        CHECK(hit_once(other, fault_kind::short_write, fault_class::store, 1, 2));
    }
    CHECK(lengths == std::set<std::size_t>{0, 1, 2, 3, 4, 5, 6, 7});
}

TEST_CASE("faulty: after a failed sync the pages look clean, so a good one does not save them; a plain failure leaves "
          "them dirty") {
    for (bool const mapped : {false, true}) {
        for (auto const kind : {fault_kind::fail_sync, fault_kind::fail}) {
            disk_type disk;
            auto file = planned_file(disk, "old", {});
            auto map = need(file.map(access::read_write));
            disk.set_plan({{{kind, fault_class::sync, 1}}});
            need(file.write(0, as_bytes("new")));
            CHECK(code_of(mapped ? map.sync() : file.sync()) == errc::io_error);
            need(mapped ? map.sync() : file.sync());
            CHECK(hit_once(disk, kind, fault_class::sync, 2));
            auto const left = need(disk.inner().after_power_loss({keep::oldest}).contents("f"));
            CHECK(as_text(left) == (kind == fault_kind::fail_sync ? "old" : "new"));
        }
    }
}

TEST_CASE("faulty: a sync of a folder that fails, or lies, leaves the names unsynced") {
    for (auto const kind : {fault_kind::fail_sync, fault_kind::lose_sync, fault_kind::fail}) {
        disk_type disk;
        need(disk.open("f", access::read_write, creation::if_missing));
        disk.set_plan({{{kind, fault_class::directory, 1}}});
        CHECK(disk.sync_directory("").has_value() == (kind == fault_kind::lose_sync));
        CHECK(disk.fired() == 1);
        CHECK(disk.inner().after_power_loss({keep::oldest}).files().empty());
        need(disk.sync_directory(""));
        CHECK(disk.inner().after_power_loss({keep::oldest}).files().size() == 1);
    }
}

TEST_CASE("faulty: a lost sync reports success and makes nothing durable") {
    disk_type disk;
    auto file = planned_file(disk, "old", {{fault_kind::lose_sync, fault_class::sync, 1}});
    need(file.write(0, as_bytes("new")));
    need(file.sync());
    CHECK(hit_once(disk, fault_kind::lose_sync, fault_class::sync, 2));
    CHECK(as_text(need(disk.inner().after_power_loss({keep::oldest}).contents("f"))) == "old");
    need(file.sync());
    CHECK(as_text(need(disk.inner().after_power_loss({keep::oldest}).contents("f"))) == "new");
}

TEST_CASE("faulty: a flipped read is wrong in one bit, once, and the file is not") {
    disk_type disk;
    std::string const text = "some text to read";
    auto file = planned_file(disk, text, {});
    auto const map = need(file.map(access::read_only));
    disk.set_plan({{{fault_kind::flip_read, fault_class::read, 2}}});
    CHECK(read_all(file, text.size()) == text);
    CHECK(bits_between(read_all(file, text.size()), text) == 1);
    CHECK(read_all(file, text.size()) == text);
    CHECK(hit_once(disk, fault_kind::flip_read, fault_class::read, 2));

    disk.set_plan({{{fault_kind::flip_read, fault_class::read, 1, 2}}});
    std::string copy(text.size(), '?');
    need(map.copy_out(0, std::as_writable_bytes(std::span{copy})));
    CHECK(bits_between(copy, text) == 1);
    conformance::witness_sum wrong, right;
    need(map.verify(0, text.size(), wrong));
    need(map.verify(0, text.size(), right));
    CHECK(right.value() == checksum::over<conformance::witness_sum>(as_bytes(text)));
    CHECK(wrong.value() != right.value());
    CHECK(disk.fired() == 2);
}

TEST_CASE("faulty: a read past the cache sees through a flipped one") {
    disk_type disk;
    auto file = planned_file(disk, "text", {{fault_kind::flip_read, fault_class::read, 1, forever}});
    CHECK(read_all(file, 4) != "text");
    std::string uncached(4, '?');
    need(file.read_uncached(0, std::as_writable_bytes(std::span{uncached})));
    CHECK(uncached == "text");
    CHECK(disk.fired() == 1);
}

TEST_CASE("faulty: a flipped write stores one wrong bit, for good") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        disk_type disk;
        auto file = planned_file(disk, "........", {{fault_kind::flip_write, fault_class::write, 1, 1, seed}});
        need(file.write(0, as_bytes("12345678")));
        CHECK(bits_between(text_of(disk), "12345678") == 1);
        CHECK(hit_once(disk, fault_kind::flip_write, fault_class::write, 1));
        auto map = need(file.map(access::read_write));
        disk.set_plan({{{fault_kind::flip_write, fault_class::store, 1, 2, seed}}});
        need(map.store(0, as_bytes("abcdefgh")));
        CHECK(bits_between(text_of(disk), "abcdefgh") == 1);
        need(map.publish(4, std::bit_cast<std::uint32_t>(std::array{'1', '2', '3', '4'})));
        CHECK(bits_between(text_of(disk).substr(4), "1234") == 1);
        CHECK(disk.fired() == 2);
    }
}

TEST_CASE("faulty: a lost write reports success and changes nothing") {
    disk_type disk;
    auto file = planned_file(disk, "text", {});
    auto map = need(file.map(access::read_write));
    disk.set_plan({{{.kind = fault_kind::lose_write, .count = 3}}});
    need(file.write(1, as_bytes("EXT and more")));
    need(map.store(0, as_bytes("T")));
    need(map.publish(0, 7));
    CHECK(text_of(disk) == "text");
    CHECK(disk.fired() == 3);
    CHECK(disk.log()[0] == io::fired_fault{fault_kind::lose_write, fault_class::write, 1, "f", 1});
    need(file.write(0, as_bytes("T")));
    CHECK(text_of(disk) == "Text");
}

TEST_CASE("faulty: a misdirected write goes to another place in the file, a multiple of 512 away") {
    std::set<std::size_t> places;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        disk_type disk;
        auto file = planned_file(disk, std::string(4 * 512 + 100, '.'),
                                 {{fault_kind::misdirect_write, fault_class::any, 1, 2, seed}});
        need(file.write(600, as_bytes("where")));
        auto const found = text_of(disk).find("where");
        REQUIRE(found != std::string::npos);
        places.insert(found);
        CHECK(hit_once(disk, fault_kind::misdirect_write, fault_class::write, 1, 600));
        CHECK(text_of(disk).size() == 4 * 512 + 100);
    }
    CHECK(places == std::set<std::size_t>{88, 1112, 1624, 2136});
}

TEST_CASE("faulty: where there is no other place, a misdirected write goes behind the end, a store stays") {
    disk_type disk;
    auto file = planned_file(disk, "text", {});
    auto map = need(file.map(access::read_write));
    disk.set_plan({{{.kind = fault_kind::misdirect_write, .count = forever}}});
    need(map.store(0, as_bytes("T")));
    CHECK(text_of(disk) == "Text");
    CHECK(disk.fired() == 0);
    need(file.write(0, as_bytes("where")));
    CHECK(text_of(disk).substr(0, 4) == "Text");
    CHECK(text_of(disk).find("where") % 512 == 0);
    CHECK(disk.fired() == 1);
}

TEST_CASE("faulty: a repeated write puts an older one back over what has replaced it") {
    for (bool const mapped : {false, true}) {
        disk_type disk;
        auto file = planned_file(disk, "............", {});
        auto map = need(file.map(access::read_write));
        disk.set_plan({{{.kind = fault_kind::repeat_write, .at = 3, .count = forever}}});
        auto const change = [&](std::uint64_t offset, std::string_view text) {
            need(mapped ? map.store(offset, as_bytes(text)) : file.write(offset, as_bytes(text)));
        };
        change(0, "older");
        change(0, "newer");
        CHECK(text_of(disk) == "newer.......");
        change(8, "more");
        CHECK(text_of(disk) == "older...more");
        CHECK(hit_once(disk, fault_kind::repeat_write, mapped ? fault_class::store : fault_class::write, 3, 0));
    }
}

TEST_CASE("faulty: writes to another file do not come back, and nothing hits before something was overwritten") {
    disk_type disk;
    auto file = planned_file(disk, "....", {{.kind = fault_kind::repeat_write, .count = forever}});
    auto other = need(disk.open("g", access::read_write, creation::if_missing));
    need(file.write(0, as_bytes("aaaa")));
    need(other.write(0, as_bytes("bbbb")));
    need(other.write(4, as_bytes("cccc")));
    CHECK(disk.fired() == 0);
    CHECK(text_of(disk) == "aaaa");
    CHECK(text_of(disk, "g") == "bbbbcccc");
}

TEST_CASE("faulty: the first fault of the plan that fits hits, and one that does not fit is spared") {
    disk_type disk;
    auto file = planned_file(disk, "text",
                             {{.kind = fault_kind::flip_read, .at = 1},
                              {.kind = fault_kind::fail_sync, .at = 1},
                              {.kind = fault_kind::lose_write, .at = 1},
                              {.kind = fault_kind::fail, .at = 1}});
    need(file.write(0, as_bytes("T")));
    CHECK(hit_once(disk, fault_kind::lose_write, fault_class::write, 1));
    need(file.sync());
    CHECK(disk.fired() == 1);
}

TEST_CASE("faulty: a random plan is the same for the same seed, keeps to its bounds, and reaches every kind") {
    std::set<fault_kind> kinds;
    std::set<fault_class> classes;
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
        auto const plan = fault_plan::random(seed), again = fault_plan::random(seed);
        REQUIRE(!plan.faults.empty());
        CHECK(plan.faults.size() <= 3);
        REQUIRE(plan.faults.size() == again.faults.size());
        for (std::size_t i = 0; i < plan.faults.size(); ++i) {
            CHECK(to_string(plan.faults[i]) == to_string(again.faults[i]));
            CHECK(plan.faults[i].at >= 1);
            CHECK(plan.faults[i].at <= 100);
            kinds.insert(plan.faults[i].kind);
            classes.insert(plan.faults[i].on);
        }
        auto const chosen = fault_plan::random(seed,
                                               {.count_max = 1, .operations = 5, .kinds = {fault_kind::lose_sync}});
        CHECK(chosen.faults.size() == 1);
        CHECK(chosen.faults[0].kind == fault_kind::lose_sync);
        CHECK(chosen.faults[0].at <= 5);
    }
    CHECK(kinds.size() == io::fault_kinds);
    CHECK(classes.size() == io::fault_classes);
}

TEST_CASE("faulty: the same plan on the same steps gives the same log and the same disk; every kind hits in some run") {
    auto const run = [](std::uint64_t seed) {
        disk_type disk;
        need(disk.inner().replace("f", as_bytes(std::string(4096, '.'))));
        disk.set_plan(fault_plan::random(seed, {.operations = 10}));
        auto const path = std::string{"f"};
        if (auto file = disk.open(path, access::read_write, creation::if_missing)) {
            auto map = file->map(access::read_write);
            for (std::uint64_t i = 0; i < 12; ++i) {
                std::array<std::byte, 64> room{};
                static_cast<void>(file->write(i % 5 * 100, as_bytes("write " + std::to_string(i))));
                if (map) static_cast<void>(map->store(i % 3 * 50, as_bytes("store " + std::to_string(i))));
                static_cast<void>(file->read(i * 10, room));
                static_cast<void>(i % 2 == 0 ? file->sync() : disk.sync_directory(""));
            }
        }
        return disk;
    };
    std::set<fault_kind> kinds;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        auto const one = run(seed), two = run(seed);
        CHECK(one.log() == two.log());
        CHECK(one.inner().equal(two.inner()));
        for (auto const& fired : one.log()) kinds.insert(fired.kind);
    }
    CHECK(kinds.size() == io::fault_kinds);
}

TEST_CASE("faulty: plans and what they did can be told to a person") {
    CHECK(io::to_string(fault{fault_kind::lose_write, fault_class::write, 7, 3, 5}) ==
          "lose_write on write 7 to 9, seed 5");
    CHECK(io::to_string(fault{fault_kind::no_space, fault_class::any, 2, forever, 0}) ==
          "no_space on any 2 and later, seed 0");
    CHECK(io::to_string(io::fired_fault{fault_kind::fail, fault_class::open, 4, "log/1", 0}) ==
          "fail hit operation 4 (open, log/1, offset 0)");
}

TEST_CASE("faulty: a plan may change while threads work") {
    disk_type disk;
    auto file = planned_file(disk, std::string(4096, '.'), {});
    std::thread writer{[&] {
        for (std::uint64_t i = 0; i < 500; ++i) static_cast<void>(file.write(i, as_bytes("text")));
    }};
    std::thread reader{[&] {
        std::array<std::byte, 64> room{};
        for (std::uint64_t i = 0; i < 500; ++i) static_cast<void>(file.read(i, room));
    }};
    for (int i = 0; i < 100; ++i)
        disk.set_plan({{{.kind = fault_kind::repeat_write, .count = forever}, {.kind = fault_kind::fail}}});
    writer.join();
    reader.join();
    disk.set_plan({{{.kind = fault_kind::fail}}});
    CHECK(code_of(file.sync()) == errc::io_error);
    CHECK(disk.fired() == 1);
}
