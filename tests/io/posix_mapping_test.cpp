// SPDX-License-Identifier: BSL-1.0
#include <keel/io/posix.hpp>

#include <conformance/file_system.hpp>
#include <io/posix_folder.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

namespace {

using keel::errc;
using keel::conformance::code_of, keel::conformance::mapped_text, keel::conformance::need, keel::conformance::new_file,
    keel::conformance::witness_sum;
using keel::io::access, keel::io::creation;
using keel::tests::in_child, keel::tests::posix_folder;

keel::io::posix mapping_machine;

std::uint64_t page_bytes() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

/// A mapping of four pages of 'm' whose file has been cut to one.
struct cut_mapping {
    posix_folder folder{};
    std::string path = folder / "file";
    keel::io::posix::mapping map = make();

    keel::io::posix::mapping make() const {
        auto file = new_file(mapping_machine, path, std::string(4 * page_bytes(), 'm'));
        auto mapped = need(file.map(access::read_write));
        if (::truncate(path.c_str(), static_cast<off_t>(page_bytes())) != 0) FAIL("cannot cut the file");
        return mapped;
    }
};

/// What an error has to say about bytes that are gone: in which file, and a place within what was asked for.
void check_lost(keel::result<void> const& got, std::string const& path, std::uint64_t offset, std::uint64_t length) {
    REQUIRE(code_of(got) == errc::io_error);
    CHECK(got.error().file == path);
    CHECK(got.error().offset >= offset);
    CHECK(got.error().offset < offset + length);
    CHECK(got.error().cause == EIO);
    CHECK(got.error().message.find("cut short") != std::string::npos);
}

bool bus_is_blocked() {
    sigset_t blocked;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    return ::sigismember(&blocked, SIGBUS) == 1;
}

struct host_handler {
    static inline std::atomic<int> calls{0};
    static void count_and_leave(int) {
        calls.fetch_add(1);
        ::_exit(42);
    }
    static void count(int) { calls.fetch_add(1); }
};

/// As if the host had had this handler when keel's was installed.
void set_previous(void (*handler)(int)) {
    keel::io::detail::install_guard();
    keel::io::detail::guard_previous = {};
    keel::io::detail::guard_previous.sa_handler = handler;
}

/// A fault that is none of keel's: a foreign mapping of an empty file is touched.
void touch_foreign_hole() {
    auto* const holder = std::tmpfile();
    auto* const bytes = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, ::fileno(holder), 0);
    static_cast<void>(*static_cast<char const volatile*>(bytes));
}

} // namespace

TEST_CASE("posix mapping: pages that were let go, and handed to the disk, are what was stored") {
    posix_folder const folder;
    auto const path = folder / "file";
    auto const bytes = 4 * page_bytes();
    auto file = new_file(mapping_machine, path, std::string(bytes, 'o'));
    auto map = need(file.map(access::read_write));
    std::string const text(bytes, 'n');
    REQUIRE(map.store(1, keel::as_bytes(text).subspan(1)));
    file.begin_sync(map, 0, 2 * page_bytes() + 7); // not the last page of these: it is not whole
    map.release_pages(page_bytes() - 1, ~std::uint64_t{0} / 2);
    REQUIRE(map.store(page_bytes(), keel::as_bytes("again")));
    REQUIRE(map.sync());
    auto expected = 'o' + text.substr(1);
    expected.replace(page_bytes(), 5, "again");
    CHECK(mapped_text(map, 0, bytes) == expected);
    std::string read(bytes, ' ');
    CHECK(need(file.read(0, keel::byte_span{reinterpret_cast<std::byte*>(read.data()), read.size()})) == bytes);
    CHECK(read == expected);
}

TEST_CASE("posix mapping: copying out of a file that was cut short is an error with file and offset, and the rest "
          "still reads") {
    cut_mapping cut;
    auto const page = page_bytes();
    std::string out(100, '?');
    auto const room = std::as_writable_bytes(std::span{out});
    check_lost(cut.map.copy_out(2 * page + 17, room), cut.path, 2 * page + 17, 100);
    check_lost(cut.map.copy_out(page - 50, room), cut.path, page, 50);
    CHECK(mapped_text(cut.map, page - 100, 100) == std::string(100, 'm'));
}

TEST_CASE("posix mapping: storing and publishing into a file that was cut short are errors, and the rest can still be "
          "stored") {
    cut_mapping cut;
    auto const page = page_bytes();
    check_lost(cut.map.store(3 * page + 5, keel::as_bytes("lost")), cut.path, 3 * page + 5, 4);
    check_lost(cut.map.publish(2 * page + 8, 7), cut.path, 2 * page + 8, 4);
    need(cut.map.store(5, keel::as_bytes("kept")));
    need(cut.map.publish(12, 0x6d6d6d6d));
    CHECK(mapped_text(cut.map, 4, 6) == "mkeptm");
}

TEST_CASE("posix mapping: verifying a file that was cut short is an error, as often as it is tried") {
    cut_mapping cut;
    auto const page = page_bytes();
    for (int i = 0; i < 1000; ++i) {
        witness_sum sum;
        auto const got = cut.map.verify(0, 4 * page, sum);
        REQUIRE(code_of(got) == errc::io_error);
        CHECK(got.error().offset == page);
    }
    witness_sum sum;
    need(cut.map.verify(0, page, sum));
    CHECK(sum.value() == keel::checksum::over<witness_sum>(keel::as_bytes(std::string(page, 'm'))));
}

TEST_CASE("posix mapping: a file that grows back is readable again") {
    cut_mapping cut;
    auto const page = page_bytes();
    std::array<std::byte, 4> out{};
    check_lost(cut.map.copy_out(2 * page, out), cut.path, 2 * page, 4);
    REQUIRE(::truncate(cut.path.c_str(), static_cast<off_t>(4 * page)) == 0);
    CHECK(mapped_text(cut.map, 2 * page, 4) == std::string(4, '\0'));
}

TEST_CASE("posix mapping: a fault leaves signal mask, rounding mode and alternate stack as they were") {
    cut_mapping cut;
    std::vector<std::byte> stack(64 * 1024);
    stack_t alternate{};
    alternate.ss_sp = stack.data();
    alternate.ss_size = stack.size();
    stack_t before{};
    REQUIRE(::sigaltstack(&alternate, &before) == 0);
    REQUIRE(std::fesetround(FE_UPWARD) == 0);
    std::array<std::byte, 4> out{};
    for (int i = 0; i < 3; ++i) check_lost(cut.map.copy_out(page_bytes(), out), cut.path, page_bytes(), 4);
    CHECK(std::fegetround() == FE_UPWARD);
    std::fesetround(FE_TONEAREST);
    CHECK(!bus_is_blocked());
    stack_t now{};
    ::sigaltstack(nullptr, &now);
    CHECK((now.ss_flags & SS_ONSTACK) == 0);
    ::sigaltstack(&before, nullptr);
}

TEST_CASE("posix mapping: threads that fault at once each get their own error") {
    cut_mapping cut;
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            std::array<std::byte, 1> out{};
            for (std::uint64_t i = 0; i < 500; ++i) {
                auto const offset = page_bytes() * (1 + t % 3) + i;
                auto const got = cut.map.copy_out(offset, out);
                if (!got && got.error().offset == offset && cut.map.copy_out(i, out)) right.fetch_add(1);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(right == 2000);
}

namespace {
/// A checksum that reads from another mapping while it is fed.
struct nosy_sum {
    static constexpr auto id = keel::checksum_id::of("nosy");
    static constexpr std::string_view name = "nosy_sum";
    static inline keel::io::posix::mapping const* other = nullptr;
    static inline int failures = 0;
    std::uint64_t seen = 0;
    void update(keel::byte_view bytes) noexcept {
        std::array<std::byte, 1> out{};
        if (other != nullptr && !other->copy_out(other->size() - 1, out)) ++failures;
        for (auto const b : bytes) seen += std::to_integer<std::uint64_t>(b);
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return seen; }
};
} // namespace

TEST_CASE("posix mapping: a window inside a window ends alone, and the outer one still catches") {
    cut_mapping inner, outer;
    nosy_sum::other = &inner.map;
    nosy_sum::failures = 0;
    nosy_sum sum;
    check_lost(outer.map.verify(0, outer.map.size(), sum), outer.path, page_bytes(), page_bytes());
    CHECK(nosy_sum::failures == 1);
}

TEST_CASE("posix mapping: a fault of the host goes to the host's handler, and so does a signal that was sent") {
    cut_mapping const cut; // made here, so that a child that ends at once leaves nothing behind
    CHECK(in_child([&] {
              set_previous(&host_handler::count_and_leave);
              std::array<std::byte, 4> out{};
              if (cut.map.copy_out(page_bytes(), out)) return 1;
              if (host_handler::calls != 0) return 2;
              touch_foreign_hole();
              return 3;
          }) == 42);
    CHECK(in_child([] {
              set_previous(&host_handler::count);
              ::raise(SIGBUS);
              return host_handler::calls == 1 ? 0 : 2;
          }) == 0);
}

TEST_CASE("posix mapping: without another handler a fault of the host ends the process by SIGBUS, as if keel were not "
          "there") {
    auto const without = [](auto&& act) {
        return in_child([&] {
            set_previous(SIG_DFL);
            act();
            return 3;
        });
    };
    CHECK(without([] { touch_foreign_hole(); }) == 1000 + SIGBUS);
    CHECK(without([] { ::raise(SIGBUS); }) == 1000 + SIGBUS);
}

TEST_CASE("posix mapping: a host that ignores the signal ignores a sent one, and no fault") {
    auto const ignoring = [](auto&& act) {
        return in_child([&] {
            set_previous(SIG_IGN);
            act();
            cut_mapping cut;
            std::array<std::byte, 4> out{};
            return cut.map.copy_out(page_bytes(), out) ? 1 : 0;
        });
    };
    CHECK(ignoring([] { ::raise(SIGBUS); }) == 0);
    CHECK(ignoring([] { touch_foreign_hole(); }) == 1000 + SIGBUS);
}

TEST_CASE("posix mapping: what is mapped is the file that was opened, whatever its name leads to by now") {
    posix_folder const folder;
    auto file = new_file(mapping_machine, folder / "file", "mine");
    need(mapping_machine.rename(folder / "file", folder / "old"));
    new_file(mapping_machine, folder / "file", "other file");
    auto map = need(file.map(access::read_write));
    CHECK(mapped_text(map, 0, 4) == "mine");
    need(map.store(0, keel::as_bytes("MINE")));
    CHECK(keel::conformance::contents(file) == "MINE");
}

TEST_CASE("posix mapping: who reads the published word sees the stores before it") {
    posix_folder const folder;
    auto file = new_file(mapping_machine, folder / "file", std::string(4096, '\0'));
    auto writer = need(file.map(access::read_write));
    auto const reader = need(file.map(access::read_only));
    std::atomic<bool> right{true};
    std::atomic<int> between{0};
    std::thread watching{[&] {
        std::uint32_t seen = 0;
        while (seen < 2000) {
            need(reader.copy_out(0, std::as_writable_bytes(std::span{&seen, 1})));
            between.fetch_add(1, std::memory_order_acq_rel); // the reader's half: nothing behind is read before
            std::uint32_t behind = 0;
            need(reader.copy_out(64, std::as_writable_bytes(std::span{&behind, 1})));
            if (behind < seen) right = false;
        }
    }};
    for (std::uint32_t i = 1; i <= 2000; ++i) {
        need(writer.store(64, std::as_bytes(std::span{&i, 1})));
        need(writer.publish(0, i));
    }
    watching.join();
    CHECK(right);
}

TEST_CASE("posix mapping: a store that finds no room is no_space, and goes on once there is some") {
    posix_folder const folder;
    if (::mount("keel", folder.path().c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=256k") != 0) {
        MESSAGE("not run: this user may not mount file systems");
        return;
    }
    {
        auto const path = folder / "file";
        auto file = new_file(mapping_machine, path);
        REQUIRE(::truncate(path.c_str(), 128 * 1024) == 0); // all of it a hole
        auto map = need(file.map(access::read_write));
        auto filling = new_file(mapping_machine, folder / "filling");
        CHECK(code_of(filling.write(0, keel::as_bytes(std::string(512 * keel::KiB, 'x')))) == errc::no_space);
        auto const refused = map.store(70'000, keel::as_bytes("text"));
        REQUIRE(code_of(refused) == errc::no_space);
        CHECK(refused.error().cause == ENOSPC);
        CHECK(refused.error().offset == 70'000);
        CHECK(code_of(map.publish(70'004, 1)) == errc::no_space);
        need(mapping_machine.remove(folder / "filling"));
        { auto const gone = std::move(filling); }
        need(map.store(70'000, keel::as_bytes("text")));
        CHECK(mapped_text(map, 70'000, 4) == "text");
    }
    CHECK(::umount(folder.path().c_str()) == 0);
}
