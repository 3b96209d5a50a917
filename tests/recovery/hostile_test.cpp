// SPDX-License-Identifier: BSL-1.0
// Hostile bytes whose checksums hold: single fields of a real store set to what no writer ever wrote. Nothing may crash, hang or
// take too much memory, and support/open_check.hpp must hold.
#include <keel/recovery/opening.hpp>

#include "support/damage_judge.hpp"
#include "support/open_check.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace keel;
using namespace keel::test;
using C = checksum::crc32c;

std::uint64_t odd_value(io::detail::seeded& random) {
    constexpr std::array<std::uint64_t, 14> odd{0,
                                                1,
                                                2,
                                                7,
                                                8,
                                                0xFF,
                                                0xFFFF,
                                                0x7FFFFFFF,
                                                0x80000000,
                                                0xFFFFFFFF,
                                                std::uint64_t{1} << 63,
                                                ~std::uint64_t{0} - 1,
                                                ~std::uint64_t{0},
                                                std::uint64_t{1} << 32};
    auto const which = random.below(4);
    if (which == 0) return random.below(80);
    if (which == 1) return random.next();
    return odd[static_cast<std::size_t>(random.below(odd.size()))];
}

/// Where fields are that verify only if somebody makes them.
std::uint64_t odd_offset(file_map const& f, io::detail::seeded& random) {
    if (f.path.ends_with("notes")) return random.below(512);
    if (!f.segment) return random.below(2) == 0 ? 8 + random.below(72) : 512 + random.below(600);
    switch (random.below(4)) {
    case 0: return 8 + random.below(170);
    case 1: return f.bytes - 512 + 8 + random.below(170);
    case 2: return f.bytes - 1024 + random.below(512);
    default: return 512 + random.below(std::max<std::uint64_t>(f.data_end, 700) - 512);
    }
}

void make_odd(io::memory& disk, file_map const& f, io::detail::seeded& random, std::string& told) {
    auto bytes = *disk.contents(f.path);
    if (bytes.size() < 1024) return;
    auto const width = std::uint64_t{1} << random.below(4);
    auto const at = odd_offset(f, random) / width * width;
    auto const value = odd_value(random);
    auto const put_at = [&](std::uint64_t offset) {
        for (std::uint64_t i = 0; i < width; ++i)
            bytes[static_cast<std::size_t>(offset + i)] = static_cast<std::byte>(value >> 8 * i & 0xFF);
    };
    put_at(at);
    if (f.segment && at < 512 && random.below(2) == 0) put_at(bytes.size() - 512 + at);
    if (f.segment) fix_segment<C>(bytes);
    else if (f.path.ends_with("notes")) fix_notes<C>(bytes);
    else fix_manifest<C>(bytes);
    static_cast<void>(disk.replace(f.path, bytes));
    told += f.path + " at " + std::to_string(at) + " width " + std::to_string(width) + " value " +
            std::to_string(value) + "; ";
}

void run(std::uint64_t seed, int turns, complaints& wrong) {
    std::vector<small_store> stores;
    for (auto const how : {ending::closed, ending::process_crash, ending::power_loss})
        stores.push_back(make_store(how, 40, seed));
    io::detail::seeded random{seed};
    for (int turn = 0; turn < turns; ++turn) {
        auto const& store = stores[static_cast<std::size_t>(random.below(stores.size()))];
        auto disk = clone(store.disk);
        std::string told = "turn " + std::to_string(turn) + ": ";
        for (auto n = 1 + random.below(3); n > 0; --n)
            make_odd(disk, store.files[static_cast<std::size_t>(random.below(store.files.size()))], random, told);
        if (random.below(6) == 0) static_cast<void>(disk.remove("db/manifest.1")), told += "no manifest.1; ";
        if (random.below(6) == 0) static_cast<void>(disk.remove("db/manifest.0")), told += "no manifest.0; ";
        packed_flags flags;
        flags.strategy = all_strategies[static_cast<std::size_t>(random.below(4))];
        flags.read_only = random.below(8) == 0;
        flags.write = random.below(2) == 0;
        told += choice_of(flags.strategy).name;
        if (auto const text = wrong_after_open(disk, flags); !text.empty()) wrong.add(told + ": " + text);
    }
}

} // namespace

TEST_CASE("P17: fields that no writer ever wrote, under checksums that hold, are errors or findings and never a wrong "
          "value") {
    complaints wrong;
    for (std::uint64_t seed = 1; seed <= (sanitized ? 3 : 8); ++seed) run(seed, sanitized ? 100 : 1000, wrong);
    INFO(wrong.text());
    CHECK(wrong.count() == 0);
}
