// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/store_identity.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>

#include "conformance/file_system.hpp"
#include "support/by_name.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace store_identity {

using keel::errc, keel::io::lock_mode, keel::io::memory, keel::wal::double_lock;
using keel::conformance::code_of, keel::conformance::need, keel::conformance::new_file;
using named = keel::test::by_name<memory>;
using faulty = keel::io::faulty<memory>;

keel::wal::layout const paths{"db"};

template <class Fs>
using identity = keel::wal::store_identity<Fs>;

/// A store's folder with its log, and who has it.
template <class Fs>
struct held_store {
    Fs outside{};
    Fs fs = made();
    identity<Fs> who{fs, paths, need(double_lock<Fs>::take(fs, "db", "db/lock", lock_mode::exclusive))};

    Fs made() {
        need(outside.make_directory("db"));
        need(outside.make_directory("db/log"));
        return need(keel::io::bind_folder(outside, "db"));
    }
};

TEST_CASE("store identity: where nothing has changed it is the store's own, and looking changes nothing") {
    held_store<memory> store;
    auto const before = store.outside.operations();
    for (int i = 0; i < 3; ++i) need(store.who.check());
    CHECK(store.outside.operations() == before);
    store.who.release();
    CHECK(code_of(store.who.check()) == errc::closed);
    need(double_lock<memory>::take(store.outside, "db", "db/lock", lock_mode::exclusive));
}

TEST_CASE("store identity: a lock file that was removed lets nobody in, and is made and locked anew") {
    held_store<memory> store;
    need(store.outside.remove("db/lock"));
    CHECK(code_of(double_lock<memory>::take(store.outside, "db", "db/lock", lock_mode::exclusive)) == errc::locked);
    CHECK(code_of(double_lock<memory>::take(store.outside, "db", "db/lock", lock_mode::shared)) == errc::locked);
    need(store.who.check());
    CHECK(code_of(store.outside.lock("db/lock", lock_mode::exclusive)) == errc::locked); // who knows only the file
    need(store.who.check());
}

TEST_CASE("store identity: another file in place of the lock is taken, unless somebody else has it") {
    held_store<memory> store;
    need(store.outside.remove("db/lock"));
    new_file(store.outside, "db/lock");
    auto theirs = std::optional{need(store.outside.lock("db/lock", lock_mode::exclusive))};
    auto const refused = store.who.check();
    REQUIRE(code_of(refused) == errc::locked);
    CHECK(refused.error().message.find("replaced") != std::string::npos);
    CHECK(refused.error().file == "db/lock");
    CHECK(code_of(store.who.check()) == errc::locked);
    theirs.reset();
    need(store.who.check());
    CHECK(code_of(store.outside.lock("db/lock", lock_mode::exclusive)) == errc::locked);
}

TEST_CASE("store identity: where nobody can have locked what stands there, the folder's lock is enough") {
    held_store<memory> store;
    need(store.outside.remove("db/lock"));
    need(store.outside.make_directory("db/lock"));
    need(store.who.check());
}

TEST_CASE("store identity: a folder of the log that was moved or replaced is told, until it is back") {
    held_store<memory> store;
    need(store.outside.rename("db/log", "away"));
    auto const gone = store.who.check();
    REQUIRE(code_of(gone) == errc::not_a_store);
    CHECK(gone.error().file == "db/log");
    CHECK(gone.error().message.find("moved away") != std::string::npos);
    need(store.outside.make_directory("db/log"));
    CHECK(code_of(store.who.check()) == errc::not_a_store);
    need(store.outside.remove("db/log"));
    need(store.outside.rename("away", "db/log"));
    need(store.who.check());
}

TEST_CASE("store identity: a folder of the log that is made later is the store's from then on") {
    memory disk;
    need(disk.make_directory("db"));
    auto bound = need(disk.bind_folder("db"));
    identity<memory> who{bound, paths, need(double_lock<memory>::take(bound, "db", "db/lock", lock_mode::exclusive))};
    need(who.check());
    need(bound.make_directory("db/log"));
    need(who.check());
    need(disk.rename("db/log", "away"));
    CHECK(code_of(who.check()) == errc::not_a_store);
}

TEST_CASE("store identity: the folder itself may be moved where it is held, and not where only its name is known") {
    held_store<memory> held;
    need(held.outside.rename("db", "moved"));
    need(held.outside.make_directory("db"));
    need(held.who.check());
    held_store<named> by_name;
    need(by_name.who.check());
    need(by_name.outside.rename("db", "moved"));
    CHECK(code_of(by_name.who.check()) == errc::not_a_store);
    need(by_name.outside.make_directory("db"));
    CHECK(code_of(by_name.who.check()) == errc::not_a_store);
    need(by_name.outside.remove("db"));
    need(by_name.outside.rename("moved", "db"));
    need(by_name.who.check());
}

TEST_CASE("store identity: without a lock on the folder a lock file that was lost may have let somebody in") {
    held_store<named> store;
    need(store.outside.remove("db/lock"));
    auto const refused = store.who.check();
    REQUIRE(code_of(refused) == errc::locked);
    CHECK(refused.error().message.find("open it again") != std::string::npos);
    new_file(store.outside, "db/lock");
    CHECK(code_of(store.who.check()) == errc::locked);
}

TEST_CASE("store identity: names that cannot be looked at stop nobody who has the folder's lock") {
    using keel::io::fault_class, keel::io::fault_kind;
    held_store<faulty> store;
    for (std::uint64_t at = 1; at <= 2; ++at) {
        store.outside.set_plan({{{.kind = fault_kind::fail, .on = fault_class::directory, .at = at}}});
        need(store.who.check());
        CHECK(store.outside.fired() == 1);
    }
    store.outside.set_plan({});
    using named_faulty = keel::test::by_name<faulty>;
    held_store<named_faulty> by_name;
    by_name.outside.inner().set_plan({{{.kind = fault_kind::fail, .on = fault_class::directory, .at = 1}}});
    CHECK(code_of(by_name.who.check()) == errc::io_error);
    need(by_name.who.check());
}

TEST_CASE("double lock: shared ones live side by side and shut out an exclusive one, by the folder and by the file") {
    memory disk;
    need(disk.make_directory("db"));
    auto const take = [&](lock_mode mode) { return double_lock<memory>::take(disk, "db", "db/lock", mode); };
    {
        auto const without_file = need(take(lock_mode::shared));
        CHECK(!without_file.file.has_value());
        CHECK(code_of(take(lock_mode::exclusive)) == errc::locked);
    }
    need(take(lock_mode::exclusive));
    auto const one = need(take(lock_mode::shared));
    auto const two = need(take(lock_mode::shared));
    CHECK(one.file.has_value());
    need(disk.remove("db/lock"));
    CHECK(code_of(take(lock_mode::exclusive)) == errc::locked);
    // Whoever knows only the file, and whoever has only that.
    named by_name{memory{}};
    need(by_name.make_directory("db"));
    CHECK(code_of(double_lock<named>::take(by_name, "db", "db/lock", lock_mode::shared)) == errc::not_found);
    auto const alone = need(double_lock<named>::take(by_name, "db", "db/lock", lock_mode::exclusive));
    CHECK(!alone.folder.has_value());
    CHECK(code_of(double_lock<memory>::take(by_name.inner(), "db", "db/lock", lock_mode::shared)) == errc::locked);
}

/// A machine that has no locks for folders, or does not allow them.
template <errc Why>
struct without_folder_locks : memory {
    keel::result<lock_type> lock_folder(std::string const& path, lock_mode) { return keel::failure(Why, "no", path); }
};

TEST_CASE_TEMPLATE("double lock: where folders cannot be locked the file's lock has to do", Fs,
                   without_folder_locks<errc::unsupported>, without_folder_locks<errc::no_permission>) {
    static_assert(keel::io::locks_folders<Fs>);
    Fs disk;
    need(disk.make_directory("db"));
    auto const held = need(double_lock<Fs>::take(disk, "db", "db/lock", lock_mode::exclusive));
    CHECK(!held.folder.has_value());
    CHECK(code_of(double_lock<Fs>::take(disk, "db", "db/lock", lock_mode::exclusive)) == errc::locked);
}

TEST_CASE("double lock: a lock that fails for another reason is not done without") {
    using full = without_folder_locks<errc::io_error>;
    full disk;
    need(disk.make_directory("db"));
    CHECK(code_of(double_lock<full>::take(disk, "db", "db/lock", lock_mode::exclusive)) == errc::io_error);
}

} // namespace store_identity
