// SPDX-License-Identifier: BSL-1.0
#include <keel/table/sealed_segment.hpp>

#include <keel/io/fault.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/checksum/crc32c.hpp>

#include "support/segment_image.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

// Walks over a closed segment in which keys have many versions.

namespace {

namespace walked_runs {

using namespace keel;
using C = checksum::crc32c;
using disk_type = io::faulty<io::memory>;
using run = table::sealed_segment_reader<C, disk_type>;
using cursor = run::cursor;
using places = std::vector<std::pair<std::string, std::uint64_t>>; ///< keys and LSNs

constexpr std::uint64_t segment_bytes = 4 * MiB;

/// A segment with a record for each key given, LSNs from 1 on, and its index in memory.
class made_run {
public:
    explicit made_run(std::vector<std::string> const& keys) {
        test::segment_image image{segment_bytes, 4096};
        wal::index_builder index;
        for (auto const& key : keys) {
            auto const at = static_cast<std::uint32_t>(offsets_.size() + 1);
            offsets_.push_back(image.add({.key_bytes = static_cast<std::uint16_t>(key.size()),
                                          .type = format::frame_type::put,
                                          .flags = format::whole_batch},
                                         {at}, key + std::to_string(at)));
            index.add(key, offsets_.back(), at);
        }
        end_ = image.end();
        bytes_ = image.bytes();
        index_ = std::make_shared<wal::sorted_index const>(index.sorted());
    }

    /// The record with this LSN does not verify any more.
    void damage(std::uint64_t at) { bytes_[offsets_[at - 1] + format::frame_header_bytes] ^= std::byte{1}; }
    [[nodiscard]] std::shared_ptr<run const> open(std::vector<lsn_range> counted = {}) {
        REQUIRE(disk_.inner().replace("segment", bytes_));
        if (counted.empty()) counted.push_back({lsn{1}, lsn{offsets_.size()}});
        return std::make_shared<run const>(disk_,
                                           wal::closed_segment{.id = {1},
                                                               .path = "segment",
                                                               .salt = test::segment_image::salt,
                                                               .first = lsn{1},
                                                               .begin = 4096,
                                                               .end = end_,
                                                               .segment_bytes = segment_bytes,
                                                               .counted = std::move(counted)},
                                           index_, std::make_shared<table::read_cache>(1 << 20), nullptr);
    }
    [[nodiscard]] std::uint64_t reads() const { return disk_.operations(io::fault_class::read); }

private:
    disk_type disk_{};
    std::vector<std::byte> bytes_{};
    std::vector<std::uint64_t> offsets_{};
    std::uint64_t end_ = 0;
    std::shared_ptr<wal::sorted_index const> index_{};
};

struct walk {
    places seen{};
    std::vector<table::damaged_range> damage{};
};
/// From where the cursor stands to the end, as a scan does it.
walk rest_of(cursor& at, bool forward) {
    walk out;
    for (;;) {
        if (at.trouble()) {
            out.damage.push_back(at.damaged());
            forward ? at.leave_forward() : at.leave_backward();
        } else if (at.valid()) {
            auto const v = at.current();
            RC_ASSERT(v.value == std::to_string(v.at.value));
            bool const again = !out.seen.empty() && out.seen.back().first == v.key; // the newest comes first, or last
            if (!again) out.seen.emplace_back(v.key, v.at.value);
            else if (!forward) out.seen.back().second = v.at.value;
            forward ? at.pass() : at.previous();
        } else {
            return out;
        }
    }
}
walk walked(std::shared_ptr<run const> const& of, lsn snapshot, bool forward) {
    cursor at{of, snapshot, table::versions::newest_seen};
    if (forward) at.seek("");
    else at.seek_last();
    return rest_of(at, forward);
}

/// Keys that the eight bytes of an index entry tell apart, and keys that they do not; few of them.
std::string some_key() {
    auto const n = *rc::gen::inRange(0, 12);
    if (n < 4) return "the same eight bytes, and " + std::to_string(n % 3);
    if (n == 4) return "the same";
    if (n == 5) return std::string("the same\0", 9);
    return std::to_string(n % 5);
}
std::vector<lsn_range> some_ranges(std::uint64_t last) {
    std::vector<lsn_range> out;
    for (std::uint64_t at = 1 + *rc::gen::inRange<std::uint64_t>(0, 3); at <= last;) {
        auto const end = std::min(last, at + *rc::gen::inRange<std::uint64_t>(0, 60));
        out.push_back({lsn{at}, lsn{end}});
        at = end + 2 + *rc::gen::inRange<std::uint64_t>(0, 20);
    }
    return out;
}

/// Of each key the newest LSN that is seen.
std::map<std::string, std::uint64_t> newest_seen(std::vector<std::string> const& keys,
                                                 std::vector<lsn_range> const& counted, std::uint64_t snapshot) {
    std::map<std::string, std::uint64_t> out;
    for (auto const& r : counted)
        for (auto at = r.first.value; at <= std::min(r.last.value, snapshot); ++at) out[keys[at - 1]] = at;
    return out;
}

} // namespace walked_runs

} // namespace

TEST_CASE("log run: a walk gives of each key the newest version that counts and is seen, in both directions") {
    using namespace walked_runs;
    CHECK(rc::check("walks", [] {
        std::vector<std::string> keys(static_cast<std::size_t>(*rc::gen::inRange(1, 400)));
        for (auto& k : keys) k = some_key();
        made_run made{keys};
        auto const last = keys.size();
        auto const counted = *rc::gen::inRange(0, 2) == 0 ? some_ranges(last)
                                                          : std::vector<lsn_range>{{lsn{1}, lsn{last}}};
        RC_PRE(!counted.empty());
        auto const of = made.open(counted);
        auto const snapshot = *rc::gen::inRange<std::uint64_t>(0, last + 2);
        auto const expected = newest_seen(keys, counted, snapshot);
        places rows{expected.begin(), expected.end()};
        RC_ASSERT(walked(of, lsn{snapshot}, true).seen == rows);
        auto const key = some_key();
        cursor at{of, lsn{snapshot}, table::versions::newest_seen};
        at.seek(key);
        RC_ASSERT(rest_of(at, true).seen == places(expected.lower_bound(key), expected.end()));
        at.seek_before(key);
        auto front = places(expected.begin(), expected.lower_bound(key));
        std::ranges::reverse(front);
        RC_ASSERT(rest_of(at, false).seen == front);
        std::ranges::reverse(rows);
        RC_ASSERT(walked(of, lsn{snapshot}, false).seen == rows);
        // All versions, and past those of a key.
        cursor every{of};
        std::size_t versions = 0;
        for (every.seek(""); every.valid(); every.next()) ++versions;
        std::size_t counts = 0;
        for (auto const& r : counted) counts += r.last.value - r.first.value + 1;
        RC_ASSERT(versions == counts);
        every.seek("");
        auto const newest = newest_seen(keys, counted, last);
        RC_ASSERT(rest_of(every, true).seen == places(newest.begin(), newest.end()));
    }));
}

TEST_CASE("log run: a walk past versions tells of every key whose newest seen version does not verify, and gives all "
          "others") {
    using namespace walked_runs;
    CHECK(rc::check("tells", [] {
        std::vector<std::string> keys(static_cast<std::size_t>(*rc::gen::inRange(1, 300)));
        for (auto& k : keys) k = some_key();
        made_run made{keys};
        auto const last = keys.size();
        std::set<std::uint64_t> hurt;
        for (int n = *rc::gen::inRange(1, 30); n > 0; --n) hurt.insert(*rc::gen::inRange<std::uint64_t>(1, last + 1));
        for (auto const at : hurt) made.damage(at);
        auto const of = made.open();
        auto const snapshot = *rc::gen::inRange<std::uint64_t>(1, last + 2);
        for (bool const forward : {true, false}) {
            auto const got = walked(of, lsn{snapshot}, forward);
            std::map<std::string, std::uint64_t> newest{got.seen.begin(), got.seen.end()};
            for (auto const& one : newest_seen(keys, {{lsn{1}, lsn{last}}}, snapshot)) {
                auto const& key = one.first;
                auto const at = one.second;
                auto const tells = [&](auto const& d) { return d.may_hold(key) && d.lsns.last == lsn{at}; };
                if (hurt.contains(at)) RC_ASSERT(std::ranges::any_of(got.damage, tells));
                else RC_ASSERT(newest[key] == at);
            }
        }
    }));
}

TEST_CASE("log run: walking keys of many versions reads the logarithm of their number, whatever is seen of them") {
    using namespace walked_runs;
    constexpr std::uint64_t keys = 20;
    constexpr std::uint64_t versions = 512;
    for (std::string const begin : {"k", "more than the eight bytes of an index entry "}) {
        CAPTURE(begin);
        std::vector<std::string> written;
        for (std::uint64_t v = 0; v < versions; ++v)
            for (std::uint64_t k = 0; k < keys; ++k) written.push_back(begin + std::to_string(k) + " and its end");
        made_run made{written};
        auto const of = made.open();
        static_cast<void>(walked(of, lsn{1}, true)); // whatever is read once
        for (std::uint64_t const snapshot : {keys * versions, keys * versions / 2, keys * 2})
            for (bool const forward : {true, false}) {
                CAPTURE(snapshot);
                CAPTURE(forward);
                auto const before = made.reads();
                CHECK(walked(of, lsn{snapshot}, forward).seen.size() == keys);
                CHECK(made.reads() - before <= keys * 2 * 10); // a key: twice the logarithm and a little
            }
    }
}
