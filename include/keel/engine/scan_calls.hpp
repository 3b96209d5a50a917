// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_ENGINE_SCAN_CALLS_HPP
#define KEEL_ENGINE_SCAN_CALLS_HPP

// The functions that start a scan of a store: scan(...) gives keys with their values, keys(...) gives only the keys.
//
//   db.scan()                      all keys                  db.scan(snapshot)               as of the snapshot
//   db.scan({"a", "b"})            from "a", below "b"       db.scan({}, snapshot)           the same
//   db.scan({"a"})                 from "a" to the end       db.scan({"a", "b"}, snapshot)
//   db.scan(keel::prefix{"user:"}) keys that begin so        db.scan(keel::on_damage::skip)  goes on behind damage
//   db.scan(keel::range{.to = "b", .reverse = true})         ... on_damage can be the last argument of each

#include <keel/engine/range.hpp>
#include <keel/engine/snapshot.hpp>
#include <keel/error.hpp>
#include <keel/types.hpp>

#include <initializer_list>
#include <string>
#include <utility>

namespace keel::inline v0::detail {

/// The base class that gives `Store` these functions. `Store` has walk_over(range, snapshot const* or null, on_damage), which makes the
/// walk of a scan, and no_walk(error), which makes a walk without keys that has this error as its status().
template <class Store, class Scan, class Keys>
class scan_calls {
    using moment = keel::snapshot;

public:
    /// The keys of the store, of a range or with a prefix, in order and with their values: now, or as of a snapshot of this store. If a key
    /// cannot be read, the scan ends early or goes on behind it (on_damage). Check status() or gaps() after the loop; status() also has the
    /// errors of this call: invalid_argument (the snapshot was taken from another store, or more than two bounds were given), closed.
    /// @{
    [[nodiscard]] Scan scan(range which = {}, on_damage how = on_damage::stop) const {
        return walk<Scan>(std::move(which), nullptr, how);
    }
    [[nodiscard]] Scan scan(range which, moment const& as_of, on_damage how = on_damage::stop) const {
        return walk<Scan>(std::move(which), &as_of, how);
    }
    [[nodiscard]] Scan scan(prefix const& which, on_damage how = on_damage::stop) const {
        return walk<Scan>(which.as_range(), nullptr, how);
    }
    [[nodiscard]] Scan scan(prefix const& which, moment const& as_of, on_damage how = on_damage::stop) const {
        return walk<Scan>(which.as_range(), &as_of, how);
    }
    [[nodiscard]] Scan scan(std::initializer_list<slice> from_to, on_damage how = on_damage::stop) const {
        return between<Scan>(from_to, nullptr, how);
    }
    [[nodiscard]] Scan scan(std::initializer_list<slice> from_to, moment const& as_of,
                            on_damage how = on_damage::stop) const {
        return between<Scan>(from_to, &as_of, how);
    }
    [[nodiscard]] Scan scan(moment const& as_of, on_damage how = on_damage::stop) const {
        return walk<Scan>({}, &as_of, how);
    }
    [[nodiscard]] Scan scan(on_damage how) const { return walk<Scan>({}, nullptr, how); }
    /// @}

    /// The same as scan(), without the values.
    /// @{
    [[nodiscard]] Keys keys(range which = {}, on_damage how = on_damage::stop) const {
        return walk<Keys>(std::move(which), nullptr, how);
    }
    [[nodiscard]] Keys keys(range which, moment const& as_of, on_damage how = on_damage::stop) const {
        return walk<Keys>(std::move(which), &as_of, how);
    }
    [[nodiscard]] Keys keys(prefix const& which, on_damage how = on_damage::stop) const {
        return walk<Keys>(which.as_range(), nullptr, how);
    }
    [[nodiscard]] Keys keys(prefix const& which, moment const& as_of, on_damage how = on_damage::stop) const {
        return walk<Keys>(which.as_range(), &as_of, how);
    }
    [[nodiscard]] Keys keys(std::initializer_list<slice> from_to, on_damage how = on_damage::stop) const {
        return between<Keys>(from_to, nullptr, how);
    }
    [[nodiscard]] Keys keys(std::initializer_list<slice> from_to, moment const& as_of,
                            on_damage how = on_damage::stop) const {
        return between<Keys>(from_to, &as_of, how);
    }
    [[nodiscard]] Keys keys(moment const& as_of, on_damage how = on_damage::stop) const {
        return walk<Keys>({}, &as_of, how);
    }
    [[nodiscard]] Keys keys(on_damage how) const { return walk<Keys>({}, nullptr, how); }
    /// @}

protected:
    /// The store constructs, moves and destroys this part of itself.
    /// @{
    scan_calls() = default;
    scan_calls(scan_calls&&) noexcept = default;
    scan_calls& operator=(scan_calls&&) noexcept = default;
    ~scan_calls() = default;
    /// @}

private:
    template <class S>
    [[nodiscard]] S walk(range which, moment const* as_of, on_damage how) const {
        return S{static_cast<Store const&>(*this).walk_over(std::move(which), as_of, how)};
    }
    template <class S>
    [[nodiscard]] S between(std::initializer_list<slice> from_to, moment const* as_of, on_damage how) const {
        auto which = range_between(from_to);
        if (!which) return S{static_cast<Store const&>(*this).no_walk(std::move(which).error())};
        return walk<S>(std::move(*which), as_of, how);
    }
};

} // namespace keel::inline v0::detail

#endif
