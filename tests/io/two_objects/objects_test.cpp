// SPDX-License-Identifier: BSL-1.0
// Several shared objects in one process, each with a keel of its own and so each with a handler of its own.
// KEEL_TEST_OBJECTS: their paths, with colons between.
#include "part.hpp"

#include <io/posix_folder.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <unistd.h>

namespace {

using keel::tests::in_child, keel::tests::posix_folder;

std::vector<std::string> object_paths() {
    auto const* const listed = std::getenv("KEEL_TEST_OBJECTS");
    std::vector<std::string> paths;
    std::string_view rest{listed == nullptr ? "" : listed};
    while (!rest.empty()) {
        auto const end = rest.find(':');
        paths.emplace_back(rest.substr(0, end));
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    return paths;
}

struct object {
    object(std::string const& path, int flags) : handle{::dlopen(path.c_str(), RTLD_NOW | flags)} {
        if (handle != nullptr)
            meet = reinterpret_cast<int (*)(char const*)>(::dlsym(handle, "object_meets_a_cut_file"));
    }
    [[nodiscard]] int operator()(std::string const& path) const { return meet == nullptr ? 1000 : meet(path.c_str()); }

    void* handle;
    int (*meet)(char const*) = nullptr;
};

/// Runs f(first, second) in a fresh process for each two objects in each order, loaded so that they see each other and
/// so that not.
template <class F>
void for_each_pair(F&& f) {
    auto const paths = object_paths();
    REQUIRE(paths.size() >= 2);
    for (auto const flags : {RTLD_LOCAL, RTLD_GLOBAL}) {
        for (auto const& first : paths) {
            for (auto const& second : paths) {
                if (first == second) continue;
                INFO(first, " then ", second, flags == RTLD_LOCAL ? " local" : " global");
                CHECK(in_child([&] { return f(object{first, flags}, object{second, flags}); }) == 0);
            }
        }
    }
}

} // namespace

TEST_CASE("two objects: each turns its own faults into errors, whichever installed its handler first") {
    posix_folder const folder;
    for_each_pair([&](object const& first, object const& second) {
        int failures = 0;
        for (int round = 0; round < 2; ++round) {
            failures += first(folder / "first");
            failures += second(folder / "second");
            failures += keel_part::meet_a_cut_file(folder / "program");
        }
        return failures;
    });
}

TEST_CASE("two objects: a thread that has only ever used one of them is served by it, under the other's handler") {
    posix_folder const folder;
    for_each_pair([&](object const& first, object const& second) {
        int failures = keel_part::meet_a_cut_file(folder / "program") + first(folder / "first") +
                       second(folder / "second");
        std::vector<int> counts(3);
        std::thread one{[&] { counts[0] = first(folder / "one"); }};
        std::thread two{[&] { counts[1] = second(folder / "two"); }};
        std::thread three{[&] { counts[2] = keel_part::meet_a_cut_file(folder / "three"); }};
        one.join(), two.join(), three.join();
        for (auto const count : counts) failures += count;
        return failures;
    });
}

TEST_CASE("two objects: closing them leaves nothing dangling in the chain of handlers") {
    posix_folder const folder;
    for_each_pair([&](object const& first, object const& second) {
        int failures = first(folder / "first") + keel_part::meet_a_cut_file(folder / "program") +
                       second(folder / "second");
        if (::dlclose(first.handle) != 0 || ::dlclose(second.handle) != 0) return 99;
        return failures + keel_part::meet_a_cut_file(folder / "program");
    });
}

TEST_CASE("two objects: a fault that is nobody's reaches the handler the host had before all of them") {
    posix_folder const folder;
    auto const paths = object_paths();
    REQUIRE(paths.size() >= 2);
    CHECK(in_child([&] {
              struct sigaction host {};
              host.sa_handler = [](int) { ::_exit(42); };
              ::sigaction(SIGBUS, &host, nullptr);
              for (auto const& path : paths) {
                  if (object{path, RTLD_LOCAL}(folder / "object") != 0) return 1;
              }
              if (keel_part::meet_a_cut_file(folder / "program") != 0) return 2;
              ::raise(SIGBUS);
              return 3;
          }) == 42);
}
