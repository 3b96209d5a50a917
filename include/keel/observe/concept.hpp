// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_OBSERVE_CONCEPT_HPP
#define KEEL_OBSERVE_CONCEPT_HPP

// The observer axis: who is told what happens. Events are typed facts; nothing is formatted, and nothing is told per put.

#include <keel/error.hpp>
#include <keel/policy/repair/finding.hpp>
#include <keel/types.hpp>

#include <concepts>
#include <cstdint>
#include <string>
#include <variant>

namespace keel::inline v0::observe {

/// Recovery found something; `what.done` says what became of it.
struct damage_found {
    finding what;
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
struct state_changed {
    std::string_view state;
    std::string reason;
};
/// A scan ended early because of damage and was let go of without having been asked for its status(): whoever looped over it took a
/// part of the keys for all of them.
struct scan_unchecked {
    error why;
};
using event = std::variant<damage_found, segment_activated, segment_sealed, segment_abandoned, segment_retired, merged,
                           state_changed, scan_unchecked>;

} // namespace keel::inline v0::observe

namespace keel::inline v0 {

/// Told of events, from whichever thread they happen on, never two at a time; must not call back into the store.
///   o.on(event)   void   must not throw
/// Smallest model: observe::none.
template <class O>
concept observer_policy = std::default_initializable<O> && requires(O o, observe::event const& e) {
    { o.on(e) } noexcept;
};

} // namespace keel::inline v0

namespace keel::inline v0::observe {

/// Nobody is told.
struct none {
    void on(event const&) noexcept {}
};

} // namespace keel::inline v0::observe

#endif
