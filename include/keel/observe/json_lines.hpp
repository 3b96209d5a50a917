// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_OBSERVE_JSON_LINES_HPP
#define KEEL_OBSERVE_JSON_LINES_HPP

// Events as JSON, one object a line, for a log collector: {"time":...,"event":"segment_sealed","segment":3,...}.

#include <keel/observe/concept.hpp>
#include <keel/observe/json.hpp>

#include <chrono>
#include <concepts>
#include <iostream>
#include <ostream>
#include <string>
#include <type_traits>
#include <variant>

namespace keel::inline v0::observe {

/// One event as a JSON object. `at_ns`: nanoseconds since 1970. Field names do not change; later versions may add fields.
[[nodiscard]] inline std::string to_json(event const& e, std::uint64_t at_ns) {
    struct writer {
        json_object& o;
        void operator()(damage_found const& d) const {
            o.text("event", "damage_found").number("times", d.times).raw("damage", to_json(d.what));
        }
        void operator()(segment_activated const& s) const {
            o.text("event", "segment_activated").number("segment", s.id.value).number("first_lsn", s.first.value);
        }
        void operator()(segment_sealed const& s) const {
            o.text("event", "segment_sealed").number("segment", s.id.value);
            o.number("first_lsn", s.range.first.value).number("last_lsn", s.range.last.value);
        }
        void operator()(segment_abandoned const& s) const {
            o.text("event", "segment_abandoned").number("segment", s.id.value).text("reason", to_string(s.why));
        }
        void operator()(segment_retired const& s) const {
            o.text("event", "segment_retired").number("segment", s.id.value);
        }
        void operator()(merged const& m) const {
            o.text("event", "merged").number("level", m.level).number("tables", m.tables);
            o.number("bytes_read", m.bytes_read).number("floor", m.floor.value);
        }
        void operator()(records_lost const& l) const {
            o.text("event", "records_lost").number("first_lsn", l.range.first.value);
            o.number("last_lsn", l.range.last.value).text("reason", l.why);
        }
        void operator()(state_changed const& s) const {
            o.text("event", "state_changed").text("state", s.state).text("reason", s.reason);
        }
        void operator()(events_dropped const& d) const { o.text("event", "events_dropped").number("events", d.count); }
        void operator()(scan_unchecked const& s) const {
            o.text("event", "scan_unchecked").text("file", s.why.file).number("offset", s.why.offset);
            o.text("reason", to_string(s.why));
        }
    };
    json_object o;
    o.text("time", utc_text(at_ns));
    std::visit(writer{o}, e);
    return o.str();
}

/// Writes each event as a line to `Stream`, a std::ostream with static storage, and flushes it. An event that cannot be written is dropped,
/// because a failing stream must not make the store fail.
template <auto& Stream>
    requires std::derived_from<std::remove_reference_t<decltype(Stream)>, std::ostream>
struct json_lines_to {
    /// Writes one event.
    void on(event const& e) noexcept {
        try {
            auto const now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                std::chrono::system_clock::now().time_since_epoch());
            Stream << to_json(e, static_cast<std::uint64_t>(now.count())) + '\n' << std::flush;
        } catch (...) {
            Stream.clear();
        }
    }
};

/// Writes each event to the standard error stream, through std::clog.
using json_lines = json_lines_to<std::clog>;

static_assert(observer_policy<json_lines>);

} // namespace keel::inline v0::observe

#endif
