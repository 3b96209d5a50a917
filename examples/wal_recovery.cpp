// SPDX-License-Identifier: BSL-1.0
// The tool for stores with shipped policies. For policies of your own, build these lines with your engine's type.

#include <keel/engine.hpp>
#include <keel/policy/compression/any_of.hpp>
#include <keel/tool/run.hpp>

// Tables that are packed it reads with the libraries that are there.
#if __has_include(<zstd.h>) && __has_include(<lz4.h>)
#include <keel/policy/compression/lz4.hpp>
#include <keel/policy/compression/zstd.hpp>
using unpacks = keel::compression::any_of<keel::compression::none, keel::compression::zstd<>, keel::compression::lz4>;
#elif __has_include(<zstd.h>)
#include <keel/policy/compression/zstd.hpp>
using unpacks = keel::compression::any_of<keel::compression::none, keel::compression::zstd<>>;
#elif __has_include(<lz4.h>)
#include <keel/policy/compression/lz4.hpp>
using unpacks = keel::compression::any_of<keel::compression::none, keel::compression::lz4>;
#else
using unpacks = keel::compression::none;
#endif

int main(int argc, char** argv) { return keel::tool::run<keel::engine<unpacks>>(argc, argv); }
