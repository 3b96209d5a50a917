// SPDX-License-Identifier: BSL-1.0
// Compiled for a newer processor than the rest of its program.
#include "part.hpp"

int meet_a_cut_file_with_wide_registers(std::string const& path);
int meet_a_cut_file_with_wide_registers(std::string const& path) { return keel_part::meet_a_cut_file(path); }
