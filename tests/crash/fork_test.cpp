// SPDX-License-Identifier: BSL-1.0
#include <keel/keel.hpp>

// A process with an open store forks, on real files: whatever the child does with its copy of the store, the parent's files are the
// parent's, and all that the parent was acknowledged is there.

#include "../io/posix_folder.hpp"
#include "../support/closed_calls.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace fork_test {

using keel::tests::bytes_below, keel::tests::in_child, keel::tests::posix_folder, keel::tests::signal_pipe;
// As kill_test.cpp has them: compiled once for both.
using written_store = keel::engine<keel::durability::group_commit, keel::segment_size<256 * keel::KiB>>;
using mapped_store = keel::engine<keel::durability::os_buffered, keel::segment_size<256 * keel::KiB>>;

keel::open_options with_thread(bool background) {
    keel::open_options options;
    options.background_thread = background;
    return options;
}

/// What a child may do with its copy of the parent's store; each returns 0.
template <class Store>
using way = int (*)(std::unique_ptr<Store>&);
template <class Store>
std::vector<way<Store>> ways_to_let_go() {
    return {
        [](std::unique_ptr<Store>& db) { return db.reset(), 0; }, // what a return from main does
        [](std::unique_ptr<Store>& db) { return db->close() ? 1 : 0; },
        [](std::unique_ptr<Store>& db) { return db->abandon(), db.reset(), 0; },
        [](std::unique_ptr<Store>& db) {
            auto moved = std::move(*db);
            *db = std::move(moved);
            return 0;
        },
        [](std::unique_ptr<Store>& db) {
            keel::test::closed_calls calls{"fork"};
            calls.engine(*db, true);
            if (!calls.wrong().empty()) std::fprintf(stderr, "%s\n", calls.wrong().c_str());
            return calls.wrong().empty() ? 0 : 1;
        },
        [](std::unique_ptr<Store>& db) {
            for (int i = 0; i < 100; ++i)
                if (db->put("key" + std::to_string(i), "the child's")) return 1;
            db.reset();
            return 0;
        },
        [](std::unique_ptr<Store>&) { return 0; },
    };
}

/// The parent writes while the child lives, then dies without a word; nothing is missing.
template <class Store>
void parent_goes_on(bool background) {
    for (auto const let_go : ways_to_let_go<Store>()) {
        posix_folder const folder;
        auto const path = folder / "store";
        auto store = std::make_unique<Store>(std::move(*Store::open(path, with_thread(background))));
        for (int i = 0; i < 100; ++i) REQUIRE(store->put("key" + std::to_string(i), "before"));
        signal_pipe const gate;
        auto const child = ::fork();
        REQUIRE(child >= 0);
        if (child == 0) {
            static_cast<void>(gate.wait());
            ::alarm(20);
            ::_exit(let_go(store));
        }
        for (int i = 100; i < 400; ++i) REQUIRE(store->put("key" + std::to_string(i), "after"));
        gate.send();
        int how = 0;
        ::waitpid(child, &how, 0);
        CHECK(WIFEXITED(how));
        CHECK(WEXITSTATUS(how) == 0);
        for (int i = 400; i < 500; ++i) REQUIRE(store->put("key" + std::to_string(i), "after"));
        store->abandon();
        store.reset();
        auto again = Store::open(path);
        REQUIRE(again);
        CHECK(again->recovery().findings.empty());
        CHECK(again->recovery().lost_records == 0);
        int missing = 0;
        for (int i = 0; i < 500; ++i) {
            auto const got = again->get("key" + std::to_string(i));
            missing += !got || *got != (i < 100 ? "before" : "after");
        }
        CHECK(missing == 0);
    }
}

/// Byte for byte, what the child leaves is what it found.
template <class Store>
void child_changes_nothing() {
    for (auto const let_go : ways_to_let_go<Store>()) {
        posix_folder const folder;
        auto const path = folder / "store";
        auto store = std::make_unique<Store>(std::move(*Store::open(path, with_thread(false))));
        for (int i = 0; i < 50; ++i) REQUIRE(store->put("key" + std::to_string(i), "value"));
        auto const before = bytes_below(path);
        CHECK(in_child([&] { return ::alarm(20), let_go(store); }) == 0);
        CHECK(bytes_below(path) == before);
    }
}

TEST_CASE("fork: whatever a child does with its copy of a store, all that the parent was acknowledged is there") {
    for (bool const background : {true, false}) {
        SUBCASE("group_commit") { parent_goes_on<written_store>(background); }
        SUBCASE("os_buffered") { parent_goes_on<mapped_store>(background); }
    }
}

TEST_CASE("fork: a child that lets go of its copy of a store changes no byte") {
    SUBCASE("group_commit") { child_changes_nothing<written_store>(); }
    SUBCASE("os_buffered") { child_changes_nothing<mapped_store>(); }
}

TEST_CASE("fork: a child is shut out of its parent's store, and opens it once the parent has closed it or has died") {
    for (bool const dies : {false, true}) {
        posix_folder const folder;
        auto const path = folder / "store";
        signal_pipe const to_parent, to_child, told;
        auto const parent = ::fork(); // not this process: it is to die
        REQUIRE(parent >= 0);
        if (parent == 0) {
            ::alarm(30);
            auto db = mapped_store::open(path, with_thread(false));
            if (!db || !db->put("from", "parent")) ::_exit(1);
            if (auto const child = ::fork(); child == 0) {
                ::alarm(30);
                auto const refused = mapped_store::open(path, with_thread(false));
                told.send(!refused && refused.error().code == keel::errc::locked ? 'y' : 'n');
                static_cast<void>(to_child.wait());
                auto mine = mapped_store::open(path, with_thread(false));
                auto const found = mine ? mine->get("from") : keel::failure(mine.error());
                told.send(found && *found == "parent" && mine->put("from", "child") && mine->close() ? 'y' : 'n');
                ::_exit(0);
            }
            static_cast<void>(to_parent.wait());
            told.send(db->close() ? 'y' : 'n');
            ::_exit(0);
        }
        CHECK(told.wait() == 'y');
        if (dies) {
            ::kill(parent, SIGKILL);
        } else {
            to_parent.send();
            CHECK(told.wait() == 'y');
        }
        ::waitpid(parent, nullptr, 0);
        to_child.send();
        CHECK(told.wait() == 'y');
        auto again = mapped_store::open(path, with_thread(false));
        REQUIRE(again);
        CHECK(*again->get("from") == "child");
        CHECK(again->recovery().lost_records == 0);
    }
}

} // namespace fork_test
