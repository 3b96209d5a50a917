// SPDX-License-Identifier: BSL-1.0
#include <keel/io/process.hpp>

#include <keel/io/posix.hpp>

#include <conformance/file_system.hpp>
#include <io/posix_folder.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <csignal>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace forked {

using keel::errc;
using keel::conformance::code_of, keel::conformance::need, keel::conformance::new_file;
using keel::io::access, keel::io::creation, keel::io::lock_mode, keel::io::process_bound, keel::io::process_mark;
using keel::tests::in_child, keel::tests::posix_folder, keel::tests::signal_pipe;

keel::io::posix machine;

/// Counts how often one was taken apart.
struct counted {
    explicit counted(int& count) noexcept : count_{&count} {}
    counted(counted&& other) noexcept : count_{std::exchange(other.count_, nullptr)} {}
    counted& operator=(counted&&) = delete;
    ~counted() {
        if (count_ != nullptr) ++*count_;
    }

private:
    int* count_;
};

TEST_CASE("process: a mark is here in the process that made it, not in a child, nor in a child's child") {
    process_mark const mine;
    CHECK(mine.is_here());
    CHECK(process_mark{}.is_here());
    CHECK(in_child([&] {
              if (mine.is_here()) return 1;
              process_mark const of_child;
              if (!of_child.is_here() || mine.is_here()) return 2;
              auto const grandchild = [&] { return mine.is_here() || of_child.is_here() || !process_mark{}.is_here(); };
              return in_child(grandchild) == 0 && of_child.is_here() ? 0 : 3;
          }) == 0);
    CHECK(mine.is_here());
}

TEST_CASE("process: a child that was made without the C library is noticed, too") {
    process_mark const mine;
    auto const child = static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
    REQUIRE(child >= 0);
    if (child == 0) ::syscall(SYS_exit_group, mine.is_here() ? 1 : 0);
    int how = 0;
    REQUIRE(::waitpid(child, &how, 0) == child);
#if defined(MADV_WIPEONFORK)
    CHECK(WEXITSTATUS(how) == 0);
#endif
    CHECK(mine.is_here());
}

TEST_CASE("process: a thread is of the same process") {
    process_mark const mine;
    bool here = false;
    std::thread{[&] { here = mine.is_here(); }}.join();
    CHECK(here);
}

TEST_CASE("process: what is bound to a process is taken apart there, and in a child it is not") {
    int count = 0;
    {
        process_bound<counted> one{counted{count}};
        CHECK(in_child([&] {
                  { auto const moved = std::move(one); }
                  one = process_bound<counted>{counted{count}};
                  if (count != 0) return 1;
                  { process_bound<counted> const of_child{counted{count}}; }
                  return count == 1 ? 0 : 2;
              }) == 0);
        CHECK(count == 0);
    }
    CHECK(count == 1);
}

TEST_CASE("process: copies and moves stay bound to the process of the first") {
    auto const text = std::make_shared<int>(1);
    process_bound<std::shared_ptr<int>> one{text};
    auto two = one;
    process_bound<std::shared_ptr<int>> three;
    three = two;
    CHECK(text.use_count() == 4);
    CHECK(in_child([&] {
              auto four = std::move(two);
              process_bound<std::shared_ptr<int>> five;
              five = four;
              return five.is_here() || *four != text ? 1 : 0;
          }) == 0);
    two = {};
    CHECK(text.use_count() == 3);
}

TEST_CASE("process: a child has a table of locks of its own, whatever its parent's threads were doing with theirs") {
    posix_folder const folder;
    std::atomic<bool> stop{false};
    std::atomic<int> taken{0};
    std::thread busy{[&] {
        for (int i = 0; !stop; ++i)
            taken += machine.lock(folder / ("busy" + std::to_string(i % 7)), lock_mode::exclusive).has_value();
    }};
    while (taken == 0) std::this_thread::yield();
    for (int i = 0; i < 100; ++i)
        CHECK(in_child([&] {
                  ::alarm(20);
                  auto const path = folder / "child";
                  auto held = machine.lock(path, lock_mode::exclusive);
                  if (!held || code_of(machine.lock(path, lock_mode::exclusive)) != errc::locked) return 1;
                  held = keel::failure(errc::closed, "let go");
                  return machine.lock(path, lock_mode::exclusive).has_value() ? 0 : 2;
              }) == 0);
    stop = true;
    busy.join();
}

TEST_CASE("process: a parent's lock shuts its child out, which may take it once the parent has let go") {
    posix_folder const folder;
    auto const path = folder / "lock";
    auto held = std::optional{need(machine.lock(path, lock_mode::exclusive))};
    auto of_folder = std::optional{need(machine.lock_folder(folder.path(), lock_mode::exclusive))};
    signal_pipe const was_shut_out, let_go;
    auto const child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::alarm(20);
        auto const first = machine.lock(path, lock_mode::exclusive);
        auto const second = machine.lock_folder(folder.path(), lock_mode::shared);
        bool const shut_out = code_of(first) == errc::locked && code_of(second) == errc::locked &&
                              first.error().message.starts_with("Another process");
        was_shut_out.send();
        static_cast<void>(let_go.wait());
        auto mine = machine.lock(path, lock_mode::exclusive);
        auto mine_too = machine.lock_folder(folder.path(), lock_mode::exclusive);
        // What the child has of its parent's locks is nothing: letting go of it lets go of none of the child's own.
        held.reset();
        of_folder.reset();
        bool const kept = code_of(machine.lock(path, lock_mode::exclusive)) == errc::locked &&
                          code_of(machine.lock_folder(folder.path(), lock_mode::shared)) == errc::locked;
        ::_exit(!shut_out ? 1 : !mine || !mine_too ? 2 : !kept ? 3 : 0);
    }
    static_cast<void>(was_shut_out.wait());
    held.reset();
    of_folder.reset();
    let_go.send();
    int how = 0;
    ::waitpid(child, &how, 0);
    CHECK(WIFEXITED(how));
    CHECK(WEXITSTATUS(how) == 0);
}

TEST_CASE("process: a child that lives on does not keep what its parent had locked when it was killed") {
    posix_folder const folder;
    auto const path = folder / "lock";
    std::array<int, 2> told{};
    REQUIRE(::pipe(told.data()) == 0);
    auto const parent = ::fork();
    REQUIRE(parent >= 0);
    if (parent == 0) {
        auto const held = machine.lock(path, lock_mode::exclusive);
        auto const of_folder = machine.lock_folder(folder.path(), lock_mode::exclusive);
        if (auto const child = ::fork(); child == 0) {
            auto const id = ::getpid();
            static_cast<void>(!::write(told[1], &id, sizeof id));
            ::alarm(20);
            for (;;) ::pause();
        }
        for (;;) ::pause();
    }
    pid_t orphan = 0;
    REQUIRE(::read(told[0], &orphan, sizeof orphan) == sizeof orphan);
    CHECK(code_of(machine.lock(path, lock_mode::exclusive)) == errc::locked);
    ::kill(parent, SIGKILL);
    ::waitpid(parent, nullptr, 0);
    CHECK(machine.lock(path, lock_mode::exclusive).has_value());
    CHECK(machine.lock_folder(folder.path(), lock_mode::exclusive).has_value());
    ::kill(orphan, SIGKILL);
    ::close(told[0]), ::close(told[1]);
}

TEST_CASE("process: letting go of a parent's lock in a child closes no file that the child has opened since") {
    posix_folder const folder;
    auto held = std::optional{need(machine.lock(folder / "lock", lock_mode::exclusive))};
    CHECK(in_child([&] {
              // The lowest free numbers are taken, the closed lock's among them.
              std::array<int, 8> mine{};
              for (auto& number : mine) number = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
              held.reset();
              for (auto const number : mine)
                  if (::fcntl(number, F_GETFD) == -1) return 1;
              return 0;
          }) == 0);
}

TEST_CASE("process: faults under a mapping are errors in a child, too, on its first thread and on new ones") {
    posix_folder const folder;
    auto const path = folder / "file";
    auto file = new_file(machine, path, std::string(16384, 'x'));
    auto map = need(file.map(access::read_write));
    std::array<std::byte, 8> out{};
    need(map.copy_out(0, out));
    // A thread that is in a window again and again while this one forks. It makes no error and so needs no memory: AddressSanitizer's
    // allocator is not made for fork(), and a child would wait for a lock that its parent's thread held.
    auto const number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    auto* const shared = ::mmap(nullptr, 16384, PROT_READ, MAP_SHARED, number, 0);
    REQUIRE(shared != MAP_FAILED);
    ::close(number);
    auto const begin = reinterpret_cast<std::uintptr_t>(shared);
    std::atomic<bool> stop{false};
    std::atomic<int> opened{0};
    std::thread busy{[&] {
        auto const touch = [shared] { static_cast<void>(static_cast<char const volatile*>(shared)[8192]); };
        for (; !stop; ++opened) static_cast<void>(keel::io::detail::touch_guarded({begin, begin + 16384}, touch));
    }};
    while (opened == 0) std::this_thread::yield();
    REQUIRE(::truncate(path.c_str(), 4096) == 0);
    for (int i = 0; i < 50; ++i)
        CHECK(in_child([&] {
                  std::array<std::byte, 8> room{};
                  // A new thread may take the place of one that is gone: no window of those is open.
                  for (auto* slot = keel::io::detail::guard_slots.load(); slot != nullptr; slot = slot->next)
                      if (slot->open.load() != nullptr) return 3;
                  if (map.copy_out(8192, room) || !map.copy_out(0, room)) return 1;
                  if (keel::io::detail::thread_sanitizer) return 0; // it lets no child start a thread
                  bool good = false;
                  std::thread{[&] { good = !map.copy_out(8192, room) && map.copy_out(0, room); }}.join();
                  return good ? 0 : 2;
              }) == 0);
    stop = true;
    busy.join();
    ::munmap(shared, 16384);
}

} // namespace forked
