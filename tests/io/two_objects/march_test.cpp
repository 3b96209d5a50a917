// SPDX-License-Identifier: BSL-1.0
// Two translation units for different processors in one program. The linker keeps one copy of each inline function, so
// the code that opens a window and the handler that leaves it may come from different ones.
#include "part.hpp"

#include <io/posix_folder.hpp>

#include <doctest/doctest.h>

int meet_a_cut_file_with_wide_registers(std::string const& path);

TEST_CASE("two processors: faults become errors in code for either, in either order") {
    keel::tests::posix_folder const folder;
    auto const narrow = [&] { return keel_part::meet_a_cut_file(folder / "narrow"); };
    auto const wide = [&] { return meet_a_cut_file_with_wide_registers(folder / "wide"); };
    CHECK(keel::tests::in_child([&] { return narrow() + wide() + narrow(); }) == 0);
    CHECK(keel::tests::in_child([&] { return wide() + narrow() + wide(); }) == 0);
}
