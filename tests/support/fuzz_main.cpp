// SPDX-License-Identifier: BSL-1.0
// Stands in for libFuzzer: feeds every file named (or in a folder named) on the command line to the target, once, so that each
// corpus is a normal test in every build with sanitizers. Cases are found by the target crashing.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

namespace {

int feed(std::filesystem::path const& path) {
    std::ifstream in(path, std::ios::binary);
    std::vector<char> const bytes(std::istreambuf_iterator<char>(in), {});
    std::vector<std::uint8_t> const input(bytes.begin(), bytes.end());
    return LLVMFuzzerTestOneInput(input.data(), input.size());
}

} // namespace

int main(int argc, char** argv) {
    std::size_t fed = 0;
    LLVMFuzzerTestOneInput(nullptr, 0);
    for (int i = 1; i < argc; ++i) {
        if (!std::filesystem::is_directory(argv[i])) {
            feed(argv[i]), ++fed;
            continue;
        }
        for (auto const& entry : std::filesystem::recursive_directory_iterator(argv[i]))
            if (entry.is_regular_file()) feed(entry.path()), ++fed;
    }
    std::printf("%zu inputs\n", fed);
    return fed == 0 ? 1 : 0; // an empty corpus would be a test that cannot fail
}
