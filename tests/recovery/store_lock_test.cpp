// SPDX-License-Identifier: BSL-1.0
// Which store is opened, whose it is, and that it stays so: paths, links, missing folders, locks that are removed, folders that are moved,
// replaced or mounted over, and a machine that has no descriptor left, limits files or never stops sending signals.
#include <keel/recovery/store_lock.hpp>

#include <keel/engine.hpp>
#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>

#include "io/posix_folder.hpp"
#include "support/by_name.hpp"
#include "support/damage_tools.hpp"
#include "support/slow_build.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

namespace whose_store {

using namespace keel;
using keel::test::by_name, keel::test::small_engine;
using keel::tests::bytes_below, keel::tests::in_child, keel::tests::posix_folder, keel::tests::signal_pipe;
// As bad_input_test.cpp and open_test.cpp have them: compiled once for all.
using real_engine = engine<segment_size<4 * KiB>>;
using faulty_engine = engine<io::faulty<io::memory>, segment_size<4 * KiB>>;
namespace stdfs = std::filesystem;

open_options quiet() {
    open_options o;
    o.background_thread = false;
    return o;
}
open_options reading() {
    auto o = quiet();
    o.read_only = true;
    return o;
}

std::string key_of(int i) { return "key" + std::to_string(i); }

/// Puts keys [from, to) with values of so many letters; the number that was acknowledged.
template <class Store>
int put_some(Store& db, int from, int to, char letter = 'v') {
    int done = 0;
    for (int i = from; i < to; ++i) done += db.put(key_of(i), std::string(200, letter)).has_value();
    return done;
}
/// How many of the keys [from, to) have that value.
template <class Store>
int count_some(Store const& db, int from, int to, char letter = 'v') {
    int there = 0;
    for (int i = from; i < to; ++i) {
        auto const got = db.get(key_of(i));
        there += got && *got == std::string(200, letter);
    }
    return there;
}

void make_store(std::string const& path, int keys, char letter = 'v') {
    auto db = real_engine::open(path, quiet());
    REQUIRE_MESSAGE(db, to_string(db.error()));
    REQUIRE(put_some(*db, 0, keys, letter) == keys);
    REQUIRE(db->compact());
    REQUIRE(db->close());
}
void check_store(std::string const& path, int keys, char letter = 'v') {
    auto const db = real_engine::open(path, quiet());
    REQUIRE_MESSAGE(db, to_string(db.error()));
    CHECK(db->recovery().lost_records == 0);
    CHECK(db->recovery().findings.empty());
    CHECK(count_some(*db, 0, keys, letter) == keys);
}

class mounted_over {
public:
    explicit mounted_over(std::string path) : path_{std::move(path)} {
        there_ = ::mount("keel", path_.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=4m") == 0;
        if (!there_) MESSAGE("not run: this user may not mount file systems");
    }
    mounted_over(mounted_over const&) = delete;
    mounted_over& operator=(mounted_over const&) = delete;
    ~mounted_over() {
        if (there_) ::umount2(path_.c_str(), MNT_DETACH);
    }
    [[nodiscard]] explicit operator bool() const noexcept { return there_; }

private:
    std::string path_;
    bool there_ = false;
};

template <class Result>
void check_says(Result const& got, errc code, std::string const& word, std::string const& file) {
    REQUIRE_FALSE(got.has_value());
    INFO(to_string(got.error()));
    CHECK(got.error().code == code);
    CHECK(got.error().message.find(word) != std::string::npos);
    CHECK(got.error().file == file);
}

// ---- which folder -------------------------------------------------------------------------------------------------------------

TEST_CASE(
    "store folder: however its path is written, a new store survives a power loss after its first acknowledgement") {
    for (std::string const path : {"a/db", "a/db/", "a/db//", "./a/db/.", "a/./db/./", "/a/db/", "a/b/../db"}) {
        CAPTURE(path);
        io::memory disk;
        REQUIRE(disk.make_directory("a"));
        REQUIRE(disk.make_directory("a/b"));
        REQUIRE(disk.sync_directory("/"));
        REQUIRE(disk.sync_directory("a"));
        auto db = small_engine::open(path, quiet(), disk);
        REQUIRE(db);
        CHECK(db->put("k", "v"));
        auto const left = disk.after_power_loss({.what = io::keep::oldest});
        auto again = small_engine::open("a/db", quiet(), left);
        REQUIRE(again);
        auto const found = again->get("k");
        REQUIRE(found);
        CHECK(*found == "v");
    }
}

TEST_CASE("store folder: the folder above it is the one that is synced, also where only names can be used") {
    posix_folder const folder;
    stdfs::create_directories(folder / "above/other");
    stdfs::create_directories(folder / "elsewhere");
    stdfs::create_directory_symlink(folder / "above", folder / "elsewhere/link");
    auto const identity_of = [](std::string const& path) { return io::posix{}.status(path)->identity; };
    auto const above = identity_of(folder / "above");
    auto const try_it = [&](std::string const& path) {
        by_name<io::posix> named;
        io::posix bound;
        wal::layout const paths{path};
        if (!recovery::detail::find_folder(named, paths, quiet())) return 1;
        if (!recovery::detail::sync_parent(named, paths, true)) return 2;
        if (named.synced() != std::vector{above}) return 3;
        if (!recovery::detail::find_folder(bound, paths, quiet())) return 4;
        if (!recovery::detail::sync_parent(bound, paths, true)) return 5;
        stdfs::remove(folder / "above/db");
        return 0;
    };
    for (auto const* path : {"db", "db/", "./db", "db/.", "other/../db//", "../above/db"})
        CHECK_MESSAGE(in_child([&] { return stdfs::current_path(folder / "above"), try_it(path); }) == 0, path);
    CHECK(in_child([&] { return try_it(folder / "elsewhere/link/db/"); }) == 0);
    // The store's own folder is the working directory: the one above has no name there.
    stdfs::create_directories(folder / "above/db");
    for (auto const* path : {".", "./", "../db"})
        CHECK_MESSAGE(in_child([&] {
                          stdfs::current_path(folder / "above/db");
                          by_name<io::posix> named;
                          wal::layout const paths{path};
                          if (!recovery::detail::find_folder(named, paths, quiet())) return 1;
                          if (!recovery::detail::sync_parent(named, paths, false)) return 2;
                          return named.synced() == std::vector{above} ? 0 : 3;
                      }) == 0,
                      path);
}

TEST_CASE("store folder: a link at the end of its path is followed when it is opened, and never again") {
    posix_folder const folder;
    stdfs::create_directories(folder / "disk/data");
    stdfs::create_directories(folder / "disk/other");
    stdfs::create_directory_symlink("disk/data", folder / "link");
    make_store(folder / "link", 30);
    CHECK(stdfs::is_symlink(folder / "link"));
    check_store(folder / "disk/data", 30);
    auto db = real_engine::open(folder / "link/", quiet());
    REQUIRE(db);
    CHECK(real_engine::open(folder / "disk/data", quiet()).error().code == errc::locked);
    stdfs::remove(folder / "link");
    stdfs::create_directory_symlink("disk/other", folder / "link");
    CHECK(put_some(*db, 30, 90) == 60);
    CHECK(db->compact());
    CHECK(db->close());
    CHECK(stdfs::is_empty(folder / "disk/other"));
    check_store(folder / "disk/data", 90);
}

TEST_CASE("store folder: what stands in the way is told as what it is") {
    posix_folder const folder;
    std::ofstream{folder / "file"} << "text";
    stdfs::create_symlink("nowhere", folder / "dangling");
    stdfs::create_symlink("loop", folder / "loop");
    check_says(real_engine::open(folder / "file", quiet()), errc::not_a_store, "not a folder", folder / "file");
    check_says(real_engine::open(folder / "file/db", quiet()), errc::not_found, "is a file where a folder should be",
               folder / "file/db");
    check_says(real_engine::open(folder / "dangling", quiet()), errc::not_found, "leads to nothing",
               folder / "dangling");
    CHECK(real_engine::open(folder / "loop", quiet()).error().cause == ELOOP);
    check_says(real_engine::open("", quiet()), errc::invalid_argument, "not empty", "");
    CHECK(real_engine::open(folder / std::string{"a\0b", 3}, quiet()).error().code == errc::invalid_argument);
    auto only_if_there = quiet();
    only_if_there.create_if_missing = false;
    check_says(real_engine::open(folder / "none", only_if_there), errc::not_found, "there is no store here",
               folder / "none");
    check_says(real_engine::open(folder / "none", reading()), errc::not_found, "there is no store here",
               folder / "none");
    auto const too_long = folder / std::string(4096, 'x');
    check_says(real_engine::open(too_long, quiet()), errc::invalid_argument, "too long", too_long);
    auto const longer_path = folder.path() + std::string(4096, '/') + "db";
    check_says(real_engine::open(longer_path, quiet()), errc::invalid_argument, "too long", longer_path);
    CHECK(std::ranges::distance(stdfs::directory_iterator{folder.path()}) == 3);
}

TEST_CASE("store folder: no permission for it is told as that") {
    posix_folder const folder;
    make_store(folder / "db", 10);
    stdfs::permissions(folder / "db", stdfs::perms::none);
    stdfs::permissions(folder.path(), stdfs::perms{0755});
    CHECK(in_child([&] {
              if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return 77;
              auto const got = real_engine::open(folder / "db", quiet());
              return !got && got.error().code == errc::no_permission ? 0 : 1;
          }) == 0);
    stdfs::permissions(folder / "db", stdfs::perms{0755});
}

TEST_CASE(
    "store folder: a passing trouble is told as such at every step, leaves nothing behind, and the next try works") {
    auto const past = keel::test::make_store(keel::test::ending::process_crash, 40, 3);
    std::uint64_t failed = 0;
    for (std::uint64_t at = 1;; ++at) {
        io::faulty<io::memory> disk{keel::test::clone(past.disk),
                                    {{{.kind = io::fault_kind::fail, .on = io::fault_class::any, .at = at}}}};
        auto options = quiet();
        options.repair = repair_strategy::refuse;
        {
            auto const got = faulty_engine::open("db", options, disk);
            if (disk.fired() == 0) break; // it did not do so much
            if (!got) {
                ++failed;
                CAPTURE(at);
                CHECK_MESSAGE(got.error().code != errc::not_a_store, to_string(got.error()));
                CHECK(got.error().code != errc::corruption);
            }
        }
        disk.set_plan({});
        auto again = faulty_engine::open("db", options, disk);
        REQUIRE_MESSAGE(again, to_string(again.error()));
        CHECK(keel::test::content_of(*again) == past.past.now());
    }
    CHECK(failed > 5);
}

TEST_CASE(
    "store folder: what any folder may hold beside a store makes no foreign one; a file of somebody else's does") {
    io::memory disk;
    REQUIRE(disk.make_directory("db"));
    REQUIRE(disk.make_directory("db/lost+found"));
    REQUIRE(disk.make_directory("db/.snapshot"));
    REQUIRE(disk.replace("db/.gitkeep", as_bytes("")));
    REQUIRE(disk.replace("db/.nfs0001", as_bytes("x")));
    {
        auto db = small_engine::open("db", quiet(), disk);
        REQUIRE_MESSAGE(db, to_string(db.error()));
        REQUIRE(db->put("k", "v"));
    }
    CHECK(small_engine::open("db", quiet(), disk)->get("k")->value() == "v");
    CHECK(disk.contents("db/.nfs0001").has_value());
    io::memory other;
    REQUIRE(other.make_directory("db"));
    REQUIRE(other.replace("db/.gitkeep", as_bytes("")));
    REQUIRE(other.replace("db/letter.txt", as_bytes("dear reader")));
    CHECK(small_engine::open("db", quiet(), other).error().code == errc::not_a_store);
    CHECK(other.files() == std::vector<std::string>{"db/.gitkeep", "db/letter.txt"});
}

TEST_CASE(
    "store folder: the first folder that is missing above it is named, or all are made and survive a power loss") {
    io::memory disk;
    REQUIRE(disk.make_directory("a"));
    REQUIRE(disk.sync_directory("/"));
    check_says(small_engine::open("a/b/c/db/", quiet(), disk), errc::not_found, "create_parents", "a/b");
    CHECK_FALSE(disk.status("a/b").has_value());
    auto options = quiet();
    options.create_parents = true;
    {
        auto db = small_engine::open("a/b/c/db/", options, disk);
        REQUIRE_MESSAGE(db, to_string(db.error()));
        REQUIRE(db->put("k", "v"));
    }
    auto const left = disk.after_power_loss({.what = io::keep::oldest});
    auto again = small_engine::open("a/b/c/db", quiet(), left);
    REQUIRE(again);
    CHECK(again->get("k")->value() == "v");
    // On the real machine, too.
    posix_folder const folder;
    check_says(real_engine::open(folder / "x/y/db", quiet()), errc::not_found, "create_parents", folder / "x");
    stdfs::create_directory_symlink(".", folder / "link");
    auto real = real_engine::open(folder / "link/x/y/db", options);
    REQUIRE_MESSAGE(real, to_string(real.error()));
    CHECK(real->put("k", "v"));
    options.create_if_missing = false;
    check_says(real_engine::open(folder / "z/db", options), errc::not_found, "there is no store here", folder / "z/db");
}

TEST_CASE("store folder: paths of spaces and other letters, and as long as the system takes, are as good as any") {
    posix_folder const folder;
    auto const odd = folder / "  d\xc3\xa9j\xc3\xa0 vu \xff\n ";
    make_store(odd, 40);
    check_store(odd, 40);
    auto path = folder.path();
    auto options = quiet();
    options.create_parents = true;
    while (path.size() + 202 < 4090) path += "/" + std::string(200, 'd');
    path += "/" + std::string(4095 - path.size() - 1, 'e');
    CHECK(path.size() == 4095);
    auto db = real_engine::open(path, options);
    REQUIRE_MESSAGE(db, to_string(db.error()));
    CHECK(put_some(*db, 0, 60) == 60);
    CHECK(db->compact());
    CHECK(db->close());
    check_store(path, 60);
}

TEST_CASE(
    "store folder: a folder in place of the lock, the readers' lock or the notes is named, and nothing is changed") {
    for (std::string const name : {"lock", "readers", "notes"}) {
        CAPTURE(name);
        posix_folder const folder;
        auto const path = folder / "db";
        make_store(path, 30);
        stdfs::remove(path + "/" + name);
        stdfs::create_directory(path + "/" + name);
        auto const before = bytes_below(path);
        check_says(real_engine::open(path, quiet()), errc::not_regular, "move it away", path + "/" + name);
        CHECK(bytes_below(path) == before);
        auto const looked = real_engine::open(path, reading());
        REQUIRE_MESSAGE(looked, to_string(looked.error()));
        CHECK(count_some(*looked, 0, 30) == 30);
        stdfs::remove(path + "/" + name);
        check_store(path, 30);
    }
}

// ---- whose it is --------------------------------------------------------------------------------------------------------------

TEST_CASE("store lock: the lock file is removed, and a second process is shut out all the same") {
    posix_folder const folder;
    auto const path = folder / "db";
    auto db = real_engine::open(path, quiet());
    REQUIRE(db);
    REQUIRE(put_some(*db, 0, 30) == 30);
    for (auto const* name : {"lock", "readers"}) stdfs::remove(path + "/" + name);
    auto const intrude = [&] {
        auto const second = real_engine::open(path, quiet());
        if (second || second.error().code != errc::locked) return 1;
        // Who only reads sees that somebody writes, and what was acknowledged.
        auto const looked = real_engine::open(path, reading());
        return looked && count_some(*looked, 0, 30) == 30 ? 0 : 2;
    };
    CHECK(in_child(intrude) == 0);
    CHECK(real_engine::open(path, quiet()).error().code == errc::locked);
    REQUIRE(put_some(*db, 30, 90) == 60);
    CHECK(stdfs::exists(path + "/lock")); // made anew with the next segment
    CHECK(in_child(intrude) == 0);
    CHECK(db->state() == engine_state::healthy);
    REQUIRE(db->close());
    check_store(path, 90);
}

TEST_CASE("store lock: where somebody who knows only the lock file has taken a new one, nothing more is written") {
    posix_folder const folder;
    auto const path = folder / "db";
    auto db = real_engine::open(path, quiet());
    REQUIRE(db);
    REQUIRE(put_some(*db, 0, 30) == 30);
    stdfs::remove(path + "/lock");
    auto theirs = std::optional{*io::posix{}.lock(path + "/lock", io::lock_mode::exclusive)};
    int taken = 0;
    while (taken < 100 && db->put(key_of(30 + taken), std::string(200, 'v'))) ++taken;
    CHECK(taken < 40); // as many as the segments that were ready had room for
    CHECK(db->state() == engine_state::read_only);
    CHECK(db->state_reason().find("holds the new one") != std::string::npos);
    auto const files = bytes_below(path);
    CHECK_FALSE(db->compact());
    CHECK_FALSE(db->resume());
    CHECK(bytes_below(path) == files);
    CHECK(count_some(*db, 0, 30 + taken) == 30 + taken);
    theirs.reset();
    REQUIRE(db->resume());
    CHECK(put_some(*db, 30 + taken, 100) == 70 - taken);
    REQUIRE(db->close());
    check_store(path, 100);
}

TEST_CASE("store lock: of many processes that open while a cleaner removes the lock file, one at a time is in") {
    posix_folder const folder;
    auto const path = folder / "db";
    make_store(path, 10);
    std::vector<pid_t> crew;
    for (int p = 0; p < 4; ++p) {
        auto const child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            ::alarm(60);
            for (int i = 0; i < 25;) {
                auto db = real_engine::open(path, quiet());
                if (!db && db.error().code != errc::locked) ::_exit(1);
                if (!db) continue;
                if (!db->put("p" + std::to_string(p) + "." + std::to_string(i++), std::string(200, 'v'))) ::_exit(2);
                ::unlink((path + "/lock").c_str());
                if (!db->close()) ::_exit(3);
            }
            ::_exit(0);
        }
        crew.push_back(child);
    }
    for (auto const child : crew) {
        int how = 0;
        ::waitpid(child, &how, 0);
        CHECK(WIFEXITED(how));
        CHECK(WEXITSTATUS(how) == 0);
    }
    auto const db = real_engine::open(path, quiet());
    REQUIRE(db);
    CHECK(db->recovery().lost_records == 0);
    int there = 0;
    for (int p = 0; p < 4; ++p)
        for (int i = 0; i < 25; ++i) {
            auto const got = db->get("p" + std::to_string(p) + "." + std::to_string(i));
            there += got && *got;
        }
    CHECK(there == 100);
}

TEST_CASE(
    "store lock: readers beside a writer keep it from giving files a new life, though their lock file is removed") {
    io::memory disk;
    auto db = small_engine::open("db", quiet(), disk);
    REQUIRE(db);
    REQUIRE(put_some(*db, 0, 60) == 60);
    auto const looking = small_engine::open("db", reading(), disk);
    REQUIRE(looking);
    REQUIRE(disk.remove("db/readers"));
    // Segments are given up, and would be recycled.
    for (int round = 0; round < 3; ++round) {
        REQUIRE(put_some(*db, 0, 60, 'w') == 60);
        REQUIRE(db->compact());
    }
    CHECK(count_some(*looking, 0, 60) == 60);
    CHECK(looking->recovery().findings.empty());
    auto all = looking->scan();
    int seen = 0;
    for (auto&& [key, value] : all) seen += value == std::string(200, 'v');
    CHECK(all.status());
    CHECK(seen == 60);
}

// ---- folders that move --------------------------------------------------------------------------------------------------------

TEST_CASE("moved store: after chdir() a relative path goes on leading to the store that was opened") {
    posix_folder const folder;
    stdfs::create_directories(folder / "a");
    stdfs::create_directories(folder / "b");
    make_store(folder / "b/store", 200, 'b');
    auto const before = bytes_below(folder / "b");
    CHECK(in_child([&] {
              stdfs::current_path(folder / "a");
              auto a = real_engine::open("store", quiet());
              if (!a || put_some(*a, 0, 20, 'a') != 20) return 1;
              stdfs::current_path(folder / "b");
              if (put_some(*a, 20, 300, 'a') != 280 || !a->compact()) return 2;
              if (count_some(*a, 0, 300, 'a') != 300) return 3;
              return a->close() ? 0 : 4;
          }) == 0);
    CHECK(bytes_below(folder / "b") == before);
    check_store(folder / "b/store", 200, 'b');
    check_store(folder / "a/store", 300, 'a');
}

TEST_CASE("moved store: a folder that is renamed while it is open stays the one that is written to, and locked") {
    posix_folder const folder;
    auto const path = folder / "db";
    auto db = real_engine::open(path, quiet());
    REQUIRE(db);
    REQUIRE(put_some(*db, 0, 30) == 30);
    stdfs::rename(path, folder / "moved");
    CHECK(real_engine::open(folder / "moved", quiet()).error().code == errc::locked);
    make_store(path, 40, 'o');
    auto const before = bytes_below(path);
    CHECK(put_some(*db, 30, 150) == 120);
    CHECK(db->compact());
    CHECK(db->verify());
    CHECK(db->state() == engine_state::healthy);
    CHECK(db->close());
    CHECK(bytes_below(path) == before);
    check_store(path, 40, 'o');
    check_store(folder / "moved", 150);
}

TEST_CASE("moved store: the log's folder is replaced, and the store stops with that reason until it is back") {
    posix_folder const folder;
    auto const path = folder / "db";
    auto db = real_engine::open(path, quiet());
    REQUIRE(db);
    REQUIRE(put_some(*db, 0, 30) == 30);
    stdfs::rename(path + "/log", folder / "log");
    stdfs::create_directory(path + "/log");
    int taken = 0;
    while (taken < 100 && db->put(key_of(30 + taken), std::string(200, 'v'))) ++taken;
    CHECK(taken < 40);
    CHECK(db->state() == engine_state::read_only);
    CHECK(db->state_reason().find("another folder stands here") != std::string::npos);
    CHECK(db->state_reason().find(path + "/log") != std::string::npos);
    CHECK(stdfs::is_empty(path + "/log"));
    CHECK(count_some(*db, 0, 30 + taken) == 30 + taken);
    CHECK_FALSE(db->resume());
    stdfs::remove(path + "/log");
    stdfs::rename(folder / "log", path + "/log");
    REQUIRE(db->resume());
    CHECK(put_some(*db, 30 + taken, 100) == 70 - taken);
    REQUIRE(db->close());
    check_store(path, 100);
}

TEST_CASE("moved store: a manifest that is removed is written anew, and one that is replaced stops the store") {
    posix_folder const folder;
    auto const path = folder / "db";
    auto db = real_engine::open(path, quiet());
    REQUIRE(db);
    REQUIRE(put_some(*db, 0, 30) == 30);
    for (auto const* name : {"/manifest.0", "/manifest.1"}) stdfs::remove(path + name);
    CHECK(put_some(*db, 30, 60) == 30);
    CHECK(db->state() == engine_state::healthy);
    CHECK(stdfs::exists(path + "/manifest.0"));
    CHECK(stdfs::exists(path + "/manifest.1"));
    stdfs::rename(path + "/manifest.1", folder / "mine");
    stdfs::copy_file(folder / "mine", path + "/manifest.1");
    auto const theirs = bytes_below(path)[path + "/manifest.1"];
    int taken = 0;
    while (taken < 100 && db->put(key_of(60 + taken), std::string(200, 'v'))) ++taken;
    CHECK(taken < 40);
    CHECK(db->state() == engine_state::read_only);
    CHECK(db->state_reason().find("another file stands here than the manifest") != std::string::npos);
    CHECK(bytes_below(path)[path + "/manifest.1"] == theirs);
    stdfs::rename(folder / "mine", path + "/manifest.1");
    REQUIRE(db->resume());
    CHECK(put_some(*db, 60 + taken, 140) == 80 - taken);
    REQUIRE(db->close());
    check_store(path, 140);
}

TEST_CASE("moved store: another file system is mounted over it while it is open, and it goes on where it was") {
    posix_folder const folder;
    auto const path = folder / "db";
    auto db = real_engine::open(path, quiet());
    REQUIRE(db);
    REQUIRE(put_some(*db, 0, 30) == 30);
    {
        mounted_over const hidden{path};
        if (!hidden) return;
        CHECK(put_some(*db, 30, 150) == 120);
        CHECK(db->compact());
        CHECK(count_some(*db, 0, 150) == 150);
        CHECK(db->state() == engine_state::healthy);
        CHECK(stdfs::is_empty(path));
        make_store(path, 20, 'o'); // another store, for who comes now
        CHECK(put_some(*db, 150, 200) == 50);
        CHECK(db->close());
    }
    check_store(path, 200);
}

TEST_CASE("moved store: another file system is mounted over the log's folder, and the store stops with that reason") {
    posix_folder const folder;
    auto const path = folder / "db";
    auto db = real_engine::open(path, quiet());
    REQUIRE(db);
    REQUIRE(put_some(*db, 0, 30) == 30);
    int taken = 0;
    {
        mounted_over const hidden{path + "/log"};
        if (!hidden) return;
        while (taken < 100 && db->put(key_of(30 + taken), std::string(200, 'v'))) ++taken;
        CHECK(taken < 40);
        CHECK(db->state() == engine_state::read_only);
        CHECK(db->state_reason().find("mounted") != std::string::npos);
        CHECK(stdfs::is_empty(path + "/log"));
        CHECK(count_some(*db, 0, 30 + taken) == 30 + taken);
    }
    REQUIRE(db->resume());
    CHECK(put_some(*db, 30 + taken, 100) == 70 - taken);
    REQUIRE(db->close());
    check_store(path, 100);
}

// ---- a machine that refuses ---------------------------------------------------------------------------------------------------

TEST_CASE(
    "refusing machine: with any number of descriptors left opening works or says so, and works once there are some") {
    posix_folder const folder;
    auto const path = folder / "db";
    make_store(path, 60);
    CHECK(in_child([&] {
              rlimit before{};
              ::getrlimit(RLIMIT_NOFILE, &before);
              int refused = 0;
              for (bool const only_reads : {false, true})
                  for (rlim_t limit = 0; limit < 64; ++limit) {
                      rlimit const few{limit, before.rlim_max};
                      ::setrlimit(RLIMIT_NOFILE, &few);
                      {
                          auto db = real_engine::open(path, only_reads ? reading() : quiet());
                          if (!db && db.error().cause != EMFILE) {
                              std::fprintf(stderr, "limit %d: %s\n", static_cast<int>(limit),
                                           to_string(db.error()).c_str());
                              return 1;
                          }
                          refused += !db;
                          if (db && db->recovery().damaged()) return 2;
                          if (db) db->abandon();
                      }
                      ::setrlimit(RLIMIT_NOFILE, &before);
                      auto const again = real_engine::open(path, only_reads ? reading() : quiet());
                      if (!again || again->recovery().damaged() || count_some(*again, 0, 60) != 60) return 3;
                  }
              return refused > 10 ? 0 : 4;
          }) == 0);
    check_store(path, 60);
}

TEST_CASE("refusing machine: a new store that found no descriptor is made by the next try") {
    posix_folder const folder;
    CHECK(in_child([&] {
              rlimit before{};
              ::getrlimit(RLIMIT_NOFILE, &before);
              for (rlim_t limit = 0; limit < 40; ++limit) {
                  auto const path = folder / ("db" + std::to_string(limit));
                  rlimit const few{limit, before.rlim_max};
                  ::setrlimit(RLIMIT_NOFILE, &few);
                  {
                      auto db = real_engine::open(path, quiet());
                      if (!db && db.error().cause != EMFILE) return 1;
                      if (db) static_cast<void>(db->put("k", "v"));
                  }
                  ::setrlimit(RLIMIT_NOFILE, &before);
                  auto db = real_engine::open(path, quiet());
                  if (!db || db->recovery().damaged() || put_some(*db, 0, 30) != 30 || !db->close()) return 2;
                  if (auto const again = real_engine::open(path, quiet()); !again || count_some(*again, 0, 30) != 30)
                      return 3;
              }
              return 0;
          }) == 0);
}

TEST_CASE("refusing machine: a store that runs out of descriptors says so, loses nothing and goes on with resume()") {
    posix_folder const folder;
    auto const path = folder / "db";
    CHECK(in_child([&] {
              rlimit before{};
              ::getrlimit(RLIMIT_NOFILE, &before);
              auto db = real_engine::open(path, quiet());
              if (!db || put_some(*db, 0, 30) != 30) return 1;
              rlimit const none{0, before.rlim_max};
              ::setrlimit(RLIMIT_NOFILE, &none);
              int taken = 0;
              result<lsn> last{};
              while (taken < 100 && (last = db->put(key_of(30 + taken), std::string(200, 'v')))) ++taken;
              if (taken == 100 || last.error().cause != EMFILE) return 2;
              if (db->state_reason().find("too many open files") == std::string::npos) return 3;
              ::setrlimit(RLIMIT_NOFILE, &before);
              if (!db->resume() || put_some(*db, 30 + taken, 100) != 70 - taken || !db->compact()) return 4;
              return db->close() ? 0 : 5;
          }) == 0);
    check_store(path, 100);
}

TEST_CASE("refusing machine: a store that runs out of descriptors writes on by itself once there are some") {
    posix_folder const folder;
    auto const path = folder / "db";
    CHECK(in_child([&] {
              rlimit before{};
              ::getrlimit(RLIMIT_NOFILE, &before);
              auto db = real_engine::open(path);
              if (!db || put_some(*db, 0, 30) != 30) return 1;
              rlimit const none{0, before.rlim_max};
              ::setrlimit(RLIMIT_NOFILE, &none);
              int taken = 0;
              while (taken < 100 && db->put(key_of(30 + taken), std::string(200, 'v'))) ++taken;
              if (taken == 100 || db->state() != engine_state::read_only) return 2;
              for (int i = 0; i < 30 + taken; ++i)
                  if (auto const got = db->get(key_of(i)); !got && got.error().code != errc::no_descriptor) return 3;
              ::setrlimit(RLIMIT_NOFILE, &before);
              for (int turn = 0; turn < 600 && db->state() == engine_state::read_only; ++turn)
                  std::this_thread::sleep_for(std::chrono::milliseconds{50});
              if (put_some(*db, 30 + taken, 100) != 70 - taken || count_some(*db, 0, 100) != 100) return 4;
              return db->close() ? 0 : 5;
          }) == 0);
    check_store(path, 100);
}

TEST_CASE(
    "refusing machine: with 12 and with 64 descriptors a store works or says so, and goes on once there are more") {
    for (rlim_t const limit : {rlim_t{12}, rlim_t{64}}) {
        // UndefinedBehaviorSanitizer opens a pipe to look at an object, and calls one that it cannot look at damaged.
        if (keel::test::sanitized && limit == 12) continue;
        posix_folder const folder;
        auto const path = folder / "db";
        make_store(path, 400); // many tables
        CHECK(in_child([&] {
                  rlimit before{};
                  ::getrlimit(RLIMIT_NOFILE, &before);
                  rlimit const few{limit, before.rlim_max};
                  ::setrlimit(RLIMIT_NOFILE, &few);
                  auto const says_so = [&](auto const& got) {
                      return got || got.error().cause == EMFILE ||
                             to_string(got.error()).find("open files") != std::string::npos;
                  };
                  auto db = real_engine::open(path);
                  if (!db) return says_so(db) ? 0 : 1;
                  int taken = 0;
                  for (int i = 400; i < 800; ++i) {
                      auto const put = db->put(key_of(i), std::string(200, 'v'));
                      if (!says_so(put)) return 2;
                      taken += put.has_value();
                  }
                  if (auto const done = db->compact(); !says_so(done)) return 3;
                  int seen = 0;
                  auto all = db->keys();
                  for (auto const key : all) seen += !key.empty();
                  if (!says_so(all.status()) || (all.status() && seen != 400 + taken)) return 4;
                  if (limit == 64 && (taken != 400 || seen != 800)) return 5;
                  ::setrlimit(RLIMIT_NOFILE, &before);
                  for (int turn = 0; turn < 600 && db->state() == engine_state::read_only; ++turn)
                      std::this_thread::sleep_for(std::chrono::milliseconds{50});
                  if (put_some(*db, 400, 800) != 400 || count_some(*db, 0, 800) != 800) return 6;
                  return db->compact() && db->close() ? 0 : 7;
              }) == 0);
        auto db = real_engine::open(path, quiet());
        REQUIRE(db);
        CHECK_FALSE(db->recovery().damaged());
        CHECK(count_some(*db, 0, 400) == 400);
    }
}

TEST_CASE("refusing machine: a limit on the size of files is a full disk, not a signal, and passes") {
    posix_folder const folder;
    auto const path = folder / "db";
    CHECK(in_child([&] {
              ::signal(SIGXFSZ, SIG_DFL);
              rlimit before{};
              ::getrlimit(RLIMIT_FSIZE, &before);
              rlimit const small{1024, before.rlim_max};
              ::setrlimit(RLIMIT_FSIZE, &small);
              auto const refused = real_engine::open(path, quiet());
              if (refused || refused.error().code != errc::no_space || refused.error().cause != EFBIG) return 1;
              ::setrlimit(RLIMIT_FSIZE, &before);
              auto db = real_engine::open(path, quiet());
              if (!db || put_some(*db, 0, 30) != 30) return 2;
              ::setrlimit(RLIMIT_FSIZE, &small);
              int taken = 0;
              result<lsn> last{};
              while (taken < 100 && (last = db->put(key_of(30 + taken), std::string(200, 'v')))) ++taken;
              if (taken == 100 || last.error().code != errc::no_space) return 3;
              if (count_some(*db, 0, 30 + taken) != 30 + taken || db->compact()) return 4;
              ::setrlimit(RLIMIT_FSIZE, &before);
              db->housekeep(); // what a background thread does
              if (put_some(*db, 30 + taken, 100) != 70 - taken || !db->compact()) return 5;
              return db->close() ? 0 : 6;
          }) == 0);
    check_store(path, 100);
}

TEST_CASE("refusing machine: a signal every 300 us that restarts no call goes unnoticed") {
    posix_folder const folder;
    auto const path = folder / "db";
    CHECK(in_child([&] {
              static std::atomic<int> ticks{0};
              struct sigaction count {};
              count.sa_handler = [](int) { ticks.fetch_add(1); };
              ::sigaction(SIGALRM, &count, nullptr);
              itimerval const often{{0, 300}, {0, 300}};
              ::setitimer(ITIMER_REAL, &often, nullptr);
              int keys = 0;
              for (int round = 0; round < 3 || ticks < 100; ++round) {
                  auto db = real_engine::open(path, quiet());
                  if (!db || db->recovery().damaged()) return 1;
                  if (put_some(*db, keys, keys + 60) != 60 || !db->compact()) return 2;
                  keys += 60;
                  if (count_some(*db, 0, keys) != keys || !db->verify()) return 3;
                  if (!db->close()) return 4;
              }
              itimerval const never{};
              ::setitimer(ITIMER_REAL, &never, nullptr);
              auto const db = real_engine::open(path, quiet());
              return db && count_some(*db, 0, keys) == keys ? 0 : 5;
          }) == 0);
}

} // namespace whose_store
