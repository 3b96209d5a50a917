// SPDX-License-Identifier: BSL-1.0
#include <keel/io/schedule.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/io/posix.hpp>

#include <conformance/file_system.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace keel;
using conformance::code_of, conformance::need;
using io::access, io::creation, io::io_call, io::lock_mode, io::memory, io::schedule, io::successor, io::switch_point;

using watched_disk = io::scheduled<memory>;
static_assert(io::file_system<watched_disk>);
static_assert(io::file_system<io::scheduled<io::posix>>);
static_assert(io::file_system<io::scheduled<io::faulty<memory>>>);
static_assert(io::file_system<io::faulty<io::scheduled<memory>>>);

/// What both hooks were told: "open f" before a call, "open f." behind it.
class witness {
public:
    explicit witness(watched_disk& disk) {
        disk.on_call([this](switch_point const& p) { note(p, ""); }, [this](switch_point const& p) { note(p, "."); });
    }
    [[nodiscard]] std::vector<std::string> take() { return std::exchange(seen_, {}); }

private:
    void note(switch_point const& p, char const* end) {
        auto text = std::string{name_of(p.call)} + " " + std::string{p.path};
        if (p.offset != 0 || p.length != 0) text += " " + std::to_string(p.offset) + "+" + std::to_string(p.length);
        seen_.push_back(text + end);
    }
    std::vector<std::string> seen_{};
};
/// A call as both hooks see it.
std::vector<std::string> both(std::string const& call) { return {call, call + "."}; }

struct no_sum {
    void update(byte_view) noexcept {}
};

schedule any_schedule() {
    schedule s;
    s.after_wait = *rc::gen::element(successor::upwards, successor::downwards);
    auto const steps = *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::inRange<std::uint32_t>(1, 1000));
    std::uint64_t at = *rc::gen::inRange<std::uint64_t>(0, 3);
    for (auto const step : steps) {
        s.switches.push_back({at, *rc::gen::inRange<std::uint32_t>(0, 16)});
        at += step;
    }
    return s;
}

} // namespace

TEST_CASE("scheduled: it obeys the laws of file systems") {
    watched_disk disk;
    need(disk.make_directory("/base"));
    conformance::file_system_laws(disk, "/base");
}

TEST_CASE("scheduled: each call on names is told before it is made and after it") {
    watched_disk disk;
    witness seen{disk};
    need(disk.make_directory("d"));
    CHECK(seen.take() == both("make_directory d"));
    auto file = need(disk.open("d/f", access::read_write, creation::must_not_exist));
    CHECK(seen.take() == both("open d/f"));
    need(disk.status("d/f"));
    CHECK(seen.take() == both("status d/f"));
    need(disk.list("d"));
    CHECK(seen.take() == both("list d"));
    need(disk.sync_directory("d"));
    CHECK(seen.take() == both("sync_directory d"));
    need(disk.rename("d/f", "d/g"));
    CHECK(seen.take() == both("rename d/f"));
    need(disk.remove("d/g"));
    CHECK(seen.take() == both("remove d/g"));
    static_cast<void>(disk.boot());
    CHECK(seen.take() == both("boot "));
}

TEST_CASE("scheduled: each call on a file and a mapping is told, with its place in the file") {
    watched_disk disk;
    auto file = need(disk.open("f", access::read_write, creation::must_not_exist));
    witness seen{disk};
    need(file.allocate(4096));
    CHECK(seen.take() == both("allocate f 0+4096"));
    file.punch_hole(512, 1024);
    CHECK(seen.take() == both("punch_hole f 512+1024"));
    std::array<std::byte, 8> bytes{};
    need(file.write(16, bytes));
    CHECK(seen.take() == both("write f 16+8"));
    need(file.read(16, bytes));
    CHECK(seen.take() == both("read f 16+8"));
    need(file.read_uncached(16, bytes));
    CHECK(seen.take() == both("read_uncached f 16+8"));
    need(file.sync());
    CHECK(seen.take() == both("sync f"));
    need(file.status());
    CHECK(seen.take() == both("file_status f"));
    auto mapping = need(file.map(access::read_write));
    CHECK(seen.take() == both("map f"));
    need(mapping.store(24, bytes));
    CHECK(seen.take() == both("store f 24+8"));
    need(mapping.publish(20, 7));
    CHECK(seen.take() == both("publish f 20+4"));
    need(mapping.copy_out(24, bytes));
    CHECK(seen.take() == both("copy_out f 24+8"));
    no_sum sum;
    need(mapping.verify(0, 100, sum));
    CHECK(seen.take() == both("verify f 0+100"));
    need(mapping.sync());
    CHECK(seen.take() == both("mapping_sync f"));
}

TEST_CASE("scheduled: letting go of a lock is told once, and the lock is held until then") {
    watched_disk disk;
    {
        auto held = need(disk.lock("lock", lock_mode::exclusive));
        auto moved = std::move(held);
        bool was_held = false;
        std::vector<io_call> calls;
        disk.on_call([&](switch_point const& p) {
            calls.push_back(p.call);
            was_held = code_of(disk.inner().lock("lock", lock_mode::exclusive)) == errc::locked;
        });
        { auto const last = std::move(moved); }
        CHECK(calls == std::vector{io_call::unlock});
        CHECK(was_held);
        CHECK(disk.inner().lock("lock", lock_mode::exclusive).has_value());
    }
    disk.on_call({});
}

TEST_CASE("scheduled: a call that fails is told as well, and without hooks nothing is") {
    watched_disk disk;
    witness seen{disk};
    CHECK(code_of(disk.open("missing", access::read_only, creation::must_exist)) == errc::not_found);
    CHECK(seen.take() == both("open missing"));
    disk.on_call({});
    CHECK(code_of(disk.status("missing")) == errc::not_found);
    CHECK(seen.take().empty());
}

TEST_CASE("schedule: what is printed is read back") {
    CHECK(to_string(schedule{}).empty());
    CHECK(to_string(schedule{.switches = {{17, 1}, {23, 0}}}) == "17>1,23>0");
    CHECK(to_string(schedule{.switches = {{0, 2}}, .after_wait = successor::downwards}) == "-0>2");
    CHECK(rc::check("print, read back", [] {
        auto const s = any_schedule();
        RC_ASSERT(io::parse_schedule(to_string(s)) == std::optional{s});
    }));
}

TEST_CASE("schedule: other text is none") {
    for (std::string_view const text : {"1", "1>", ">1", "1>2,", ",1>2", "1>2 3>4", "1>2,1>3", "3>1,2>1", "1>2x",
                                        "--1>2", "1>-2", "99999999999999999999>1", "1>99999999999"})
        CHECK_MESSAGE(!io::parse_schedule(text), text);
    CHECK(rc::check("hostile text", [](std::string const& text) { static_cast<void>(io::parse_schedule(text)); }));
}
