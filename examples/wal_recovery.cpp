// SPDX-License-Identifier: BSL-1.0
// The tool for stores with shipped policies. For policies of your own, build these lines with your engine's type.

#include <keel/engine.hpp>
#include <keel/tool/run.hpp>

int main(int argc, char** argv) { return keel::tool::run<keel::engine<>>(argc, argv); }
