// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CONFORMANCE_FILE_SYSTEM_HPP
#define KEEL_TESTS_CONFORMANCE_FILE_SYSTEM_HPP

// The laws of io/concept.hpp that every file system obeys, a user's own included. Use, inside a TEST_CASE:
//
//     keel::conformance::file_system_laws(my_file_system{...}, "/some/folder");
//
// The folder must be there and be empty. Each law is a SUBCASE, so the whole TEST_CASE runs once per law: build a fresh
// folder in it each time. What a crash keeps is not a law of this suite (a real machine cannot be asked); io/memory.hpp
// has its own tests.

#include <keel/io/concept.hpp>
#include <keel/policy/checksum/concept.hpp>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace keel::conformance {

/// The value of a result, or the end of this test with the error's own words.
template <class T>
T need(result<T> got) {
    if (!got) FAIL(to_string(got.error()));
    if constexpr (!std::is_void_v<T>) return std::move(*got);
}

/// The code of the error; nothing where the call succeeded.
template <class T>
std::optional<errc> code_of(result<T> const& got) {
    return got ? std::nullopt : std::optional{got.error().code};
}

/// A checksum for tests: FNV-1a. Another byte anywhere, or another order, gives another value.
struct witness_sum {
    static constexpr checksum_id id = checksum_id::of("test");
    static constexpr std::string_view name = "witness_sum";
    void update(byte_view bytes) noexcept {
        for (auto const b : bytes) state_ = (state_ ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3U;
    }
    [[nodiscard]] std::uint64_t value() const noexcept { return state_; }

private:
    std::uint64_t state_ = 0xcbf29ce484222325U;
};

/// All bytes of a file, as text.
template <io::file_handle F>
std::string contents(F const& file) {
    std::string text(need(file.status()).size, '?');
    auto const bytes = std::as_writable_bytes(std::span{text});
    CHECK(need(file.read(0, bytes)) == bytes.size());
    return text;
}

template <io::file_system Fs>
typename Fs::file new_file(Fs& fs, std::string const& path, std::string_view text = {}) {
    auto file = need(fs.open(path, io::access::read_write, io::creation::must_not_exist));
    need(file.write(0, as_bytes(text)));
    return file;
}

template <io::file_system Fs>
void open_laws(Fs fs, std::string const& base) {
    using io::access, io::creation;
    auto const path = base + "/file";
    SUBCASE("open: a file that must exist and does not is not_found, and the error names it") {
        auto const got = fs.open(path, access::read_write, creation::must_exist);
        REQUIRE(code_of(got) == errc::not_found);
        CHECK(got.error().file == path);
        CHECK(!got.error().message.empty());
    }
    SUBCASE("open: a file that must not exist is made once") {
        CHECK(need(new_file(fs, path).status()).size == 0);
        CHECK(code_of(fs.open(path, access::read_write, creation::must_not_exist)) == errc::exists);
    }
    SUBCASE("open: if_missing makes the file, and leaves one that is there as it is") {
        need(need(fs.open(path, access::read_write, creation::if_missing)).write(0, as_bytes("kept")));
        auto const again = need(fs.open(path, access::read_write, creation::if_missing));
        CHECK(contents(again) == "kept");
        CHECK(again.path() == path);
    }
    SUBCASE("open: a folder is not a regular file, however it is opened") {
        need(fs.make_directory(path));
        CHECK(code_of(fs.open(path, access::read_only, creation::must_exist)) == errc::not_regular);
        CHECK(code_of(fs.open(path, access::read_write, creation::must_exist)) == errc::not_regular);
        CHECK(code_of(fs.open(path, access::read_write, creation::if_missing)) == errc::not_regular);
    }
    SUBCASE("open: a missing folder on the way is not_found") {
        CHECK(code_of(fs.open(base + "/none/file", access::read_write, creation::if_missing)) == errc::not_found);
    }
    SUBCASE("open: a file opened to be read refuses to be changed") {
        new_file(fs, path, "text");
        auto file = need(fs.open(path, access::read_only, creation::must_exist));
        CHECK(code_of(file.write(0, as_bytes("x"))) == errc::no_permission);
        CHECK(code_of(file.allocate(100)) == errc::no_permission);
        CHECK(code_of(file.map(access::read_write)) == errc::no_permission);
        CHECK(contents(file) == "text");
    }
}

template <io::file_system Fs>
void transfer_laws(Fs fs, std::string const& base) {
    auto file = new_file(fs, base + "/file", "hello");
    std::string out(8, '.');
    auto const room = std::as_writable_bytes(std::span{out});
    SUBCASE("read: fewer bytes than asked for only at the end of the file, none behind it") {
        CHECK(need(file.read(2, room)) == 3);
        CHECK(out == "llo.....");
        CHECK(need(file.read(5, room)) == 0);
        CHECK(need(file.read(1000, room)) == 0);
        CHECK(need(file.read(0, byte_span{})) == 0);
    }
    SUBCASE("write: overwrites in place, and a gap behind the end reads as zeros") {
        need(file.write(1, as_bytes("E")));
        need(file.write(7, as_bytes("!")));
        need(file.write(100, byte_view{}));
        CHECK(contents(file) == std::string("hEllo\0\0!", 8));
    }
    SUBCASE("write: what one handle writes, another reads at once") {
        auto const other = need(fs.open(base + "/file", io::access::read_only, io::creation::must_exist));
        need(file.write(5, as_bytes(" world")));
        CHECK(contents(other) == "hello world");
    }
    SUBCASE("read_uncached: the same bytes as read, at any offset and length") {
        std::string text(20'000, ' ');
        for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i * 7 % 23 + i / 4096);
        need(file.write(0, as_bytes(text)));
        need(file.sync());
        for (std::size_t const offset : {0U, 1U, 511U, 512U, 4095U, 4096U, 8191U, 19'999U, 20'000U, 30'000U}) {
            for (std::size_t const length : {0U, 1U, 512U, 4096U, 4097U, 12'289U, 40'000U}) {
                std::string got(length, '?');
                auto const n = need(file.read_uncached(offset, std::as_writable_bytes(std::span{got})));
                CHECK(got.substr(0, n) == (offset < text.size() ? text.substr(offset, length) : std::string{}));
            }
        }
    }
    SUBCASE("allocate: new bytes are zero, old ones stay, and no file ever shrinks by it") {
        need(file.allocate(10'000));
        CHECK(contents(file) == "hello" + std::string(9'995, '\0'));
        need(file.allocate(3));
        CHECK(need(file.status()).size == 10'000);
    }
    SUBCASE("sync: succeeds on a healthy file and keeps its bytes") {
        need(file.sync());
        CHECK(contents(file) == "hello");
    }
    SUBCASE("a moved file goes on where the other was") {
        auto moved = std::move(file);
        need(moved.write(5, as_bytes("!")));
        CHECK(contents(moved) == "hello!");
        file = std::move(moved);
        CHECK(contents(file) == "hello!");
    }
}

template <io::file_system Fs>
void name_laws(Fs fs, std::string const& base) {
    using io::file_kind;
    auto const a = base + "/a", b = base + "/b", folder = base + "/folder";
    SUBCASE("status: tells kind, size and identity, by name as by handle") {
        auto const file = new_file(fs, a, "four");
        auto const other = new_file(fs, b);
        auto const named = need(fs.status(a));
        CHECK(named.kind == file_kind::regular);
        CHECK(named.size == 4);
        CHECK(named.link_count == 1);
        CHECK(named.identity == need(file.status()).identity);
        CHECK(named.identity != need(other.status()).identity);
        need(fs.make_directory(folder));
        CHECK(need(fs.status(folder)).kind == file_kind::directory);
        CHECK(code_of(fs.status(base + "/none")) == errc::not_found);
    }
    SUBCASE("list: names the entries of a folder in order, with their kinds") {
        CHECK(need(fs.list(base)).empty());
        new_file(fs, b), new_file(fs, base + "/B"), new_file(fs, a);
        need(fs.make_directory(folder));
        new_file(fs, folder + "/inner");
        std::vector<io::directory_entry> const wanted{{"B", file_kind::regular},
                                                      {"a", file_kind::regular},
                                                      {"b", file_kind::regular},
                                                      {"folder", file_kind::directory}};
        CHECK((need(fs.list(base)) == wanted));
        CHECK(code_of(fs.list(base + "/none")) == errc::not_found);
        CHECK(!fs.list(a).has_value());
    }
    SUBCASE("make_directory: refuses a taken name, needs the parent") {
        need(fs.make_directory(folder));
        new_file(fs, a);
        CHECK(code_of(fs.make_directory(folder)) == errc::exists);
        CHECK(code_of(fs.make_directory(a)) == errc::exists);
        CHECK(code_of(fs.make_directory(base + "/none/folder")) == errc::not_found);
    }
    SUBCASE("rename: replaces the file at the new name; handles keep the file they opened") {
        auto const mine = new_file(fs, a, "new");
        auto const old = new_file(fs, b, "old");
        auto const identity = need(mine.status()).identity;
        need(fs.rename(a, b));
        CHECK(code_of(fs.status(a)) == errc::not_found);
        CHECK(need(fs.status(b)).identity == identity);
        CHECK(contents(old) == "old");
        CHECK(contents(need(fs.open(b, io::access::read_only, io::creation::must_exist))) == "new");
        CHECK(code_of(fs.rename(a, b)) == errc::not_found);
    }
    SUBCASE("rename: moves a file into another folder, and a folder with what is in it") {
        need(fs.make_directory(folder));
        new_file(fs, a, "text");
        need(fs.rename(a, folder + "/moved"));
        need(fs.rename(folder, b));
        CHECK(contents(need(fs.open(b + "/moved", io::access::read_only, io::creation::must_exist))) == "text");
        CHECK(code_of(fs.status(folder)) == errc::not_found);
    }
    SUBCASE("remove: takes a file or an empty folder away; a handle keeps its bytes") {
        auto const file = new_file(fs, a, "text");
        need(fs.remove(a));
        CHECK(code_of(fs.status(a)) == errc::not_found);
        CHECK(contents(file) == "text");
        CHECK(code_of(fs.remove(a)) == errc::not_found);
        need(fs.make_directory(folder));
        new_file(fs, folder + "/inner");
        CHECK(code_of(fs.remove(folder)) == errc::exists);
        need(fs.remove(folder + "/inner"));
        need(fs.remove(folder));
        CHECK(need(fs.list(base)).empty());
    }
    SUBCASE("sync_directory: succeeds on a folder, and misses one that is not there") {
        new_file(fs, a);
        need(fs.sync_directory(base));
        CHECK(code_of(fs.sync_directory(base + "/none")) == errc::not_found);
    }
    SUBCASE("boot: one value for as long as the machine runs") { CHECK(fs.boot() == Fs{fs}.boot()); }
}

template <io::file_system Fs>
void lock_laws(Fs fs, std::string const& base) {
    using io::lock_mode;
    auto const path = base + "/lock";
    SUBCASE("lock: an exclusive one makes its file and shuts out everyone, this process included") {
        auto held = std::optional{need(fs.lock(path, lock_mode::exclusive))};
        CHECK(need(fs.status(path)).kind == io::file_kind::regular);
        auto const refused = fs.lock(path, lock_mode::exclusive);
        REQUIRE(code_of(refused) == errc::locked);
        CHECK(refused.error().file == path);
        CHECK(refused.error().retryable);
        CHECK(code_of(fs.lock(path, lock_mode::shared)) == errc::locked);
        held.reset();
        need(fs.lock(path, lock_mode::exclusive));
    }
    SUBCASE("lock: shared ones live side by side and shut out an exclusive one until the last is gone") {
        CHECK(code_of(fs.lock(path, lock_mode::shared)) == errc::not_found);
        new_file(fs, path);
        auto one = std::optional{need(fs.lock(path, lock_mode::shared))};
        auto two = std::optional{need(fs.lock(path, lock_mode::shared))};
        one.reset();
        CHECK(code_of(fs.lock(path, lock_mode::exclusive)) == errc::locked);
        two.reset();
        need(fs.lock(path, lock_mode::exclusive));
    }
    SUBCASE("lock: opening and closing the file elsewhere does not drop it") {
        auto const held = need(fs.lock(path, lock_mode::exclusive));
        need(fs.open(path, io::access::read_write, io::creation::must_exist));
        CHECK(code_of(fs.lock(path, lock_mode::exclusive)) == errc::locked);
    }
    SUBCASE("lock: moves with its object, which lets go of what it held before") {
        auto first = need(fs.lock(path, lock_mode::exclusive));
        auto second = need(fs.lock(path + "2", lock_mode::exclusive));
        auto moved = std::move(first);
        CHECK(code_of(fs.lock(path, lock_mode::exclusive)) == errc::locked);
        moved = std::move(second);
        need(fs.lock(path, lock_mode::exclusive));
        CHECK(code_of(fs.lock(path + "2", lock_mode::exclusive)) == errc::locked);
    }
    SUBCASE("lock: another file has another lock, and a folder has none") {
        auto const held = need(fs.lock(path, lock_mode::exclusive));
        need(fs.lock(path + "2", lock_mode::exclusive));
        need(fs.make_directory(base + "/folder"));
        CHECK(code_of(fs.lock(base + "/folder", lock_mode::exclusive)) == errc::not_regular);
    }
}

/// Where the file system has bind_folder(): a handle works through the folder, not through its name.
template <io::file_system Fs>
void bound_laws(Fs fs, std::string const& base) {
    using io::access, io::creation;
    auto const here = base + "/here", moved = base + "/moved", sub = here + "/sub";
    need(fs.make_directory(here));
    auto bound = need(fs.bind_folder(here));
    auto const read = [](Fs& through, std::string const& path) {
        return contents(need(through.open(path, access::read_only, creation::must_exist)));
    };
    SUBCASE("bind_folder: files, folders and locks are where they were after the folder was renamed and replaced") {
        need(bound.make_directory(sub));
        new_file(bound, here + "/a", "mine");
        new_file(bound, sub + "/b", "mine too");
        need(fs.rename(here, moved));
        need(fs.make_directory(here));
        need(fs.make_directory(sub));
        new_file(fs, here + "/a", "theirs");
        new_file(fs, sub + "/b", "theirs too");
        CHECK(read(bound, here + "/a") == "mine");
        CHECK(read(bound, sub + "/b") == "mine too");
        new_file(bound, here + "/new", "text");
        new_file(bound, sub + "/new", "text");
        need(bound.rename(sub + "/new", here + "/newer"));
        need(bound.make_directory(here + "/folder"));
        need(bound.sync_directory(here));
        need(bound.sync_directory(sub));
        CHECK(need(bound.list(here)).size() == 5);
        CHECK(need(bound.list(sub)).size() == 1);
        need(bound.remove(here + "/a"));
        CHECK(code_of(bound.status(here + "/a")) == errc::not_found);
        CHECK(need(bound.status(here)).identity == need(fs.status(moved)).identity);
        auto const held = need(bound.lock(here + "/lock", io::lock_mode::exclusive));
        CHECK(code_of(fs.lock(moved + "/lock", io::lock_mode::exclusive)) == errc::locked);
        CHECK(need(fs.list(here)).size() == 2);
        CHECK(need(fs.list(sub)).size() == 1);
        CHECK(read(fs, here + "/a") == "theirs");
        CHECK(read(fs, moved + "/newer") == "text");
    }
    SUBCASE("bind_folder: a folder in it that was used once stays the one that is used") {
        need(bound.make_directory(sub));
        new_file(bound, sub + "/b", "mine");
        need(fs.rename(sub, moved));
        need(fs.make_directory(sub));
        new_file(fs, sub + "/c", "theirs");
        new_file(bound, sub + "/b2", "mine");
        CHECK(need(fs.list(moved)).size() == 2);
        CHECK(need(fs.list(sub)).size() == 1);
        // The name itself tells what stands there.
        CHECK(need(bound.status(sub)).identity == need(fs.status(sub)).identity);
    }
    SUBCASE("bind_folder: a folder in it that is made anew through the handle is the one that is used") {
        need(bound.make_directory(sub));
        new_file(bound, sub + "/b");
        need(bound.remove(sub + "/b"));
        need(bound.remove(sub));
        CHECK(code_of(bound.open(sub + "/b", access::read_write, creation::if_missing)) == errc::not_found);
        need(bound.make_directory(sub));
        new_file(bound, sub + "/b", "again");
        CHECK(read(fs, sub + "/b") == "again");
    }
    SUBCASE("bind_folder: deeper paths, repeated slashes and dots name the same files") {
        need(bound.make_directory(sub));
        need(bound.make_directory(sub + "/deep"));
        new_file(bound, sub + "/deep/file", "text");
        CHECK(read(bound, here + "//./sub/deep//file") == "text");
        CHECK(need(bound.list(sub + "/deep/")).size() == 1);
        need(bound.sync_directory(sub + "/deep"));
        need(bound.rename(sub + "/deep/file", sub + "/file"));
        need(bound.remove(sub + "/deep"));
    }
    SUBCASE("bind_folder: no path leads out of it, but for the folder above, which can be synced") {
        new_file(fs, base + "/outside", "text");
        for (auto const* way : {"/../outside", "/sub/../../outside"})
            CHECK(code_of(bound.open(here + way, access::read_only, creation::must_exist)) == errc::invalid_argument);
        CHECK(code_of(bound.status(here + "/..")) == errc::invalid_argument);
        need(bound.sync_directory(here + "/.."));
    }
    SUBCASE("bind_folder: other paths are looked for as ever, also one that only begins alike") {
        new_file(fs, base + "/hereafter", "text");
        CHECK(read(bound, base + "/hereafter") == "text");
    }
    SUBCASE("bind_folder: errors and files carry the path that was asked for") {
        auto const missing = bound.open(here + "/none", access::read_only, creation::must_exist);
        REQUIRE(code_of(missing) == errc::not_found);
        CHECK(missing.error().file == here + "/none");
        CHECK(new_file(bound, here + "/file").path() == here + "/file");
    }
    SUBCASE("bind_folder: a copy of the handle is bound, too, and one bound to a folder in it as well") {
        need(bound.make_directory(sub));
        auto copy = bound;
        auto inner = need(bound.bind_folder(sub));
        need(fs.rename(here, moved));
        new_file(copy, here + "/file", "text");
        new_file(inner, sub + "/file", "inner");
        CHECK(read(fs, moved + "/file") == "text");
        CHECK(read(fs, moved + "/sub/file") == "inner");
    }
    SUBCASE("bind_folder: a folder that was removed takes no files") {
        need(fs.remove(here));
        need(fs.make_directory(here));
        CHECK(code_of(bound.open(here + "/file", access::read_write, creation::if_missing)) == errc::not_found);
        CHECK(code_of(bound.make_directory(sub)) == errc::not_found);
        CHECK(need(fs.list(here)).empty());
    }
    SUBCASE("bind_folder: needs a folder that is there") {
        CHECK(code_of(fs.bind_folder(base + "/none")) == errc::not_found);
        new_file(fs, base + "/file");
        CHECK(!fs.bind_folder(base + "/file").has_value());
    }
}

/// Where the file system has lock_folder().
template <io::file_system Fs>
void folder_lock_laws(Fs fs, std::string const& base) {
    using io::lock_mode;
    auto const folder = base + "/folder";
    need(fs.make_directory(folder));
    SUBCASE("lock_folder: an exclusive one shuts out everyone, a shared one only those") {
        auto held = std::optional{need(fs.lock_folder(folder, lock_mode::exclusive))};
        CHECK(code_of(fs.lock_folder(folder, lock_mode::exclusive)) == errc::locked);
        CHECK(code_of(fs.lock_folder(folder, lock_mode::shared)) == errc::locked);
        held.reset();
        auto one = std::optional{need(fs.lock_folder(folder, lock_mode::shared))};
        auto two = std::optional{need(fs.lock_folder(folder, lock_mode::shared))};
        one.reset();
        CHECK(code_of(fs.lock_folder(folder, lock_mode::exclusive)) == errc::locked);
        two.reset();
        need(fs.lock_folder(folder, lock_mode::exclusive));
    }
    SUBCASE("lock_folder: it is the folder's, not the name's") {
        auto const held = need(fs.lock_folder(folder, lock_mode::exclusive));
        need(fs.rename(folder, base + "/moved"));
        need(fs.make_directory(folder));
        CHECK(code_of(fs.lock_folder(base + "/moved", lock_mode::exclusive)) == errc::locked);
        need(fs.lock_folder(folder, lock_mode::exclusive));
    }
    SUBCASE("lock_folder: the folder is used as ever, and the lock of a file in it is another one") {
        auto const held = need(fs.lock_folder(folder, lock_mode::exclusive));
        auto const in_it = need(fs.lock(folder + "/lock", lock_mode::exclusive));
        new_file(fs, folder + "/file");
        CHECK(need(fs.list(folder)).size() == 2);
    }
    SUBCASE("lock_folder: makes nothing, and a file is no folder") {
        CHECK(code_of(fs.lock_folder(base + "/none", lock_mode::exclusive)) == errc::not_found);
        new_file(fs, base + "/file");
        CHECK(!fs.lock_folder(base + "/file", lock_mode::exclusive).has_value());
    }
}

template <io::file_mapping M>
std::string mapped_text(M const& map, std::uint64_t offset, std::size_t length) {
    std::string text(length, '?');
    need(map.copy_out(offset, std::as_writable_bytes(std::span{text})));
    return text;
}

template <io::file_system Fs>
void mapping_laws(Fs fs, std::string const& base) {
    using io::access;
    auto const path = base + "/file";
    auto file = new_file(fs, path, "0123456789abcdef");
    SUBCASE("map: stores are seen by reads, and writes by copies out of the mapping") {
        auto map = need(file.map(access::read_write));
        CHECK(map.size() == 16);
        CHECK(map.path() == path);
        need(map.store(3, as_bytes("STORED")));
        CHECK(contents(file) == "012STORED9abcdef");
        need(file.write(0, as_bytes("W")));
        CHECK(mapped_text(map, 0, 4) == "W12S");
        need(map.sync());
        CHECK(contents(file) == "W12STORED9abcdef");
    }
    SUBCASE("map: verify feeds exactly the bytes asked for") {
        auto const map = need(file.map(access::read_only));
        witness_sum sum;
        need(map.verify(2, 5, sum));
        need(map.verify(16, 0, sum));
        CHECK(sum.value() == checksum::over<witness_sum>(as_bytes("23456")));
    }
    SUBCASE("map: publish puts one aligned word where it belongs") {
        auto map = need(file.map(access::read_write));
        std::uint32_t const word = 0x64636261;
        need(map.publish(4, word));
        std::string wanted(4, '?');
        std::memcpy(wanted.data(), &word, 4);
        CHECK(contents(file) == "0123" + wanted + "89abcdef");
        for (std::uint64_t const offset : {1U, 2U, 3U, 13U, 16U})
            CHECK(code_of(map.publish(offset, word)) == errc::invalid_argument);
    }
    SUBCASE("map: offsets outside are invalid_argument, name file and offset, and touch nothing") {
        auto map = need(file.map(access::read_write));
        std::string out(4, '?');
        auto const room = std::as_writable_bytes(std::span{out});
        witness_sum sum;
        for (std::uint64_t const offset :
             {std::uint64_t{13}, std::uint64_t{17}, std::numeric_limits<std::uint64_t>::max() - 1}) {
            auto const refused = map.store(offset, as_bytes("wxyz"));
            REQUIRE(code_of(refused) == errc::invalid_argument);
            CHECK(refused.error().file == path);
            CHECK(refused.error().offset == offset);
            CHECK(code_of(map.copy_out(offset, room)) == errc::invalid_argument);
            CHECK(code_of(map.verify(offset, 4, sum)) == errc::invalid_argument);
            if constexpr (requires { map.prefetch(offset, 4U); }) map.prefetch(offset, 4U); // a hint for nothing
        }
        CHECK(contents(file) == "0123456789abcdef");
        need(map.copy_out(16, byte_span{}));
    }
    SUBCASE("map: one made to be read refuses to be changed") {
        auto map = need(file.map(access::read_only));
        CHECK(code_of(map.store(0, as_bytes("x"))) == errc::no_permission);
        CHECK(code_of(map.publish(0, 1)) == errc::no_permission);
        CHECK(mapped_text(map, 10, 6) == "abcdef");
    }
    SUBCASE("map: outlives the file object and the name") {
        auto map = [&] {
            auto mine = need(fs.open(path, access::read_write, io::creation::must_exist));
            return need(mine.map(access::read_write));
        }();
        need(fs.remove(path));
        need(map.store(0, as_bytes("still")));
        auto moved = std::move(map);
        CHECK(mapped_text(moved, 0, 6) == "still5");
        need(moved.sync());
    }
    SUBCASE("map: as long as the file was then, and an empty file has an empty mapping") {
        auto const before = need(file.map(access::read_only));
        need(file.allocate(100));
        CHECK(before.size() == 16);
        CHECK(need(file.map(access::read_only)).size() == 100);
        auto empty = need(new_file(fs, base + "/empty").map(access::read_write));
        CHECK(empty.size() == 0);
        need(empty.store(0, byte_view{}));
        need(empty.sync());
        CHECK(code_of(empty.store(0, as_bytes("x"))) == errc::invalid_argument);
    }
}

/// Any mix of writes, stores, allocations and reads gives what a plain array of bytes would give.
template <io::file_system Fs>
void model_law(Fs fs, std::string const& base) {
    std::size_t number = 0;
    CHECK(rc::check("a file is an array of bytes", [&](std::vector<std::uint32_t> const& steps) {
        auto const path = base + "/" + std::to_string(number++);
        auto file = new_file(fs, path);
        std::string model;
        for (auto const step : steps) {
            auto const offset = std::size_t{(step >> 4) % 9000U};
            std::string const text(std::size_t{(step >> 8) % 600U}, static_cast<char>(step >> 3 & 0x7f));
            if (step % 4 == 0) {
                need(file.allocate(offset));
                model.resize(std::max(model.size(), offset), '\0');
            } else if (step % 4 == 1) {
                auto map = need(file.map(io::access::read_write));
                if (offset + text.size() > map.size()) continue;
                need(map.store(offset, as_bytes(text)));
                model.replace(offset, text.size(), text);
            } else {
                need(file.write(offset, as_bytes(text)));
                if (!text.empty()) model.resize(std::max(model.size(), offset + text.size()), '\0');
                if (!text.empty()) model.replace(offset, text.size(), text);
            }
        }
        auto const map = need(file.map(io::access::read_only));
        bool const same = contents(file) == model && mapped_text(map, 0, model.size()) == model;
        need(fs.remove(path));
        return same;
    }));
}

/// A bound handle is a file system like any other.
template <io::binds_folders Fs>
void all_bound_laws(Fs fs, std::string const& base) {
    auto const bound = need(fs.bind_folder(base));
    SUBCASE("opening") { open_laws(bound, base); }
    SUBCASE("bytes") { transfer_laws(bound, base); }
    SUBCASE("names") { name_laws(bound, base); }
    SUBCASE("locks") { lock_laws(bound, base); }
    SUBCASE("mappings") { mapping_laws(bound, base); }
}

/// All laws. `base` is an empty folder of `fs`.
template <io::file_system Fs>
void file_system_laws(Fs const& fs, std::string const& base) {
    SUBCASE("opening") { open_laws(fs, base); }
    SUBCASE("bytes") { transfer_laws(fs, base); }
    SUBCASE("names") { name_laws(fs, base); }
    SUBCASE("locks") { lock_laws(fs, base); }
    if constexpr (io::binds_folders<Fs>) {
        SUBCASE("bound names") { bound_laws(fs, base); }
        SUBCASE("bound, and all the other laws") { all_bound_laws(fs, base); }
    }
    if constexpr (io::locks_folders<Fs>) {
        SUBCASE("locks of folders") { folder_lock_laws(fs, base); }
    }
    SUBCASE("mappings") { mapping_laws(fs, base); }
    SUBCASE("model") { model_law(fs, base); }
}

} // namespace keel::conformance

#endif
