// SPDX-License-Identifier: BSL-1.0
#include <keel/engine.hpp>
#include <keel/version.hpp>

#include <doctest/doctest.h>
#include <io/posix_folder.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <sys/wait.h>

using namespace keel;

namespace {

struct program_answer {
    int code = -1;
    std::string out{};
};

struct close_pipe {
    void operator()(std::FILE* pipe) const noexcept { static_cast<void>(::pclose(pipe)); }
};

/// The real program, its error output thrown away. `before`: what the shell does in front of it.
program_answer program(std::string const& words, std::string const& before = "unset KEEL_DATA_DIR; ") {
    auto const* const path = std::getenv("KEEL_WAL_RECOVERY");
    REQUIRE_MESSAGE(path != nullptr, "KEEL_WAL_RECOVERY says where the program is");
    auto const command = before + "'" + std::string{path} + "' " + words + " 2>/dev/null";
    std::unique_ptr<std::FILE, close_pipe> pipe{::popen(command.c_str(), "r")};
    REQUIRE(pipe);
    program_answer a;
    char buffer[4096];
    while (auto const got = std::fread(buffer, 1, sizeof buffer, pipe.get())) a.out.append(buffer, got);
    auto const status = ::pclose(pipe.release());
    a.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
    return a;
}

/// A store of 300 records in one segment.
void make_store_in(std::string const& folder) {
    auto db = engine<>::open(folder, {.background_thread = false});
    REQUIRE(db.has_value());
    for (int i = 0; i < 300; ++i) REQUIRE(db->put("key" + std::to_string(i), std::string(150, 'v')).has_value());
    REQUIRE(db->close().has_value());
}

} // namespace

TEST_CASE("wal-recovery: validate, repair, undo, inspect and dump on a real disk") {
    tests::posix_folder const folder;
    auto const dir = folder / "store";
    auto const on = " --data-dir '" + dir + "'";
    make_store_in(dir);
    CHECK(program("validate" + on).code == 0);
    CHECK(nlohmann::json::parse(program("validate --deep --json" + on).out)["records"] == 300);
    CHECK(program("dump --from-lsn 300" + on).out == "300 put whole \"key299\" \"" + std::string(150, 'v') + "\"\n");

    {
        std::fstream segment{dir + "/log/0000000000000001.seg", std::ios::in | std::ios::out | std::ios::binary};
        REQUIRE(segment.is_open());
        segment.seekp(8000);
        segment.write("XXXXXXXX", 8);
    }
    auto const damaged = program("validate --json" + on);
    CHECK(damaged.code == 1);
    auto const o = nlohmann::json::parse(damaged.out);
    CHECK(o["findings"][0]["file"] == "log/0000000000000001.seg");
    CHECK(o["corrupted_records"] == 1);
    CHECK(program("repair --strategy skip --dry-run" + on).code == 1);
    CHECK(program("repair --strategy skip" + on).code == 1);
    CHECK(program("validate" + on).code == 0);
    CHECK(nlohmann::json::parse(program("inspect --json" + on).out)["quarantine"].size() == 1);
    CHECK(program("undo" + on).code == 0);
    CHECK(program("validate --json" + on).out == damaged.out);
}

TEST_CASE("wal-recovery: looks at a store that another process has open, and changes none") {
    tests::posix_folder const folder;
    auto const dir = folder / "store";
    {
        auto db = engine<>::open(dir, {.background_thread = false});
        REQUIRE(db.has_value());
        REQUIRE(db->put("a", "b").has_value());
        auto const seen = program("validate --json --data-dir '" + dir + "'");
        CHECK(seen.code == 0);
        CHECK(nlohmann::json::parse(seen.out)["in_use"] == true);
        CHECK(nlohmann::json::parse(seen.out)["records"] == 1);
        CHECK(program("dump --data-dir '" + dir + "'").out == "1 put whole \"a\" \"b\"\n");
        CHECK(program("get a --data-dir '" + dir + "'").out == "\"b\"\n");
        CHECK(program("validate --deep --data-dir '" + dir + "'").code == 2);
        CHECK(program("put a c --data-dir '" + dir + "'").code == 2);
        CHECK(program("repair --strategy skip --data-dir '" + dir + "'").code == 2);
        // That it is open does not hang on the name of a file in it, nor on the store's own.
        std::filesystem::remove(dir + "/lock");
        std::filesystem::create_directory_symlink("store", folder / "link");
        for (auto const& where : {dir, folder / "link", folder / "link/", folder / "link/."}) {
            CHECK(nlohmann::json::parse(program("validate --json --data-dir '" + where + "'").out)["in_use"] == true);
            CHECK(program("repair --strategy skip --data-dir '" + where + "'").code == 2);
        }
    }
    CHECK(program("validate --data-dir '" + dir + "'").code == 0);
    CHECK(program("validate --data-dir '" + (folder / "link") + "'").code == 0);
    CHECK(program("repair --strategy skip --data-dir '" + (folder / "link/") + "'").code == 0);
    CHECK(program("validate --data-dir '" + folder / "nothing" + "'").code == 2);
    CHECK(program("validate").code == 2);
    CHECK(program("--help").code == 0);
}

TEST_CASE("wal-recovery: works on the folder that KEEL_DATA_DIR names, and on the current one where that is a store") {
    tests::posix_folder const folder;
    auto const dir = folder / "store";
    auto const set = "cd / && KEEL_DATA_DIR='" + dir + "' ";
    auto const inside = "unset KEEL_DATA_DIR; cd '" + dir + "' && ";
    auto const outside = "unset KEEL_DATA_DIR; cd '" + (folder / "") + "' && ";
    CHECK(program("load </dev/null", outside).code == 2); // makes nothing in a folder that nobody named
    CHECK(program("load </dev/null", set).code == 0);
    CHECK(program("put key value", set).code == 0);
    CHECK(program("get key --raw", inside).out == "value");
    CHECK(program("repair --strategy partial", set).code == 0);
    CHECK(program("repair --strategy partial", inside).code == 0);
    CHECK(program("validate", outside).code == 2);
    // The folder that is named comes first, then the variable.
    CHECK(program("validate --data-dir '" + (folder / "nothing") + "'", set).code == 2);
    CHECK(program("validate", "cd '" + dir + "' && KEEL_DATA_DIR='" + (folder / "nothing") + "' ").code == 2);
    CHECK(program("validate", "cd '" + dir + "' && KEEL_DATA_DIR= ").code == 0);
}

TEST_CASE("wal-recovery: a value goes in and out through pipes, byte for byte") {
    tests::posix_folder const folder;
    auto const dir = folder / "store";
    CHECK(program("load --data-dir '" + dir + "' </dev/null").code == 0);
    CHECK(program("put key --input - --data-dir '" + dir + "'", "printf 'a\\000b\\n' | ").code == 0);
    CHECK(program("get key --raw --data-dir '" + dir + "'").out == std::string("a\0b\n", 4));
    CHECK(program("-V").out.starts_with("wal-recovery " + std::string{version}));
}
