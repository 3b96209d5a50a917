// SPDX-License-Identifier: BSL-1.0
#include <keel/observe/event_queue.hpp>

#include <keel/keel.hpp>

#include "../support/model.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace keel::observe;

namespace {

/// Cares about two events only, and holds where it puts them.
struct two_kinds {
    std::shared_ptr<std::vector<std::string>> into = std::make_shared<std::vector<std::string>>();
    void on(damage_found const& d) noexcept {
        into->push_back(d.what.file + " x" + std::to_string(d.times) + " lost " + std::to_string(d.what.lost));
    }
    void on(state_changed const& s) noexcept { into->push_back(std::string{s.state}); }
};
struct everything {
    std::shared_ptr<std::vector<event>> into = std::make_shared<std::vector<event>>();
    void on(event const& e) noexcept { into->push_back(e); }
};
struct throws {
    void on(damage_found const&) {}
};
struct cares_about_nothing {};

static_assert(keel::observer_policy<two_kinds>);
static_assert(keel::observer_policy<everything>);
static_assert(keel::observer_policy<none>);
static_assert(!keel::observer_policy<throws>, "an observer must not throw");
static_assert(!keel::observer_policy<cares_about_nothing>);

damage_found damage(std::string file, std::uint64_t offset, std::uint64_t lost = 0) {
    keel::finding f;
    f.file = std::move(file);
    f.offset = offset;
    f.length = 8;
    f.lost = lost;
    return {.what = std::move(f)};
}

} // namespace

TEST_CASE("event queue: an observer gets the events it has a function for, in order, when they are delivered") {
    two_kinds observer;
    event_queue<two_kinds> queue{observer};
    queue.push(damage("a", 0));
    queue.push(segment_retired{});
    queue.push(state_changed{"degraded", "why"});
    CHECK(observer.into->empty());
    queue.deliver();
    CHECK(*observer.into == std::vector<std::string>{"a x1 lost 0", "degraded"});
    queue.deliver();
    CHECK(observer.into->size() == 2);
    bool made = false;
    queue.push<segment_retired>([&] { return made = true, segment_retired{}; });
    CHECK_FALSE_MESSAGE(made, "an event that nobody observes is not even made");
}

TEST_CASE("event queue: the same damage and the same state are told once, with a count") {
    two_kinds observer;
    event_queue<two_kinds> queue{observer};
    for (int i = 0; i < 500; ++i) queue.push(damage("a", 8, 1));
    queue.push(damage("a", 16, 1));
    for (auto const* state : {"degraded", "degraded", "read_only", "degraded"}) queue.push(state_changed{state, ""});
    queue.deliver();
    CHECK(*observer.into ==
          std::vector<std::string>{"a x500 lost 1", "a x1 lost 1", "degraded", "read_only", "degraded"});
}

TEST_CASE("event queue: it is bounded, and what it drops is neither damage nor a loss nor a change of state") {
    constexpr auto capacity = event_queue<everything>::capacity;
    everything observer;
    event_queue<everything> queue{observer};
    queue.push(state_changed{"degraded", "first"});
    queue.push(records_lost{{keel::lsn{3}, keel::lsn{4}}, "gone"});
    for (std::uint64_t i = 0; i < 3 * capacity; ++i) queue.push(segment_activated{{i + 1}, keel::lsn{i + 1}});
    for (std::uint64_t i = 0; i < 3 * capacity; ++i) queue.push(damage(i % 2 == 0 ? "even" : "odd", 8 * i, 1));
    queue.deliver();
    auto const& all = *observer.into;
    CHECK(all.size() <= 2 * capacity);
    std::uint64_t lost = 0;
    std::uint64_t dropped = 0;
    std::uint64_t activated = 0;
    bool state = false;
    bool loss = false;
    for (auto const& e : all) {
        if (auto const* d = std::get_if<damage_found>(&e)) lost += d->what.lost;
        if (auto const* d = std::get_if<events_dropped>(&e)) dropped += d->count;
        activated += std::holds_alternative<segment_activated>(e);
        state = state || std::holds_alternative<state_changed>(e);
        loss = loss || std::holds_alternative<records_lost>(e);
    }
    CHECK(lost == 3 * capacity);
    CHECK(activated + dropped == 3 * capacity);
    CHECK(state);
    CHECK(loss);
}

TEST_CASE("event queue: what an observer pushes while it runs is delivered, too, and never two at a time") {
    struct pushes_more {
        std::function<void(std::uint64_t)>* push;
        std::atomic<int>* inside;
        std::atomic<int>* seen;
        void on(segment_retired const& s) noexcept {
            if (inside->fetch_add(1) != 0) std::abort();
            if (s.id.value < 100) (*push)(s.id.value + 1);
            inside->fetch_sub(1);
            seen->fetch_add(1);
        }
    };
    std::atomic<int> inside{0};
    std::atomic<int> seen{0};
    std::function<void(std::uint64_t)> push;
    event_queue<pushes_more> queue{{&push, &inside, &seen}};
    push = [&](std::uint64_t id) {
        queue.push(segment_retired{{id}});
        queue.deliver();
    };
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < 50; ++i) {
                push(1);
            }
        });
    threads.clear();
    queue.deliver();
    CHECK(seen == 4 * 50 * 100);
}

TEST_CASE("observer: one that is given to open() holds what it likes, and a store tells it of its states") {
    using store = keel::engine<keel::io::memory, keel::segment_size<4 * keel::KiB>, two_kinds>;
    keel::io::memory disk;
    two_kinds observer;
    auto const told = observer.into;
    auto db = store::open("db", model::test_options(), disk, std::move(observer));
    REQUIRE(db);
    REQUIRE(db->put("a", "1"));
    CHECK(told->empty());
    REQUIRE(db->close());
    CHECK(*told == std::vector<std::string>{"closed"});
}

TEST_CASE("observer: one that writes to the store it observes, from an event, stops nobody") {
    struct writes_back {
        std::function<void(std::string const&)>* put;
        void on(segment_sealed const& s) noexcept { (*put)(std::to_string(s.id.value)); }
    };
    using store = keel::engine<keel::io::memory, keel::segment_size<4 * keel::KiB>, writes_back>;
    keel::io::memory disk;
    std::function<void(std::string const&)> put;
    auto db = store::open("db", model::test_options(), disk, writes_back{&put});
    REQUIRE(db);
    put = [&](std::string const& value) { static_cast<void>(db->put("sealed", value)); };
    for (int i = 0; i < 40; ++i) REQUIRE(db->put("key" + std::to_string(i), std::string(300, 'v')));
    db->housekeep(false);
    CHECK(db->get("sealed")->has_value());
    db->abandon();
}
