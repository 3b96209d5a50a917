// SPDX-License-Identifier: BSL-1.0
// keel beside LevelDB and RocksDB, the whole of each doing the same work. Prints `name peer metric value unit`, the median of the
// rounds, then how keel stands to the best of the others. Rounds go through all peers before the next begins, each job runs in a
// process of its own, and crashes are real: SIGKILL.
//   append_unsynced    puts that survive the process only
//   batch_100          the same in batches of 100, each there whole or not at all
//   settle             1 Mi keys put in random order, until nothing in the store's folder changes any more: what that took
//   get_random, multi_get_16, scan_all, open_closed   over these, closed in order
//   append_synced_N    puts that survive power loss, by N threads
//   scan               keel's log alone: open with one thread, records of 128 bytes with their frames; checks all, keeps nothing
//   recovery           open after a crash, all of 2 Mi records in the log, every byte of it verified; one thread
//   first_get_1MiB, _64MiB, _256MiB, _1GiB   open after a crash and read one key; so much log (8 Ki, 512 Ki, 2 Mi, 8 Mi records) behind a
//                      small store; the last one without LevelDB and SQLite. `_warm`: in a process that has opened another store before
// keel_log is the log without keys and order; keel_mapped_tables is keel with table_access::mapped, where only reading differs.

#include "jobs.hpp"
#include "material.hpp"
#include "stores.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>

#if defined(KEEL_BENCH_LEVELDB)
#include <leveldb/db.h>
#endif
#if defined(KEEL_BENCH_ROCKSDB)
#include <rocksdb/version.h>
#endif

// The program's own operators, so that what the peers' libraries allocate is counted too. Not inlined: where GCC sees only one of a
// pair it takes it for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
    auto* const memory = std::malloc(bytes == 0 ? 1 : bytes);
    if (memory == nullptr) throw std::bad_alloc{};
    bench::heap_counter::took(memory);
    return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
    bench::heap_counter::gave(memory);
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

namespace {

using bench::figures;
using bench::mode;
using bench::peer;

struct settings {
    std::string folder = ".";
    std::vector<std::string> only{};
    std::vector<std::string> peers{};
    unsigned rounds = 5;
    bool best_round = false;
    std::string json{}; ///< file that gets all figures; empty: none
    std::string svg{};  ///< file that gets a picture of them
};

bool chosen(std::vector<std::string> const& list, std::string const& name) {
    return list.empty() || std::ranges::find(list, name) != list.end();
}

bench::values const& all_values() {
    static bench::values const values;
    return values;
}

void put_records(bench::store& to, std::uint64_t from, std::uint64_t count) {
    for (auto n = from; n < from + count; ++n) to.put(bench::key{n}.text(), all_values()[n]);
}

/// Other jobs' dirty pages are written back before this one's syncs are timed.
void settle(std::string const& folder) {
    auto const number = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (number < 0) return;
    static_cast<void>(::syncfs(number));
    ::close(number);
}

// ---- append -----------------------------------------------------------------------------------------------------------

figures append_unsynced(peer const& who, std::string const& folder) {
    constexpr std::uint64_t warm = 10'000;
    constexpr std::uint64_t count = 500'000;
    auto const store = who.open(folder, mode::unsynced);
    put_records(*store, 0, warm);
    bench::stopwatch const watch;
    put_records(*store, warm, count);
    auto const wall = watch.wall();
    return {{"rate", count / wall / 1e3, "k/s"}, {"cpu_per_put", watch.cpu() / count * 1e9, "ns"}};
}

/// Each thread's commits, one after the other; the time of each.
std::vector<double> commit_times(bench::store& to, unsigned thread, std::uint64_t count) {
    std::vector<double> seconds;
    seconds.reserve(count);
    for (std::uint64_t n = 0; n < count; ++n) {
        bench::stopwatch const watch;
        put_records(to, (thread + 1) * 10'000'000ULL + n, 1);
        seconds.push_back(watch.wall());
    }
    return seconds;
}

figures batch_100(peer const& who, std::string const& folder) {
    constexpr std::uint64_t count = 500'000;
    auto const store = who.open(folder, mode::unsynced);
    std::vector<bench::key> keys;
    bench::stopwatch const watch;
    for (std::uint64_t n = 0; n < count;) {
        keys.clear();
        for (std::uint64_t i = 0; i < 100; ++i) keys.emplace_back(n + i);
        std::vector<bench::store::record> batch;
        for (auto const& key : keys) batch.emplace_back(key.text(), all_values()[n++]);
        store->put_batch(batch);
    }
    return {{"rate", count / watch.wall() / 1e3, "k/s"}};
}

// ---- reading ----------------------------------------------------------------------------------------------------------

constexpr std::uint64_t loaded_keys = 1 << 20;

/// Names and sizes of all files, as one number.
std::uint64_t shape_of(std::string const& folder, std::uint64_t& bytes) {
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

figures load(peer const& who, std::string const& folder) {
    return bench::in_own_process([&]() -> figures {
        auto const store = who.open(folder, mode::unsynced);
        bench::stopwatch const watch;
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
        constexpr double given = loaded_keys * (16.0 + bench::values::bytes) / 1e6;
        settle(folder);
        return {{"rate", static_cast<double>(loaded_keys) / wall / 1e3, "k/s"},
                {"cpu_per_put", cpu / static_cast<double>(loaded_keys) * 1e9, "ns"},
                {"write_amplification", bench::written_mb() / given, "x"},
                {"space", static_cast<double>(bytes) / 1e6, "MB"},
                {"resident_peak", bench::resident_peak_mb(), "MB"}};
    });
}

figures get_random(peer const& who, std::string const& folder) {
    auto const store = who.open(folder, mode::unsynced);
    bench::noise random{7};
    auto const get = [&](std::uint64_t count) {
        for (std::uint64_t i = 0; i < count; ++i)
            if (auto const n = random() % loaded_keys; !store->holds(bench::key{n}.text(), all_values()[n]))
                throw std::runtime_error{who.name + " lost a record"};
    };
    get(200'000);
    constexpr std::uint64_t count = 500'000;
    bench::stopwatch const watch;
    get(count);
    return {{"rate", count / watch.wall() / 1e3, "k/s"}, {"resident_peak", bench::resident_peak_mb(), "MB"}};
}

figures multi_get(peer const& who, std::string const& folder) {
    auto const store = who.open(folder, mode::unsynced);
    bench::noise random{9};
    std::vector<bench::key> keys;
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
    bench::stopwatch const watch;
    get(count);
    return {{"rate", 16.0 * count / watch.wall() / 1e3, "k/s"}};
}

figures scan_all(peer const& who, std::string const& folder) {
    auto const store = who.open(folder, mode::unsynced);
    static_cast<void>(store->scan());
    bench::stopwatch const watch;
    if (store->scan() != loaded_keys) throw std::runtime_error{who.name + " lost keys"};
    return {{"rate", static_cast<double>(loaded_keys) / watch.wall() / 1e6, "M/s"}};
}

/// Time to open a store and read one key of it, in ms. The object goes with the process.
template <class Watch>
double open_and_get(peer const& who, std::string const& folder, mode how, std::uint64_t number, Watch const& opened) {
    bench::stopwatch const watch;
    auto* const store = who.open(folder, how).release();
    opened(watch);
    if (!store->holds(bench::key{number}.text(), all_values()[number]))
        throw std::runtime_error{who.name + " lost a record"};
    return watch.wall() * 1e3;
}
double open_and_get(peer const& who, std::string const& folder, mode how, std::uint64_t number) {
    return open_and_get(who, folder, how, number, [](bench::stopwatch const&) {});
}
/// The same in a process that has opened, written and closed another store before: its code is in memory.
figures open_warm(peer const& who, std::string const& folder, mode how, std::uint64_t number) {
    bench::temporary_folder const other{std::filesystem::path{folder}.parent_path()};
    for (int turn = 0; turn < 2; ++turn) {
        auto const store = who.open(other / "store", mode::unsynced);
        if (turn == 0) put_records(*store, 0, 1000);
        if (!store->holds(bench::key{999}.text(), all_values()[999]))
            throw std::runtime_error{who.name + " lost a record"};
    }
    settle(folder);
    return {{"open_to_first_get_warm", open_and_get(who, folder, how, number), "ms"}};
}

figures open_closed(peer const& who, std::string const& folder) {
    return {{"open_to_first_get", open_and_get(who, folder, mode::unsynced, 0), "ms"}};
}
figures open_closed_warm(peer const& who, std::string const& folder) {
    return open_warm(who, folder, mode::unsynced, 0);
}

figures append_synced(peer const& who, std::string const& folder, unsigned threads, std::uint64_t count) {
    auto const store = who.open(folder, mode::synced);
    put_records(*store, 0, 200);
    std::this_thread::sleep_for(std::chrono::milliseconds(300)); // whatever the first writes set in motion
    std::vector<std::vector<double>> seconds(threads);
    std::vector<std::jthread> crew;
    bench::stopwatch const watch;
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

void write_image(peer const& who, std::string const& folder, log_image const& what) {
    if (what.base != 0)
        static_cast<void>(bench::in_own_process([&]() -> figures {
            put_records(*who.open(folder, mode::unsynced), 0, what.base); // and closed: the object goes here
            return {};
        }));
    bench::in_killed_process([&] {
        auto* const store = who.open(folder, mode::all_in_log).release();
        put_records(*store, what.base, what.records);
    });
}

figures recover(peer const& who, std::string const& folder, mode how, log_image const& what) {
    auto const last = what.base + what.records - 1;
    auto const bytes = static_cast<double>(who.log_bytes(folder, what.records));
    double opened = 0;
    double cpu = 0;
    auto const got = open_and_get(who, folder, how, last, [&](bench::stopwatch const& watch) {
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

figures recover_warm(peer const& who, std::string const& folder, mode how, log_image const& what) {
    return open_warm(who, folder, how, what.base + what.records - 1);
}
/// The same once more, counting memory: counting costs time.
figures recover_counting(peer const& who, std::string const& folder, mode how, log_image const& what) {
    bench::heap_counter::on = true;
    static_cast<void>(recover(who, folder, how, what));
    return {{"heap_peak", bench::heap_counter::peak_mb(), "MB"}, {"resident_peak", bench::resident_peak_mb(), "MB"}};
}

/// keel's log with frames of 128 bytes: what verifying alone costs.
constexpr std::uint64_t scan_records = 256 * keel::MiB / 128;

void write_scan_image(std::string const& folder) {
    bench::in_killed_process([&] {
        auto* const log = new auto(bench::must(keel::log<keel::durability::os_buffered>::open(folder)));
        for (std::uint64_t n = 0; n < scan_records; ++n) bench::must(log->append(all_values()[n].substr(0, 96)));
    });
}

figures scan_log(std::string const& folder, bool counting) {
    bench::heap_counter::on = counting;
    bench::stopwatch const watch;
    auto const log = bench::must(keel::log<keel::durability::os_buffered>::open(
        folder, {.recovery_threads = 1, .verify = keel::verify_depth::deep}));
    auto const wall = watch.wall();
    auto const cpu = watch.cpu();
    if (log.recovery().records != scan_records) throw std::runtime_error{"keel_log lost records"};
    if (counting)
        return {{"heap_peak", bench::heap_counter::peak_mb(), "MB"},
                {"resident_peak", bench::resident_peak_mb(), "MB"}};
    auto const bytes = static_cast<double>(scan_records * 128);
    return {{"rate", bytes / wall / 1e9, "GB/s"},
            {"rate_by_cpu_time", bytes / cpu / 1e9, "GB/s"},
            {"cpu_per_record", cpu / static_cast<double>(scan_records) * 1e9, "ns"}};
}

// ---- the run ----------------------------------------------------------------------------------------------------------

/// One round of a recovery job on a crashed store at `image`; the first round also counts memory.
void recovery_round(bench::table& out, std::string const& name, peer const& who, std::string const& image, mode how,
                    log_image const& what, bool count_memory) {
    auto const once = [&](auto const& job) {
        auto folder = image;
        if (who.open_writes) {
            folder += "-copy";
            std::filesystem::copy(image, folder, std::filesystem::copy_options::recursive);
        }
        settle(folder);
        out.add(name, who.name, bench::in_own_process([&] { return job(who, folder, how, what); }));
        if (who.open_writes) std::filesystem::remove_all(folder);
    };
    once(recover);
    if (how == mode::recover_on_all_cores) once(recover_warm);
    if (count_memory) once(recover_counting);
}

class run {
public:
    explicit run(settings what) : what_{std::move(what)}, folder_{what_.folder} {
        for (auto const& p : bench::all_peers())
            if (chosen(what_.peers, p.name)) peers_.push_back(p);
    }

    void all() {
        head();
        for (unsigned round = 0; round < what_.rounds; ++round) {
            appends();
            reads();
            scans(round);
            recoveries("recovery", mode::recover, {0, 2 << 20}, round);
            recoveries("first_get_1MiB", mode::recover_on_all_cores, {1000, 8 << 10}, round);
            recoveries("first_get_64MiB", mode::recover_on_all_cores, {1000, 512 << 10}, round);
            recoveries("first_get_256MiB", mode::recover_on_all_cores, {1000, 2 << 20}, round);
            recoveries("first_get_1GiB", mode::recover_on_all_cores, {1000, 8 << 20}, round);
        }
        table_.print();
        if (!what_.json.empty()) std::ofstream{what_.json} << table_.json().dump(2) << '\n';
        if (!what_.svg.empty())
            std::ofstream{what_.svg} << bench::svg_of(
                table_.chart(), "16-byte keys in random order, 100-byte values; " + std::to_string(what_.rounds) +
                                    (what_.best_round ? " rounds, the best" : " rounds, medians") +
                                    "; LevelDB and RocksDB as Debian builds them");
    }

private:
    void head() const {
        std::printf(
            "# %u rounds, %s; keys 16 bytes in random order, values 100 bytes that do not compress; warm page cache\n",
            what_.rounds, what_.best_round ? "the best of them" : "medians");
#if defined(KEEL_BENCH_LEVELDB)
        std::printf("# LevelDB %d.%d\n", leveldb::kMajorVersion, leveldb::kMinorVersion);
#endif
#if defined(KEEL_BENCH_ROCKSDB)
        std::printf("# RocksDB %d.%d.%d\n", ROCKSDB_MAJOR, ROCKSDB_MINOR, ROCKSDB_PATCH);
#endif
        std::printf("# As Debian builds them both have assertions on and no CRC-32C by hardware: release builds "
                    "recover 1.0 to 2 times as fast.\n"
                    "# Their logs are written with a write buffer that holds all, and recovered with the options that "
                    "do it fastest.\n");
    }

    void appends() {
        each("append_unsynced", [&](peer const& who, std::string const& at) { return append_unsynced(who, at); });
        each("batch_100", [&](peer const& who, std::string const& at) {
            return who.name == "keel_log" ? figures{} : batch_100(who, at);
        });
        each("append_synced_1",
             [&](peer const& who, std::string const& at) { return append_synced(who, at, 1, 4000); });
        each("append_synced_8",
             [&](peer const& who, std::string const& at) { return append_synced(who, at, 8, 40'000); });
    }

    void reads() {
        for (auto const& who : peers_) {
            if (who.name == "keel_log") continue; // no keys, no order
            auto const image = folder_ / (who.name + "-loaded");
            auto const once = [&](std::string const& name, auto const& job) {
                if (!chosen(what_.only, name)) return;
                if (!std::filesystem::exists(image)) {
                    auto const loaded = load(who, image);
                    if (chosen(what_.only, "settle")) table_.add("settle", who.name, loaded);
                }
                settle(what_.folder);
                if (name != "settle")
                    table_.add(name, who.name, bench::in_own_process([&] { return job(who, image); }));
            };
            once("settle", open_closed);
            once("open_closed", open_closed);
            once("open_closed", open_closed_warm);
            once("get_random", get_random);
            if (who.name.starts_with("keel")) once("multi_get_16", multi_get);
            once("scan_all", scan_all);
        }
    }

    template <class Job>
    void each(std::string const& name, Job const& job) {
        if (!chosen(what_.only, name)) return;
        for (auto const& who : peers_) {
            if (who.only_reads) continue;
            bench::temporary_folder const fresh{what_.folder};
            settle(what_.folder);
            table_.add(name, who.name, bench::in_own_process([&] { return job(who, fresh / "store"); }));
        }
    }

    void scans(unsigned round) {
        if (!chosen(what_.only, "scan") || !chosen(what_.peers, "keel_log")) return;
        auto const image = folder_ / "scan";
        if (!std::filesystem::exists(image)) write_scan_image(image);
        table_.add("scan", "keel_log", bench::in_own_process([&] { return scan_log(image, false); }));
        if (round == 0) table_.add("scan", "keel_log", bench::in_own_process([&] { return scan_log(image, true); }));
    }

    void recoveries(std::string const& name, mode how, log_image const& what, unsigned round) {
        if (!chosen(what_.only, name)) return;
        for (auto const& who : peers_) {
            if (who.only_reads || what.records > who.log_records_max) continue;
            auto const image = folder_ / (who.name + '-' + std::to_string(what.records));
            if (!std::filesystem::exists(image)) {
                write_image(who, image, what);
                settle(what_.folder);
            }
            recovery_round(table_, name, who, image, how, what, round == 0);
        }
    }

    settings what_;
    bench::temporary_folder folder_;
    std::vector<peer> peers_{};
    bench::table table_{what_.best_round};
};

constexpr std::string_view usage =
    "peers_bench [--dir FOLDER] [--rounds N] [--best] [--only NAME]... [--peer NAME]... [--json FILE] [--svg FILE]\n";

settings read_settings(std::span<char*> arguments) {
    settings out;
    for (std::size_t i = 1; i < arguments.size(); ++i) {
        std::string_view const flag = arguments[i];
        if (flag == "--best") {
            out.best_round = true;
            continue;
        }
        if (i + 1 == arguments.size()) throw std::invalid_argument{std::string{usage}};
        std::string const value = arguments[++i];
        if (flag == "--dir") out.folder = value;
        else if (flag == "--rounds") out.rounds = static_cast<unsigned>(std::stoul(value));
        else if (flag == "--only") out.only.push_back(value);
        else if (flag == "--peer") out.peers.push_back(value);
        else if (flag == "--json") out.json = value;
        else if (flag == "--svg") out.svg = value;
        else throw std::invalid_argument{std::string{usage}};
    }
    return out;
}

} // namespace

int main(int count, char** arguments) {
    try {
        static_cast<void>(all_values()); // every job's process begins with them: making them is in no figure
        run{read_settings({arguments, static_cast<std::size_t>(count)})}.all();
        return 0;
    } catch (std::exception const& why) {
        std::fprintf(stderr, "%s\n", why.what());
        return 1;
    }
}
