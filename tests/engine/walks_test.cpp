// SPDX-License-Identifier: BSL-1.0
#include <keel/engine/merge.hpp>

#include <keel/io/memory.hpp>
#include <keel/keel.hpp>

#include "../support/model.hpp"
#include "stores.hpp"
#include "versions.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

// Walks over keys that were written again and again: each is given once, with what the snapshot sees, from wherever its versions lie.

namespace {

/// Few keys, some that the eight bytes of an index entry do not tell apart.
std::string hot_key(std::uint64_t n) {
    return n % 3 == 0 ? "k" + std::to_string(n) : "many bytes alike, then " + std::to_string(n);
}

template <class Store>
class hot_keys {
public:
    explicit hot_keys(std::uint64_t seed) : random_{seed} { open(); }

    /// Writes, and now and then what moves versions to where they are walked otherwise.
    void run() {
        for (int step = 0; step < 6; ++step) {
            for (auto n = random_() % 900; n > 0; --n) write();
            switch (random_() % 6) {
            case 0: REQUIRE(db_->compact()); break;
            case 1: db_->housekeep(); break;
            case 2:
                held_.clear();
                REQUIRE(db_->close());
                open();
                break;
            default: break;
            }
            held_.push_back(db_->snapshot());
            for (auto const& s : held_) check(s);
        }
    }

private:
    void open() {
        db_.reset();
        auto db = Store::open("db", model::test_options(), disk_);
        REQUIRE(db);
        db_ = std::make_unique<Store>(std::move(*db));
    }
    void write() {
        if (random_() % 200 == 0) held_.push_back(db_->snapshot());
        if (held_.size() > 6) held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(random_() % held_.size()));
        auto const key = hot_key(random_() % 9);
        auto const value = std::to_string(++last_) + std::string(random_() % 40, 'v');
        bool const erases = random_() % 8 == 0;
        auto const done = erases ? db_->erase(key) : db_->put(key, value);
        REQUIRE(done);
        last_ = done->value;
        all_.note(key, last_, erases ? std::nullopt : std::optional{value});
    }
    void check(keel::snapshot const& at) {
        auto const from = hot_key(random_() % 9);
        for (bool const reverse : {false, true}) {
            CHECK(scanned({.reverse = reverse}, at) == expected(at, {}, {}, reverse));
            CHECK(scanned({.from = from, .reverse = reverse}, at) == expected(at, from, {}, reverse));
            CHECK(scanned({.to = from, .reverse = reverse}, at) == expected(at, {}, from, reverse));
        }
    }
    [[nodiscard]] engine_tests::versions::rows expected(keel::snapshot const& at,
                                                        std::optional<std::string> const& from,
                                                        std::optional<std::string> const& to, bool reverse) const {
        auto out = all_.all_at(at.at().value, from, to);
        if (reverse) std::ranges::reverse(out);
        return out;
    }
    [[nodiscard]] engine_tests::versions::rows scanned(keel::range which, keel::snapshot const& at) const {
        engine_tests::versions::rows out;
        auto scan = db_->scan(std::move(which), at);
        for (auto&& [k, v] : scan) out.emplace_back(k, v);
        CHECK(scan.status());
        return out;
    }

    std::mt19937_64 random_;
    keel::io::memory disk_{};
    std::unique_ptr<Store> db_{};
    engine_tests::versions all_{};
    std::uint64_t last_ = 0;
    std::vector<keel::snapshot> held_{};
};

} // namespace

TEST_CASE("walks: keys of many versions are given once, as a snapshot sees them, from memory, segments and tables") {
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        CAPTURE(seed);
        hot_keys<engine_tests::by_hand_store>{seed}.run();
    }
}

TEST_CASE("walks: the same in small segments, of which housekeeping merges what is due") {
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        CAPTURE(seed);
        hot_keys<engine_tests::tiny_store<>>{seed}.run();
    }
}
