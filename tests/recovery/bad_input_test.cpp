// SPDX-License-Identifier: BSL-1.0
// What a person may do to a store, or to the engine, by mistake: each time a clear error that says what to do next, and a disk that
// is byte for byte what it was.
#include <keel/engine.hpp>

#include <keel/policy/checksum/xxh3_64.hpp>

#include "io/posix_folder.hpp"
#include "support/damage_judge.hpp"
#include "support/fix_checks.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>
#include <unistd.h>

namespace {

using namespace keel;
using namespace keel::test;
using C = checksum::crc32c;
using real_engine = engine<segment_size<4 * KiB>>;
using other_checksum = engine<io::memory, segment_size<4 * KiB>, checksum::xxh3_64>;
namespace stdfs = std::filesystem;

/// A sentence that names a thing to do: one of the verbs that our messages end with.
bool tells_next_step(std::string const& message) {
    constexpr std::string_view verbs[]{"open",  "create", "choose",     "restore",      "repair", "put ",
                                       "split", "use ",   "store long", "close",        "give",   "try",
                                       "wait",  "stop",   "validate",   "has at least", "end "};
    return message.size() > 20 &&
           std::ranges::any_of(verbs, [&](auto v) { return message.find(v) != std::string::npos; });
}

template <class Result>
void check_error(Result const& got, errc code) {
    REQUIRE_FALSE(got.has_value());
    INFO(to_string(got.error()));
    CHECK(got.error().code == code);
    CHECK(tells_next_step(got.error().message));
}

/// Opening the disk fails with this error under each policy, and leaves it as it was.
template <class Engine = small_engine>
void check_refused(io::memory disk, errc code, open_options options = quiet_options()) {
    for (auto const how : all_strategies) {
        options.repair = how;
        auto const before = clone(disk);
        check_error(Engine::open(store_folder, options, disk), code);
        CHECK(disk.equal(before, [](auto path) { return path != "db/lock"; }));
    }
}

io::memory closed_store() { return make_store(ending::closed, 40, 3).disk; }

/// Each file and link below the folder, and what is in it.
std::map<std::string, std::string> tree_of(std::string const& folder) {
    std::map<std::string, std::string> out;
    for (auto const& entry : stdfs::recursive_directory_iterator(folder)) {
        auto const path = entry.path().string();
        if (entry.is_symlink()) out[path] = "link to " + stdfs::read_symlink(entry.path()).string();
        else if (entry.is_directory()) out[path] = "folder";
        else {
            std::ifstream in{entry.path(), std::ios::binary};
            auto& bytes = out[path];
            bytes.resize(static_cast<std::size_t>(entry.file_size()));
            in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        }
    }
    return out;
}

std::string real_store(keel::tests::posix_folder const& folder) {
    auto const path = folder / "db";
    auto store = real_engine::open(path, quiet_options());
    REQUIRE(store.has_value());
    for (int i = 0; i < 60; ++i) REQUIRE(store->put("key" + std::to_string(i), std::string(60, 'v')).has_value());
    REQUIRE(store->close().has_value());
    return path;
}

} // namespace

TEST_CASE("a folder that holds other files is no store and stays as it is") {
    io::memory disk;
    REQUIRE(disk.make_directory("db"));
    REQUIRE(disk.replace("db/letter.txt", as_bytes("dear reader")));
    check_refused(disk, errc::not_a_store);
    CHECK(disk.files() == std::vector<std::string>{"db/letter.txt"});
}

TEST_CASE("a folder that is not there is not made where the caller did not ask for it") {
    io::memory disk;
    auto options = quiet_options();
    options.create_if_missing = false;
    check_refused(disk, errc::not_found, options);
    options.create_if_missing = true;
    options.read_only = true;
    check_refused(disk, errc::not_found, options);
    CHECK(disk.files().empty());
    CHECK_FALSE(disk.status("db").has_value());
}

TEST_CASE("an empty folder is no store for who may not create one") {
    io::memory disk;
    REQUIRE(disk.make_directory("db"));
    auto options = quiet_options();
    options.create_if_missing = false;
    check_refused(disk, errc::not_found, options);
}

TEST_CASE("a file where the store's folder should be is no store") {
    io::memory disk;
    REQUIRE(disk.replace("db", as_bytes("a file")));
    check_refused(disk, errc::not_a_store);
}

TEST_CASE("a store of a later format is refused by name and left alone") {
    auto disk = closed_store();
    for (auto const& path : disk.files()) {
        auto bytes = *disk.contents(path);
        bool const manifest = path.starts_with("db/manifest");
        if (!manifest && !path.ends_with(".seg")) continue;
        for (auto const at : {std::size_t{0}, bytes.size() - 512}) {
            if (manifest && at != 0) continue;
            format::store(bytes.data() + at + 8, format::format_number + 1);
        }
        if (manifest) fix_manifest<C>(bytes);
        else fix_segment<C>(bytes);
        REQUIRE(disk.replace(path, bytes));
    }
    check_refused(disk, errc::wrong_format);
}

TEST_CASE("a store whose manifests are of a later format is refused although its segments are of this one") {
    auto disk = closed_store();
    for (auto const* path : {"db/manifest.0", "db/manifest.1"}) {
        auto bytes = *disk.contents(path);
        format::store(bytes.data() + 8, format::format_number + 1);
        fix_manifest<C>(bytes);
        REQUIRE(disk.replace(path, bytes));
    }
    check_refused(disk, errc::wrong_format);
}

TEST_CASE("a store made with another checksum is refused with the names of both and left alone") {
    auto disk = closed_store();
    check_refused<other_checksum>(disk, errc::wrong_policy);
    auto const got = other_checksum::open(store_folder, quiet_options(), disk);
    REQUIRE_FALSE(got.has_value());
    CHECK(got.error().message.find("xxh3_64") != std::string::npos);
    CHECK(small_engine::open(store_folder, quiet_options(), disk).has_value());
}

TEST_CASE("a store that somebody writes to is locked for other writers, and stays usable for who has it") {
    io::memory disk;
    auto first = small_engine::open(store_folder, quiet_options(), disk);
    REQUIRE(first.has_value());
    REQUIRE(first->put("a", "1").has_value());
    check_refused(disk, errc::locked);
    CHECK(first->put("a", "2").has_value());
    CHECK(*first->get("a") == "2");
}

TEST_CASE("a store on the real machine that another process has open is locked") {
    keel::tests::posix_folder const folder;
    auto const path = real_store(folder);
    auto held = real_engine::open(path, quiet_options());
    REQUIRE(held.has_value());
    auto const before = tree_of(path);
    check_error(real_engine::open(path, quiet_options()), errc::locked);
    CHECK(keel::tests::in_child([&] {
              auto const got = real_engine::open(path, quiet_options());
              return !got && got.error().code == errc::locked && tells_next_step(got.error().message) ? 0 : 1;
          }) == 0);
    auto looking = quiet_options();
    looking.read_only = true;
    CHECK(keel::tests::in_child([&] {
              auto const got = real_engine::open(path, looking);
              return got && got->last_lsn() == held->last_lsn() && !got->recovery().damaged() ? 0 : 1;
          }) == 0);
    CHECK(tree_of(path) == before);
}

TEST_CASE("a folder that may not be written to is an error that points to read_only, and read_only opens it") {
    keel::tests::posix_folder const folder;
    auto const path = real_store(folder);
    auto const before = tree_of(path);
    auto const protect = [&](bool on) {
        for (auto const& entry : stdfs::recursive_directory_iterator(path))
            ::chmod(entry.path().c_str(), entry.is_directory() ? (on ? 0555 : 0755) : (on ? 0444 : 0644));
        ::chmod(path.c_str(), on ? 0555 : 0755);
        ::chmod(folder.path().c_str(), 0755);
    };
    protect(true);
    // Root is above permissions: a child without privileges tries.
    auto const tried = keel::tests::in_child([&] {
        if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return 77;
        auto const got = real_engine::open(path, quiet_options());
        if (got || got.error().code != errc::no_permission) return 1;
        if (got.error().message.find("read_only") == std::string::npos) return 2;
        auto options = quiet_options();
        options.read_only = true;
        auto const reader = real_engine::open(path, options);
        if (!reader) return 3;
        auto const value = reader->get("key7");
        return value && *value == std::string(60, 'v') ? 0 : 4;
    });
    CHECK(tried == 0);
    protect(false);
    CHECK(tree_of(path) == before);
}

TEST_CASE("a symlink where a file of the store should be is refused, and what it points to is not touched") {
    for (std::string const name : {"log/0000000000000001.seg", "manifest.0", "manifest.1", "notes", "lock"}) {
        CAPTURE(name);
        keel::tests::posix_folder const folder;
        auto const path = real_store(folder);
        stdfs::rename(path + "/" + name, folder / "elsewhere");
        stdfs::create_symlink(folder / "elsewhere", path + "/" + name);
        auto const before = tree_of(folder.path());
        auto got = real_engine::open(path, quiet_options(repair_strategy::refuse));
        if (name == "notes" || name.starts_with("manifest")) {
            // A hint, or one copy of two: the store may open, and then says so, but nothing is written through the link.
            if (got && name != "notes") CHECK(got->recovery().damaged());
            if (got) got->abandon();
        } else {
            check_error(got, errc::not_regular);
            CHECK(tree_of(folder.path()) == before);
        }
        auto const after = tree_of(folder.path());
        CHECK(after.at(folder / "elsewhere") == before.at(folder / "elsewhere"));
    }
}

TEST_CASE("a record or a batch larger than a segment, an empty or over-long key and an empty batch change nothing") {
    io::memory disk;
    auto store = small_engine::open(store_folder, quiet_options(), disk);
    REQUIRE(store.has_value());
    REQUIRE(store->put("a", "1").has_value());
    auto const before = clone(disk);
    check_error(store->put("big", std::string(5000, 'x')), errc::too_large);
    check_error(store->put("big", std::string(std::size_t{1} << 24, 'x')), errc::too_large);
    check_error(store->put(std::string(65536, 'k'), ""), errc::too_large);
    check_error(store->put("", "value"), errc::invalid_argument);
    check_error(store->erase(""), errc::invalid_argument);
    write_batch batch;
    CHECK(store->write(batch).error().code == errc::invalid_argument);
    for (int i = 0; i < 50; ++i) batch.put("key" + std::to_string(i), std::string(60, 'x'));
    check_error(store->write(batch), errc::too_large);
    batch.clear();
    batch.put("good", "1");
    batch.put("", "2");
    check_error(store->write(batch), errc::invalid_argument);
    CHECK(disk.equal(before));
    CHECK(store->state() == engine_state::healthy);
    CHECK(*store->put("b", "2") == lsn{2});
    CHECK(content_of(*store) == history::content{{"a", "1"}, {"b", "2"}});
}

TEST_CASE("the largest record that fits is taken, rolls over and is there again") {
    io::memory disk;
    auto store = small_engine::open(store_folder, quiet_options(), disk);
    REQUIRE(store.has_value());
    auto const room = wal::writer<small_engine::config_type, wal::discard_records>::batch_bytes_max -
                      format::frame_header_bytes - 1;
    std::string const largest(static_cast<std::size_t>(room), 'x');
    for (int i = 0; i < 3; ++i) REQUIRE(store->put("k", largest).has_value());
    check_error(store->put("k", largest + "x"), errc::too_large);
    store->abandon();
    auto again = small_engine::open(store_folder, quiet_options(), disk);
    REQUIRE(again.has_value());
    CHECK(*again->get("k") == largest);
    CHECK(again->recovery().findings.empty());
}

TEST_CASE("a 4 GiB length field costs its own record and no memory") {
    auto store = make_store(ending::closed, 40, 3);
    for (bool const believed : {false, true}) {
        auto disk = clone(store.disk);
        auto const& f = store.file("db/log/0000000000000001.seg");
        auto bytes = *disk.contents(f.path);
        format::store(bytes.data() + 512 + 112 + 8,
                      std::uint32_t{0xFFFFFFFF}); // the first record, behind the start mark
        if (believed) fix_segment<C>(bytes);
        REQUIRE(disk.replace(f.path, bytes));
        CHECK(judge(clone(disk), store.past, repair_strategy::skip_corrupted,
                    {.may_lose = {{1}, store.past.at({1}).batch_last}}, true) == "");
        check_error(small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk), errc::corruption);
    }
}

TEST_CASE(
    "a segment file of zero bytes or of the wrong size is refused by `refuse` with its name, and nothing changes") {
    auto const store = make_store(ending::closed, 60, 3);
    for (std::uint64_t const size : {0U, 1U, 511U, 512U, 1000U}) {
        auto disk = clone(store.disk);
        REQUIRE(disk.cut("db/log/0000000000000001.seg", size));
        auto const before = clone(disk);
        auto const got = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
        check_error(got, errc::corruption);
        CHECK(got.error().message.find("repair") != std::string::npos);
        CHECK(disk.equal(before));
    }
    for (std::uint64_t const size : {4095U, 4097U, 8192U}) { // no record is missing: served, and told
        auto disk = clone(store.disk);
        REQUIRE(disk.cut("db/log/0000000000000001.seg", size));
        auto const got = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
        REQUIRE(got.has_value());
        CHECK(
            std::ranges::any_of(got->recovery().findings, [](auto const& f) { return f.kind == damage::wrong_size; }));
        CHECK(content_of(*got) == store.past.now());
    }
}

TEST_CASE("segment files with swapped ids are put right in the reading; with a doubled id the missing one is refused") {
    auto const store = make_store(ending::closed, 90, 3);
    auto disk = clone(store.disk);
    swap_files(disk, "db/log/0000000000000001.seg", "db/log/0000000000000002.seg");
    auto got = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
    REQUIRE(got.has_value());
    CHECK(content_of(*got) == store.past.now());
    CHECK(std::ranges::count(got->recovery().findings, damage::wrong_place, &finding::kind) >= 2);
    got->abandon();

    disk = clone(store.disk);
    copy_file(disk, "db/log/0000000000000001.seg", "db/log/0000000000000002.seg");
    auto const before = clone(disk);
    check_error(small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk), errc::corruption);
    CHECK(disk.equal(before));
}

TEST_CASE("a segment of another store in the log folder is left alone and told") {
    auto store = make_store(ending::closed, 40, 3);
    auto const other = make_store(ending::closed, 40, 4);
    auto disk = clone(store.disk);
    REQUIRE(disk.replace("db/log/00000000000000ff.seg", *other.disk.contents("db/log/0000000000000001.seg")));
    auto const got = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
    REQUIRE(got.has_value());
    CHECK(content_of(*got) == store.past.now());
    CHECK(std::ranges::count(got->recovery().findings, damage::wrong_place, &finding::kind) == 1);
    CHECK(disk.contents("db/log/00000000000000ff.seg").has_value());
}

TEST_CASE("files that are no segments do no harm in the log folder") {
    auto const store = make_store(ending::closed, 40, 3);
    auto disk = clone(store.disk);
    REQUIRE(disk.replace("db/log/readme.txt", as_bytes("notes of an operator")));
    REQUIRE(disk.replace("db/log/0000000000000001.seg.bak", *disk.contents("db/log/0000000000000001.seg")));
    REQUIRE(disk.replace("db/log/000000000000ZZZZ.seg", as_bytes("?")));
    REQUIRE(disk.make_directory("db/log/folder"));
    auto got = small_engine::open(store_folder, quiet_options(repair_strategy::refuse), disk);
    REQUIRE(got.has_value());
    CHECK(content_of(*got) == store.past.now());
    for (int i = 0; i < 100; ++i) REQUIRE(got->put("more", std::string(100, 'x')).has_value());
    REQUIRE(got->close().has_value());
    CHECK(as_text(*disk.contents("db/log/readme.txt")) == "notes of an operator");
    CHECK(disk.contents("db/log/0000000000000001.seg.bak").has_value());
}

TEST_CASE("a folder where a segment should be is refused") {
    auto disk = closed_store();
    REQUIRE(disk.remove("db/log/0000000000000001.seg"));
    REQUIRE(disk.make_directory("db/log/0000000000000001.seg"));
    check_refused(disk, errc::not_regular);
}

TEST_CASE(
    "a store of which nothing but unreadable manifests is left is no store that can be opened, and stays as it is") {
    auto disk = closed_store();
    for (auto const& path : disk.files())
        if (path.ends_with(".seg")) REQUIRE(disk.remove(path));
    for (auto const* path : {"db/manifest.0", "db/manifest.1"}) zero(disk, path, 0, 8192);
    check_refused(disk, errc::not_a_store);
}
