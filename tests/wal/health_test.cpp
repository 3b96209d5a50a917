// SPDX-License-Identifier: BSL-1.0
#include <keel/wal/health.hpp>

#include <keel/observe/event_queue.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

using keel::engine_state;
using keel::state_cause;

namespace {

struct states {
    std::shared_ptr<std::vector<std::string>> seen = std::make_shared<std::vector<std::string>>();
    void on(keel::observe::state_changed const& s) noexcept {
        seen->push_back(std::string{s.state} + (s.reason.empty() ? "" : ": " + s.reason));
    }
};
using events = keel::observe::event_queue<states>;

keel::error failed(keel::errc code, bool retryable = false) {
    return {.code = code, .message = "said no", .retryable = retryable};
}

} // namespace

TEST_CASE("health: the first cause is kept, and decides whether writing resumes by itself") {
    struct row {
        keel::error first;
        keel::error second;
        state_cause cause;
        bool heals;
    };
    row const rows[] = {
        {failed(keel::errc::no_space), failed(keel::errc::io_error), state_cause::no_space, true},
        {failed(keel::errc::io_error), failed(keel::errc::no_space), state_cause::device, false},
        {failed(keel::errc::io_error, true), failed(keel::errc::io_error), state_cause::resources, true},
        {failed(keel::errc::out_of_memory), failed(keel::errc::no_space), state_cause::resources, true},
        {failed(keel::errc::locked), failed(keel::errc::no_space), state_cause::identity, false},
    };
    for (auto const& r : rows) {
        events queue{states{}};
        keel::wal::health<events> health{queue};
        health.stop_writing("first: ", r.first);
        health.stop_writing("then: ", r.second);
        CHECK(health.state() == engine_state::read_only);
        CHECK(health.cause() == r.cause);
        CHECK(health.heals_itself() == r.heals);
        CHECK(health.reason().starts_with("first: "));
        CHECK(health.reason().find("then") == std::string::npos);
        health.resume_writing();
        CHECK(health.state() == engine_state::healthy);
        CHECK(health.cause() == state_cause::none);
        CHECK_FALSE(health.heals_itself());
    }
}

TEST_CASE("health: conditions stand side by side, each ends by itself, and all are in the reason") {
    states told;
    events queue{told};
    keel::wal::health<events> health{queue};
    health.add_condition(state_cause::damage, "a block");
    health.add_condition(state_cause::compaction, "a merge");
    health.add_condition(state_cause::compaction, "a merge, again");
    CHECK(health.state() == engine_state::degraded);
    CHECK(health.is_writable());
    CHECK(health.reason() == "a block; a merge, again");
    health.stop_writing(state_cause::no_space, "full");
    CHECK(health.reason() == "full; a block; a merge, again");
    CHECK_FALSE(health.is_writable());
    health.end_condition(state_cause::damage);
    health.resume_writing();
    CHECK(health.state() == engine_state::degraded);
    health.end_condition(state_cause::compaction);
    CHECK(health.state() == engine_state::healthy);
    CHECK(health.reason().empty());
    health.add_condition(state_cause::damage, "late");
    health.close();
    CHECK(health.is_closed());
    queue.deliver();
    CHECK(told.seen->front() == "degraded: a block");
    CHECK(told.seen->back() == "closed: late");
}
