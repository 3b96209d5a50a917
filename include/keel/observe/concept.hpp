// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_OBSERVE_CONCEPT_HPP
#define KEEL_OBSERVE_CONCEPT_HPP

// The observer axis: the object that receives the events of a store. An event is a typed fact. It is not formatted, and a put causes none.
// observe/event_queue.hpp delivers the events.

#include <keel/error.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/types.hpp>

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

/// The events of a store, and the observers that receive them.
namespace keel::inline v0::observe {

/// Bytes do not verify, or recovery found damage. `what.done` has the action that was taken.
struct damage_found {
    finding what;            ///< the damage
    std::uint64_t times = 1; ///< how often it was met before this delivery
};
/// Writes go to this segment from now on.
struct segment_activated {
    segment_id id; ///< the segment
    lsn first;     ///< the LSN of its first record
};
/// The segment takes no more records.
struct segment_sealed {
    segment_id id;   ///< the segment
    lsn_range range; ///< the LSNs in it
};
/// A write or a sync of this segment failed. Records that were not acknowledged go to a new segment.
struct segment_abandoned {
    segment_id id; ///< the segment
    error why;     ///< the failure
};
/// The records of this segment are no longer needed. Its file is recycled or removed.
struct segment_retired {
    segment_id id; ///< the segment
};
/// Compaction has merged segments or tables into tables of a level.
struct merged {
    unsigned level = 0;           ///< the level of the new tables
    std::uint64_t tables = 0;     ///< the number of new tables
    std::uint64_t bytes_read = 0; ///< 0: a table was moved to the level without being rewritten
    lsn floor;                    ///< all records up to this LSN are in tables
};
/// Accepted records were declared lost. A failed sync dropped them before they were acknowledged as durable.
struct records_lost {
    lsn_range range; ///< the LSNs of the records
    std::string why; ///< the cause, for people
};
/// The state of the store, or the reason for it, has changed.
struct state_changed {
    std::string_view state; ///< name_of() the new engine_state
    std::string reason;     ///< state_reason() of the store
};
/// Events were not delivered, because the queue was full or memory was refused. Only refused memory can drop damage, losses and changes of
/// state.
struct events_dropped {
    std::uint64_t count = 0; ///< the number of dropped events
};
/// A scan ended early because of damage, and was destroyed without a call of its status(). So the program has seen a part of the keys and
/// has not learned that there are more.
struct scan_unchecked {
    error why; ///< the damage that ended the scan
};
/// Any event. Later versions add more, so a visitor needs a branch for events that it does not know.
using event = std::variant<damage_found, segment_activated, segment_sealed, segment_abandoned, segment_retired, merged,
                           records_lost, state_changed, scan_unchecked, events_dropped>;

/// Whether an observer has a function for this event.
template <class O, class E>
concept observes = requires(O o, E const& e) { o.on(e); };

/// The default. No event is delivered.
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
    /// A function for the variant counts as a function for each event.
    static constexpr bool noexcept_all = never_throws<std::variant<E...>> &&
                                         (observes<O, std::variant<E...>> || (never_throws<E> && ...));
};
} // namespace detail

} // namespace keel::inline v0::observe

namespace keel::inline v0 {

/// A struct with a function for each event that it wants. An event without a function costs nothing.
///
///     o.on(damage_found const&)   void   must be noexcept; likewise for each other event of observe::event
///
/// Events are delivered in order, one at a time, by the background thread, by housekeep() and by close(). No lock of the store is held,
/// so an observer may read from the store and write to it; it must not close or destroy it. If there is no background thread and
/// housekeep() is not called, the call that met the damage delivers. A store has one observer: the one given to open(), or a
/// default-constructed one. Smallest model: observe::none.
template <class O>
concept observer_policy = std::movable<O> &&
                          (std::same_as<O, observe::none> || observe::detail::observed_by<O, observe::event>::any) &&
                          observe::detail::observed_by<O, observe::event>::noexcept_all;

} // namespace keel::inline v0

#endif
