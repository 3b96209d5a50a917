// SPDX-License-Identifier: BSL-1.0
#ifndef KEEL_BENCH_WORKLOADS_HPP
#define KEEL_BENCH_WORKLOADS_HPP

// What each peer is made to do, and what is measured of it: one function a job, called in a process of its own.

#include "jobs.hpp"
#include "material.hpp"
#include "stores.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

namespace bench {

inline values const& all_values() {
    static values const values;
    return values;
}

inline void put_records(store& to, std::uint64_t from, std::uint64_t count, key_order order = key_order::random) {
    for (auto n = from; n < from + count; ++n) to.put(key{n, order}.text(), all_values()[n]);
}

/// Other jobs' dirty pages are written back before this one's syncs are timed.
inline void settle(std::string const& folder) {
    auto const number = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (number < 0) return;
    static_cast<void>(::syncfs(number));
    ::close(number);
}

/// All of a store's files go into the page cache.
inline void read_files(std::string const& folder) {
    std::vector<char> part(std::size_t{1} << 20);
    for (auto const& entry : std::filesystem::recursive_directory_iterator{folder}) {
        if (!entry.is_regular_file()) continue;
        std::ifstream file{entry.path(), std::ios::binary};
        while (file.read(part.data(), static_cast<std::streamsize>(part.size()))) {}
    }
}

// ---- append -----------------------------------------------------------------------------------------------------------

inline figures append_unsynced(peer const& who, std::string const& folder, key_order order) {
    constexpr std::uint64_t warm = 10'000;
    constexpr std::uint64_t count = 500'000;
    auto const store = who.open(folder, mode::unsynced);
    put_records(*store, 0, warm, order);
    stopwatch const watch;
    put_records(*store, warm, count, order);
    auto const wall = watch.wall();
    return {{"rate", count / wall / 1e3, "k/s"}, {"cpu_per_put", watch.cpu() / count * 1e9, "ns"}};
}

/// Each thread's commits, one after the other; the time of each.
inline std::vector<double> commit_times(store& to, unsigned thread, std::uint64_t count) {
    std::vector<double> seconds;
    seconds.reserve(count);
    for (std::uint64_t n = 0; n < count; ++n) {
        stopwatch const watch;
        put_records(to, (thread + 1) * 10'000'000ULL + n, 1);
        seconds.push_back(watch.wall());
    }
    return seconds;
}

inline figures batch_100(peer const& who, std::string const& folder, key_order order) {
    constexpr std::uint64_t count = 500'000;
    auto const store = who.open(folder, mode::unsynced);
    std::vector<key> keys;
    stopwatch const watch;
    for (std::uint64_t n = 0; n < count;) {
        keys.clear();
        for (std::uint64_t i = 0; i < 100; ++i) keys.emplace_back(n + i, order);
        std::vector<store::record> batch;
        for (auto const& key : keys) batch.emplace_back(key.text(), all_values()[n++]);
        store->put_batch(batch);
    }
    return {{"rate", count / watch.wall() / 1e3, "k/s"}};
}

/// Puts of keys that do not come again, as fast as they go, for `seconds`: the rate of each second (of a longer run the lowest of each ten),
/// and how long single puts took.
inline figures put_for_long(peer const& who, std::string const& folder, unsigned seconds) {
    auto const store = who.open(folder, mode::unsynced);
    auto const group = seconds > 60 ? 10U : 1U;
    std::vector<std::uint64_t> by_microsecond(1'000'000, 0);
    std::vector<double> rates;
    std::uint64_t total = 0;
    double longest = 0;
    using clock = std::chrono::steady_clock;
    auto before = clock::now();
    for (auto end = before; rates.size() < seconds;) {
        end += std::chrono::seconds(1);
        std::uint64_t done = 0;
        while (before < end) {
            put_records(*store, total++, 1);
            auto const now = clock::now();
            auto const took = std::chrono::duration<double, std::micro>(now - before).count();
            before = now;
            longest = std::max(longest, took);
            ++by_microsecond[std::min(static_cast<std::size_t>(took), by_microsecond.size() - 1)];
            ++done;
        }
        rates.push_back(static_cast<double>(done) / 1e3);
        for (; before >= end + std::chrono::seconds(1) && rates.size() < seconds; end += std::chrono::seconds(1))
            rates.push_back(0); // a put took that long
    }
    figures out;
    for (std::size_t i = 0; i < rates.size(); i += group) {
        auto const last = std::min(i + group, rates.size());
        auto const lowest = *std::min_element(rates.begin() + static_cast<std::ptrdiff_t>(i),
                                              rates.begin() + static_cast<std::ptrdiff_t>(last));
        out.push_back({"second_" + std::to_string(last), lowest, "k/s"});
    }
    std::ranges::sort(rates);
    out.push_back({"median", rates[rates.size() / 2], "k/s"});
    out.push_back({"slowest", rates.front(), "k/s"});
    out.push_back({"total", static_cast<double>(total) / 1e6, "M"});
    auto const quantile = [&](double part) {
        auto left = static_cast<double>(total) * part;
        std::size_t us = 0;
        while (us + 1 < by_microsecond.size() && (left -= static_cast<double>(by_microsecond[us])) > 0) ++us;
        return static_cast<double>(us) / 1e3;
    };
    out.push_back({"p99.9", quantile(0.999), "ms"});
    out.push_back({"p99.99", quantile(0.9999), "ms"});
    out.push_back({"longest", longest / 1e3, "ms"});
    return out;
}

// ---- reading ----------------------------------------------------------------------------------------------------------

inline constexpr std::uint64_t loaded_keys = 1 << 20;

/// Names and sizes of all files, as one number.
inline std::uint64_t shape_of(std::string const& folder, std::uint64_t& bytes) {
    std::uint64_t shape = 0;
    bytes = 0;
    for (auto const& entry : std::filesystem::recursive_directory_iterator{folder}) {
        std::error_code gone;
        auto const size = entry.is_regular_file(gone) ? entry.file_size(gone) : 0;
        if (gone) continue;
        bytes += size;
        shape += std::hash<std::string>{}(entry.path().string()) ^ size * 0x9E3779B97F4A7C15ULL;
    }
    return shape;
}

inline figures load(peer const& who, std::string const& folder) {
    return in_own_process([&]() -> figures {
        auto const store = who.open(folder, mode::unsynced);
        stopwatch const watch;
        put_records(*store, 0, loaded_keys);
        auto const wall = watch.wall();
        std::uint64_t bytes = 0;
        auto before = shape_of(folder, bytes);
        for (int quiet = 0; quiet < 10;) {
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            auto const now = shape_of(folder, bytes);
            quiet = now == before ? quiet + 1 : 0;
            before = now;
        }
        auto const cpu = watch.cpu();
        constexpr double given = loaded_keys * (16.0 + values::bytes) / 1e6;
        settle(folder);
        return {{"rate", static_cast<double>(loaded_keys) / wall / 1e3, "k/s"},
                {"cpu_per_put", cpu / static_cast<double>(loaded_keys) * 1e9, "ns"},
                {"write_amplification", written_mb() / given, "x"},
                {"space", static_cast<double>(bytes) / 1e6, "MB"},
                {"resident_peak", resident_peak_mb(), "MB"}};
    });
}

inline figures get_random(peer const& who, std::string const& folder) {
    auto const store = who.open(folder, mode::unsynced);
    noise random{7};
    auto const get = [&](std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i)
            if (auto const n = random() % loaded_keys; !store->holds(key{n}.text(), all_values()[n]))
                throw std::runtime_error{who.name + " lost a record"};
    };
    get(200'000);
    constexpr std::uint64_t count = 500'000;
    stopwatch const watch;
    get(count);
    return {{"rate", count / watch.wall() / 1e3, "k/s"}, {"resident_peak", resident_peak_mb(), "MB"}};
}

inline figures multi_get(peer const& who, std::string const& folder) {
    auto const store = who.open(folder, mode::unsynced);
    noise random{9};
    std::vector<key> keys;
    std::vector<std::string_view> names;
    auto const get = [&](std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i) {
            keys.clear();
            names.clear();
            for (int k = 0; k < 16; ++k) keys.emplace_back(random() % loaded_keys);
            for (auto const& k : keys) names.push_back(k.text());
            if (store->hold_all(names) != names.size()) throw std::runtime_error{who.name + " lost a record"};
        }
    };
    get(5'000);
    constexpr std::uint64_t count = 40'000;
    stopwatch const watch;
    get(count);
    return {{"rate", 16.0 * count / watch.wall() / 1e3, "k/s"}};
}

inline figures scan_all(peer const& who, std::string const& folder) {
    auto const store = who.open(folder, mode::unsynced);
    static_cast<void>(store->scan());
    stopwatch const watch;
    if (store->scan() != loaded_keys) throw std::runtime_error{who.name + " lost keys"};
    return {{"rate", static_cast<double>(loaded_keys) / watch.wall() / 1e6, "M/s"}};
}

/// Walks over 50 keys, each from a random one on.
inline figures scan_short(peer const& who, std::string const& folder) {
    auto const store = who.open(folder, mode::unsynced);
    noise random{11};
    constexpr std::uint64_t length = 50;
    auto const walk = [&](std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i)
            if (auto const got = store->scan_from(key{random() % loaded_keys}.text(), length); got == 0 || got > length)
                throw std::runtime_error{who.name + " lost keys"};
    };
    walk(20'000);
    constexpr std::uint64_t count = 50'000;
    stopwatch const watch;
    walk(count);
    return {{"rate", count / watch.wall() / 1e3, "k/s"}};
}

/// Waits until nothing in the folder has changed for two seconds, for half a minute at most.
inline void wait_until_quiet(std::string const& folder) {
    std::uint64_t bytes = 0;
    auto before = shape_of(folder, bytes);
    stopwatch const watch;
    for (int quiet = 0; quiet < 10 && watch.wall() < 30;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        auto const now = shape_of(folder, bytes);
        quiet = now == before ? quiet + 1 : 0;
        before = now;
    }
}

/// Walks over 1 to 100 keys, and an insertion for every nineteen of them (YCSB-E), one thread; keys are drawn as YCSB draws them.
class short_walks {
public:
    short_walks(peer const& who, store& in) : who_{who}, in_{in} {}

    /// So many seconds, one after the other: `<name>_1` and on, and their median as `name`.
    void run(std::string const& name, unsigned seconds, figures& out) {
        std::vector<double> rates;
        for (unsigned n = 1; n <= seconds; ++n) {
            rates.push_back(one_second());
            out.push_back({name + '_' + std::to_string(n), rates.back(), "k/s"});
        }
        std::ranges::sort(rates);
        out.push_back({name, rates[rates.size() / 2], "k/s"});
    }

private:
    double one_second() {
        std::uint64_t done = 0;
        stopwatch const watch;
        while (watch.wall() < 1)
            for (int i = 0; i < 20; ++i, ++done) step();
        return static_cast<double>(done) / watch.wall() / 1e3;
    }
    void step() {
        if (random_() % 20 == 0) return put_records(in_, inserted_++, 1);
        auto const most = 1 + random_() % 100;
        if (in_.scan_from(key{which_(random_)}.text(), most) > most) throw std::runtime_error{who_.name + " ran on"};
    }

    peer const& who_;
    store& in_;
    noise random_{19};
    zipfian which_{loaded_keys};
    std::uint64_t inserted_ = loaded_keys;
};

/// What updates cost walks: before them, while another thread makes them as fast as it can, right after, and once the store is quiet.
/// `folder` is a copy that may change.
inline figures scan_updated(peer const& who, std::string const& folder) {
    auto const store = who.open(folder, mode::unsynced);
    figures out;
    short_walks walks{who, *store};
    walks.run("before", 3, out);
    std::atomic<std::uint64_t> put{0};
    {
        auto const other = store->for_another_thread();
        std::jthread const writer{[&](std::stop_token const& stop) {
            noise random{23};
            zipfian const which{loaded_keys};
            for (; !stop.stop_requested(); put.fetch_add(1, std::memory_order_relaxed))
                put_records(other ? *other : *store, which(random), 1);
        }};
        walks.run("during", 5, out);
    }
    out.push_back({"updates", static_cast<double>(put) / 5e3, "k/s"});
    walks.run("right_after", 5, out);
    wait_until_quiet(folder);
    walks.run("quiet", 3, out);
    return out;
}

/// So many threads read random keys while another one puts them anew, each as fast as it can. `folder` is a copy that may change.
inline figures get_while_putting(peer const& who, std::string const& folder, unsigned threads) {
    auto const store = who.open(folder, mode::unsynced);
    std::atomic<std::uint64_t> put{0};
    std::atomic<std::uint64_t> got{0};
    std::atomic<bool> lost{false};
    /// How long it took; what was read is in `got`.
    auto const get = [&](std::chrono::milliseconds how_long) {
        got = 0;
        stopwatch const watch;
        std::vector<std::jthread> readers;
        for (unsigned t = 0; t < threads; ++t)
            readers.emplace_back([&, t](std::stop_token const& stop) {
                auto const other = store->for_another_thread();
                auto& reader = other ? *other : *store;
                noise random{13 + t};
                std::uint64_t mine = 0;
                for (; !stop.stop_requested(); ++mine)
                    if (auto const n = random() % loaded_keys; !reader.holds(key{n}.text(), all_values()[n]))
                        lost = true;
                got += mine;
            });
        std::this_thread::sleep_for(how_long);
        readers.clear();
        return watch.wall();
    };
    using namespace std::chrono_literals;
    static_cast<void>(get(500ms));
    std::jthread const writer{[&](std::stop_token const& stop) {
        for (noise which{17}; !stop.stop_requested(); put.fetch_add(1, std::memory_order_relaxed))
            put_records(*store, which() % loaded_keys, 1);
    }};
    auto const before = put.load();
    auto const wall = get(3s);
    auto const after = put.load();
    if (lost) throw std::runtime_error{who.name + " lost a record"};
    return {{"get_rate", static_cast<double>(got) / wall / 1e3, "k/s"},
            {"put_rate", static_cast<double>(after - before) / wall / 1e3, "k/s"}};
}

/// Time to open a store and read one key of it, in ms. The object goes with the process.
template <class Watch>
inline double open_and_get(peer const& who, std::string const& folder, mode how, std::uint64_t number,
                           Watch const& opened) {
    stopwatch const watch;
    auto* const store = who.open(folder, how).release();
    opened(watch);
    if (!store->holds(key{number}.text(), all_values()[number])) throw std::runtime_error{who.name + " lost a record"};
    return watch.wall() * 1e3;
}
inline double open_and_get(peer const& who, std::string const& folder, mode how, std::uint64_t number) {
    return open_and_get(who, folder, how, number, [](stopwatch const&) {});
}
/// The same in a process that has opened, written and closed another store before: its code is in memory.
inline figures open_warm(peer const& who, std::string const& folder, mode how, std::uint64_t number) {
    temporary_folder const other{std::filesystem::path{folder}.parent_path()};
    for (int turn = 0; turn < 2; ++turn) {
        auto const store = who.open(other / "store", mode::unsynced);
        if (turn == 0) put_records(*store, 0, 1000);
        if (!store->holds(key{999}.text(), all_values()[999])) throw std::runtime_error{who.name + " lost a record"};
    }
    settle(folder);
    return {{"open_to_first_get_warm", open_and_get(who, folder, how, number), "ms"}};
}

inline figures open_closed(peer const& who, std::string const& folder) {
    return {{"open_to_first_get", open_and_get(who, folder, mode::unsynced, 0), "ms"}};
}
inline figures open_closed_warm(peer const& who, std::string const& folder) {
    return open_warm(who, folder, mode::unsynced, 0);
}

inline figures append_synced(peer const& who, std::string const& folder, unsigned threads, std::uint64_t count) {
    auto const store = who.open(folder, mode::synced);
    put_records(*store, 0, 200);
    std::this_thread::sleep_for(std::chrono::milliseconds(300)); // whatever the first writes set in motion
    std::vector<std::vector<double>> seconds(threads);
    std::vector<std::jthread> crew;
    stopwatch const watch;
    for (unsigned t = 0; t < threads; ++t)
        crew.emplace_back([&, t] { seconds[t] = commit_times(*store, t, count / threads); });
    crew.clear();
    auto const wall = watch.wall();
    auto const cpu = watch.cpu();
    std::vector<double> all;
    for (auto const& some : seconds) all.insert(all.end(), some.begin(), some.end());
    std::ranges::sort(all);
    auto const commits = static_cast<double>(all.size());
    return {{"rate", commits / wall, "commits/s"},
            {"p50", all[all.size() / 2] * 1e6, "us"},
            {"p99", all[all.size() * 99 / 100] * 1e6, "us"},
            {"cpu_per_commit", cpu / commits * 1e6, "us"}};
}

// ---- recovery ---------------------------------------------------------------------------------------------------------

struct log_image {
    std::uint64_t base = 0;    ///< records in front, written and closed in order
    std::uint64_t records = 0; ///< in the log when the process was killed
};

inline void write_image(peer const& who, std::string const& folder, log_image const& what) {
    if (what.base != 0)
        static_cast<void>(in_own_process([&]() -> figures {
            put_records(*who.open(folder, mode::unsynced), 0, what.base); // and closed: the object goes here
            return {};
        }));
    in_killed_process([&] {
        auto* const store = who.open(folder, mode::all_in_log).release();
        put_records(*store, what.base, what.records);
    });
}

inline figures recover(peer const& who, std::string const& folder, mode how, log_image const& what) {
    auto const last = what.base + what.records - 1;
    auto const bytes = static_cast<double>(who.log_bytes(folder, what.records));
    double opened = 0;
    double cpu = 0;
    auto const got = open_and_get(who, folder, how, last, [&](stopwatch const& watch) {
        opened = watch.wall();
        cpu = watch.cpu();
    });
    auto const records = static_cast<double>(what.records);
    return {{"open_to_first_get", got, "ms"},
            {"rate", bytes / opened / 1e9, "GB/s"},
            {"rate_by_cpu_time", bytes / cpu / 1e9, "GB/s"},
            {"cpu_per_record", cpu / records * 1e9, "ns"},
            {"log", bytes / 1e6, "MB"}};
}

inline figures recover_warm(peer const& who, std::string const& folder, mode how, log_image const& what) {
    return open_warm(who, folder, how, what.base + what.records - 1);
}
/// The same where every index of the log was damaged: the key is the log's first, which no segment says it does not have.
inline figures recover_damaged(peer const& who, std::string const& folder, mode how, log_image const& what) {
    return {{"open_to_first_get", open_and_get(who, folder, how, what.base), "ms"}};
}
/// The same once more, counting memory: counting costs time.
inline figures recover_counting(peer const& who, std::string const& folder, mode how, log_image const& what) {
    heap_counter::on = true;
    static_cast<void>(recover(who, folder, how, what));
    return {{"heap_peak", heap_counter::peak_mb(), "MB"}, {"resident_peak", resident_peak_mb(), "MB"}};
}

/// keel's log with frames of 128 bytes: what verifying alone costs.
inline constexpr std::uint64_t scan_records = 256 * keel::MiB / 128;

inline void write_scan_image(std::string const& folder) {
    in_killed_process([&] {
        auto* const log = new auto(must(keel::log<keel::durability::os_buffered>::open(folder)));
        for (std::uint64_t n = 0; n < scan_records; ++n) must(log->append(all_values()[n].substr(0, 96)));
    });
}

inline figures scan_log(std::string const& folder, bool counting) {
    heap_counter::on = counting;
    stopwatch const watch;
    auto const log = must(keel::log<keel::durability::os_buffered>::open(
        folder, {.recovery_threads = 1, .verify = keel::verify_depth::deep}));
    auto const wall = watch.wall();
    auto const cpu = watch.cpu();
    if (log.recovery().records != scan_records) throw std::runtime_error{"keel_log lost records"};
    if (counting) return {{"heap_peak", heap_counter::peak_mb(), "MB"}, {"resident_peak", resident_peak_mb(), "MB"}};
    auto const bytes = static_cast<double>(scan_records * 128);
    return {{"rate", bytes / wall / 1e9, "GB/s"},
            {"rate_by_cpu_time", bytes / cpu / 1e9, "GB/s"},
            {"cpu_per_record", cpu / static_cast<double>(scan_records) * 1e9, "ns"}};
}

} // namespace bench

#endif
