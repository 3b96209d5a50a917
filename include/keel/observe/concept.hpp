// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_OBSERVE_CONCEPT_HPP
#define KEEL_OBSERVE_CONCEPT_HPP

// The observer axis: who is told what happens. Events are typed facts; nothing is formatted, and nothing is told per put. They are
// delivered by observe/event_queue.hpp.

#include <keel/error.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/types.hpp>

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace keel::inline v0::observe {

/// Something does not verify, or a recovery found damage; `what.done` says what became of it.
struct damage_found {
    finding what;
    std::uint64_t times = 1; ///< how often it was met before this was delivered
};
struct segment_activated {
    segment_id id;
    lsn first;
};
struct segment_sealed {
    segment_id id;
    lsn_range range;
};
/// A write or sync failed and the segment was given up; what was not yet acknowledged goes to a fresh one.
struct segment_abandoned {
    segment_id id;
    error why;
};
struct segment_retired {
    segment_id id;
};
/// Segments or tables were merged into tables of a level; all records up to `floor` are in tables now.
struct merged {
    unsigned level = 0;
    std::uint64_t tables = 0;     ///< that were made
    std::uint64_t bytes_read = 0; ///< 0: a table went down as it was
    lsn floor;
};
/// Accepted records were declared lost: a failed sync took them before they were acknowledged as durable.
struct records_lost {
    lsn_range range;
    std::string why;
};
struct state_changed {
    std::string_view state; ///< name_of() the new engine_state
    std::string reason;
};
/// The queue was full, or memory was refused, and so many events were not delivered. Never damage, losses or changes of state, unless
/// memory was refused.
struct events_dropped {
    std::uint64_t count = 0;
};
/// A scan ended early because of damage and was let go of without having been asked for its status(): whoever looped over it took a
/// part of the keys for all of them.
struct scan_unchecked {
    error why;
};
/// Any event. Later versions add more: a visitor of yours needs a branch for events it does not know.
using event = std::variant<damage_found, segment_activated, segment_sealed, segment_abandoned, segment_retired, merged,
                           records_lost, state_changed, scan_unchecked, events_dropped>;

/// Whether an observer has a function for this event.
template <class O, class E>
concept observes = requires(O o, E const& e) { o.on(e); };

/// Nobody is told.
struct none {};

namespace detail {
template <class O, class Events>
struct observed_by;
template <class O, class... E>
struct observed_by<O, std::variant<E...>> {
    static constexpr bool any = (observes<O, E> || ...);
    template <class One>
    static constexpr bool never_throws = !observes<O, One> || requires(O o, One const& e) {
        { o.on(e) } noexcept;
    };
    /// One function for any event counts for all of them.
    static constexpr bool noexcept_all = never_throws<std::variant<E...>> &&
                                         (observes<O, std::variant<E...>> || (never_throws<E> && ...));
};
} // namespace detail

} // namespace keel::inline v0::observe

namespace keel::inline v0 {

/// A struct with a function for each event that it cares about; what it leaves out costs nothing.
///   o.on(damage_found const&)   void   must not throw (noexcept); likewise for each other event of observe::event
/// Delivered one at a time, in order, by the background thread, by housekeep() and by close(), with no lock of the store held: an observer
/// may read from the store and write to it, but not close or destroy it. Where nobody runs the background thread and nobody calls
/// housekeep(), the call that met the damage delivers. One object per store: the one given to open(), or a default-constructed one.
/// Smallest model: observe::none.
template <class O>
concept observer_policy = std::movable<O> &&
                          (std::same_as<O, observe::none> || observe::detail::observed_by<O, observe::event>::any) &&
                          observe::detail::observed_by<O, observe::event>::noexcept_all;

} // namespace keel::inline v0

#endif
