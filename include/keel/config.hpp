// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_CONFIG_HPP
#define KEEL_CONFIG_HPP

// config<Policies...> holds one model for each axis. The policies may stand in any order. Each axis is named at most once and has a
// default. Only this header, keel.hpp and the tool include models.

#include <keel/io/posix.hpp>
#include <keel/observe/concept.hpp>
#include <keel/policy/checksum/crc32c.hpp>
#include <keel/policy/compaction/leveled.hpp>
#include <keel/policy/compression/none.hpp>
#include <keel/policy/durability/group_commit.hpp>
#include <keel/policy/isolation/snapshot.hpp>
#include <keel/policy/recovery_attempts/max_attempts.hpp>
#include <keel/policy/repair/choice.hpp>
#include <keel/policy/repair/partial_reconstruct.hpp>
#include <keel/policy/seal_check/none.hpp>
#include <keel/policy/seal_check/read_back.hpp>
#include <keel/policy/segment_size/fixed.hpp>
#include <keel/policy/table_access/cached.hpp>

#include <optional>
#include <type_traits>

namespace keel::inline v0 {

namespace detail {

template <class P>
struct is_checksum : std::bool_constant<checksum_policy<P>> {};
template <class P>
struct is_segment_size : std::bool_constant<segment_size_policy<P>> {};
template <class P>
struct is_durability : std::bool_constant<durability_policy<P>> {};
template <class P>
struct is_repair : std::bool_constant<repair_policy<P>> {};
template <class P>
struct is_file_system : std::bool_constant<io::file_system<P>> {};
template <class P>
struct is_observer : std::bool_constant<observer_policy<P>> {};

template <class P>
struct is_isolation : std::bool_constant<isolation_policy<P>> {};
template <class P>
struct is_compaction : std::bool_constant<compaction_policy<P>> {};
template <class P>
struct is_compression : std::bool_constant<compression_policy<P>> {};
template <class P>
struct is_table_access : std::bool_constant<table_access_policy<P>> {};
template <class P>
struct is_seal_check : std::bool_constant<seal_check_policy<P>> {};
template <class P>
struct is_recovery_attempts : std::bool_constant<recovery_attempts_policy<P>> {};

template <template <class> class Axis, class... Policies>
inline constexpr int chosen = (0 + ... + int{Axis<Policies>::value});

/// The first policy in the list that fits the axis; the default if none does.
template <template <class> class Axis, class Default, class... Policies>
struct pick {
    using type = Default;
};
template <template <class> class Axis, class Default, class First, class... Rest>
struct pick<Axis, Default, First, Rest...>
    : std::conditional_t<Axis<First>::value, std::type_identity<First>, pick<Axis, Default, Rest...>> {};

template <class P>
inline constexpr int axes_of = int{is_checksum<P>::value} + int{is_segment_size<P>::value} +
                               int{is_durability<P>::value} + int{is_repair<P>::value} + int{is_file_system<P>::value} +
                               int{is_observer<P>::value} + int{is_isolation<P>::value} + int{is_compaction<P>::value} +
                               int{is_compression<P>::value} + int{is_table_access<P>::value} +
                               int{is_seal_check<P>::value} + int{is_recovery_attempts<P>::value};

} // namespace detail

/// One model for each axis. An alias below gives the axis, its concept, and in the second place its default. A list of policies that does
/// not fit together is refused by a `static_assert` that names the remedy.
template <class... Policies>
struct config {
    static_assert(
        ((detail::axes_of<Policies> > 0) && ...),
        "keel: one of these types is no policy: it fits no axis (checksum, segment_size, durability, repair, file "
        "system, observer, isolation, compaction, compression, table_access, seal_check, recovery attempts). Check it "
        "against the concept "
        "of the axis "
        "it is meant for");
    static_assert(((detail::axes_of<Policies> < 2) && ...),
                  "keel: one of these types fits two axes; split it into two types");
    static_assert(detail::chosen<detail::is_checksum, Policies...> < 2, "keel: two checksum policies; keep one");
    static_assert(detail::chosen<detail::is_segment_size, Policies...> < 2,
                  "keel: two segment_size policies; keep one");
    static_assert(detail::chosen<detail::is_durability, Policies...> < 2, "keel: two durability policies; keep one");
    static_assert(detail::chosen<detail::is_repair, Policies...> < 2, "keel: two repair policies; keep one");
    static_assert(detail::chosen<detail::is_file_system, Policies...> < 2, "keel: two file systems; keep one");
    static_assert(detail::chosen<detail::is_observer, Policies...> < 2, "keel: two observers; keep one");
    static_assert(detail::chosen<detail::is_isolation, Policies...> < 2, "keel: two isolation policies; keep one");
    static_assert(detail::chosen<detail::is_compaction, Policies...> < 2, "keel: two compaction policies; keep one");
    static_assert(detail::chosen<detail::is_compression, Policies...> < 2,
                  "keel: two compression policies; keep one, or name both in compression::any_of");
    static_assert(detail::chosen<detail::is_table_access, Policies...> < 2,
                  "keel: two table_access policies; keep one");
    static_assert(detail::chosen<detail::is_seal_check, Policies...> < 2, "keel: two seal_check policies; keep one");
    static_assert(detail::chosen<detail::is_recovery_attempts, Policies...> < 2,
                  "keel: two max_attempts policies; keep one");

    /// The checksum of all frames, headers and blocks.
    using checksum = typename detail::pick<detail::is_checksum, keel::checksum::crc32c, Policies...>::type;
    /// The size of a new segment.
    using size_policy = typename detail::pick<detail::is_segment_size, segment_size<16 * MiB>, Policies...>::type;
    /// The guarantee of a write that has returned.
    using durability = typename detail::pick<detail::is_durability, keel::durability::group_commit, Policies...>::type;
    /// The decision about acknowledged records that no copy is left of.
    using repair = typename detail::pick<detail::is_repair, keel::repair::partial_reconstruct, Policies...>::type;
    /// The file system that holds the store.
    using file_system = typename detail::pick<detail::is_file_system, io::posix, Policies...>::type;
    /// The receiver of events.
    using observer = typename detail::pick<detail::is_observer, observe::none, Policies...>::type;
    /// The check of a commit.
    using isolation = typename detail::pick<detail::is_isolation, keel::isolation::snapshot, Policies...>::type;

    /// The sizes at which compaction starts.
    using compaction = typename detail::pick<detail::is_compaction, keel::compaction::leveled<>, Policies...>::type;
    /// The compression of the blocks of SSTables.
    using compression = typename detail::pick<detail::is_compression, keel::compression::none, Policies...>::type;
    /// The way a reader gets a block of an SSTable.
    using table_access = typename detail::pick<detail::is_table_access, keel::table_access::cached, Policies...>::type;
    /// The check of a segment right after its seal.
    using seal_check = typename detail::pick<detail::is_seal_check, keel::seal_check::none, Policies...>::type;
    /// The number of failed recoveries in a row after which open refuses.
    using recovery_attempts = typename detail::pick<detail::is_recovery_attempts, max_attempts<16>, Policies...>::type;

    static_assert(compression::id <= keel::compression::id_max && compression::reads(0) &&
                      compression::reads(compression::id),
                  "keel: a compression policy has an id of at most 15, and reads that one and 0");

    /// The size of a new segment, in bytes.
    static constexpr std::uint64_t segment_bytes = size_policy::segment_bytes;

    /// The repair policy as a value. `instead`: the shipped policy that open_options names in its place.
    [[nodiscard]] static constexpr repair_choice repair_for(std::optional<repair_strategy> instead) noexcept {
        return instead ? choice_of(*instead) : repair_choice::of<repair>();
    }
};

namespace detail {

// What of a choice each part of keel reads. Parts are written over these, so that engines that differ in nothing that a part reads share
// its code, whatever the order their policies were named in.

// The policies that each part of keel reads. The parts are templates over these aliases. Engines that agree in them share the code of the
// part, in whatever order their policies were named.
template <class Config>
using reading_config = config<typename Config::checksum, typename Config::compression, typename Config::table_access,
                              typename Config::file_system>;
template <class Config>
using merging_config = config<typename Config::checksum, typename Config::compression, typename Config::table_access,
                              typename Config::file_system, typename Config::compaction>;
template <class Config>
using writing_config = config<typename Config::checksum, typename Config::durability, typename Config::file_system,
                              typename Config::observer, typename Config::size_policy, typename Config::seal_check>;
template <class Config>
using recovering_config =
    config<typename Config::checksum, typename Config::compression, typename Config::file_system,
           typename Config::observer, typename Config::repair, typename Config::recovery_attempts>;

} // namespace detail

} // namespace keel::inline v0

#endif
