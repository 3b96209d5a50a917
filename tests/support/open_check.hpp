// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_OPEN_CHECK_HPP
#define KEEL_TESTS_SUPPORT_OPEN_CHECK_HPP

// What must hold when any bytes at all are opened as a store, checksums made right by an attacker included: nothing crashes or
// hangs; an open that fails says why and changes nothing; what is served stands in the files as a record that verifies; what one
// open served, the next one serves too, and writes made in between are there.

#include "support/packed_store.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::test {

using record = std::pair<std::string, std::string>;

/// Words that may be salts, by their low half, which is the frames' tag.
class salt_list {
public:
    void take_words(byte_view bytes) {
        for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) add(format::load<std::uint64_t>(bytes.data() + at));
    }
    /// Operations in manifests stand at any offset.
    void take_all(byte_view bytes) {
        for (std::size_t at = 0; at + 8 <= bytes.size(); ++at) add(format::load<std::uint64_t>(bytes.data() + at));
    }
    void sort() {
        std::ranges::sort(turned_);
        turned_.erase(std::unique(turned_.begin(), turned_.end()), turned_.end());
    }
    template <class F>
    void each_with(std::uint32_t tag, F const& f) const {
        for (auto at = std::ranges::lower_bound(turned_, std::uint64_t{tag} << 32);
             at != turned_.end() && *at >> 32 == tag; ++at)
            f(std::rotl(*at, 32));
    }

private:
    void add(std::uint64_t salt) {
        if (static_cast<std::uint32_t>(salt) != 0) turned_.push_back(std::rotl(salt, 32));
    }
    std::vector<std::uint64_t> turned_{};
};

/// Every put in any segment file that verifies under any salt which headers, manifests or marks may name: found without the scan.
[[nodiscard]] inline std::set<record> verified_puts(io::memory disk) {
    using C = checksum::crc32c;
    salt_list salts;
    std::vector<std::vector<std::byte>> files;
    for (int i = 0; i < 2; ++i)
        for (auto const& [number, edit] :
             wal::read_manifest_copy<C>(disk, i == 0 ? "db/manifest.0" : "db/manifest.1").edits)
            salts.take_all(edit.payload);
    for (auto const& path : disk.files()) {
        if (!path.starts_with("db/log/") && !path.starts_with("db/tables/")) continue;
        files.push_back(*disk.contents(path));
        salts.take_words(files.back());
    }
    salts.sort();
    std::set<record> out;
    for (auto const& bytes : files)
        for (std::size_t at = 0; at + format::frame_header_bytes <= bytes.size(); at += 8) {
            auto const tag = format::load<std::uint32_t>(bytes.data() + at);
            if (tag == 0) continue;
            salts.each_with(tag, [&](std::uint64_t salt) {
                auto const f = format::read_frame<C>(byte_view{bytes}.subspan(at), {salt, at});
                if (f.state == format::frame_state::intact && f.header.type == format::frame_type::put)
                    out.emplace(as_text(f.key()), as_text(f.value()));
                if (f.state == format::frame_state::intact && f.header.type == format::frame_type::block) {
                    format::block_reader in{f.payload};
                    for (in.first(); in.valid(); in.next())
                        if (!in.tombstone()) out.emplace(in.key(), in.value());
                }
            });
        }
    return out;
}

[[nodiscard]] inline std::string wrong_in_served(small_engine const& store, std::set<record> const& known) {
    auto const& r = store.recovery();
    bool const table_damage = std::ranges::any_of(r.findings,
                                                  [](finding const& f) { return f.file.ends_with(".tab"); });
    std::uint64_t keys = 0;
    auto all = store.scan();
    for (auto&& [key, value] : all) {
        if (!known.contains({std::string{key}, std::string{value}}))
            return "serves what no file holds: " + std::string{key};
        auto const got = store.get(key);
        // An index, a filter or a bound that was forged can hide versions, not change them; an opening that looks at all of it says so.
        bool const older = got && *got && known.contains({std::string{key}, **got});
        if ((!got || !*got || older) && table_damage) continue;
        if (!got || !*got || **got != value) return "get and scan differ: " + std::string{key};
        ++keys;
    }
    if (auto const whole = all.status(); !whole && whole.error().message.empty()) return "ended without words";
    if (keys > r.records + r.table_records) return "more keys than records\n" + describe(r);
    for (auto const& l : r.lost_lsn_ranges)
        if (l.empty() || !l.first) return "an empty loss\n" + describe(r);
    return {};
}

[[nodiscard]] inline std::string wrong_in_failure(error const& why, io::memory const& disk,
                                                  io::memory const& untouched) {
    if (why.message.empty()) return "an error without words: " + to_string(why);
    if (why.code == errc::io_error) return "the bytes are bad, not the machine: " + to_string(why);
    auto const no_hint = [](std::string_view path) { return path != "db/lock" && path != "db/notes"; };
    return disk.equal(untouched, no_hint) ? "" : "an open that failed changed something: " + to_string(why);
}

[[nodiscard]] inline std::string wrong_at_next_open(io::memory disk, history::content const& before, lsn last,
                                                    repair_strategy how) {
    auto again = small_engine::open(store_folder, quiet_options(how), disk);
    if (!again) return "an open that succeeded is followed by one that does not: " + to_string(again.error());
    if (content_of(*again) != before) return "the next open serves something else\n" + describe(again->recovery());
    if (again->last_lsn() < last) return "LSNs went back\n" + describe(again->recovery());
    again->abandon();
    return {};
}

/// Opens the disk as the flags say and gives what is wrong; empty where all is well.
[[nodiscard]] inline std::string wrong_after_open(io::memory disk, packed_flags flags) {
    auto const known = verified_puts(disk);
    auto options = quiet_options(flags.strategy);
    options.read_only = flags.read_only;
    auto const untouched = clone(disk);
    auto store = small_engine::open(store_folder, options, disk);
    if (!store) return wrong_in_failure(store.error(), disk, untouched);
    if (auto wrong = wrong_in_served(*store, known); !wrong.empty()) return wrong;
    auto const at_first = "\nfirst open: " + describe(store->recovery());
    auto expected = content_of(*store);
    auto last = store->last_lsn();
    bool const can_write = flags.write && store->state() != engine_state::read_only;
    for (int i = 0; can_write && i < 2; ++i) {
        auto const put = store->put("a key of the fuzzer", "value " + std::to_string(i));
        if (!put) continue;
        expected["a key of the fuzzer"] = "value " + std::to_string(i);
        last = *put;
    }
    if (can_write) {
        history::content const bulk{{"a key of the fuzzer", "ingested"}, {"another one", "ingested, too"}};
        auto const at = store->ingest(bulk);
        if (at) {
            for (auto const& [key, value] : bulk) expected[key] = value;
            last = *at;
        }
    }
    store->abandon();
    if (flags.read_only) return disk.equal(untouched) ? "" : "a read-only open changed something" + at_first;
    auto wrong = wrong_at_next_open(disk, expected, last, flags.strategy);
    return wrong.empty() ? wrong : wrong + at_first;
}

} // namespace keel::test

#endif
