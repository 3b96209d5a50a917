// SPDX-License-Identifier: BSL-1.0
// Damage, exhaustively: every bit of every file of a small store, every length a file may be cut to, every file gone, doubled or
// in another's place. After each the referee (support/damage_judge.hpp) knows what must be served and what must be noticed.
#include <keel/recovery/opening.hpp>

#include <keel/policy/durability/os_buffered.hpp>

#include "support/damage_judge.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace keel;
using namespace keel::test;
using mapped_engine = engine<io::memory, segment_size<4 * KiB>, durability::os_buffered>;

char const* name_of_ending(ending how) {
    return how == ending::closed ? "closed" : how == ending::process_crash ? "killed" : "power lost";
}

/// Files whose bytes nobody has to believe: the notes (a hint), the lock, the reserve (zeros).
bool holds_no_data(std::string const& path) {
    return path.ends_with("notes") || path.ends_with("lock") || path.ends_with("reserve");
}

/// Whether a changed byte there can matter to anybody: not behind the last frame.
bool matters(file_map const& f, std::uint64_t offset, std::uint64_t manifest_end) {
    if (holds_no_data(f.path)) return false;
    if (!f.segment) return offset < manifest_end;
    bool const header = offset < format::header_bytes || offset >= f.bytes - format::header_bytes;
    for (auto const& [begin, end] : f.sections)
        if (offset >= begin && offset < end) return true;
    bool const footer = f.sealed && offset >= format::footer_offset(f.bytes);
    return header || footer || (offset >= format::frames_begin(f.bytes) && offset < f.data_end);
}

std::uint64_t manifest_end(io::memory& disk, std::string const& path) {
    return wal::read_manifest_copy<checksum::crc32c>(disk, path).end;
}

/// Where the newest edit's frame begins.
std::uint64_t newest_edit(io::memory& disk, std::string const& path) {
    auto const copy = wal::read_manifest_copy<checksum::crc32c>(disk, path);
    return copy.end - format::frame_bytes(copy.edits.rbegin()->second.payload.size());
}

expectation expect_for(file_map const& f, bool noticed) {
    return {.may_lose = f.segment ? f.lsns : lsn_range{}, .must_be_noticed = noticed};
}

template <class Engine = small_engine>
void sweep_bits(ending how, std::uint64_t every = 1) {
    auto store = make_store<Engine>(how, 50, 7);
    REQUIRE(store.past.last().value >= 50);
    complaints wrong;
    std::uint64_t turn = 0;
    std::uint64_t done = 0;
    for (auto const& f : store.files) {
        auto const end = f.segment || holds_no_data(f.path) ? 0 : manifest_end(store.disk, f.path);
        // The window of R5.7: the newest edit in the second copy, which nothing written later proves durable.
        auto const window = f.path.ends_with("manifest.1") ? newest_edit(store.disk, f.path) : f.bytes;
        for (std::uint64_t bit = 0; bit < f.bytes * 8; ++bit) {
            if (bit / 8 >= window) continue;
            bool const relevant = matters(f, bit / 8, end);
            if (!relevant && bit % 64 != 11) continue;
            if (bit % every != 0) continue;
            if (sanitized && bit / every % 181 != 0) continue;
            auto disk = clone(store.disk);
            flip_bit(disk, f.path, bit);
            auto const strategy = all_strategies[(turn + bit / 8) % 4];
            auto const text = judge<Engine>(disk, store.past, strategy, expect_for(f, relevant), ++turn % 8 == 0);
            ++done;
            if (!text.empty())
                wrong.add(f.path + " bit " + std::to_string(bit) + " (byte " + std::to_string(bit / 8) + ") with " +
                          std::string{choice_of(strategy).name} + ": " + text);
        }
    }
    INFO(name_of_ending(how), ", ", done, " flips: ", wrong.text());
    CHECK(wrong.count() == 0);
    CHECK(done > (sanitized ? 40 : 1000));
}

/// One damage of any kind to any file; says what it was.
std::string damage_anything(io::memory& disk, small_store const& store, io::detail::seeded& random) {
    auto const any_file = [&]() -> file_map const& {
        return store.files[static_cast<std::size_t>(random.below(store.files.size()))];
    };
    auto const& f = any_file();
    auto const status = disk.status(f.path);
    if (!status || status->size == 0) return {};
    auto const size = status->size;
    auto const at = random.below(size);
    auto const place = std::to_string(at) + "; ";
    switch (random.below(7)) {
    case 0: flip_bit(disk, f.path, at * 8 + random.below(8)); return f.path + " flipped at " + place;
    case 1: static_cast<void>(disk.cut(f.path, at)); return f.path + " cut to " + place;
    case 2: static_cast<void>(disk.remove(f.path)); return f.path + " removed; ";
    case 3: {
        auto const& other = any_file();
        if (!f.segment || !other.segment || !disk.status(other.path)) return {};
        swap_files(disk, f.path, other.path);
        return f.path + " and " + other.path + " swapped; ";
    }
    case 4:
        static_cast<void>(disk.fail_reads(f.path, at, 1 + random.below(600)));
        return f.path + " unreadable at " + place;
    default: zero(disk, f.path, at, std::min(size - at, 1 + random.below(700))); return f.path + " zeroed at " + place;
    }
}

} // namespace

TEST_CASE(
    "P2 P3 P11 P18: each single bit flipped in a store that was closed is noticed and costs only its own record") {
    sweep_bits(ending::closed);
}
TEST_CASE("P2 P3 P11 P18: each single bit flipped in a store whose process was killed is noticed") {
    sweep_bits(ending::process_crash);
}
TEST_CASE("P2 P3 P11 P18: each single bit flipped in a store that lost power is noticed") {
    sweep_bits(ending::power_loss);
}

TEST_CASE("P2: each length a file may be cut to is noticed and costs only what was behind") {
    for (auto const how : {ending::closed, ending::process_crash}) {
        auto store = make_store(how, 50, 7);
        complaints wrong;
        std::uint64_t turn = 0;
        for (auto const& f : store.files) {
            bool const hint = holds_no_data(f.path);
            auto const step = sanitized || hint ? 131U : how == ending::closed ? 1U : 3U;
            for (std::uint64_t length = 0; length < f.bytes; length += step) {
                auto disk = clone(store.disk);
                static_cast<void>(disk.cut(f.path, length));
                auto const strategy = all_strategies[++turn % 4];
                auto const text = judge(disk, store.past, strategy, expect_for(f, !hint), turn % 16 < 4);
                if (!text.empty())
                    wrong.add(f.path + " cut to " + std::to_string(length) + " with " +
                              std::string{choice_of(strategy).name} + ": " + text);
            }
        }
        INFO(name_of_ending(how), ": ", wrong.text());
        CHECK(wrong.count() == 0);
    }
}

TEST_CASE("P2: each file gone is noticed and costs only its records") {
    for (auto const how : {ending::closed, ending::process_crash, ending::power_loss}) {
        if (sanitized && how != ending::process_crash) continue;
        auto store = make_store(how, 90, 9);
        complaints wrong;
        for (auto const& f : store.files)
            for (auto const strategy : all_strategies) {
                auto disk = clone(store.disk);
                REQUIRE(disk.remove(f.path));
                REQUIRE(disk.sync_directory(f.segment ? "db/log" : "db"));
                bool const hint = !f.segment && !f.path.ends_with("manifest.0") && !f.path.ends_with("manifest.1");
                auto const text = judge(disk, store.past, strategy, expect_for(f, !hint), true);
                if (!text.empty())
                    wrong.add(f.path + " removed, " + std::string{choice_of(strategy).name} + ": " + text);
                if (auto const w = judge_writable(clone(disk), strategy); !w.empty())
                    wrong.add(f.path + " removed, " + std::string{choice_of(strategy).name} + ": " + w);
            }
        INFO(name_of_ending(how), ": ", wrong.text());
        CHECK(wrong.count() == 0);
    }
}

TEST_CASE("P2: segment files that changed places, or stand twice, cost nothing and are noticed") {
    for (auto const how : {ending::closed, ending::process_crash, ending::power_loss}) {
        if (sanitized && how != ending::process_crash) continue;
        auto store = make_store(how, 90, 9);
        complaints wrong;
        auto const check = [&](io::memory disk, lsn_range may_lose, std::string const& what) {
            for (auto const strategy : all_strategies) {
                auto const text = judge(clone(disk), store.past, strategy, {.may_lose = may_lose}, true);
                if (!text.empty()) wrong.add(what + ", " + std::string{choice_of(strategy).name} + ": " + text);
                if (auto const w = judge_writable(clone(disk), strategy); !w.empty())
                    wrong.add(what + ", writing after " + std::string{choice_of(strategy).name} + ": " + w);
            }
        };
        for (auto const& a : store.files)
            for (auto const& b : store.files) {
                if (!a.segment || !b.segment || a.path == b.path) continue;
                if (a.path < b.path) {
                    auto disk = clone(store.disk);
                    swap_files(disk, a.path, b.path);
                    check(disk, {}, a.path + " and " + b.path + " swapped");
                }
                auto disk = clone(store.disk);
                copy_file(disk, a.path, b.path);
                check(disk, b.lsns, a.path + " copied over " + b.path);
            }
        for (auto const& a : store.files) {
            if (!a.segment) continue;
            for (auto const* name : {"db/log/00000000000000aa.seg", "db/log/other.seg", "db/log/prepare.tmp"}) {
                auto disk = clone(store.disk);
                copy_file(disk, a.path, name);
                check(disk, {}, a.path + " copied to " + name);
            }
        }
        INFO(name_of_ending(how), ": ", wrong.text());
        CHECK(wrong.count() == 0);
    }
}

TEST_CASE("P2 P17: ranges of zeros, of ones and of chance anywhere cost only the records they touch") {
    for (auto const how : {ending::closed, ending::process_crash, ending::power_loss}) {
        auto store = make_store(how, 60, 5);
        complaints wrong;
        io::detail::seeded random{static_cast<std::uint64_t>(how) + 77};
        for (int turn = 0; turn < (sanitized ? 100 : 6000); ++turn) {
            auto const& f = store.files[random.below(store.files.size())];
            if (f.bytes == 0) continue;
            auto const offset = random.below(f.bytes);
            auto const length =
                1 + random.below(std::min<std::uint64_t>(f.bytes - offset, random.below(3) == 0 ? f.bytes : 64));
            auto const kind = random.below(3);
            std::vector<std::byte> bytes(static_cast<std::size_t>(length));
            for (auto& b : bytes)
                b = kind == 0 ? std::byte{0} : kind == 1 ? std::byte{0xFF} : static_cast<std::byte>(random.below(256));
            auto disk = clone(store.disk);
            overwrite(disk, f.path, offset, bytes);
            auto const strategy = all_strategies[random.below(4)];
            auto const text = judge(disk, store.past, strategy, expect_for(f, false), turn % 4 == 0);
            auto const what = f.path + " at " + std::to_string(offset) + "+" + std::to_string(length) + " kind " +
                              std::to_string(kind) + " with " + std::string{choice_of(strategy).name} + ": ";
            if (!text.empty()) wrong.add(what + text);
            if (turn % 4 == 1)
                if (auto const w = judge_writable(disk, strategy); !w.empty()) wrong.add(what + w);
        }
        INFO(name_of_ending(how), ": ", wrong.text());
        CHECK(wrong.count() == 0);
    }
}

TEST_CASE("P2 P3 P11 P18: bits flipped in a store written through mappings are noticed") {
    sweep_bits<mapped_engine>(ending::closed, 7);
    sweep_bits<mapped_engine>(ending::process_crash, 7);
}

TEST_CASE("P2 P17: several damages at once never give a wrong value, or a store that cannot be opened again") {
    for (auto const how : {ending::closed, ending::process_crash, ending::power_loss}) {
        auto store = make_store(how, 90, 11);
        complaints wrong;
        io::detail::seeded random{static_cast<std::uint64_t>(how) + 5};
        for (int turn = 0; turn < (sanitized ? 80 : 6000); ++turn) {
            auto disk = clone(store.disk);
            std::string what = "turn " + std::to_string(turn) + ": ";
            for (auto n = 2 + random.below(3); n > 0; --n) what += damage_anything(disk, store, random);
            auto const strategy = all_strategies[static_cast<std::size_t>(random.below(4))];
            what += choice_of(strategy).name;
            expectation const may{.may_lose = {{1}, lsn_max}, .must_be_noticed = false, .all_accounted = false};
            auto text = judge(clone(disk), store.past, strategy, may, true);
            // Where both manifests and every segment are beyond reading, there is no store left to open.
            if (text.starts_with("open failed: not_a_store")) continue;
            if (text.empty() && turn % 2 == 0) text = judge_writable(disk, strategy);
            if (!text.empty()) wrong.add(what + ": " + text);
        }
        INFO(name_of_ending(how), ": ", wrong.text());
        CHECK(wrong.count() == 0);
    }
}
