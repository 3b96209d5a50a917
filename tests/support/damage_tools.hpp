// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_TESTS_SUPPORT_DAMAGE_TOOLS_HPP
#define KEEL_TESTS_SUPPORT_DAMAGE_TOOLS_HPP

// Small stores on a simulated disk, the history of what was put into them, and the ways to damage them: what the tests of
// recovery share. Everything is determined: clock and entropy count from a start that the test names.

#include "slow_build.hpp"

#include <keel/engine.hpp>
#include <keel/io/memory.hpp>
#include <keel/policy/segment_size/fixed.hpp>
#include <keel/wal/layout.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace keel::test {

using small_engine = engine<io::memory, segment_size<4 * KiB>>;
inline std::string const store_folder = "db";

inline constexpr std::array<repair_strategy, 4> all_strategies{repair_strategy::refuse, repair_strategy::rollback,
                                                               repair_strategy::skip_corrupted,
                                                               repair_strategy::partial_reconstruct};

/// Counts per thread, because open_options takes plain functions. restart() before a store whose bytes must repeat.
struct determined {
    static inline thread_local std::uint64_t ticks = 0;
    static inline thread_local std::uint64_t draws = 0;

    static void restart(std::uint64_t from = 0) noexcept { ticks = draws = from; }
    static std::uint64_t clock_ns() noexcept { return 1'700'000'000'000'000'000U + 1'000'000U * ++ticks; }
    static std::uint64_t entropy() noexcept { return io::detail::mixed(++draws); }
};

/// Options under which a store's bytes depend on nothing but what is done to it.
inline open_options quiet_options(std::optional<repair_strategy> repair = {}) {
    open_options o;
    o.background_thread = false;
    o.recovery_threads = 1;
    o.clock_ns = determined::clock_ns;
    o.entropy = determined::entropy;
    o.verify = verify_depth::deep; // damage is to be found when the store opens
    o.repair = repair;
    return o;
}

/// One operation, as it went into the log.
struct change {
    std::string key{};
    std::optional<std::string> value{}; ///< nothing: an erase
    lsn batch_first{};
    lsn batch_last{};
};

/// What was put into a store: change i has LSN i + 1.
class history {
public:
    using content = std::map<std::string, std::string, std::less<>>;

    void add(std::vector<change> batch) {
        lsn const first{changes_.size() + 1};
        lsn const last{changes_.size() + batch.size()};
        for (auto& c : batch) {
            c.batch_first = first;
            c.batch_last = last;
            changes_.push_back(std::move(c));
        }
    }
    /// Forgets what is behind `last`: it was written and never acknowledged.
    void cut(lsn last) { changes_.resize(std::min<std::size_t>(changes_.size(), last.value)); }

    [[nodiscard]] lsn last() const noexcept { return {changes_.size()}; }
    [[nodiscard]] change const& at(lsn n) const { return changes_.at(static_cast<std::size_t>(n.value - 1)); }

    /// The content after all records up to `last` that are in none of `lost`.
    [[nodiscard]] content without(std::vector<lsn_range> const& lost, lsn last) const {
        content now;
        for (lsn n{1}; n <= std::min(last, this->last()); n = n.next()) {
            if (std::ranges::any_of(lost, [&](auto const& r) { return r.contains(n); })) continue;
            auto const& c = at(n);
            if (c.value) now[c.key] = *c.value;
            else now.erase(c.key);
        }
        return now;
    }
    [[nodiscard]] content now() const { return without({}, last()); }

private:
    std::vector<change> changes_{};
};

/// What scanning a store gives.
template <class Engine>
[[nodiscard]] history::content content_of(Engine const& store) {
    history::content seen;
    auto all = store.scan();
    for (auto&& [key, value] : all) seen.emplace(std::string{key}, std::string{value});
    if (auto const whole = all.status(); !whole) seen.emplace("<the scan failed>", to_string(whole.error()));
    return seen;
}

/// A file of a store: its bytes and, for a segment, what lies where.
struct file_map {
    std::string path{};
    std::uint64_t bytes = 0;
    lsn_range lsns{};           ///< records in it; empty for other files and spare segments
    std::uint64_t data_end = 0; ///< behind the last frame; 0 where there is none
    std::vector<std::pair<std::uint64_t, std::uint64_t>> sections{}; ///< offset and end of index and filter
    bool segment = false;
    bool sealed = false;
};

/// A store on a simulated disk, at rest, and what is known about it.
struct small_store {
    io::memory disk{};
    history past{};
    std::vector<file_map> files{};

    [[nodiscard]] file_map const& file(std::string_view path) const {
        return *std::ranges::find_if(files, [&](auto const& f) { return f.path == path; });
    }
};

/// Puts, erases and batches of varying sizes, the same for the same seed; `wanted` records or a few more.
template <class Engine>
void fill(Engine& store, history& past, std::uint64_t wanted, std::uint64_t seed) {
    io::detail::seeded random{seed};
    for (std::uint64_t done = 0; done < wanted;) {
        auto const count = random.below(4) == 0 ? 2 + random.below(4) : 1;
        write_batch batch;
        std::vector<change> changes;
        for (std::uint64_t i = 0; i < count; ++i) {
            change c{.key = "key-" + std::to_string(random.below(12))};
            if (random.below(5) != 0) {
                c.value = "v" + std::to_string(past.last().value + changes.size() + 1) + ":";
                c.value->append(static_cast<std::size_t>(random.below(90)), static_cast<char>('a' + random.below(26)));
                batch.put(c.key, *c.value);
            } else {
                batch.erase(c.key);
            }
            changes.push_back(std::move(c));
        }
        if (!store.write(batch)) return;
        done += count;
        past.add(std::move(changes));
    }
}

/// What lies where on the disk, as an examination of the undamaged store tells it.
template <class Engine = small_engine>
[[nodiscard]] std::vector<file_map> map_files(io::memory disk) {
    std::vector<file_map> out;
    auto const exam = recovery::examine<typename Engine::config_type>(disk, store_folder, quiet_options());
    for (auto const& path : disk.files()) {
        file_map f{.path = path, .bytes = disk.status(path)->size};
        f.segment = path.ends_with(".seg");
        for (std::size_t i = 0; exam && i < exam->runs.size(); ++i) {
            auto const& s = exam->stock.segments[i];
            if (s.path != path) continue;
            f.data_end = exam->runs[i].data_end;
            f.sealed = s.entry.seal.has_value();
            for (std::size_t n = 0; s.footer && n < s.footer->section_count; ++n)
                f.sections.emplace_back(s.footer->sections[n].offset,
                                        s.footer->sections[n].offset + s.footer->sections[n].length);
            if (!exam->runs[i].extents.empty())
                f.lsns = {exam->runs[i].extents.front().range.first, exam->runs[i].extents.back().range.last};
        }
        out.push_back(std::move(f));
    }
    return out;
}

enum class ending : std::uint8_t { closed, process_crash, power_loss };

/// A store of `records` records or a few more, ended in this way.
template <class Engine = small_engine>
[[nodiscard]] small_store make_store(ending how, std::uint64_t records = 60, std::uint64_t seed = 1) {
    determined::restart(seed * 1000);
    small_store out;
    auto store = Engine::open(store_folder, quiet_options(), out.disk);
    if (!store) return out;
    fill(*store, out.past, records / 2, seed);
    store->housekeep(); // an idle mark and a spare segment, as a background thread leaves them
    fill(*store, out.past, records - records / 2, seed + 1);
    if (how == ending::closed) {
        static_cast<void>(store->close());
        out.disk = out.disk.after_process_crash();
    } else {
        store->abandon();
        out.disk = how == ending::process_crash ? out.disk.after_process_crash()
                                                : out.disk.after_power_loss({io::keep::newest, seed});
    }
    out.files = map_files<Engine>(out.disk);
    return out;
}

/// A copy of the disk that may be damaged.
[[nodiscard]] inline io::memory clone(io::memory const& disk) { return disk.after_process_crash(); }

inline void flip_bit(io::memory& disk, std::string const& path, std::uint64_t bit) {
    static_cast<void>(disk.corrupt(path, bit / 8, static_cast<std::byte>(1U << bit % 8)));
}
inline void overwrite(io::memory& disk, std::string const& path, std::uint64_t offset,
                      std::vector<std::byte> const& with) {
    static_cast<void>(disk.corrupt(path, offset, byte_view{with}));
}
inline void zero(io::memory& disk, std::string const& path, std::uint64_t offset, std::uint64_t length) {
    overwrite(disk, path, offset, std::vector<std::byte>(static_cast<std::size_t>(length)));
}
inline void swap_files(io::memory& disk, std::string const& a, std::string const& b) {
    auto const in_a = *disk.contents(a);
    auto const in_b = *disk.contents(b);
    static_cast<void>(disk.replace(a, in_b));
    static_cast<void>(disk.replace(b, in_a));
}
inline void copy_file(io::memory& disk, std::string const& from, std::string const& to) {
    auto const bytes = *disk.contents(from);
    static_cast<void>(disk.replace(to, bytes));
}

[[nodiscard]] inline std::string describe(recovery_report const& r) {
    std::string text = "records " + std::to_string(r.records) + ", last " + std::to_string(r.last_lsn.value) +
                       ", horizon " + std::to_string(r.horizon.value) + ", lost " + std::to_string(r.lost_records) +
                       ", torn bytes " + std::to_string(r.torn_tail_bytes) + ", lost ranges";
    for (auto const& l : r.lost_lsn_ranges)
        text += " " + std::to_string(l.first.value) + "-" + std::to_string(l.last.value);
    for (auto const& f : r.findings)
        text += "\n  " + std::string{name_of(f.kind)} + " " + f.file + " at " + std::to_string(f.offset) + "+" +
                std::to_string(f.length) + " lsns " + std::to_string(f.lsns.first.value) + "-" +
                std::to_string(f.lsns.last.value) + " lost " + std::to_string(f.lost) + ": " + f.detail;
    return text;
}

} // namespace keel::test

#endif
