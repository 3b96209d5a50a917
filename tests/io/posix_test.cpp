// SPDX-License-Identifier: BSL-1.0
#include <keel/io/posix.hpp>

#include <conformance/file_system.hpp>
#include <io/posix_folder.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

using keel::errc;
using keel::conformance::code_of, keel::conformance::contents, keel::conformance::need, keel::conformance::new_file;
using keel::io::access, keel::io::creation, keel::io::lock_mode;
using keel::tests::in_child, keel::tests::posix_folder;

keel::io::posix machine;

auto open_to_read(std::string const& path) { return machine.open(path, access::read_only, creation::must_exist); }
auto open_to_write(std::string const& path) { return machine.open(path, access::read_write, creation::if_missing); }
/// Beneath the file system.
keel::io::detail::descriptor open_descriptor_of(std::string const& path) {
    return keel::io::detail::open_descriptor(path.c_str(), O_RDWR);
}

/// The machine's first folder in memory, or nothing.
std::string memory_folder() {
    struct statfs facts {};
    return ::statfs("/dev/shm", &facts) == 0 && facts.f_type == TMPFS_MAGIC && ::access("/dev/shm", W_OK) == 0
               ? "/dev/shm"
               : "";
}

std::atomic<int> ticks{0};

/// A signal every 100 us, without SA_RESTART, while this lives.
class signal_storm {
public:
    signal_storm() {
        struct sigaction count {};
        count.sa_handler = [](int) { ticks.fetch_add(1); };
        ::sigaction(SIGALRM, &count, &before_);
        itimerval const often{{0, 100}, {0, 100}};
        ::setitimer(ITIMER_REAL, &often, nullptr);
    }
    signal_storm(signal_storm const&) = delete;
    signal_storm& operator=(signal_storm const&) = delete;
    ~signal_storm() {
        itimerval const never{};
        ::setitimer(ITIMER_REAL, &never, nullptr);
        ::sigaction(SIGALRM, &before_, nullptr);
    }

private:
    struct sigaction before_ {};
};

} // namespace

TEST_CASE("posix: obeys the laws of a file system") {
    posix_folder const folder;
    keel::conformance::file_system_laws(machine, folder.path());
}

TEST_CASE("posix: obeys the laws of a file system in memory too, where direct reads may be refused") {
    if (memory_folder().empty()) return;
    posix_folder const folder{memory_folder()};
    keel::conformance::file_system_laws(machine, folder.path());
}

TEST_CASE("posix: a symbolic link is refused as a file, a folder and a lock, even when it leads nowhere") {
    posix_folder const folder;
    new_file(machine, folder / "file", "text");
    REQUIRE(::symlink("file", (folder / "link").c_str()) == 0);
    REQUIRE(::symlink("nowhere", (folder / "dangling").c_str()) == 0);
    REQUIRE(::symlink(".", (folder / "loop").c_str()) == 0);
    for (auto const* name : {"link", "dangling"}) {
        CHECK(code_of(open_to_read(folder / name)) == errc::not_regular);
        CHECK(code_of(open_to_write(folder / name)) == errc::not_regular);
        CHECK(code_of(machine.lock(folder / name, lock_mode::exclusive)) == errc::not_regular);
        CHECK(need(machine.status(folder / name)).kind == keel::io::file_kind::symlink);
    }
    CHECK(code_of(machine.status(folder / "nowhere")) == errc::not_found);
    auto const listed = machine.list(folder / "loop");
    REQUIRE(code_of(listed) == errc::not_regular);
    CHECK(listed.error().cause == ELOOP);
    CHECK(code_of(machine.sync_directory(folder / "loop")) == errc::not_regular);
    CHECK(need(machine.list(folder / "loop/")).size() == 4);
    need(machine.remove(folder / "link"));
    CHECK(contents(need(open_to_read(folder / "file"))) == "text");
}

TEST_CASE("posix: a pipe or a socket under the name is refused at once") {
    posix_folder const folder;
    REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
    auto const socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    auto const name = folder / "socket";
    REQUIRE(name.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, name.c_str(), name.size() + 1);
    REQUIRE(::bind(socket, reinterpret_cast<sockaddr const*>(&address), sizeof address) == 0);
    ::close(socket);
    for (auto const* taken : {"pipe", "socket"}) {
        CHECK(code_of(open_to_read(folder / taken)) == errc::not_regular);
        CHECK(code_of(open_to_write(folder / taken)) == errc::not_regular);
        CHECK(code_of(machine.lock(folder / taken, lock_mode::exclusive)) == errc::not_regular);
        CHECK(need(machine.status(folder / taken)).kind == keel::io::file_kind::other);
    }
}

TEST_CASE("posix: every descriptor of a file, a lock and a mapping is closed on exec") {
    posix_folder const folder;
    auto file = new_file(machine, folder / "file", "text");
    auto const map = need(file.map(access::read_write));
    auto const lock = need(machine.lock(folder / "file", lock_mode::exclusive));
    auto const inode = need(file.status()).identity.inode;
    int found = 0;
    for (int number = 0; number < 256; ++number) {
        struct stat facts {};
        if (::fstat(number, &facts) != 0 || facts.st_ino != inode) continue;
        ++found;
        CHECK((::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
    }
    CHECK(found >= 2);
}

TEST_CASE("posix: a file never takes the place of a standard stream that is closed") {
    posix_folder const folder;
    auto const path = folder / "file";
    CHECK(in_child([&] {
              ::close(0), ::close(1), ::close(2);
              auto const file = open_to_write(path);
              auto const lock = machine.lock(path, lock_mode::exclusive);
              if (!file || !lock || !machine.list(folder.path())) return 1;
              for (int number = 0; number < 3; ++number) {
                  if (::fcntl(number, F_GETFD) != -1) return 2;
              }
              return 0;
          }) == 0);
}

TEST_CASE("posix: a transfer goes on after a signal and after a part, and ends at an error or where nothing moves") {
    std::vector<std::size_t> calls;
    auto const result = keel::io::detail::transfer(10, [&](std::size_t done) -> ssize_t {
        calls.push_back(done);
        if (calls.size() % 2 == 1) return errno = EINTR, -1;
        return 4 - static_cast<ssize_t>(done % 3);
    });
    CHECK((calls == std::vector<std::size_t>{0, 0, 4, 4, 7, 7}));
    CHECK(result.bytes == 10);
    CHECK(result.cause == 0);
    auto const failed =
        keel::io::detail::transfer(10, [&](std::size_t done) -> ssize_t { return done < 6 ? 3 : (errno = EIO, -1); });
    CHECK(failed.bytes == 6);
    CHECK(failed.cause == EIO);
    CHECK(keel::io::detail::transfer(10, [](std::size_t done) -> ssize_t { return done == 0 ? 2 : 0; }).bytes == 2);
}

TEST_CASE("posix: reads, writes, syncs, allocations and locks do not notice signals") {
    auto const under = memory_folder();
    for (auto const& where : {std::filesystem::temp_directory_path().string(), under}) {
        if (where.empty()) continue;
        posix_folder const folder{where};
        ticks = 0;
        signal_storm const storm;
        constexpr std::uint64_t length = 96 * keel::MiB;
        auto file = new_file(machine, folder / "file");
        need(file.allocate(length));
        CHECK(need(file.status()).size == length);
        std::string const text(8 * keel::MiB, 'x');
        need(file.write(1, keel::as_bytes(text)));
        need(file.sync());
        std::string back(text.size(), '?');
        CHECK(need(file.read(1, std::as_writable_bytes(std::span{back}))) == text.size());
        CHECK(back == text);
        back.assign(text.size(), '?');
        CHECK(need(file.read_uncached(1, std::as_writable_bytes(std::span{back}))) == text.size());
        CHECK(back == text);
        need(machine.lock(folder / "lock", lock_mode::exclusive));
        need(machine.sync_directory(folder.path()));
        while (ticks == 0) std::this_thread::yield();
    }
}

TEST_CASE(
    "posix: an allocation over which signals keep coming is made in smaller pieces, without gaps, until it ends") {
    std::uint64_t reached = 0;
    auto const patient = [&](std::uint64_t offset, std::uint64_t length) {
        REQUIRE(offset == reached);
        if (length > keel::MiB) return errno = EINTR, -1;
        reached += length;
        return 0;
    };
    CHECK(keel::io::detail::reserve_in_pieces(100 * keel::MiB + 5, patient) == 0);
    CHECK(reached == 100 * keel::MiB + 5);
    CHECK(keel::io::detail::reserve_in_pieces(5, [](auto, auto) { return errno = ENOSPC, -1; }) == ENOSPC);
}

TEST_CASE("posix: where a file may not grow, what fits is written and the rest is no_space with its offset") {
    posix_folder const folder;
    auto const path = folder / "file";
    CHECK(in_child([&] {
              ::signal(SIGXFSZ, SIG_DFL); // which ends the process
              rlimit const small{65'536, 65'536};
              ::setrlimit(RLIMIT_FSIZE, &small);
              auto file = open_to_write(path);
              std::string const text(100'000, 'x');
              auto const refused = file->write(1000, keel::as_bytes(text));
              if (refused || refused.error().code != errc::no_space) return 1;
              if (refused.error().offset != 65'536 || refused.error().cause != EFBIG || refused.error().file != path)
                  return 2;
              auto const allocated = file->allocate(100'000);
              if (allocated || allocated.error().code != errc::no_space) return 3;
              auto const behind = file->write(70'000, keel::as_bytes("x"));
              if (behind || behind.error().code != errc::no_space || behind.error().offset != 70'000) return 4;
              // Within what the file has, nothing is in the way; a handle that does not know how long it is asks.
              auto again = open_to_write(path);
              return file->write(2000, keel::as_bytes("x")) && again->write(65'535, keel::as_bytes("x")) ? 0 : 5;
          }) == 0);
    CHECK(contents(need(open_to_read(path))) == std::string(1000, '\0') + std::string(64'536, 'x'));
}

TEST_CASE("posix: on a full disk writing, allocating and making files is no_space, and goes on once there is room") {
    // A disk of its own, where the user may mount one.
    posix_folder const folder;
    if (::mount("keel", folder.path().c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=256k,nr_inodes=4") != 0) {
        MESSAGE("not run: this user may not mount file systems");
        return;
    }
    {
        auto file = new_file(machine, folder / "file");
        std::string const text(512 * keel::KiB, 'x');
        auto const refused = file.write(0, keel::as_bytes(text));
        REQUIRE(code_of(refused) == errc::no_space);
        CHECK(refused.error().cause == ENOSPC);
        CHECK(refused.error().offset == need(file.status()).size);
        CHECK(refused.error().message.find("free some space") != std::string::npos);
        CHECK(code_of(new_file(machine, folder / "other").allocate(512 * keel::KiB)) == errc::no_space);
        new_file(machine, folder / "last");
        CHECK(code_of(open_to_write(folder / "one more")) == errc::no_space);
        need(machine.remove(folder / "last"));
        file = need(open_to_write(folder / "other"));
        need(machine.remove(folder / "file"));
        need(file.write(0, keel::as_bytes(std::string_view{text}.substr(0, 64 * keel::KiB))));
    }
    CHECK(::umount(folder.path().c_str()) == 0);
}

TEST_CASE("posix: zeros are written where a file system cannot allocate, into the holes only") {
    posix_folder const folder;
    auto file = new_file(machine, folder / "file");
    std::string const text(8192, 'a');
    need(file.write(0, keel::as_bytes(text)));
    need(file.write(1 << 20, keel::as_bytes(text)));
    auto const before = contents(file);
    auto const opened = open_descriptor_of(folder / "file");
    need(keel::io::detail::fill_holes(opened, folder / "file", before.size(), before.size() + 100'000));
    CHECK(contents(file) == before + std::string(100'000, '\0'));
    struct stat facts {};
    REQUIRE(::fstat(opened.get(), &facts) == 0);
    // At least the bytes it has: no holes are left. (A compressing file system could say less; none of those lacks
    // fallocate.)
    CHECK(static_cast<std::uint64_t>(facts.st_blocks) * 512 >= before.size());
}

TEST_CASE(
    "posix: a hole in a file takes no blocks where the file system can make one, and reads as zeros or as before") {
    for (auto const& where : {std::filesystem::temp_directory_path().string(), memory_folder()}) {
        if (where.empty()) continue;
        posix_folder const folder{where};
        auto file = new_file(machine, folder / "file");
        std::string const text(256 * keel::KiB, 'a');
        need(file.write(0, keel::as_bytes(text)));
        need(file.sync());
        auto const blocks = [&] {
            auto const opened = open_descriptor_of(folder / "file");
            struct stat facts {};
            REQUIRE(::fstat(opened.get(), &facts) == 0);
            CHECK(static_cast<std::uint64_t>(facts.st_size) == text.size());
            return static_cast<std::uint64_t>(facts.st_blocks) * 512;
        };
        auto const before = blocks();
        file.punch_hole(64 * keel::KiB, 128 * keel::KiB);
        auto with_hole = text;
        with_hole.replace(64 * keel::KiB, 128 * keel::KiB, 128 * keel::KiB, '\0');
        auto const now = contents(file);
        bool const punched = now == with_hole;
        CHECK((punched || now == text));
        if (punched) CHECK(blocks() < before);
        need(file.allocate(text.size()));
        CHECK(blocks() >= text.size());
        CHECK(contents(file) == now);
        auto reader = need(machine.open(folder / "file", keel::io::access::read_only, keel::io::creation::must_exist));
        reader.punch_hole(0, 64 * keel::KiB);
        CHECK(contents(file) == now);
    }
}

TEST_CASE("posix: errors carry the system's cause and say what to do") {
    posix_folder const folder;
    auto const missing = open_to_read(folder / "none");
    REQUIRE(!missing);
    CHECK(missing.error().cause == ENOENT);
    new_file(machine, folder / "file");
    auto const below_a_file = open_to_write(folder / "file/inner");
    REQUIRE(code_of(below_a_file) == errc::not_found);
    CHECK(below_a_file.error().message.find("not a folder") != std::string::npos);
    using keel::io::detail::os_error;
    CHECK(os_error(EDQUOT, "x", "f").code == errc::no_space);
    CHECK(os_error(EROFS, "x", "f").code == errc::no_permission);
    CHECK(os_error(EIO, "x", "f", 7).offset == 7);
    CHECK(os_error(EIO, "x", "f").message.find("dmesg") != std::string::npos);
    CHECK(os_error(EMFILE, "x", "f").retryable);
    CHECK(!os_error(ENOSPC, "x", "f").retryable);
    CHECK(os_error(12345, "x", "f").code == errc::io_error);
    auto file = need(open_to_write(folder / "file"));
    std::array<std::byte, 2> out{};
    CHECK(code_of(file.read(~0ULL, out)) == errc::invalid_argument);
    CHECK(code_of(file.write((1ULL << 63) - 1, out)) == errc::invalid_argument);
    CHECK(code_of(file.allocate(~0ULL)) == errc::invalid_argument);
}

TEST_CASE("posix: new files and folders have the rights that the umask leaves of 0644 and 0755") {
    posix_folder const folder;
    auto const before = ::umask(022);
    new_file(machine, folder / "file");
    need(machine.make_directory(folder / "folder"));
    ::umask(before);
    struct stat facts {};
    REQUIRE(::stat((folder / "file").c_str(), &facts) == 0);
    CHECK((facts.st_mode & 07777) == 0644);
    REQUIRE(::stat((folder / "folder").c_str(), &facts) == 0);
    CHECK((facts.st_mode & 07777) == 0755);
}

TEST_CASE("posix: a user without the rights gets no_permission, and may still lock shared what can be read") {
    posix_folder const folder;
    REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
    new_file(machine, folder / "file", "text");
    new_file(machine, folder / "secret");
    REQUIRE(::chmod((folder / "file").c_str(), 0444) == 0);
    REQUIRE(::chmod((folder / "secret").c_str(), 0000) == 0);
    CHECK(in_child([&] {
              if (::geteuid() == 0 && ::setuid(65'534) != 0) return 1;
              if (code_of(open_to_read(folder / "secret")) != errc::no_permission) return 2;
              if (code_of(open_to_write(folder / "file")) != errc::no_permission) return 3;
              if (code_of(machine.lock(folder / "file", lock_mode::exclusive)) != errc::no_permission) return 4;
              return machine.lock(folder / "file", lock_mode::shared) ? 0 : 5;
          }) == 0);
}

TEST_CASE("posix: a lock shuts out another process, with a word that says so, and a killed process leaves none") {
    posix_folder const folder;
    auto const path = folder / "lock";
    std::array<int, 2> ready{};
    REQUIRE(::pipe(ready.data()) == 0);
    auto const child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        auto const held = machine.lock(path, lock_mode::exclusive);
        static_cast<void>(::write(ready[1], held ? "y" : "n", 1));
        for (;;) ::pause();
    }
    char answer = 0;
    CHECK(::read(ready[0], &answer, 1) == 1);
    CHECK(answer == 'y');
    auto const refused = machine.lock(path, lock_mode::exclusive);
    CHECK(code_of(refused) == errc::locked);
    if (!refused) CHECK(refused.error().message.find("Another process") == 0);
    CHECK(code_of(machine.lock(path, lock_mode::shared)) == errc::locked);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    need(machine.lock(path, lock_mode::exclusive));
    ::close(ready[0]), ::close(ready[1]);
}

TEST_CASE("posix: closing another descriptor of the locked file does not let another process in") {
    posix_folder const folder;
    auto const path = folder / "lock";
    auto const held = need(machine.lock(path, lock_mode::exclusive));
    need(open_to_read(path));
    ::close(::open(path.c_str(), O_RDWR));
    // The child's table knows that its parent has the lock, so the system is asked directly.
    auto const try_it = [&] {
        return keel::io::detail::lock_description(open_descriptor_of(path).get(), lock_mode::exclusive);
    };
    CHECK(in_child(try_it) == EAGAIN);
    CHECK(in_child([&] { return machine.lock(path, lock_mode::shared) ? 1 : 0; }) == 0);
}

TEST_CASE(
    "posix: a forked child that ends, even by letting go, leaves the parent's lock; one that lives does not keep it") {
    posix_folder const folder;
    auto const path = folder / "lock";
    auto held = std::optional{need(machine.lock(path, lock_mode::exclusive))};
    CHECK(in_child([&] { return held.reset(), 0; }) == 0);
    CHECK(in_child([&] {
              return keel::io::detail::lock_description(open_descriptor_of(path).get(), lock_mode::exclusive);
          }) == EAGAIN);
    auto const child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        for (;;) ::pause();
    }
    held.reset();
    CHECK(machine.lock(path, lock_mode::exclusive).has_value());
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
}

TEST_CASE("posix: the lock is the file's, and a file that was put in its place has a lock of its own") {
    posix_folder const folder;
    auto const held = need(machine.lock(folder / "lock", lock_mode::exclusive));
    need(machine.rename(folder / "lock", folder / "old"));
    CHECK(code_of(machine.lock(folder / "old", lock_mode::exclusive)) == errc::locked);
    need(machine.lock(folder / "lock", lock_mode::exclusive));
}

TEST_CASE("posix: of many threads that try, one at a time has the lock") {
    posix_folder const folder;
    std::atomic<int> inside{0}, most{0}, taken{0};
    auto const work = [&] {
        for (int i = 0; i < 200; ++i) {
            auto const held = machine.lock(folder / "lock", lock_mode::exclusive);
            if (!held) continue;
            auto const now = inside.fetch_add(1) + 1;
            if (now > most) most = now;
            taken.fetch_add(1);
            inside.fetch_sub(1);
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(work);
    for (auto& thread : threads) thread.join();
    CHECK(most == 1);
    CHECK(taken > 0);
}

TEST_CASE("posix: the boot has an id, written as 32 hexadecimal digits") {
    using keel::io::detail::parse_boot_id;
    auto const id = parse_boot_id("01234567-89ab-cdef-0123-456789abcdef\n");
    CHECK(id.known());
    CHECK(id.bytes[0] == std::byte{0x01});
    CHECK(id.bytes[15] == std::byte{0xef});
    CHECK(!parse_boot_id("").known());
    CHECK(!parse_boot_id("0123456789abcdef0123456789abcde").known());
    CHECK(!parse_boot_id("0123456789abcdef0123456789abcdef0").known());
    CHECK(!parse_boot_id("g123456789abcdef0123456789abcdef").known());
    if (::access("/proc/sys/kernel/random/boot_id", R_OK) == 0) CHECK(machine.boot().known());
}
