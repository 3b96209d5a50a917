// SPDX-License-Identifier: BSL-1.0
// A folder of the real machine that is held, and what happens to its name meanwhile. The laws stand in conformance/file_system.hpp.
#include <keel/io/posix.hpp>

#include <conformance/file_system.hpp>
#include <io/posix_folder.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace posix_bound {

using keel::errc;
using keel::conformance::code_of, keel::conformance::contents, keel::conformance::need, keel::conformance::new_file;
using keel::io::access, keel::io::creation, keel::io::lock_mode;
using keel::tests::in_child, keel::tests::posix_folder;
namespace stdfs = std::filesystem;

keel::io::posix plain;

std::string text_of(keel::io::posix fs, std::string const& path) {
    return contents(need(fs.open(path, access::read_only, creation::must_exist)));
}

/// Another file system on top of a folder as long as this lives; where the user may not mount one, a word of it.
class mounted_over {
public:
    explicit mounted_over(std::string path) : path_{std::move(path)} {
        there_ = ::mount("keel", path_.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "size=1m") == 0;
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

TEST_CASE("posix, bound: a relative path leads to the same folder after the working directory was changed") {
    posix_folder const folder;
    CHECK(in_child([&] {
              stdfs::create_directories(folder / "a/store/log");
              stdfs::create_directories(folder / "b/store/log");
              stdfs::current_path(folder / "a");
              auto bound = plain.bind_folder("store");
              if (!bound || !bound->open("store/log/1", access::read_write, creation::must_not_exist)) return 1;
              stdfs::current_path(folder / "b");
              if (!bound->open("store/log/2", access::read_write, creation::must_not_exist)) return 2;
              if (!bound->rename("store/log/2", "store/3") || !bound->sync_directory("store")) return 3;
              if (!bound->lock("store/lock", lock_mode::exclusive)) return 4;
              return stdfs::exists(folder / "a/store/log/1") && stdfs::exists(folder / "a/store/3") &&
                             stdfs::is_empty(folder / "b/store/log") && !stdfs::exists(folder / "b/store/lock")
                         ? 0
                         : 5;
          }) == 0);
}

TEST_CASE("posix, bound: a link at the end of the path is followed once; below the folder none is") {
    posix_folder const folder;
    stdfs::create_directories(folder / "real/sub");
    stdfs::create_directories(folder / "other/sub");
    stdfs::create_directory_symlink("real", folder / "link");
    auto bound = need(plain.bind_folder(folder / "link"));
    stdfs::remove(folder / "link");
    stdfs::create_directory_symlink("other", folder / "link");
    new_file(bound, folder / "link/file", "text");
    CHECK(text_of(plain, folder / "real/file") == "text");
    stdfs::create_symlink("file", folder / "real/file_link");
    stdfs::create_directory_symlink("../other/sub", folder / "real/folder_link");
    CHECK(code_of(bound.open(folder / "link/file_link", access::read_write, creation::must_exist)) ==
          errc::not_regular);
    auto const below_link = bound.open(folder / "link/folder_link/x", access::read_write, creation::if_missing);
    REQUIRE(code_of(below_link) == errc::not_regular);
    CHECK(below_link.error().message.find("symbolic link") != std::string::npos);
    CHECK(code_of(bound.list(folder / "link/folder_link")) == errc::not_regular);
    CHECK(code_of(bound.sync_directory(folder / "link/folder_link")) == errc::not_regular);
    CHECK(stdfs::is_empty(folder / "other/sub"));
    stdfs::create_directory_symlink("loop", folder / "loop");
    CHECK(plain.bind_folder(folder / "loop").error().cause == ELOOP);
}

TEST_CASE("posix, bound: another file system mounted over the folder hides nothing from who holds it") {
    posix_folder const folder;
    auto const path = folder / "store";
    stdfs::create_directories(path);
    auto bound = need(plain.bind_folder(path));
    new_file(bound, path + "/file", "text");
    {
        mounted_over const hidden{path};
        if (!hidden) return;
        CHECK(need(plain.list(path)).empty());
        CHECK(text_of(bound, path + "/file") == "text");
        new_file(bound, path + "/new", "more");
        need(bound.make_directory(path + "/sub"));
        new_file(bound, path + "/sub/deep", "deep");
        need(bound.sync_directory(path + "/sub"));
        need(bound.sync_directory(path + "/.."));
        CHECK(need(bound.list(path)).size() == 3);
        CHECK(need(plain.list(path)).empty());
        CHECK(need(bound.status(path)).identity != need(plain.status(path)).identity);
    }
    CHECK(text_of(plain, path + "/sub/deep") == "deep");
}

TEST_CASE("posix, bound: one mounted over a folder in it that was used is not written to, and the name tells of it") {
    posix_folder const folder;
    auto const path = folder / "store", log = path + "/log";
    stdfs::create_directories(log);
    auto bound = need(plain.bind_folder(path));
    new_file(bound, log + "/1", "one");
    auto const before = need(bound.status(log)).identity;
    {
        mounted_over const hidden{log};
        if (!hidden) return;
        new_file(bound, log + "/2", "two");
        need(bound.rename(log + "/2", log + "/3"));
        need(bound.sync_directory(log));
        CHECK(need(bound.list(log)).size() == 2);
        CHECK(need(plain.list(log)).empty());
        CHECK(need(bound.status(log)).identity != before);
    }
    CHECK(need(bound.status(log)).identity == before);
    CHECK(text_of(plain, log + "/3") == "two");
}

TEST_CASE(
    "posix, bound: without a descriptor left, folders that are held can be synced, and the rest is told and passes") {
    posix_folder const folder;
    auto const path = folder / "store", log = path + "/log";
    stdfs::create_directories(log);
    new_file(plain, log + "/file", "text");
    CHECK(in_child([&] {
              auto bound = *plain.bind_folder(path);
              if (!bound.list(log)) return 1;
              rlimit now{};
              ::getrlimit(RLIMIT_NOFILE, &now);
              rlimit const none{0, now.rlim_max};
              ::setrlimit(RLIMIT_NOFILE, &none);
              if (!bound.sync_directory(path) || !bound.sync_directory(log)) return 2;
              if (!bound.rename(log + "/file", path + "/file") || !bound.status(path + "/file")) return 3;
              auto const refused = bound.open(path + "/file", access::read_only, creation::must_exist);
              if (refused || refused.error().code != errc::no_descriptor || refused.error().cause != EMFILE) return 4;
              if (!refused.error().retryable) return 5;
              for (auto const& one : {bound.list(log).error(), plain.bind_folder(path).error(),
                                      bound.lock(path + "/lock", lock_mode::exclusive).error(),
                                      bound.lock_folder(path, lock_mode::exclusive).error()})
                  if (one.cause != EMFILE) return 6;
              ::setrlimit(RLIMIT_NOFILE, &now);
              if (!bound.lock(path + "/lock", lock_mode::exclusive)) return 7;
              if (!bound.lock_folder(path, lock_mode::exclusive)) return 8;
              return bound.open(path + "/file", access::read_only, creation::must_exist) ? 0 : 9;
          }) == 0);
}

TEST_CASE(
    "posix, bound: where no descriptor is left files are closed that can be opened again, as long as there are any") {
    posix_folder const folder;
    auto const path = folder / "store";
    stdfs::create_directories(path);
    new_file(plain, path + "/file", "text");
    CHECK(in_child([&] {
              auto const bound = *plain.bind_folder(path);
              std::vector<int> spare{::dup(0), ::dup(0), ::dup(0), ::dup(0)};
              bound.make_room_with([&spare] {
                  if (spare.empty()) return false;
                  ::close(spare.back());
                  spare.pop_back();
                  return true;
              });
              rlimit now{};
              ::getrlimit(RLIMIT_NOFILE, &now);
              rlimit const none{static_cast<rlim_t>(spare.back()) + 1, now.rlim_max};
              ::setrlimit(RLIMIT_NOFILE, &none);
              auto const copy = bound;
              auto const one = copy.open(path + "/file", access::read_only, creation::must_exist);
              auto const two = bound.lock(path + "/lock", lock_mode::exclusive);
              if (!one || !two || spare.size() != 2) return 1;
              if (!bound.list(path) || spare.size() != 1) return 2;
              if (!bound.lock_folder(path, lock_mode::exclusive)) return 3; // what listed it was closed
              auto const three = bound.open(path + "/file", access::read_only, creation::must_exist);
              auto const four = bound.open(path + "/file", access::read_only, creation::must_exist);
              if (!three || !four || !spare.empty()) return 4;
              auto const five = bound.open(path + "/file", access::read_only, creation::must_exist);
              return !five && five.error().code == errc::no_descriptor ? 0 : 5;
          }) == 0);
}

TEST_CASE("posix, bound: a path that the system cannot take is refused, one of spaces and other letters is not") {
    posix_folder const folder;
    using namespace std::string_literals;
    auto const zero = folder / "a\0b"s;
    CHECK(code_of(plain.make_directory(zero)) == errc::invalid_argument);
    CHECK(code_of(plain.bind_folder(zero)) == errc::invalid_argument);
    CHECK(code_of(plain.open(zero, access::read_write, creation::if_missing)) == errc::invalid_argument);
    CHECK(stdfs::is_empty(folder.path()));
    CHECK(code_of(plain.bind_folder(folder.path() + std::string(4096, '/') + "x")) == errc::invalid_argument);
    CHECK(code_of(plain.make_directory(folder / std::string(300, 'x'))) == errc::invalid_argument);
    auto const odd = folder / "  d\xc3\xa9j\xc3\xa0 vu \xe2\x82\xac\xff\n ";
    need(plain.make_directory(odd));
    auto bound = need(plain.bind_folder(odd));
    new_file(bound, odd + "/ f\xc3\xbcr ", "text");
    CHECK(text_of(plain, odd + "/ f\xc3\xbcr ") == "text");
    CHECK(need(bound.list(odd)).front().name == " f\xc3\xbcr ");
}

TEST_CASE("posix, bound: a folder whose own path has as many bytes as the system takes has room for files") {
    posix_folder const folder;
    auto path = folder.path();
    while (path.size() + 202 < 4090) {
        path += "/" + std::string(200, 'd');
        need(plain.make_directory(path));
    }
    path += "/" + std::string(4095 - path.size() - 1, 'e'); // PATH_MAX counts the zero byte behind it
    need(plain.make_directory(path));
    auto bound = need(plain.bind_folder(path));
    need(bound.make_directory(path + "/log"));
    CHECK(code_of(plain.status(path + "/log")) == errc::invalid_argument);
    new_file(bound, path + "/log/file", "text");
    CHECK(text_of(bound, path + "/log/file") == "text");
    need(bound.remove(path + "/log/file"));
}

} // namespace posix_bound
