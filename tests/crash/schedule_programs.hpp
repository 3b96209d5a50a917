// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_CRASH_SCHEDULE_PROGRAMS_HPP
#define KEEL_TESTS_CRASH_SCHEDULE_PROGRAMS_HPP

// Short programs of one to four threads over one store, and what names one run of one: program, policy, schedule and faults, as text.
// Segments have 4 KiB, of which records get some 2.5: three or four large values fill one.

#include <keel/io/fault.hpp>
#include <keel/io/schedule.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace schedules {

enum class act : std::uint8_t {
    put,      ///< its own key, and a key that many write
    batch,    ///< of three keys, and the erase of one that stood there before
    fill,     ///< a put as large as a fresh segment takes, but for so many bytes
    transact, ///< reads a counter and writes it one higher
    sync,
    idle,  ///< housekeep(true)
    merge, ///< compact()
    ingest,
    read, ///< gets of what was written
    scan,
    snapshot, ///< taken, read through, and let go
    close,
    resume,
    follow,   ///< of a log: reads to the end and waits there for an hour
    truncate, ///< of a log: gives up what stood there before
    nap,      ///< so many milliseconds
    destroy,  ///< the object goes without a close()
    reopen,   ///< after that
    reopen_killed,
    reopen_damaged, ///< killed, and a record of the oldest segment does not verify any more
};
[[nodiscard]] constexpr char const* name_of(act what) noexcept {
    constexpr char const* names[] = {"put",      "batch",   "fill",   "transact",      "sync",
                                     "idle",     "merge",   "ingest", "read",          "scan",
                                     "snapshot", "close",   "resume", "follow",        "truncate",
                                     "nap",      "destroy", "reopen", "reopen_killed", "reopen_damaged"};
    return names[static_cast<std::size_t>(what)];
}

struct action {
    act what = act::put;
    std::size_t size = 30; ///< of a value, in bytes; of a nap in milliseconds
};
using actions = std::vector<action>;

/// What goes wrong: a fault of the disk, an allocation, a thread that cannot be started.
enum class trouble : std::uint8_t { fail, no_space, short_write, fail_sync, no_memory, no_thread };
[[nodiscard]] constexpr std::string_view name_of(trouble what) noexcept {
    constexpr std::string_view names[] = {"fail", "no_space", "short_write", "fail_sync", "no_memory", "no_thread"};
    return names[static_cast<std::size_t>(what)];
}
[[nodiscard]] constexpr bool is_of_disk(trouble what) noexcept { return what <= trouble::fail_sync; }
[[nodiscard]] constexpr keel::io::fault_kind kind_of(trouble what) noexcept {
    using enum keel::io::fault_kind;
    constexpr keel::io::fault_kind kinds[] = {fail, no_space, short_write, fail_sync};
    return kinds[static_cast<std::size_t>(what)];
}

/// Hits so many calls from `at` on, as they are made; or allocations, or threads.
struct planned_trouble {
    trouble what = trouble::fail;
    std::uint64_t at = 1;
    std::uint64_t count = 1;
    auto operator<=>(planned_trouble const&) const = default;
    [[nodiscard]] bool hits(std::uint64_t number) const noexcept { return number >= at && number - at < count; }
};

/// How the store was left that a program opens.
enum class left : std::uint8_t { closed, killed };

struct program {
    std::string_view name;
    actions before = {}; ///< by one thread, and then the store is left; the key that a batch erases is put here
    left how_left = left::closed;
    actions prologue = {}; ///< by one thread, after it was opened
    std::vector<actions> threads = {};
    bool of_a_log = false;
    bool background = false;      ///< with the threads that keel starts: the first thread closes at its end
    std::uint64_t open_files = 0; ///< as open_options has it
    std::vector<planned_trouble> troubles = {}; ///< beside those that are tried
};

inline constexpr std::size_t large = 700;

/// Programs of several threads. Two of them where that is enough: each more multiplies the schedules.
inline std::vector<program> const& programs_of_threads() {
    using enum act;
    static std::vector<program> const all{
        {.name = "writers", .prologue = {{put}}, .threads = {{{put}, {batch}}, {{put}, {put}}}},
        {.name = "syncer", .prologue = {{put}}, .threads = {{{put}, {put}, {put}}, {{sync}, {sync}}}},
        // Ten puts: what a sync begins for is far behind what a fresh segment begins with.
        {.name = "late_syncer",
         .prologue = {{put}, {put}, {put}, {put}, {put}, {put}, {put}, {put}, {put}, {put}, {sync}, {put}},
         .threads = {{{sync}, {sync}}, {{put}, {put}}}},
        {.name = "roller",
         .prologue = {{put, large}, {put, large}},
         .threads = {{{put, large}, {put, large}}, {{put}, {sync}}}},
        {.name = "closer", .prologue = {{put}}, .threads = {{{put}, {put}}, {{put}, {close}}}},
        {.name = "first", .before = {{put}, {idle}}, .threads = {{{put}}, {{batch}}, {{sync}}}},
        {.name = "first_after_crash",
         .before = {{put}, {put}},
         .how_left = left::killed,
         .threads = {{{put}}, {{sync}}}},
        {.name = "reader",
         .before = {{put}},
         .prologue = {{put, large}, {put, large}},
         .threads = {{{put, large}, {batch}}, {{read}, {scan}, {read}}}},
        // A segment is full, and somebody keeps house: it is sealed behind the next one, which is filled meanwhile.
        {.name = "sealer",
         .before = {{put}},
         .prologue = {{put, large}, {idle}, {put, large}},
         .threads = {{{put, large}, {put, large}, {put, large}, {read}}, {{idle}, {idle}}}},
        // Five segments and a table, of which two may be open: each read closes what another one wants.
        {.name = "few_files",
         .before = {{put, large},
                    {put, large},
                    {put, large},
                    {merge},
                    {put, large},
                    {put, large},
                    {put, large},
                    {put, large}},
         .prologue = {{put, large}, {put, large}, {put, large}, {put, large}},
         .threads = {{{put, large}, {merge}}, {{read}, {scan}}, {{snapshot}}},
         .open_files = 2},
        {.name = "idler", .prologue = {{put}}, .threads = {{{put}, {put}}, {{idle}, {idle}}}},
        {.name = "transactions", .prologue = {{put}}, .threads = {{{transact}}, {{transact}}, {{put}}}},
        {.name = "retrier", .prologue = {{transact}}, .threads = {{{transact}, {transact}}, {{transact}}}},
        {.name = "merger",
         .before = {{put, large}, {put, large}, {put, large}, {put, large}, {put, large}},
         .prologue = {{put}},
         .threads = {{{put}, {batch}}, {{merge}}, {{scan}}}},
        {.name = "resumer", .prologue = {{put}}, .threads = {{{put}, {put}}, {{sync}, {resume}, {put}}}},
        {.name = "ingester", .before = {{put}}, .prologue = {{put}}, .threads = {{{put}, {put}}, {{ingest}}}},
        {.name = "four", .prologue = {{put}}, .threads = {{{put}}, {{put}}, {{sync}}, {{idle}}}},
        {.name = "background",
         .before = {{put}},
         .threads = {{{put}, {nap, 30}, {put, large}, {nap, 1200}, {put, large}, {put, large}, {close}}},
         .background = true},
        // The closing mark finds no room: a mark fell due before the batch that fills the segment.
        {.name = "brimful",
         .before = {{put}},
         .threads = {{{put}, {merge}, {nap, 1030}, {close}}, {{nap, 1029}, {fill, 112}}},
         .background = true},
        // What fits a segment fits one that was just begun, marks or not.
        {.name = "largest", .prologue = {{put}, {merge}}, .threads = {{{fill, 0}}, {{idle}}}},
        {.name = "follower",
         .prologue = {{put}},
         .threads = {{{put}, {batch}}, {{follow}}, {{close}}},
         .of_a_log = true},
        {.name = "truncator",
         .before = {{put, large}, {put, large}, {put, large}, {put, large}},
         .prologue = {{put}},
         .threads = {{{put}, {put, large}}, {{truncate}}, {{scan}}},
         .of_a_log = true},
    };
    return all;
}

/// Programs of mostly one thread, every allocation of which is refused in turn.
inline std::vector<program> const& programs_of_allocations() {
    using enum act;
    static std::vector<program> const all{
        {.name = "writing",
         .prologue = {{put}},
         .threads = {{{put}, {batch}, {transact}, {sync}, {put, large}, {put, large}, {put, large}, {batch}}}},
        {.name = "writing_first", .before = {{put}, {idle}}, .threads = {{{batch}, {put}}}},
        {.name = "writing_after_crash",
         .before = {{put}, {batch}},
         .how_left = left::killed,
         .threads = {{{put}, {sync}}}},
        {.name = "reading",
         .before = {{put, large},
                    {put, large},
                    {put, large},
                    {put, large},
                    {merge},
                    {put, large},
                    {put, large},
                    {put, large},
                    {put, large}},
         .prologue = {{put}},
         .threads = {{{read}, {scan}, {snapshot}}}},
        {.name = "ingesting", .before = {{put}}, .prologue = {{put}}, .threads = {{{ingest}, {put}, {ingest}}}},
        {.name = "merging",
         .before = {{put, large}, {put, large}, {put, large}, {put, large}, {put, large}},
         .prologue = {{put}},
         .threads = {{{merge}, {put}, {idle}, {merge}}}},
        {.name = "keeping_house",
         .prologue = {{put, large}, {put, large}},
         .threads = {{{put, large}, {idle}, {put, large}, {idle}, {put}}}},
        {.name = "closing", .prologue = {{put}}, .threads = {{{put}, {close}}}},
        {.name = "destroying", .prologue = {{put}}, .threads = {{{put}, {destroy}}}},
        {.name = "opening",
         .before = {{put}},
         .prologue = {{put, large}, {put, large}, {put, large}, {batch}},
         .threads = {{{reopen}, {put}}}},
        {.name = "opening_after_crash",
         .before = {{put}},
         .prologue = {{put, large}, {put, large}, {put, large}, {put, large}, {batch}},
         .threads = {{{reopen_killed}, {put}, {reopen_killed}}}},
        {.name = "repairing",
         .before = {{put}},
         .prologue = {{put, large}, {put, large}, {put, large}, {put, large}, {batch}},
         .threads = {{{reopen_damaged}, {put}}}},
        {.name = "resuming",
         .prologue = {{put}},
         .threads = {{{put}, {sync}, {resume}, {put}, {resume}}},
         .troubles = {{trouble::fail, 2, 25}}},
        {.name = "together", .prologue = {{put}}, .threads = {{{put}, {put}}, {{batch}, {sync}}}},
        {.name = "in_the_background",
         .before = {{put, large}, {put, large}},
         .threads = {{{put, large}, {nap, 30}, {put, large}, {put, large}, {nap, 1200}, {put}, {close}}},
         .background = true},
        {.name = "logging",
         .before = {{put, large}, {put, large}, {put, large}, {put, large}},
         .prologue = {{put}},
         .threads = {{{put}, {batch}, {scan}, {truncate}, {put, large}, {put, large}, {put, large}, {close}}},
         .of_a_log = true},
        {.name = "opening_a_log",
         .before = {{put}},
         .prologue = {{put, large}, {put, large}, {put, large}, {put, large}},
         .threads = {{{reopen_killed}, {put}}},
         .of_a_log = true},
    };
    return all;
}

[[nodiscard]] inline program const* find_program(std::string_view name) {
    for (auto const* list : {&programs_of_threads(), &programs_of_allocations()})
        for (auto const& p : *list)
            if (p.name == name) return &p;
    return nullptr;
}

/// One run. As text: "writers os_buffered 12>1,20>0 fail@15 fail_sync@31*2".
struct run_name {
    std::string program{};
    std::string policy{};
    keel::io::schedule order{};
    std::vector<planned_trouble> troubles{};
};

[[nodiscard]] inline std::string to_string(run_name const& r) {
    auto const order = keel::io::to_string(r.order);
    auto text = r.program + ' ' + r.policy + ' ' + (order.empty() ? "none" : order);
    for (auto const& t : r.troubles) {
        text += ' ' + std::string{name_of(t.what)} + '@' + std::to_string(t.at);
        if (t.count == keel::io::forever) text += "*all";
        else if (t.count != 1) text += '*' + std::to_string(t.count);
    }
    return text;
}

/// "fail@15", "no_space@3*60", "no_memory@7*all"
[[nodiscard]] inline std::optional<planned_trouble> parse_trouble(std::string_view word) {
    auto const sign = std::min(word.find('@'), word.size());
    planned_trouble out;
    for (int i = 0; i <= static_cast<int>(trouble::no_thread) + 1; ++i) {
        out.what = static_cast<trouble>(i);
        if (out.what > trouble::no_thread) return std::nullopt;
        if (name_of(out.what) == word.substr(0, sign)) break;
    }
    auto rest = word.substr(std::min(sign + 1, word.size()));
    auto const at = keel::io::detail::take_number<std::uint64_t>(rest);
    if (!at) return std::nullopt;
    out.at = *at;
    if (rest == "*all") {
        out.count = keel::io::forever;
        return out;
    }
    if (keel::io::detail::take_char(rest, '*')) {
        auto const count = keel::io::detail::take_number<std::uint64_t>(rest);
        if (!count) return std::nullopt;
        out.count = *count;
    }
    return rest.empty() ? std::optional{out} : std::nullopt;
}

[[nodiscard]] inline std::optional<run_name> parse_run(std::string_view text) {
    std::vector<std::string_view> words;
    while (!text.empty()) {
        auto const end = std::min(text.find(' '), text.size());
        if (end != 0) words.push_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (words.size() < 3) return std::nullopt;
    auto const order = keel::io::parse_schedule(words[2] == "none" ? "" : words[2]);
    if (!order) return std::nullopt;
    run_name out{.program = std::string{words[0]}, .policy = std::string{words[1]}, .order = *order};
    for (auto const word : std::span{words}.subspan(3)) {
        auto const one = parse_trouble(word);
        if (!one) return std::nullopt;
        out.troubles.push_back(*one);
    }
    return out;
}

} // namespace schedules

#endif
