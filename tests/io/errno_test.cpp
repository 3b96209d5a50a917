// SPDX-License-Identifier: BSL-1.0
// An allocation that succeeds may change errno (glibc's malloc does where brk() is refused and mmap() is not): what the system said has
// been read by then.
#include <keel/io/posix.hpp>

#include <io/posix_folder.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <sys/stat.h>

namespace errno_test {

thread_local bool spoils_errno = false;

void* allocate(std::size_t bytes) {
    auto* const made = std::malloc(bytes == 0 ? 1 : bytes);
    if (made == nullptr) throw std::bad_alloc{};
    if (spoils_errno) errno = ENOMEM;
    return made;
}

} // namespace errno_test

void* operator new(std::size_t bytes) { return errno_test::allocate(bytes); }
void operator delete(void* what) noexcept { std::free(what); }
void operator delete(void* what, std::size_t) noexcept { std::free(what); }

TEST_CASE("posix: an error tells what the system said, though every allocation on the way changes errno") {
    using keel::io::access, keel::io::creation, keel::io::lock_mode;
    keel::tests::posix_folder const folder;
    keel::io::posix const plain;
    REQUIRE(plain.make_directory(folder / "there"));
    REQUIRE(plain.make_directory(folder / "there/in it"));
    REQUIRE(::symlink("there", (folder / "link").c_str()) == 0);
    auto const bound = *plain.bind_folder(folder.path());
    std::string const none = folder / "a name that is not there", there = folder / "there", link = folder / "link";
    for (auto const& fs : {plain, bound}) {
        std::vector<std::pair<int, std::function<keel::error()>>> const calls{
            {EEXIST, [&] { return fs.make_directory(there).error(); }},
            {ENOENT, [&] { return fs.open(none, access::read_only, creation::must_exist).error(); }},
            {ENOENT, [&] { return fs.open(none + "/x", access::read_write, creation::if_missing).error(); }},
            {EISDIR, [&] { return fs.open(there, access::read_write, creation::must_exist).error(); }},
            {ELOOP, [&] { return fs.open(link, access::read_only, creation::must_exist).error(); }},
            {ENOENT, [&] { return fs.status(none).error(); }},
            {ENOENT, [&] { return fs.list(none).error(); }},
            {ELOOP, [&] { return fs.list(link).error(); }},
            {ENOENT, [&] { return fs.rename(none, there).error(); }},
            {ENOENT, [&] { return fs.remove(none).error(); }},
            {ENOTEMPTY, [&] { return fs.remove(there).error(); }},
            {ENOENT, [&] { return fs.sync_directory(none).error(); }},
            {ENOENT, [&] { return fs.lock(none, lock_mode::shared).error(); }},
            {ENOENT, [&] { return fs.lock_folder(none, lock_mode::shared).error(); }},
            {ENOENT, [&] { return fs.bind_folder(none).error(); }},
        };
        for (std::size_t i = 0; i < calls.size(); ++i) {
            errno_test::spoils_errno = true;
            auto const got = calls[i].second();
            errno_test::spoils_errno = false;
            CAPTURE(i);
            CHECK(got.cause == calls[i].first);
        }
    }
}
