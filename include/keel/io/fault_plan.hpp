// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_IO_FAULT_PLAN_HPP
#define KEEL_IO_FAULT_PLAN_HPP

// The plan of a faulty file system (io/fault.hpp): which faults hit which operations.

#include <keel/io/detail/memory_choice.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace keel::inline v0::io {

/// What goes wrong.
enum class fault_kind : std::uint8_t {
    fail, ///< any operation: EIO, nothing is done
    /// Operations that may need space: ENOSPC, nothing is done; ends after `count` operations or at refill().
    no_space,
    short_write,     ///< a write or store leaves a prefix, then EIO (a guarded SIGBUS gives the same for a store)
    fail_sync,       ///< a sync fails; an Inner with fail_sync() then treats its pages as clean, as Linux does
    lose_sync,       ///< a sync reports success and does nothing
    flip_read,       ///< one bit that a cached read returns is wrong; the next read is right
    flip_write,      ///< one bit of the stored bytes is wrong
    lose_write,      ///< a write reports success and does nothing
    misdirect_write, ///< a write goes to another place in the same file, a multiple of 512 bytes away
    repeat_write,    ///< after a write, an older write that was partly overwritten is made again at its old place
};
/// The number of kinds.
inline constexpr std::size_t fault_kinds = 10;

/// The class of an operation. Each operation belongs to one class, and to `any`.
enum class fault_class : std::uint8_t {
    any,
    read,      ///< read, read_uncached, file status, copy_out, verify
    write,     ///< write, allocate, punch_hole
    sync,      ///< syncs of files and mappings
    store,     ///< store, publish
    directory, ///< list, status, make_directory, rename, remove, sync_directory
    open,      ///< open, lock, map, bind_folder, lock_folder
};
/// The number of classes.
inline constexpr std::size_t fault_classes = 7;

/// The kind's name, for example "short_write".
[[nodiscard]] constexpr std::string_view name_of(fault_kind kind) noexcept {
    constexpr std::array<std::string_view, fault_kinds> names{
        "fail",      "no_space",   "short_write", "fail_sync",       "lose_sync",
        "flip_read", "flip_write", "lose_write",  "misdirect_write", "repeat_write"};
    return names[static_cast<std::size_t>(kind)];
}
/// The class's name, for example "read".
[[nodiscard]] constexpr std::string_view name_of(fault_class one) noexcept {
    constexpr std::array<std::string_view, fault_classes> names{"any",   "read",      "write", "sync",
                                                                "store", "directory", "open"};
    return names[static_cast<std::size_t>(one)];
}

/// fault::count of a fault that does not end.
inline constexpr std::uint64_t forever = std::numeric_limits<std::uint64_t>::max();

/// One fault of a plan.
struct fault {
    fault_kind kind = fault_kind::fail; ///< what goes wrong
    fault_class on = fault_class::any;  ///< the class of operations it may hit
    std::uint64_t at = 1;               ///< the first operation of the class it may hit
    /// How many operations of the class from there on; those it does not fit are spared, and counted.
    std::uint64_t count = 1;
    std::uint64_t seed = 0; ///< decides everything that is left to chance
};

/// A fault that hit, with enough facts to find the operation again.
struct fired_fault {
    fault_kind kind = fault_kind::fail; ///< what went wrong
    fault_class on = fault_class::any;  ///< what the operation was
    std::uint64_t operation = 0;        ///< its number among all
    std::string path;                   ///< the file or folder
    std::uint64_t offset = 0;           ///< what the caller asked for; of a repeated write the place written again
    /// Compares all members.
    bool operator==(fired_fault const&) const = default;
};

/// For people: "lose_write on write 7 to 9, seed 3".
[[nodiscard]] inline std::string to_string(fault const& f) {
    auto text = std::string{name_of(f.kind)} + " on " + std::string{name_of(f.on)} + " " + std::to_string(f.at);
    if (f.count == forever) text += " and later";
    else if (f.count != 1) text += " to " + std::to_string(f.at + f.count - 1);
    return text + ", seed " + std::to_string(f.seed);
}
/// For people: "lose_write hit operation 12 (write, log/..., offset 512)".
[[nodiscard]] inline std::string to_string(fired_fault const& f) {
    return std::string{name_of(f.kind)} + " hit operation " + std::to_string(f.operation) + " (" +
           std::string{name_of(f.on)} + ", " + f.path + ", offset " + std::to_string(f.offset) + ")";
}

/// The bounds of a random plan.
struct random_faults {
    std::size_t count_max = 3;          ///< number of faults: at least one, at most this
    std::uint64_t operations = 100;     ///< a fault begins at this operation of its class at the latest
    std::vector<fault_kind> kinds = {}; ///< empty: all
};

/// A list of faults. The first one that fits an operation hits it.
struct fault_plan {
    std::vector<fault> faults = {}; ///< of those that fit an operation the first one hits it

    /// A random plan. The same seed and bounds always give the same plan.
    [[nodiscard]] static fault_plan random(std::uint64_t seed, random_faults const& bounds = {});
};

inline fault_plan fault_plan::random(std::uint64_t seed, random_faults const& bounds) {
    detail::seeded chance{seed};
    auto const class_for = [&chance](fault_kind kind) {
        switch (kind) {
        case fault_kind::fail: return static_cast<fault_class>(chance.below(fault_classes));
        case fault_kind::no_space: return fault_class::any;
        case fault_kind::fail_sync:
        case fault_kind::lose_sync: return chance.below(4) == 0 ? fault_class::directory : fault_class::sync;
        case fault_kind::flip_read: return fault_class::read;
        default: return chance.below(2) == 0 ? fault_class::write : fault_class::store;
        }
    };
    auto const count_for = [&chance](fault_kind kind) -> std::uint64_t {
        if (kind == fault_kind::no_space && chance.below(2) == 0) return forever;
        if (kind == fault_kind::no_space || kind == fault_kind::repeat_write) return 1 + chance.below(20);
        return chance.below(4) == 0 ? 2 + chance.below(4) : 1;
    };
    fault_plan made;
    auto const faults = 1 + chance.below(std::max<std::size_t>(bounds.count_max, 1));
    for (std::uint64_t i = 0; i < faults; ++i) {
        fault one;
        one.kind = bounds.kinds.empty() ? static_cast<fault_kind>(chance.below(fault_kinds))
                                        : bounds.kinds[static_cast<std::size_t>(chance.below(bounds.kinds.size()))];
        one.on = class_for(one.kind);
        one.at = 1 + chance.below(std::max<std::uint64_t>(bounds.operations, 1));
        one.count = count_for(one.kind);
        one.seed = chance.next();
        made.faults.push_back(one);
    }
    return made;
}

} // namespace keel::inline v0::io

#endif
