// SPDX-License-Identifier: BSL-1.0
// A shared object that uses keel and shows one function.
#include "part.hpp"

extern "C" __attribute__((visibility("default"))) int object_meets_a_cut_file(char const* path);
extern "C" int object_meets_a_cut_file(char const* path) { return keel_part::meet_a_cut_file(path); }
